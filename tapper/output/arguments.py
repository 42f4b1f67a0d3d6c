"""The command line's options about the output: filters, redaction and sizes."""

from __future__ import annotations

import argparse

from tapper.errors import UsageError
from tapper.output.filters import Filter
from tapper.output.redaction import ALWAYS, Redaction
from tapper.output.shape import Shape
from tapper.protocols.messages import BODY_LIMIT

PCAPNG_WARNING = "-o pcapng writes packets as they were captured: nothing in them is redacted"
NO_REDACT_WARNING = (
    f"--no-redact: {', '.join(ALWAYS)} come out with their values, which anyone who reads the output can use"
)


def add_shape(parser: argparse.ArgumentParser) -> None:
    """Add the options that `shape` and `body_limit` read."""
    group = parser.add_argument_group(
        "which exchanges are reported",
        "Each option may be repeated, and one of its values must match. If several options are given, all must match.",
    )
    group.add_argument("--method", action="append", default=[], metavar="GET", help="requests with this method")
    group.add_argument(
        "--path",
        action="append",
        default=[],
        metavar="PREFIX",
        help="requests whose path, without the query, begins with this; with * or ? it is a glob for the whole path",
    )
    group.add_argument("--status", action="append", default=[], metavar="404|5xx", help="responses with this status")
    group.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="HOST",
        help="requests to this host; * and ? are wildcards; the port is compared if one is given",
    )
    group.add_argument(
        "--no-probes",
        action="store_true",
        help="leave out exchanges that look like health probes, which any client can imitate",
    )
    group = parser.add_argument_group("how much of them is reported")
    group.add_argument(
        "--body-limit",
        default=str(BODY_LIMIT),
        metavar="BYTES",
        help="bytes of a body that are kept, 0 for none; its size is reported in any case (default: %(default)s)",
    )
    group.add_argument(
        "--redact",
        action="append",
        default=[],
        metavar="NAME",
        help=f"a header field whose values are not shown, besides {', '.join(ALWAYS)}; may be repeated",
    )
    group.add_argument("--no-redact", action="store_true", help="show the values of all header fields")


def check_recording(arguments: argparse.Namespace, *, to_terminal: bool) -> None:
    """Raises UsageError for options that -o pcapng cannot fulfil."""
    chosen = [name for name in ("method", "path", "status", "host", "no_probes", "redact") if getattr(arguments, name)]
    if chosen:
        option = chosen[0].replace("_", "-")
        raise UsageError(
            f"--{option} is for exchanges, but -o pcapng writes packets as they were captured: leave one of them out"
        )
    if to_terminal:
        raise UsageError("-o pcapng is not for terminals: name a file with -w, or pipe it to a program")


def shape(arguments: argparse.Namespace) -> Shape:
    """What to report. Raises UsageError for values that make no sense."""
    if arguments.no_redact and arguments.redact:
        raise UsageError("--redact and --no-redact contradict each other: give one of them")
    redaction = Redaction(arguments.redact)
    return Shape(
        None if arguments.no_redact else redaction,
        Filter(arguments.method, arguments.path, arguments.status, arguments.host),
        probes=not arguments.no_probes,
    )


def body_limit(arguments: argparse.Namespace) -> int:
    """Bytes of a body to keep. Raises UsageError for anything but a whole number that is not negative."""
    text: str = arguments.body_limit
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"{text!r} is not a number of bytes, 0 or more (--body-limit)")
    return int(text)

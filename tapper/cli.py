"""The command line. What not every run needs is imported by those that do: a tapper's start is part of many a test."""

from __future__ import annotations

import argparse
import functools
import gc
import os
import resource
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, NoReturn

from tapper import FORM, __version__
from tapper.capture.memory import MIB, TOTAL
from tapper.discovery.finders import Finder
from tapper.discovery.procfs import Procfs
from tapper.errors import MissingPackageError, TapperError, UsageError, explain
from tapper.output.arguments import NO_REDACT_WARNING, PCAPNG_WARNING, add_shape, body_limit, check_recording, shape
from tapper.output.escape import wants_colour
from tapper.output.records import Format, Silent, Snapshot
from tapper.output.sink import Closed, Console, open_output
from tapper.output.text import Text
from tapper.run.parts import Parts, chosen
from tapper.run.tap import Options, Tap
from tapper.run.writer import Outlet
from tapper.runtime import standard_streams
from tapper.targets.addresses import parse_targets
from tapper.targets.arguments import add_kubernetes, asks_kubernetes, kubernetes_feed
from tapper.targets.feed import FileFeed, TargetFeed

if TYPE_CHECKING:
    from tapper.run.snapshot_requests import Enquiry

_OUTPUTS = ("har", "ndjson", "pcapng", "text")
_LISTINGS = ("ndjson", "text")

_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, as everything else here does."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def _parser() -> _Parser:
    parser = _Parser(prog="tapper", description="Decrypted HTTP out of service-mesh pods, by way of their namespaces.")
    parser.add_argument("--version", action="version", version=f"tapper {__version__}, {FORM}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    shared = _Parser(add_help=False)
    shared.add_argument(
        "--targets",
        "--filter-authorities",
        action="append",
        default=[],
        metavar="IP[,IP…]",
        help="the addresses of the pods that are targets; may be repeated (--filter-authorities is the older name)",
    )
    shared.add_argument("--procfs", default="/proc", metavar="DIR", help="the node's procfs (default: %(default)s)")
    shared.add_argument(
        "-w", "--write", metavar="FILE", help="write there, readable by its owner only; - is standard output (default)"
    )

    tap = commands.add_parser("tap", parents=[shared], help="show the HTTP traffic of the targets")
    tap.add_argument("--istio", action="store_true", help="also inside the network namespaces of the targets' Envoys")
    tap.add_argument("-i", "--interface", metavar="IFACE", help="the node's interface to capture on (default: all)")
    tap.add_argument(
        "--targets-file",
        metavar="FILE",
        help="further targets, {generation, pods: [{uid, namespace, name, ips}]}; followed when it is replaced, "
        "and read again on SIGHUP",
    )
    tap.add_argument(
        "--discover",
        action="append",
        choices=[str(finder) for finder in Finder],
        help="with --istio: how the targets' network namespaces are found; may be repeated (default: envoy)",
    )
    tap.add_argument(
        "--verify",
        action="store_true",
        help="with --istio: refuse an Envoy whose network namespace does not have the address that it claims",
    )
    tap.add_argument("-o", "--output", choices=_OUTPUTS, default="text", help="default: %(default)s")
    tap.add_argument(
        "-r",
        "--read",
        metavar="FILE",
        help="read a pcap or pcapng file (- is standard input) instead of capturing; then targets may be left out",
    )
    tap.add_argument(
        "--colour",
        choices=("always", "auto", "never"),
        default="auto",
        help="columns in colour (-o text): on a terminal, unless NO_COLOR is set (default), or in any case, or never",
    )
    tap.add_argument("-v", "--verbose", action="store_true", help="show headers and the beginning of bodies (-o text)")
    tap.add_argument(
        "--metrics",
        metavar="[ADDRESS]:PORT",
        help="serve the counts to Prometheus there, at /metrics; without an address on all of them",
    )
    add_kubernetes(tap)
    tap.add_argument(
        "--ring-memory",
        type=_mebibytes,
        default=TOTAL,
        metavar="MIB",
        help=f"memory for the packets of all sources that wait to be read (default: {TOTAL // MIB})",
    )
    tap.add_argument(
        "--ready-fd",
        type=int,
        metavar="N",
        help="write one byte to this descriptor, and close it, once every target that can be captured is captured",
    )
    add_shape(tap)

    discover = commands.add_parser(
        "discover", parents=[shared], help="show which Envoys there are, and why others are none"
    )
    discover.add_argument("-o", "--output", choices=_LISTINGS, default="text", help="default: %(default)s")
    discover.add_argument(
        "--discover",
        action="append",
        choices=[str(finder) for finder in Finder],
        help="how it looks, as for tap; may be repeated (default: envoy)",
    )
    discover.add_argument("--all", action="store_true", help="show every other process as well")
    return parser


def _tap(arguments: argparse.Namespace, form: Format, console: Console, parts: Parts) -> None:
    targets = parse_targets(arguments.targets)
    feeds: list[TargetFeed] = []
    if arguments.targets_file is not None:
        feeds.append(FileFeed(arguments.targets_file, console.warn))
    if asks_kubernetes(arguments):
        feeds.append(kubernetes_feed(arguments, os.environ, console.warn))
    if (arguments.verify or arguments.discover) and not arguments.istio:
        raise UsageError("--verify and --discover say how pods' namespaces are found: they go with --istio")
    if arguments.read is not None:
        if arguments.istio or arguments.interface is not None or feeds:
            raise UsageError(
                "-r reads a file and captures nothing: leave out --istio, -i, --targets-file and pods of Kubernetes"
            )
        if arguments.metrics is not None:
            raise UsageError("-r reads a file to its end and has nothing to be scraped: leave out --metrics")
    elif not targets and not feeds:
        raise UsageError(
            "an empty list of targets captures nothing: name at least one address with --targets, "
            "a file with --targets-file, or pods with --namespace, --all-namespaces, --pod-regex or --selector"
        )
    shaped = shape(arguments)
    kept = body_limit(arguments)
    recorder = None
    if arguments.output == "pcapng":
        from tapper.output.pcapng import Recorder  # noqa: PLC0415

        check_recording(arguments, to_terminal=_to_terminal(arguments))
        recorder = Recorder(f"tapper {__version__}")
        console.warn(PCAPNG_WARNING)
    elif shaped.redaction is None:
        console.warn(NO_REDACT_WARNING)
    # What exists now stays, and what comes later mostly dies young: a third of the time less in the collector.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    if arguments.read is not None:
        from tapper.run.replay import Replay, open_capture  # noqa: PLC0415

        with open_capture(arguments.read, arguments.write) as stream, open_output(arguments.write) as output:
            outlet = Outlet(output, form, console, shaped, recorder, kept, parts)
            Replay(targets, outlet, console).run(stream, arguments.read)
        return
    # Each source takes three descriptors, and the limit that shells set is made for programs that still use select(2).
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # A ring that becomes larger does so on another thread, a system call at a time, and is in a hurry.
    sys.setswitchinterval(0.0005)
    options = Options(
        targets,
        arguments.istio,
        arguments.procfs,
        arguments.interface,
        verify=arguments.verify,
        finders=_finders(arguments),
        ring_memory=arguments.ring_memory,
        feeds=tuple(feeds),
        ready_fd=arguments.ready_fd,
    )
    with _metrics(arguments.metrics) as enquiry, open_output(arguments.write) as output:
        Tap(options, Outlet(output, form, console, shaped, recorder, kept, parts), console, enquiry).run()


@contextmanager
def _metrics(where: str | None) -> Iterator[Enquiry[Snapshot] | None]:
    """What those ask who scrape. The package that it takes is imported only where it is asked for."""
    if where is None:
        yield None
        return
    from tapper.output.listening import parse_listening  # noqa: PLC0415
    from tapper.run.snapshot_requests import Enquiry  # noqa: PLC0415

    listening = parse_listening(where, "--metrics")
    try:
        from tapper.output.metrics import serving  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "prometheus_client":
            raise
        raise MissingPackageError(
            "--metrics needs the Python package prometheus_client, which is not installed: "
            "pip install 'tapper-harness[metrics]'"
        ) from None
    enquiry: Enquiry[Snapshot] = Enquiry()
    with serving(listening, enquiry.ask), closing(enquiry):
        yield enquiry


def _discover(arguments: argparse.Namespace, form: Format, console: Console) -> None:
    from tapper.follow.discover import listing  # noqa: PLC0415

    targets = parse_targets(arguments.targets) or None
    procfs = Procfs(arguments.procfs)
    shown, owned = listing(procfs, targets, _finders(arguments), console.warn, everything=arguments.all)
    with open_output(arguments.write) as output:
        output.write(form.processes(shown, owned))


def _mebibytes(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of MiB, at least 1")
    return number * MIB


def _finders(arguments: argparse.Namespace) -> frozenset[Finder]:
    return frozenset(map(Finder, arguments.discover or [Finder.ENVOY]))


def _form(arguments: argparse.Namespace, parts: Parts) -> Format:
    verbose = arguments.command == "tap" and arguments.verbose
    if arguments.output == "text":
        return _text(arguments, verbose=verbose)
    if getattr(arguments, "colour", "auto") != "auto":
        raise UsageError(f"--colour is for -o text: -o {arguments.output} has none")
    if verbose:
        raise UsageError(f"--verbose is for -o text: -o {arguments.output} has everything in it anyway")
    if arguments.output == "har":
        from tapper.output.har import Har  # noqa: PLC0415

        return Har()
    return parts.ndjson() if arguments.output == "ndjson" else Silent()


def _text(arguments: argparse.Namespace, *, verbose: bool) -> Format:
    """Columns for a terminal; plain lines for pipes, files, and terminals that can do nothing."""
    terminal, chosen = _to_terminal(arguments), getattr(arguments, "colour", "auto")
    able = terminal and os.environ.get("TERM", "dumb") != "dumb"
    if arguments.command != "tap" or not (able or chosen == "always"):
        return Text(verbose=verbose)
    from tapper.output.terminal import Terminal, window_width  # noqa: PLC0415 - rich, only for whoever looks on

    colour = chosen == "always" or (chosen == "auto" and wants_colour(os.environ, terminal=able))
    return Terminal(functools.partial(window_width, sys.stdout.fileno()), colour=colour, verbose=verbose)


def _to_terminal(arguments: argparse.Namespace) -> bool:
    return arguments.write in (None, "-") and sys.stdout.isatty()


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code: 0, or that of the TapperError whose sentence went to standard error."""
    standard_streams.prepare()
    console = Console(sys.stderr)
    try:
        return _run(argv, console)
    finally:
        _flush(console)


def _run(argv: Sequence[str] | None, console: Console) -> int:
    try:
        arguments = _parser().parse_args(argv)
        parts = chosen()
        form = _form(arguments, parts)
        if arguments.command == "tap":
            _tap(arguments, form, console, parts)
        else:
            _discover(arguments, form, console)
    except TapperError as error:
        console.warn(str(error))
        return error.exit_code
    except Closed:
        standard_streams.drop_output()
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 0


def _flush(console: Console) -> None:
    """Write what waits in the buffer of standard output: help, or the version. Python itself, at exit, would tell of a
    failure by a traceback."""
    try:
        sys.stdout.flush()
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            console.warn(f"cannot write the output: {explain(error)}")
        standard_streams.drop_output()

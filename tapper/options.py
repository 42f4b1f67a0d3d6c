"""Every option of `tapper tap` and `tapper discover`: its name, its help, and its value.

`parse` refuses with a UsageError whatever a command line can have wrong, so that the commands begin with values that
make sense. Modules that few runs need are imported by the functions that need them.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from tapper import FORM, __version__
from tapper.capture.memory import MIB, TOTAL
from tapper.discovery.finders import Finder
from tapper.errors import UsageError
from tapper.output.filters import Filter
from tapper.output.listening import parse_listening
from tapper.output.redaction import Redaction
from tapper.output.shape import Shape
from tapper.protocols.messages import BODY_LIMIT
from tapper.targets.addresses import parse_targets

if TYPE_CHECKING:
    from tapper.targets.kubernetes import KubernetesFeed

_Add: TypeAlias = Callable[..., object]
"""`add_argument` of a parser or of a group of options."""
_REPEATABLE: dict[str, Any] = {"action": "append", "default": []}
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # a DNS label, RFC 1123
_NODE = re.compile(r"[a-z0-9.-]{1,253}")


class _Parser(argparse.ArgumentParser):
    """Raises UsageError where argparse would print the usage and end the process."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read a command line, by default the process's own. Raises UsageError."""
    arguments = _parser().parse_args(argv)
    _check_output(arguments)
    if arguments.command == "tap":
        _check_sources(arguments)
    return arguments


def _parser() -> _Parser:
    parser = _Parser(prog="tapper", description="Shows the HTTP traffic of pods whose service mesh encrypts it.")
    parser.add_argument("--version", action="version", version=f"tapper {__version__}, {FORM}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    tap = commands.add_parser("tap", help="show the HTTP traffic of the targets")
    _add_targets(tap)
    _add_kubernetes(tap)
    _add_capture(tap)
    _add_report(tap)
    _add_output(tap)
    discover = commands.add_parser("discover", help="show which Envoys there are, and why other processes are none")
    discover.set_defaults(colour="auto", verbose=False)
    _add_addresses(discover.add_argument)
    _add_procfs(discover.add_argument)
    _add_format(discover.add_argument, ("ndjson", "text"))
    text = "show instead the targets' processes that do TLS themselves, and which of them --tls can read"
    discover.add_argument("--tls", action="store_true", help=text)
    discover.add_argument("--all", action="store_true", help="show every other process as well")
    return parser


def _add_targets(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("targets").add_argument
    _add_addresses(add)
    text = (
        "a file with further targets, {generation, pods: [{uid, namespace, name, ips}]}; it is read again when it is "
        "replaced, and on SIGHUP"
    )
    add("--targets-file", metavar="FILE", help=text)


def _add_addresses(add: _Add) -> None:
    text = "the addresses of the pods to tap; may be repeated (--filter-authorities is the older name)"
    names = "--targets", "--filter-authorities"
    add(*names, action="extend", type=lambda text: parse_targets([text]), default=[], metavar="IP[,IP…]", help=text)


def _add_kubernetes(parser: argparse.ArgumentParser) -> None:
    about = "The pods of one node that meet all of these options, also pods that come later. They add to other targets."
    add = parser.add_argument_group("targets from Kubernetes", about).add_argument
    text = "pods of this namespace; may be repeated (default: the current one)"
    add("--namespace", **_REPEATABLE, type=_namespace, metavar="NS", help=text)
    add("--all-namespaces", action="store_true", help="pods of any namespace")
    text = "pods whose name has a match of this regular expression (Python's syntax)"
    add("--pod-regex", type=_pattern, metavar="RE", help=text)
    add("--selector", metavar="SEL", help="pods with these labels, as kubectl takes them: app=cart,tier!=test")
    text = "pods of this node (default: the variable NODE_NAME in the environment)"
    add("--node-name", metavar="NODE", help=text)
    text = "how the API is reached (default: by the pod's service account, else as kubectl does)"
    add("--kubeconfig", metavar="FILE", help=text)
    add("--context", metavar="NAME", help="a context of the kubeconfig (default: its current one)")


def _add_capture(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("where it captures").add_argument
    add("--istio", action="store_true", help="also capture in the network namespaces of the targets")
    text = "with --istio: also report what the targets' applications encrypt themselves (OpenSSL, GnuTLS, Go)"
    add("--tls", action="store_true", help=text)
    add("-i", "--interface", metavar="IFACE", help="the node's interface to capture on (default: all)")
    _add_procfs(add)
    text = "refuse an Envoy whose network namespace does not have the address that the Envoy claims"
    add("--verify", action="store_true", help=text)
    text = f"memory for the packets of all sources that wait to be read (default: {TOTAL // MIB})"
    add("--ring-memory", type=_mebibytes, default=TOTAL, metavar="MIB", help=text)
    text = "write one byte to this descriptor, and close it, once every target that can be captured is captured"
    add("--ready-fd", type=int, metavar="N", help=text)
    text = "capture nothing and read this pcap or pcapng file (- is standard input); targets may be left out then"
    add("-r", "--read", metavar="FILE", help=text)


def _add_procfs(add: _Add) -> None:
    add("--procfs", default="/proc", metavar="DIR", help="the node's procfs (default: %(default)s)")
    text = "how the targets' network namespaces are found; may be repeated (default: envoy)"
    add("--discover", action="append", choices=[str(finder) for finder in Finder], help=text)


def _add_report(parser: argparse.ArgumentParser) -> None:
    about = "A filter may be repeated: one of its values has to match. An exchange has to match every filter."
    add = parser.add_argument_group("what is reported", about).add_argument
    add("--method", **_REPEATABLE, metavar="GET", help="requests with this method")
    text = "requests whose path begins so; with * or ? it is a glob for the path without the query"
    add("--path", **_REPEATABLE, metavar="PREFIX", help=text)
    add("--status", **_REPEATABLE, metavar="404|5xx", help="responses with this status")
    text = "requests to this host; * and ? are wildcards, a port is compared where one is given"
    add("--host", **_REPEATABLE, metavar="HOST", help=text)
    add("--no-probes", action="store_true", help="leave out requests that look like health probes")
    text = "tell of an exchange that goes on for long only at its end"
    add("--no-stream", action="store_true", help=text)
    text = "how much of a body is kept; its size is reported all the same (default: %(default)s)"
    add("--body-limit", type=_octets, default=BODY_LIMIT, metavar="BYTES", help=text)
    text = "also hide the values of this header field or URL parameter, besides those that docs/tapper.md lists"
    add("--redact", **_REPEATABLE, metavar="NAME", help=f"{text}; may be repeated")
    text = "show the values of this header field or URL parameter, although it is listed; may be repeated"
    add("--keep", **_REPEATABLE, metavar="NAME", help=text)
    add("--no-redact", action="store_true", help="hide nothing")


def _add_output(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("output").add_argument
    _add_format(add, ("har", "ndjson", "pcapng", "text"))
    add("-v", "--verbose", action="store_true", help="show headers and the beginning of bodies (-o text)")
    text = "columns in colour (-o text): always, never, or on a terminal unless NO_COLOR is set (default: auto)"
    add("--colour", choices=("always", "auto", "never"), default="auto", help=text)
    text = "serve the counts to Prometheus at /metrics; without an address on 127.0.0.1, with * on all addresses"
    add("--metrics", type=lambda text: parse_listening(text, "--metrics"), metavar="[ADDRESS]:PORT", help=text)


def _add_format(add: _Add, formats: tuple[str, ...]) -> None:
    add("-o", "--output", choices=formats, default="text", help="the format (default: %(default)s)")
    text = "write to this file, which only its owner can read (default: -, standard output)"
    add("-w", "--write", metavar="FILE", help=text)


# The values. A UsageError passes through argparse, which would put its own words around any other error.


def _namespace(text: str) -> str:
    if not _NAMESPACE.fullmatch(text):
        raise UsageError(f"{text!r} cannot be a namespace's name, which is a DNS label such as shop (--namespace)")
    return text


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError(f"{text!r} is no regular expression: {error} (--pod-regex)") from None


def _mebibytes(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of MiB, at least 1")
    return number * MIB


def _octets(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"{text!r} is not a number of bytes, 0 or more (--body-limit)")
    return int(text)


def finders(arguments: argparse.Namespace) -> frozenset[Finder]:
    """The ways in which namespaces are found."""
    return frozenset(map(Finder, arguments.discover or [Finder.ENVOY]))


def shape(arguments: argparse.Namespace) -> Shape:
    """What is reported of the exchanges. Raises UsageError for a value that cannot match."""
    redaction = Redaction(arguments.redact, arguments.keep)
    return Shape(
        None if arguments.no_redact else redaction,
        Filter(arguments.method, arguments.path, arguments.status, arguments.host),
        probes=not arguments.no_probes,
        streams=not arguments.no_stream,
    )


def to_terminal(arguments: argparse.Namespace) -> bool:
    """Whether the output goes to a terminal."""
    return arguments.write in (None, "-") and sys.stdout.isatty()


def kubernetes_feed(
    arguments: argparse.Namespace, environment: Mapping[str, str], warn: Callable[[str], None]
) -> KubernetesFeed | None:
    """The pods that the options ask Kubernetes for; None where they ask for none. Raises UsageError."""
    if not _asks_for_pods(arguments):
        return None
    from tapper.targets.kubernetes import KubernetesFeed, Query  # noqa: PLC0415
    from tapper.targets.podsapi import Access  # noqa: PLC0415

    node = environment.get("NODE_NAME", "") if arguments.node_name is None else arguments.node_name
    if not node:
        raise UsageError(
            "only pods of this node can be captured, and its name is not known: give --node-name, or set NODE_NAME in "
            "the environment"
        )
    if not _NODE.fullmatch(node):
        raise UsageError(f"{node!r} cannot be a node's name: give one that kubectl get nodes shows (--node-name)")
    namespaces = (None,) if arguments.all_namespaces else tuple(arguments.namespace)
    query = Query(node, namespaces, arguments.selector, arguments.pod_regex)
    return KubernetesFeed(Access(arguments.kubeconfig, arguments.context), query, warn)


# Options that do not go together.


def _check_output(arguments: argparse.Namespace) -> None:
    form = arguments.output
    if form != "text" and arguments.colour != "auto":
        raise UsageError(f"--colour is for -o text: -o {form} has no colours, leave it out")
    if form != "text" and arguments.verbose:
        raise UsageError(f"--verbose is for -o text: -o {form} has everything in it, leave it out")
    if arguments.command == "tap" and arguments.no_redact:
        for option in ("redact", "keep"):
            if getattr(arguments, option):
                raise UsageError(f"--{option} and --no-redact contradict each other: give one of them")
    if form == "pcapng":
        for name in ("method", "path", "status", "host", "no_probes", "no_stream", "redact", "keep"):
            if getattr(arguments, name):
                option = "--" + name.replace("_", "-")
                raise UsageError(
                    f"-o pcapng writes packets as they were captured, which {option} cannot change: leave one out"
                )
        if not arguments.no_redact:
            raise UsageError(
                "-o pcapng writes packets as they were captured, with the secrets in them: add --no-redact if all who "
                "read the file may see them"
            )
        if to_terminal(arguments):
            raise UsageError("-o pcapng is not for terminals: name a file with -w, or write to a pipe")


def _check_sources(arguments: argparse.Namespace) -> None:
    followed = _asks_for_pods(arguments) or arguments.targets_file is not None
    if (arguments.verify or arguments.discover) and not arguments.istio:
        raise UsageError("--verify and --discover say how pods' namespaces are found: they go with --istio")
    if arguments.tls and not arguments.istio:
        raise UsageError("--tls reads processes in the pods' network namespaces: it goes with --istio")
    if arguments.all_namespaces and arguments.namespace:
        raise UsageError("--all-namespaces leaves nothing for --namespace to name: give one of them")
    if arguments.read is not None:
        if arguments.istio or arguments.interface is not None or followed:
            raise UsageError(
                "-r reads a file and captures nothing: leave out --istio, -i, --targets-file and pods of Kubernetes"
            )
        if arguments.metrics is not None:
            raise UsageError("-r reads a file to its end and has nothing to be scraped: leave out --metrics")
    elif not (arguments.targets or followed):
        raise UsageError(
            "an empty list of targets captures nothing: name at least one address with --targets, a file with "
            "--targets-file, or pods with --namespace, --all-namespaces, --pod-regex or --selector"
        )


def _asks_for_pods(arguments: argparse.Namespace) -> bool:
    if arguments.namespace or arguments.all_namespaces or arguments.pod_regex is not None or arguments.selector:
        return True
    if any(value is not None for value in (arguments.node_name, arguments.kubeconfig, arguments.context)):
        raise UsageError(
            "--node-name, --kubeconfig and --context ask for no pods: say which with --namespace, --all-namespaces, "
            "--pod-regex or --selector"
        )
    return False

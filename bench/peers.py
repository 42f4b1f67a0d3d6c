"""The programs that the benchmark compares: how each is started on a pod's lo, and how its output is counted.

A program reported an exchange if its output has the nonce of the request and the nonce of the response. For a program
that writes packets to a file, the packets are searched. HTTP/2 compresses header fields, so its packets do not contain
the nonces, and such a program has no count there.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bench.workloads import NONCE_DIGITS, Protocol
from harness.adapters.reference import TAPPER_ENVIRON, tapper_argv
from harness.sandbox.process import MINIMAL_ENVIRON

Count = Callable[[bytes], "Counter[str]"]

_NONCE = rb"([0-9a-f]{%d})" % NONCE_DIGITS
_REQUEST = rb"/items/" + _NONCE
_ANSWER = rb"x-nonce: " + _NONCE
_ALL = frozenset(Protocol)
_HTTP1 = frozenset({Protocol.HTTP1})
_HERE = Path(__file__).parent / "programs"


@dataclass(frozen=True, slots=True)
class Peer:
    """A program that captures. `arguments` may contain three placeholders: {port} and {address}, which `argv` fills
    in, and {directory}, the folder that the program may write to, which `Metered` fills in."""

    name: str
    arguments: tuple[str, ...]
    decodes: str
    """The contents of its output, in a few words."""
    exchanges: Count
    """Counts the exchanges in its output, by nonce."""
    http2: tuple[str, ...] = ()
    """Further arguments for HTTP/2."""
    protocols: frozenset[Protocol] = _HTTP1
    """The protocols whose exchanges can be counted in its output."""
    how: str = ""
    """How to install the program, if no package has it."""
    package: str = ""
    """The Python package that it needs."""
    on_node: bool = False
    """True: started on the node; the program enters the pod's network namespace by itself."""
    share: float = 1.0
    """The share of a workload that it gets: the slowest programs would take minutes for a whole one."""
    env: Mapping[str, str] | None = None
    obstacle: Callable[[], str | None] = lambda: None
    """Says in a few words why this machine cannot measure the peer; returns None if nothing but a missing program or
    package can prevent it."""
    good_codes: frozenset[int] = frozenset({0})
    version_argument: str = "--version"
    drops: str = r"(\d+) packets? dropped"

    def argv(self, address: str, protocol: Protocol) -> list[str]:
        extra = self.http2 if protocol is not Protocol.HTTP1 else ()
        known = {"{port}": str(protocol.port), "{address}": address}
        filled = []
        for part in (*self.arguments, *extra):
            for mark, value in known.items():
                part = part.replace(mark, value)  # noqa: PLW2901 - one mark after the other
            filled.append(part)
        return filled

    @property
    def missing(self) -> str | None:
        """The program, package or form that this machine lacks; None if the peer can be measured."""
        obstacle = self.obstacle()
        if obstacle is not None:
            return obstacle
        if self.package:
            return None if importlib.util.find_spec(self.package) else f"the Python package {self.package}"
        found = shutil.which(self.arguments[0], path=MINIMAL_ENVIRON["PATH"])
        return None if found else f"the program {Path(self.arguments[0]).name}" + (f" ({self.how})" if self.how else "")

    def reported(self, output: bytes, protocol: Protocol) -> Counter[str] | None:
        """The exchanges in its output, by nonce; None if those of this protocol cannot be counted there."""
        return self.exchanges(output) if protocol in self.protocols else None

    def dropped(self, log: str, output: bytes) -> int | None:
        """The number of lost packets that the program reports itself; None if it reports none."""
        numbers = re.findall(self.drops, log) or re.findall(self.drops.encode(), output[-4000:])
        return int(numbers[-1]) if numbers else None

    def version(self) -> str:
        """The line with the program's version, as the program prints it."""
        if self.package and not self.on_node:
            return importlib.metadata.version(self.package)
        program = [*self.arguments[: self.arguments.index("tap")]] if self.on_node else [self.arguments[0]]
        argv = [*program, self.version_argument]
        done = subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=30, env={**MINIMAL_ENVIRON, **(self.env or {})}
        )
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        numbered = [line for line in lines if re.search(r"\d\.\d", line)]  # some programs print their usage first
        return (numbered or lines or ["unknown"])[0]


def both(request: bytes = _REQUEST, answer: bytes | None = _ANSWER) -> Count:
    """Returns a function that counts exchanges in a text: the nonces which `request` and `answer` both find there.
    With `answer` None it counts requests."""

    def count(output: bytes) -> Counter[str]:
        requests = Counter(nonce.decode() for nonce in re.findall(request, output))
        if answer is None:
            return requests
        return requests & Counter(nonce.decode() for nonce in re.findall(answer, output))

    return count


def records(output: bytes) -> Counter[str]:
    """Counts the exchanges in the tapper's NDJSON: a request together with its own response."""
    exchanges: Counter[str] = Counter()
    for line in output.splitlines():
        record = json.loads(line)
        if record["type"] != "http" or record["target"] is None or record["status"] != 200:
            continue  # a request or a response alone is no exchange
        nonce = record["target"].rpartition("/")[2]
        if nonce == dict(record["response"]["headers"]).get("x-nonce"):
            exchanges[nonce] += 1
        else:
            exchanges[f"not the answer to {nonce}"] += 1
    return exchanges


def is_compiled(version: str) -> bool:
    """True if this output of `tapper --version` is from the compiled form."""
    return version.endswith(", compiled")


def _no_second_form() -> str | None:
    """The obstacle of the pure-Python peer."""
    if is_compiled(by_name(TAPPER)[0].version()):
        return None
    return "a compiled form of the tapper (script/compile makes one), so the peer tapper is the pure one already"


def _no_fast_parts() -> str | None:
    """The obstacle of the peer without fast parts."""
    if importlib.util.find_spec("tapper.fast") is not None:
        return None
    return "the folder tapper/fast, so the peer tapper runs without it already"


TAPPER, PURE, WITHOUT_FAST = "tapper", "tapper (pure Python)", "tapper (without fast)"
GOPACKET = str(_HERE / "gopacket" / "build" / "gopacket")
_TSHARK = ("tshark", "-l", "-n", "-i", "lo", "-p", "-B", "32", "-f", "tcp port {port}")
_AS_HTTP2 = ("-d", "tcp.port=={port},http2")
_FIELDS = (
    *("frame.time_epoch", "ip.src", "tcp.srcport", "ip.dst", "tcp.dstport", "http.request.method"),
    *("http.request.uri", "http.request.line", "http.response.code", "http.response.line", "http.request_in"),
    *("tcp.stream", "http2.streamid", "http2.header.name", "http2.header.value"),
)
# tshark prints the values of HTTP/2 fields in a list, without their names; a slash precedes the nonce in a path
_AFTER_A_BLANK = rb"(?:(?<=[ \t,\"])|x-nonce: )" + _NONCE + rb"(?![0-9a-f])"


_TAPPER = Peer(
    TAPPER,
    (*tapper_argv("tap"), "--istio", "--filter-authorities", "{address}", "-o", "ndjson"),
    "exchanges, all headers, bodies (NDJSON)",
    records,
    protocols=_ALL,
    on_node=True,
    env=TAPPER_ENVIRON,
    drops=r'"dropped": ?(\d+)',
)

PEERS = (
    _TAPPER,
    replace(_TAPPER, name=PURE, env={**TAPPER_ENVIRON, "TAPPER_PURE": "1"}, obstacle=_no_second_form),
    replace(_TAPPER, name=WITHOUT_FAST, env={**TAPPER_ENVIRON, "TAPPER_PLAIN": "1"}, obstacle=_no_fast_parts),
    Peer(
        "tcpdump -w",
        ("tcpdump", "-i", "lo", "-n", "-s", "0", "-B", "32768", "-w", "{directory}/packets", "tcp port {port}"),
        "nothing: packets to a file",
        both(),
    ),
    Peer(
        "dumpcap",
        ("dumpcap", "-q", "-i", "lo", "-B", "32", "-f", "tcp port {port}", "-w", "{directory}/packets"),
        "nothing: packets to a file",
        both(),
        drops=r"received/dropped on interface '[^']*': \d+/(\d+)",
    ),
    Peer(
        "tshark fields",
        (*_TSHARK, "-Y", "http || http2.headers", "-T", "fields", *(p for f in _FIELDS for p in ("-e", f))),
        "requests and answers, all headers",
        both(answer=_AFTER_A_BLANK),
        http2=_AS_HTTP2,
        protocols=_ALL,
    ),
    Peer(
        "tshark json",
        (*_TSHARK, "-Y", "http || http2.headers", "-T", "json"),
        "every field of every layer",
        both(rb'"http\.request\.uri": "[^"]*' + _REQUEST),
        http2=_AS_HTTP2,
    ),
    Peer(
        "tshark ek",
        (*_TSHARK, "-Y", "http || http2.headers", "-T", "ek"),
        "every field of every layer",
        both(rb'"http_http_request_uri":"[^"]*' + _REQUEST),
        http2=_AS_HTTP2,
    ),
    Peer(
        "gopacket",
        (GOPACKET, "lo", "{port}"),
        "requests and answers, all headers, unpaired",
        both(rb'"target":"[^"]*' + _REQUEST, rb'"X-Nonce":\["' + _NONCE),
        how="script/bench builds it from bench/programs/gopacket if Go is installed",
    ),
    Peer(
        "suricata",
        (
            *("suricata", "-c", str(_HERE / "suricata.yaml"), "--af-packet=lo", "-l", "{directory}", "-S", "/dev/null"),
            *("-k", "none", "tcp port {port}"),
        ),
        "exchanges, all headers (JSON)",
        both(rb'"url":"[^"]*' + _REQUEST, rb'"name":"x-nonce","value":"' + _NONCE),
        how="only some releases of Debian have the package",
        version_argument="-V",
        drops=r"packets: \d+, drops: (\d+)",
    ),
    Peer(
        "tcpflow",
        ("tcpflow", "-i", "lo", "-o", "{directory}/flows", "tcp port {port}"),
        "streams to files",
        both(),
    ),
    Peer(
        "httpry",
        ("httpry", "-i", "lo", "-f", "timestamp,source-ip,dest-ip,method,host,request-uri,status-code", "tcp"),
        "request lines and status lines, unpaired",
        both(answer=None),
        good_codes=frozenset({0, 2}),  # it exits with 2 on SIGINT
        version_argument="-h",
    ),
    Peer(
        "ngrep",
        ("ngrep", "-q", "-l", "-d", "lo", "-W", "byline", "^(GET|HTTP)", "tcp port {port}"),
        "packets that match, as text",
        both(),
        version_argument="-V",
    ),
    Peer(
        "scapy",
        (sys.executable, str(_HERE / "scapy_peer.py"), "{port}"),
        "requests and answers, all headers",
        both(),
        package="scapy",
        share=0.1,
    ),
    Peer(
        "pyshark",
        (sys.executable, str(_HERE / "pyshark_peer.py"), "{port}"),
        "every field of every layer, as objects",
        both(),
        package="pyshark",
        share=0.1,
    ),
)


def by_name(names: str) -> tuple[Peer, ...]:
    """The peers with these names, which commas separate. Raises ValueError for an unknown name."""
    known = {peer.name: peer for peer in PEERS}
    unknown = [name for name in names.split(",") if name not in known]
    if unknown:
        raise ValueError(f"no such peer: {', '.join(unknown)}. The peers are {', '.join(known)}")
    return tuple(known[name] for name in names.split(","))

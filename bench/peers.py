"""What is compared: how each program is started on a pod's lo, and how its output is counted.

Every output is searched for the nonces of requests and of answers; an exchange is reported where both are there. What
writes packets is counted by searching the packets, so only where the nonces stand in cleartext: not in HTTP/2.
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
    """A program. `argv` has {port}, {address} and {directory}, where it may write, to be filled in."""

    name: str
    arguments: tuple[str, ...]
    decodes: str
    """What a reader of its output has, in a few words."""
    exchanges: Count
    """Counts the exchanges in its output, by nonce."""
    http2: tuple[str, ...] = ()
    """Further arguments for HTTP/2."""
    protocols: frozenset[Protocol] = _HTTP1
    """Those that its output tells exchanges of."""
    how: str = ""
    """How one comes by it, where no package has it."""
    package: str = ""
    """The Python package that it needs."""
    on_node: bool = False
    """Started on the node: it enters the pod's network namespace by itself."""
    share: float = 1.0
    """How much of a workload it is given: the slowest would take minutes."""
    env: Mapping[str, str] | None = None
    beside_compiled: bool = False
    """Whether it is the plain form of a tapper that has a compiled one."""
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
        """What this machine lacks for it."""
        if self.beside_compiled and not is_compiled(by_name(TAPPER)[0].version()):
            return "a compiled form of the tapper (script/compile makes one), so the tapper itself is the plain one"
        if self.package:
            return None if importlib.util.find_spec(self.package) else f"the Python package {self.package}"
        found = shutil.which(self.arguments[0], path=MINIMAL_ENVIRON["PATH"])
        return None if found else f"the program {Path(self.arguments[0]).name}" + (f" ({self.how})" if self.how else "")

    def reported(self, output: bytes, protocol: Protocol) -> Counter[str] | None:
        """The exchanges that its output tells; None where it cannot tell any of this protocol."""
        return self.exchanges(output) if protocol in self.protocols else None

    def dropped(self, log: str, output: bytes) -> int | None:
        """Packets that it says it lost."""
        told = re.findall(self.drops, log) or re.findall(self.drops.encode(), output[-4000:])
        return int(told[-1]) if told else None

    def version(self) -> str:
        """The line of what it says of itself that has its version."""
        if self.package and not self.on_node:
            return importlib.metadata.version(self.package)
        program = [*self.arguments[: self.arguments.index("tap")]] if self.on_node else [self.arguments[0]]
        asked = [*program, self.version_argument]
        done = subprocess.run(
            asked, capture_output=True, text=True, check=False, timeout=30, env={**MINIMAL_ENVIRON, **(self.env or {})}
        )
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        numbered = [line for line in lines if re.search(r"\d\.\d", line)]  # some say how they are used first
        return (numbered or lines or ["unknown"])[0]


def both(request: bytes = _REQUEST, answer: bytes | None = _ANSWER) -> Count:
    """Counts exchanges in a text: nonces that stand there as a request's and as an answer's."""

    def count(output: bytes) -> Counter[str]:
        asked = Counter(found.decode() for found in re.findall(request, output))
        if answer is None:
            return asked
        return asked & Counter(found.decode() for found in re.findall(answer, output))

    return count


def records(output: bytes) -> Counter[str]:
    """Counts the tapper's records: a request, and the answer that belongs to it."""
    found: Counter[str] = Counter()
    for line in output.splitlines():
        record = json.loads(line)
        if record["type"] != "http" or record["target"] is None or record["status"] != 200:
            continue  # half an exchange, whose other half was lost, is none
        nonce = record["target"].rpartition("/")[2]
        if nonce == dict(record["response"]["headers"]).get("x-nonce"):
            found[nonce] += 1
        else:
            found[f"not the answer to {nonce}"] += 1
    return found


def is_compiled(version: str) -> bool:
    """Whether a tapper that said this of its version ran in its compiled form."""
    return version.endswith(", compiled")


TAPPER, PURE = "tapper", "tapper (pure Python)"
GOPACKET = str(_HERE / "gopacket" / "build" / "gopacket")
_TSHARK = ("tshark", "-l", "-n", "-i", "lo", "-p", "-B", "32", "-f", "tcp port {port}")
_AS_HTTP2 = ("-d", "tcp.port=={port},http2")
_FIELDS = (
    *("frame.time_epoch", "ip.src", "tcp.srcport", "ip.dst", "tcp.dstport", "http.request.method"),
    *("http.request.uri", "http.request.line", "http.response.code", "http.response.line", "http.request_in"),
    *("tcp.stream", "http2.streamid", "http2.header.name", "http2.header.value"),
)
# as a value among others, which is how HTTP/2's are printed; a path has a slash before it
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
    replace(_TAPPER, name=PURE, env={**TAPPER_ENVIRON, "TAPPER_PURE": "1"}, beside_compiled=True),
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
        how="go build makes it of bench/programs/gopacket, which script/bench does where there is Go",
    ),
    Peer(
        "suricata",
        (
            *("suricata", "-c", str(_HERE / "suricata.yaml"), "--af-packet=lo", "-l", "{directory}", "-S", "/dev/null"),
            *("-k", "none", "tcp port {port}"),
        ),
        "exchanges, all headers (JSON)",
        both(rb'"url":"[^"]*' + _REQUEST, rb'"name":"x-nonce","value":"' + _NONCE),
        how="Debian has it in some releases only",
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
        good_codes=frozenset({0, 2}),  # 2 is what it says to SIGINT
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
    """Those that are listed, separated by commas. Raises ValueError for one that there is not."""
    known = {peer.name: peer for peer in PEERS}
    unknown = [name for name in names.split(",") if name not in known]
    if unknown:
        raise ValueError(f"no such peer: {', '.join(unknown)}. There are {', '.join(known)}")
    return tuple(known[name] for name in names.split(","))

"""Adapters of tappers that are right but different from the reference: what no case may fail.

`tapper-harness check --adapter FILE` runs them, too: `python tests/unit/support/right_adapters.py FOLDER` writes the
files.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = Path(__file__).with_name("right_tappers")
REFERENCE = Path(__file__).resolve().parents[3] / "harness" / "adapters" / "shipped" / "reference.py"
_DECODED = ["http1", "http2", "grpc", "websocket", "ipv6", "midstream", "drop_counters", "redaction"]
_FINDS = ["discovery.envoy", "discovery.linkerd", "targets.dynamic"]
ALL = [*_FINDS, *_DECODED, "direction", "pod_identity"]


@dataclass(frozen=True, slots=True)
class Right:
    """One of them: how it is run, and what it claims."""

    argv: tuple[str, ...]
    claims: tuple[str, ...] = tuple(ALL)
    format: str = "ndjson"
    to: str = "stdout"
    discovery: str = "own"


def _program(name: str, *arguments: str) -> tuple[str, ...]:
    return sys.executable, str(PROGRAMS / name), *arguments


def _otherwise(way: str, *claims: str) -> Right:
    return Right(_program("otherwise.py", way), claims or tuple(ALL))


RIGHT = {
    "slow start of 5 s": _otherwise("slow"),
    "output in bursts of 2 s": _otherwise("bursts"),
    "another order of records": _otherwise("shuffled"),
    "unknown fields and types": _otherwise("fields"),
    "several processes": _otherwise("processes"),
    "the reader's time": _otherwise("reader"),
    "says less": _otherwise("less", *_FINDS, "http1", "http2", "ipv6"),
    "claims little": _otherwise("unchanged", "targets.dynamic"),
    "pods by IPv6 addresses": _otherwise("ipv6"),
    "heads only": _otherwise("heads"),
    "spelled otherwise": _otherwise("spelled"),
    "two processes share the pods": Right(_program("shared_out.py")),
    "everywhere in its pods": Right(
        _program("captures.py", "everywhere"), ("packets", "ipv6"), "pcapng", discovery="kit"
    ),
    "packets without link layer": Right(
        _program("captures.py", "datagrams"), ("packets", "ipv6", "pod_identity"), "pcap", "directory", "kit"
    ),
    "pcapng by direction": Right(_program("rewritten.py"), (*_FINDS, "packets", "ipv6", "pod_identity"), "pcapng"),
    "pcapng": Right(
        (sys.executable, str(REFERENCE), "-o", "pcapng", "--no-redact"),
        (*_FINDS, "packets", "ipv6", "pod_identity"),
        "pcapng",
    ),
}


def write(folder: Path, name: str) -> Path:
    """The adapter's file, in a folder of its own."""
    right = RIGHT[name]
    own = folder / name.replace(" ", "-").replace("'", "")
    own.mkdir(parents=True, exist_ok=True)
    file = own / "adapter.toml"
    file.write_text(f"""contract = 1
[implementation]
name = {json.dumps(name)}
organization = "a test"
url = "about:blank"
version = "1"
contact = "nobody"
[run]
argv = {json.dumps(right.argv)}
ready = "fd"
[output]
format = "{right.format}"
to = "{right.to}"
[targets]
discovery = "{right.discovery}"
update = "{"sighup" if "targets.dynamic" in right.claims else "none"}"
[features]
claims = {json.dumps(right.claims)}
""")
    return file


if __name__ == "__main__":
    for each in RIGHT:
        sys.stdout.write(f"{write(Path(sys.argv[1]), each)}\n")

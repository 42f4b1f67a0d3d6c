"""Broken in what is captured in a pod, and how often."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from harness.conformance.mutants.model import Mutant
from tapper import following
from tapper.capture import bpf
from tapper.output.ndjson import Ndjson
from tapper.output.records import Place
from tapper.protocols.exchange import Conversation
from tapper.protocols.facts import Note
from tapper.protocols.messages import ResponseHead
from tapper.protocols.session import Sighting
from tapper.streams.connections import Connections
from tapper.streams.legs import endpoints, is_loopback
from tapper.streams.packet import Packet, parse
from tapper.streams.reassembly import Chunk, HalfStream

_FAR = 1 << 32  # positions of a stream start here


def _report_both_copies() -> None:
    whole = Ndjson.sighting

    def twice(self: Ndjson, place: Place, sighting: Sighting) -> str:
        return whole(self, place, sighting) * (2 if place.interface == "lo" else 1)

    Ndjson.sighting = twice  # type: ignore[method-assign]


def _look_at_the_wire() -> None:
    whole = following.open_ring  # type: ignore[attr-defined]
    following.open_ring = lambda _interface, *rest: whole("eth0", *rest)  # type: ignore[attr-defined]


CIPHERTEXT = Mutant(
    "ciphertext",
    "In a pod's namespace it captures on eth0, where there is nothing but ciphertext.",
    {"CAP-01": "a request inside pod"},
    _look_at_the_wire,
)
OUTGOING_COPY = Mutant(
    "outgoing-copy",
    "It takes both copies that a raw socket gets of a frame on lo for frames.",
    {"CAP-03": "too often"},
    _report_both_copies,
)


def _short_snapshots() -> None:
    # the tapper's packets begin at the IP header, so this is a snapshot length of 65,535 with an Ethernet header
    bpf._ACCEPT = bpf.Instruction(bpf.RET_K, 0, 0, 65_535 - 14)
    _never_flag()


def _never_flag() -> None:
    told = Ndjson.sighting

    def unflagged(self: Ndjson, place: Place, sighting: Sighting) -> str:
        return told(self, place, sighting).replace('"truncated":true', '"truncated":false')

    Ndjson.sighting = unflagged  # type: ignore[method-assign]


SHORT_SNAPSHOTS = Mutant(
    "short-snapshots",
    "It captures with a snapshot length of 65,535 and takes what is left of a frame for all of it.",
    {"CAP-04": "too seldom|not at all|nothing said about a cut"},
    _short_snapshots,
)


def _present_tls() -> None:
    told = Ndjson.note

    def note(self: Ndjson, place: Place, note: Note) -> str:
        record = json.loads(told(self, place, note))
        return json.dumps(record | ({"type": "http"} if record["type"] == "tls" else {})) + "\n"

    Ndjson.note = note  # type: ignore[method-assign]


TLS_AS_HTTP = Mutant(
    "tls-as-http",
    "It makes an exchange of every connection, of TLS as well.",
    {"CAP-05": "that carries none", "EDGE-03": "that carries none"},
    _present_tls,
)


def _refuse(unwanted: Callable[[bytes], bool]) -> None:
    """Packets of a kind never reach the streams."""
    take = Connections.packets

    def packets(self: Connections[Any], memory: bytes, found: list[Packet], made: list[Any]) -> None:
        take(self, memory, [it for it in found if not unwanted(memory[it[2] : it[3]])], made)

    Connections.packets = packets  # type: ignore[method-assign]


def _ends(packet: bytes) -> tuple[tuple[bytes, int], tuple[bytes, int]] | None:
    key = parse(packet, 0, len(packet))[0]
    return endpoints(key) if key else None


def _is_443(packet: bytes) -> bool:
    return any(port == 443 for _, port in _ends(packet) or ())


def _is_unmirrored(packet: bytes) -> bool:
    ends = _ends(packet)
    return ends is not None and not (is_loopback(ends[0][0]) or is_loopback(ends[1][0]))


def _is_127_0_0_1_only(packet: bytes) -> bool:
    ends = _ends(packet)
    here = bytes((127, 0, 0, 1))
    return ends is not None and ends[0][0] == ends[1][0] == here


NOT_443 = Mutant(
    "not-443",
    "Its filter has `not port 443`, as kubeshark's has.",
    {"CAP-06": "too seldom|not at all"},
    lambda: _refuse(_is_443),
)
MIRRORED_ONLY = Mutant(
    "mirrored-only",
    "It wants both directions between two loopback addresses, so that the answers of a redirected leg are nobody's.",
    {"CAP-02": "with its answer|too seldom|not at all"},
    lambda: _refuse(_is_unmirrored),
)
PASSTHROUGH_ONLY = Mutant(
    "passthrough-only",
    "It knows only the delivery from 127.0.0.6.",
    {"CAP-08": "too seldom|not at all"},
    lambda: _refuse(_is_127_0_0_1_only),
)
IPV4_ONLY = Mutant(
    "ipv4-only",
    "It passes over packets of IPv6 although it claims them.",
    {"CAP-10": "too seldom|not at all"},
    lambda: _refuse(lambda packet: packet[0] >> 4 == 6),
)


def _no_order() -> None:
    def follows(self: HalfStream, seq: int, size: int) -> bool:
        self.position = max(self.position, _FAR + seq) + size
        return True

    HalfStream.follows = follows  # type: ignore[method-assign]


ARRIVAL_ORDER = Mutant(
    "arrival-order",
    "It reads segments as they come, whatever their sequence numbers.",
    {"CAP-07": "too seldom|not at all|too often|nothing said about a cut|answered with"},
    _no_order,
)


def _once_by_content() -> None:
    told: set[str] = set()
    whole = Ndjson.sighting

    def sighting(self: Ndjson, place: Place, sighting: Sighting) -> str:
        request = sighting.exchange.request
        key = "" if request is None else f"{request.head.method} {request.head.target}"
        if key in told:
            return ""
        told.add(key)
        return whole(self, place, sighting)

    Ndjson.sighting = sighting  # type: ignore[method-assign]


ONCE_BY_CONTENT = Mutant(
    "once-by-content",
    "It takes a second request of the same line for a copy of the first.",
    {"CAP-09": "too seldom|not at all", "EDGE-04": "too seldom|not at all"},
    _once_by_content,
)


def _pairs_through_loss() -> None:
    def match(self: Conversation, _response: ResponseHead) -> Any:
        return (self._pop() if self._unanswered else None), []

    Conversation._match = match  # type: ignore[assignment,method-assign]


PAIRS_THROUGH_LOSS = Mutant(
    "pairs-through-loss",
    "After lost bytes, and from midway on, it pairs in order of appearance, so that every answer is one question off.",
    {"CAP-07": "answered with|its own answer", "EDGE-01": "its own answer"},
    _pairs_through_loss,
)


def _never_wrap() -> None:
    follows, push = HalfStream.follows, HalfStream.push

    def followed(self: HalfStream, seq: int, size: int) -> bool:
        return self.position < 2 * _FAR and follows(self, seq, size)

    def pushed(self: HalfStream, seq: int, data: bytes, ts: int, ack: int) -> list[Chunk]:
        if self.position >= 2 * _FAR:
            return []  # what a number that goes down looks like to it: old data
        return push(self, seq, data, ts, ack)

    HalfStream.follows = followed  # type: ignore[method-assign]
    HalfStream.push = pushed  # type: ignore[method-assign]


NEVER_WRAPS = Mutant(
    "never-wraps",
    "It compares sequence numbers as if they only went up.",
    {"CAP-07": "too seldom|not at all|answered with"},
    _never_wrap,
)


def _one_connection_for_ever() -> None:
    def syn(self: HalfStream, seq: int) -> bool:
        if self.position < 0:
            self.first = (seq + 1) & 0xFFFF_FFFF
            self.position = _FAR + self.first
        return True

    HalfStream.syn = syn  # type: ignore[method-assign]


ONE_CONNECTION_FOR_EVER = Mutant(
    "one-connection-for-ever",
    "What has the same addresses and ports is the same connection to it, a new SYN notwithstanding.",
    {"CAP-11": "too seldom|not at all|answered with"},
    _one_connection_for_ever,
)

"""pcap and pcapng as a tapper under test writes them: packets, and the exchanges that the kit finds in them.

The kit reads HTTP/1 only as far as its own requests need: a request line and a status line with the kit's marker after
it. A tapper that claims to decode more has to report records.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from harness.adapters import capture_file, files
from harness.adapters.observed import MARKER, Markers, ReportedExchange, ReportedMessage
from harness.sandbox.frames import Flow, Segment, endpoint, parse_ip_tcp, tcp_streams_of

# offset of the IP header by link type (https://www.tcpdump.org/linktypes.html: EN10MB, RAW, SLL, IPV4, IPV6, SLL2)
_IP_AT = {1: 14, 12: 0, 14: 0, 101: 0, 113: 16, 228: 0, 229: 0, 276: 20}
_REQUEST = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.[01]\r\n")
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
_PASSTHROUGH = ("127.0.0.6", "::6")
_OUTBOUND_PORT = 15001


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet of a capture. `interface` is the file's name for it, or the name of the file. `time_ns` is nanoseconds
    since the epoch, None if the file has no time for it."""

    time_ns: int | None
    interface: str
    link_type: int
    length: int
    """The length on the wire; `data` is shorter if the tapper cut it."""
    data: bytes

    def tcp(self) -> Segment | None:
        """The TCP segment in it, or None."""
        packet = self.ip()
        return None if packet is None else parse_ip_tcp(packet)

    def ip(self) -> bytes | None:
        """The bytes after the link layer's header; None for a link type that the kit does not know."""
        at = _IP_AT.get(self.link_type)
        return None if at is None else self.data[at:]


class Capture:
    """A `harness.adapters.observed.Output` of packets: from standard output, a file, or a folder of files."""

    def __init__(self, path: Path | None = None) -> None:
        self.problems: list[str] = []
        self._path = path
        self._raw = bytearray()
        self._looked_at: dict[Path, int] = {}
        self._markers = Markers()
        self._lock = threading.Lock()

    def feed(self, data: bytes) -> None:
        with self._lock:
            self._raw += data
            self._markers.feed(data)

    def refresh(self) -> None:
        for path in self._paths():
            at = self._looked_at.get(path, 0)
            try:
                data = files.read(path, at)
            except files.UnreadableFile:
                continue  # `finish` reports it
            self._looked_at[path] = at + len(data)
            with self._lock:
                self._markers.feed(data)

    def finish(self) -> None:
        for name, content in self._files().items():
            list(self._read(name, content, complain=True))

    def mentioned(self) -> set[str]:
        with self._lock:
            return set(self._markers.found)

    def packets(self) -> list[Packet]:
        """Every whole packet so far."""
        return [packet for name, content in self._files().items() for packet in self._read(name, content)]

    def seen(self) -> list[ReportedExchange]:
        return list(exchanges(self.packets()))

    def records(self, _kind: str) -> list[Mapping[str, Any]]:
        return []

    def others(self) -> list[Mapping[str, Any]]:
        return []

    def everything(self) -> Iterable[bytes]:
        yield from self._files().values()
        by_interface: dict[str, list[Segment]] = {}
        for packet in self.packets():
            segment = packet.tcp()
            if segment is not None:
                by_interface.setdefault(packet.interface, []).append(segment)
        for segments in by_interface.values():
            yield from tcp_streams_of(segments, holes=b"\0").values()

    def _files(self) -> dict[str, bytes]:
        if self._path is None:
            with self._lock:
                return {"the output": bytes(self._raw)} if self._raw else {}
        found = {}
        for path in self._paths():
            try:
                found[path.stem] = files.read(path)
            except files.UnreadableFile as error:
                if str(error) not in self.problems:
                    self.problems.append(str(error))
        return found

    def _paths(self) -> list[Path]:
        if self._path is None or not self._path.exists():
            return []
        if not self._path.is_dir():
            return [self._path]
        return sorted(path for path in self._path.rglob("*") if path.suffix in (".pcap", ".pcapng"))

    def _read(self, name: str, content: bytes, *, complain: bool = False) -> Iterator[Packet]:
        """The whole packets of a file that may still be written."""
        try:
            for record in capture_file.records(content):
                where = name if record.interface in (None, "lo", "any", "-") else str(record.interface)
                yield Packet(record.time_ns, where, record.link_type, record.length, record.data)
            if complain and not capture_file.whole(content):
                self.problems.append(f"{name} is not a whole pcap or pcapng file: it ends within a packet or a block")
        except capture_file.Damaged as damage:
            if complain:
                self.problems.append(f"{name} is not a whole pcap or pcapng file: {damage}")


def words_of(interface: str) -> list[str]:
    """The words in the name of an interface or a file, one of which may name a pod: `lo@10.244.0.2`, `shop/lo`."""
    return interface.replace("@", " ").replace("/", " ").split()


def exchanges(packets: Iterable[Packet]) -> Iterator[ReportedExchange]:
    """The kit's own requests, one for each packet that carries the head of one: a packet delivered twice counts twice.

    An answer is found by its marker in the packets to the client's address and port, from any sender: the replies of a
    redirected connection come from another address than the one its requests went to. A file may have them on another
    interface than the requests, one for each direction. The bytes of a message are its fields and its body in one, so
    no body is given.
    """
    segments = [(packet, segment) for packet in packets if (segment := packet.tcp()) is not None and segment.payload]
    replies: dict[tuple[str, int], dict[str, list[bytes]]] = {}
    for packet, segment in segments:
        by_interface = replies.setdefault((segment.flow.dst, segment.flow.dport), {})
        by_interface.setdefault(packet.interface, []).append(segment.payload)
    answers = {
        end: {name: _answers(b"".join(payloads)) for name, payloads in by_interface.items()}
        for end, by_interface in replies.items()
    }
    for packet, segment in segments:
        for head in _REQUEST.finditer(segment.payload):
            marker = MARKER.search(head[2])
            if marker is not None:
                flow = segment.flow
                status, body = _answer(answers.get((flow.src, flow.sport), {}), packet.interface, marker[0])
                yield ReportedExchange(
                    target=head[2].decode("latin-1"),
                    method=head[1].decode(),
                    status=status,
                    direction=_direction(flow),
                    src=endpoint(flow.src, flow.sport),
                    dst=endpoint(flow.dst, flow.dport),
                    request=ReportedMessage(body=segment.payload[head.end() :], gives_body=False),
                    response=None if body is None else ReportedMessage(body=body, gives_body=False),
                    time=None if packet.time_ns is None else packet.time_ns / 1e9,
                    record={"interface": packet.interface},
                )


_Answer: TypeAlias = tuple[int | None, bytes | None]
"""The status, and the bytes from the status line on; None for what was not found."""


def _answer(by_interface: Mapping[str, Mapping[bytes, _Answer]], interface: str, marker: bytes) -> _Answer:
    """The answer with this marker, on the request's own interface or on another."""
    for answers in (by_interface.get(interface, {}), *by_interface.values()):
        if marker in answers:
            return answers[marker]
    return None, None


def _answers(reply: bytes) -> dict[bytes, _Answer]:
    """By marker: the status of the first answer that contains it, and the bytes up to the next answer with a marker."""
    found: dict[bytes, _Answer] = {}
    marks = [(marker.start(), marker[0]) for marker in MARKER.finditer(reply)]
    for number, (at, marker) in enumerate(marks):
        if marker not in found:
            start = max(reply.rfind(b"HTTP/1.", 0, at), 0)
            status = _STATUS.match(reply, start)
            later = next((there for there, other in marks[number + 1 :] if other != marker), len(reply))
            found[marker] = (int(status[1]) if status else None), reply[start:later]
    return found


def _direction(flow: Flow) -> str | None:
    if flow.src in _PASSTHROUGH or (flow.src == flow.dst and flow.dport != _OUTBOUND_PORT):
        return "inbound"
    return "outbound" if flow.dport == _OUTBOUND_PORT else None

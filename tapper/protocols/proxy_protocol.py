"""The PROXY protocol, versions 1 and 2 (HAProxy, proxy-protocol.txt): a header ahead of a connection's own protocol.

A load balancer puts it there to name the client that it stands for. Anybody can write one, so the address in it never
takes the place of the packets' address.

Version 1 is a line, `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443` and CRLF, of at most 107 octets (section 2.1). Version 2
is binary: 12 octets of signature, version and command, family and transport, a length of 16 bits, and so many octets of
addresses and TLVs (section 2.2). Numbers are big-endian.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from tapper.streams.legs import Endpoint
from tapper.streams.reassembly import Data
from tapper.streams.sequence import MASK

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_BINARY_HEADER: Final = 16
_LOCAL, _PROXY = 0x20, 0x21  # version 2, and the command
_TCP_OVER_IPV4, _TCP_OVER_IPV6 = 0x11, 0x21
_ADDRESS_SIZES: Final = {_TCP_OVER_IPV4: 4, _TCP_OVER_IPV6: 16}
_LONGEST_LINE: Final = 107
_LINE: Final = re.compile(rb"PROXY (?:UNKNOWN(?: [^\r\n]*)?|(TCP[46]) ([^ \r\n]+) ([^ \r\n]+) (\d{1,5}) (\d{1,5}))\r\n")
_LINE_BEGINNINGS: Final = (b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN")


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    source: Endpoint | None
    """The client that the header names. None for a health check of the proxy itself (LOCAL), for families other than
    TCP over IP, and for an address that cannot be read."""
    size: int
    """Octets of the header; those of version 2 may not have come yet."""


def parse(data: bytes) -> ProxyHeader | None:
    """The header with which a stream begins; None where there is none, or where too little of it has come."""
    if data.startswith(SIGNATURE):
        return _parse_binary(data)
    match = _LINE.match(data, 0, _LONGEST_LINE)
    if match is None:
        return None
    source = None if match[1] is None else _text_endpoint(match[1], match[2], match[4])
    return ProxyHeader(source, match.end())


def may_become_header(data: bytes) -> bool:
    """True if the first bytes of a stream may become a header, but do not suffice for `parse`."""
    if SIGNATURE.startswith(data) or data.startswith(SIGNATURE):
        return parse(data) is None and (len(data) < _BINARY_HEADER or data[12] in (_LOCAL, _PROXY))
    if len(data) >= _LONGEST_LINE or b"\n" in data:
        return False
    return any(beginning.startswith(data) or data.startswith(beginning) for beginning in _LINE_BEGINNINGS)


def _parse_binary(data: bytes) -> ProxyHeader | None:
    if len(data) < _BINARY_HEADER or data[12] not in (_LOCAL, _PROXY):
        return None
    length = int.from_bytes(data[14:16], "big")
    width = _ADDRESS_SIZES.get(data[13], 0) if data[12] == _PROXY else 0
    if not width or length < 2 * width + 4:
        return ProxyHeader(None, _BINARY_HEADER + length)
    ports = _BINARY_HEADER + 2 * width
    if len(data) < ports + 2:
        return None
    source = Endpoint(data[_BINARY_HEADER : _BINARY_HEADER + width], int.from_bytes(data[ports : ports + 2], "big"))
    return ProxyHeader(source, _BINARY_HEADER + length)


def _text_endpoint(family: bytes, address: bytes, port: bytes) -> Endpoint | None:
    kind = IPv4Address if family == b"TCP4" else IPv6Address
    try:
        packed = kind(address.decode("ascii")).packed
    except ValueError:  # also for octets that are not ASCII
        return None
    return Endpoint(packed, int(port)) if int(port) < 1 << 16 else None


class HeaderRemover:
    """Takes a header off the beginning of a stream. Keeps no more of it than tells what it is."""

    __slots__ = ("_chunks", "_left", "header", "is_done")

    def __init__(self) -> None:
        self._chunks: list[Data] = []
        self._left = 0  # octets of the header that have not come
        self.header: ProxyHeader | None = None
        self.is_done = False
        """True once nothing of a header can come any more."""

    def feed(self, chunk: Data) -> list[Data]:
        """One more chunk. Returns the chunks of the stream that are not a header's, as soon as that is known."""
        # 1. The rest of a header.
        if self.header is not None:
            return self._pass_over([chunk])
        # 2. Find out whether it is a header.
        self._chunks.append(chunk)
        data = b"".join(piece.data for piece in self._chunks)
        self.header = parse(data)
        if self.header is None:
            return [] if may_become_header(data) else self.give_up()
        self._left = self.header.size
        return self._pass_over(self.give_up())

    def lose(self, size: int | None) -> bool:
        """`size` bytes of the stream are lost. True if all of them belong to the header."""
        if self.header is None or size is None or size > self._left:
            return False
        self._left -= size
        self.is_done = not self._left
        return True

    def give_up(self) -> list[Data]:
        """The chunks that are kept. What follows is not a header's."""
        chunks, self._chunks, self.is_done = self._chunks, [], True
        return chunks

    def _pass_over(self, chunks: list[Data]) -> list[Data]:
        rest: list[Data] = []
        for chunk in chunks:
            size = min(self._left, len(chunk.data))
            self._left -= size
            if size < len(chunk.data):
                rest.append(Data(chunk.data[size:], chunk.ts, (chunk.seq + size) & MASK, chunk.ack))
        self.is_done = not self._left
        return rest

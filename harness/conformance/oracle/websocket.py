"""WebSocket messages of one side of a connection, behind the upgrade (RFC 6455, RFC 7692). Pure."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from harness.conformance.oracle.model import OneWay, TrueSocketMessage

_CONTROL = 0x8
_MOST_INFLATED = 64 << 20


def extension(values: Sequence[bytes]) -> bytes | None:
    """The parameters of permessage-deflate among the values of a response's Sec-WebSocket-Extensions; None without."""
    for value in values:
        for offer in value.split(b","):
            name, _, parameters = offer.strip().partition(b";")
            if name.strip().lower() == b"permessage-deflate":
                return parameters
    return None


def messages(
    way: OneWay, start: int, *, from_client: bool, deflate: bytes | None
) -> tuple[list[TrueSocketMessage], str]:
    """All messages and control frames of one side from `start` on; and why it was read no further, if it was.

    The last message may not be whole.
    """
    data, at = way.data, start
    found: list[TrueSocketMessage] = []
    parts: list[bytes] = []
    opcode, first, compressed = 0, 0, False
    alone = deflate is not None and (b"client" if from_client else b"server") + b"_no_context_takeover" in deflate
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    while at + 2 <= len(data):
        begin, one, two = at, data[at], data[at + 1]
        size, at = two & 0x7F, at + 2
        if size >= 126:
            width = 2 if size == 126 else 8
            if at + width > len(data):
                break
            size, at = int.from_bytes(data[at : at + width], "big"), at + width
        key = b""
        if two & 0x80:
            key, at = data[at : at + 4], at + 4
        if bool(key) != from_client:
            return found, "a frame of a client without a mask, or of a server with one"
        if at + size > len(data):
            if not one & _CONTROL:
                opcode, first = (one & 0x0F, begin) if one & 0x0F else (opcode, first)
                parts.append(_unmasked(data[at:], key))
            break
        payload, at = _unmasked(data[at : at + size], key), at + size
        final, reserved, code = one & 0x80, one & 0x70, one & 0x0F
        last_ns = way.time_of(at - 1)
        if code & _CONTROL:
            if reserved or not final or size > 125:
                return found, "a control frame that is not allowed"
            found.append(TrueSocketMessage(from_client, code, payload, way.time_of(begin), last_ns))
            continue
        if (code == 0) != bool(opcode) or code > 2 or (reserved and (deflate is None or reserved != 0x40 or code == 0)):
            return found, "a frame that is not allowed here"
        if code:
            opcode, first, compressed = code, begin, bool(reserved)
        parts.append(payload)
        if not final:
            continue
        whole = b"".join(parts)
        if compressed:
            try:
                whole = inflater.decompress(whole + b"\x00\x00\xff\xff", _MOST_INFLATED)
            except zlib.error as error:
                return found, f"a message that cannot be inflated: {error}"
            if alone:
                inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        found.append(TrueSocketMessage(from_client, opcode, whole, way.time_of(first), last_ns))
        opcode, parts = 0, []
    if opcode:
        last_ns = way.time_of(len(data) - 1)
        found.append(TrueSocketMessage(from_client, opcode, b"".join(parts), way.time_of(first), last_ns, whole=False))
    return found, ""


def _unmasked(payload: bytes, key: bytes) -> bytes:
    """Section 5.3; an empty key leaves it as it is."""
    if not key or not payload:
        return payload
    mask = (key * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")).to_bytes(len(payload), "big")

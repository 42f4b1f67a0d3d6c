"""Disturbances of the frames of a connection, as `harness.mesh.replay` makes them (Ethernet, IPv4). Pure."""

from __future__ import annotations

from ipaddress import IPv4Address

from harness.mesh import replay

_ENDPOINTS = slice(26, 34)  # both addresses of a frame identify its sender
_TCP, _PAYLOAD = 34, 54  # offset of the payload: no header here has options


def filler(seed: int, size: int) -> bytes:
    """Printable bytes that do not repeat within any 100."""
    return b"".join(f"{seed}.{number:06} ".encode() for number in range(size // 9 + 1))[:size]


def reordered(frames: list[bytes]) -> list[bytes]:
    """After the handshake, swap each two consecutive frames of one sender."""
    frames, at = list(frames), 3
    while at + 1 < len(frames) - 3:
        if frames[at][_ENDPOINTS] == frames[at + 1][_ENDPOINTS]:
            frames[at], frames[at + 1] = frames[at + 1], frames[at]
            at += 1
        at += 1
    return frames


def repeated(frames: list[bytes]) -> list[bytes]:
    """Repeat each frame after the next one."""
    return [each for at, frame in enumerate(frames) for each in ((frame, frames[at - 1]) if at > 3 else (frame,))]


def overlapping(frames: list[bytes]) -> list[bytes]:
    """Each segment of 200 bytes repeats the last 100 bytes of the one before."""
    told: list[bytes] = []
    before: bytes | None = None
    for frame in frames:
        same = before is not None and before[_ENDPOINTS] == frame[_ENDPOINTS] and len(frame) > _PAYLOAD
        again = before[_PAYLOAD:][-100:] if same and before is not None else b""
        if again:
            source, target = (str(IPv4Address(frame[at : at + 4])) for at in (26, 30))
            head = frame[_TCP:_PAYLOAD]
            earlier = int.from_bytes(head[4:8], "big") - len(again) & 0xFFFFFFFF
            segment = head[:4] + earlier.to_bytes(4, "big") + head[8:] + again + frame[_PAYLOAD:]
            told.append(replay.packet(source, target, segment))
        else:
            told.append(frame)
        before = frame
    return told

"""What a network does to the frames of a connection, as `harness.mesh.replay` makes them (Ethernet, IPv4). Pure."""

from __future__ import annotations

_ENDPOINTS = slice(26, 34)  # both addresses, behind the Ethernet header: who sends to whom


def filler(seed: int, size: int) -> bytes:
    """Printable bytes that do not repeat within any 100."""
    return b"".join(f"{seed}.{number:06} ".encode() for number in range(size // 9 + 1))[:size]


def reordered(frames: list[bytes]) -> list[bytes]:
    """Behind the handshake, each two that have one sender change places."""
    frames, at = list(frames), 3
    while at + 1 < len(frames) - 3:
        if frames[at][_ENDPOINTS] == frames[at + 1][_ENDPOINTS]:
            frames[at], frames[at + 1] = frames[at + 1], frames[at]
            at += 1
        at += 1
    return frames


def repeated(frames: list[bytes]) -> list[bytes]:
    """Each is sent again after the next one."""
    return [each for at, frame in enumerate(frames) for each in ((frame, frames[at - 1]) if at > 3 else (frame,))]


def overlapping(frames: list[bytes]) -> list[bytes]:
    """Each segment of 200 bytes brings again the last 100 of the one before."""
    from scapy.layers.inet import IP, TCP, Ether  # noqa: PLC0415 - half a second, and only here

    told: list[bytes] = []
    before: bytes | None = None
    for frame in frames:
        packet = Ether(frame)
        payload = bytes(packet[TCP].payload)
        same = before is not None and before[_ENDPOINTS] == frame[_ENDPOINTS] and len(payload) > 0
        mine = bytes(Ether(before)[TCP].payload)[-100:] if same and before is not None else b""
        if mine:
            packet[TCP].remove_payload()
            packet[TCP].seq -= len(mine)
            packet = packet / (mine + payload)
            for layer, field in ((IP, "len"), (IP, "chksum"), (TCP, "chksum")):
                delattr(packet[layer], field)
            told.append(bytes(packet))
        else:
            told.append(frame)
        before = frame
    return told

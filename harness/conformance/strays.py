"""Segments that no TCP accepts, between those of a connection that goes on. Pure.

A connection is replayed, so its numbers are known. Strays have its addresses, and other numbers or another checksum.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.mesh import replay
from harness.mesh.replay import ReplayLeg

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
FAR = 0x20000000
"""A distance beyond every window that Linux opens by itself (tcp(7), tcp_rmem), and below half of the number space."""
_CLIENT_ISN, _SERVER_ISN = 3_000_000_000, 1_500_000_000
_WINDOW = 8192
_CHECKSUM_AT = 14 + 20 + 16


@dataclass(frozen=True, slots=True)
class Moment:
    """The state of a connection: its ends, its first number and the next ones of either side."""

    leg: ReplayLeg
    client_isn: int
    client: int
    server: int

    def from_client(self, flags: int, payload: bytes = b"", *, seq: int = 0, ack: int = 0) -> bytes:
        """A frame of the client. `seq` and `ack` are the distances of its numbers from the right ones."""
        return _frame(self.leg.client, self.leg.server, self.client + seq, self.server + ack, flags, payload)

    def from_server(self, flags: int, payload: bytes = b"", *, seq: int = 0, ack: int = 0) -> bytes:
        """A frame of the server, likewise."""
        return _frame(self.leg.replies_from, self.leg.client, self.server + seq, self.client + ack, flags, payload)


Stray = Callable[[Moment], bytes]


def between(leg: ReplayLeg, exchanges: Sequence[tuple[bytes, bytes]], strays: Sequence[Stray]) -> list[bytes]:
    """The frames of a connection, with a stray after each request and after each answer, by turns.

    There have to be as many places as strays. Raises ValueError where there are fewer.
    """
    whole = replay.conversation(leg, exchanges, mss=1 << 15, client_isn=_CLIENT_ISN, server_isn=_SERVER_ISN)
    if len(strays) > 2 * len(exchanges):
        raise ValueError(f"{len(strays)} strays have no place in {len(exchanges)} exchanges")
    frames, left = whole[:3], list(strays)
    client, server = _CLIENT_ISN + 1, _SERVER_ISN + 1
    for number, (request, answer) in enumerate(exchanges):
        for frame, asked, answered in ((whole[3 + 2 * number], request, b""), (whole[4 + 2 * number], b"", answer)):
            frames.append(frame)
            client, server = client + len(asked), server + len(answered)
            if left:
                frames.append(left.pop(0)(Moment(leg, _CLIENT_ISN, client, server)))
    return [*frames, *whole[3 + 2 * len(exchanges) :]]


def refused(frame: bytes) -> bytes:
    """A frame of IPv4 whose TCP checksum is wrong."""
    wrong = bytes(byte ^ 0x55 for byte in frame[_CHECKSUM_AT : _CHECKSUM_AT + 2])
    return frame[:_CHECKSUM_AT] + wrong + frame[_CHECKSUM_AT + 2 :]


def _frame(source: tuple[str, int], target: tuple[str, int], seq: int, ack: int, flags: int, payload: bytes) -> bytes:
    numbers = seq & 0xFFFFFFFF, ack & 0xFFFFFFFF if flags & ACK else 0
    tcp = struct.pack("!HHIIBBHHH", source[1], target[1], *numbers, 5 << 4, flags, _WINDOW, 0, 0)
    return replay.packet(source[0], target[0], tcp + payload)

"""What the receiver of a segment would do with it: take it, ignore it, or begin another connection.

Whoever may send packets can put segments into a connection that its ends ignore. A reader that believes them loses the
rest of the connection. So a segment counts here where the receiver would take it (RFC 9293 section 3.10.7, RFC 5961),
as far as the packets that were seen tell.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final, TypeVar

from tapper.streams.connection import Connection, Half, HeldSegment
from tapper.streams.packet import ACK
from tapper.streams.reassembly import FAR
from tapper.streams.sequence import MASK, difference, unwrap

T = TypeVar("T")

_SMALLEST_WINDOW: Final = 65_535
"""What is taken for a window that is smaller: its last size may not have been seen."""


class SynVerdict(Enum):
    """What a SYN in a known connection is."""

    OWN = auto()
    """The connection's own SYN, perhaps once more."""
    ANOTHER = auto()
    """It begins another connection with the same addresses and ports."""
    ASKED = auto()
    """It would, once the other end has answered it."""
    IGNORED = auto()
    """Its receiver ignores it."""


def syn_verdict(half: Half[T], segment: HeldSegment) -> SynVerdict:
    """What this SYN is in the connection that `half` belongs to."""
    connection, stream, peer = half.connection, half.stream, half.peer
    answers = segment.flags & ACK
    # 1. A SYN-ACK that acknowledges something else than the SYN is refused (RFC 9293 section 3.10.7.3).
    if answers and stream.position < 0 and peer.stream.first is not None:
        early = 0 if connection.early is None else len(connection.early[2])
        if not 0 <= difference(segment.ack, peer.stream.first) <= early:
            return SynVerdict.IGNORED
    # 2. The same number again: a repetition, or the first of its side.
    if stream.syn(segment.seq):
        return SynVerdict.OWN
    # 3. The ports are free again, or nobody has answered the SYN before.
    if connection.ended or (peer.stream.position < 0 and not answers):
        return SynVerdict.ANOTHER
    # 4. An open connection ignores it and asks back (RFC 5961 section 4.2). Only a host that knows nothing of that
    #    connection answers with a SYN of its own.
    if not answers:
        return SynVerdict.ASKED
    if connection.reopening is not None:
        side, asked = connection.reopening
        if side == peer.side and 0 < difference(segment.ack, asked.seq) <= 1 + len(asked.payload):
            return SynVerdict.ANOTHER
    return SynVerdict.IGNORED


def resets(half: Half[T], segment: HeldSegment) -> bool:
    """Whether the receiver of this RST, sent by `half`, gives the connection up: only where its number is exactly the
    next one that it expects (RFC 5961 section 3.2), or where it acknowledges the SYN that nobody has answered (RFC 9293
    section 3.10.7.3)."""
    sender, receiver = half.stream, half.peer
    if receiver.stream.position < 0 and sender.first is not None:
        return False  # whoever opens a connection and has heard nothing has none to reset
    if sender.position < 0:
        refuses = segment.flags & ACK and segment.ack == receiver.stream.position & MASK
        return bool(refuses) or segment.seq == receiver.acked
    expected = sender.position + sender.ended
    if segment.seq == expected & MASK:
        return True
    # Bytes may be missing here that the receiver has.
    return segment.seq == receiver.acked and 0 < difference(receiver.acked, expected & MASK) <= FAR


def in_window(half: Half[T], seq: int, size: int) -> bool:
    """Whether these bytes of `half` lie where the receiver may expect some, or repeat what it has."""
    position = half.stream.position
    if position < 0:
        return True
    start = unwrap(seq, position)
    if start + size <= position:
        return position - start <= FAR
    edge, receiver = position, half.peer
    if receiver.acked >= 0:
        reached = unwrap(receiver.acked, position)
        if position < reached <= position + FAR:
            edge = reached
    scale = receiver.scale if half.scale else 0  # only where both ends offer it (RFC 7323 section 2.2)
    return start <= edge + max(receiver.window << scale, _SMALLEST_WINDOW)


def acknowledges_the_unsent(half: Half[T], segment: HeldSegment) -> bool:
    """Whether a segment of `half` acknowledges bytes that its receiver cannot have sent: further ahead of those that
    were seen than any window reaches. The receiver drops it, with its bytes (RFC 9293 section 3.10.7.4), unless the
    ports were used again."""
    receiver = half.peer.stream
    if not segment.flags & ACK or receiver.position < 0:
        return False
    return difference(segment.ack, receiver.position & MASK) > FAR


def is_of_stranger(connection: Connection[T], half: Half[T], segment: HeldSegment) -> bool:
    """Whether a segment of `half` proves that the other end did send the stranger: it acknowledges its bytes, or it is
    outside the window as well and expects just these bytes."""
    if connection.stranger is None or not segment.flags & ACK:
        return False
    side, stranger = connection.stranger
    if side == half.side:
        return False
    reached = difference(segment.ack, stranger.seq)
    if reached == 0 or acknowledges_the_unsent(half.peer, stranger):
        # True bytes of the stranger's number would be acknowledged likewise. So the other end's own numbers have to
        # tell that this is another connection: the one that the stranger acknowledges.
        answers = abs(difference(segment.seq, stranger.ack)) <= FAR
        return 0 <= reached <= FAR and answers and not in_window(half, segment.seq, len(segment.payload))
    return 0 < reached <= FAR

"""What the receiver of a segment does with it: accept it, ignore it, or begin another connection.

Whoever can send packets can put segments into a connection that both ends ignore. A reader that believes them loses the
rest of the connection. So a segment counts here only where its receiver accepts it (RFC 9293 section 3.10.7, RFC 5961),
as far as the captured packets tell.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final, TypeVar

from tapper.streams.connection import HalfConnection
from tapper.streams.packet import ACK, RST, TcpSegment
from tapper.streams.reassembly import FAR
from tapper.streams.sequence import MASK, difference, unwrap

T = TypeVar("T")

_SMALLEST_WINDOW: Final = 65_535
"""A smaller window counts as this one, because its last size may not have been captured."""


class SynVerdict(Enum):
    """What a SYN in a known connection is."""

    OWN = auto()
    """The connection's own SYN, perhaps repeated."""
    ANOTHER = auto()
    """The first segment of another connection with the same addresses and ports."""
    ASKED = auto()
    """The first segment of another connection, if the other end answers it."""
    IGNORED = auto()
    """A segment that its receiver ignores."""


def syn_verdict(half: HalfConnection[T], segment: TcpSegment) -> SynVerdict:
    """What this SYN is in the connection that `half` belongs to."""
    connection, stream, peer = half.connection, half.stream, half.peer
    answers = segment.flags & ACK
    # 1. A SYN-ACK that acknowledges something else than the SYN is refused (RFC 9293 section 3.10.7.3).
    if answers and stream.position < 0 and peer.stream.first is not None:
        early = 0 if connection.early is None else len(connection.early[2])
        if not 0 <= difference(segment.ack, peer.stream.first) <= early:
            return SynVerdict.IGNORED
    # 2. The same number again is a repetition. The first number of a side is its own.
    if stream.syn(segment.seq):
        return SynVerdict.OWN
    # 3. The ports are free again, or the SYN before was never answered.
    if connection.ended or (peer.stream.position < 0 and not answers):
        return SynVerdict.ANOTHER
    # 4. An open connection ignores the SYN and sends a challenge (RFC 5961 section 4.2). Only a host that does not know
    #    the connection answers with a SYN of its own.
    if not answers:
        return SynVerdict.ASKED
    if connection.reopening is not None:
        side, syn = connection.reopening
        if side == peer.side and 0 < difference(segment.ack, syn.seq) <= 1 + len(syn.payload):
            return SynVerdict.ANOTHER
    return SynVerdict.IGNORED


def resets(half: HalfConnection[T], segment: TcpSegment) -> bool:
    """Whether the receiver of this RST, sent by `half`, closes the connection. It does so only where the RST has
    exactly the next number that it expects (RFC 5961 section 3.2), or acknowledges a SYN that was not answered (RFC
    9293 section 3.10.7.3)."""
    sender, receiver = half.stream, half.peer
    if receiver.stream.position < 0 and sender.first is not None:
        return False  # the end that opens a connection and has no answer has nothing to reset
    if sender.position < 0:
        return bool(segment.flags & ACK) and segment.ack == receiver.stream.position & MASK
    return segment.seq == sender.position + sender.ended & MASK


def may_reset(half: HalfConnection[T], segment: TcpSegment) -> bool:
    """Whether the receiver of this RST, which `resets` has not accepted, closes the connection if it has bytes that
    were not captured, as its last acknowledgement says. Anybody may have sent both."""
    position, receiver = half.stream.position, half.peer
    if segment.seq != receiver.acked or (receiver.stream.position < 0 and half.stream.first is not None):
        return False
    return position < 0 or 0 < difference(receiver.acked, position & MASK) <= FAR


def refuses(half: HalfConnection[T], segment: TcpSegment) -> bool:
    """Whether this RST, which `resets` has accepted, answers the first SYN of a connection (RFC 9293 section
    3.10.7.1): the peer has sent nothing but its SYN."""
    opener = half.peer
    return (
        bool(segment.flags & ACK)
        and half.stream.position < 0
        and opener.stream.first is not None
        and opener.acked < 0
        and not opener.stream.carried
    )


def in_window(half: HalfConnection[T], seq: int, size: int) -> bool:
    """Whether these bytes of `half` are inside the receiver's window, or repeat bytes that it has."""
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
    return start <= edge + _window(receiver)


def _window(half: HalfConnection[T]) -> int:
    """How much `half` would accept, at least."""
    scale = half.scale if half.peer.scale else 0  # scaling needs the option in both SYNs (RFC 7323 section 2.2)
    return max(half.window << scale, _SMALLEST_WINDOW)


def is_recent(half: HalfConnection[T], ack: int) -> bool:
    """Whether bytes that `half` acknowledges up to this number may be its latest ones: its peer has sent them, no
    longer ago than a window of bytes (RFC 5961 section 5)."""
    peer = half.peer.stream
    behind = difference(peer.position & MASK, ack)
    return 0 <= behind <= (_window(half) if peer.first is None else min(_window(half), peer.position - peer.begin))


def is_refused(half: HalfConnection[T], segment: TcpSegment) -> bool:
    """Whether the receiver of this segment of `half` drops it with its payload, unless the ports belong to another
    connection now. Either it acknowledges bytes that the receiver cannot have sent, further ahead of the captured ones
    than any window reaches (RFC 9293 section 3.10.7.4), or bytes of long ago. Or it is older than the segments before
    it, as its timestamp says (RFC 7323 section 5.3; Linux lets one step pass)."""
    receiver = half.peer.stream
    if segment.flags & ACK and receiver.position >= 0:
        ahead = difference(segment.ack, receiver.position & MASK)
        if ahead > FAR or (ahead < 0 and not is_recent(half, segment.ack)):
            return True
    if not (segment.stamp and half.stamp):
        return False
    return difference(int.from_bytes(segment.stamp[4:], "big"), int.from_bytes(half.stamp[4:], "big")) < -1


def confirms_outside(half: HalfConnection[T], segment: TcpSegment) -> bool:
    """Whether a segment of `half` proves that the peer did send its last segment outside the window: it acknowledges
    the bytes of that segment; or it is outside the window itself and expects exactly these bytes."""
    if half.connection.outside is None or not segment.flags & ACK:
        return False
    side, outside = half.connection.outside
    if side == half.side or outside.flags & RST:
        return False
    reached = difference(segment.ack, outside.seq)
    if reached == 0 or is_refused(half.peer, outside):
        # The acknowledgement may be for true bytes with these numbers. So the numbers of `segment` itself have to show
        # another connection: the connection that the segment outside the window acknowledges.
        answers = abs(difference(segment.seq, outside.ack)) <= FAR
        return 0 <= reached <= FAR and answers and not in_window(half, segment.seq, len(segment.payload))
    return 0 < reached <= FAR

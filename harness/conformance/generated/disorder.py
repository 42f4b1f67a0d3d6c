"""A planned connection as frames, of which some are swapped, repeated or lost. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from harness.conformance.generated.plan import FIN, RST, Talk
from harness.conformance.generated.turns import Marked, Script
from harness.mesh.replay import DEFAULT_MSS, FrameMaker, ReplayLeg


@dataclass(frozen=True, slots=True)
class Framed:
    """The frames of a connection as they go on the wire."""

    frames: tuple[bytes, ...]
    marked: tuple[Marked, ...]
    """The exchanges that no loss can have touched; `whole_after` counts frames."""


def framed(talk: Talk, script: Script, leg: ReplayLeg, seed: str) -> Framed:
    """The frames of a connection. Its initial sequence numbers follow from the seed."""
    digest = hashlib.sha256(seed.encode()).digest()
    maker = FrameMaker(leg, client_isn=int.from_bytes(digest[:4], "big"), server_isn=int.from_bytes(digest[4:8], "big"))
    # 1. The segments with data, each with its side and the number of its turn.
    before = maker.handshake()
    segments = [
        (turn.side, number, frame)
        for number, turn in enumerate(script.turns)
        for frame in maker.data(turn.side, turn.data, talk.segments.cut or DEFAULT_MSS)
    ]
    after = _end(talk, maker)
    # 2. Swap, repeat and lose segments.
    sent = list(_sent(talk, segments))
    # 3. Mark the exchanges before the first loss, by the frame that completes them.
    delivered = {frame for _, frame in sent}
    first_lost = min((number for _, number, frame in segments if frame not in delivered), default=len(script.turns))
    marked = []
    for exchange in script.marked:
        if exchange.whole_after <= first_lost:
            last = max((at for at, (number, _) in enumerate(sent) if number < exchange.whole_after), default=-1)
            marked.append(replace(exchange, whole_after=len(before) + last + 1))
    return Framed((*before, *(frame for _, frame in sent), *after), tuple(marked))


def _sent(talk: Talk, segments: list[tuple[str, int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """The turn's number and the frame of every segment that is sent, in the order of sending."""
    how, at = talk.segments, 0
    while at < len(segments):
        side, number, frame = segments[at]
        rhythm = at + 1
        following = segments[at + 1] if at + 1 < len(segments) else None
        if how.lost and rhythm % how.lost == 0:
            at += 1
            continue
        if how.swapped and rhythm % how.swapped == 0 and following is not None and following[0] == side:
            yield following[1], following[2]
            at += 1
        yield number, frame
        if how.repeated and rhythm % how.repeated == 0:
            yield number, frame
        at += 1


def _end(talk: Talk, maker: FrameMaker) -> list[bytes]:
    if talk.close.how == FIN:
        return maker.fin(talk.close.side)
    return maker.rst(talk.close.side) if talk.close.how == RST else []

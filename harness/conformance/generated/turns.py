"""A connection's bytes in the order in which they pass, and what of them a tapper has to report. Pure records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from harness.conformance.generated.contents import pieces
from harness.conformance.generated.plan import PERMILLE, Close, Segmentation


@dataclass(frozen=True, slots=True)
class Turn:
    """The bytes that one side sends before anything else happens on the connection."""

    side: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Marked:
    """An exchange of a connection, as `harness.conformance.truth.Sent` needs it."""

    nonce: str
    method: str
    target: str
    status: int
    request_body: bytes
    response_body: bytes
    whole_after: int
    """How many turns it takes until all of it has passed."""


@dataclass(frozen=True, slots=True)
class Script:
    """All of a connection."""

    turns: tuple[Turn, ...]
    marked: tuple[Marked, ...]

    def until(self, close: Close) -> Script:
        """As far as it comes before its end: the last turn may be cut. What is not whole is not marked any more."""
        if close.after == PERMILLE:
            return self
        left = sum(len(turn.data) for turn in self.turns) * close.after // PERMILLE
        kept: list[Turn] = []
        for turn in self.turns:
            if left < len(turn.data):
                if left:
                    kept.append(replace(turn, data=turn.data[:left]))
                whole = len(kept) - bool(left)
                return Script(tuple(kept), tuple(each for each in self.marked if each.whole_after <= whole))
            left -= len(turn.data)
            kept.append(turn)
        return self

    def segmented(self, how: Segmentation) -> Script:
        """Cut and merged. What is marked stays marked by the turns as they are then."""
        runs = _runs(self.turns) if how.merged else [[turn] for turn in self.turns]
        turns: list[Turn] = []
        now_after = [0]  # how many new turns the first n old ones became
        for run in runs:
            data = b"".join(turn.data for turn in run)
            turns += [Turn(run[0].side, piece) for piece in (pieces(data, how.cut) if how.cut else [data])]
            now_after += [len(turns)] * len(run)
        return Script(
            tuple(turns), tuple(replace(each, whole_after=now_after[each.whole_after]) for each in self.marked)
        )


class ScriptWriter:
    """Collects turns and marks; empty turns are none."""

    def __init__(self) -> None:
        self._turns: list[Turn] = []
        self._marked: list[Marked] = []

    def says(self, side: str, data: bytes) -> None:
        if data:
            self._turns.append(Turn(side, data))

    def mark(self, marked: Marked) -> None:
        """All of it has passed by now."""
        self._marked.append(replace(marked, whole_after=len(self._turns)))

    def script(self) -> Script:
        return Script(tuple(self._turns), tuple(self._marked))


def _runs(turns: Iterable[Turn]) -> Sequence[list[Turn]]:
    """Turns in a row that one side says."""
    runs: list[list[Turn]] = []
    for turn in turns:
        if runs and runs[-1][0].side == turn.side:
            runs[-1].append(turn)
        else:
            runs.append([turn])
    return runs

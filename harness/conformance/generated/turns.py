"""The bytes of a connection in the order in which they pass, and the exchanges that a tapper has to report. Pure."""

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
    """The number of turns after which the exchange has passed completely."""


@dataclass(frozen=True, slots=True)
class Script:
    """All turns and exchanges of a connection."""

    turns: tuple[Turn, ...]
    marked: tuple[Marked, ...]

    def until(self, close: Close) -> Script:
        """The script up to the connection's end: the last turn may be cut, and incomplete exchanges are not marked."""
        if close.after == PERMILLE:
            return self
        left = sum(len(turn.data) for turn in self.turns) * close.after // PERMILLE
        kept: list[Turn] = []
        for turn in self.turns:
            if left < len(turn.data):
                if left:
                    kept.append(replace(turn, data=turn.data[:left]))
                whole = len(kept) - bool(left)
                return Script(tuple(kept), tuple(exchange for exchange in self.marked if exchange.whole_after <= whole))
            left -= len(turn.data)
            kept.append(turn)
        return self

    def segmented(self, how: Segmentation) -> Script:
        """The script with its turns merged and cut; `whole_after` counts the new turns."""
        runs = _runs(self.turns) if how.merged else [[turn] for turn in self.turns]
        turns: list[Turn] = []
        now_after = [0]  # how many new turns the first n old ones became
        for run in runs:
            data = b"".join(turn.data for turn in run)
            turns += [Turn(run[0].side, piece) for piece in (pieces(data, how.cut) if how.cut else [data])]
            now_after += [len(turns)] * len(run)
        return Script(
            tuple(turns), tuple(replace(marked, whole_after=now_after[marked.whole_after]) for marked in self.marked)
        )


class ScriptWriter:
    """Collects the turns and the exchanges of a script. Turns without bytes are left out."""

    def __init__(self) -> None:
        self._turns: list[Turn] = []
        self._marked: list[Marked] = []

    def says(self, side: str, data: bytes) -> None:
        if data:
            self._turns.append(Turn(side, data))

    def mark(self, marked: Marked) -> None:
        """Note that an exchange has passed completely."""
        self._marked.append(replace(marked, whole_after=len(self._turns)))

    def script(self) -> Script:
        return Script(tuple(self._turns), tuple(self._marked))


def _runs(turns: Iterable[Turn]) -> Sequence[list[Turn]]:
    """The turns in groups of consecutive turns of one side."""
    runs: list[list[Turn]] = []
    for turn in turns:
        if runs and runs[-1][0].side == turn.side:
            runs[-1].append(turn)
        else:
            runs.append([turn])
    return runs

"""Lines for a person who looks at a terminal: aligned columns in colour, as wide as the window is at that moment.

Rich does the colours and knows how many cells a character takes. It gets `Text` only: its markup is never interpreted,
and everything from the wire is made visible first, so that nothing in it can move the cursor.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.text import Text as Styled

from tapper.output.details import Part, parts
from tapper.output.escape import escape, printable
from tapper.output.records import Place
from tapper.output.text import Text, clock, fact_line, further, remarks, size
from tapper.protocols.exchange import Exchange
from tapper.protocols.records import ExchangeRecord, FactRecord
from tapper.streams.connection import Leg
from tapper.streams.legs import Direction

_DEFAULT_WIDTH = 80
_NARROWEST_TARGET = 20
_GAP = 2
_STYLES = {1: "cyan", 2: "green", 3: "cyan", 4: "yellow", 5: "bold red"}
_ARROWS = {
    Direction.INBOUND: ("→", "green"),
    Direction.OUTBOUND: ("←", "magenta"),
    Direction.LOCAL: ("↺", "blue"),
    Direction.NODE: ("~", "yellow"),
}
_PART_STYLES = {Part.START: "bold", Part.FIELD: "", Part.BODY: "", Part.REMARK: "dim italic"}


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    width: int
    """In cells."""
    right: bool = False


# In this order they stand; before `target` and after it.
_BEFORE = (
    _Column("time", 12),
    _Column("arrow", 1),
    _Column("pod", 15),
    _Column("peer", 21),
    _Column("method", 7),
)
_AFTER = (_Column("status", 3), _Column("size", 10, right=True), _Column("duration", 8, right=True), _Column("mtls", 5))
_DISPENSABLE = ("peer", "mtls", "size", "time", "pod", "duration")
"""What a narrow window does without, in this order."""


def window_width(descriptor: int) -> int:
    """The cells of the terminal that is open there, or what COLUMNS says, or 80."""
    try:
        width = os.get_terminal_size(descriptor).columns
    except OSError:
        width = 0  # no terminal: somebody wants the colours in a file
    said = os.environ.get("COLUMNS", "")
    return width or (int(said) if said.isascii() and said.isdigit() and int(said) else _DEFAULT_WIDTH)


class Terminal(Text):
    """The format for terminals. `width` is called for every line, so that the columns follow a resized window."""

    def __init__(self, width: Callable[[], int], *, colour: bool = True, verbose: bool = False) -> None:
        super().__init__(verbose=verbose)
        self._width = width
        system = "standard" if colour else None  # the 16 colours that a terminal's owner has chosen
        self._console = Console(
            color_system=system,  # type: ignore[arg-type] # what it accepts is spelled out there as literals
            force_terminal=True,
            highlight=False,
            emoji=False,
            markup=False,
            legacy_windows=False,
            no_color=not colour,
        )

    def exchange(self, place: Place, record: ExchangeRecord) -> str:
        leg, exchange = record.leg, record.exchange
        cells = _where(place, leg, exchange.ts) | _what(exchange)
        if leg.mtls is not None:
            cells["mtls"] = Styled("mTLS", "green") if leg.mtls else Styled("plain", "red")
        text = self._line(cells)
        if self._verbose:
            json = JSONHighlighter()
            for remark in remarks(leg, exchange):
                text.append(f"    * {remark}\n", "dim italic")
            for mark, part, line in parts(exchange):
                text.append_text(_detail(mark, part, line, json if _is_json(exchange, mark) else None))
        return self._rendered(text)

    def fact(self, place: Place, record: FactRecord) -> str:
        cells = _where(place, record.leg, record.fact.ts) | {"target": Styled(fact_line(record.fact))}
        return self._rendered(self._line(cells, through=True))

    def _rendered(self, text: Styled) -> str:
        with self._console.capture() as capture:
            self._console.print(text, end="", soft_wrap=True)
        return capture.get()

    def _line(self, cells: dict[str, Styled], *, through: bool = False) -> Styled:
        """The cells side by side; with `through`, the target takes the room of what would follow it."""
        width = self._width()
        before, after = list(_BEFORE), list(_AFTER)
        for name in _DISPENSABLE:
            room = width - sum(column.width + _GAP for column in (*before, *after))
            if room >= _NARROWEST_TARGET:
                break
            before = [column for column in before if column.name != name]
            after = [column for column in after if column.name != name]
        if through:
            before, after = [column for column in before if column.name != "method"], []
        room = max(1, width - sum(column.width + _GAP for column in (*before, *after)))
        line = Styled()
        for column in (*before, _Column("target", room), *after):
            cell = cells.get(column.name, Styled())
            cell.truncate(column.width, overflow="ellipsis")
            blank = " " * (column.width - cell.cell_len)
            line.append(blank if column.right else "").append_text(cell).append("" if column.right else blank)
            line.append(" " * _GAP)
        line.rstrip()
        return line.append("\n")


def _where(place: Place, leg: Leg, ts: int) -> dict[str, Styled]:
    arrow, style = _ARROWS[leg.direction]
    name = place.pods.get(leg.pod_ip or "")
    ours_asks = leg.direction is Direction.OUTBOUND or leg.src.host == leg.pod_ip
    return {
        "time": Styled(clock(ts), "dim"),
        "arrow": Styled(arrow, style),
        "pod": Styled((leg.pod_ip or "-") if name is None else printable(name.name), "bold"),
        "peer": Styled(str(leg.dst if ours_asks else leg.src), "dim"),
    }


def _what(exchange: Exchange) -> dict[str, Styled]:
    cells: dict[str, Styled] = {}
    request, response = exchange.request, exchange.response
    if request is None:
        cells["target"] = Styled("(request not seen)", "dim italic")
    else:
        cells["method"] = Styled(escape(request.head.method or "?"), "bold")
        cells["target"] = Styled(printable(request.head.target or "?"))
    more = further(exchange)
    if response is None:
        cells["status"] = Styled("-", "dim")  # stays where a narrow window cuts off the words
        more = "  (no response seen)" + more
    else:
        status = response.head.status
        cells["status"] = Styled(str(status or "?"), _STYLES.get(status // 100, ""))
        cells["size"] = Styled(size(response.end.size) + ("+" if response.end.truncated else ""), "cyan")
    cells["target"].append(more, "dim")
    if exchange.duration is not None:
        milliseconds = exchange.duration / 1e6
        text = f"{milliseconds:.1f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"
        cells["duration"] = Styled(text, "dim")
    return cells


def _is_json(exchange: Exchange, mark: str) -> bool:
    message = exchange.request if mark == ">" else exchange.response
    return message is not None and "json" in (message.head.fields.get("content-type") or "").lower()


def _detail(mark: str, part: Part, line: str, json: JSONHighlighter | None) -> Styled:
    body = Styled(line, _PART_STYLES[part])
    if part is Part.FIELD:
        body.stylize("cyan", 0, line.find(":"))
    elif part is Part.BODY and json is not None:
        json.highlight(body)
    text = Styled("    ").append(mark, "magenta" if mark == ">" else "green")
    return text.append(" " if line else "").append_text(body).append("\n")

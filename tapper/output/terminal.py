"""Lines for a person at a terminal: aligned columns in colour, as wide as the window is at that moment.

Rich makes the colours and knows how many cells a character takes. It gets `Text` only, so that it interprets no markup,
and everything from the wire is escaped first, so that nothing in it can move the cursor. Rich's `Table` is not used: it
needs all rows before it can print one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection

from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.text import Text as Styled

from tapper.output.details import LineKind, detail_lines
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
_PART_STYLES = {LineKind.START: "bold", LineKind.FIELD: "", LineKind.BODY: "", LineKind.REMARK: "dim italic"}


# The widths in cells. The target has the rest of the line.
_COLUMNS = {"time": 12, "arrow": 1, "pod": 15, "peer": 21, "method": 7, "target": 0}
_COLUMNS |= {"status": 3, "size": 10, "duration": 8, "mtls": 5}
_RIGHT = ("size", "duration")
_OF_FACTS = ("time", "arrow", "pod", "peer", "target")
_DISPENSABLE = ("peer", "mtls", "size", "time", "pod", "duration")
"""Columns that a narrow window lacks, in the order in which they are left out."""


def window_width(descriptor: int) -> int:
    """The width of the terminal that is open there, in cells; else the variable COLUMNS, or 80."""
    try:
        width = os.get_terminal_size(descriptor).columns
    except OSError:
        width = 0  # a file or a pipe, with --colour always
    columns = os.environ.get("COLUMNS", "")
    return width or (int(columns) if columns.isascii() and columns.isdigit() and int(columns) else _DEFAULT_WIDTH)


class Terminal(Text):
    """The format for terminals. `width` is called for every line, so that the columns follow a resized window."""

    def __init__(self, width: Callable[[], int], *, colour: bool = True, verbose: bool = False) -> None:
        super().__init__(verbose=verbose)
        self._width = width
        system = "standard" if colour else None  # the 16 colours, which people choose for their terminals
        self._console = Console(
            color_system=system,  # type: ignore[arg-type] # rich declares the names as literals
            force_terminal=True,
            highlight=False,
            emoji=False,
            markup=False,
            legacy_windows=False,
            no_color=not colour,
        )

    def exchange(self, place: Place, record: ExchangeRecord) -> str:
        leg, exchange = record.leg, record.exchange
        cells = _where(place, leg, exchange.ts) | _messages(exchange)
        if leg.mtls is not None:
            cells["mtls"] = Styled("mTLS", "green") if leg.mtls else Styled("plain", "red")
        text = self._line(cells)
        if self._verbose:
            json = JSONHighlighter()
            for remark in remarks(leg, exchange):
                text.append(f"    * {remark}\n", "dim italic")
            for mark, part, line in detail_lines(exchange):
                text.append_text(_detail(mark, part, line, json if _is_json(exchange, mark) else None))
        return self._rendered(text)

    def fact(self, place: Place, record: FactRecord) -> str:
        cells = _where(place, record.leg, record.fact.ts) | {"target": Styled(fact_line(record.fact))}
        return self._rendered(self._line(cells, _OF_FACTS))

    def _rendered(self, text: Styled) -> str:
        with self._console.capture() as capture:
            self._console.print(text, end="", soft_wrap=True)
        return capture.get()

    def _line(self, cells: dict[str, Styled], columns: Collection[str] = _COLUMNS) -> Styled:
        # 1. What a narrow window leaves out. All kinds of lines leave out the same, so that columns stay below another.
        width = self._width()
        shown = dict(_COLUMNS)
        for name in _DISPENSABLE:
            if _room(width, shown) >= _NARROWEST_TARGET:
                break
            del shown[name]
        # 2. The cells, each as wide as its column.
        shown = {name: room for name, room in shown.items() if name in columns}
        shown["target"] = max(1, _room(width, shown))
        line = Styled()
        for name, room in shown.items():
            cell = cells.get(name, Styled())
            cell.truncate(room, overflow="ellipsis")
            blank = " " * (room - cell.cell_len)
            line.append(blank if name in _RIGHT else "").append_text(cell).append("" if name in _RIGHT else blank)
            line.append(" " * _GAP)
        line.rstrip()
        return line.append("\n")


def _room(width: int, columns: dict[str, int]) -> int:
    """Cells that the columns leave to the target."""
    return width + _GAP - sum(other + _GAP for other in columns.values())


def _where(place: Place, leg: Leg, ts: int) -> dict[str, Styled]:
    arrow, style = _ARROWS[leg.direction]
    name = place.pods.get(leg.pod_ip or "")
    pod_is_client = leg.direction is Direction.OUTBOUND or leg.src.host == leg.pod_ip
    return {
        "time": Styled(clock(ts), "dim"),
        "arrow": Styled(arrow, style),
        "pod": Styled((leg.pod_ip or "-") if name is None else printable(name.name), "bold"),
        "peer": Styled(str(leg.dst if pod_is_client else leg.src), "dim"),
    }


def _messages(exchange: Exchange) -> dict[str, Styled]:
    cells: dict[str, Styled] = {}
    request, response = exchange.request, exchange.response
    if request is None:
        cells["target"] = Styled("(request not seen)", "dim italic")
    else:
        cells["method"] = Styled(escape(request.head.method or "?"), "bold")
        cells["target"] = Styled(printable(request.head.target or "?"))
    more = further(exchange)
    if response is None:
        cells["status"] = Styled("-", "dim")  # a narrow window cuts off the words
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


def _detail(mark: str, part: LineKind, line: str, json: JSONHighlighter | None) -> Styled:
    body = Styled(line, _PART_STYLES[part])
    if part is LineKind.FIELD:
        body.stylize("cyan", 0, line.find(":"))
    elif part is LineKind.BODY and json is not None:
        json.highlight(body)
    text = Styled("    ").append(mark, "magenta" if mark == ">" else "green")
    return text.append(" " if line else "").append_text(body).append("\n")

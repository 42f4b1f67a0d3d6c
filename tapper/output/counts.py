"""The counts of all sources as a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tapper.output.escape import escape
from tapper.output.records import Row
from tapper.targets.pods import PodName

_COLUMNS = (
    "POD",
    "INTERFACE",
    "NETNS",
    "PACKETS",
    "DROPPED",
    "CUT",
    "GAPS",
    "MISSING",
    "EXCHANGES",
    "INCOMPLETE",
    "GIVEN UP",
    "NOT DECODED",
    "NAME",
)
_TO_THE_RIGHT = range(3, 11)
_NOT_COUNTED = ("-",) * 5  # the node's packets, drops and gaps are not counted by pod


def table(rows: Iterable[Row], forgotten: int) -> list[str]:
    """The lines of the table: one for each source, and below the node's source one for each pod that was seen there.

    Only exchanges are counted by pod. `forgotten` is the number of sources that the table lacks. The table is empty if
    there are no sources.
    """
    cells = [cell for row in sorted(rows, key=_order) for cell in _cells(row)]
    if not cells:
        return []
    lines = [_COLUMNS, *cells]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_COLUMNS))]
    shown = [
        "  ".join(
            cell.rjust(width) if column in _TO_THE_RIGHT else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    if forgotten:
        shown.append(f"{forgotten} more that were closed before: only the totals have them")
    return shown


def _order(row: Row) -> tuple[str, str, int]:
    """The sort key: the node comes first, then pods by their addresses as text."""
    place = row.place
    return place.instance_ip or "", place.interface, place.netns or 0


def _cells(row: Row) -> Iterator[tuple[str, ...]]:
    place, counts = row.place, row.counts
    where = (escape(place.interface), "-" if place.netns is None else str(place.netns))
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.undecoded.items())) or "-"
    own = place.instance_ip
    numbers = (counts.received, counts.dropped, counts.cut, counts.gaps, counts.gap_bytes)
    yield (
        own or "-",
        *where,
        *map(str, (*numbers, counts.exchanges, counts.incomplete, counts.given_up)),
        kinds,
        _name(place.pods.get(own or "")),
    )
    if own is not None:
        return
    pods: dict[tuple[str, str], list[int]] = {}
    for leg, seen in row.legs.items():
        if leg.pod_ip is not None:
            sums = pods.setdefault((leg.pod_ip, _name(leg.name)), [0, 0])
            sums[0] += seen.exchanges
            sums[1] += seen.incomplete
    for (address, name), sums in sorted(pods.items()):
        yield (address, *where, *_NOT_COUNTED, *map(str, sums), "-", "-", name)


def _name(name: PodName | None) -> str:
    return "" if name is None else escape(f"{name.namespace}/{name.name}")

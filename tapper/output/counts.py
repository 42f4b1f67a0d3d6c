"""The counts of every source as a table for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tapper.output.columns import columns
from tapper.output.escape import escape
from tapper.output.records import Row
from tapper.targets.pods import PodName

_WHERE = ("POD", "INTERFACE", "NETNS")
_NUMBERS = ("PACKETS", "DROPPED", "CUT", "GAPS", "MISSING", "EXCHANGES", "INCOMPLETE", "GIVEN UP")
_HEAD = (*_WHERE, *_NUMBERS, "NOT DECODED", "NAME")
_NOT_COUNTED = ("-",) * 5  # packets, drops and gaps are not counted by pod on the node's interfaces


def table(rows: Iterable[Row], forgotten: int) -> list[str]:
    """A line for each source, and under the node's a line for each pod that was seen there. `forgotten` is how many
    closed sources the table lacks. No sources, no lines."""
    cells = [cell for row in sorted(rows, key=_order) for cell in _cells(row)]
    if not cells:
        return []
    lines = columns([_HEAD, *cells], right=range(len(_WHERE), len(_WHERE) + len(_NUMBERS)))
    if forgotten:
        lines.append(f"{forgotten} more that were closed before: only the totals have them")
    return lines


def _order(row: Row) -> tuple[str, str, int]:
    """The node first, then pods by their addresses as text."""
    place = row.place
    return place.instance_ip or "", place.interface, place.netns or 0


def _cells(row: Row) -> Iterator[tuple[str, ...]]:
    # 1. The source.
    place, counts = row.place, row.counts
    where = (escape(place.interface), "-" if place.netns is None else str(place.netns))
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.undecoded.items())) or "-"
    packets = (counts.received, counts.dropped, counts.cut, counts.gaps, counts.gap_bytes)
    numbers = map(str, (*packets, counts.exchanges, counts.incomplete, counts.given_up))
    name = _name(place.pods.get(place.instance_ip or ""))
    yield (place.instance_ip or "-", *where, *numbers, kinds, name)
    if place.instance_ip is not None:
        return
    # 2. On the node's interfaces: the exchanges of each pod, of both directions.
    sums: dict[tuple[str, str], list[int]] = {}
    for leg, seen in row.legs.items():
        if leg.pod_ip is not None:
            pod = sums.setdefault((leg.pod_ip, _name(leg.name)), [0, 0])
            pod[0] += seen.exchanges
            pod[1] += seen.incomplete
    for (address, name), (exchanges, incomplete) in sorted(sums.items()):
        yield (address, *where, *_NOT_COUNTED, str(exchanges), str(incomplete), "-", "-", name)


def _name(name: PodName | None) -> str:
    return "" if name is None else escape(f"{name.namespace}/{name.name}")

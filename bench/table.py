"""A run as tables in Markdown, padded so that they are readable on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from bench.goals import Goal, forms, goals, goals_of_curves
from bench.measure import Measurement
from bench.peers import PEERS
from bench.profile import by_concept, by_function
from bench.result import Result

_BUSIEST = 15
_DECODES = {peer.name: peer.decodes for peer in PEERS}


def markdown(rows: Iterable[Sequence[str]], heads: Sequence[str], numbers: Sequence[int] = ()) -> str:
    """A table with padded columns. The columns in `numbers` are aligned to the right."""
    lines = [list(heads), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]

    def shown(line: Sequence[str]) -> str:
        cells = [
            cell.rjust(width) if column in numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        return "| " + " | ".join(cells) + " |"

    rule = [("-" * (width - 1) + ":") if column in numbers else "-" * width for column, width in enumerate(widths)]
    return "\n".join([shown(lines[0]), shown(rule), *map(shown, lines[1:])]) + "\n"


def summary(result: Result, workload: str) -> str:
    """The table of one workload: a line for each peer with the medians of its rounds, the cheapest first. A sentence
    below gives the reason of each failed measurement."""
    peers = list(dict.fromkeys(each.peer for each in result.measurements if each.workload == workload))
    good = {peer: result.of(workload, peer) for peer in peers}
    rows = [
        _row(peer, found)
        for peer, found in sorted(good.items(), key=lambda item: median(each.per_10k for each in item[1] or [_NEVER]))
        if found
    ]
    heads = ("peer", "CPU s/10k", "relative", "seen", "false reports", "dropped", "memory MiB", "requests", "at /s")
    text = markdown(_against_the_tapper(rows), (*heads, "output contains"), numbers=range(1, 9))
    for measurement in result.measurements:
        if measurement.workload == workload and measurement.died is not None:
            text += f"\n{measurement.peer} gave no number: {' '.join(measurement.died.split())}\n"
    return text


_NEVER = Measurement("", "")


def _row(peer: str, found: list[Measurement]) -> list[str]:
    shares = [each.share for each in found if each.share is not None]
    drops = [each.dropped for each in found if each.dropped is not None]
    return [
        peer,
        f"{median(each.per_10k for each in found):.3f}",
        "",
        f"{min(shares) * 100:.1f} %" if shares else "-",
        str(max(each.invented for each in found)) if shares else "-",
        str(max(drops)) if drops else "-",
        f"{median(each.pss_kib for each in found) / 1024:.1f}",
        str(found[0].requests) + (f" x {len(found)}" if len(found) > 1 else ""),
        f"{median(each.rate for each in found):.0f}",
        _DECODES.get(peer, ""),
    ]


def _against_the_tapper(rows: list[list[str]]) -> list[list[str]]:
    own = next((float(row[1]) for row in rows if row[0] == "tapper"), 0.0)
    for row in rows:
        row[2] = f"{float(row[1]) / own:.2f}" if own else "-"
    return rows


def rates_without_loss(result: Result) -> list[tuple[str, float | None, float | None]]:
    """For each peer that was measured at several rates of plain HTTP/1.1, 500 B: the highest rate without any loss, and
    the lowest rate with a loss, in exchanges a second. None: there is no such rate."""
    rates: dict[str, dict[str, list[Measurement]]] = {}
    for each in result.measurements:
        if each.workload.startswith("500 B") and each.seen is not None and each.died is None:
            rates.setdefault(each.peer, {}).setdefault(each.workload, []).append(each)
    rows: list[tuple[str, float | None, float | None]] = []
    for peer, workloads in rates.items():
        if len(workloads) < 2:
            continue
        good = {name: min(m.rate for m in found) for name, found in workloads.items() if all(map(_whole, found))}
        bad = [min(m.rate for m in found) for name, found in workloads.items() if name not in good]
        rows.append((peer, max(good.values(), default=None), min(bad, default=None)))
    return sorted(rows, key=lambda row: -(row[1] or 0.0))


def highest_rates(result: Result) -> str:
    """The rates without loss as a table, the best peer first."""
    rows = [
        (peer, *("none" if rate is None else f"{rate:.0f}" for rate in rates))
        for peer, *rates in rates_without_loss(result)
    ]
    return markdown(rows, ("peer", "highest rate without loss, /s", "lowest with loss, /s"), numbers=[1, 2])


def _whole(measurement: Measurement) -> bool:
    return measurement.seen == measurement.requests


def goals_tables(result: Result) -> str:
    """Each goal with its measured value and verdict: a table for each form of the tapper, and one for the curves."""
    parts = [_goals(form, goals(result, form)) for form in forms(result)]
    return "\n".join([*parts, _goals("in either form", goals_of_curves(result))])


def _goals(form: str, these: Iterable[Goal]) -> str:
    rows = []
    for goal in these:
        limit = f"{'at most' if goal.at_most else 'at least'} {goal.limit:g} {goal.unit}".rstrip()
        value = "-" if goal.value is None else f"{goal.value:.4g} {goal.unit}".rstrip()
        rows.append((goal.name, limit, value, goal.verdict))
    return markdown(rows, ("goal", form, "measured", ""), numbers=[2])


def curves(result: Result) -> str:
    """The points of the curves."""
    rows = [(point.series, f"{point.x:g}", f"{point.y:.4g}", point.unit) for point in result.points]
    return markdown(rows, ("series", "at", "measured", "unit"), numbers=[1, 2])


def profiled(result: Result) -> str:
    """Shares of the samples: of the tapper's folders, and of its busiest functions."""
    samples = sum(result.profile.values())
    folders = [(name, f"{share * 100:.1f} %") for name, share in by_concept(result.profile).items()]
    functions = [(name, f"{share * 100:.1f} %") for name, share in by_function(result.profile, _BUSIEST).items()]
    return (
        f"{samples} samples of the plain form under 500 B, 5000/s.\n\n"
        + markdown(folders, ("concept", "share"), numbers=[1])
        + "\n"
        + markdown(functions, ("function", "share"), numbers=[1])
    )


def everything(result: Result) -> str:
    """All tables, each under its heading."""
    parts = []
    for workload in dict.fromkeys(each.workload for each in result.measurements):
        parts.append(f"### {workload}\n\n{summary(result, workload)}")
    if any(each.workload.startswith("500 B") for each in result.measurements):
        parts.append(f"### Highest rate without loss\n\n{highest_rates(result)}")
    if result.points:
        parts.append(f"### As something grows\n\n{curves(result)}")
    if result.profile:
        parts.append(f"### Where the time goes\n\n{profiled(result)}")
    parts += [f"Not measured: {problem}\n" for problem in result.problems]
    parts.append(f"### Goals\n\n{goals_tables(result)}")
    return "\n".join(parts)

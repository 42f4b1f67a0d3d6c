"""The run as a picture: cost of each peer, cost against request rate, and the curves."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from bench import rounds, scaling
from bench.peers import PURE, TAPPER, WITHOUT_FAST
from bench.result import Result

_CURVES = (scaling.IDLE, scaling.SCAN_NEWS, scaling.TARGETS, scaling.MEMORY)


def draw(result: Result, path: Path) -> None:
    """Write a PNG."""
    import matplotlib as mpl  # noqa: PLC0415 - a slow import, only needed here

    mpl.use("Agg")  # no display
    from matplotlib import pyplot, ticker  # noqa: PLC0415

    figure, ((costs, rates), *others) = pyplot.subplots(3, 2, figsize=(12, 12), layout="constrained")
    peers = list(dict.fromkeys(each.peer for each in result.measurements))
    base = {peer: result.of(rounds.BASE, peer) for peer in peers}
    medians = sorted(((median(m.per_10k for m in found), peer) for peer, found in base.items() if found), reverse=True)
    colours = ["tab:orange" if peer in (TAPPER, PURE, WITHOUT_FAST) else "tab:blue" for _, peer in medians]
    bars = costs.barh([peer for _, peer in medians], [cost for cost, _ in medians], color=colours)
    costs.bar_label(bars, fmt="%.3g", padding=3)
    costs.set(xscale="log", xlabel="CPU seconds for 10,000 requests", title=rounds.BASE)
    costs.margins(x=0.2)
    for peer in peers:
        done = [m for m in result.measurements if m.peer == peer and m.workload.startswith("500 B") and m.died is None]
        points = sorted(
            (median(m.rate for m in done if m.workload == each), median(m.per_10k for m in done if m.workload == each))
            for each in {m.workload for m in done}
        )
        if len(points) > 1:
            rates.plot(*zip(*points, strict=True), marker="o", label=peer)
    rates.set(xscale="log", yscale="log", xlabel="requests a second", ylabel="CPU seconds for 10,000", title="by rate")
    rates.xaxis.set_minor_formatter(ticker.NullFormatter())  # the labels of minor ticks overlap
    if rates.has_data():
        rates.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    for axes, series in zip([each for row in others for each in row], _CURVES, strict=True):
        found = [(point.x, point.y) for point in result.points if point.series == series]
        if found:
            axes.plot(*zip(*found, strict=True), marker="o", color="tab:orange")
        highest = max((y for _, y in found), default=1.0)
        axes.set(title=series, ylabel=scaling.UNITS[series], ylim=(0, highest * 1.15 or 1.0))
    pyplot.rcParams["svg.hashsalt"] = "bench"
    figure.savefig(path, dpi=80)
    pyplot.close(figure)

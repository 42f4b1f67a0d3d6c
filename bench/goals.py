"""The goals, computed from one run: ratios of medians, shares, and values of the curves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from bench import rounds, scaling
from bench.peers import PURE, TAPPER, is_compiled
from bench.result import Result


@dataclass(frozen=True, slots=True)
class Goal:
    """A measured value and its limit. `value` None: not measured in this run. `at_most`: it is an upper limit."""

    name: str
    value: float | None
    limit: float
    at_most: bool
    unit: str = ""

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        met = self.value <= self.limit if self.at_most else self.value >= self.limit
        return "pass" if met else "miss"


def forms(result: Result) -> dict[str, str]:
    """The forms of the tapper that have goals, each with the name of its peer."""
    if is_compiled(result.versions.get(TAPPER, "")):
        return {"compiled": TAPPER} | ({"pure Python": PURE} if PURE in result.versions else {})
    return {"pure Python": TAPPER}


def goals(result: Result, form: str) -> Iterator[Goal]:
    """The goals of one form: the cost of decoding, and the share of exchanges that the tapper sees."""
    fast = form == "compiled"
    tapper = forms(result)[form]

    def cost(peer: str, workload: str = rounds.BASE) -> float | None:
        found = [measurement.per_10k for measurement in result.of(workload, peer)]
        return median(found) if found else None

    def dearer(peer: str, limit: float, workload: str = rounds.BASE) -> Goal:
        """The other peer's cost divided by the tapper's."""
        own, other = cost(tapper, workload), cost(peer, workload)
        where = "" if workload == rounds.BASE else f" ({workload})"
        return Goal(f"{peer} against the tapper{where}", _ratio(other, own), limit, at_most=False, unit="x")

    for peer, limit in (("tcpdump -w", 3.0 if fast else 8.0), ("httpry", 1.0 if fast else 2.2)):
        yield Goal(f"the tapper against {peer}", _ratio(cost(tapper), cost(peer)), limit, at_most=True, unit="x")
    yield dearer("tshark ek", 45.0 if fast else 19.0)
    yield dearer("gopacket", 5.0 if fast else 1.0)
    yield dearer("suricata", 5.0 if fast else 1.0)
    yield dearer("tshark fields", 6.0 if fast else 3.0, rounds.HTTP2)
    for workload, limit in ((rounds.UNHURRIED, 100.0), (rounds.HIGHEST, 99.9)):
        shares = [each.share for each in result.of(workload, tapper) if each.share is not None]
        lowest = min(shares) * 100 if shares else None
        yield Goal(f"seen at {workload}", lowest, limit, at_most=False, unit="%")
    memory = [each.pss_kib / 1024 for each in result.of(rounds.BASE, tapper)]
    yield Goal("memory without rings", median(memory) if memory else None, 40.0, at_most=True, unit="MiB")


def goals_of_curves(result: Result) -> Iterator[Goal]:
    """The goals of the curves, which are measured in the form that the tapper chooses by itself."""
    yield _figure(result, "seen after a forced gap", scaling.GAP, None, 99.0, at_most=False)
    yield _figure(result, "growth of memory over the last four fifths of a long run", scaling.GROWTH, None, 5.0)
    yield _figure(result, "opening 250 namespaces", scaling.OPENING, 250, 1.0)
    yield _figure(result, "250 idle namespaces", scaling.IDLE, 250, 1.0)
    yield _figure(result, "a scan of 5,000 processes, nothing new", scaling.SCAN, 5000, 10.0)
    yield _figure(result, "a scan of 5,000 processes, where others begin", scaling.SCAN_NEWS, 5000, 10.0)


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def _figure(result: Result, name: str, series: str, x: float | None, limit: float, *, at_most: bool = True) -> Goal:
    point = result.point(series, x)
    unit = scaling.UNITS[series]
    return Goal(name, None if point is None else point.y, limit, at_most, unit)

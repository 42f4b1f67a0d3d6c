"""The result of a run in a few sentences."""

from __future__ import annotations

from statistics import median

from bench import rounds, scaling, table
from bench.goals import forms
from bench.peers import PURE, TAPPER, WITHOUT_FAST
from bench.result import Result

_CHEAPER = "tcpdump -w"
"""The peer that only copies packets to a file: no program that decodes can cost less."""
_DEARER = ("tshark fields", "tshark ek")


def in_short(result: Result) -> str:
    """One paragraph. It leaves out sentences whose figures the run did not measure, so it may be empty."""
    sentences = (_cost(result), _loss(result), _memory(result), _form(result), _fast_parts(result))
    return " ".join(sentence for sentence in sentences if sentence)


def _seconds(result: Result, peer: str) -> float | None:
    """CPU seconds for 10,000 exchanges of the base workload, the median of the rounds; None if not measured."""
    found = [measurement.per_10k for measurement in result.of(rounds.BASE, peer)]
    return median(found) if found else None


def _cost(result: Result) -> str:
    own = _seconds(result, TAPPER)
    if not own:
        return ""
    sentences = [
        f"To decode 10,000 small HTTP/1.1 exchanges at 1,500 a second the tapper takes {own:.3f} s of processor time."
    ]
    copying = _seconds(result, _CHEAPER)
    if copying:
        sentences.append(f"That is {own / copying:.1f} times what `{_CHEAPER}` takes to copy the packets to a file.")
    for peer in _DEARER:
        other = _seconds(result, peer)
        if other:
            sentences.append(f"`{peer}` takes {other / own:.0f} times as much as the tapper.")
    return " ".join(sentences)


def _loss(result: Result) -> str:
    for peer, without, with_loss in table.rates_without_loss(result):
        if peer != TAPPER or without is None:
            continue
        if with_loss is None:
            return f"The tapper lost nothing at any rate that was tried, up to {without:,.0f} exchanges a second."
        return f"The tapper lost nothing up to {without:,.0f} exchanges a second, and something at {with_loss:,.0f}."
    return ""


def _memory(result: Result) -> str:
    held = [measurement.pss_kib / 1024 for measurement in result.of(rounds.BASE, TAPPER)]
    if not held:
        return ""
    growth = result.point(scaling.GROWTH)
    more = "" if growth is None else "no more" if growth.y < 0.5 else f"{growth.y:.0f} % more"
    grows = f", and {more} after {growth.x:,.0f} exchanges" if growth else ""
    return f"It holds {median(held):.0f} MiB of memory without its capture rings{grows}."


def _form(result: Result) -> str:
    own, plain = _seconds(result, TAPPER), _seconds(result, PURE)
    if "compiled" not in forms(result) or not own or not plain:
        return ""
    return f"These are figures of the compiled form; plain Python takes {plain / own:.1f} times the processor time."


def _fast_parts(result: Result) -> str:
    own, without = _seconds(result, TAPPER), _seconds(result, WITHOUT_FAST)
    if not own or not without:
        return ""
    return f"Without the folder tapper/fast the tapper takes {without / own:.1f} times the processor time."

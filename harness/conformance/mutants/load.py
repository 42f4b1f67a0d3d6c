"""Broken by much of everything."""

from __future__ import annotations

from collections.abc import Iterable

from harness.conformance.mutants.model import Mutant
from tapper.capture import bpf
from tapper.capture.bpf import Instruction
from tapper.capture.mapped import Statistics
from tapper.capture.memory import RingMemory
from tapper.capture.ring import Ring
from tapper.streams.connection import Scope
from tapper.streams.legs import Endpoint

_MOST_PODS = 150


def _hide_drops() -> None:
    statistics = Ring.statistics
    Ring.statistics = lambda self: Statistics(statistics(self).received, 0)  # type: ignore[method-assign]


def _shrink_the_ring() -> None:
    RingMemory.first = lambda _: 2  # type: ignore[method-assign,assignment]
    RingMemory.more = lambda *_: 0  # type: ignore[method-assign]


def _give_up_filtering() -> None:
    program, covers = bpf.program, Scope.covers

    def wide_program(addresses: Iterable[bytes] | None = None) -> tuple[Instruction, ...]:
        addresses = None if addresses is None else list(addresses)
        return program(None if addresses is None or len(addresses) > _MOST_PODS else addresses)

    def wide_scope(self: Scope, source: Endpoint, destination: Endpoint) -> bool:
        return len(self.targets or ()) > _MOST_PODS or covers(self, source, destination)

    bpf.program = wide_program
    Scope.covers = wide_scope  # type: ignore[method-assign]


NO_DROPS = Mutant("hides-drops", "It never tells what the kernel dropped.", {"LOAD-01": "seen: 0"}, _hide_drops)
SMALL_RING = Mutant(
    "small-ring", "Its buffer holds a quarter of a mebibyte.", {"LOAD-03": "not at all"}, _shrink_the_ring
)
WIDENS = Mutant(
    "widens",
    "Above 150 targets its filter lets everything through, as a real tapper's does.",
    {"LOAD-02": "plain-server"},
    _give_up_filtering,
)

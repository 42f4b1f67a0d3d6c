"""Broken by much of everything."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from harness.conformance.mutants.model import Mutant
from tapper.capture import bpf
from tapper.capture.bpf import Instruction
from tapper.capture.mapped import SMALLEST_BLOCK, Statistics
from tapper.capture.memory import RingMemory
from tapper.capture.ring import Ring
from tapper.output.ndjson import Ndjson
from tapper.streams.bounds import Limits
from tapper.streams.connection import Scope
from tapper.streams.legs import Endpoint

_MOST_PODS = 150


def _hide_drops() -> None:
    statistics = Ring.statistics
    Ring.statistics = lambda self: Statistics(statistics(self).received, 0)  # type: ignore[method-assign]


def _shrink_the_ring() -> None:
    RingMemory.first = lambda _: 2 * SMALLEST_BLOCK  # type: ignore[method-assign,assignment]
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


def _count_too_much() -> None:
    whole = Ndjson.bye

    def bye(self: Ndjson, totals: Any) -> str:
        return json.dumps(json.loads(whole(self, totals)) | {"dropped": 10**9}) + "\n"

    Ndjson.bye = bye  # type: ignore[method-assign]


COUNTS_TOO_MUCH = Mutant(
    "counts-too-much",
    "It tells of more drops than there can have been.",
    {"LOAD-01": "no more drops told"},
    _count_too_much,
)


def _few_connections() -> None:
    whole = Limits.__init__

    def made(self: Limits, **given: int) -> None:
        whole(self, **({"connections": 500} | given))

    Limits.__init__ = made  # type: ignore[method-assign,assignment]


FEW_CONNECTIONS = Mutant(
    "few-connections",
    "It follows five hundred connections at a time, as mizu does.",
    {"LOAD-04": "not at all|with its answer"},
    _few_connections,
)

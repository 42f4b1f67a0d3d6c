"""Broken in where and how packets are captured."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from harness.conformance.mutants.model import Fault, Mutant
from harness.conformance.mutants.reasons import LOST, OUT_OF_STEP, UNFOUND
from tapper.capture import bpf, mapped, walk
from tapper.capture.bpf import Instruction
from tapper.capture.mapped import SMALLEST_BLOCK
from tapper.capture.memory import RingMemory
from tapper.follow import follower as following
from tapper.namespaces.enter import Visit
from tapper.streams.connection import Scope
from tapper.streams.legs import Endpoint

_MOST_PODS = 150
_SOL_PACKET, _PACKET_FANOUT = 263, 18  # linux/socket.h, linux/if_packet.h
_GROUP = 77  # PACKET_FANOUT_HASH, which is 0, stands in the upper half


def _look_at_the_wire() -> None:
    whole = following.open_ring  # type: ignore[attr-defined]
    following.open_ring = lambda _interface, *rest: whole("eth0", *rest)  # type: ignore[attr-defined]


CIPHERTEXT = Mutant(
    "ciphertext",
    "In a pod's namespace it captures on eth0, where there is nothing but ciphertext.",
    {"CAP-01": "a request inside pod"},
    Fault(patches=(_look_at_the_wire,)),
)


def _stay_outside() -> None:
    def each(visits: Sequence[Visit[Any]], _threads: int) -> list[Any]:
        return [visit.function() for visit in visits]

    following.run_inside_each = each  # type: ignore[assignment,attr-defined]


OUTSIDE = Mutant(
    "outside",
    "It never enters a namespace, and captures on the node's own lo.",
    {"NETNS-01": UNFOUND},
    Fault(patches=(_stay_outside,)),
)


def _take_any_checksum() -> None:
    walk.is_right = lambda *_: True  # type: ignore[attr-defined]


ANY_CHECKSUM = Mutant(
    "any-checksum",
    "It takes segments that their receiver drops for a wrong checksum.",
    {"CAP-20": OUT_OF_STEP},
    Fault(patches=(_take_any_checksum,)),
)


def _join_a_fanout_group() -> None:
    whole = following.open_ring  # type: ignore[attr-defined]

    def joined(*rest: Any) -> Any:
        ring = whole(*rest)
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, fileno=os.dup(ring.fileno())) as shared:
            shared.setsockopt(_SOL_PACKET, _PACKET_FANOUT, _GROUP)
        return ring

    following.open_ring = joined  # type: ignore[attr-defined,assignment]


FANOUT = Mutant(
    "fanout",
    "Its sockets are in a fanout group, which any process of the pod may join.",
    {"SEC-13": LOST},
    Fault(patches=(_join_a_fanout_group,)),
)


def _shrink_the_ring() -> None:
    RingMemory.first = lambda _: 2 * SMALLEST_BLOCK  # type: ignore[method-assign,assignment]
    RingMemory.more = lambda *_: 0  # type: ignore[method-assign]


SMALL_RING = Mutant(
    "small-ring",
    "Its buffer holds a quarter of a mebibyte.",
    {"LOAD-03": "not at all"},
    Fault(patches=(_shrink_the_ring,)),
)


def _hand_over_soon() -> None:
    mapped.RETIRE_MS = 40
    walk.Blocks.unfinished = lambda _: None  # type: ignore[method-assign,assignment]


BLOCKS_BY_TIME = Mutant(
    "blocks-by-time",
    "The kernel hands over a block of its ring 40 ms after a packet came, however little is in it.",
    {"LOAD-09": LOST},
    Fault(patches=(_hand_over_soon,)),
)


def _widen(everything: Callable[[Scope], bool], filtered: Callable[[list[bytes] | None], bool]) -> None:
    """Whose packets the kernel lets through, and of whose the tapper tells, where it should be the targets' alone."""
    program, covers = bpf.program, Scope.covers

    def wide_program(addresses: Iterable[bytes] | None = None, *, tunnels: bool = False) -> tuple[Instruction, ...]:
        given = None if addresses is None else list(addresses)
        return program(given if filtered(given) else None, tunnels=tunnels)

    def wide_scope(self: Scope, source: Endpoint, destination: Endpoint) -> bool:
        return everything(self) or covers(self, source, destination)

    bpf.program = wide_program
    Scope.covers = wide_scope  # type: ignore[method-assign]


def _give_up_filtering() -> None:
    _widen(
        lambda scope: len(scope.targets or ()) > _MOST_PODS,
        lambda addresses: addresses is not None and len(addresses) <= _MOST_PODS,
    )


def _tap_the_whole_node() -> None:
    _widen(lambda scope: scope.pod_ip is None, lambda _addresses: False)


WIDENS = Mutant(
    "widens",
    "Above 150 targets its filter lets everything through, as a real tapper's does.",
    {"LOAD-02": "plain-server"},
    Fault(patches=(_give_up_filtering,)),
)
WHOLE_NODE = Mutant(
    "whole-node",
    "On the node's interfaces it reports every pod's traffic.",
    {"SEC-03": "plain-server", "LOAD-02": "plain-server"},
    Fault(patches=(_tap_the_whole_node,)),
)

"""Notices a ring that receives nothing although TCP passes the lo of its namespace.

Whoever has rights over a pod's network can divert its traffic before it comes to a packet socket, for example by a
program on lo (XDP), or by one that joins sockets (sockmap). Then the ring is as silent as that of an idle pod. The
kernel's own counters tell the two apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tapper.capture.ring import Ring
from tapper.namespaces.identity import NamespaceId
from tapper.output.records import Place

_FEWEST = 50
"""Packets on lo that a ring cannot have missed by chance."""
_ROUND = 10
"""Calls of `SilentRings.check` in which every ring has its turn."""


@dataclass(frozen=True, slots=True)
class _Glance:
    """The counts at the last look at a ring."""

    ring: Ring
    received: int
    """By the ring, before `passed` was read."""
    passed: int
    """TCP packets on lo, at least."""


class SilentRings:
    """`passed_on_lo` returns how many TCP packets passed the lo of a namespace at least, or None where that is not
    known. `warn_once` gets a key and a sentence."""

    def __init__(
        self, passed_on_lo: Callable[[NamespaceId], int | None], warn_once: Callable[[object, str], None]
    ) -> None:
        self._passed_on_lo = passed_on_lo
        self._warn_once = warn_once
        self._last: dict[NamespaceId, _Glance] = {}
        self._due: list[NamespaceId] = []

    def check(self, pods: Iterable[tuple[NamespaceId, Ring, Place]]) -> None:
        """Look at the next rings of the round."""
        present = {netns: (ring, place) for netns, ring, place in pods}
        if not self._due:
            self._due = list(present)
            self._last = {netns: glance for netns, glance in self._last.items() if netns in present}
        for _ in range(-(-len(present) // _ROUND)):
            netns = self._due.pop() if self._due else None
            if netns is not None and netns in present:
                self._look(netns, *present[netns])

    def _look(self, netns: NamespaceId, ring: Ring, place: Place) -> None:
        before = _received(ring)
        passed = self._passed_on_lo(netns)
        if passed is None:
            self._last.pop(netns, None)
            return
        last = self._last.get(netns)
        self._last[netns] = _Glance(ring, before, passed)
        if last is None or last.ring is not ring or _received(ring) != last.received:
            return
        missed = passed - last.passed
        if missed >= _FEWEST:
            self._warn_once(
                (netns, "silent"),
                f"nothing is captured of the pod {place.instance_ip} although {missed} packets of TCP passed its lo "
                "meanwhile: look for a program that diverts its traffic (ip link show lo, bpftool net, bpftool prog)",
            )


def _received(ring: Ring) -> int:
    """Packets that came to a ring, with those that found no room."""
    counted = ring.statistics()
    return counted.received + counted.dropped

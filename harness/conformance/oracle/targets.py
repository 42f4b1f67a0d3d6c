"""When each pod was a target, from the lists that a tapper was given. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

from harness.adapters.targets import Target
from harness.conformance.oracle.compare import same_address
from harness.conformance.oracle.model import Span

FOREVER = 1 << 63


def spans(
    pods: Mapping[str, frozenset[str]],
    told: Sequence[tuple[int, tuple[Target, ...]]],
    breaks: Iterable[tuple[str, int]] = (),
) -> list[Span]:
    """The times in which each pod was a target without a break.

    `pods` are names and addresses; `told` the lists and when they were given; `breaks` the moments at which something
    happened in a pod by which a tapper may lose it for a while, such as the end of its Envoy.
    """
    found = []
    for name, addresses in pods.items():
        start: int | None = None
        times: list[tuple[int, int]] = []
        for time_ns, targets in told:
            named = any(names(target, addresses) for target in targets)
            if named and start is None:
                start = time_ns
            elif not named and start is not None:
                times.append((start, time_ns))
                start = None
        if start is not None:
            times.append((start, FOREVER))
        cuts = sorted(time_ns for pod, time_ns in breaks if pod == name)
        for first, last in times:
            edges = [first, *(cut for cut in cuts if first < cut < last), last]
            found += [Span(name, one, other) for one, other in itertools.pairwise(edges)]
    return sorted(found, key=lambda span: span.start_ns)


def names(target: Target, addresses: frozenset[str]) -> bool:
    """Whether a target is the pod with these addresses."""
    return any(same_address(ip) in addresses for ip in target.ips)

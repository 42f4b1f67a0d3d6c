"""Profiles the tapper: samples its pure-Python form, at a request rate that this form can just keep up with."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from bench.measure import READY_LIMIT, Metered, packet_sockets
from bench.peers import TAPPER, by_name
from bench.workloads import Way, Workload, site
from harness.errors import HarnessError
from harness.waiting import wait_until

WORKLOAD = Workload("500 B, 5000/s", rate=5000, requests=40_000)
QUICK = Workload("500 B, 5000/s", rate=5000, requests=8_000)
_PROGRAM = Path(__file__).parent / "programs" / "profiled.py"


def take(workload: Workload) -> dict[str, int]:
    """The number of samples by `module:function`. Raises HarnessError."""
    (tapper,) = by_name(TAPPER)
    with site(Way.PLAIN) as where:
        argv = tapper.argv(where.pod.ip, workload.protocol)
        at = argv.index("-m")
        argv[at : at + 2] = [str(_PROGRAM), "{directory}/profile"]
        metered = Metered(where.node, argv, env={**(tapper.env or {}), "TAPPER_PURE": "1"})
        wait_until(lambda: packet_sockets(where.pod) > 0, "the tapper to capture", READY_LIMIT, lambda: metered.log)
        where.send(workload)
        metered.rest()
        code, _ = metered.stop()
        if code != 0:
            raise HarnessError(f"the tapper under the profiler ended with {code}: {metered.last_words()}")
        told: dict[str, int] = json.loads((metered.directory / "profile").read_text())
        metered.forget()
    return told


def by_concept(samples: Mapping[str, int]) -> dict[str, float]:
    """The share of each folder of the tapper, the largest first. Modules outside of the folders count as `tapper`."""
    counts: Counter[str] = Counter()
    for function, count in samples.items():
        parts = function.partition(":")[0].split(".")
        counts[".".join(parts[:2]) if len(parts) > 2 else parts[0]] += count
    return _shares(counts)


def by_function(samples: Mapping[str, int], most: int) -> dict[str, float]:
    """The share of each of the busiest functions."""
    return dict(list(_shares(Counter(dict(samples))).items())[:most])


def _shares(counts: Counter[str]) -> dict[str, float]:
    total = counts.total()
    return {name: count / total for name, count in counts.most_common()}

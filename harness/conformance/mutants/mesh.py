"""Broken in a mesh of real sidecars: the defects of other groups, found by the cases of this one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from harness.conformance.mutants import cap, disc, edge, life, life_processes, netns
from harness.conformance.mutants.model import Mutant

_TWICE = "too often"
_UNFOUND = "expected a request inside pod"
_LOST = "too seldom|not at all"


def _in_mesh(mutant: Mutant, breaks: Mapping[str, str]) -> Mutant:
    return replace(mutant, name=f"mesh-{mutant.name}", breaks={f"MESH-{case}": why for case, why in breaks.items()})


OUTGOING_COPY = _in_mesh(cap.OUTGOING_COPY, dict.fromkeys(("03", "07", "16", "17", "21", "25", "27", "39"), _TWICE))
WIRE_IS_INBOUND = _in_mesh(edge.WIRE_IS_INBOUND, {"04": _TWICE, "05": "no leg of what no sidecar", "06": _TWICE})
EVERY_ENVOY = _in_mesh(disc.EVERY_ENVOY, {"08": "nothing of what it was not asked for"})
ADDS_NOTHING = _in_mesh(life.ADDS_NOTHING, {"09": _UNFOUND, "15": _UNFOUND})
REMOVES_NOTHING = _in_mesh(life.REMOVES_NOTHING, {"09": "expected silence about pod"})
EMPTY_IGNORED = _in_mesh(life.EMPTY_IGNORED, {"10": "expected silence about pod"})
BELIEVES_ENVIRON = _in_mesh(edge.BELIEVES_ENVIRON, {"12": "nothing of what it was not asked for"})
PINNED = _in_mesh(netns.PINNED, {"14": "to be destroyed"})
# whether or not the moment without an Envoy is noticed
DIES_WITH_THE_FIRST = _in_mesh(life_processes.DIES_WITH_THE_FIRST, {"18": _UNFOUND})
ONCE_BY_CONTENT = _in_mesh(cap.ONCE_BY_CONTENT, {"26": _LOST})

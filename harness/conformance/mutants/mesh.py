"""Broken in a mesh of real sidecars: the defects of other groups, found by the cases of this one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from harness.conformance.mutants import cap, edge, life, life_processes, netns, record_fields
from harness.conformance.mutants.model import Mutant
from harness.conformance.mutants.reasons import LOST, TOO_MUCH, TOO_OFTEN, UNFOUND


def in_mesh(mutant: Mutant, breaks: Mapping[str, str]) -> Mutant:
    """The same mutant, for cases of the mesh: their numbers -> reasons."""
    return replace(mutant, name=f"mesh-{mutant.name}", breaks={f"MESH-{case}": why for case, why in breaks.items()})


OUTGOING_COPY = in_mesh(cap.OUTGOING_COPY, dict.fromkeys(("03", "07", "16", "17", "21", "25", "27", "39"), TOO_OFTEN))
WIRE_IS_INBOUND = in_mesh(
    edge.WIRE_IS_INBOUND, {"04": TOO_OFTEN, "05": "no leg of a request that no sidecar", "06": TOO_OFTEN}
)
ADDS_NOTHING = in_mesh(life.ADDS_NOTHING, {"09": UNFOUND, "15": UNFOUND})
REMOVES_NOTHING = in_mesh(life.REMOVES_NOTHING, {"09": "expected silence about pod"})
EMPTY_IGNORED = in_mesh(life.EMPTY_IGNORED, {"10": "expected silence about pod"})
BELIEVES_ENVIRON = in_mesh(edge.BELIEVES_ENVIRON, {"12": TOO_MUCH})
PINNED = in_mesh(netns.PINNED, {"14": "to be destroyed"})
# whether or not the moment without an Envoy is noticed
DIES_WITH_THE_FIRST = in_mesh(life_processes.DIES_WITH_THE_FIRST, {"18": UNFOUND})
ONCE_BY_CONTENT = in_mesh(record_fields.ONCE_BY_CONTENT, {"26": LOST})

"""Broken in a mesh of real sidecars, inside the reference."""

from __future__ import annotations

from harness.conformance.mutants.inside import disc
from harness.conformance.mutants.mesh import in_mesh
from harness.conformance.mutants.reasons import TOO_MUCH

EVERY_ENVOY = in_mesh(disc.EVERY_ENVOY, {"08": TOO_MUCH})

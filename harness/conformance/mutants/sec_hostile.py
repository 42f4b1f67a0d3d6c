"""Broken in what a hostile process of a pod does to them."""

from __future__ import annotations

from harness.conformance.mutants.model import Fault, Mutant
from harness.conformance.mutants.reasons import TOO_MUCH

BELIEVES_ADDRESSES = Mutant(
    "believes-addresses",
    "It takes a namespace with a target's address for that pod's, whoever has made it, and claims to verify identity.",
    {"SEC-14": TOO_MUCH},
    Fault(),
    claims=frozenset({"verified_identity"}),
)

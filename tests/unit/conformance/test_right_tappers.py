"""Tappers that are right but different from the reference: no case may fail one of them.

Each is tried by the cases that were unjust to such a one, or could be: about its beginning and end, about numbers,
order and times, about what it does not say. Whole runs of them take minutes, and are made by hand
(tests/unit/support/right_adapters.py says how).
"""

from __future__ import annotations

from pathlib import Path

import pytest
import right_adapters

from harness.adapters import contract
from harness.conformance.catalogue import cases
from harness.conformance.model import Outcome
from harness.conformance.run import run

PATIENCE = 2.0

TRIED = {
    "slow start of 5 s": ["LIFE-01", "LIFE-13"],
    "output in bursts of 2 s": ["LIFE-03", "LIFE-04", "LIFE-15"],
    "another order of records": ["HTTP-03", "LIFE-12"],
    "unknown fields and types": ["CAP-01", "LIFE-10"],
    "several processes": ["LIFE-06", "SEC-03"],
    "the reader's time": ["CAP-13"],
    "says less": ["CAP-02", "EDGE-04", "GEN-05", "HTTP-07", "HTTP-11"],
    "claims little": ["CAP-02", "CAP-03"],
    "pods by IPv6 addresses": ["LIFE-16", "NETNS-01"],
    "heads only": ["HTTP-03"],
    "spelled otherwise": ["NETNS-01"],
    "two processes share the pods": ["LIFE-12"],
    "packets without link layer": ["CAP-16"],
    "pcapng by direction": ["CAP-02"],
    "everywhere in its pods": ["NETNS-03", "NETNS-04", "CAP-04", "CAP-13", "LIFE-01", "LIFE-06"],
    "pcapng": ["EDGE-04", "CAP-13", "CAP-22", "LIFE-10"],
}
SAYS_NOTHING_OF_IT = {("everywhere in its pods", "CAP-13"), ("says less", "HTTP-11")}
"""What the case is about is left out of what they write."""


@pytest.mark.parametrize(("name", "case"), [(name, case) for name, some in TRIED.items() for case in some])
def test_no_case_fails_it(tmp_path: Path, name: str, case: str) -> None:
    adapter = contract.load(right_adapters.write(tmp_path, name))
    result = run(cases()[case], adapter, tmp_path / "evidence", PATIENCE)
    assert result.outcome in (Outcome.PASS, Outcome.NOT_CLAIMED), result.sentence
    assert not result.charges, "nor may it be charged with what another case is about"
    assert (result.outcome is Outcome.NOT_CLAIMED) == ((name, case) in SAYS_NOTHING_OF_IT)


def test_all_of_them_are_tried() -> None:
    assert set(TRIED) == set(right_adapters.RIGHT)

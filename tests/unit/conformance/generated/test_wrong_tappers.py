"""Tappers that are wrong only in conversations that nobody arranged are found by the cases that play such."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.adapters import contract, shipped
from harness.adapters.contract import Adapter
from harness.conformance.catalogue import cases
from harness.conformance.generated import planned
from harness.conformance.model import Outcome
from harness.conformance.mutants.conversations import CAUGHT_BY, RecordFilter
from harness.conformance.run import run

REPOSITORY = Path(__file__).resolve().parents[4]
RUNNER = REPOSITORY / "tests/unit/support/run_wrongly.py"
TRIED = [(change, case) for change, found in CAUGHT_BY.items() for case in found]


@pytest.fixture(scope="module")
def reference() -> Adapter:
    return contract.load(shipped.names()["reference"])


@pytest.mark.parametrize(("change", "case"), TRIED, ids=[f"{change.__name__}-{case}" for change, case in TRIED])
def test_a_wrong_tapper_is_found(change: RecordFilter, case: str, reference: Adapter, tmp_path: Path) -> None:
    wrong = replace(
        reference,
        argv=(sys.executable, str(RUNNER), change.__name__),
        env=dict(reference.env) | {"PYTHONPATH": str(REPOSITORY)},
    )
    result = planned.judged(run(cases()[case].shortened(), wrong, tmp_path / "evidence"))
    assert result.outcome in (Outcome.FAIL, Outcome.NON_STRICT), result
    assert re.search(CAUGHT_BY[change][case], result.sentence), result.sentence


def test_each_case_of_the_group_finds_one() -> None:
    group = {case.id for case in cases().values() if case.group == "GEN" or case.long}
    assert {case for found in CAUGHT_BY.values() for case in found} >= group

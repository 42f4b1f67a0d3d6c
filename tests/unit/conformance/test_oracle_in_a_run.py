"""The oracle under a case: what it notices is the affair of the case about it, which fails at the end of a run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from adapter_files import adapter_file

from harness.adapters import contract
from harness.conformance.catalogue import cases
from harness.conformance.model import Outcome, Result
from harness.conformance.run import run
from harness.conformance.suite import Run
from harness.conformance.summary import text

BAD_TAPPERS = Path(__file__).resolve().parents[1] / "support" / "bad_tappers"


def adapter(folder: Path, what: str) -> contract.Adapter:
    file = adapter_file(folder, [sys.executable, str(BAD_TAPPERS / "tells_wrongly.py"), what], claims=())
    file.write_text(file.read_text() + '[targets]\ndiscovery = "kit"\n')
    return contract.load(file)


def judged(folder: Path, what: str, case: str) -> Result:
    return run(cases()[case], adapter(folder, what), folder / case)


def test_a_right_tapper_has_no_charges(tmp_path: Path) -> None:
    result = judged(tmp_path, "right", "CAP-01")
    assert (result.outcome, result.charges) == (Outcome.PASS, ())


@pytest.mark.parametrize(("what", "about"), [("tenth-late", "CAP-13"), ("invents", "CAP-14")])
def test_a_fault_that_a_case_is_not_about_is_a_charge(tmp_path: Path, what: str, about: str) -> None:
    result = judged(tmp_path, what, "CAP-01")
    assert result.outcome is Outcome.PASS, result
    assert [charge.cases for charge in result.charges] == [(about,)]


def test_the_case_about_a_fault_fails_by_it(tmp_path: Path) -> None:
    result = judged(tmp_path, "invents", "CAP-14")
    assert result.outcome is Outcome.FAIL
    assert result.sentence.startswith("expected no record of what did not happen: a record of GET /livez -> None; ")


def test_at_the_end_of_a_run_the_case_about_a_fault_fails(tmp_path: Path) -> None:
    suite = Run(adapter(tmp_path, "tenth-late"), tmp_path / "report", cases=("CAP-01", "CAP-13"), jobs=2)
    list(suite.events())
    results = suite.record().results
    assert results["CAP-01"].outcome is Outcome.PASS
    assert results["CAP-13"].outcome is Outcome.FAIL
    assert "s too late" in results["CAP-13"].sentence
    assert results["CAP-13"].sentence.endswith(", seen in the trial of CAP-01")
    assert results["CAP-13"].evidence == "CAP-01"
    assert "--case CAP-13 --case CAP-01" in text(suite.record(), tmp_path, "adapter.toml")


def test_alone_it_is_a_note(tmp_path: Path) -> None:
    suite = Run(adapter(tmp_path, "tenth-late"), tmp_path / "report", cases=("CAP-01",))
    list(suite.events())
    result = suite.record().results["CAP-01"]
    assert result.outcome is Outcome.PASS
    assert result.notes[-1].startswith("it breaks CAP-13: expected ts within 1 s of ")

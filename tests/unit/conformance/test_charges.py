"""From differences to outcomes: one fault fails one case."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.conformance.catalogue import cases
from harness.conformance.charges import settled
from harness.conformance.model import Charge, Outcome, Result
from harness.conformance.oracle import attribution


def results(**outcomes: Outcome) -> dict[str, Result]:
    """Everything passes but these; names have `_` for `-`."""
    found = {name: Result(name, Outcome.PASS, evidence=name) for name in cases()}
    for name, outcome in outcomes.items():
        found[name.replace("_", "-")] = Result(name.replace("_", "-"), outcome, "by itself")
    return found


def charged(before: dict[str, Result], *named: str, everywhere: bool = False) -> dict[str, Result]:
    """After LIFE-10's trial has shown something that these cases are about."""
    charge = Charge(named, "LIFE-10", "a body of 3 bytes", "2 bytes", everywhere)
    before["LIFE-10"] = replace(before["LIFE-10"], charges=(charge,))
    return settled(cases(), before)


def changed(before: dict[str, Result], after: dict[str, Result]) -> dict[str, Outcome]:
    return {name: result.outcome for name, result in after.items() if result.outcome is not before[name].outcome}


def test_a_charge_fails_the_case_that_it_is_about() -> None:
    before = results()
    after = charged(before, "HTTP-01")
    assert changed(before, after) == {"HTTP-01": Outcome.FAIL}
    accused = after["HTTP-01"]
    assert accused.sentence == "expected a body of 3 bytes; seen: 2 bytes, seen in the trial of LIFE-10"
    assert accused.evidence == "LIFE-10"
    assert after["LIFE-10"].charges == ()


def test_a_should_is_missed_and_not_failed() -> None:
    before = results()
    assert changed(before, charged(before, "HTTP-14")) == {"HTTP-14": Outcome.NON_STRICT}


@pytest.mark.parametrize("everywhere", [False, True])
def test_one_fault_fails_one_case(everywhere: bool) -> None:
    before = results(HTTP_01=Outcome.FAIL)
    assert changed(before, charged(before, "HTTP-01", "CAP-10", everywhere=everywhere)) == {}
    before = results(CAP_10=Outcome.TIMEOUT)
    assert changed(before, charged(before, "HTTP-01", "CAP-10", everywhere=everywhere)) == {}


def test_what_is_so_only_under_a_condition_is_the_condition_s() -> None:
    before = results()
    assert changed(before, charged(before, "HTTP-01", "CAP-10")) == {"CAP-10": Outcome.FAIL}
    before = results()
    assert changed(before, charged(before, "HTTP-01", "CAP-10", everywhere=True)) == {"HTTP-01": Outcome.FAIL}


@pytest.mark.parametrize("outcome", [Outcome.NOT_CLAIMED, Outcome.EXEMPT, Outcome.DELEGATED, Outcome.BLOCKED])
def test_a_case_that_is_not_about_this_tapper_stays_as_it_is(outcome: Outcome) -> None:
    before = results(HTTP_01=outcome)
    after = charged(before, "HTTP-01")
    assert changed(before, after) == {}
    assert after["LIFE-10"].notes == ()


def test_a_charge_against_a_case_that_was_not_asked_for_is_a_note() -> None:
    before = results(HTTP_01=Outcome.DESELECTED)
    after = charged(before, "HTTP-01")
    assert changed(before, after) == {}
    assert after["LIFE-10"].notes == ("it breaks HTTP-01: expected a body of 3 bytes; seen: 2 bytes",)


def test_every_case_that_the_oracle_may_charge_exists() -> None:
    assert set(cases()) >= attribution.TABLE


def test_charges_survive_the_way_from_a_worker() -> None:
    result = Result("LIFE-10", Outcome.PASS, charges=(Charge(("HTTP-01", "CAP-10"), "LIFE-10", "a", "b", True),))
    assert Result.of(result.plain()) == result

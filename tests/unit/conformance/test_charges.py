"""From differences to outcomes: one fault fails one case."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.adapters import contract
from harness.conformance import groups
from harness.conformance.catalogue import cases
from harness.conformance.charges import settled
from harness.conformance.model import Charge, Level, Outcome, Result
from harness.conformance.oracle import attribution
from harness.conformance.pytest_face import by_itself


def results(**outcomes: Outcome) -> dict[str, Result]:
    """Everything passes but these; names have `_` for `-`."""
    found = {name: Result(name, Outcome.PASS, evidence=name) for name in cases()}
    for name, outcome in outcomes.items():
        found[name.replace("_", "-")] = Result(name.replace("_", "-"), outcome, "by itself")
    return found


def charged(before: dict[str, Result], *named: str, everywhere: bool = False) -> dict[str, Result]:
    """After LIFE-10's trial has shown something that these cases are about."""
    charge = Charge(named, "LIFE-10", "a body of 3 bytes", "2 bytes", everywhere=everywhere)
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


def settled_charges(*charges: Charge) -> dict[str, Result]:
    """The results that change by these charges, each seen in another trial."""
    before = results()
    for charge in charges:
        trial = before[charge.seen_in]
        before[charge.seen_in] = replace(trial, charges=(*trial.charges, charge))
    return {name: after for name, after in settled(cases(), before).items() if after.outcome is not Outcome.PASS}


def test_charges_of_one_fault_fail_the_narrowest_case_that_all_of_them_name() -> None:
    stream = Charge(("CAP-15", "HTTP-07"), "GEN-02", "inbound", "outbound (9 such)", "CAP-15")
    call = Charge(("CAP-15", "HTTP-07", "HTTP-09"), "GEN-03", "inbound", "outbound", "CAP-15")
    plain = Charge(("CAP-15",), "LIFE-10", "inbound", "outbound", "CAP-15")
    assert list(settled_charges(stream, call)) == ["HTTP-07"]
    after = settled_charges(stream, call, plain)
    assert list(after) == ["CAP-15"]
    assert after["CAP-15"].seen.endswith(", seen in the trials of LIFE-10, GEN-02 and GEN-03")


def test_different_faults_are_settled_by_themselves() -> None:
    lost = Charge(("CAP-01", "LIFE-10"), "LIFE-10", "a record", "none", "missing")
    twice = Charge(("CAP-03", "LIFE-12"), "LIFE-12", "one record", "another one", "repeated")
    assert list(settled_charges(lost, twice)) == ["LIFE-10", "LIFE-12"]


def test_without_a_common_case_each_trial_s_own_fails_and_of_the_generated_ones_the_first() -> None:
    several = [
        Charge((place, trial), trial, "a record", "none", "missing")
        for place, trial in (("CAP-01", "HTTP-20"), ("CAP-02", "GEN-01"), ("CAP-08", "GEN-05"), ("CAP-01", "GEN-06"))
    ]
    assert sorted(settled_charges(*several)) == ["GEN-01", "HTTP-20"]


def test_the_trials_are_named_and_many_are_counted() -> None:
    trials = ["GEN-01", "GEN-02", "GEN-03", "GEN-05"]
    several = [Charge(("CAP-16",), trial, "a pod", "another", "CAP-16") for trial in trials]
    assert settled_charges(*several)["CAP-16"].seen == "another, seen in the trials of GEN-01, GEN-02 and 2 others"


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
    assert {cases()[name].level for name in attribution.SHOULDS} == {Level.SHOULD}


def test_charges_survive_the_way_from_a_worker() -> None:
    result = Result(
        "LIFE-10", Outcome.PASS, charges=(Charge(("HTTP-01", "CAP-10"), "LIFE-10", "a", "b", "HTTP-01", True),)
    )
    assert Result.of(result.plain()) == result


REFERENCE = contract.load(Path(groups.__file__).parents[2] / "adapters" / "shipped" / "reference.toml")


@pytest.mark.parametrize(
    ("charge", "outcome", "sentence"),
    [
        (Charge(("HTTP-01",), "LIFE-10", "a", "b"), Outcome.FAIL, "HTTP-01: expected a; seen: b, seen in the trial of"),
        (Charge(("HTTP-14",), "LIFE-10", "a", "b"), Outcome.NON_STRICT, "HTTP-14: expected a"),
        (Charge(("CAP-03", "LIFE-10"), "LIFE-10", "a", "b"), Outcome.FAIL, "LIFE-10: expected a; seen: b"),
        (Charge(("CAP-03", "LIFE-10"), "LIFE-10", "a", "b", everywhere=True), Outcome.PASS, ""),
        (Charge(("MESH-12",), "LIFE-10", "a", "b"), Outcome.PASS, ""),
    ],
    ids=["a MUST", "a SHOULD", "the case at hand", "everywhere", "not claimed"],
)
def test_a_test_of_pytest_fails_by_what_it_has_seen(charge: Charge, outcome: Outcome, sentence: str) -> None:
    result = by_itself(Result("LIFE-10", Outcome.PASS, charges=(charge,)), REFERENCE)
    assert (result.outcome, result.charges) == (outcome, ())
    assert result.sentence.startswith(sentence)

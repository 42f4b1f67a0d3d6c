"""The plans that ship: whole, of what their cases claim, and part of the suite's hash."""

from __future__ import annotations

from pathlib import Path

import pytest
from perfect_reports import records

from harness.conformance import suite
from harness.conformance.catalogue import cases
from harness.conformance.generated import drawing, pairs, plan_file, writing
from harness.conformance.generated.checks import PlanError
from harness.conformance.generated.plan import HAPPENINGS, Plan
from harness.conformance.generated.strategies import THEMES
from harness.conformance.mutants import wild

CASES = {
    "http1": "GEN-01",
    "http2": "GEN-02",
    "grpc": "GEN-03",
    "websocket": "GEN-04",
    "segments": "GEN-05",
    "pods": "GEN-06",
    "lives": "GEN-07",
    "ipv6": "GEN-08",
    "pairs": "GEN-09",
}


def test_every_theme_has_a_case_and_a_plan() -> None:
    assert set(CASES) == set(THEMES)
    assert set(CASES.values()) == {case for case in cases() if case.startswith("GEN-")}
    assert {file.stem.rpartition("-")[0] for file in plan_file.files()} == set(THEMES)


@pytest.mark.parametrize("theme", CASES)
def test_a_case_claims_what_its_plans_need(theme: str) -> None:
    assert cases()[CASES[theme]].features == THEMES[theme].features
    for plan in plan_file.shipped(theme):
        assert plan.features <= THEMES[theme].features


@pytest.mark.parametrize("file", plan_file.files(), ids=lambda file: file.stem)
def test_a_plan_is_named_as_its_file_and_can_be_written(file: Path) -> None:
    plan = plan_file.load(file)
    assert plan.name == file.stem
    assert sum(len(writing.script(plan, number).turns) for number in range(len(plan.talks))) > 200


def test_pods_and_lives_are_as_many_as_they_should_be() -> None:
    (pods,) = plan_file.shipped("pods")
    assert {talk.pod for talk in pods.talks} == {0, 1, 2, 3, 4}
    assert pods.exchanges > 100
    (lives,) = plan_file.shipped("lives")
    assert {each.what for each in lives.happenings} == set(HAPPENINGS)


def test_the_plan_of_pairs_is_the_one_that_is_written_down() -> None:
    assert plan_file.shipped("pairs") == [pairs.plan()]


def test_there_is_a_plan_for_each_theme_among_those_that_are_drawn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(drawing, "drawn", lambda *_: [Plan()])
    drawing.main(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in plan_file.files()}
    assert plan_file.load(tmp_path / "http1-1.json").name == "http1-1"


def test_every_wild_mutant_changes_something_in_the_plan_of_pairs() -> None:
    """Each fault and each condition meet there, so that none can hide in a pair that is never played."""
    run = records(pairs.plan())
    assert [name for name in wild.names() if not wild.changes(name, run)] == []


def test_the_suites_hash_covers_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = suite.suite_hash()
    changed = tmp_path / "http1-1.json"
    changed.write_text("{}")
    monkeypatch.setattr(plan_file, "files", lambda: [changed])
    suite.suite_hash.cache_clear()
    try:
        assert suite.suite_hash() != before
    finally:
        monkeypatch.undo()
        suite.suite_hash.cache_clear()


def test_a_file_that_is_no_plan_is_named(tmp_path: Path) -> None:
    file = tmp_path / "wrong.json"
    with pytest.raises(PlanError, match=r"wrong\.json cannot be read: No such file"):
        plan_file.load(file)
    file.write_text('{"pods": 9}')
    with pytest.raises(PlanError, match=r"wrong\.json is no plan: the plan: pods has to be from 1 to 5"):
        plan_file.load(file)


def test_what_a_plan_is_in_words() -> None:
    assert str(Plan()) == "1 conversation of 1 exchange"

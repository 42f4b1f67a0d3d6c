"""The catalogue proves itself: the reference passes every case, and every case is failed by a mutant made for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.adapters import contract, shipped
from harness.adapters.contract import Adapter
from harness.conformance import mutation
from harness.conformance.catalogue import ORDER, cases
from harness.conformance.model import Outcome, Result
from harness.conformance.mutants.catalogue import all_mutants
from harness.conformance.mutants.model import Mutant
from harness.conformance.run import run
from harness.worlds.model import lacking
from harness.worlds.sandbox import SandboxWorld

AGREED = {
    "DISC": 13,
    "NETNS": 9,
    "CAP": 23,
    "HTTP": 31,
    "LIFE": 16,
    "EDGE": 7,
    "SEC": 9,
    "GEN": 9,
    "LOAD": 9,
    "TLS": 10,
}
IN_A_MESH = (3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 15, 16, 17, 18, 21, 25, 26, 27, 28, 33, 34, 37, 38, 39)
"""The scenarios of tests/e2e that judge any tapper have their numbers from there."""
IDS = {f"{group}-{number:02}" for group, count in AGREED.items() for number in range(1, count + 1)}
IDS |= {f"MESH-{number:02}" for number in IN_A_MESH} | {"SEC-11", "SEC-12", "SEC-13", "SEC-14", "SEC-15"}
"""Ids are permanent: a group may grow here, and never shrink."""
IN_A_CLUSTER = {case.id for case in cases().values() if lacking(SandboxWorld.capabilities, case.needs)}
"""Those cannot be run here, neither with the reference nor with a mutant."""

MADE_FOR = [(mutant, case) for mutant in all_mutants().values() for case in mutant.breaks]


@pytest.fixture(scope="module")
def references() -> list[Adapter]:
    """The reference tapper, in every way in which it ships."""
    return [contract.load(file) for name, file in shipped.names().items() if name.startswith("reference")]


@pytest.mark.parametrize("case", [case for case in cases() if case not in IN_A_CLUSTER])
def test_the_reference_passes(case: str, references: list[Adapter], tmp_path: Path) -> None:
    """As the first of its adapters that claims what the case needs; one has to."""
    for reference in references:
        result = run(cases()[case].shortened(), reference, tmp_path / reference.file.stem)
        if result.outcome is not Outcome.NOT_CLAIMED:
            break
    assert result.outcome is Outcome.PASS, result
    assert not result.notes, result


@pytest.mark.parametrize(("mutant", "case"), MADE_FOR, ids=[f"{mutant.name}-{case}" for mutant, case in MADE_FOR])
def test_a_mutant_is_found(mutant: Mutant, case: str, tmp_path: Path) -> None:
    result = run(cases()[case].shortened(), mutant.adapter(), tmp_path / "evidence")
    assert mutation.complaint(mutant, result) is None


@pytest.mark.parametrize("case", sorted(IN_A_CLUSTER))
def test_what_needs_a_cluster_says_so(case: str, references: list[Adapter], tmp_path: Path) -> None:
    result = run(cases()[case], references[0], tmp_path / "evidence")
    assert result.outcome is Outcome.BLOCKED
    assert result.sentence.startswith("needs a cluster: --kind or --kubeconfig (")


def test_only_few_cases_need_a_cluster() -> None:
    assert {"MESH-28", "MESH-33", "MESH-34", "MESH-37", "MESH-38"} == IN_A_CLUSTER


def test_every_id_was_agreed_on() -> None:
    assert set(cases()) <= IDS


def test_every_case_that_was_agreed_on_exists() -> None:
    assert IDS - set(cases()) == set()


def test_every_case_has_a_mutant_that_was_made_for_it() -> None:
    lonely = mutation.without_mutant(cases().values(), all_mutants().values())
    assert lonely == []


def test_mutants_are_made_for_cases_that_exist() -> None:
    assert {case for _, case in MADE_FOR} <= set(cases())


@pytest.mark.parametrize(
    ("result", "complaint"),
    [
        (Result("CAP-03", Outcome.FAIL, "20 too often"), None),
        (Result("CAP-03", Outcome.NON_STRICT, "20 too often"), None),
        (Result("CAP-03", Outcome.PASS), "CAP-03 was made to fail outgoing-copy, and ends with pass"),
        (Result("CAP-03", Outcome.ERROR, "too often"), "and ends with error: too often"),
        (Result("CAP-03", Outcome.FAIL, "nothing seen"), "but not for 'too often': nothing seen"),
    ],
)
def test_what_is_said_of_a_mutant(result: Result, complaint: str | None) -> None:
    said = mutation.complaint(all_mutants()["outgoing-copy"], result)
    assert said is None if complaint is None else complaint in str(said)


def test_the_catalogue_is_in_order() -> None:
    assert list(cases()) == sorted(cases(), key=lambda case: (ORDER.index(case.partition("-")[0]), case))

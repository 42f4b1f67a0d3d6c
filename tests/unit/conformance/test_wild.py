"""Mutants that nobody made a case for."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from harness.conformance.catalogue import cases
from harness.conformance.model import Outcome
from harness.conformance.mutants import wild
from harness.conformance.mutants.model import named
from harness.conformance.run import run


def test_a_change_is_the_same_for_its_seed_and_one_only() -> None:
    for seed in range(30):
        tree, words = wild.change(seed).code()
        again, said = wild.change(seed).code()
        assert (ast.dump(tree), words) == (ast.dump(again), said)
        before = ast.unparse(ast.parse(wild.change(seed).file.read_text())).splitlines()
        after = ast.unparse(tree).splitlines()
        assert before != after, words
        assert sum(one != other for one, other in zip(before, after, strict=False)) >= 1


def test_the_changed_module_is_what_is_imported() -> None:
    program = (
        "import importlib; from harness.conformance.mutants import model, wild; "
        "model.named('wild-3').apply(); print(type(importlib.import_module(wild.change(3).module).__loader__).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "_Loader\n", done.stderr


def test_two_defects_at_once(tmp_path: Path) -> None:
    both = named("outgoing-copy+not-443")
    assert set(both.breaks) == {"CAP-03", "CAP-06"}
    outcomes = {case: run(cases()[case], both.adapter(), tmp_path / case).outcome for case in ("CAP-03", "CAP-06")}
    assert outcomes == {"CAP-03": Outcome.FAIL, "CAP-06": Outcome.NON_STRICT}

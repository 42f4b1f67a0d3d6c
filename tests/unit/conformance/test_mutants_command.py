"""`tapper-harness mutants` as somebody types it."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from kit_command import command

from harness import cli
from harness.conformance.mutants import catalogue
from harness.conformance.mutants.catalogue import all_mutants


def test_the_matrix_marks_what_was_made_for_a_mutant(tmp_path: Path) -> None:
    done = command(tmp_path, "mutants", "outgoing-copy", "--jobs", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    header, row = done.stdout.splitlines()[:2]
    assert header.split()[:2] == ["CAP", "03"]
    assert row.split()[:2] == ["outgoing-copy", "[F]"]
    assert "each of the 1 mutants is found" in done.stdout


def test_names_are_listed_and_checked(tmp_path: Path) -> None:
    assert set(all_mutants()) == {
        line.split()[0] for line in command(tmp_path, "mutants", "--list").stdout.splitlines()
    }
    done: subprocess.CompletedProcess[str] = command(tmp_path, "mutants", "no-such")
    assert done.returncode == 2
    assert "there is no mutant no-such: there are " in done.stderr


def test_a_wild_mutant_has_to_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["mutants", "--wild", "drop+only-on-mondays"]) == 2
    said = capsys.readouterr().err
    assert "'drop+only-on-mondays' is neither a number nor a wild mutant's name" in said
    assert "rules are drop, " in said
    assert "only-ipv6" in said


def test_a_wrong_reason_is_a_failure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = replace(all_mutants()["outgoing-copy"], breaks={"CAP-03": "another reason"})
    monkeypatch.setattr(catalogue, "all_mutants", lambda: {"outgoing-copy": wrong})
    assert cli.main(["mutants", "outgoing-copy", "--jobs", "1"]) == 1
    assert "CAP-03 fails outgoing-copy, but not for 'another reason'" in capsys.readouterr().out

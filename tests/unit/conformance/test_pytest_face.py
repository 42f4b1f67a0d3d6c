"""`pytest --pyargs harness.conformance --harness-adapter FILE` from a stranger's folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from adapter_files import REPOSITORY, mutant_file

from harness.conformance import pytest_face
from harness.conformance.catalogue import cases
from harness.conformance.model import Outcome, Result

CASES = ("--pyargs", "harness.conformance")
CASE = cases()["CAP-01"]


def run_pytest(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("PYTEST")}
    argv = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *options]
    environ["PYTHONPATH"] = str(REPOSITORY)
    return subprocess.run(argv, cwd=directory, env=environ, capture_output=True, text=True, check=False, timeout=120)


def test_cases_are_tests_that_fail_and_are_skipped(tmp_path: Path) -> None:
    file = mutant_file(tmp_path, "outgoing-copy")
    with file.open("a") as adapter:
        adapter.write('[exempt.CAP-01]\nreason = "known to be hard"\nurl = "https://example.org/3"\n')
    options = ("-k", "CAP-01 or CAP-03", "-rs", "--junitxml", "junit.xml", "--harness-evidence", "evidence")
    done = run_pytest(tmp_path, *CASES, "--harness-adapter", "adapter.toml", *options)
    assert done.returncode == 1, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("1 failed, 1 skipped"), done.stdout
    assert f"CAP-03 fail: {cases()['CAP-03'].requirement}" in lines
    assert "  expected:     each of 20 requests once" in lines
    assert "  evidence:     evidence/CAP-03" in lines
    assert "  run it alone: tapper-harness check --adapter adapter.toml --case CAP-03" in lines
    assert "exempt: known to be hard (https://example.org/3)" in done.stdout
    assert "Traceback" not in done.stdout
    assert ".py:" not in done.stdout.partition("short test summary")[0]
    assert (tmp_path / "evidence" / "CAP-03" / "tap-1" / "run.json").exists()
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("2", "1", "1")
    told = {case.get("name"): case.find(".//property") for case in suite}
    assert {name: found.get("value") for name, found in told.items() if found is not None} == {
        "test_case[CAP-03]": "fail",
        "test_case[CAP-01]": "exempt",
    }


def test_cases_are_tests_that_pass(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, *CASES, "--harness-adapter", "reference", "-k", "CAP-01 or CAP-02", "-n", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("2 passed")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (CASES, "which tapper is to be judged? pytest --pyargs harness.conformance --harness-adapter FILE"),
        ((*CASES, "--harness-adapter", "nobody"), "there is no adapter nobody: give a file, or one of those that ship"),
        ((*CASES, "--harness-adapter", "reference", "--harness-patience", "0"), "'0.0' is not a factor"),
    ],
)
def test_wrong_options_are_a_sentence(tmp_path: Path, options: tuple[str, ...], sentence: str) -> None:
    done = run_pytest(tmp_path, *options)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_without_an_adapter_a_run_that_comes_by_leaves_the_cases_out(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, "--collect-only", str(REPOSITORY / "harness"), "-c", os.devnull)
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, done.stdout + done.stderr


def test_what_is_not_strict_passes_and_is_told_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "from harness.conformance import pytest_face\n"
        "from harness.conformance.catalogue import cases\n"
        "from harness.conformance.model import Outcome, Result\n"
        "def test_it(request, tmp_path):\n"
        "    result = Result('CAP-01', Outcome.NON_STRICT, 'expected a; seen: \\x1b[1mb')\n"
        "    pytest_face.conclude(request, cases()['CAP-01'], result, tmp_path)\n"
    )
    done = run_pytest(tmp_path, "--harness-adapter", "reference", "test_it.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "conformance: not strict" in done.stdout
    assert rf"CAP-01 {CASE.requirement} expected a; seen: \x1b[1mb" in done.stdout.splitlines()


@pytest.mark.parametrize("outcome", [Outcome.NOT_CLAIMED, Outcome.DELEGATED, Outcome.EXEMPT])
def test_what_is_set_aside_is_skipped_with_the_sentence(request: pytest.FixtureRequest, outcome: Outcome) -> None:
    with pytest.raises(pytest.skip.Exception, match=f"^{outcome}: the reason$"):
        pytest_face.conclude(request, CASE, Result("CAP-01", outcome, "the reason"), Path("evidence"))


@pytest.mark.parametrize(("require", "ending"), [(False, pytest.skip.Exception), (True, pytest.fail.Exception)])
def test_what_is_blocked_is_skipped_unless_the_machine_has_to_do_it(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, require: bool, ending: type[BaseException]
) -> None:
    monkeypatch.setattr(request.config.option, "harness_require", require)
    with pytest.raises(ending, match=r"blocked: (?s:.*)no envoy"):
        pytest_face.conclude(request, CASE, Result("CAP-01", Outcome.BLOCKED, "no envoy"), Path("evidence"))


@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.TIMEOUT, Outcome.ERROR])
def test_everything_else_fails(request: pytest.FixtureRequest, outcome: Outcome) -> None:
    with pytest.raises(pytest.fail.Exception, match=rf"CAP-01 {outcome}: (?s:.*)because: +why\n") as raised:
        pytest_face.conclude(request, CASE, Result("CAP-01", outcome, "why"), Path("evidence"))
    assert ("the kit's own" in str(raised.value)) == (outcome is Outcome.ERROR)
    assert not raised.value.pytrace

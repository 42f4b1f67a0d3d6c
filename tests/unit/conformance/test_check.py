"""`tapper-harness check`, `cases` and `adapters` as somebody types them."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from adapter_files import adapter_file, mutant_file
from kit_command import COMMAND, ENVIRON, command

from harness.conformance import report_file
from harness.conformance.catalogue import cases
from harness.conformance.model import Outcome
from harness.waiting import wait_until


def test_a_good_tapper(tmp_path: Path) -> None:
    done = command(tmp_path, "check", "--adapter", "reference", "--case", "CAP-01", "--case", "CAP-02", "--jobs", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr
    lines = done.stdout.splitlines()
    assert sorted(line.split()[:2] for line in lines[1:3]) == [["CAP-01", "pass"], ["CAP-02", "pass"]]
    assert "\x1b" not in done.stdout
    (folder,) = (tmp_path / "tapper-harness-report").iterdir()
    assert lines[-2] == f"Report: {folder.relative_to(tmp_path)}/report.yaml"
    assert lines[-1] == f"To read: {folder.relative_to(tmp_path)}/report.html, report.md, junit.xml"
    assert {"report.html", "report.md", "junit.xml"} <= {path.name for path in folder.iterdir()}
    record = report_file.load(folder)
    assert record.finished
    assert set(record.results) == set(cases())
    assert (folder / "CAP-01" / "tap-1" / "run.json").exists()


def test_a_bad_tapper(tmp_path: Path) -> None:
    file = mutant_file(tmp_path, "outgoing-copy")
    done = command(tmp_path, "check", "--adapter", file.name, "--case", "CAP-03", "--report", "out")
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"CAP-03 fail: {cases()['CAP-03'].requirement}" in done.stdout
    assert "expected:     each of 20 requests once" in done.stdout
    assert "too often" in done.stdout
    assert "evidence:     out/CAP-03\n" in done.stdout
    assert "tapper-harness check --adapter adapter.toml --case CAP-03\n" in done.stdout
    result = report_file.load(tmp_path / "out").results["CAP-03"]
    assert (result.outcome, result.evidence) == (Outcome.FAIL, "CAP-03")


def test_in_a_mesh(tmp_path: Path) -> None:
    """Real sidecars where the sandbox has what a case needs; where not, the case is blocked and the run partial."""
    argv = ["--profile", "TAP-MESH", "--case", "MESH-03", "--case", "MESH-28", "--report", "out"]
    done = command(tmp_path, "check", "--adapter", "reference", *argv)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "needs a cluster: --kind or --kubeconfig (it takes two nodes" in done.stdout
    record = report_file.load(tmp_path / "out")
    assert record.results["MESH-03"].outcome is Outcome.PASS
    assert record.results["MESH-28"].outcome is Outcome.BLOCKED
    assert record.profiles["TAP-MESH"] == "partial"


def test_other_runs_have_no_verdict_on_meshes(tmp_path: Path) -> None:
    command(tmp_path, "check", "--adapter", "reference", "--case", "CAP-01", "--report", "out")
    record = report_file.load(tmp_path / "out")
    assert "TAP-MESH" not in record.profiles
    result = record.results["MESH-03"]
    assert (result.outcome, result.sentence) == (
        Outcome.DESELECTED,
        "this run was not asked for it (--profile TAP-MESH)",
    )


def test_a_cluster_is_not_made_for_nothing(tmp_path: Path) -> None:
    """What is wrong is told before anything is made: kind is not even looked for."""
    without = adapter_file(tmp_path, ["true"])
    for argv, sentence in (
        (["--adapter", "reference", "--case", "CAP-01"], "a cluster is for the cases of the group MESH"),
        (["--adapter", str(without), "--case", "MESH-03"], "has no table cluster"),
    ):
        done = command(tmp_path, "check", *argv, "--kind", "--kind-bin", "/nowhere/kind", "--report", "out")
        assert done.returncode == 2, done.stdout + done.stderr
        assert sentence in done.stderr
        assert not (tmp_path / "out").exists()


def test_a_tapper_that_is_not_there_is_told_before_any_case(tmp_path: Path) -> None:
    file = adapter_file(tmp_path, ["/nowhere/tapper"])
    done = command(tmp_path, "check", "--adapter", str(file), "--case", "CAP-01", "--report", "out")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "run.argv: there is no file /nowhere/tapper" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_early_end_keeps_what_is_known_and_leaves_nothing(tmp_path: Path, how: signal.Signals) -> None:
    file = adapter_file(tmp_path, ["sleep", "1000"])
    argv = [*COMMAND, "check", "--adapter", str(file), "--report", "out", "--jobs", "2", "--patience", "4"]
    with subprocess.Popen(argv, cwd=tmp_path, env=ENVIRON, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        family: set[psutil.Process] = set()

        def tapper_runs() -> bool:
            family.update(psutil.Process(running.pid).children(recursive=True))
            return any(alive(process) and program(process) == "sleep" for process in family)

        wait_until(tapper_runs, "the tapper to be on trial", 30)
        running.send_signal(how)
        out, err = running.communicate(timeout=30)
    if how is signal.SIGINT:
        assert running.returncode == 130, (out, err)
        assert b"The run ended early" in out
        assert "the run ended early" in (tmp_path / "out" / "report.html").read_text()
    record = report_file.load(tmp_path / "out")
    assert not record.finished
    assert "came to this case" in record.results["CAP-01"].sentence
    wait_until(lambda: not any(map(alive, family)), "everything of the run to be gone")


def program(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["check", "--adapter", "refrence"], "there is no adapter refrence: give a file, or one of those that ship: "),
        (["check", "--adapter", "reference", "--case", "CAP-1"], "there is no case CAP-1: `tapper-harness cases`"),
        (["check", "--adapter", "reference", "--profile", "TAP"], "there is no profile TAP: there are TAP-PACKET, "),
        (["check", "--adapter", "reference", "--jobs", "0"], "'0' is not a whole number from 1 on"),
        (["check", "--adapter", "reference", "--patience", "nan"], "'nan' is not a factor"),
        (["check", "--adapter", "reference", "--report", "."], "is not empty and holds no report"),
        (["check", "--adapter", "wrong.toml"], "wrong.toml is not TOML"),
        (["check"], "--adapter"),
        (["cases", "CAP-1"], "there is no case CAP-1: `tapper-harness cases` lists all"),
    ],
)
def test_wrong_arguments_are_a_sentence(tmp_path: Path, argv: list[str], sentence: str) -> None:
    (tmp_path / "wrong.toml").write_text("[")
    done = command(tmp_path, *argv)
    assert done.returncode == 2, done.stdout + done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["wrong.toml"]


def test_cases_are_listed_and_explained(tmp_path: Path) -> None:
    listed = command(tmp_path, "cases").stdout.splitlines()
    assert [line.split()[0] for line in listed if line.split()[0] in cases()] == list(cases())
    explained = command(tmp_path, "cases", "CAP-02").stdout
    case = cases()["CAP-02"]
    for part in (f"CAP-02 ({case.level})", case.requirement, case.explanation, case.source):
        assert part in explained


def test_the_adapters_that_ship_are_listed(tmp_path: Path) -> None:
    done = command(tmp_path, "adapters")
    assert done.returncode == 0
    assert {"reference", "tcpdump"} <= {line.split()[0] for line in done.stdout.splitlines()}


def test_help_does_not_wait_for_what_commands_need() -> None:
    program = "import sys; sys.argv = ['x', 'check', '--help']\nfrom harness.cli import main\n" + (
        "try: main()\nexcept SystemExit: print(sorted({'rich', 'yaml', 'scapy', 'pyroute2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], env=ENVIRON, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"

"""A tapper is not blamed for what the machine does: a full disk under the report, a node that is killed."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.adapters.reference import adapter
from harness.conformance import report_file
from harness.conformance.model import Case, Level, Outcome
from harness.conformance.run import run
from harness.conformance.trial import Trial


def trying(function: Callable[[Any], None]) -> Case:
    return Case("CAP-99", Level.MUST, "this test", function)


def kill_keeper(trial: Trial) -> None:
    """The parent of the node's PID 1, as an out-of-memory killer may choose it."""
    pod = trial.pod("server")
    tap = trial.tap(pod)
    status = Path(f"/proc/{trial.node.host_pid}/status").read_text()
    os.kill(int(status.partition("PPid:")[2].split()[0]), signal.SIGKILL)
    tap.look(pod)


def test_the_death_of_its_node_is_not_the_tappers_fault(tmp_path: Path) -> None:
    result = run(trying(kill_keeper), adapter(), tmp_path / "case")
    assert result.outcome is Outcome.BLOCKED
    assert "killed its keeper" in result.sentence


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file takes more than it has."""

    def refused(_path: Path, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", refused)


def fail(trial: Trial) -> None:
    tap = trial.tap(trial.pod("server"))
    tap.require(False, "the impossible", "nothing")


@pytest.mark.usefixtures("full")
def test_a_failure_on_a_full_disk_is_not_the_tappers_fault(tmp_path: Path) -> None:
    result = run(trying(fail), adapter(), tmp_path / "case")
    assert result.outcome is Outcome.BLOCKED
    assert "takes no more: no space left on device" in result.sentence


def test_a_failure_is_a_failure_otherwise(tmp_path: Path) -> None:
    """The canary for both."""
    assert run(trying(fail), adapter(), tmp_path / "case").outcome is Outcome.FAIL


def test_a_folder_that_takes_more_is_left_as_it_was(tmp_path: Path) -> None:
    assert report_file.why_full(tmp_path) is None
    assert not list(tmp_path.iterdir())
    assert report_file.why_full(tmp_path / "missing") is not None

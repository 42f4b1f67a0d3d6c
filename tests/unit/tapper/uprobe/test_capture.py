"""When the processes of pods are looked at."""

from __future__ import annotations

from pathlib import Path

from tapper.discovery.exec_events import ExecEvents
from tapper.discovery.procfs import Procfs
from tapper.uprobe.capture import TlsCapture
from tapper.uprobe.probes import Probes


class Events(ExecEvents):
    """Tells of these processes; None where some are not known."""

    def __init__(self, told: list[dict[int, str] | None]) -> None:
        self.told = told

    def programs(self) -> dict[int, str] | None:
        return self.told.pop(0)


class NoProbes(Probes):
    def __init__(self) -> None:
        pass

    def began_in(self, process: int) -> int | None:  # noqa: ARG002
        return None


def test_processes_that_begin_are_looked_at_after_a_pause(tmp_path: Path) -> None:
    """However many begin, and also where some are not known: a look that takes long is followed by a longer pause."""
    for name in ("self", "stat"):
        (tmp_path / name).touch()  # a procfs without processes
    capture = TlsCapture(Procfs(tmp_path), NoProbes(), Events([{1: ""}, None, {}]))
    assert capture.next_look == 0.0, "nothing is known in the beginning"
    for _ in range(2):
        assert capture.look({}) == []
        nothing_began = capture.next_look
        capture.take_events()
        assert 0.0 < capture.next_look < nothing_began
    assert capture.look({}) == []
    before = capture.next_look
    capture.take_events()
    assert capture.next_look == before, "the records told of no process"

"""What the kit itself takes is measured, and shown beside its goals."""

from __future__ import annotations

import pytest

from bench import __main__ as command
from bench import kit
from harness.errors import HarnessError


def test_each_thing_is_measured_as_often_as_asked() -> None:
    found = {timing.what: timing for timing in kit.measure(2, catalogue=False)}
    assert [len(timing.seconds) for timing in found.values()] == [2, 10, 2, 2]
    assert all(seconds > 0 for timing in found.values() for seconds in timing.seconds)
    pod, mesh = found["a pod"], found["a node, a mesh of two pods with mTLS, and a request through it"]
    assert (pod.goal, mesh.goal) == (0.012, 1.0)


def test_the_table() -> None:
    shown = kit.table([kit.Timing("a pod", (0.008, 0.0125, 0.009), 0.012), kit.Timing("all", (1.5,))])
    assert "| a pod | 3 | 9.0 ms | 8.0 ms | 12.5 ms | 12.0 ms |\n" in shown
    assert shown.endswith("| all | 1 | 1.50 s | 1.50 s | 1.50 s |  |\n")


def test_a_catalogue_that_fails_is_no_figure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_times: int) -> list[kit.Timing]:
        raise HarnessError("the reference tapper does not pass the catalogue: 1 fail")

    monkeypatch.setattr(kit, "measure", fails)
    assert command.main(["--kit"]) == 3
    assert capsys.readouterr().err == "bench: the reference tapper does not pass the catalogue: 1 fail\n"

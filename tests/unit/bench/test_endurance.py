"""What is kept after much has come and gone: small runs, in which nothing is lost and nothing stays."""

from __future__ import annotations

import os

import pytest

from bench import __main__ as command
from bench import endurance
from tapper.streams.bounds import CONNECTION_COST


@pytest.mark.skipif(os.geteuid() != 0, reason="the tapper captures on the node: run it as root")
def test_pods_and_processes_come_and_go() -> None:
    churned = endurance.churn(pods=3, processes=6)
    assert (churned.pods, churned.processes, churned.asked, churned.seen) == (3, 6, 3, 3)
    assert churned.after.sources == churned.before.sources == 2
    assert churned.after.descriptors <= churned.before.descriptors
    assert churned.after.threads <= churned.before.threads


def test_broken_packets_are_read_and_some_make_records() -> None:
    fuzzed = endurance.fuzz(5_000)
    assert fuzzed.packets >= 5_000
    assert fuzzed.records > 100
    assert len(fuzzed.mib) == 10
    assert fuzzed.mib[-1] - fuzzed.mib[0] < (endurance.HELD >> 20) + 5_000 * CONNECTION_COST / (1 << 20)


def test_the_command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    kept = endurance.Kept(19, 2, 16.0, 2)
    monkeypatch.setattr(
        endurance, "churn", lambda pods, processes: endurance.Churned(pods, processes, 1, 1, kept, kept)
    )
    monkeypatch.setattr(endurance, "fuzz", lambda packets: endurance.Fuzzed(packets, 7, (1.0, 2.0), 3.0))
    assert command.main(["--endurance", "--quick"]) == 0
    said = capsys.readouterr().out
    assert "20 pods and 200 processes came and went: of 1 requests to the watched pod 1 were reported once" in said
    assert "200000 packets, 7 records in 3 s; MiB of memory by tenths: 1 2" in said

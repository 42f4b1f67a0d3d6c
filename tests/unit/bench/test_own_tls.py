"""What `tap --tls` costs: a small run of the three, in which every exchange is reported at both of its ends."""

from __future__ import annotations

import pytest

from bench import __main__ as command
from bench import own_tls
from harness.sandbox import uprobes

EXCHANGES = 100


@pytest.mark.skipif(uprobes.refusal() is not None, reason=f"--tls: {uprobes.refusal()}")
def test_exchanges_of_targets_are_reported_at_both_ends_and_those_of_others_are_not() -> None:
    without, beside, read = own_tls.measure(EXCHANGES)
    assert [cost.exchanges for cost in (without, beside, read)] == [EXCHANGES] * 3
    assert all(cost.application_s > 0 for cost in (without, beside, read))
    assert (without.tapper_s, without.seen, beside.seen) == (0, 0, 0)
    assert (read.seen, read.lost) == (2 * EXCHANGES, 0)
    assert read.tapper_s > 0


def test_the_command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    costs = [own_tls.Cost("no tapper", 1000, 0.5, 0.04), own_tls.Cost("both", 1000, 1.0, 0.08, 0.03, 1990, 7)]
    monkeypatch.setattr(own_tls, "measure", lambda exchanges: iter(costs if exchanges == 5_000 else ()))
    assert command.main(["--tls", "--quick"]) == 0
    said = capsys.readouterr().out
    assert "| no tapper | 10.0 µs | 1.00 | 2,000 | - | - | 0 |" in said
    assert "| both | 20.0 µs | 2.00 | 1,000 | 30.0 µs | 99.50% | 7 |" in said

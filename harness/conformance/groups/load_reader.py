"""LOAD, continued: whoever reads a tapper's output may be slow."""

from __future__ import annotations

import threading

from harness.adapters.contract import Feature
from harness.conformance import truth
from harness.conformance.model import Level, case
from harness.conformance.trial import Trial
from harness.conformance.truth import Sent
from harness.conformance.verdict import NotClaimed

_STALLS_S = 5.0
_PACE_S = 0.1
_BODY = b"z" * (16 << 10)


@case("LOAD-07", Level.MUST, "pipe(7): a pipe holds 64 KiB, and a write to a full one waits, or fails")
def stalled_reader(trial: Trial) -> None:
    """A tapper MUST go on after five seconds in which nobody reads its output, and count what it lost meanwhile.

    What reads a tapper's standard output is restarted, or waits for a disk. Meanwhile ten exchanges of 16 KiB pass each
    second, ten times as much as the pipe holds. The tapper may lose some of them, but may not end, and has to report
    what comes after. One that claims drop counters may not count fewer drops than exchanges are missing.
    """
    if trial.adapter.to != "stdout":
        raise NotClaimed("the tapper writes to a file, which always takes more")
    trial.may_lose = True
    server = trial.pod("server")
    tap = trial.tap(server)
    meanwhile: list[Sent] = []
    pause = threading.Event()
    with tap.under_test.unread():
        for _ in range(round(_STALLS_S / _PACE_S)):
            meanwhile += truth.deliver(server, body=_BODY)
            pause.wait(_PACE_S)  # the pace is what is tried: nobody is waited for
    tap.look(server)
    sent = truth.deliver(server, 5)
    tap.settle(sent, server)
    tap.end()
    tap.expect_seen(sent)
    if Feature.DROP_COUNTERS in trial.adapter.claims:
        lost = sum(not tap.mentions([each]) for each in meanwhile)
        told = tap.records("stat") + tap.records("bye")
        dropped = max((int(record.get("dropped") or 0) for record in told), default=0)
        tap.require(dropped >= lost, f"at least {lost} drops told, so many exchanges being lost", str(dropped))

"""LOAD, continued: whoever reads a tapper's output may be slow."""

from __future__ import annotations

import threading

from harness.conformance import truth
from harness.conformance.model import Level, case
from harness.conformance.trial import Trial
from harness.conformance.truth import Sent
from harness.conformance.verdict import NotClaimed

_STALLS_S = 5.0
_PACE_S = 0.1
_BODY = b"z" * (2 << 10)


@case("LOAD-07", Level.SHOULD, "pipe(7): a pipe holds 64 KiB, and a write to a full one waits, or fails")
def stalled_reader(trial: Trial) -> None:
    """A tapper SHOULD lose nothing while nobody reads its output for five seconds.

    What reads a tapper's standard output is restarted, or waits for a disk. Meanwhile ten exchanges of 2 KiB pass each
    second, more than the pipe holds. The tapper may not end by it, and each of them has to be there once the output is
    read again.
    """
    if trial.adapter.to != "stdout":
        raise NotClaimed("the tapper writes to a file, which always takes more")
    server = trial.pod("server")
    tap = trial.tap(server)
    sent: list[Sent] = []
    pause = threading.Event()
    with tap.under_test.unread():
        for _ in range(round(_STALLS_S / _PACE_S)):
            sent += truth.deliver(server, body=_BODY)
            pause.wait(_PACE_S)  # the pace is what is tried: nobody is waited for
    sent += truth.deliver(server, 3)
    tap.settle(sent, server)
    tap.end()
    tap.expect_seen(sent)

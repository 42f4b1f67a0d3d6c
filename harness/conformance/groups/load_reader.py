"""LOAD, continued: a tapper that cannot go on for a while, because nobody reads its output or it gets no processor."""

from __future__ import annotations

import signal
import threading

from harness.adapters.contract import Feature
from harness.conformance import truth
from harness.conformance.model import Level, case
from harness.conformance.trial import Trial
from harness.conformance.truth import Sent
from harness.conformance.verdict import NotClaimed
from harness.sandbox.pod import Pod

_FILLING = 10
"""Exchanges with _BODY, which fill the pipe."""
_BODY = b"z" * (16 << 10)
_CALM = 15
_CALM_PACE_S = 0.2
_BURST = 20
_LARGE_BODY = b"z" * (1 << 20)
_STOPPED = 25
_STOPPED_PACE_S = 0.08


def _at_pace(server: Pod, count: int, pace_s: float, body: bytes = b"ok\n") -> list[Sent]:
    """Exchanges one after another; the pace is what is tried, nobody is waited for."""
    sent: list[Sent] = []
    pause = threading.Event()
    for _ in range(count):
        sent += truth.deliver(server, body=body)
        pause.wait(pace_s)
    return sent


@case("LOAD-07", Level.MUST, "pipe(7): a pipe holds 64 KiB, and a write to a full one waits, or fails")
def stalled_reader(trial: Trial) -> None:
    """A tapper whose output nobody reads MUST lose nothing while little passes, count what it loses of much, and go on.

    What reads a tapper's standard output is restarted, or waits for a disk. Ten exchanges of 16 KiB fill the pipe, and
    five small ones pass in each of three seconds. They have to be reported once the output is read again. Then, unread
    again, 20 MiB pass at once. The tapper may lose some of that, and one that claims drop counters may not count fewer
    drops than exchanges are missing. What passes afterwards has to be reported.
    """
    if trial.adapter.to != "stdout":
        raise NotClaimed("the tapper writes to a file, which always takes more")
    server = trial.pod("server", record=False)
    tap = trial.tap(server)
    # 1. Little.
    with tap.under_test.unread():
        little = _at_pace(server, _FILLING, 0.1, _BODY) + _at_pace(server, _CALM, _CALM_PACE_S)
    tap.settle(little, server)
    # 2. Much.
    with tap.under_test.unread():
        much = truth.deliver(server, 4 * _FILLING, body=_BODY) + truth.deliver(server, _BURST, body=_LARGE_BODY)
    tap.look(server)
    # 3. Afterwards.
    sent = truth.deliver(server, 5)
    tap.settle(sent, server)
    tap.end()
    tap.expect_seen(little + sent)
    if Feature.DROP_COUNTERS in trial.adapter.claims:
        lost = sum(not tap.mentions([each]) for each in much)
        told = tap.records("stat") + tap.records("bye")
        dropped = max((int(record.get("dropped") or 0) for record in told), default=0)
        tap.require(dropped >= lost, f"at least {lost} drops told, so many exchanges being lost", str(dropped))


@case("LOAD-09", Level.MUST, "packet_mmap: a block goes to its reader when its time is out, however little is in it")
def stopped_while_little_passes(trial: Trial) -> None:
    """A tapper that gets no processor for two seconds MUST lose nothing of the little that passes meanwhile.

    It is stopped (SIGSTOP) while twenty-five small exchanges pass, evenly spread. That is less than any buffer holds,
    but more than a ring has blocks, if the kernel gives up a block for each of them.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    tap.under_test.family.send_signal(signal.SIGSTOP)
    sent = _at_pace(server, _STOPPED, _STOPPED_PACE_S)
    tap.under_test.family.send_signal(signal.SIGCONT)
    tap.settle(sent, server)
    tap.end()
    tap.expect_seen(sent)

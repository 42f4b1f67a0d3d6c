"""LOAD, continued: for a long time, and very much. These cases take minutes, and are run where they are asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from harness.adapters.contract import Feature
from harness.conformance import h2c, truth
from harness.conformance.model import Level, case
from harness.conformance.tap import TrialTap
from harness.conformance.trial import Trial
from harness.conformance.truth import INBOUND, OUTBOUND, ExpectedLeg, Sent
from harness.errors import Unsupported
from harness.mesh import delivery
from harness.mesh.app import NONCE_HEADER
from harness.mesh.delivery import LoopbackConnection
from harness.sandbox.pod import Pod

_MINUTE_S = 60.0
_CYCLE_S = 0.04
_UPDATES, _ENVOYS = 30, 6
"""How many updates of the targets, and other Envoys, there are in all."""
_SAMPLES = 60
_MOST_MEMORY = 12 << 20
_MOST_DESCRIPTORS, _MOST_THREADS = 16, 4
"""By how much a median may grow: what a buffer or a cache takes once, and not for each connection."""
_EXCHANGES = 100_000
_SLOWEST = 100  # by the adapter's schema
_CONNECTIONS = 8
_TICK_S = 0.02
_SHORT_S, _SHORT_EXCHANGES, _SHORT_RATE = 6.0, 2000, 500


@dataclass(frozen=True, slots=True)
class Taken:
    """The memory, descriptors and threads of a tapper at one moment, after a number of connections."""

    connections: int
    memory: int
    """Resident, in bytes."""
    descriptors: int
    threads: int


def _everything_short(trial: Trial) -> None:
    everything_on(trial, _SHORT_S)


def _many_short(trial: Trial) -> None:
    many(trial, _SHORT_EXCHANGES, min(trial.adapter.rate, _SHORT_RATE))


@case(
    "LOAD-05",
    Level.SHOULD,
    "kubeshark: memory grows with each connection until the node kills it",
    extra_s=2 * _MINUTE_S,
    shorter=_everything_short,
)
def for_a_minute(trial: Trial) -> None:
    """A tapper SHOULD NOT use more memory, descriptors or threads the longer it runs.

    For a minute connections are opened and closed, in and out of a pod, and exchanges go on on those that stay, over
    IPv6 and in HTTP/2 where that is claimed; targets are changed and another pod's Envoy is replaced by another. The
    tapper's memory, descriptors and threads are sampled each second: the last third of the samples may not lie above
    the second one by more than 12 MiB, 16 descriptors and 4 threads. The tapper has to report all exchanges, and may
    not end.
    """
    everything_on(trial, _MINUTE_S)


@case(
    "LOAD-06",
    Level.SHOULD,
    "the adapter's own word: limits.rate",
    extra_s=2 * _EXCHANGES / _SLOWEST,
    shorter=_many_short,
)
def at_its_rate(trial: Trial) -> None:
    """A tapper SHOULD lose nothing of 100,000 exchanges at the rate that its adapter says it keeps up with.

    `limits.rate` exchanges a second (1,000, if the adapter does not say) over eight connections. If the kit cannot send
    that fast on this machine, it says so, and the case is `blocked`.
    """
    many(trial, _EXCHANGES, trial.adapter.rate)


def everything_on(trial: Trial, seconds: float) -> None:
    """LOAD-05, for so long."""
    busy, other = trial.pod("busy", record=False), trial.pod("other", envoy=None, record=False)
    envoy = trial.envoy(other)
    tap = trial.tap(busy, other)
    dynamic = Feature.TARGETS_DYNAMIC in trial.adapter.claims
    taken: list[Taken] = []
    sent: list[Sent] = []
    with ExitStack() as rest:
        kept = [rest.enter_context(each) for each in _kept(busy)]
        streams = rest.enter_context(_Streams(busy)) if Feature.HTTP2 in trial.adapter.claims else None
        connections = 0
        for part in _cycles(seconds):
            sent += truth.deliver(busy, 2) + truth.ask(busy, ("10.96.77.10", 80), 2)
            if Feature.IPV6 in trial.adapter.claims:
                sent += truth.deliver(busy, 2, ipv6=True)
            connections += 3
            sent += [truth.speak(each, leg) for each, leg in zip(kept, _legs(busy), strict=True)]
            sent += [streams.speak()] if streams is not None else []
            if len(taken) < part * _SAMPLES:
                taken.append(Taken(connections, tap.under_test.family.memory(), *tap.under_test.family.handles()))
                if dynamic and len(taken) % (_SAMPLES // _UPDATES) == 0:
                    named = [busy, other] if len(taken) % (2 * _SAMPLES // _UPDATES) == 0 else [busy]
                    tap.retarget(*(trial.target(pod) for pod in named))
                if len(taken) % (_SAMPLES // _ENVOYS) == 0:
                    envoy.stop()
                    envoy = trial.envoy(other)
            if not tap.under_test.running:
                break
        tap.settle(sent, busy)
    tap.end()
    tap.expect_seen(sent)
    _is_flat(tap, taken)


def many(trial: Trial, count: int, rate: int) -> None:
    """LOAD-06, with so many at so many a second. Raises `Unsupported` where the kit is slower than that."""
    server = trial.pod("server", record=False)
    tap = trial.tap(server)
    sent: list[Sent] = []
    with ExitStack() as rest:
        conversations = [rest.enter_context(delivery.inbound(server)) for _ in range(_CONNECTIONS)]
        leg = ExpectedLeg(server, INBOUND)
        started = time.monotonic()
        while len(sent) < count and tap.under_test.running:
            due = min(int((time.monotonic() - started) * rate) + 1, count)
            for number in range(len(sent), due):
                sent.append(truth.speak(conversations[number % _CONNECTIONS], leg))
            threading.Event().wait(_TICK_S)  # the rate is what is tried: nobody is waited for
        took = time.monotonic() - started
        if tap.under_test.running and took > 1.2 * count / rate + 1:
            raise Unsupported(
                f"the kit sent {count} exchanges in {took:.0f} s here, which is less than the {rate} a second that the "
                "adapter's limits.rate says: try a machine with more processors"
            )
        tap.settle(sent, server)
    tap.end()
    tap.expect_seen(sent)


def _cycles(seconds: float) -> Iterator[float]:
    """Which part of the time has passed, from 0 to 1, a few times a second."""
    started = time.monotonic()
    number = 0
    while (passed := time.monotonic() - started) < seconds:
        yield passed / seconds
        number += 1
        # a pace, so that a minute is one of work and not of as much as the machine can do: nobody is waited for
        threading.Event().wait(max(0.0, started + number * _CYCLE_S - time.monotonic()))


def _kept(pod: Pod) -> Iterator[LoopbackConnection]:
    """Connections that stay open, one for each way."""
    yield delivery.inbound(pod)
    yield delivery.outbound(pod, ("10.96.77.11", 80))


def _legs(pod: Pod) -> tuple[ExpectedLeg, ExpectedLeg]:
    return ExpectedLeg(pod, INBOUND), ExpectedLeg(pod, OUTBOUND)


class _Streams:
    """An HTTP/2 connection that stays open."""

    def __init__(self, pod: Pod) -> None:
        self._leg = ExpectedLeg(pod, INBOUND)
        self._conversation = delivery.inbound(pod, 8081)
        self._asking, self._answering = h2c.Http2Sender(), h2c.Http2Sender()
        self._next = 1
        h2c.begin(self._conversation)

    def speak(self) -> Sent:
        sent = truth.sent(self._conversation, self._leg, truth.new_nonce(), body=b"ok\n")
        fields = h2c.request_fields("GET", sent.target, [(NONCE_HEADER, sent.nonce)])
        self._conversation.client_sends(self._asking.headers(self._next, fields, end=True))
        head = self._answering.headers(self._next, [(":status", "200"), (NONCE_HEADER, sent.nonce)])
        self._conversation.server_sends(head + self._answering.data(self._next, sent.response_body, end=True))
        self._next += 2
        return sent

    def __enter__(self) -> _Streams:
        return self

    def __exit__(self, *_: object) -> None:
        self._conversation.close()


def _is_flat(tap: TrialTap, taken: Sequence[Taken]) -> None:
    """The last third against the second: in the first, buffers and caches are filled."""
    third = len(taken) // 3
    before, after = taken[third : 2 * third], taken[2 * third :]
    for what, allowed, unit, values in (
        ("memory", _MOST_MEMORY, "bytes of memory", [each.memory for each in taken]),
        ("descriptors", _MOST_DESCRIPTORS, "descriptors", [each.descriptors for each in taken]),
        ("threads", _MOST_THREADS, "threads", [each.threads for each in taken]),
    ):
        first, last = median(values[third : 2 * third]), median(values[2 * third :])
        tap.require(
            last - first <= allowed,
            f"{what} to grow by at most {allowed} {unit}",
            f"{first:.0f} after {before[len(before) // 2].connections} connections, {last:.0f} after "
            f"{after[len(after) // 2].connections}",
        )

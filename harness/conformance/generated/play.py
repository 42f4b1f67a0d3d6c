"""Playing a plan in a trial: its pods, its connections side by side, and the changes of the pods."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from harness.conformance import expect, truth
from harness.conformance.generated import disorder, writing
from harness.conformance.generated.plan import (
    BURST,
    CLIENT,
    ENVOY_RETURNS,
    FIN,
    ITSELF,
    MOST_TALKS,
    OUTBOUND,
    PERMILLE,
    POD_JOINS,
    POD_LEAVES,
    RST,
    STAYS_OPEN,
    Happening,
    Plan,
    Talk,
)
from harness.conformance.generated.turns import Marked, Script
from harness.conformance.tap import TrialTap
from harness.conformance.trial import Trial
from harness.conformance.truth import INBOUND, ExpectedLeg, Sent
from harness.mesh import delivery, replay
from harness.mesh.delivery import APP_PORT, LoopbackConnection
from harness.mesh.fake_envoy import FakeEnvoy
from harness.mesh.workload import Delivery
from harness.sandbox.frames import endpoint
from harness.sandbox.pod import Pod

_FIRST_PORT = 45_000
_SERVICE = {4: "10.96.77.{}", 6: "fd00:96::{}"}
_SERVICE_PORTS = (80, 443, 80, 80)
"""The ports of the services, in turns; the port of TLS may carry plaintext as well."""
_BURST = 6


def play(trial: Trial, plan: Plan) -> TrialTap:
    """Play a plan to its end with a tapper whose targets are the plan's pods, and end the tapper.

    The oracle compares the tapper's records with the packets on the `lo` of each pod (`Trial.differences`). Canaries
    before and after prove that the tapper was capturing.
    """
    with ExitStack() as open_until_the_end:
        stage = _PlayedPods(trial, plan)
        talks = [_PlayedTalk(plan, number, stage.pods[talk.pod]) for number, talk in enumerate(plan.talks)]
        for talk in talks:
            open_until_the_end.callback(talk.close)
        _take_turns(talks, stage)
        calm = [pod for pod in stage.targets if pod.name not in stage.disturbed]
        sure = [exchange for talk in talks if talk.pod in calm for exchange in talk.sent]
        if sure:
            stage.tap.settle(sure, *calm)
        stage.tap.look(*stage.targets)
        stage.tap.end()
    seen = any(expect.of(exchange, stage.tap.seen) for exchange in sure)
    stage.tap.require(seen or not sure, f"something of {len(sure)} exchanges", "none of them")
    return stage.tap


def _take_turns(talks: Sequence[_PlayedTalk], stage: _PlayedPods) -> None:
    """Play one step of each connection in turn, until no steps are left."""
    waiting = sorted(stage.plan.happenings, key=lambda happening: happening.at)
    total, done = sum(talk.steps_in_all for talk in talks), 0
    going = list(talks)
    while going:
        now = time.monotonic()
        awake = [talk for talk in going if talk.quiet_until <= now]
        if not awake:
            # the pause itself is tested: there is nothing else to wait for
            threading.Event().wait(min(talk.quiet_until for talk in going) - now)
        for talk in awake:
            while waiting and done * PERMILLE >= waiting[0].at * total:
                stage.happens(waiting.pop(0))
            if talk.step():
                done += 1
            else:
                going.remove(talk)
    for happening in waiting:
        stage.happens(happening)


class _PlayedPods:
    """The pods of a plan, their Envoys, and the tapper with its targets."""

    def __init__(self, trial: Trial, plan: Plan) -> None:
        self.plan = plan
        self._trial = trial
        self.pods = [trial.pod(f"{plan.name}-pod-{number}", envoy=None) for number in range(plan.pods)]
        for number in {talk.pod for talk in plan.talks if talk.ipv6 and talk.segments.in_disorder}:
            replay.keep_out(self.pods[number], _FIRST_PORT, _FIRST_PORT + MOST_TALKS)
        self._envoys: dict[str, FakeEnvoy] = {pod.name: trial.envoy(pod) for pod in self.pods}
        joins = {happening.pod for happening in plan.happenings if happening.what == POD_JOINS}
        self.disturbed = {self.pods[happening.pod].name for happening in plan.happenings}
        """The names of the pods that change: a tapper may miss some of their traffic."""
        self.targets = [pod for number, pod in enumerate(self.pods) if number not in joins] or self.pods[:1]
        self.tap = trial.tap(*self.targets)

    def happens(self, happening: Happening) -> None:
        """Make the change, and wait until the tapper captures in the targets of that moment."""
        pod = self.pods[happening.pod]
        if happening.what == ENVOY_RETURNS:
            self._envoys[pod.name].stop()
            self._envoys[pod.name] = self._trial.envoy(pod)
        elif happening.what == POD_LEAVES and len(self.targets) > 1:
            self._retarget([other for other in self.targets if other is not pod])
            return
        elif happening.what == POD_JOINS:
            self._retarget([*(other for other in self.targets if other is not pod), pod])
        elif happening.what == BURST:
            without, within = [other for other in self.targets if other is not pod], self.targets
            if pod not in within:
                within = [*within, pod]
            for number in range(_BURST):
                self._retarget(within if number % 2 or not without else without)
        if pod in self.targets:
            self.tap.look(pod)

    def _retarget(self, pods: list[Pod]) -> None:
        self.targets = pods
        self.tap.retarget(*(self._trial.target(pod) for pod in pods))


class _PlayedTalk:
    """One connection of a plan while it is played. The first step opens it."""

    def __init__(self, plan: Plan, number: int, pod: Pod) -> None:
        self.pod = pod
        self.sent: list[Sent] = []
        """The exchanges that have passed completely."""
        self.quiet_until = 0.0
        """When the connection goes on, by time.monotonic."""
        talk, script = plan.talks[number], writing.script(plan, number)
        self._rest = ExitStack()
        if talk.segments.in_disorder:
            leg = _leg_of_frames(talk, pod, number)
            frames = disorder.framed(talk, script, leg, f"{plan.name}/{number}")
            self.steps_in_all = len(frames.frames)
            self._steps = self._by_frames(talk, frames, leg)
        else:
            self.steps_in_all = len(script.turns)
            self._steps = self._by_sockets(talk, script, number)
        self._half, self._done, self._quiet_s = self.steps_in_all // 2, 0, talk.quiet_ms / 1000

    def step(self) -> bool:
        """Play the next step. False if no step is left."""
        if next(self._steps, None) is None:
            return False
        self._done += 1
        if self._done == self._half and self._quiet_s:
            self.quiet_until = time.monotonic() + self._quiet_s
        return True

    def close(self) -> None:
        """Close the connection, if it is open."""
        self._rest.close()

    # -- inner -----------------------------------------------------------------------------------------------------

    def _by_sockets(self, talk: Talk, script: Script, number: int) -> Iterator[bool]:
        legs = [self._rest.enter_context(leg) for leg in _conversations(talk, self.pod, number)]
        marked = list(script.marked)
        for done, turn in enumerate(script.turns, start=1):
            # a call to itself crosses two legs, one after the other; its answer crosses them in the opposite order
            for leg in legs if turn.side == CLIENT else reversed(legs):
                leg.client_sends(turn.data) if turn.side == CLIENT else leg.server_sends(turn.data)
            while marked and marked[0].whole_after <= done:
                self._passed(marked.pop(0), talk, [(leg.src, leg.dst) for leg in legs])
            yield True
        for leg in legs:
            _end(talk, leg)

    def _by_frames(self, talk: Talk, frames: disorder.Framed, leg: replay.ReplayLeg) -> Iterator[bool]:
        wire = self._rest.enter_context(replay.sender(self.pod))
        marked = sorted(frames.marked, key=lambda exchange: exchange.whole_after)
        ends = (leg.client, leg.replies_from)
        for done, frame in enumerate(frames.frames, start=1):
            wire.send(frame)
            while marked and marked[0].whole_after <= done:
                self._passed(marked.pop(0), talk, [ends])
            yield True

    def _passed(self, marked: Marked, talk: Talk, ends: Sequence[tuple[tuple[str, int], tuple[str, int]]]) -> None:
        ways = (truth.OUTBOUND, INBOUND) if talk.direction == ITSELF else (talk.direction,)
        src, dst = (endpoint(*end) for end in ends[0]) if len(ends) == 1 else (None, None)
        legs = tuple(ExpectedLeg(self.pod, way) for way in ways)
        status = marked.status
        bodies = marked.request_body, marked.response_body
        self.sent.append(Sent(marked.nonce, marked.method, marked.target, status, legs, src, dst, *bodies))


def _conversations(talk: Talk, pod: Pod, number: int) -> Iterator[LoopbackConnection]:
    """The legs of a connection: two of a pod's call to itself, else one."""
    if talk.direction in (OUTBOUND, ITSELF):
        yield delivery.outbound(pod, service(talk, number))
    if talk.direction in (truth.INBOUND, ITSELF):
        style = Delivery.LOCALHOST if talk.localhost else Delivery.PASSTHROUGH
        yield delivery.inbound(pod, APP_PORT + number, delivery=style, ipv6=talk.ipv6)


def _leg_of_frames(talk: Talk, pod: Pod, number: int) -> replay.ReplayLeg:
    if talk.direction == OUTBOUND:
        return replay.outbound(pod, service(talk, number), _FIRST_PORT + number)
    return replay.inbound(pod, APP_PORT + number, _FIRST_PORT + number, ipv6=talk.ipv6, localhost=talk.localhost)


def service(talk: Talk, number: int) -> tuple[str, int]:
    return _SERVICE[6 if talk.ipv6 else 4].format(10 + number), _SERVICE_PORTS[number % len(_SERVICE_PORTS)]


def _end(talk: Talk, leg: LoopbackConnection) -> None:
    by_client = talk.close.side == CLIENT
    if talk.close.how == STAYS_OPEN:
        return
    if talk.close.how == RST:
        leg.resets(by_client=by_client)
    elif talk.close.how == FIN:
        leg.client_ends() if by_client else leg.server_ends()
    leg.close()

"""LIFE, continued: Envoys that come and go, what a tapper keeps open, and its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from harness.adapters.targets import Target
from harness.conformance import truth
from harness.conformance.groups.life import DYNAMIC
from harness.conformance.model import Level, case
from harness.conformance.tap import TrialTap, canary
from harness.conformance.trial import Trial
from harness.conformance.truth import Sent
from harness.conformance.verdict import Late
from harness.mesh.fake_envoy import FakeEnvoy
from harness.sandbox.pod import Pod

_A_MOMENT_S = 1.2
"""How long a disturbance lasts: twice as long as a tapper waits that looks at all processes twice a second."""
_STEP_S = 0.05
_DOWN_S = 1.5
_WAITING = 15
_WARM_UP = 6
_UPDATES = 50
_UPDATES_S = 25.0
"""After so long no more are begun: with a slow tapper, fewer updates have to tell."""


def _meanwhile(pod: Pod, seconds: float, then: Callable[[], object] = lambda: None) -> list[Sent]:
    """Requests all the time, for so long: what a gap in the capture would swallow."""
    sent: list[Sent] = []
    pause, end = threading.Event(), time.monotonic() + seconds
    while time.monotonic() < end:
        sent += truth.deliver(pod)
        then()
        pause.wait(_STEP_S)
    return sent


@case("LIFE-05", Level.MUST, "a sidecar is restarted by its kubelet")
def envoy_restarted(trial: Trial) -> None:
    """A tapper MUST go on with a pod whose Envoy was restarted.

    The pod stays, its Envoy ends, and after a moment without one there is another, with another process id. The tapper
    has to capture in the pod again within the kit's time limit, and may not report earlier exchanges again.
    """
    server = trial.pod("server", envoy=None)
    envoy = trial.envoy(server)
    tap = trial.tap(server)
    latency = tap.latency(lambda: canary(server))
    before = truth.deliver(server, 5)
    tap.wait_seen(before)
    envoy.stop()
    try:
        tap.prove_silence(lambda: canary(server), "", latency, within=_DOWN_S)
    except Late:
        pass  # to go on meanwhile is as good
    trial.envoy(server)
    sent = tap.prove_all(lambda: truth.deliver(server, 5), "requests inside a pod whose Envoy was restarted")
    calm = tap.look(server)
    tap.end()
    tap.expect_once(before + sent, calm=calm)


@case("LIFE-06", Level.MUST, "adapter contract: stop_signal and stop_grace_s")
def the_end(trial: Trial) -> None:
    """A tapper MUST end in time after the stop signal, write all that it has captured, and leave nothing behind.

    All its processes are stopped (SIGSTOP) while fifteen requests pass, which then wait in the kernel. They are fewer
    bytes than a packet socket holds by default. The tapper gets its stop signal and goes on (SIGCONT): it has to read
    the waiting packets before it ends. The process has to end within its grace, by itself and without an error; each
    request is in its output; none of its children is left.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    tap.under_test.freeze()
    sent = truth.deliver(server, _WAITING)
    ending = tap.end()
    adapter = tap.under_test.adapter
    tap.require(
        not ending.killed,
        f"its end within {adapter.stop_grace_s * trial.patience:g} s of {adapter.stop_signal.name}",
        "it had to be killed",
    )
    tap.require(
        ending.code in (0, -adapter.stop_signal, 128 + adapter.stop_signal),
        "an end without an error",
        f"exit code {ending.code}",
    )
    tap.expect_seen(sent)
    tap.require(not ending.strays, "no process left behind", ", ".join(ending.strays.values()))


@case("LIFE-07", Level.SHOULD, "mizu: descriptors of namespaces are never closed", features=DYNAMIC)
def flat_handles(trial: Trial) -> None:
    """A tapper SHOULD hold no more descriptors and threads after fifty updates than before.

    Two pods take turns as the second target, and each time there is another one that is nowhere on this node. After a
    warm-up the open descriptors and the threads of the tapper and its children are counted, and again fifty updates
    later, or as many as go into 25 seconds. A quarter of a descriptor or thread for each update is allowed.
    """
    stays, one, other = trial.pod("stays"), trial.pod("one"), trial.pod("other")
    tap = trial.tap(stays)

    def update(number: int) -> None:
        pod = (one, other)[number % 2]
        named = [trial.target(stays), trial.target(pod)]
        if not trial.adapter.delegates_discovery:  # the kit knows no process of a pod on another node
            named.append(Target(f"elsewhere-{number}", (f"10.245.1.{number}",), f"uid-elsewhere-{number}"))
        tap.retarget(*named)
        if number % 10 == 9 or not tap.wait_acknowledged():
            tap.look(pod)

    for number in range(_WARM_UP):
        update(number)
    before = sum(tap.under_test.family.handles())
    made, end = 0, time.monotonic() + _UPDATES_S * trial.patience
    while made < _UPDATES and time.monotonic() < end:
        update(_WARM_UP + made)
        made += 1
    most = before + made // 4
    tap.wait_for(
        lambda: sum(tap.under_test.family.handles()) <= most,
        f"about as many descriptors and threads after {made} updates as before, {before}",
        instead=lambda: str(sum(tap.under_test.family.handles())),
    )


@case(
    "LIFE-08",
    Level.MUST,
    "mizu: an Envoy that starts after the scan is missed until another pod changes",
    discovery=True,
)
def envoy_started_later(trial: Trial) -> None:
    """A tapper MUST find an Envoy that starts after the tapper, and after its pod was named as a target.

    That is what happens whenever a pod is rolled out: the pod has its address first, its sidecar later. Nothing else
    changes on the node; the tapper has to capture in the pod within the kit's time limit.
    """
    first, late = trial.pod("first"), trial.pod("late", envoy=None)
    tap = trial.tap(first, late, look=[first])
    _meanwhile(first, _A_MOMENT_S / 2)
    trial.envoy(late)
    sent = tap.prove_all(lambda: truth.deliver(late, 3), "requests inside a pod whose Envoy started last")
    tap.end()
    tap.expect_seen(sent)


@case("LIFE-09", Level.MUST, "mizu: a look that fails ends in 'no Envoys', and closes every source", discovery=True)
def procfs_gone_for_a_moment(trial: Trial) -> None:
    """A tapper MUST go on with its targets when it cannot read procfs for a moment.

    A tapper that cannot see a process does not know that it has ended. The procfs that the tapper was given is covered
    by an empty file system for a second, while an Envoy elsewhere comes and goes and the list of targets is written
    again; requests go on all the time. Each of them is reported once.
    """
    server, other = trial.pod("server"), trial.pod("other", envoy=None)
    root = trial.node.run_dir / "procfs"
    root.mkdir()
    inside = trial.node.inside(root)
    trial.node.run(["mount", "--bind", "/proc", inside])
    tap = trial.tap(server, procfs=inside)
    trial.node.run(["mount", "-t", "tmpfs", "none", inside])
    passing = trial.envoy(other)
    if trial.adapter.claims >= DYNAMIC:
        tap.retarget(trial.target(server))
    sent = _meanwhile(server, _A_MOMENT_S)
    passing.stop()
    trial.node.run(["umount", "--lazy", inside])
    sent += _meanwhile(server, _A_MOMENT_S / 2)
    tap.settle(sent, server)
    tap.end()
    tap.expect_seen(sent)


@case("LIFE-11", Level.MUST, "Envoy's hot restart: the new process starts before the old one ends")
def envoy_takes_over(trial: Trial) -> None:
    """A tapper MUST lose nothing when another Envoy takes over from the Envoy by which the pod was found.

    A second Envoy starts in the pod, then the first ends: the pod has one at any time. Requests go on all the while;
    each is reported once.
    """
    server = trial.pod("server", envoy=None)
    old: FakeEnvoy = trial.envoy(server)
    tap = trial.tap(server)
    trial.envoy(server)
    sent = truth.deliver(server, 3)
    old.stop()
    sent += _meanwhile(server, _A_MOMENT_S)
    _expect_all(tap, sent, server)


def _expect_all(tap: TrialTap, sent: list[Sent], pod: Pod) -> None:
    tap.settle(sent, pod)
    tap.end()
    tap.expect_once(sent)

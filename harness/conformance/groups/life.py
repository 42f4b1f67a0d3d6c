"""LIFE: a tapper's life: its beginning, other targets, Envoys that come and go, its end."""

from __future__ import annotations

from harness.adapters.contract import Feature
from harness.conformance import expect, truth
from harness.conformance.model import Level, case
from harness.conformance.tap import TrialTap, canary
from harness.conformance.trial import Trial
from harness.mesh import delivery
from harness.sandbox.pod import Pod

DYNAMIC = frozenset({Feature.TARGETS_DYNAMIC})


@case("LIFE-01", Level.MUST, "adapter contract: readiness is proven, never believed")
def ready_means_capturing(trial: Trial) -> None:
    """A tapper MUST NOT say that it is ready before it captures.

    Scripts wait until the tapper says so, and then send their requests. As soon as the tapper says that it is ready, in
    the way that its adapter names, one request is sent in each of three targets. The tapper has to report all of them.
    It is started three times, since a race is not lost every time. An adapter that names no such way cannot fail this
    case.
    """
    pods = [trial.pod("first"), trial.pod("second"), trial.pod("third")]
    for _ in range(3):
        tap = trial.tap(*pods, look=[])
        tap.wait_declared_ready()
        sent = [each for pod in pods for each in truth.deliver(pod)]
        tap.settle(sent, *pods)
        tap.end()
        tap.expect_seen(sent)


@case("LIFE-02", Level.MUST, "kubeshark: new pods are unseen until a restart", features=DYNAMIC)
def target_added(trial: Trial) -> None:
    """A tapper MUST capture in a target that is added while the tapper runs.

    Both pods run from the beginning; the second is named later. The tapper has to capture in it within the kit's time
    limit.
    """
    first, added = trial.pod("first"), trial.pod("added")
    tap = trial.tap(first)
    tap.retarget(trial.target(first), trial.target(added))
    sent = tap.prove_all(lambda: truth.deliver(added, 3), "requests inside a pod that was added to the targets")
    tap.end()
    tap.expect_seen(sent)


@case("LIFE-03", Level.MUST, "a list of targets is a permission", features=DYNAMIC)
def target_removed(trial: Trial) -> None:
    """A tapper MUST stop capturing in a pod that is removed from the targets.

    In the same update another pod is added, which proves that the tapper has read it. What is sent in the removed pod
    once it has fallen silent must not be reported.
    """
    removed, added = trial.pod("removed"), trial.pod("added")
    tap = trial.tap(removed)
    latency = tap.latency(lambda: canary(removed))
    tap.retarget(trial.target(added))
    tap.look(added)
    _fall_silent(tap, removed, latency)
    forbidden = truth.deliver(removed, 5)
    allowed = truth.deliver(added, 5)
    tap.settle(allowed, added)
    tap.end()
    tap.expect_seen(allowed)
    tap.expect_never(forbidden, while_seeing=allowed)


@case("LIFE-04", Level.MUST, "mizu: an empty list of targets keeps the old filter", features=DYNAMIC)
def no_targets(trial: Trial) -> None:
    """A tapper MUST capture nothing when the list of targets is empty.

    An empty list means no pod: neither every pod, nor the targets of before. The list becomes empty, and what is sent
    then in a pod that was a target, and in one that never was, must not be reported. A further update proves that the
    tapper still runs.
    """
    former, never = trial.pod("former"), trial.pod("never")
    tap = trial.tap(former)
    latency = tap.latency(lambda: canary(former))
    tap.retarget()
    tap.wait_acknowledged()
    _fall_silent(tap, former, latency)
    forbidden = truth.deliver(former, 5) + truth.deliver(never, 5)
    later = trial.pod("later")
    tap.retarget(trial.target(later))
    allowed = tap.prove_all(lambda: truth.deliver(later, 3), "requests inside a pod that became a target later")
    tap.end()
    tap.expect_seen(allowed)
    tap.expect_never(forbidden, while_seeing=allowed)


@case("LIFE-13", Level.MUST, "a list of targets is a permission, also where nobody is on it")
def no_targets_to_begin_with(trial: Trial) -> None:
    """A tapper MUST capture nothing when it is started with an empty list of targets.

    It may refuse to run, or run and wait. A second one beside it, started later and with a target, proves by canaries
    when a tapper looks on this node; what is sent from then on must not be in the output of the first.
    """
    pod, asked_for = trial.pod("pod"), trial.pod("asked-for")
    without = trial.tap(targets=[], look=[])
    beside = trial.tap(asked_for)
    forbidden = truth.deliver(pod, 5) + truth.ask(pod, ("10.96.77.10", 80), 5)
    canaries = truth.deliver(asked_for, 5)
    beside.settle(canaries, asked_for)
    without.stop()
    beside.end()
    beside.expect_seen(canaries)
    found = without.wrote(expect.trace(each) for each in [*forbidden, *canaries])
    told = [
        f"{each.method} {each.target} {found[trace]}"
        for each in [*forbidden, *canaries]
        if (trace := expect.trace(each)) in found
    ]
    without.require(not told, "nothing of anybody", ", ".join(told[:3]))


def _fall_silent(tap: TrialTap, pod: Pod, latency: float) -> None:
    tap.prove_silence(
        lambda: canary(pod), f"silence about {truth.in_words(pod)}, which is no target any longer", latency
    )


@case("LIFE-10", Level.MUST, "adapter contract: output.format")
def only_records(trial: Trial) -> None:
    """A tapper MUST write only the format that its adapter names, and every record whole.

    Banners and log lines belong to standard error. Requests of several kinds are sent, the tapper is stopped, and its
    output is read to the end: every line a record, or the file a whole capture.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    sent = truth.deliver(server, 3, body=bytes(range(256)), headers=[("X-Odd", "\xe9\t\xff")])
    truth.ask(server, ("10.96.77.10", 80), 3, body=b"line\nfeed\r\n\0")
    tap.settle(sent, server)
    tap.end()
    problems = tap.under_test.output.problems
    tap.require(not problems, "nothing but what its adapter promises", "; ".join(problems[:3]))
    tap.expect_seen(sent)


@case("LIFE-12", Level.MUST, "an update is about what changes", features=DYNAMIC)
def others_change(trial: Trial) -> None:
    """A tapper MUST lose nothing of a target that stays while others come and go.

    Six updates add a pod and remove it again, while requests go on, on one connection, in a pod that is a target all
    the time. Each of them is reported once.
    """
    stays, other = trial.pod("stays"), trial.pod("other")
    tap = trial.tap(stays)
    sent = []
    with delivery.inbound(stays) as conversation:
        for number in range(6):
            named = [stays, other] if number % 2 == 0 else [stays]
            tap.retarget(*(trial.target(pod) for pod in named))
            sent += [truth.speak(conversation, truth.ExpectedLeg(stays, truth.INBOUND)) for _ in range(5)]
            if other in named:
                tap.look(other)
            sent += [truth.speak(conversation, truth.ExpectedLeg(stays, truth.INBOUND)) for _ in range(5)]
    tap.settle(sent, stays)
    tap.end()
    tap.expect_once(sent)

"""LIFE, continued: lists of targets that come fast, what an acknowledgement says, and addresses that come back."""

from __future__ import annotations

from harness.adapters.targets import Target
from harness.conformance import expect, truth
from harness.conformance.groups.life import DYNAMIC
from harness.conformance.model import Level, case
from harness.conformance.oracle.compare import same_address
from harness.conformance.trial import Trial
from harness.conformance.verdict import NotClaimed

_BURST = 9


@case("LIFE-14", Level.MUST, "a rollout changes the list many times a second", features=DYNAMIC)
def updates_in_a_burst(trial: Trial) -> None:
    """A tapper MUST follow the last of several updates that come right after each other.

    Nine lists are written without a pause, with the second pod and without it by turns; the last list has it, so the
    tapper has to capture in it within the kit's time limit. A tapper that is still applying one update must not lose
    the next.
    """
    stays, other = trial.pod("stays"), trial.pod("other")
    tap = trial.tap(stays)
    for number in range(_BURST):
        named = [stays, other] if number % 2 == 0 else [stays]
        tap.retarget(*(trial.target(pod) for pod in named))
    sent = tap.prove_all(lambda: truth.deliver(other, 3), "requests inside a pod that is on the last list of targets")
    tap.end()
    tap.expect_seen(sent)


@case("LIFE-15", Level.MUST, "adapter contract: ack", features=DYNAMIC)
def acknowledged_means_in_force(trial: Trial) -> None:
    """A tapper MUST NOT acknowledge a list of targets before it is in force.

    Three times the one target is replaced by the other. As soon as the new list's `ack` has come, single requests are
    sent in both pods. The tapper has to report the requests in the new target, and may not report the requests in the
    former target. A tapper that never acknowledges cannot fail this case.
    """
    pods = [trial.pod("one"), trial.pod("other")]
    tap = trial.tap(pods[0])
    wanted, forbidden = [], []
    for number in range(1, 4):
        tap.retarget(trial.target(pods[number % 2]))
        if not tap.wait_acknowledged():
            raise NotClaimed("it acknowledges no list of targets")
        forbidden += truth.deliver(pods[1 - number % 2], 2)
        fresh = truth.deliver(pods[number % 2], 2)
        tap.settle(fresh, pods[number % 2])
        wanted += fresh
    tap.end()
    tap.expect_seen(wanted)
    tap.expect_never(forbidden, while_seeing=wanted)


@case("LIFE-16", Level.MUST, "Kubernetes: the address of a deleted pod is given to another", discovery=True)
def address_used_again(trial: Trial) -> None:
    """A tapper MUST find a new pod that has the address of a deleted pod.

    A pod is deleted; another one, with a network namespace and an Envoy of its own, gets its address. A tapper that
    remembers the former namespace of an address does not look for its present namespace. It has to capture in the
    second pod within the kit's time limit.
    """
    gone, heir = trial.pod("gone"), trial.pod("heir", envoy=None)
    tap = trial.tap(gone)
    address = gone.ip
    gone.delete()
    heir.run(["ip", "address", "add", f"{address}/32", "dev", "eth0"])
    trial.envoy(heir, instance_ip=address)
    if trial.adapter.claims >= DYNAMIC:
        tap.retarget(Target("heir", (address,), "uid-heir"))
    sent = tap.prove_all(
        lambda: truth.deliver(heir, 3, address=address), "requests inside a pod that has the address of a deleted one"
    )
    tap.end()
    right = {address, str(heir.ipv4), str(heir.ipv6)}
    for each in sent:
        found = expect.of(each, tap.seen)
        wrong = [report for report in found if report.pod_ip and same_address(report.pod_ip) not in right]
        tap.require(
            found and not wrong, f"{each.target} at {address}", "; ".join(map(str, wrong or found)) or "nothing of it"
        )

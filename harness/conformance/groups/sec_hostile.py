"""SEC, continued: processes of a pod that try to end, to blind or to deceive a tapper."""

from __future__ import annotations

from harness.adapters.contract import Feature
from harness.conformance import attackers, truth
from harness.conformance.groups.sec import MOST_MEMORY
from harness.conformance.model import Level, case
from harness.conformance.trial import Trial
from harness.conformance.truth import INBOUND, ExpectedLeg, Sent


@case(
    "SEC-12",
    Level.MUST,
    "prctl(2), PR_SET_MM_MAP: a process says itself where its environment is, and needs no right for that",
    discovery=True,
)
def environment_of_gigabytes(trial: Trial) -> None:
    """A tapper MUST survive a process whose environment has gigabytes, and go on finding its targets.

    In a pod that is no target a process named envoy has made two gigabytes of untouched memory its environment. A
    tapper that reads all of /proc/PID/environ needs as much memory, and the kernel kills it. The Envoy of a second
    target starts after that, so that the tapper has to look at all processes once more. Its resident memory may not
    pass 512 MiB.
    """
    server, late = trial.pod("server"), trial.pod("late", envoy=None)
    other = trial.pod("other", envoy=None)
    tap = trial.tap(server, late, look=[server])
    attackers.gigantic_environment(other)
    trial.envoy(late)
    tap.look(server, late)
    sent = truth.deliver(server, 2) + truth.deliver(late, 2)
    tap.settle(sent, server, late)
    tap.end()
    tap.expect_seen(sent)
    memory = tap.under_test.most_memory
    tap.require(memory < MOST_MEMORY, f"less than {MOST_MEMORY >> 20} MiB of memory", f"{memory >> 20} MiB")


@case(
    "SEC-13",
    Level.SHOULD,
    "packet(7), PACKET_FANOUT: who may open a packet socket may join another's group, and gets a part of its packets",
)
def fanout_thief(trial: Trial) -> None:
    """A tapper SHOULD lose nothing to a process of a pod that may open packet sockets.

    Containers have NET_RAW by default. A process of the target with that right alone asks the kernel for all fanout
    groups of its namespace, and joins each of them. The tapper has to report the twenty requests that follow.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    attackers.fanout_thief(server)
    sent = [each for _ in range(20) for each in truth.deliver(server)]
    tap.settle(sent)
    tap.end()
    tap.expect_seen(sent)


@case(
    "SEC-14",
    Level.MUST,
    "user_namespaces(7): a process without any right may make a network namespace with any address",
    features={Feature.DISCOVERY_ENVOY, Feature.VERIFIED_IDENTITY},
    discovery=True,
)
def forged_namespace(trial: Trial) -> None:
    """A tapper that verifies identity MUST NOT report what happens in a namespace that a pod's process has made itself.

    A process of another pod makes a user namespace and in that a network namespace, gives the target's address to its
    `lo`, runs a program named envoy with the target's INSTANCE_IP there, and talks with itself. Address and environment
    are the target's, so a tapper that reports this traffic lets any pod forge the target's traffic. The target's own
    requests have to be reported before and after.
    """
    server, late = trial.pod("server"), trial.pod("late", envoy=None)
    other = trial.pod("other", envoy=None)
    tap = trial.tap(server, late, look=[server])
    nonce = truth.new_nonce()
    attackers.forged_pod(other, server.ip, nonce)
    trial.envoy(late)
    tap.look(server, late)
    seen = truth.deliver(server, 2) + truth.deliver(late, 2)
    tap.settle(seen, server, late)
    tap.end()
    forged = Sent(nonce, "DELETE", truth.target_of(nonce), 200, (ExpectedLeg(server, INBOUND),))
    tap.expect_seen(seen)
    tap.expect_never([forged], while_seeing=seen)

"""NETNS: network namespaces, and their release."""

from __future__ import annotations

from dataclasses import replace

from harness.adapters.contract import Feature
from harness.conformance import state, truth
from harness.conformance.model import Level, case
from harness.conformance.tap import canary
from harness.conformance.trial import Trial
from harness.conformance.truth import INBOUND, ExpectedLeg
from harness.errors import InternalError
from harness.mesh import delivery
from harness.mesh.fake_envoy import FakeEnvoy, Variant
from harness.mesh.workload import Delivery
from harness.sandbox.pod import Pod

_TRIES = 20


@case("NETNS-01", Level.MUST, "network_namespaces(7): every namespace has a lo of its own")
def inside_the_namespace(trial: Trial) -> None:
    """A tapper MUST capture inside its targets' network namespaces.

    Two targets, traffic in both by turns: each request is reported for the pod in which it was on `lo`. From the node's
    own namespace nothing of it can be seen.
    """
    first, second = trial.pod("first"), trial.pod("second")
    tap = trial.tap(first, second)
    sent = []
    for _ in range(5):
        for pod in (first, second):
            sent += truth.deliver(pod, 3)
    tap.settle(sent, first, second)
    tap.end()
    tap.expect_seen(sent)


@case("NETNS-02", Level.MUST, "mizu: sources keyed by process id report a shared namespace once for each process")
def shared_namespace(trial: Trial) -> None:
    """A tapper MUST report each exchange once in a namespace in which two Envoys run.

    During an upgrade two Envoys serve one pod for a while, and an Envoy that has forked is two processes. Four Envoys
    run in one pod here. The tapper has to report each request once, or as often as the requests in a pod with one
    Envoy.
    """
    server, plain = trial.pod("server"), trial.pod("plain")
    trial.envoy(server)
    trial.envoy(server, Variant.FORKED)
    tap = trial.tap(server, plain)
    sent = truth.deliver(server, 5)
    tap.settle(sent, server)
    later = truth.deliver(server, 5)
    tap.settle(later, server)
    calm = tap.look(plain)
    tap.end()
    tap.expect_once(sent + later, calm=calm)


_NO_LO = "ip link set lo down && ip link set lo name other"


def _broken_pod(trial: Trial) -> Pod:
    """A pod in which there is no interface named lo, so that whoever enters it to capture there fails."""
    pod = trial.pod("broken", record=False)
    pod.run(["sh", "-c", _NO_LO])
    return pod


@case("NETNS-03", Level.MUST, "mizu: the thread stays in the pod's namespace when opening fails after setns(2)")
def no_thread_left_behind(trial: Trial) -> None:
    """A tapper MUST leave no thread of its own in a pod's namespace when it fails to capture there.

    A thread that has entered a namespace and has not come back does its next work there: it opens connections from the
    pod, resolves names in the pod, and keeps the namespace alive. One of two targets has no interface `lo`, so that
    opening it fails after the namespace was entered. Once the other target is captured, no thread of the tapper is
    found in the first. A thread may try again and come back. A thread may also stay because it does capture there, for
    example on all interfaces, which needs no `lo`. A packet socket in the namespace (/proc/net/packet) shows it.
    """
    broken = _broken_pod(trial)
    server = trial.pod("server")
    tap = trial.tap(broken, server, look=[server])
    tap.wait_for(
        lambda: not tap.under_test.family.threads_in(broken.netns_inode) or state.packet_sockets(broken),
        f"no thread of the tapper in the namespace of {truth.in_words(broken)}, where it could not capture",
        instead=lambda: f"{tap.under_test.family.threads_in(broken.netns_inode)} of its threads",
    )


@case("NETNS-04", Level.MUST, "network_namespaces(7): an open descriptor or socket keeps a namespace alive")
def namespace_released(trial: Trial) -> None:
    """A tapper MUST release a pod's namespace when the pod is deleted.

    A network namespace lives as long as a process has a socket in it or its file open. A tapper that holds on keeps the
    dead pod's interfaces, addresses and memory on the node until it ends. Every process of one of two targets is
    killed; the kernel has to take the namespace down while the tapper goes on with the other.
    """
    gone, server = trial.pod("gone"), trial.pod("server")
    tap = trial.tap(gone, server)
    gone.delete()
    tap.wait_for(
        lambda: gone.released,
        f"the network namespace of {truth.in_words(gone)}, which was deleted, to be let go",
        instead=lambda: "it is still there",
    )
    sent = truth.deliver(server, 3)
    tap.settle(sent, server)
    tap.end()
    tap.expect_seen(sent)


@case("NETNS-05", Level.SHOULD, "pidfd_open(2): process ids are used again", discovery=True)
def pid_used_again(trial: Trial) -> None:
    """A tapper SHOULD notice that a process id belongs to another process now.

    The Envoy of one target ends, and the Envoy of another gets its process id. Everything that the tapper had cached
    under that process id is wrong now. The tapper has to capture in the second pod.
    """
    first, second = trial.pod("first", envoy=None), trial.pod("second", envoy=None)
    envoy = trial.envoy(first)
    tap = trial.tap(first, second, look=[first])
    envoy.stop()
    _start_as(trial, second, envoy.pid)
    tap.look(second)
    sent = truth.deliver(second, 5)
    tap.settle(sent, second)
    tap.end()
    tap.expect_seen(sent)


def _start_as(trial: Trial, pod: Pod, pid: int) -> FakeEnvoy:
    """An Envoy of this process id. Another process, or a thread, may be faster: then again."""
    for _ in range(_TRIES):
        trial.node.choose_next_pid(pid)
        envoy = trial.envoy(pod)
        if envoy.pid == pid:
            return envoy
        envoy.stop()
    raise InternalError(f"the process id {pid} could not be had again in {_TRIES} tries")


@case("NETNS-06", Level.MUST, "mizu: one assembler for all namespaces merges equal connections of two pods")
def equal_connections(trial: Trial) -> None:
    """A tapper MUST keep equal connections of two pods apart.

    127.0.0.1:40777 to 127.0.0.1:8080 exists in every pod whose sidecar delivers on the loopback address. Two such
    connections are open at once, in two targets; requests and answers go by turns, cut so that the two are mixed when
    they are put into one stream. Each is reported once, for its pod.
    """
    pods = [trial.pod("first"), trial.pod("second")]
    tap = trial.tap(*pods)
    sent = []
    open_ = [delivery.inbound(pod, delivery=Delivery.LOCALHOST, source_port=40777) for pod in pods]
    with open_[0], open_[1]:
        for _ in range(5):
            nonces = [truth.new_nonce() for _ in pods]
            for part in (0, 1):
                for conversation, nonce in zip(open_, nonces, strict=True):
                    conversation.client_sends(_half(truth.request(nonce), part))
            for part in (0, 1):
                for conversation, nonce in zip(open_, nonces, strict=True):
                    conversation.server_sends(_half(truth.response(nonce), part))
            for pod, conversation, nonce in zip(pods, open_, nonces, strict=True):
                sent.append(truth.sent(conversation, ExpectedLeg(pod, INBOUND), nonce))
    tap.settle(sent, *pods)
    tap.end()
    tap.expect_once(sent)


def _half(data: bytes, part: int) -> bytes:
    middle = len(data) // 2
    return data[middle:] if part else data[:middle]


@case("NETNS-07", Level.MUST, "one pod's trouble is not another's")
def trouble_of_one(trial: Trial) -> None:
    """A tapper MUST go on with the other targets when it cannot capture in one.

    One of three targets has no interface `lo`. The tapper has to capture in the others, whether they come before that
    target in the list or after it.
    """
    before = trial.pod("before")
    broken = _broken_pod(trial)
    after = trial.pod("after")
    tap = trial.tap(before, broken, after, look=[before, after])
    sent = truth.deliver(before, 3) + truth.deliver(after, 3)
    tap.settle(sent, before, after)
    tap.end()
    tap.expect_seen(sent)


@case(
    "NETNS-08",
    Level.MUST,
    "network_namespaces(7): who keeps a namespace keeps its pod",
    features={Feature.TARGETS_DYNAMIC},
)
def removed_target_let_go(trial: Trial) -> None:
    """A tapper MUST release the namespace of a pod that is removed from the targets.

    The pod lives on. When the tapper reports nothing more of it, the removal is in effect. From then on no thread of
    the tapper may be in its namespace; then every process of the pod is killed, and the kernel has to take the
    namespace down while the tapper goes on with another.
    """
    removed, stays = trial.pod("removed"), trial.pod("stays")
    tap = trial.tap(removed, stays)
    latency = tap.latency(lambda: canary(removed))
    tap.retarget(trial.target(stays))
    tap.prove_silence(
        lambda: canary(removed), f"silence about {truth.in_words(removed)}, which is no target any longer", latency
    )
    tap.wait_for(
        lambda: not tap.under_test.family.threads_in(removed.netns_inode),
        "no thread of the tapper in the namespace of a pod that was removed from the targets",
        instead=lambda: f"{tap.under_test.family.threads_in(removed.netns_inode)} of its threads",
    )
    removed.delete()
    tap.wait_for(
        lambda: removed.released,
        "the network namespace of a pod that was removed from the targets, and then deleted, to be let go",
        instead=lambda: "it is still there",
    )
    sent = truth.deliver(stays, 3)
    tap.settle(sent, stays)
    tap.end()
    tap.expect_seen(sent)


@case("NETNS-09", Level.MUST, "Kubernetes: a pod's name is unique within its namespace only")
def equal_names(trial: Trial) -> None:
    """A tapper MUST keep pods of equal names apart.

    Every namespace may have a pod `web-0`. Two targets have the same name and different namespaces, and requests go on
    in both by turns. The tapper has to report each request once, for its pod. The pods' addresses differ.
    """
    pods = [trial.pod("first"), trial.pod("second")]
    targets = [
        replace(trial.target(pod), name="web-0", namespace=namespace)
        for pod, namespace in zip(pods, ("blue", "green"), strict=True)
    ]
    tap = trial.tap(*pods, targets=targets)
    sent = [each for _ in range(5) for pod in pods for each in truth.deliver(pod, 2)]
    tap.settle(sent, *pods)
    tap.end()
    tap.expect_once(sent)

"""CAP, continued: what is told of an exchange besides its messages. The oracle compares it, here and elsewhere."""

from __future__ import annotations

from harness.adapters.contract import Feature
from harness.conformance import truth
from harness.conformance.model import Level, case
from harness.conformance.trial import Trial
from harness.conformance.truth import INBOUND, ExpectedLeg
from harness.conformance.verdict import NotClaimed
from harness.mesh import delivery
from harness.mesh.app import NONCE_HEADER


@case("CAP-14", Level.MUST, "the adapter contract: a record is one exchange")
def nothing_invented(trial: Trial) -> None:
    """A tapper MUST NOT report an exchange that did not happen.

    Requests without a marker of the kit, like the requests of probes, go between marked requests, in and out. Every
    record has to be of an exchange that crossed the pod's `lo`, and each exchange has one record at most. In every
    other case the same is asked of all records.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    sent = truth.deliver(server, 2)
    with delivery.inbound(server) as conversation:
        for path in ("/healthz", "/healthz", "/ready"):
            asked = f"GET {path} HTTP/1.1\r\nHost: shop\r\nUser-Agent: kube-probe/1.33\r\n\r\n"
            conversation.exchange(asked.encode(), b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    sent += truth.ask(server, ("10.96.77.10", 80), 2)
    sent += truth.deliver(server, 2)
    tap.settle(sent, server)
    tap.end()
    tap.expect_seen([each for each in sent if each.legs[0].direction == INBOUND])


@case("CAP-15", Level.MUST, "adapter contract: direction", features={Feature.DIRECTION})
def which_way(trial: Trial) -> None:
    """A tapper that claims direction MUST tell what enters a pod from what leaves it.

    Requests from the sidecar to its application and requests from the application to its sidecar go by turns.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    sent = []
    for destination in (("10.96.77.10", 80), ("10.244.9.9", 8080), ("10.96.77.11", 18080)):
        sent += truth.deliver(server, 2)
        sent += truth.ask(server, destination, 2)
    tap.settle(sent, server)
    tap.end()
    tap.expect_seen(sent)


@case("CAP-16", Level.MUST, "adapter contract: pod_ip", features={Feature.POD_IDENTITY})
def which_pod(trial: Trial) -> None:
    """A tapper that claims pod identity MUST name the pod in which an exchange was seen.

    Four targets get the same requests by turns, in and out. `pod_ip`, and `netns` where a record has it, or the name of
    a capture's file or interface, have to name the right pod.
    """
    pods = [trial.pod(name) for name in ("first", "second", "third", "fourth")]
    tap = trial.tap(*pods)
    sent = []
    for _ in range(2):
        for pod in pods:
            sent += truth.deliver(pod)
        for pod in pods:
            sent += truth.ask(pod, ("10.96.77.10", 80))
    tap.settle(sent, *pods)
    tap.end()
    inbound = [each for each in sent if each.legs[0].direction == INBOUND]
    tap.expect_seen(inbound)


@case("CAP-17", Level.MUST, "adapter contract: version, duration_s", features={Feature.HTTP1})
def version_and_duration(trial: Trial) -> None:
    """A tapper MUST tell an exchange's version and duration as they were, if it tells them.

    Requests of HTTP/1.1 and of HTTP/1.0 on connections of their own. `version` is that of the request, `duration_s` the
    seconds from the request's first byte to the answer's last.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    sent = []
    for version in ("1.1", "1.0", "1.1"):
        nonce = truth.new_nonce()
        asked = truth.request(nonce).replace(b"HTTP/1.1\r\n", f"HTTP/{version}\r\n".encode(), 1)
        with delivery.inbound(server) as conversation:
            conversation.exchange(
                asked, f"HTTP/{version} 200 OK\r\n{NONCE_HEADER}: {nonce}\r\nContent-Length: 0\r\n\r\n".encode()
            )
            sent.append(truth.sent(conversation, ExpectedLeg(server, INBOUND), nonce))
    tap.settle(sent, server)
    tap.end()
    tap.expect_seen(sent)


@case("CAP-23", Level.MUST, "adapter contract: ack, stat, bye")
def counts(trial: Trial) -> None:
    """A tapper's counts MUST agree with what it reported and with what crossed, if it tells any.

    `bye` may tell how many exchanges were reported (`exchanges`), and of how many of them the request or the response
    is missing (`incomplete`). `received` and `dropped` are packets: no fewer than the reported requests took, no more
    than crossed, and the counts of the whole run never fall. An `ack` is of a generation that the targets file had. Two
    targets and requests in both, one of which is never answered. In every other case the same is asked of all counts.
    """
    first, second = trial.pod("first"), trial.pod("second")
    tap = trial.tap(first, second)
    sent = truth.deliver(first, 3) + truth.deliver(second, 2)
    nonce = truth.new_nonce()
    with delivery.inbound(first) as conversation:
        conversation.client_sends(truth.request(nonce))
    sent += truth.deliver(first, 2)
    tap.settle(sent, first, second)
    tap.end()
    tap.expect_seen(sent)
    counted = [record for kind in ("ack", "stat", "bye") for record in tap.records(kind) if len(record) > 1]
    if not counted:
        raise NotClaimed("it tells no counts")

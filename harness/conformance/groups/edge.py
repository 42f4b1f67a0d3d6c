"""EDGE: unusual states of a mesh."""

from __future__ import annotations

import re
import socket

from harness.adapters.contract import Feature
from harness.adapters.targets import Target
from harness.conformance import expect, tls, truth
from harness.conformance.model import Level, case
from harness.conformance.tap import TrialTap
from harness.conformance.trial import Trial
from harness.conformance.truth import INBOUND, OUTBOUND, ExpectedLeg, Sent
from harness.mesh import delivery, fake_envoy, replay
from harness.mesh.delivery import APP_PORT
from harness.mesh.workload import PASSTHROUGH_SOURCE, Mode
from harness.sandbox.frames import endpoint
from harness.sandbox.links import GATEWAY4
from harness.sandbox.pod import Pod


@case(
    "EDGE-01",
    Level.MUST,
    "Envoy pools connections: whoever attaches joins midway",
    features={Feature.HTTP1},
)
def joined_midway(trial: Trial) -> None:
    """A tapper that joins a connection midway MUST NOT pair a response with another request than its own.

    It may decode such a connection, or leave it alone. Three connections appear without their beginning: one has three
    unanswered requests, the first of which the tapper did not see; the first packet of another is an answer; and on the
    last, one unseen request is always on its way, so that requests and answers alternate. Every reported request must
    have its own answer or none. A tapper that pairs in the order of appearance gives every request the answer of the
    request before.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    several = [_plain(server, 40101, 220 + number) for number in range(4)]
    (first, second, third, fourth), sent = [exchange for exchange, _ in several], [each for _, each in several]
    pairs = [(first[0], b""), (second[0], b""), (third[0], first[1]), (b"", second[1]), (b"", third[1]), fourth]
    frames = replay.conversation(replay.inbound(server, APP_PORT, 40101), pairs, handshake=False)
    replay.play(server, frames[1:])
    several = [_plain(server, 40102, 230 + number) for number in range(3)]
    sent += [each for _, each in several]
    pairs = [exchange for exchange, _ in several]
    replay.play(server, replay.conversation(replay.inbound(server, APP_PORT, 40102), pairs, handshake=False)[1:])
    several = [_plain(server, 40103, 240 + number) for number in range(4)]
    (first, second, third, fourth), sent = [exchange for exchange, _ in several], sent + [each for _, each in several]
    pairs = [(first[0], b""), (second[0], first[1]), (third[0], second[1]), (fourth[0], third[1]), (b"", fourth[1])]
    replay.play(server, replay.conversation(replay.inbound(server, APP_PORT, 40103), pairs, handshake=False)[1:])
    plain = truth.deliver(server, 2)
    tap.settle(plain, server)
    tap.end()
    tap.expect_paired_right(sent, while_seeing=plain)


@case("EDGE-02", Level.SHOULD, "users of real tappers: `meshed pods missing`, without a word", discovery=True)
def says_what_it_cannot_see(trial: Trial) -> None:
    """A tapper SHOULD say so if it cannot see the plaintext of a target.

    Of two targets one has no sidecar: as a gateway, a proxyless client or a pod in ambient mode it has no plaintext leg
    that this method could find. A line of standard error or a record has to name its address, and may not say the same
    of the other target.
    """
    server = trial.pod("server")
    bare = trial.pod("bare", envoy=None)
    tap = trial.tap(server, bare, look=[server])
    tap.wait_for(
        lambda: _said_only_of(tap, bare, server),
        f"a word about the target {bare.ip}, which has no sidecar, on standard error or in a record",
    )
    tap.end()
    tap.require(_said_only_of(tap, bare, server), f"a word about the target {bare.ip}", "none")


@case("EDGE-03", Level.MUST, "Istio passes an application's own TLS on as it is: the ClientHello reaches lo untouched")
def own_tls_stays_shut(trial: Trial) -> None:
    """A tapper that does not claim `tls` MUST NOT decode an application's own TLS, and none may take it for HTTP.

    A real TLS 1.3 connection with requests in it is handed to the application, and another one to the sidecar; neither
    their plaintext nor an exchange of these connections may appear in the output. Plain requests beside them are seen.
    The kit encrypts these requests itself, outside of the pod, so that a tapper that claims `tls` finds no library in
    the pod that has them: its cases are those of the group TLS.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    inner = [_plain(server, 0, 200) for _ in range(3)]
    said = tls.flights([exchange for exchange, _ in inner])
    for conversation in (delivery.inbound(server, 8443), delivery.outbound(server, ("10.96.77.10", 9443))):
        with conversation:
            for ours, theirs in said:
                conversation.exchange(ours, theirs)
    plain = truth.deliver(server, 4)
    tap.settle(plain, server)
    tap.end()
    tap.expect_never([each for _, each in inner], while_seeing=plain)
    tap.expect_nothing_invented(8443, 9443, while_seeing=plain)


@case("EDGE-04", Level.MUST, "Istio's PeerAuthentication: STRICT, PERMISSIVE, DISABLE", real_envoy=True)
def every_mtls_mode(trial: Trial) -> None:
    """A tapper MUST see requests between two pods with sidecars whatever the mode of mTLS between them, each leg once.

    Two real Envoys, STRICT first, then PERMISSIVE, then DISABLE: the caller's leg and the server's have to be reported
    once each. In PERMISSIVE and DISABLE a caller without a sidecar sends requests as well, which have only the server's
    leg. Plaintext then also crosses the wire, and a tapper may report that too: as neither inbound nor outbound, or, if
    it reports no direction, between the two pods' addresses. How often a tapper reports a request is not judged if it
    reports neither directions nor addresses.
    """
    mesh = trial.mesh
    client, server, plain = mesh.pod("client"), mesh.pod("server"), mesh.pod("plain")
    mesh.inject(client, server)
    for member in (client, server):
        trial.record(member.pod)
    tap = trial.tap(client.pod, server.pod)
    outbound, inbound = ExpectedLeg(client.pod, OUTBOUND), ExpectedLeg(server.pod, INBOUND)
    sent = truth.through_mesh(mesh.send(client, server, 3), outbound, inbound)
    alone: list[Sent] = []
    for mode in (Mode.PERMISSIVE, Mode.DISABLE):
        mesh.set_mode(mode, server)
        sent += truth.through_mesh(mesh.send(client, server, 3), outbound, inbound)
        alone += truth.through_mesh(mesh.send(plain, server, 3), inbound)
    tap.settle(sent + alone, client.pod, server.pod)
    tap.end()
    talking = [member.pod for member in (client, server, plain)]
    tap.expect_once(sent, wire_between=talking)
    tap.expect_once(alone, wire_between=talking)


@case(
    "EDGE-05",
    Level.MUST,
    "an INSTANCE_IP is what a process says of itself",
    features={Feature.DISCOVERY_ENVOY},
    discovery=True,
)
def manual_envoy(trial: Trial) -> None:
    """A tapper MUST capture where an envoy claims a target's address, or refuse aloud if it claims verified_identity.

    This is the known limit of finding pods by Envoy's environment: a process named envoy with INSTANCE_IP set to a
    target's address makes a tapper capture its own network namespace under that address. Such a process runs in a pod
    that is no target. A tapper that claims to verify identity must report nothing of that pod, and say on standard
    error or in a record which process (by its pid) it does not trust.
    """
    server, other = trial.pod("server"), trial.pod("other", envoy=None)
    fake = trial.envoy(other, instance_ip=server.ip)
    tap = trial.tap(server)
    if Feature.VERIFIED_IDENTITY not in trial.adapter.claims:
        seen = tap.prove(
            lambda: truth.deliver(other), f"requests beside a process named envoy with INSTANCE_IP={server.ip}"
        )
        tap.end()
        tap.require(seen, "requests", "none")
        return
    forbidden = truth.deliver(other, 3)
    seen = truth.deliver(server, 3)
    tap.wait_seen(seen)
    pid = re.compile(rf"\b(pid|process)\W{{1,4}}{fake.pid}\b", re.IGNORECASE)
    tap.wait_for(
        lambda: any(pid.search(line) for line in _lines(tap)),
        f"a word about the process {fake.pid}, which claims an address that it has not",
    )
    tap.end()
    tap.expect_never(forbidden, while_seeing=seen)


@case(
    "EDGE-06",
    Level.SHOULD,
    "Istio: a pod with hostNetwork has the node's address and lo",
    discovery=True,
)
def host_network_envoy(trial: Trial) -> None:
    """A tapper SHOULD see what an Envoy of the node's own network hands to its application, once.

    The target has the node's address, and its Envoy runs in the node's network namespace. A tapper that also captures
    on the node's interfaces sees that `lo` twice. It must not report these requests more often than the requests in
    another target, which has a pod of its own.
    """
    server = trial.pod("server")
    address = str(GATEWAY4)
    fake_envoy.start(trial.node, instance_ip=address)
    host = Target("host", (address,), "uid-host")
    tap = trial.tap(look=[server], targets=[trial.target(server), host])
    tap.prove(lambda: [_on_host(trial, address)], "a request on the node's own lo, whose address is a target")
    sent = [_on_host(trial, address) for _ in range(3)]
    tap.settle(sent, server)
    tap.end()
    copies = tap.copies() or 1
    usual = "once" if copies == 1 else f"{copies} times, as in a pod"
    for each in sent:
        times = len(expect.of(each, tap.seen))
        tap.require(1 <= times <= copies, f"{each.target} on the node's own lo {usual}", f"{times} times")


@case(
    "EDGE-07",
    Level.MUST,
    "Envoy pools connections: whoever attaches joins midway",
    features={Feature.HTTP1, Feature.MIDSTREAM},
)
def decodes_midway(trial: Trial) -> None:
    """A tapper that claims midstream MUST report the exchanges of connections that were open before it came.

    Two connections have carried an exchange before the tapper starts, one from the sidecar to its application, and one
    from the application to the sidecar, whose packets no longer show its original destination. The tapper has to report
    the exchanges that they carry from then on.
    """
    server = trial.pod("server")
    with delivery.inbound(server) as inbound, delivery.outbound(server, ("10.96.77.10", 80)) as outbound:
        legs = ((inbound, ExpectedLeg(server, INBOUND)), (outbound, ExpectedLeg(server, OUTBOUND)))
        for conversation, leg in legs:
            truth.speak(conversation, leg)
        tap = trial.tap(server)
        sent = [truth.speak(*leg, status=220 + number) for number in range(3) for leg in legs]
        tap.settle(sent, server)
    tap.end()
    tap.expect_seen(sent)


def _plain(server: Pod, source_port: int, status: int) -> tuple[tuple[bytes, bytes], Sent]:
    """An exchange that the kit writes itself, and its record."""
    nonce = truth.new_nonce()
    src = f"127.0.0.6:{source_port}"
    sent = Sent(
        nonce, "GET", truth.target_of(nonce), status, (ExpectedLeg(server, INBOUND),), src, response_body=b"ok\n"
    )
    return (truth.request(nonce), truth.response(nonce, status, body=b"ok\n")), sent


def _on_host(trial: Trial, address: str) -> Sent:
    """A request on the node's `lo`, as a host-network sidecar hands it to its application."""
    nonce = truth.new_nonce()
    with trial.node.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, APP_PORT))
        listener.listen()
        client = trial.node.socket(socket.AF_INET, socket.SOCK_STREAM)
        client.bind((PASSTHROUGH_SOURCE[4], 0))
        client.connect((address, APP_PORT))
        server, _ = listener.accept()
    with delivery.LoopbackConnection(client, server, (address, APP_PORT)) as conversation:
        conversation.exchange(truth.request(nonce), truth.response(nonce))
        src, dst = endpoint(*conversation.src), endpoint(*conversation.dst)
    return Sent(nonce, "GET", truth.target_of(nonce), 200, (), src, dst)


def _lines(tap: TrialTap) -> list[str]:
    """The lines that the tapper has written so far: standard error, and all records but exchanges."""
    output = tap.under_test.output
    output.refresh()
    said = b"" if tap.under_test.adapter.format != "ndjson" else next(iter(output.everything()), b"")
    records = [line for line in said.decode(errors="replace").splitlines() if '"nonce-' not in line]
    return [*tap.under_test.stderr.text().splitlines(), *records]


def _said_only_of(tap: TrialTap, bare: Pod, other: Pod) -> bool:
    """Whether a line names the one address in words in which it does not name the other."""

    def about(pod: Pod) -> set[str]:
        named = re.compile(rf"(?<![\d.]){re.escape(pod.ip)}(?![\d.])")
        return {re.sub(r"\d+", "0", named.sub("POD", line)) for line in _lines(tap) if named.search(line)}

    return bool(about(bare) - about(other))

"""MESH: a tapper in a mesh of real sidecars, in the sandbox or in a cluster with Istio."""

from __future__ import annotations

from collections.abc import Iterable

from harness.adapters.contract import Feature
from harness.conformance.mesh.case import mesh_case
from harness.conformance.mesh.stage import Stage
from harness.conformance.model import Level
from harness.conformance.truth import INBOUND, OUTBOUND, ExpectedLeg, Sent, through_mesh
from harness.errors import HarnessError
from harness.mesh import traffic
from harness.mesh.traffic import nonces
from harness.mesh.workload import Mode
from harness.sandbox.recorder import Recorded
from harness.worlds import talk
from harness.worlds.model import WorldPod
from harness.worlds.pairs import PodPair, pair

ISTIO = "Istio: PeerAuthentication (security.istio.io/v1)"


def legs(of: PodPair, sent: Iterable[traffic.AnsweredRequest]) -> list[Sent]:
    """Requests that leave the client and enter the server."""
    return between(of.client, of.server, sent)


def between(client: WorldPod, server: WorldPod, sent: Iterable[traffic.AnsweredRequest]) -> list[Sent]:
    return through_mesh(sent, ExpectedLeg(client, OUTBOUND), ExpectedLeg(server, INBOUND))


def entering(pod: WorldPod, sent: Iterable[traffic.AnsweredRequest]) -> list[Sent]:
    return through_mesh(sent, ExpectedLeg(pod, INBOUND))


def leaving(pod: WorldPod, sent: Iterable[traffic.AnsweredRequest]) -> list[Sent]:
    return through_mesh(sent, ExpectedLeg(pod, OUTBOUND))


def _require_on_the_wire(wire: Recorded, sent: Iterable[Sent], readable: set[str]) -> None:
    """That the mesh does what the case takes for granted: these markers can be read between the pods, and no others."""
    found = wire.found(each.nonce for each in sent)
    if found != readable:
        raise HarnessError(
            f"the mesh is not as it was asked for: {len(readable)} requests should be readable between the pods, and "
            f"{len(found)} are"
        )


@mesh_case(3, Level.MUST, f"{ISTIO}, mode STRICT")
def each_exchange_once_a_leg(stage: Stage) -> None:
    """Under STRICT mTLS a tapper MUST report each exchange once where it leaves a target and once where it enters one.

    A client and a server with sidecars, both targets, and 50 requests through the server's service. What crosses
    between the pods is recorded meanwhile: none of the requests can be read there, so what is reported comes from
    within.
    """
    meshed = pair(stage.world)
    wire = stage.world.wire(meshed.server)
    tap = stage.tap(*meshed.pods)
    sent = legs(meshed, meshed.send(50))
    tap.conclude(sent)
    _require_on_the_wire(wire, sent, set())


@mesh_case(4, Level.MUST, f"{ISTIO}, mode PERMISSIVE")
def permissive(stage: Stage) -> None:
    """Under PERMISSIVE a tapper MUST report what enters its target once, whether a sidecar sent it or not.

    One caller has a sidecar and is a target; the other has none, and what it sends crosses the wire in plaintext and
    the server's `lo` besides. A tapper that reports the wire, too, has to tell it from the leg.
    """
    meshed = pair(stage.world, Mode.PERMISSIVE)
    outsider = stage.world.pod("outsider")
    wire = stage.world.wire(meshed.server)
    tap = stage.tap(*meshed.pods)
    inside = legs(meshed, meshed.send(10))
    readable = talk.send(stage.world, outsider, meshed.service, 10)
    outside = entering(meshed.server, readable)
    tap.settle(inside)
    tap.settle(outside)
    tap.end()
    tap.expect_once(inside)
    tap.expect_once(outside)
    _require_on_the_wire(wire, inside + outside, nonces(readable))


@mesh_case(5, Level.MUST, f"{ISTIO}, mode STRICT")
def strict_refuses(stage: Stage) -> None:
    """A tapper MUST NOT report a request as delivered that the sidecar refused.

    A caller without a sidecar asks a server under STRICT and gets no answer. Its request crossed the wire in plaintext,
    and reached no application. Requests of a pair with sidecars show that the tapper looked.
    """
    meshed = pair(stage.world)
    outsider = stage.world.pod("outsider")
    tap = stage.tap(*meshed.pods)
    answered, refused = talk.attempt(stage.world, outsider, meshed.service)
    if answered or not refused:
        raise HarnessError("a sidecar under STRICT has answered a caller without one")
    sent = legs(meshed, meshed.send(5))
    tap.conclude(sent)
    tap.expect_no_leg([each["nonce"] for each in refused], while_seeing=sent)


@mesh_case(6, Level.MUST, f"{ISTIO}, mode DISABLE")
def disable(stage: Stage) -> None:
    """With mTLS disabled a tapper MUST report each exchange as with it: once where it leaves, and once where it enters.

    The sidecars are there and pass plaintext on, so that every request is on the wire, too, and may be taken for a
    third.
    """
    meshed = pair(stage.world, Mode.DISABLE)
    wire = stage.world.wire(meshed.server)
    tap = stage.tap(*meshed.pods)
    sent = meshed.send(10)
    tap.conclude(legs(meshed, sent))
    _require_on_the_wire(wire, legs(meshed, sent), nonces(sent))


@mesh_case(7, Level.MUST, f"{ISTIO}: a change of mode")
def switch(stage: Stage) -> None:
    """A tapper MUST NOT miss or repeat anything while the mode of mTLS changes under load.

    PERMISSIVE, STRICT, and back, while requests go on: each that was answered is reported once for each leg. Sidecars
    drop and renew their connections at such a change.
    """
    meshed = pair(stage.world, Mode.PERMISSIVE)
    tap = stage.tap(*meshed.pods)
    load = talk.load(stage.world, meshed.client, meshed.service)
    for mode in (Mode.STRICT, Mode.PERMISSIVE, Mode.STRICT):
        load.wait_more(5)
        stage.world.set_mode(mode, *meshed.pods)
        load.wait_more(5)
    answered, _ = load.stop()
    tap.conclude(legs(meshed, answered))


@mesh_case(21, Level.MUST, "RFC 9113, and Istio's appProtocol http2", features={Feature.HTTP2})
def http2(stage: Stage) -> None:
    """A tapper that decodes HTTP/2 MUST report each stream of a connection between sidecars once for each leg.

    Ten streams on one connection of the client's. The canaries open no connection between the sidecars, so that the
    tapper can see each one's beginning.
    """
    _over(stage, "http2")


@mesh_case(39, Level.MUST, "gRPC over HTTP/2, and Istio's appProtocol grpc", features={Feature.HTTP2, Feature.GRPC})
def grpc(stage: Stage) -> None:
    """A tapper that decodes gRPC MUST report each call between sidecars once for each leg.

    Ten unary calls on one connection of the client's; the path names the method, and carries the marker.
    """
    _over(stage, "grpc")


def _over(stage: Stage, protocol: str) -> None:
    meshed = pair(stage.world, protocol=protocol)
    tap = stage.tap(*meshed.pods)
    tap.conclude(legs(meshed, meshed.send(10, protocol=protocol)))


@mesh_case(25, Level.MUST, "Kubernetes: a service with clusterIP None")
def headless(stage: Stage) -> None:
    """A tapper MUST report exchanges with a pod whose own address was dialled.

    There is no virtual address then, and the sidecars speak mTLS all the same.
    """
    meshed = pair(stage.world)
    direct = stage.world.service("direct", meshed.server, headless=True)
    tap = stage.tap(*meshed.pods)
    tap.conclude(legs(meshed, talk.send(stage.world, meshed.client, direct, 5)))


@mesh_case(26, Level.SHOULD, "Istio: a pod behind its own service; CAP-09")
def calls_itself(stage: Stage) -> None:
    """A tapper SHOULD report a pod that calls itself through its service once on the way out and once on the way in.

    All of it is on one `lo`: plaintext to the sidecar, its TLS to itself, plaintext to the application.
    """
    meshed = pair(stage.world)
    server = meshed.server
    tap = stage.tap(server)
    sent = talk.send(stage.world, server, meshed.service, 5)
    tap.conclude(between(server, server, sent))


@mesh_case(27, Level.MUST, "Kubernetes: dual stack", features={Feature.IPV6}, needs=("ipv6",))
def ipv6(stage: Stage) -> None:
    """A tapper that claims IPv6 MUST report what goes to a pod's IPv6 address.

    Where the pods have both kinds of addresses, and the service is an IPv6 one.
    """
    meshed = pair(stage.world)
    sixth = stage.world.service("sixth", meshed.server, ipv6=True)
    tap = stage.tap(*meshed.pods)
    tap.conclude(legs(meshed, talk.send(stage.world, meshed.client, sixth, 5)))


@mesh_case(28, Level.MUST, "Kubernetes: a DaemonSet, one pod of it a node", needs=("two_nodes",))
def two_nodes(stage: Stage) -> None:
    """A tapper that runs on every node MUST report each leg once, and so on that pod's node only.

    Client and server are on two nodes. What one node's tapper also reports of the other's pod is there twice.
    """
    meshed = pair(stage.world, nodes=(0, 1))
    if meshed.client.node == meshed.server.node:
        raise HarnessError("both pods of a pair that was to be on two nodes are on one")
    tap = stage.tap(*meshed.pods)
    tap.conclude(legs(meshed, meshed.send(10)))


@mesh_case(33, Level.MUST, "Istio: native sidecars; Kubernetes 1.29", needs=("native_sidecars",))
def native_sidecar(stage: Stage) -> None:
    """A tapper MUST find a native sidecar (an init container that keeps running).

    It starts before the application, and ends after it.
    """
    _injected(stage, native=True)


@mesh_case(34, Level.MUST, "Istio: sidecars before release 1.27", needs=("container_sidecars",))
def container_sidecar(stage: Stage) -> None:
    """A tapper MUST find a sidecar that is an ordinary container.

    It starts beside the application, and either may be first.
    """
    _injected(stage, native=False)


def _injected(stage: Stage, *, native: bool) -> None:
    meshed = pair(stage.world, native=native)
    tap = stage.tap(*meshed.pods)
    tap.conclude(legs(meshed, meshed.send(10)))

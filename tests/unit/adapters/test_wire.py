"""Whether the wire under a leg was TLS, with real Envoys: the wire is what tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.adapters.reference import RunningTapper
from harness.mesh.mesh import Mesh, MeshPod
from harness.mesh.traffic import AnsweredRequest
from harness.mesh.workload import Mode

StartTapper = Callable[..., RunningTapper]


@pytest.fixture
def pair(mesh: Mesh) -> tuple[MeshPod, MeshPod]:
    client, server = mesh.pod("client"), mesh.pod("server")
    mesh.inject(client, server)
    return client, server


def told(running: RunningTapper, sent: list[AnsweredRequest], count: int) -> dict[str, set[bool | None]]:
    """What is said of mTLS, by direction, once each request was reported `count` times."""
    targets = {exchange.target for exchange in sent}

    def records() -> list[dict[str, Any]]:
        return [record for record in running.exchanges if record["target"] in targets]

    running.wait_for(lambda: len(records()) == count * len(sent), f"{len(sent)} requests, {count} times each")
    found: dict[str, set[bool | None]] = {}
    for record in records():
        found.setdefault(record["direction"], set()).add(record["mtls"])
    return found


@pytest.mark.parametrize("ipv6", [False, True])
@pytest.mark.parametrize(("mode", "mtls"), [(Mode.STRICT, True), (Mode.DISABLE, False)])
def test_one_mode(
    mesh: Mesh, pair: tuple[MeshPod, MeshPod], tapper: StartTapper, mode: Mode, mtls: bool, ipv6: bool
) -> None:
    """From the first request on a new connection to the last, on both legs."""
    mesh.set_mode(mode, *pair)
    running = tapper([*(member.pod for member in pair), *(str(member.pod.ipv6) for member in pair if ipv6)])
    running.wait_capturing(*(member.pod for member in pair))
    sent = mesh.send(*pair, 20, connections=3, ipv6=ipv6)
    expected = {"inbound": {mtls}, "outbound": {mtls}} | ({} if mtls else {"node": {False}})
    assert told(running, sent, len(expected)) == expected
    if not ipv6:
        through = mesh.send(pair[0], mesh.service("shop", pair[1]), 5)
        assert told(running, through, len(expected)) == expected, "through a service that Envoy translates"


def test_permissive_tells_callers_apart(mesh: Mesh, pair: tuple[MeshPod, MeshPod], tapper: StartTapper) -> None:
    """At the same time: a caller with a sidecar and one without, which also comes through a translated service."""
    client, server = pair
    mesh.set_mode(Mode.PERMISSIVE, server)
    stranger = mesh.pod("stranger")
    shop = mesh.service("shop", server)
    running = tapper([client.pod, server.pod])
    running.wait_capturing(client.pod, server.pod)
    for _ in range(5):
        mutual, plain, through = mesh.send(*pair, 4), mesh.send(stranger, server, 4), mesh.send(stranger, shop, 4)
        assert told(running, mutual, 2) == {"inbound": {True}, "outbound": {True}}
        assert told(running, plain, 2) == {"inbound": {False}, "node": {False}}
        assert told(running, through, 2) == {"inbound": {False}, "node": {False}}


def test_a_wire_that_is_not_captured_is_not_known(
    mesh: Mesh, pair: tuple[MeshPod, MeshPod], tapper: StartTapper
) -> None:
    """The node's capture is on another pod's veth."""
    mesh.pod("other")
    running = tapper([pair[1].pod], "-i", "other")
    running.wait_capturing(pair[1].pod)
    assert told(running, mesh.send(*pair, 3), 1) == {"inbound": {None}}


@pytest.mark.parametrize(("mode", "mtls"), [(Mode.STRICT, True), (Mode.DISABLE, False)])
def test_a_pod_that_calls_itself(
    mesh: Mesh, pair: tuple[MeshPod, MeshPod], tapper: StartTapper, mode: Mode, mtls: bool
) -> None:
    """Through its service, what would be the wire is its own lo; by its own address there is none."""
    server = pair[1]
    mesh.set_mode(mode, server)
    shop = mesh.service("shop", server)
    running = tapper([server.pod])
    running.wait_capturing(server.pod)
    through, direct = mesh.send(server, shop, 3), mesh.send(server, server, 3)
    assert told(running, through, 2) == {"inbound": {mtls}, "outbound": {mtls}}
    assert told(running, direct, 1) == {"local": {None}}

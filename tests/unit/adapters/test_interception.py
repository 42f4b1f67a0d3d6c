"""How other meshes redirect, with their real rules: what an application says is found on lo all the same."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from harness.adapters.reference import RunningTapper
from harness.mesh import delivery, fake_envoy
from harness.mesh.envoy_config import INBOUND_PORT
from harness.mesh.redirect import LINKERD_INBOUND_PORT, LINKERD_OUTBOUND_PORT
from harness.sandbox.node import Node

StartTapper = Callable[..., RunningTapper]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
TLS = b"\x16\x03\x03\x00\x05hello"


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n".encode()


def test_linkerds_two_legs_and_the_wire_beneath(node: Node, tapper: StartTapper) -> None:
    client, server, caller = node.pod("client"), node.pod("server"), node.pod("caller")
    for pod in (client, server):
        delivery.outfit_linkerd(pod)
        fake_envoy.start_linkerd(pod)
    running = tapper([client, server], "--discover", "linkerd")
    running.wait_capturing(client, server)
    service = ("10.96.77.10", 80)
    with delivery.outbound(client, service, proxy_port=LINKERD_OUTBOUND_PORT) as outbound:
        outbound.client_sends(get("/meshed"))
        with delivery.wire(caller, server, LINKERD_INBOUND_PORT) as wire:
            wire.exchange(TLS, TLS)
            with delivery.inbound_from_itself(server) as inbound:
                inbound.exchange(get("/meshed"), OK)
        outbound.server_sends(OK)
    running.wait_targets(["/meshed"], pod=client)
    running.wait_targets(["/meshed"], pod=server)
    running.stop()
    legs = {record["direction"]: record for record in running.exchanges}
    assert set(legs) == {"outbound", "inbound"}
    assert (legs["outbound"]["dst"], legs["outbound"]["status"]) == ("10.96.77.10:80", 200)
    assert legs["outbound"]["src"].startswith(f"{client.ip}:")
    assert (legs["inbound"]["dst"], legs["inbound"]["mtls"]) == (f"{server.ip}:8080", True)


@pytest.mark.skipif(os.geteuid() != 0, reason="IP_TRANSPARENT needs CAP_NET_ADMIN where the test runs")
def test_transparent_interception_delivers_from_the_callers_address(node: Node, tapper: StartTapper) -> None:
    client, server = node.pod("client"), node.pod("server")
    delivery.outfit_tproxy(server)
    fake_envoy.start(server)
    running = tapper([server])
    running.wait_capturing(server)
    with delivery.wire(client, server, INBOUND_PORT, transparent=True) as wire:
        wire.exchange(TLS, TLS)
        with delivery.inbound_transparent(server, client.ip) as inbound:
            inbound.exchange(get("/transparent"), OK)
    running.wait_targets(["/transparent"])
    running.stop()
    (record,) = running.exchanges
    assert (record["direction"], record["pod_ip"], record["mtls"]) == ("inbound", server.ip, True)
    assert record["src"].startswith(f"{client.ip}:")
    assert record["dst"] == f"{server.ip}:8080"

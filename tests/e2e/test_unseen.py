"""What cannot be seen in plaintext on lo is said, with the reason, and never silently missing."""

from __future__ import annotations

import pytest
from scenes import both_legs_once, pair

from harness.worlds.world import World


def test_proxyless_grpc_is_said_to_be_invisible(world: World) -> None:
    """E2E-29: an application that does mTLS itself, without an Envoy: told once; a pair with sidecars is captured."""
    meshed = pair(world)
    bootstrap = {"GRPC_XDS_BOOTSTRAP": "/etc/istio/proxy/grpc-bootstrap.json"}
    proxyless = world.pod("proxyless", env=bootstrap)
    tap = world.tapper([*meshed.pods, proxyless])
    tap.wait_capturing(*meshed.pods)
    tap.wait_for(lambda: tap.said(proxyless.ip, "proxyless gRPC"), "the reason")
    sent = meshed.send(3)
    both_legs_once(tap, meshed, sent)
    assert len(tap.said(proxyless.ip, "proxyless gRPC")) == 1


def test_a_pod_without_a_sidecar_is_said_to_have_none(world: World) -> None:
    """E2E-30: nothing of it is on lo; what it sends is seen on the wire, and why is said."""
    plain = pair(world, None)
    tap = world.tapper(plain.pods)
    tap.wait_for(lambda: tap.said(plain.server.ip, "no sidecar"), "the reason")
    sent = plain.send(3)
    tap.wait_seen(sent, None, "node")
    tap.stop()


@pytest.mark.needs("gateway")
def test_an_ingress_gateway_is_said_to_have_no_plaintext_on_lo(world: World) -> None:
    """E2E-31: an Envoy that decrypts and encrypts within one process: told, with its role."""
    (gateway,) = world.gateways()
    tap = world.tapper([gateway])
    tap.wait_for(lambda: tap.said(gateway.ip, "is a gateway"), "the reason")
    tap.stop()

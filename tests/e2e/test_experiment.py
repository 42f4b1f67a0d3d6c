"""The experiment that this project began with: what tcpdump sees, what mTLS takes away, and how to get it back."""

from __future__ import annotations

from scenes import once, pair
from stages import play

from harness.conformance.groups import mesh
from harness.mesh.traffic import nonces
from harness.worlds.model import APP_PORT
from harness.worlds.world import World


def test_without_a_mesh_the_wire_shows_every_request(world: World) -> None:
    """E2E-01: no mesh. On the node every request can be read, and a tapper without --istio reports it."""
    plain = pair(world, None)
    wire = world.wire(plain.server)
    tap = world.tapper(plain.pods, istio=False)
    sent = plain.send()
    tap.wait_seen(sent)
    tap.stop()
    assert tap.seen() == once(sent)
    assert wire.found(nonces(sent)) == nonces(sent)


def test_strict_mtls_blinds_the_wire_and_a_tapper_without_istio(world: World) -> None:
    """E2E-02: sidecars, STRICT. The wire carries TLS, no marker; a tapper without --istio reports nothing of it.

    The same tapper reports a pair without sidecars, sent before and after: it was looking.
    """
    meshed, plain = pair(world), pair(world, None, name="plain-")
    wire = world.wire(meshed.server)
    tap = world.tapper([*meshed.pods, *plain.pods], istio=False)
    canary = plain.send(3)
    sent = meshed.send()
    canary += plain.send(3)
    tap.wait_seen(canary)
    tap.stop()
    assert tap.seen() == once(canary)
    assert wire.found(nonces(sent)) == set()
    tls, other = wire.carried(APP_PORT)
    assert tls > 0
    assert other == 0


def test_a_tapper_with_istio_shows_each_exchange_once_a_leg(world: World) -> None:
    """E2E-03: the same, with --istio: each request leaving the client and entering the server, with its answer."""
    tap = play(world, mesh.each_exchange_once_a_leg)
    shown = [record for record in tap.exchanges_of() if record["target"].startswith("/orders/")]
    assert len(shown) == 2 * 50
    assert {record["status"] for record in shown} == {200}
    for record in shown:
        nonce = record["target"].rpartition("/")[2]
        fields = {name.lower(): value for name, value in record["response"]["headers"]}
        assert fields["x-nonce"] == nonce

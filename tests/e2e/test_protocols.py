"""What a mesh carries: HTTP/1.1 (in every other scenario), HTTP/2, gRPC, WebSocket, a large body."""

from __future__ import annotations

from collections import Counter

from scenes import pair
from stages import play

from harness.adapters.reference import Record
from harness.conformance.groups import mesh
from harness.mesh.traffic import nonces
from harness.worlds.world import World

GET = """
import sys, urllib.request
with urllib.request.urlopen(sys.argv[1], timeout=20) as answer:
    print(len(answer.read()))
"""


def test_http2_stream_by_stream(world: World) -> None:
    """E2E-21: HTTP/2 on one connection: each stream on both legs, with its status."""
    tap = play(world, mesh.http2)
    assert {record["status"] for record in tap.exchanges_of()} == {200}


def test_grpc_call_by_call(world: World) -> None:
    """E2E-39: gRPC likewise: each call on both legs, told as one."""
    tap = play(world, mesh.grpc)
    assert {"grpc" in record for record in tap.exchanges_of() if "/canary/" not in record["target"]} == {True}


def test_websocket_messages(world: World) -> None:
    """E2E-22: a WebSocket through the mesh: each message of each side, on both legs."""
    meshed = pair(world, protocol="websocket")
    wire = world.wire(meshed.server)
    tap = world.tapper(meshed.pods)
    tap.wait_capturing(*meshed.pods)
    sent = meshed.send(5, protocol="websocket")
    wanted = Counter(dict.fromkeys(nonces(sent), 4))  # there and back, leaving the client, entering the server

    def texts() -> Counter[str]:
        return Counter(record["text"] for record in tap.of_type("websocket") if record["text"])

    tap.wait_for(lambda: texts().total() >= wanted.total(), f"{wanted.total()} messages")
    tap.stop()
    assert texts() == wanted
    assert wire.found(nonces(sent)) == set()


def test_a_megabyte(world: World) -> None:
    """E2E-23: a body of 1 MB is measured whole on both legs."""
    meshed = pair(world)
    tap = world.tapper(meshed.pods)
    tap.wait_capturing(*meshed.pods)
    url = f"http://{meshed.service.host}:{meshed.service.port}/bytes/1000000"
    assert world.run(meshed.client, ["python", "-c", GET, url]).strip() == "1000000"

    def large() -> list[Record]:
        return [record for record in tap.exchanges_of() if record["target"] == "/bytes/1000000"]

    tap.wait_for(lambda: len(large()) == 2, "both legs")
    tap.stop()
    sizes = {record["direction"]: record["response"]["body_size"] for record in large()}
    assert sizes == {"outbound": 1_000_000, "inbound": 1_000_000}

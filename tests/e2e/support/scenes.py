"""What several scenarios begin with, and how they count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.mesh.traffic import Sent
from harness.mesh.workload import Mode
from harness.worlds import talk
from harness.worlds.tap import Tap
from harness.worlds.world import World, WorldPod, WorldService


@dataclass(frozen=True, slots=True)
class Pair:
    """A client, and a server behind a service."""

    world: World
    client: WorldPod
    server: WorldPod
    service: WorldService

    @property
    def pods(self) -> tuple[WorldPod, WorldPod]:
        return self.client, self.server

    def send(self, count: int = 20, *, protocol: str = "http", prefix: str = "/orders") -> list[Sent]:
        return talk.send(self.world, self.client, self.service, count, protocol=protocol, prefix=prefix)


def pair(
    world: World,
    mode: Mode | None = Mode.STRICT,
    *,
    name: str = "",
    protocol: str = "http",
    nodes: tuple[int, int] = (0, 0),
) -> Pair:
    """With a sidecar each, unless `mode` is None. `name` goes before the pods' names."""
    command = talk.server_command(f"{name}server", protocol, 8080)
    server = world.pod(f"{name}server", mode=mode, command=command, node=nodes[1])
    client = world.pod(f"{name}client", mode=mode, node=nodes[0])
    return Pair(world, client, server, world.service(f"{name}shop", server, protocol=protocol))


def once(sent: Sequence[Sent]) -> dict[str, int]:
    """Each of the requests' targets, one time."""
    return {each.target: 1 for each in sent}


def both_legs_once(tap: Tap, pods: Pair, sent: Sequence[Sent]) -> None:
    """Wait for both legs of each request; then nothing was reported twice, and nothing else."""
    tap.wait_seen(sent, pods.client, "outbound")
    tap.wait_seen(sent, pods.server, "inbound")
    tap.stop()
    assert tap.seen(pods.client, "outbound") == once(sent)
    assert tap.seen(pods.server, "inbound") == once(sent)

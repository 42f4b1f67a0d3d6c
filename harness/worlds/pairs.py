"""The pods of most scenarios: a client, and a server behind a service."""

from __future__ import annotations

from dataclasses import dataclass

from harness.mesh.traffic import AnsweredRequest
from harness.mesh.workload import Mode
from harness.worlds import talk
from harness.worlds.model import APP_PORT, WorldPod, WorldService
from harness.worlds.world import World


@dataclass(frozen=True, slots=True)
class PodPair:
    """A client, and a server behind a service."""

    world: World
    client: WorldPod
    server: WorldPod
    service: WorldService

    @property
    def pods(self) -> tuple[WorldPod, WorldPod]:
        return self.client, self.server

    def send(self, count: int = 20, *, protocol: str = "http", prefix: str = "/orders") -> list[AnsweredRequest]:
        return talk.send(self.world, self.client, self.service, count, protocol=protocol, prefix=prefix)


def pair(
    world: World,
    mode: Mode | None = Mode.STRICT,
    *,
    name: str = "",
    protocol: str = "http",
    nodes: tuple[int, int] = (0, 0),
    native: bool | None = None,
) -> PodPair:
    """Make a client and a server, with a sidecar each unless `mode` is None.

    `name` goes before the pods' names, `nodes` are the client's and the server's; `native` is how a cluster injects the
    sidecar, None its own choice.
    """
    command = talk.server_command(f"{name}server", protocol, APP_PORT)
    server = world.pod(f"{name}server", mode=mode, command=command, node=nodes[1], native=native)
    client = world.pod(f"{name}client", mode=mode, node=nodes[0], native=native)
    return PodPair(world, client, server, world.service(f"{name}shop", server, protocol=protocol))

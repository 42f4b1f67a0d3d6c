"""Sending in a world: the sample clients, run inside pods, and their reports of the requests that they sent."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.mesh.traffic import AnsweredRequest
from harness.waiting import wait_until

if TYPE_CHECKING:
    from harness.worlds.model import WorldPod, WorldService
    from harness.worlds.world import Program, World

_RATE = 500.0
"""The default rate, in requests a second."""

_OUTPUT = "/tmp/load"
_FIRST = 5
_MORE_S = 30.0

MODULES = {
    "http": "harness.mesh.client",
    "http2": "harness.worlds.programs.http2",
    "grpc": "harness.worlds.programs.http2",
    "websocket": "harness.worlds.programs.websocket",
}
"""The client for each protocol."""


def server_command(name: str, protocol: str, port: int) -> list[str]:
    """The application that speaks a protocol of MODULES."""
    if protocol == "http":
        return ["python", "-m", "harness.mesh.app", "--name", name, "--port", str(port)]
    return ["python", "-m", MODULES[protocol], "serve", "--port", str(port)]


def client_command(service: WorldService, protocol: str, count: int, rate: float, prefix: str) -> list[str]:
    host = f"[{service.host}]" if ":" in service.host else service.host
    url = f"http://{host}:{service.port}{prefix}"
    client = ["python", "-m", MODULES[protocol]]
    if protocol != "http":
        client += ["ask", "--kind", protocol]
    limit = ["--count", str(count)] if count else []
    return [*client, "--url", url, "--rate", f"{rate:g}", *limit]


def send(
    world: World,
    client: WorldPod,
    service: WorldService,
    count: int = 1,
    *,
    protocol: str = "http",
    prefix: str = "/orders",
) -> list[AnsweredRequest]:
    """Send `count` requests with nonces over one connection. Raises HarnessError unless every one was answered."""
    output = world.run(client, client_command(service, protocol, count, _RATE, prefix))
    sent, failures = read(output, client.name)
    if failures or len(sent) != count:
        raise HarnessError(f"{client.name} sent {count} requests to {service.name}: {len(sent)} answered; {failures}")
    return sent


def attempt(
    world: World, client: WorldPod, service: WorldService
) -> tuple[list[AnsweredRequest], list[dict[str, Any]]]:
    """Send one request that may fail: the answered ones, and the failures (nonce, target, error)."""
    argv = client_command(service, "http", 1, _RATE, "/orders")
    # exit code 1 of the client means "not answered"; the shell makes it a success
    return read(world.run(client, ["sh", "-c", '"$@" || test $? = 1', "sh", *argv]), client.name)


def read(output: str, client: str) -> tuple[list[AnsweredRequest], list[dict[str, Any]]]:
    """The answered requests and the failures in a client's lines. A line that is still being written is left out."""
    sent, failures = [], []
    for line in output.splitlines(keepends=True):
        if not line.endswith("\n"):
            continue
        said = json.loads(line)
        if said.get("status") == 200:
            sent.append(AnsweredRequest(said["nonce"], said["method"], said["target"], 200, client))
        else:
            failures.append(said)
    return sent, failures


@dataclass(frozen=True, slots=True)
class Load:
    """A client that goes on until it is stopped."""

    program: Program
    client: WorldPod

    def so_far(self) -> list[AnsweredRequest]:
        return read(self.program.output(), self.client.name)[0]

    def wait_more(self, count: int) -> None:
        """Wait until `count` more requests were answered than now."""
        goal, name = len(self.so_far()) + count, self.client.name
        wait_until(lambda: len(self.so_far()) >= goal, f"{count} more answers for {name}", _MORE_S, self.program.output)

    def stop(self) -> tuple[list[AnsweredRequest], list[dict[str, Any]]]:
        """End it: the answered requests, and the failures."""
        return read(self.program.stop(), self.client.name)


def load(world: World, client: WorldPod, service: WorldService, rate: float = 50.0) -> Load:
    """Send `rate` requests a second until stopped."""
    return Load(world.spawn(client, client_command(service, "http", 0, rate, "/load")), client)


class DetachedLoad:
    """Like `load`, by a client that runs detached: it goes on while the API server, which runs programs in the pods of
    a cluster, is away."""

    def __init__(self, world: World, client: WorldPod, service: WorldService, rate: float) -> None:
        self._world = world
        self._client = client
        argv = shlex.join(client_command(service, "http", 0, rate, "/load"))
        script = f"nohup {argv} > {_OUTPUT} 2> {_OUTPUT}.err < /dev/null & echo $! > {_OUTPUT}.pid"
        world.run(client, ["sh", "-c", script])
        wait_until(lambda: len(self._lines()[0]) >= _FIRST, f"{_FIRST} answers for {client.name}", 30)

    def stop(self) -> tuple[list[AnsweredRequest], list[dict[str, Any]]]:
        """End it: the answered requests, and the failures."""
        self._world.run(self._client, ["sh", "-c", f"kill $(cat {_OUTPUT}.pid)"])
        return self._lines()

    def _lines(self) -> tuple[list[AnsweredRequest], list[dict[str, Any]]]:
        return read(self._world.run(self._client, ["cat", _OUTPUT]), self._client.name)

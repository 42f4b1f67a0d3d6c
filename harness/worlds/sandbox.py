"""`SandboxWorld`: namespaces and processes on this machine, with real Envoys. See `World` for what it does."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence, Set

from harness.adapters.reference import TAPPER_ENVIRON, RunningTapper
from harness.adapters.targets import Target, target
from harness.errors import HarnessError
from harness.mesh import fake_envoy, ztunnel
from harness.mesh.mesh import Mesh, MeshPod, Service
from harness.mesh.workload import Mode
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod
from harness.sandbox.process import Command, Process
from harness.sandbox.recorder import PacketRecorder, on_link
from harness.waiting import DEFAULT_TIMEOUT
from harness.worlds import talk
from harness.worlds.model import APP_PORT, SERVICE_PORT, Capabilities, WorldPod, WorldService
from harness.worlds.world import Deployed

NODE = "sandbox"


class SandboxProgram:
    """A `Program`."""

    def __init__(self, process: Process) -> None:
        self.process = process

    def output(self) -> str:
        return self.process.read_log()

    def stop(self) -> str:
        self.process.stop()
        return self.output()


class SandboxTapper(RunningTapper):
    """The reference with the rights that the world gives it. It has to end well."""

    def stop(self, timeout: float = DEFAULT_TIMEOUT, signum: int = signal.SIGTERM) -> int:
        code = super().stop(timeout, signum)
        if code != 0:
            raise HarnessError(f"the tapper ended with {code}:\n{self.read_log()}")
        return code


class SandboxWorld:
    """A `World` on one node. `rights` are the capabilities of a tapper; `record` starts a wire."""

    capabilities = Capabilities(ipv6=True, ambient=True)

    def __init__(self, node: Node, rights: Set[str], record: Callable[[Pod], PacketRecorder] = on_link) -> None:
        self._node = node
        self._mesh = Mesh(node)
        self._rights = frozenset(rights)
        self._record = record
        self._members: dict[WorldPod, MeshPod] = {}
        self._services: dict[str, Service] = {}
        self._tappers: list[SandboxTapper] = []
        self._names: dict[str, int] = {}

    def close(self) -> None:
        """End the tappers that still run, and expect exit code 0. The node's owner ends the rest."""
        for tapper in self._tappers:
            if tapper.running.running:
                tapper.stop()
            else:
                tapper.running.stop()  # it has ended by itself: only the kit's threads are left to end

    # -- pods ------------------------------------------------------------------------------------------------------

    def pod(
        self,
        name: str,
        *,
        mode: Mode | None = None,
        command: Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        node: int = 0,
        native: bool | None = None,
    ) -> WorldPod:
        if node != 0:
            raise ValueError(f"the sandbox has one node, number 0, and no number {node}")
        if native is not None:
            raise ValueError("the sandbox has no injector (its capabilities say so)")
        again = self._names[name] = self._names.get(name, 0) + 1
        unique = name if again == 1 else f"{name}-{again}"
        member = self._mesh.pod(unique, ports=(APP_PORT,), serve=False)
        argv = command or talk.server_command(name, "http", APP_PORT)
        member.app = member.pod.spawn(self._command(argv, env), name=f"app-{unique}")
        member.pod.wait_listening(member.app, APP_PORT)
        if mode is not None:
            self._mesh.inject(member, mode=mode)
        pod = WorldPod(unique, (member.ip, str(member.pod.ipv6)), NODE, mode is not None)
        self._members[pod] = member
        return pod

    def inside(self, pod: WorldPod) -> Pod:
        """The pod of the sandbox behind a pod of the world."""
        return self._members[pod].pod

    def set_mode(self, mode: Mode, *pods: WorldPod) -> None:
        self._mesh.set_mode(mode, *(self._members[pod] for pod in pods))

    def service(
        self,
        name: str,
        *pods: WorldPod,
        headless: bool = False,
        protocol: str = "http",  # noqa: ARG002 - the sidecars here tell by the bytes
        ipv6: bool = False,
    ) -> WorldService:
        if (
            headless or ipv6
        ):  # there is no DNS here, and no virtual IPv6 address: a client would have asked for this address
            (pod,) = pods
            address = pod.ipv6 if ipv6 else pod.ip
            assert address is not None
            return WorldService(name, address, APP_PORT)
        members = (self._members[pod] for pod in pods)
        service = self._mesh.service(name, *members, port=SERVICE_PORT, target_port=APP_PORT)
        self._services[name] = service
        return WorldService(name, service.ip, service.port)

    def set_endpoints(self, service: WorldService, *pods: WorldPod) -> None:
        members = (self._members[pod] for pod in pods)
        self._services[service.name] = self._mesh.set_endpoints(self._services[service.name], *members)

    def delete(self, pod: WorldPod) -> None:
        self._mesh.delete(self._members[pod])

    def wait_released(self, pod: WorldPod, timeout: float = 20.0) -> None:
        self._members[pod].pod.wait_released(timeout)

    def restart_proxy(self, pod: WorldPod) -> None:
        sidecar = self._members[pod].sidecar
        assert sidecar is not None
        sidecar.restart()

    # -- programs --------------------------------------------------------------------------------------------------

    def run(self, pod: WorldPod, argv: Sequence[str], timeout: float = 60.0) -> str:
        process = self._members[pod].pod.spawn(self._command(argv), name=f"{argv[-1]}-in-{pod.name}"[:40])
        code, output = process.finish(timeout)
        if code != 0:
            raise HarnessError(f"{' '.join(argv)} in {pod.name} ended with {code}:\n{output}")
        return output

    def spawn(self, pod: WorldPod, argv: Sequence[str]) -> SandboxProgram:
        return SandboxProgram(self._members[pod].pod.spawn(self._command(argv), name=f"program-in-{pod.name}"))

    def ambient(self, *pods: WorldPod) -> None:
        ztunnel.start(self._node, [self.inside(pod) for pod in pods], TAPPER_ENVIRON)

    def restart_api_server(self) -> None:
        raise HarnessError("the sandbox has no API server (its capabilities say so)")

    def deployment(self, name: str, *, replicas: int, mode: Mode) -> Deployed:  # noqa: ARG002 - nobody makes one here
        raise HarnessError("the sandbox has no Deployments (its capabilities say so)")

    def gateways(self) -> list[WorldPod]:
        raise HarnessError("the sandbox has no gateway (its capabilities say so)")

    def manual_envoy(self, where: WorldPod | None, claims: WorldPod) -> SandboxProgram:
        place = self._node if where is None else self._members[where].pod
        return SandboxProgram(fake_envoy.start(place, instance_ip=claims.ip).process)

    # -- looking ---------------------------------------------------------------------------------------------------

    def target(self, pod: WorldPod) -> Target:
        return target(self.inside(pod))

    def tapper(
        self, targets: Iterable[WorldPod], *options: str, istio: bool = True, without: str | None = None
    ) -> SandboxTapper:
        pods = [self.inside(pod) for pod in targets]
        rights = self._rights - {without}
        tapper = SandboxTapper(
            self._node, pods, *options, istio=istio, follow=True, capabilities=rights, read_only=True
        )
        self._tappers.append(tapper)
        if without is None:
            tapper.wait_capturing()
        return tapper

    def wire(self, pod: WorldPod) -> PacketRecorder:
        return self._record(self._members[pod].pod)

    # -- helpers ---------------------------------------------------------------------------------------------------

    @staticmethod
    def _command(argv: Sequence[str], env: Mapping[str, str] | None = None) -> Command:
        words = [sys.executable if word == "python" else word for word in argv]
        return Command(words, env={**TAPPER_ENVIRON, **(env or {})})

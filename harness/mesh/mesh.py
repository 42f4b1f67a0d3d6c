"""`Mesh`: pods with applications and sidecars on one node, and the services between them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Network
from pathlib import Path

from harness.mesh import app, redirect, traffic
from harness.mesh.certificates import CertificateAuthority, spiffe_id
from harness.mesh.sidecar import Sidecar
from harness.mesh.workload import Delivery, Destination, Mode, ProxySpec, UpstreamEndpoint
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod
from harness.sandbox.process import Process

SERVICE_NET = IPv4Network("10.96.0.0/16")
APP_PORT = 8080


@dataclass(slots=True)
class MeshPod:
    """A pod of the mesh, its application and, once injected, its sidecar."""

    pod: Pod
    ports: tuple[int, ...]
    app: Process | None
    sidecar: Sidecar | None = None
    mode: Mode = Mode.STRICT
    delivery: Delivery = Delivery.PASSTHROUGH

    @property
    def name(self) -> str:
        return self.pod.name

    @property
    def ip(self) -> str:
        return self.pod.ip


@dataclass(frozen=True, slots=True)
class Service:
    """A name and a virtual address for some pods."""

    name: str
    ip: str
    port: int
    target_port: int
    pods: tuple[MeshPod, ...]


class Mesh:
    """Build it up in any order; every change waits until all sidecars have it.

    mesh = Mesh(node)
    client, server = mesh.pod("client"), mesh.pod("server")
    mesh.inject(client, server)                    # STRICT mTLS between them
    sent = mesh.send(client, server, count=20)
    """

    def __init__(self, node: Node) -> None:
        self.node = node
        self._authority = CertificateAuthority()
        self._pods: dict[str, MeshPod] = {}
        self._services: list[Service] = []

    def pod(self, name: str, *, ports: Iterable[int] = (APP_PORT,), serve: bool = True) -> MeshPod:
        """A new pod without a sidecar. With `serve`, the sample application listens on each port."""
        pod = self.node.pod(name)
        ports = tuple(ports)
        process = None
        for port in ports if serve else ():
            argv = [sys.executable, "-I", "-S", str(Path(app.__file__)), "--name", name, "--port", str(port)]
            process = pod.spawn(argv, name=f"app-{name}")
            pod.wait_listening(process, port)
        member = MeshPod(pod, ports, process)
        self._pods[name] = member
        self._push()
        return member

    def inject(self, *members: MeshPod, mode: Mode = Mode.STRICT, delivery: Delivery = Delivery.PASSTHROUGH) -> None:
        """Give pods a sidecar. Their applications keep running."""
        for member in members:
            identity = self._authority.issue(spiffe_id("default", member.name))
            member.sidecar = Sidecar(member.pod, identity, self._authority.root)
            member.mode, member.delivery = mode, delivery
        self._push(fresh=members)

    def set_mode(self, mode: Mode, *members: MeshPod) -> None:
        """Change what pods accept and, with it, how the others talk to them."""
        for member in members:
            member.mode = mode
        self._push()

    def service(self, name: str, *members: MeshPod, port: int = 80, target_port: int = APP_PORT) -> Service:
        """A virtual address for pods: sidecars know it, and for everybody else the node translates it."""
        address = str(SERVICE_NET[10 + len(self._services)])
        service = Service(name, address, port, target_port, members)
        self._services.append(service)
        self._translate(_rules(service))
        self._push()
        return service

    def set_endpoints(self, service: Service, *members: MeshPod) -> Service:
        """Put these pods behind a service. Existing connections stay where they are."""
        changed = replace(service, pods=members)
        self._services[self._services.index(service)] = changed
        self._translate([rule.replace("-A ", "-D ", 1) for rule in _rules(service)] + _rules(changed))
        self._push()
        return changed

    def delete(self, member: MeshPod) -> None:
        """End a pod. It may be behind no service any more (`set_endpoints`)."""
        self._pods.pop(member.name)
        member.pod.delete()
        self._push()

    def send(
        self, client: MeshPod, server: MeshPod | Service, count: int = 1, *, connections: int = 1, ipv6: bool = False
    ) -> list[traffic.AnsweredRequest]:
        """Requests with nonces from one pod to another or to a service. See `traffic.send`."""
        if isinstance(server, Service):
            host, port = server.ip, server.port
        else:
            host, port = str(server.pod.ipv6) if ipv6 else server.ip, server.ports[0]
        return traffic.send(client.pod, host, port, count, connections=connections)

    def _translate(self, rules: Sequence[str]) -> None:
        self.node.run(["iptables-restore", "--noflush"], text="*nat\n" + "".join(rules) + "COMMIT\n")

    def _push(self, fresh: Iterable[MeshPod] = ()) -> None:
        """Give every sidecar its newest configuration, start those of the `fresh` pods, and wait for all of them."""
        destinations, fresh = tuple(self._destinations()), list(fresh)
        proxied = [(member, member.sidecar) for member in self._pods.values() if member.sidecar is not None]
        for member, sidecar in proxied:
            place = sidecar.directory, sidecar.mark
            spec = ProxySpec(member.name, member.mode, member.delivery, member.ports, destinations, *place)
            if member in fresh:
                sidecar.spawn(spec)
            else:
                sidecar.push(spec)
        for _, sidecar in proxied:
            sidecar.wait_ready()

    def _destinations(self) -> Iterable[Destination]:
        for member in self._pods.values():
            for port in member.ports:
                for address in (member.ip, str(member.pod.ipv6)):
                    endpoint = UpstreamEndpoint(address, port, _identity(member))
                    yield Destination(f"{member.name}.default.svc.cluster.local|{address}", address, port, (endpoint,))
        for service in self._services:
            endpoints = tuple(
                UpstreamEndpoint(member.ip, service.target_port, _identity(member)) for member in service.pods
            )
            yield Destination(f"{service.name}.default.svc.cluster.local", service.ip, service.port, endpoints)


def _rules(service: Service) -> list[str]:
    return [
        redirect.service_rule(service.ip, service.port, member.ip, service.target_port, len(service.pods) - taken)
        for taken, member in enumerate(service.pods)
    ]


def _identity(member: MeshPod) -> str | None:
    """The SPIFFE identity behind a pod's address; None if it does not speak mTLS."""
    if member.sidecar is None or member.mode is Mode.DISABLE:
        return None
    return member.sidecar.identity.uri

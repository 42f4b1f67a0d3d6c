"""`World`: the vocabulary of scenarios, which a sandbox and a cluster both implement.

A scenario says which pods there are, what their sidecars accept, which of them are a tapper's targets, and what is
sent. It never says how: `harness.worlds.sandbox` makes namespaces and processes of it, `harness.worlds.cluster` makes
objects of Kubernetes. `talk` sends requests in either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from harness.adapters.reference import ReferenceTapper
from harness.adapters.targets import Target
from harness.mesh.workload import Mode
from harness.sandbox.recorder import Recorded
from harness.worlds.model import Capabilities, WorldPod, WorldService


class Program(Protocol):
    """A program that runs in a pod."""

    def output(self) -> str:
        """Its output so far."""

    def stop(self) -> str:
        """End it, and return all of its output."""


class Deployed(Protocol):
    """A Deployment, and the service in front of it."""

    @property
    def service(self) -> WorldService: ...

    def pods(self) -> list[WorldPod]:
        """The pods that are ready now."""

    def roll(self) -> None:
        """A rolling update: every pod is replaced by another. Returns when it is over and the old ones are gone."""


class World(Protocol):
    """One scenario's world. Everything in it goes when it is closed."""

    @property
    def capabilities(self) -> Capabilities: ...

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
        """Start a pod and wait until it is ready.

        `mode` gives it a sidecar that accepts this; None gives it none. `command` is its application, by default the
        sample application on APP_PORT; "python" is the world's interpreter with this project's modules. `node` is which
        of the world's nodes, counted from 0. `native` asks for a sidecar that is an init container, or that is none;
        None is the world's own choice.
        """

    def set_mode(self, mode: Mode, *pods: WorldPod) -> None:
        """Change what running sidecars accept, and wait until they do."""

    def service(
        self, name: str, *pods: WorldPod, headless: bool = False, protocol: str = "http", ipv6: bool = False
    ) -> WorldService:
        """A name and, unless `headless`, a virtual address for pods; SERVICE_PORT leads to their APP_PORT (a headless
        one has APP_PORT itself)."""

    def set_endpoints(self, service: WorldService, *pods: WorldPod) -> None:
        """Put these pods behind the service, and wait until the sidecars know."""

    def run(self, pod: WorldPod, argv: Sequence[str], timeout: float = 60.0) -> str:
        """Run a program in the pod's application container to its end; its standard output.

        Raises HarnessError, with the output, when it does not end with 0 or not in time (seconds).
        """

    def spawn(self, pod: WorldPod, argv: Sequence[str]) -> Program:
        """Start a program in the pod's application container."""

    def target(self, pod: WorldPod) -> Target:
        """The pod as a tapper is told of it."""

    def tapper(
        self, targets: Iterable[WorldPod], *options: str, istio: bool = True, without: str | None = None
    ) -> ReferenceTapper:
        """Start the reference tapper, on every node, with exactly the rights of fixtures/istio/tapper/daemonset.yaml.

        `without` names a capability to take from it. Returns when it says that it captures on the node, or, with
        `without`, at once.
        """

    def wire(self, pod: WorldPod) -> Recorded:
        """Record what crosses between the pod and its node from now on."""

    def delete(self, pod: WorldPod) -> None:
        """End the pod, and wait until it has."""

    def wait_released(self, pod: WorldPod, timeout: float = 20.0) -> None:
        """Wait until the kernel has destroyed a deleted pod's network namespace. Raises WaitTimeout if it is pinned."""

    def restart_proxy(self, pod: WorldPod) -> None:
        """End the pod's Envoy; wait until another serves."""

    def ambient(self, *pods: WorldPod) -> None:
        """Let the node's ztunnel take these into the mesh, which have no sidecar; once. Only of `ambient`."""

    def restart_api_server(self) -> None:
        """End the API server; wait until another answers. Only of a world with the capability `control_plane`."""

    def deployment(self, name: str, *, replicas: int, mode: Mode) -> Deployed:
        """A Deployment of the sample application behind a service, with sidecars; ready. Only of `kubernetes`."""

    def gateways(self) -> list[WorldPod]:
        """The ingress gateways that run; only of a world with the capability."""

    def manual_envoy(self, where: WorldPod | None, claims: WorldPod) -> Program:
        """Start, in a pod or (None) on the node of `claims`, a process whose executable is named envoy, with the
        INSTANCE_IP of `claims`."""

"""`ClusterSession`: the cluster of one run: its nodes, its observers, and the objects to remove."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable
from pathlib import Path

from harness.errors import Unsupported
from harness.worlds.cluster import objects
from harness.worlds.cluster.api import ClusterApi
from harness.worlds.cluster.cleanup import Ledger
from harness.worlds.cluster.kustomize import Manifest
from harness.worlds.cluster.pods import world_pod
from harness.worlds.model import Capabilities, WorldPod

_NAMESPACE_GONE_S = 180.0
_OBSERVERS_S = 180.0
_NATIVE_SINCE = (1, 29)
_EVENTS = 30


def require_consent(api: ClusterApi, consent: bool) -> None:
    """Raises Unsupported for a cluster that is not on this machine, unless the user has consented."""
    if not api.is_local and not consent:
        raise Unsupported(
            f"the API server at {api.host} is not on this machine, and the scenarios make namespaces, cluster roles "
            "and pods with capabilities there: say --yes-this-cluster if that is meant"
        )


class ClusterSession:
    """`image` is this project's, which the nodes must be able to start; `fixtures` the folder fixtures/istio."""

    def __init__(
        self,
        api: ClusterApi,
        image: str,
        fixtures: Path,
        ledger: Ledger,
        say: Callable[[str], None],
        restart_api_server: Callable[[], None] | None = None,
        istioctl: str | None = None,
    ) -> None:
        self.api = api
        self.restart_api_server = restart_api_server
        """Ends the API server, which the kubelet starts again; None if the run may not or cannot do so."""
        self.istioctl = istioctl
        """The program that asks istiod about the sidecars of a failed scenario; None if there is none."""
        self.image = image
        self.fixtures = fixtures
        self.run = uuid.uuid4().hex[:8]
        self._prefix = f"tapper-e2e-{self.run}-"
        self._ledger = ledger
        self._say = say
        self._numbers = itertools.count(1)
        self._observers: str | None = None
        self.nodes = self._workers()
        self.capabilities = self._capabilities()

    def namespace(self, what: str) -> str:
        """A fresh namespace."""
        name = f"{self._prefix}{what}"
        manifest = objects.namespace(name, self.run)
        self._ledger.enter(f"namespace {name}", lambda: self._remove_namespace(manifest))
        self.api.apply(manifest)
        return name

    def scenario(self) -> str:
        """The namespace of the next scenario."""
        return self.namespace(str(next(self._numbers)))

    def give_back(self, space: str) -> None:
        """Ask for a scenario's namespace to be removed; the end of the run waits for it."""
        self.api.remove(objects.namespace(space, self.run))

    def own_cluster_wide(self, kind: str, name: str) -> None:
        """Enter an object that does not go with a namespace."""
        manifest = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name}}
        self._ledger.enter(f"{kind} {name}", lambda: self.api.remove(manifest))

    def observer(self, node: str) -> tuple[str, str]:
        """Namespace and name of the pod that watches a node; the first call makes it."""
        if self._observers is None:
            space = self.namespace("observers")
            manifest = objects.observer(space, self.image)
            self.api.apply(manifest)
            self.api.wait(lambda: self._all_ready(manifest), "a pod on every node that watches it", _OBSERVERS_S)
            self._observers = space
        pods = self.api.list("Pod", self._observers)
        (name,) = [pod["metadata"]["name"] for pod in pods if pod["spec"]["nodeName"] == node]
        return self._observers, name

    def gateways(self) -> list[WorldPod]:
        return [
            world_pod(pod, meshed=False)
            for pod in self.api.list("Pod", labels="istio=ingressgateway")
            if pod["status"]["phase"] == "Running"
        ]

    def events(self) -> str:
        """The newest events of this run's namespaces."""
        mine = [event for event in self.api.list("Event") if event["metadata"]["namespace"].startswith(self._prefix)]
        return "\n".join(event_line(event) for event in mine[-_EVENTS:])

    def _all_ready(self, manifest: Manifest) -> bool:
        status = (self.api.get(manifest) or {}).get("status", {})
        return bool(0 < status.get("desiredNumberScheduled", 0) == status.get("numberReady", 0))

    def _remove_namespace(self, manifest: Manifest) -> bool:
        there = self.api.get(manifest) is not None
        self.api.remove(manifest)
        name = manifest["metadata"]["name"]
        self.api.wait(lambda: self.api.get(manifest) is None, f"the namespace {name} to be gone", _NAMESPACE_GONE_S)
        return there

    def _workers(self) -> list[str]:
        """The nodes that take pods: those of the control plane only where there are no others."""
        free = [
            node["metadata"]["labels"]["kubernetes.io/hostname"]
            for node in self.api.list("Node")
            if not any(taint["effect"] in ("NoSchedule", "NoExecute") for taint in node["spec"].get("taints", []))
        ]
        if not free:
            raise Unsupported("the cluster has no node that takes pods: every one has a taint, or there is none")
        return sorted(free)

    def _capabilities(self) -> Capabilities:
        major, minor = (int(part) for part in self.api.version().lstrip("v").split(".")[:2])
        ranges = [cidr for node in self.api.list("Node") for cidr in node["spec"].get("podCIDRs", [])]
        return Capabilities(
            kubernetes=True,
            nodes=len(self.nodes),
            ipv6=any(":" in cidr for cidr in ranges),
            gateway=bool(self.gateways()),
            ambient=bool(self.api.list("Pod", labels="app=ztunnel")),
            native_sidecars=(major, minor) >= _NATIVE_SINCE,
            container_sidecars=True,
            control_plane=self.restart_api_server is not None,
        )


def event_line(event: Manifest) -> str:
    """An event as a line."""
    return f"{event['involvedObject'].get('name')}: {event.get('reason')}: {event.get('message')}"

"""Istio's sidecars in a scenario's pods, asked for the traffic that they accept and the endpoints that they know."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from harness.mesh.workload import Mode
from harness.worlds.cluster import execute
from harness.worlds.cluster.api import ClusterApi
from harness.worlds.cluster.pods import named
from harness.worlds.model import APP_PORT, WorldPod, WorldService

PUSH_S = 60.0
"""How long istiod may take to tell the sidecars of a change."""


def healthy(line: str) -> str | None:
    """The address in a line of Envoy's /clusters about a healthy endpoint; None for another line."""
    _, _, rest = line.partition("::")
    endpoint = rest.removesuffix("::health_flags::healthy")
    return None if endpoint == rest else endpoint.rpartition(":")[0].strip("[]")


class Sidecars:
    """The sidecars of one namespace."""

    def __init__(self, api: ClusterApi, space: str) -> None:
        self._api = api
        self._space = space

    def ask(self, pod: WorldPod, method: str, path: str) -> str:
        """Ask the pod's Envoy, by its agent."""
        argv = ["pilot-agent", "request", method, path]
        return execute.run(self._api, self._space, pod.name, "istio-proxy", argv)

    def status(self, pod: WorldPod) -> Mapping[str, Any]:
        """The status of the sidecar's container."""
        status = self._manifest(pod).get("status", {})
        statuses = status.get("containerStatuses", []) + status.get("initContainerStatuses", [])
        return next(status for status in statuses if status["name"] == "istio-proxy")

    def accepts(self, pod: WorldPod) -> Mode:
        """The transports that the inbound listener accepts: TLS, plaintext, or both."""
        dump = json.loads(self.ask(pod, "GET", "config_dump?resource=dynamic_listeners"))
        text = json.dumps([config for config in dump.get("configs", []) if config.get("name") == "virtualInbound"])
        tls, plain = '"transport_protocol": "tls"' in text, '"transport_protocol": "raw_buffer"' in text
        return {(True, False): Mode.STRICT, (True, True): Mode.PERMISSIVE}.get((tls, plain), Mode.DISABLE)

    def wait_known(self, service: WorldService, members: Sequence[WorldPod], pods: Iterable[WorldPod]) -> None:
        """Wait until the sidecars have exactly these endpoints for a service. A headless service has a cluster without
        endpoints."""
        name = f"outbound|{service.port}||{service.name}.{self._space}."
        headless = service.port == APP_PORT

        def known(pod: WorldPod) -> bool:
            clusters = self.ask(pod, "GET", "clusters")
            lines = [line for line in clusters.splitlines() if line.startswith(name)]
            found = {endpoint for line in lines if (endpoint := healthy(line)) is not None}
            everyone = len(found) == len(members) and all(found & set(member.ips) for member in members)
            return bool(lines) and (headless or everyone)

        for pod in pods:
            if pod.meshed:
                self._api.wait(
                    partial(known, pod),
                    f"the sidecar of {pod.name} to know {len(members)} pods behind {service.name}",
                    PUSH_S,
                )

    def is_native(self, pod: WorldPod) -> bool:
        """Whether the sidecar is an init container."""
        return any(init["name"] == "istio-proxy" for init in self._manifest(pod)["spec"].get("initContainers", []))

    def _manifest(self, pod: WorldPod) -> Mapping[str, Any]:
        return self._api.get(named(pod.name, self._space)) or {}

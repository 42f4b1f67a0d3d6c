"""Pods as the API server describes them, and `ClusterDeployment`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from harness.worlds.cluster import objects
from harness.worlds.cluster.api import ClusterApi
from harness.worlds.cluster.kustomize import Manifest
from harness.worlds.model import WorldPod, WorldService

_READY_S = 180.0
_ROLLED_AT = "tapper-harness/rolled-at"


def world_pod(pod: Manifest, *, meshed: bool) -> WorldPod:
    """A pod that has its addresses."""
    ips = tuple(entry["ip"] for entry in pod["status"]["podIPs"])
    return WorldPod(pod["metadata"]["name"], ips, pod["spec"]["nodeName"], meshed)


def is_ready(pod: Manifest) -> bool:
    """Whether the pod is ready and has its addresses."""
    conditions = {condition["type"]: condition["status"] for condition in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and bool(pod["status"].get("podIPs"))


def named(name: str, space: str) -> Manifest:
    """A manifest that is enough to ask for a pod, or to remove it."""
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": space}}


class ClusterDeployment:
    """A `Deployed`: a Deployment of the sample application, whose manifest it gets, and the service in front of it."""

    def __init__(self, api: ClusterApi, manifest: Mapping[str, Any], service: WorldService) -> None:
        self._api = api
        self._manifest = dict(manifest)
        self._name, self._space = manifest["metadata"]["name"], manifest["metadata"]["namespace"]
        self.service = service

    def wait_ready(self) -> None:
        """Wait until all its pods are of its newest template and ready, and no others are left."""
        wanted = self._manifest["spec"]["replicas"]

        def ready() -> bool:
            found = self._api.get(self._manifest) or {}
            status = found.get("status", {})
            current = status.get("observedGeneration", 0) >= found.get("metadata", {}).get("generation", 1)
            counts = {status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")}
            return current and counts == {wanted} and len(self._all()) == len(self.pods()) == wanted

        self._api.wait(ready, f"the Deployment {self._name} to be ready", _READY_S)

    def pods(self) -> list[WorldPod]:
        return [
            world_pod(pod, meshed=True)
            for pod in self._all()
            if "deletionTimestamp" not in pod["metadata"] and is_ready(pod)
        ]

    def roll(self) -> None:
        template = self._manifest["spec"]["template"]
        template["metadata"]["annotations"] |= {_ROLLED_AT: f"{time.time():.3f}"}
        self._api.apply(self._manifest)
        self.wait_ready()

    def _all(self) -> list[dict[str, Any]]:
        return self._api.list("Pod", self._space, f"{objects.APP}={self._name}")

"""Pods as the API server describes them. Pure."""

from __future__ import annotations

from harness.worlds.cluster.kustomize import Manifest
from harness.worlds.model import WorldPod


def world_pod(pod: Manifest, *, meshed: bool) -> WorldPod:
    """A pod that has its addresses."""
    ips = tuple(each["ip"] for each in pod["status"]["podIPs"])
    return WorldPod(pod["metadata"]["name"], ips, pod["spec"]["nodeName"], meshed)


def is_ready(pod: Manifest) -> bool:
    """Whether the pod is ready and has its addresses."""
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and bool(pod["status"].get("podIPs"))


def named(name: str, space: str) -> Manifest:
    """A manifest that is enough to ask for a pod, or to remove it."""
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": space}}

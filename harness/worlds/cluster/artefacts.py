"""The evidence of a scenario that failed in a cluster: a folder whose first page says what happened."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from harness.errors import HarnessError
from harness.worlds.cluster import install
from harness.worlds.cluster.api import ClusterApi
from harness.worlds.cluster.kustomize import Manifest
from harness.worlds.cluster.session import event_line

if TYPE_CHECKING:
    from harness.worlds.cluster.session import ClusterSession
    from harness.worlds.cluster.world import ClusterWorld

_ISTIOCTL_S = 60.0


def collect(session: ClusterSession, world: ClusterWorld, directory: Path, name: str, failure: str) -> Path:
    """Collect everything that can be read; a file says why something could not. Returns the folder."""
    api = session.api
    folder = directory / re.sub(r"[^\w.-]+", "_", name)
    folder.mkdir(parents=True, exist_ok=True)
    lines = [line for line in failure.splitlines() if line.startswith("E ")]
    first = (lines[0] if lines else failure.strip().splitlines()[-1]).removeprefix("E").strip()
    (folder / "README.txt").write_text(f"{name} failed: {first}\n\n{failure}\n")

    def write(file: str, ask: Callable[[], str]) -> None:
        try:
            text = ask()
        except HarnessError as error:
            text = f"not to be had: {error}\n"
        (folder / file).write_text(text)

    space = world.space
    pods = api.list("Pod", space)
    write("pods.yaml", lambda: yaml.safe_dump(pods))
    write("events.txt", lambda: "".join(f"{event_line(event)}\n" for event in api.list("Event", space)))
    for pod in pods:
        for container in _containers(pod):
            name = pod["metadata"]["name"]
            write(f"{name}.{container}.log", partial(_log, api, space, name, container))
    istioctl = session.istioctl
    if istioctl is None:
        (folder / "proxy-status.txt").write_text("not to be had: there is no istioctl (--istioctl, or on PATH)\n")
    else:
        target = install.cluster_options(api.kubeconfig, api.context)
        write("proxy-status.txt", partial(install.run, [istioctl, "proxy-status", *target], _ISTIOCTL_S))
        for pod in pods:
            if "istio-proxy" in _containers(pod):
                which = f"{pod['metadata']['name']}.{space}"
                argv = [istioctl, "proxy-config", "all", which, "-o", "json", *target]
                write(f"{which}.proxy-config.json", partial(install.run, argv, _ISTIOCTL_S))
    for name, frames in world.recordings.items():
        try:
            frames.save(folder / f"{name.replace(':', '-')}.pcap")
        except HarnessError as error:
            (folder / f"{name}.pcap.txt").write_text(f"not to be had: {error}\n")
    return folder


def _containers(pod: Manifest) -> list[str]:
    spec = pod["spec"]
    return [container["name"] for container in [*spec.get("initContainers", []), *spec["containers"]]]


def _log(api: ClusterApi, space: str, pod: str, container: str) -> str:
    return str(api.call(lambda: api.core.read_namespaced_pod_log(pod, space, container=container)))

"""The manifest of a tapper, adapted to one scenario: its namespace, the contract's environment, and the kit's desk
beside it.

Pure: documents in, documents out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from harness.adapters.contract import AdapterError, InCluster
from harness.worlds.cluster.kustomize import Manifest, documents, render
from harness.worlds.cluster.objects import placed
from harness.worlds.programs import desk

TAPPER = "tapper-harness/tapper"
"""The label of the tapper's pods; its value is the scenario's namespace."""
DESK = "tapper-harness-desk"
_LAYER = "tapper-harness-desk-lays"
_VOLUME = "tapper-harness"


def load(adapter: Path, cluster: InCluster) -> list[Manifest]:
    """The documents of the adapter's manifest. Raises AdapterError, which names the key."""
    where = f"{adapter}: cluster.manifest: {cluster.manifest}"
    try:
        found = render(cluster.manifest) if cluster.manifest.is_dir() else documents(cluster.manifest)
    except OSError as error:
        raise AdapterError(f"{where} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, TypeError, KeyError) as error:
        raise AdapterError(f"{where} is no manifest: {error}") from None
    found = [manifest for manifest in found if manifest is not None]
    if not all(isinstance(manifest, dict) and {"kind", "metadata"} <= manifest.keys() for manifest in found):
        raise AdapterError(f"{where} is no manifest: every document needs a kind and metadata")
    daemonsets = [manifest for manifest in found if manifest["kind"] == "DaemonSet"]
    if len(daemonsets) != 1:
        raise AdapterError(f"{where} has {len(daemonsets)} DaemonSets, and has to have one: the tapper, on every node")
    names = [container["name"] for container in daemonsets[0]["spec"]["template"]["spec"]["containers"]]
    if cluster.container is None and len(names) != 1:
        raise AdapterError(f"{adapter}: cluster.container: is missing: which of {', '.join(names)} is the tapper?")
    if cluster.container is not None and cluster.container not in names:
        raise AdapterError(f"{adapter}: cluster.container: there is no {cluster.container} among {', '.join(names)}")
    return found


def adapted(
    found: Sequence[Manifest],
    cluster: InCluster,
    *,
    space: str,
    run: str,
    kit_image: str,
    environment: Mapping[str, str],
    targets: str,
    linger_s: float,
) -> list[Manifest]:
    """The manifests for one scenario. `environment` is the contract's, `targets` the first targets file; the desk stays
    for `linger_s` seconds after the tapper was asked to end. Variables that the manifest sets itself stay."""
    manifests = placed(found, space, run)
    for manifest in manifests:
        if manifest["kind"] == "DaemonSet":
            _prepare(manifest, cluster, space, kit_image, environment, targets, linger_s)
    return manifests


def tapper_container(manifest: Manifest, cluster: InCluster) -> Manifest:
    """The tapper's container among those of a DaemonSet."""
    containers: list[Manifest] = manifest["spec"]["template"]["spec"]["containers"]
    return next(one for one in containers if cluster.container in (None, one["name"]) and one["name"] != DESK)


def _prepare(
    manifest: Manifest,
    cluster: InCluster,
    space: str,
    kit_image: str,
    environment: Mapping[str, str],
    targets: str,
    linger_s: float,
) -> None:
    template = manifest["spec"]["template"]
    # a tapper with a sidecar would be part of the mesh that it watches
    template["metadata"].setdefault("labels", {}).update({TAPPER: space, "sidecar.istio.io/inject": "false"})
    spec = template["spec"]
    spec.pop("priorityClassName", None)  # its object belongs to the cluster, and is not made
    spec["terminationGracePeriodSeconds"] = max(int(linger_s) + 2, spec.get("terminationGracePeriodSeconds", 0))
    container = tapper_container(manifest, cluster)
    if cluster.image is not None:
        container["image"] = cluster.image
    if cluster.argv:
        container["command"] = list(cluster.argv)
        container.pop("args", None)
    container.pop("ports", None)  # on the node's network they are ports of the node, which may be taken
    own = {variable["name"] for variable in container.setdefault("env", [])}
    container["env"] += [{"name": name, "value": value} for name, value in environment.items() if name not in own]
    mount = {"name": _VOLUME, "mountPath": str(desk.FOLDER)}
    container.setdefault("volumeMounts", []).append(mount)
    spec.setdefault("volumes", []).append({"name": _VOLUME, "emptyDir": {}})
    program = ["python", "-m", "harness.worlds.programs.desk"]
    ours = {
        "image": kit_image,
        "imagePullPolicy": "IfNotPresent",
        "volumeMounts": [mount],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsUser": 0,
            # the files of the tapper may be readable by its own user only
            "capabilities": {"drop": ["ALL"], "add": ["DAC_READ_SEARCH"]},
        },
    }
    layer = {"name": _LAYER, "command": [*program, "lay", targets], **ours}
    spec["initContainers"] = [layer, *spec.get("initContainers", [])]
    spec["containers"].append({"name": DESK, "command": [*program, "hold", f"{linger_s:g}"], **ours})

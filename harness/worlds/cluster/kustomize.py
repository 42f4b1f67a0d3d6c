"""Reading kustomizations: as much of kustomize as fixtures/istio uses, so that nothing here needs kubectl.

`render` follows `resources` and applies `patches`: JSON patches (RFC 6902: add, replace, remove) on a target of a kind
and name, and `$patch: delete`. tests/unit/fixtures/test_manifests.py compares it with kubectl's where there is one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]


def documents(path: Path) -> list[Any]:
    with path.open(encoding="utf-8") as file:
        return list(yaml.safe_load_all(file))


def kustomization(folder: Path) -> Manifest:
    """The kustomization of a folder. Raises ValueError for fields that this reader does not know."""
    (document,) = documents(folder / "kustomization.yaml")
    unknown = document.keys() - {"apiVersion", "kind", "resources", "patches"}
    if unknown:
        raise ValueError(f"{folder} uses {unknown}, which this reader does not know")
    return dict(document)


def render(folder: Path) -> list[Manifest]:
    """The manifests that a kustomization stands for."""
    found: list[Manifest] = []
    instructions = kustomization(folder)
    for name in instructions["resources"]:
        path = folder / name
        found += render(path) if path.is_dir() else documents(path)
    for patch in instructions.get("patches", []):
        (content,) = documents(folder / patch["path"])
        found = _patched(found, patch.get("target"), content)
    return found


def of_kind(manifests: list[Manifest], kind: str) -> Manifest:
    """The only manifest of a kind."""
    (found,) = [manifest for manifest in manifests if manifest["kind"] == kind]
    return found


def _patched(manifests: list[Manifest], target: Manifest | None, content: Any) -> list[Manifest]:
    wanted = (content["kind"], content["metadata"]["name"]) if target is None else (target["kind"], target["name"])
    (hit,) = [one for one in manifests if (one["kind"], one["metadata"]["name"]) == wanted]
    if target is None:
        if content["$patch"] != "delete":
            raise ValueError(f"a patch of {wanted} without a target can only delete")
        return [manifest for manifest in manifests if manifest is not hit]
    for operation in content:
        _apply(hit, operation)
    return manifests


def _apply(manifest: Manifest, operation: Manifest) -> None:
    *way, last = operation["path"].lstrip("/").split("/")
    place: Any = manifest
    for step in way:
        place = place[int(step)] if isinstance(place, list) else place[step]
    if operation["op"] == "add" and last == "-":
        place.append(operation["value"])
    elif operation["op"] == "add":
        place[last] = operation["value"]
    else:
        if last not in place:
            raise ValueError(f"{operation['path']} is not there to {operation['op']}")
        place.pop(last)
        if operation["op"] == "replace":
            place[last] = operation["value"]

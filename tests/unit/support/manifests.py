"""fixtures/istio, as Kubernetes would get it."""

from __future__ import annotations

from pathlib import Path

from harness.worlds.cluster.kustomize import Manifest, documents, kustomization, of_kind, render

__all__ = ["FOLDER", "KUSTOMIZATIONS", "Manifest", "container", "documents", "kustomization", "of_kind", "pod_spec"]
__all__ += ["render"]

FOLDER = Path(__file__).resolve().parents[3] / "fixtures" / "istio"
KUSTOMIZATIONS = sorted(path.parent for path in FOLDER.rglob("kustomization.yaml"))


def pod_spec(workload: Manifest) -> Manifest:
    spec = workload["spec"]["template"]["spec"]
    assert isinstance(spec, dict)
    return spec


def container(workload: Manifest) -> Manifest:
    (found,) = pod_spec(workload)["containers"]
    assert isinstance(found, dict)
    return found

"""Somebody's manifest, made ready for a scenario."""

from __future__ import annotations

from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from harness.adapters import contract, shipped
from harness.adapters.contract import AdapterError, InCluster, Update
from harness.worlds.cluster import adapted
from harness.worlds.cluster.kustomize import Manifest, of_kind

FOREIGN = """
apiVersion: v1
kind: Namespace
metadata: {name: acme}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: tap, namespace: acme}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: tap}
rules: [{apiGroups: [""], resources: [pods], verbs: [list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: tap}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: tap}
subjects: [{kind: ServiceAccount, name: tap, namespace: acme}]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: tap, namespace: acme}
spec:
  selector: {matchLabels: {app: tap}}
  template:
    metadata: {labels: {app: tap}}
    spec:
      hostPID: true
      priorityClassName: acme
      serviceAccountName: tap
      containers:
        - name: tap
          image: acme/tap:1
          args: [--everything]
          env: [{name: TAPPER_HARNESS_PROCFS, value: /host/proc}]
          ports: [{containerPort: 9090}]
"""
ENVIRONMENT = {"TAPPER_HARNESS_PROCFS": "/proc", "TAPPER_HARNESS_OUTPUT": "-"}


def table(folder: Path, text: str = FOREIGN, **changes: object) -> InCluster:
    manifest = folder / "tap.yaml"
    manifest.write_text(text)
    plain = {"manifest": manifest, "image": None, "container": None, "argv": (), "update": Update.NONE}
    return InCluster(**{**plain, **changes})  # type: ignore[arg-type]


def made(cluster: InCluster) -> list[Manifest]:
    return adapted.adapted(
        adapted.load(Path("a.toml"), cluster),
        cluster,
        space="ours-1",
        run="run",
        kit_image="kit:1",
        environment=ENVIRONMENT,
        targets='{"generation": 1, "pods": []}',
        linger_s=5.0,
    )


def test_everything_is_in_our_namespace_or_has_its_name(tmp_path: Path) -> None:
    manifests = made(table(tmp_path))
    assert [each["kind"] for each in manifests] == ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "DaemonSet"]
    for each in manifests:
        named = each["metadata"]["name"] == "ours-1-tap" and "namespace" not in each["metadata"]
        assert named if each["kind"].startswith("Cluster") else each["metadata"]["namespace"] == "ours-1"
        assert each["metadata"]["labels"]["tapper-harness/run"] == "run"
    binding = of_kind(manifests, "ClusterRoleBinding")
    assert binding["roleRef"]["name"] == "ours-1-tap"
    assert binding["subjects"][0]["namespace"] == "ours-1"


def test_the_contract_is_told_and_the_manifest_has_the_last_word(tmp_path: Path) -> None:
    spec = of_kind(made(table(tmp_path)), "DaemonSet")["spec"]["template"]["spec"]
    tapper, desk = spec["containers"]
    told = {each["name"]: each["value"] for each in tapper["env"]}
    assert told == {"TAPPER_HARNESS_PROCFS": "/host/proc", "TAPPER_HARNESS_OUTPUT": "-"}
    assert (tapper["image"], tapper["args"]) == ("acme/tap:1", ["--everything"])
    assert "ports" not in tapper
    assert "priorityClassName" not in spec
    assert spec["hostPID"] is True
    assert (desk["image"], spec["initContainers"][0]["image"]) == ("kit:1", "kit:1")
    assert tapper["volumeMounts"][-1] == desk["volumeMounts"][0]
    assert spec["terminationGracePeriodSeconds"] > 5


def test_image_and_command_may_be_the_adapters(tmp_path: Path) -> None:
    cluster = table(tmp_path, image="other:2", argv=("tap", "--less"))
    tapper, _ = of_kind(made(cluster), "DaemonSet")["spec"]["template"]["spec"]["containers"]
    assert (tapper["image"], tapper["command"]) == ("other:2", ["tap", "--less"])
    assert "args" not in tapper


@pytest.mark.parametrize("name", [name for name in shipped.names() if name.startswith("reference")])
def test_the_references_manifest_is_valid(name: str) -> None:
    """fixtures/istio's DaemonSet with its rights, and the contract in place of a label selector."""
    adapter = contract.load(shipped.names()[name], installed=False)
    assert adapter.cluster is not None
    manifests = made(adapter.cluster)
    for each in manifests:
        kubernetes_validate.validate(each, "1.33", strict=True)
    spec = of_kind(manifests, "DaemonSet")["spec"]["template"]["spec"]
    assert spec["containers"][0]["command"][:3] == ["python", "-m", "harness.adapters.shipped.reference"]
    assert "SYS_ADMIN" in spec["containers"][0]["securityContext"]["capabilities"]["add"]


@pytest.mark.parametrize(
    ("text", "changes", "sentence"),
    [
        ("a: [", {}, "cluster.manifest: .* is no manifest"),
        ("a: b", {}, "every document needs a kind and metadata"),
        (FOREIGN.replace("kind: DaemonSet", "kind: Deployment"), {}, "has 0 DaemonSets, and has to have one"),
        (FOREIGN, {"container": "other"}, "cluster.container: there is no other among tap"),
        (FOREIGN, {"manifest": Path("/nowhere/tap.yaml")}, "cluster.manifest: /nowhere/tap.yaml cannot be read"),
    ],
)
def test_a_wrong_manifest_is_a_sentence(tmp_path: Path, text: str, changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(AdapterError, match=sentence):
        adapted.load(Path("a.toml"), table(tmp_path, text, **changes))


def test_which_of_several_containers(tmp_path: Path) -> None:
    documents = list(yaml.safe_load_all(FOREIGN))
    containers = documents[-1]["spec"]["template"]["spec"]["containers"]
    containers.append({"name": "helper", "image": "helper:1"})
    text = yaml.safe_dump_all(documents)
    with pytest.raises(AdapterError, match=r"cluster.container: is missing: which of tap, helper is the tapper\?"):
        adapted.load(Path("a.toml"), table(tmp_path, text))
    cluster = table(tmp_path, text, container="helper")
    found = of_kind(made(cluster), "DaemonSet")
    assert adapted.tapper_container(found, cluster)["env"][0]["name"] == "TAPPER_HARNESS_PROCFS"

"""The Kubernetes objects of a scenario. Pure."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.mesh.workload import Mode
from harness.worlds.cluster.kustomize import Manifest, of_kind, render

OWNER = "tapper-harness/run"
"""The label of everything that a run makes; its value is the run's id."""
TARGET = "tapper-harness/target"
APP = "app"
CLUSTER_WIDE = ("ClusterRole", "ClusterRoleBinding")
"""The kinds of a tapper's objects that are in no namespace."""
_NOT_OURS = ("Namespace", "PriorityClass", "CustomResourceDefinition")
"""The kinds that a scenario does not make: it has a namespace, and changes nothing else of the cluster."""

_CONFINED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": 65534,  # nobody
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def namespace(name: str, run: str) -> Manifest:
    """One scenario's: with injection, and without Pod Security Admission's checks, because the tapper runs in it, too
    (fixtures/istio/tapper/namespace.yaml says why it cannot pass them)."""
    labels = {OWNER: run, "istio-injection": "enabled", "pod-security.kubernetes.io/enforce": "privileged"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def pod(
    name: str,
    space: str,
    image: str,
    command: Sequence[str],
    *,
    port: int,
    meshed: bool,
    node: str,
    env: Mapping[str, str],
    native: bool | None,
) -> Manifest:
    """An application, with a place to write (/tmp) and no other rights. `native` None is Istio's own choice."""
    annotations = {} if native is None else {"sidecar.istio.io/nativeSidecar": str(native).lower()}
    labels = {APP: name, "sidecar.istio.io/inject": str(meshed).lower()}
    application = {
        "command": list(command),
        "env": [{"name": key, "value": value} for key, value in env.items()],
        "ports": [{"containerPort": port}],
        "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
        "securityContext": _CONFINED,
        "resources": {"requests": {"cpu": "10m", "memory": "24Mi"}},
    }
    spec = _pod_spec(image, application, grace_s=1) | {"nodeSelector": {"kubernetes.io/hostname": node}}
    manifest = _object("v1", "Pod", name, space, spec)
    manifest["metadata"] |= {"labels": labels, "annotations": annotations}
    return manifest


def deployment(
    name: str, space: str, image: str, command: Sequence[str], *, port: int, replicas: int, meshed: bool
) -> Manifest:
    """A Deployment of pods like `pod`'s; a rolling update starts a new one before it ends an old one."""
    single = pod(name, space, image, command, port=port, meshed=meshed, node="", env={}, native=None)
    single["spec"].pop("nodeSelector")
    meta = {"labels": single["metadata"]["labels"], "annotations": single["metadata"]["annotations"]}
    spec = {
        "replicas": replicas,
        "selector": {"matchLabels": {APP: name}},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": {"metadata": meta, "spec": single["spec"]},
    }
    return _object("apps/v1", "Deployment", name, space, spec)


def _pod_spec(image: str, container: Manifest, *, grace_s: int) -> Manifest:
    """The specification of a pod with one container, which can write to /tmp."""
    mounts = [{"name": "tmp", "mountPath": "/tmp"}]
    basics = {"name": "app", "image": image, "imagePullPolicy": "IfNotPresent", "volumeMounts": mounts}
    return {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": grace_s,
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        "containers": [basics | container],
    }


def _object(version: str, kind: str, name: str, space: str, spec: Manifest) -> Manifest:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": space}, "spec": spec}


def member_label(service: str) -> str:
    """The label that puts a pod behind a service."""
    return f"tapper-harness/behind-{service}"


def service(
    name: str, space: str, *, port: int, target_port: int, protocol: str, headless: bool, ipv6: bool
) -> Manifest:
    """Istio learns the protocol from `appProtocol`; a WebSocket begins as HTTP/1.1."""
    ports = {
        "name": "http",
        "port": target_port if headless else port,
        "targetPort": target_port,
        "appProtocol": {"websocket": "http"}.get(protocol, protocol),
    }
    spec: Manifest = {"selector": {member_label(name): "yes"}, "ports": [ports]}
    if headless:
        spec["clusterIP"] = "None"
    if ipv6:
        spec |= {"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv6"]}
    return _object("v1", "Service", name, space, spec)


def peer_authentication(app: str, space: str, mode: Mode) -> Manifest:
    """The mode of mTLS that the sidecar of one pod accepts, as a PeerAuthentication (security.istio.io/v1)."""
    spec = {"selector": {"matchLabels": {APP: app}}, "mtls": {"mode": mode.value}}
    return _object("security.istio.io/v1", "PeerAuthentication", app, space, spec)


def placed(manifests: Sequence[Manifest], space: str, run: str, name: str | None = None) -> list[Manifest]:
    """Copies of a tapper's manifests for one scenario: in its namespace, with the run's label, and without the objects
    that only a cluster has. Objects that no namespace takes along get names that begin with the namespace's. `name`
    replaces the names of all objects."""
    known = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests}
    copies = [copy.deepcopy(manifest) for manifest in manifests if manifest["kind"] not in _NOT_OURS]
    for manifest in copies:
        kind, meta = manifest["kind"], manifest["metadata"]
        meta["labels"] = meta.get("labels", {}) | {OWNER: run}
        meta["name"] = name or meta["name"]
        if kind in CLUSTER_WIDE:
            meta.pop("namespace", None)
            meta["name"] = f"{space}-{meta['name']}"
        else:
            meta["namespace"] = space
        if kind.endswith("RoleBinding"):
            role = manifest["roleRef"]
            if role["kind"] == "ClusterRole" and ("ClusterRole", role["name"]) in known:
                role["name"] = f"{space}-{name or role['name']}"
            for subject in manifest.get("subjects", []):
                if subject["kind"] == "ServiceAccount":
                    subject |= {"name": name or subject["name"], "namespace": space}
    return copies


def tapper(
    fixtures: Path,
    name: str,
    space: str,
    image: str,
    run: str,
    *,
    options: Sequence[str],
    istio: bool,
    without: str | None,
) -> list[Manifest]:
    """fixtures/istio/tapper in a namespace of ours, under a name of ours: account, role, binding, DaemonSet.

    Its metrics port is left out: it is a port of the node, which another program may have.
    """
    manifests = placed(render(fixtures / "tapper"), space, run, name)
    spec = of_kind(manifests, "DaemonSet")["spec"]
    spec["selector"] = {"matchLabels": {APP: name}}
    template = spec["template"]
    template["metadata"]["labels"] |= {APP: name}
    template["spec"]["serviceAccountName"] = name
    template["spec"].pop("priorityClassName")
    (container,) = template["spec"]["containers"]
    container["image"] = image
    container.pop("ports")
    arguments: list[str] = container["args"]
    at = arguments.index("--metrics")
    del arguments[at : at + 2]
    arguments[arguments.index("--selector") + 1] = target_selector(space, name)
    if not istio:
        arguments.remove("--istio")
    arguments += options
    if without is not None:
        container["securityContext"]["capabilities"]["add"].remove(without)
    return manifests


def target_selector(space: str, name: str) -> str:
    return f"{TARGET}={space}.{name}"


def observer(space: str, image: str) -> Manifest:
    """A pod on every node, on its network and among its processes, for recording links."""
    labels = {APP: "observer", "sidecar.istio.io/inject": "false"}
    rights = {
        "allowPrivilegeEscalation": False,
        "runAsUser": 0,
        # to record packets, in a buffer larger than the kernel gives to everybody
        "capabilities": {"drop": ["ALL"], "add": ["NET_RAW", "NET_ADMIN"]},
    }
    container = {"command": ["python", "-c", "import signal; signal.pause()"], "securityContext": rights}
    where = {"hostNetwork": True, "hostPID": True, "tolerations": [{"operator": "Exists"}]}
    template = {"metadata": {"labels": labels}, "spec": _pod_spec(image, container, grace_s=0) | where}
    spec = {"selector": {"matchLabels": {APP: "observer"}}, "template": template}
    return _object("apps/v1", "DaemonSet", "observer", space, spec)


def kind_config() -> Manifest:
    """kind.x-k8s.io/v1alpha4: one node of the control plane, and two workers."""
    roles = "control-plane", "worker", "worker"
    nodes = [{"role": role} for role in roles]
    return {"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4", "nodes": nodes}

"""`ClusterWorld`: one scenario's namespace in a cluster. See `World` for what it does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from harness.adapters.reference import Addressed
from harness.adapters.targets import Target
from harness.errors import HarnessError
from harness.mesh.workload import Mode
from harness.worlds import talk
from harness.worlds.cluster import execute, objects
from harness.worlds.cluster.api import ApiRefused
from harness.worlds.cluster.execute import ClusterProgram
from harness.worlds.cluster.frames import ClusterRecording
from harness.worlds.cluster.kustomize import Manifest
from harness.worlds.cluster.pods import ClusterDeployment, is_ready, named, world_pod
from harness.worlds.cluster.reference_daemonset import ClusterTapper, ReferenceDaemonSet
from harness.worlds.cluster.session import ClusterSession
from harness.worlds.cluster.sidecars import PUSH_S, Sidecars
from harness.worlds.model import APP_PORT, SERVICE_PORT, WorldPod, WorldService

_READY_S = 180.0
GATEWAYS = "istio=ingressgateway"
_FORBIDDEN = 403
_MOST_RECORDED = 2
"""Limit, because each recording is a program that examines all traffic of its node."""
_LINK = "import sys; print(open('/sys/class/net/eth0/iflink').read())"
_LINKS = """
import glob
for name in glob.glob("/sys/class/net/*/ifindex"):
    try:
        print(open(name).read().strip())
    except OSError:
        pass
"""
_BY_HAND = """
import os, shutil, sys, tempfile
folder = tempfile.mkdtemp()
binary = os.path.realpath(sys.executable)
shutil.copy(binary, folder + "/envoy")
open(folder + "/pyvenv.cfg", "w").write("home = " + os.path.dirname(binary) + "\\n")
program = "import signal; print('ready', flush=True); signal.pause()"
os.execve(folder + "/envoy", ["envoy", "-I", "-S", "-c", program], os.environ | {"INSTANCE_IP": sys.argv[1]})
"""


class ClusterWorld:
    """A `World` in a namespace of its own, which `close` removes.

    `record` records the links of its first pods, asked for or not, for the folder of a failure.
    """

    def __init__(self, session: ClusterSession, space: str, *, record: bool = False) -> None:
        self._session = session
        self._api = session.api
        self.capabilities = session.capabilities
        self.space = space
        """The scenario's namespace."""
        self._services: dict[str, tuple[WorldService, tuple[WorldPod, ...]]] = {}
        self._pods: list[WorldPod] = []
        self._links: dict[WorldPod, str] = {}
        self._tappers: list[ReferenceDaemonSet] = []
        self._programs: list[ClusterProgram] = []
        self._sidecars = Sidecars(session.api, space)
        self._record = record
        self._elsewhere: dict[WorldPod, str] = {}
        """Pods of other namespaces that may become targets, and their namespaces."""
        self.recordings: dict[str, ClusterRecording] = {}
        """The recordings of this scenario, by name."""

    @property
    def pods(self) -> list[WorldPod]:
        """The pods of this scenario that were not deleted."""
        return list(self._pods)

    def close(self) -> None:
        """End the tappers and recordings. The namespace is removed while other scenarios begin."""
        for tapper in self._tappers:
            tapper.close()
        for recording in self.recordings.values():
            recording.end()
        for pod in self._elsewhere:  # they are not in the scenario's namespace
            self._patch_label(pod.name, self._elsewhere[pod], objects.TARGET, None)
        self._session.give_back(self.space)

    # -- pods ------------------------------------------------------------------------------------------------------

    def pod(
        self,
        name: str,
        *,
        mode: Mode | None = None,
        command: Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        node: int = 0,
        native: bool | None = None,
    ) -> WorldPod:
        if mode is not None:
            self._api.apply(objects.peer_authentication(name, self.space, mode))
        manifest = objects.pod(
            name,
            self.space,
            self._session.image,
            command or talk.server_command(name, "http", APP_PORT),
            port=APP_PORT,
            meshed=mode is not None,
            node=self._session.nodes[node],
            env=env or {},
            native=native,
        )
        self._api.apply(manifest)
        found = self._api.wait(lambda: self._ready(name), f"the pod {name} to be ready", _READY_S, self._session.events)
        started = world_pod(found, meshed=mode is not None)
        containers = found["spec"]["containers"] + found["spec"].get("initContainers", [])
        proxied = any(container["name"] == "istio-proxy" for container in containers)
        if proxied is not started.meshed:
            raise HarnessError(f"the pod {name} has {'a' if proxied else 'no'} sidecar: is Istio's injector at work?")
        self._pods.append(started)
        if self._record and len(self.recordings) < _MOST_RECORDED:
            self.recordings[f"{name}-{started.ip}"] = self._sniff(started)
        for service, members in self._services.values():
            self._sidecars.wait_known(service, members, [started])
        return started

    def set_mode(self, mode: Mode, *pods: WorldPod) -> None:
        for pod in pods:
            self._api.apply(objects.peer_authentication(pod.name, self.space, mode))
        for pod in pods:
            self._api.wait(partial(self._accepts, mode, pod), f"the sidecar of {pod.name} to be {mode.value}", PUSH_S)

    def delete(self, pod: WorldPod) -> None:
        self._links[pod] = self.run(pod, ["python", "-c", _LINK]).strip()
        manifest = named(pod.name, self.space)
        self._api.remove(manifest)
        self._api.wait(lambda: self._api.get(manifest) is None, f"the end of {pod.name}", _READY_S)
        self._pods.remove(pod)

    def wait_released(self, pod: WorldPod, timeout: float = 20.0) -> None:
        """The node's end of the pod's veth goes with its namespace."""
        link = self._links[pod]
        self._api.wait(
            lambda: link not in self._on_node(pod.node, ["python", "-c", _LINKS]).split(),
            f"the network namespace of {pod.name} to be released",
            timeout,
        )

    def restart_proxy(self, pod: WorldPod) -> None:
        before = self._sidecars.status(pod)["restartCount"]
        try:
            self._sidecars.ask(pod, "POST", "quitquitquit")
        except HarnessError:
            pass  # it may end before it has answered; wait for its end below

        def again() -> bool:
            status = self._sidecars.status(pod)
            return bool(status["restartCount"] > before and status["ready"] and self._ready(pod.name))

        self._api.wait(again, f"another Envoy in {pod.name}", _READY_S)

    def sidecar_is_native(self, pod: WorldPod) -> bool:
        """Whether the pod's sidecar is an init container."""
        return self._sidecars.is_native(pod)

    def ambient(self, *pods: WorldPod) -> None:
        """Set the label that Istio's CNI agent watches for, and wait for the annotation with which it confirms."""
        for pod in pods:
            self._patch_label(pod.name, self.space, "istio.io/dataplane-mode", "ambient")
        for pod in pods:
            self._api.wait(partial(self._is_ambient, pod), f"{pod.name} to be taken into ambient mode", PUSH_S)

    def restart_api_server(self) -> None:
        restart = self._session.restart_api_server
        assert restart is not None

        def starts() -> int:
            pods = self._api.list("Pod", "kube-system", "component=kube-apiserver")
            statuses = [status for pod in pods for status in pod["status"].get("containerStatuses", [])]
            ready = all(status["ready"] for status in statuses)
            return sum(status["restartCount"] for status in statuses) if ready else -1

        before = self._api.wait(lambda: starts() + 1, "the API server to be ready", _READY_S) - 1
        restart()

        def again() -> bool:
            try:
                return bool(starts() > before)
            except ApiRefused as error:
                if error.status != _FORBIDDEN:
                    raise
                return False  # a server that has just started has not read its authorizations yet

        self._api.wait(again, "the API server to start again", _READY_S)

    def deployment(self, name: str, *, replicas: int, mode: Mode) -> ClusterDeployment:
        self._api.apply(objects.peer_authentication(name, self.space, mode))
        command = talk.server_command(name, "http", APP_PORT)
        manifest = objects.deployment(
            name, self.space, self._session.image, command, port=APP_PORT, replicas=replicas, meshed=True
        )
        self._api.apply(manifest)
        service = objects.service(
            name, self.space, port=SERVICE_PORT, target_port=APP_PORT, protocol="http", headless=False, ipv6=False
        )
        service["spec"]["selector"] = {objects.APP: name}
        self._api.apply(service)
        deployed = ClusterDeployment(self._api, manifest, WorldService(name, name, SERVICE_PORT))
        deployed.wait_ready()
        return deployed

    def gateways(self) -> list[WorldPod]:
        found = self._session.gateways()
        spaces = {
            pod["metadata"]["name"]: pod["metadata"]["namespace"] for pod in self._api.list("Pod", labels=GATEWAYS)
        }
        self._elsewhere |= {pod: spaces[pod.name] for pod in found}
        return found

    # -- services --------------------------------------------------------------------------------------------------

    def service(
        self, name: str, *pods: WorldPod, headless: bool = False, protocol: str = "http", ipv6: bool = False
    ) -> WorldService:
        manifest = objects.service(
            name, self.space, port=SERVICE_PORT, target_port=APP_PORT, protocol=protocol, headless=headless, ipv6=ipv6
        )
        self._api.apply(manifest)
        service = WorldService(name, name, APP_PORT if headless else SERVICE_PORT)
        self._services[name] = (service, ())
        self.set_endpoints(service, *pods)
        return service

    def set_endpoints(self, service: WorldService, *pods: WorldPod) -> None:
        _, before = self._services[service.name]
        for pod in set(before) - set(pods):
            self._patch_label(pod.name, self.space, objects.member_label(service.name), None)
        for pod in pods:
            self._patch_label(pod.name, self.space, objects.member_label(service.name), "yes")
        self._services[service.name] = (service, pods)
        self._sidecars.wait_known(service, pods, self._pods)

    # -- programs --------------------------------------------------------------------------------------------------

    def run(self, pod: WorldPod, argv: Sequence[str], timeout: float = 60.0) -> str:
        return execute.run(self._api, self.space, pod.name, "app", argv, timeout)

    def spawn(self, pod: WorldPod, argv: Sequence[str]) -> ClusterProgram:
        return ClusterProgram(self._api, self.space, pod.name, "app", argv)

    def manual_envoy(self, where: WorldPod | None, claims: WorldPod) -> ClusterProgram:
        argv = ["python", "-c", _BY_HAND, claims.ip]
        if where is None:
            space, observer = self._session.observer(claims.node)
            program = ClusterProgram(self._api, space, observer, "app", argv)
        else:
            program = self.spawn(where, argv)
        program.wait_output("ready")
        self._programs.append(program)
        return program

    # -- looking ---------------------------------------------------------------------------------------------------

    def target(self, pod: Addressed) -> Target:
        space = next((space for other, space in self._elsewhere.items() if other.name == pod.name), self.space)
        return Target(pod.name, pod.ips, f"uid-{pod.name}", space)

    def tapper(
        self, targets: Iterable[WorldPod], *options: str, istio: bool = True, without: str | None = None
    ) -> ClusterTapper:
        def label(target: Target, value: str | None) -> None:
            self._patch_label(target.name, target.namespace, objects.TARGET, value)

        daemonset = ReferenceDaemonSet(
            self._session,
            self.space,
            f"tapper-{len(self._tappers)}",
            [self.target(pod) for pod in targets],
            options,
            label,
            istio=istio,
            without=without,
        )
        self._tappers.append(daemonset)
        return ClusterTapper(daemonset, self.target)

    def wire(self, pod: WorldPod) -> ClusterRecording:
        recording = self.recordings[f"wire-{len(self.recordings)}-{pod.name}"] = self._sniff(pod)
        return recording

    # -- helpers ---------------------------------------------------------------------------------------------------

    def _sniff(self, pod: WorldPod) -> ClusterRecording:
        space, observer = self._session.observer(pod.node)
        addresses = [word for ip in pod.ips for word in ("--address", ip)]
        argv = ["python", "-m", "harness.worlds.programs.sniff", *addresses]
        program = ClusterProgram(self._api, space, observer, "app", argv)
        program.wait_output("ready")
        return ClusterRecording(program, pod.name)

    def _accepts(self, mode: Mode, pod: WorldPod) -> bool:
        return self._sidecars.accepts(pod) is mode

    def _is_ambient(self, pod: WorldPod) -> bool:
        annotations = (self._api.get(named(pod.name, self.space)) or {})["metadata"].get("annotations", {})
        return bool(annotations.get("ambient.istio.io/redirection") == "enabled")

    def _ready(self, name: str) -> Manifest | None:
        pod = self._api.get(named(name, self.space))
        return pod if pod is not None and is_ready(pod) else None

    def _patch_label(self, pod: str, space: str, label: str, value: str | None) -> None:
        body = {"metadata": {"labels": {label: value}}}
        try:
            self._api.call(lambda: self._api.core.patch_namespaced_pod(pod, space, body))
        except HarnessError as error:
            if value is not None or getattr(error, "status", 0) != 404:  # a pod that is gone has no label any more
                raise

    def _on_node(self, node: str, argv: Sequence[str]) -> str:
        space, observer = self._session.observer(node)
        return execute.run(self._api, space, observer, "app", argv)

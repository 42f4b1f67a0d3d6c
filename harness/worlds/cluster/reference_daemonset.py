"""The reference tapper in a cluster, as fixtures/istio deploys it: its targets are pods with a label."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from harness.adapters import reference
from harness.adapters.records import Records
from harness.adapters.reference import Addressed, ReferenceTapper
from harness.adapters.running import Ending
from harness.adapters.targets import Target
from harness.errors import HarnessError
from harness.worlds.cluster import execute, objects
from harness.worlds.cluster.daemonset import FollowedContainer, TapperDaemonSet
from harness.worlds.cluster.kustomize import Manifest, of_kind
from harness.worlds.cluster.session import ClusterSession

_CONTAINER = "tapper"
# The tapper's container sees all processes of the node. The tapper is the one with its own target selector.
_FIND = """
import os, re, signal, sys
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        words = open(f"/proc/{pid}/cmdline", "rb").read().split(b"\\0")
    except OSError:
        continue
    if b"tap" in words and sys.argv[1].encode() in words:
        if sys.argv[2] == "kill":
            os.kill(int(pid), signal.SIGKILL)
        else:
            print(re.search(r"VmRSS:\\s*(\\d+)", open(f"/proc/{pid}/status").read())[1])
        break
else:
    sys.exit("no such process")
"""

Label = Callable[[Target, str | None], None]
"""Puts the target label's value on a pod, or (None) takes it off."""


class ReferenceDaemonSet(TapperDaemonSet):
    """Started on construction; waits until it captures on every node, unless a capability is taken from it."""

    def __init__(
        self,
        session: ClusterSession,
        space: str,
        name: str,
        targets: Sequence[Target],
        options: Sequence[str],
        label: Label,
        *,
        istio: bool,
        without: str | None,
    ) -> None:
        self._name = name
        self._label = label
        self._labelled: set[Target] = set()
        self._space = space
        for kind in objects.CLUSTER_WIDE:
            session.own_cluster_wide(kind, f"{space}-{name}")
        manifests = objects.tapper(
            session.fixtures, name, space, session.image, session.run, options=options, istio=istio, without=without
        )
        self._update(targets)
        super().__init__(
            session.api,
            space,
            reference.adapter("reference-verify" if "--verify" in options else "reference"),
            targets,
            manifests=manifests,
            selector=f"{objects.APP}={name}",
            container=_CONTAINER,
        )
        if without is None:
            self._wait(self._ready, f"the DaemonSet {name} to be ready")
            self._look(now=True)
            self._wait(self._on_every_node, "the tapper's capture on every node")

    def _update(self, targets: Sequence[Target]) -> None:
        value = f"{self._space}.{self._name}"
        for target in self._labelled - set(targets):
            self._label(target, None)
        for target in set(targets) - self._labelled:
            self._label(target, value)
        self._labelled = set(targets)

    def stop(self, patience: float = 1.0) -> Ending:
        ending = super().stop(patience)
        last = {container.node: container.output for container in self._followed.values()}
        silent = [node for node, output in last.items() if not output.records("bye")]
        if silent:
            raise HarnessError(f"the tappers of {', '.join(silent)} did not end with their summary:\n{self.read_log()}")
        return ending

    def save(self) -> None:
        """`artefacts` collects the logs of a scenario that failed."""

    def kill(self) -> None:
        """SIGKILL every process; returns when Kubernetes has started others, and they capture."""
        before = {pod["metadata"]["name"]: self._status(pod)["restartCount"] for pod in self._pods()}
        known = set(self._followed)
        for name in before:
            self._in_container(name, "kill")

        def again() -> bool:
            statuses = {pod["metadata"]["name"]: self._status(pod) for pod in self._pods()}
            return all(
                status.get("restartCount", 0) > before.get(name, -1) and status.get("ready")
                for name, status in statuses.items()
            )

        self._wait(again, f"the containers of {self._name} to start again")
        # the new processes have to greet first: otherwise the sources of the killed ones would count as open
        self._wait(lambda: len(self._heard() - known) >= len(before), "the tapper's greeting again")
        self._wait(self._on_every_node, "the tapper's capture on every node")

    def resident_bytes(self) -> int:
        return 1024 * max(int(self._in_container(pod["metadata"]["name"], "size")) for pod in self._pods())

    def _follow(self, pod: Manifest, container_id: str) -> FollowedContainer:  # noqa: ARG002 - the log has it
        return FollowedContainer(pod["spec"].get("nodeName", ""), self._log(pod, self._container), Records())

    def _ready(self) -> bool:
        status = (self._api.get(of_kind(self.manifests, "DaemonSet")) or {}).get("status", {})
        wanted = status.get("desiredNumberScheduled", 0)
        return bool(0 < wanted == status.get("numberReady", 0) == status.get("updatedNumberScheduled", 0))

    def _heard(self) -> set[str]:
        """The containers whose process has greeted."""
        self._refreshed()
        return {identifier for identifier, container in self._followed.items() if container.output.records("hello")}

    def _on_every_node(self) -> bool:
        """Whether every process has opened the node's own interfaces."""
        heard = self._heard()
        return bool(heard) and all(
            any(source["kind"] == "node" for source in self._followed[container].output.records("source"))
            for container in heard
        )

    def _in_container(self, pod: str, what: str) -> str:
        selector = objects.target_selector(self._space, self._name)
        return execute.run(self._api, self._space, pod, _CONTAINER, ["python", "-c", _FIND, selector, what])


class ClusterTapper(ReferenceTapper):
    """The reference in a cluster. `named` makes a target of a pod."""

    def __init__(self, running: ReferenceDaemonSet, named: Callable[[Addressed], Target]) -> None:
        self.running: ReferenceDaemonSet = running
        self._named = named

    def retarget(self, targets: Iterable[Addressed]) -> None:
        self.running.retarget([self._named(pod) for pod in targets])

    def kill(self) -> None:
        self.running.kill()

    def resident_bytes(self) -> int:
        return self.running.resident_bytes()

    def stop(self) -> int:
        return self.running.stop().code

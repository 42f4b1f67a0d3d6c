"""`ClusterUnderTest`: somebody's tapper as a DaemonSet in one scenario's namespace, by what its adapter says."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.adapters.contract import Adapter, Update, environment, targets_document
from harness.adapters.observed import Output, ReportedExchange, in_words
from harness.adapters.packets import Capture
from harness.adapters.records import Records
from harness.adapters.running import TapperFault
from harness.errors import HarnessError, InternalError, WaitTimeout
from harness.worlds.cluster import adapted, execute
from harness.worlds.cluster.adapted import DESK, TAPPER
from harness.worlds.cluster.api import ApiRefused
from harness.worlds.cluster.execute import FollowedLog
from harness.worlds.cluster.kustomize import Manifest, of_kind
from harness.worlds.cluster.session import ClusterSession
from harness.worlds.programs import desk
from harness.worlds.world import WorldPod

_START_S = 120.0
_END_S = 20.0
_LOOK_S = 1.0
_HOPELESS = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError")


class _Node:
    """The tapper of one node: the logs of its pod's two containers, and what they say."""

    def __init__(self, adapter: Adapter, logs: tuple[FollowedLog, FollowedLog], directory: Path) -> None:
        self._adapter = adapter
        self.tapper, self.desk = logs
        self._folder = directory / "output"
        self._folder.mkdir(parents=True)
        if adapter.to == "stdout":
            self.output: Output = Records()
        else:
            path = self._folder if adapter.to == "directory" else self._folder / desk.FILE
            self.output = Records(path) if adapter.format == "ndjson" else Capture(path)
        self._read = [0, 0]
        self.words: list[str] = []
        """What is no record, of a container whose log is both of its outputs."""

    def refresh(self) -> None:
        for line in self._fresh(0, self.tapper):
            if self._adapter.to == "stdout" and line.startswith("{"):
                self.output.feed(line.encode() + b"\n")
            elif line:
                self.words.append(line)
        for line in self._fresh(1, self.desk):
            grown = json.loads(line)
            path = self._folder / grown["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(base64.b64decode(grown["data"]))
        self.output.refresh()

    def _fresh(self, which: int, log: FollowedLog) -> list[str]:
        lines = log.lines[self._read[which] :]
        self._read[which] += len(lines)
        return lines


class ClusterUnderTest:
    """A `harness.conformance.mesh.stage.Running`. Started on construction; its namespace takes it along."""

    def __init__(
        self, session: ClusterSession, space: str, adapter: Adapter, targets: Sequence[WorldPod], directory: Path
    ) -> None:
        assert adapter.cluster is not None
        self.checks = 0
        self._session, self._api, self._space = session, session.api, space
        self._adapter, self._cluster = adapter, adapter.cluster
        self._directory = directory
        self._generation = 1
        self._nodes: dict[str, _Node] = {}
        """By the pod's name."""
        self._looked_at = 0.0
        self._obituary: str | None = None
        self._stopped = False
        output = {"stdout": "-", "file": str(desk.OUTPUT / desk.FILE), "directory": str(desk.OUTPUT)}[adapter.to]
        self._manifests = adapted.adapted(
            adapted.load(adapter.file, adapter.cluster),
            adapter.cluster,
            space=space,
            run=session.run,
            kit_image=session.image,
            environment=environment(
                procfs="/proc",
                targets_file=str(desk.TARGETS),
                target_ips=[ip for pod in targets for ip in pod.ips],
                output=output,
                ready_fd=None,
                state=str(desk.STATE),
            )
            | dict(adapter.env),
            targets=self._document(targets),
            linger_s=adapter.stop_grace_s,
        )
        for manifest in adapted.cluster_wide(self._manifests):
            session.own_cluster_wide(manifest["kind"], manifest["metadata"]["name"])
        for manifest in self._manifests:
            self._api.apply(manifest)
        self._wait_started()

    # -- Running ---------------------------------------------------------------------------------------------------

    def sightings(self) -> list[ReportedExchange]:
        self._refresh()
        return [seen for node in self._nodes.values() for seen in node.output.seen()]

    def mentioned(self) -> set[str]:
        self._refresh()
        return set().union(*(node.output.mentioned() for node in self._nodes.values()))

    def everything(self) -> Iterable[bytes]:
        self._refresh()
        for node in self._nodes.values():
            yield from node.output.everything()
            yield "\n".join(node.words).encode()

    def obituary(self) -> str | None:
        """Whether one of its containers has ended; asked of the API server once a second at most."""
        if self._obituary is None and time.monotonic() > self._looked_at + _LOOK_S:
            self._looked_at = time.monotonic()
            try:
                self._obituary = next(filter(None, map(self._ended, self._pods())), None)
            except ApiRefused:
                return None  # it is away for the moment
        return self._obituary

    def last_words(self) -> str:
        self._refresh()
        said = [node.words[-1] for node in self._nodes.values() if node.words]
        return in_words(said[-1]) if said else ""

    def retarget(self, pods: Sequence[WorldPod]) -> None:
        if self._cluster.update is not Update.WATCH:
            raise InternalError(f"{self._adapter.implementation.name} cannot be given other targets in a cluster")
        self._generation += 1
        argv = ["python", "-m", "harness.worlds.programs.desk", "write", self._document(pods)]
        for name in self._nodes:
            execute.run(self._api, self._space, name, DESK, argv)

    def stop(self) -> None:
        died = self.obituary()
        self._stopped = True
        self._api.remove(of_kind(self._manifests, "DaemonSet"))
        deadline = time.monotonic() + self._adapter.stop_grace_s + _END_S
        for node in self._nodes.values():
            for log in (node.tapper, node.desk):
                if not log.join(max(0.0, deadline - time.monotonic())):
                    raise HarnessError("the log of a tapper does not end, though its pod was deleted")
        self._refresh()
        for node in self._nodes.values():
            node.output.finish()
        self.save()
        if died is not None:
            raise TapperFault("a tapper that runs until it is stopped", f"its end ({died})")

    def checked(self) -> None:
        self.checks += 1

    def close(self) -> None:
        """Nobody reads what it says any more. Its namespace takes along what is in it; the rest goes here."""
        for node in self._nodes.values():
            node.tapper.cancel()
            node.desk.cancel()
        for manifest in adapted.cluster_wide(self._manifests):
            self._api.remove(manifest)

    # -- besides ---------------------------------------------------------------------------------------------------

    def notes(self) -> list[str]:
        return [problem for node in self._nodes.values() for problem in node.output.problems]

    def save(self) -> None:
        """Write down what its containers have said."""
        for name, node in self._nodes.items():
            folder = self._directory / name
            (folder / "log").write_text("".join(f"{line}\n" for line in node.tapper.lines))

    # -- inner -----------------------------------------------------------------------------------------------------

    def _document(self, pods: Sequence[WorldPod]) -> str:
        return targets_document(
            self._generation,
            [{"uid": f"uid-{pod.name}", "namespace": self._space, "name": pod.name, "ips": [*pod.ips]} for pod in pods],
        )

    def _pods(self) -> list[Manifest]:
        return self._api.list("Pod", self._space, f"{TAPPER}={self._space}")

    def _wait_started(self) -> None:
        wanted = of_kind(self._manifests, "DaemonSet")

        def started() -> bool:
            status = (self._api.get(wanted) or {}).get("status", {})
            pods = self._pods()
            hopeless = next(filter(None, map(self._hopeless, pods)), None)
            if hopeless is not None:
                raise TapperFault("a tapper that can be started in the cluster", hopeless)
            return bool(0 < status.get("desiredNumberScheduled", 0) == len(pods)) and all(map(self._runs, pods))

        try:
            self._api.wait(
                started, f"the DaemonSet {wanted['metadata']['name']} to run", _START_S, self._session.events
            )
        except WaitTimeout as error:
            raise TapperFault("a tapper that can be started in the cluster", in_words(str(error), 600)) from None
        for pod in self._pods():
            name = pod["metadata"]["name"]
            logs = tuple(self._log(pod, each) for each in (self._name, DESK))
            self._nodes[name] = _Node(self._adapter, (logs[0], logs[1]), self._directory / name)

    @property
    def _name(self) -> str:
        return str(adapted.tapper_container(of_kind(self._manifests, "DaemonSet"), self._cluster)["name"])

    def _log(self, pod: Manifest, container: str) -> FollowedLog:
        return FollowedLog(
            self._api, self._space, pod["metadata"]["name"], container, _status(pod, container)["containerID"]
        )

    def _runs(self, pod: Manifest) -> bool:
        return all("running" in _status(pod, name).get("state", {}) for name in (self._name, DESK))

    def _hopeless(self, pod: Manifest) -> str | None:
        """Why it will not run, where that is known."""
        waiting = _status(pod, self._name).get("state", {}).get("waiting", {})
        if waiting.get("reason") in _HOPELESS:
            return in_words(f"{waiting['reason']}: {waiting.get('message', '')}")
        return self._ended(pod)

    def _ended(self, pod: Manifest) -> str | None:
        status = _status(pod, self._name)
        for moment in (status.get("state", {}), status.get("lastState", {})):
            if "terminated" in moment and not self._stopped:
                code = moment["terminated"]["exitCode"]
                node = self._nodes.get(pod["metadata"]["name"])
                said = self.last_words() if node is not None else self._previous(pod["metadata"]["name"])
                return f"exit code {code} on {pod['spec'].get('nodeName')}" + (f": {said}" if said else "")
        return None

    def _previous(self, pod: str) -> str:
        """The last line of a container that ended before its log was followed."""
        try:
            text = self._api.call(
                lambda: self._api.core.read_namespaced_pod_log(pod, self._space, container=self._name, tail_lines=1)
            )
        except HarnessError:
            return ""
        return in_words(str(text).strip())

    def _refresh(self) -> None:
        for node in self._nodes.values():
            node.refresh()


def _status(pod: Manifest, container: str) -> Manifest:
    """Its container's; empty while there is none."""
    return next((each for each in pod["status"].get("containerStatuses", []) if each["name"] == container), {})

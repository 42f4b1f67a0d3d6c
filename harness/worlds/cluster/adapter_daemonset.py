"""`AdapterDaemonSet`: the tapper of an adapter as a DaemonSet in the namespace of one scenario."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from pathlib import Path

from harness.adapters.contract import Adapter, Update, environment, targets_document
from harness.adapters.observed import in_words
from harness.adapters.packets import Capture
from harness.adapters.records import Records
from harness.adapters.running import TapperFault
from harness.adapters.targets import Target
from harness.errors import InternalError, WaitTimeout
from harness.worlds.cluster import adapted, execute
from harness.worlds.cluster.adapted import DESK, TAPPER
from harness.worlds.cluster.daemonset import FollowedContainer, TapperDaemonSet
from harness.worlds.cluster.execute import FollowedLog
from harness.worlds.cluster.kustomize import Manifest, of_kind
from harness.worlds.cluster.objects import CLUSTER_WIDE
from harness.worlds.cluster.session import ClusterSession
from harness.worlds.programs import desk

_HOPELESS = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError")


class _WithDesk(FollowedContainer):
    """A tapper's container, and the kit's desk beside it, which prints what the tapper adds to its output files."""

    def __init__(self, node: str, logs: tuple[FollowedLog, FollowedLog], adapter: Adapter, folder: Path) -> None:
        self._desk = logs[1]
        self._desk_read = 0
        self._folder = folder
        folder.mkdir(parents=True)
        path = {"stdout": None, "file": folder / desk.FILE, "directory": folder}[adapter.to]
        output = Records(path) if adapter.format == "ndjson" else Capture(path)
        super().__init__(node, logs[0], output, records=adapter.to == "stdout")

    def refresh(self) -> None:
        fresh = self._desk.lines[self._desk_read :]
        self._desk_read += len(fresh)
        for line in fresh:
            grown = json.loads(line)
            path = self._folder / grown["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(base64.b64decode(grown["data"]))
        super().refresh()

    def stop(self, deadline: float) -> None:
        super().stop(deadline)
        self._desk.join(max(0.0, deadline - time.monotonic()))

    def cancel(self) -> None:
        super().cancel()
        self._desk.cancel()


class AdapterDaemonSet(TapperDaemonSet):
    """Started on construction. Raises `TapperFault` if it does not start."""

    def __init__(
        self, session: ClusterSession, space: str, adapter: Adapter, targets: Sequence[Target], directory: Path
    ) -> None:
        assert adapter.cluster is not None
        self._cluster = adapter.cluster
        self._directory = directory
        output = {"stdout": "-", "file": str(desk.OUTPUT / desk.FILE), "directory": str(desk.OUTPUT)}[adapter.to]
        variables = environment(
            procfs="/proc",
            targets_file=str(desk.TARGETS),
            target_ips=[ip for target in targets for ip in target.ips],
            output=output,
            ready_fd=None,
            state=str(desk.STATE),
        )
        manifests = adapted.adapted(
            adapted.load(adapter.file, self._cluster),
            self._cluster,
            space=space,
            run=session.run,
            kit_image=session.image,
            environment=variables | dict(adapter.env),
            targets=_document(1, targets),
            linger_s=adapter.stop_grace_s,
        )
        for manifest in manifests:
            if manifest["kind"] in CLUSTER_WIDE:
                session.own_cluster_wide(manifest["kind"], manifest["metadata"]["name"])
        container = adapted.tapper_container(of_kind(manifests, "DaemonSet"), self._cluster)["name"]
        super().__init__(
            session.api,
            space,
            adapter,
            targets,
            manifests=manifests,
            selector=f"{TAPPER}={space}",
            container=str(container),
        )
        try:
            self._wait(self._started, "the tapper's DaemonSet to run", session.events)
        except WaitTimeout as error:
            raise TapperFault("a tapper that can be started in the cluster", in_words(str(error), 600)) from None
        self._look(now=True)

    def save(self) -> None:
        """Write the logs of its containers, by the names of their nodes."""
        self._directory.mkdir(parents=True, exist_ok=True)
        for number, container in enumerate(self._followed.values(), 1):
            lines = "".join(f"{line}\n" for line in container.log.lines)
            (self._directory / f"{number}-{container.node}.log").write_text(lines)

    def _update(self, targets: Sequence[Target]) -> None:
        if self._cluster.update is not Update.WATCH:
            raise InternalError(f"{self.adapter.implementation.name} cannot be given other targets in a cluster")
        argv = ["python", "-m", "harness.worlds.programs.desk", "write", _document(self.generation, targets)]
        for pod in self._pods():
            execute.run(self._api, self._space, pod["metadata"]["name"], DESK, argv)

    def _follow(self, pod: Manifest, container_id: str) -> FollowedContainer:  # noqa: ARG002 - one container a pod
        logs = self._log(pod, self._container), self._log(pod, DESK)
        name = pod["metadata"]["name"]
        return _WithDesk(pod["spec"].get("nodeName", ""), logs, self.adapter, self._directory / name / "output")

    def _started(self) -> bool:
        status = (self._api.get(of_kind(self.manifests, "DaemonSet")) or {}).get("status", {})
        pods = self._pods()
        for pod in pods:
            waiting = self._status(pod).get("state", {}).get("waiting", {})
            reason = waiting.get("reason")
            hopeless = in_words(f"{reason}: {waiting.get('message', '')}") if reason in _HOPELESS else None
            if hopeless := hopeless or self._ended_early(pod):
                raise TapperFault("a tapper that can be started in the cluster", hopeless)
        return bool(0 < status.get("desiredNumberScheduled", 0) == len(pods)) and all(map(self._runs, pods))

    def _runs(self, pod: Manifest) -> bool:
        return all("running" in self._status(pod, name).get("state", {}) for name in (self._container, DESK))

    def _ended_early(self, pod: Manifest) -> str | None:
        status = self._status(pod)
        for moment in (status.get("state", {}), status.get("lastState", {})):
            if "terminated" in moment:
                return self._how_it_ended(pod, moment["terminated"]["exitCode"])
        return None


def _document(generation: int, targets: Sequence[Target]) -> str:
    return targets_document(generation, [target.document() for target in targets])

"""`TapperDaemonSet`: a tapper on every node of a cluster, read by the logs of its containers."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Sequence

from harness.adapters.contract import Adapter
from harness.adapters.observed import Output, in_words
from harness.adapters.running import Ending, Running
from harness.adapters.targets import Target
from harness.errors import HarnessError
from harness.worlds.cluster.api import ApiRefused, ClusterApi
from harness.worlds.cluster.execute import FollowedLog
from harness.worlds.cluster.kustomize import Manifest, of_kind
from harness.worlds.cluster.objects import CLUSTER_WIDE

START_S = 120.0
_END_S = 40.0
_LOOK_S = 1.0


class FollowedContainer:
    """A tapper's container, from its start to its end: a container that starts again is another one.

    Lines of the log that begin with a brace are records, the others are words for people; with `records` False all
    lines are words.
    """

    def __init__(self, node: str, log: FollowedLog, output: Output, *, records: bool = True) -> None:
        self.node = node
        self.log = log
        self.output = output
        self.words: list[str] = []
        self._records = records
        self._read = 0

    def refresh(self) -> None:
        fresh = self.log.lines[self._read :]
        self._read += len(fresh)
        for line in fresh:
            if self._records and line.startswith("{"):
                self.output.feed(line.encode() + b"\n")
            elif line:
                self.words.append(line)
        self.output.refresh()

    def stop(self, deadline: float) -> None:
        """Wait for the end of its log, by a monotonic time. Raises HarnessError."""
        if not self.log.join(max(0.0, deadline - time.monotonic())):
            raise HarnessError(f"the log of the tapper on {self.node} does not end, though its pod was deleted")

    def cancel(self) -> None:
        self.log.cancel()


class TapperDaemonSet(Running):
    """`manifests` are applied on construction; `selector` finds its pods, `container` is the tapper's in each."""

    def __init__(
        self,
        api: ClusterApi,
        space: str,
        adapter: Adapter,
        targets: Sequence[Target],
        *,
        manifests: Sequence[Manifest],
        selector: str,
        container: str,
    ) -> None:
        super().__init__(adapter, targets)
        self.manifests = list(manifests)
        self._api, self._space = api, space
        self._selector, self._container = selector, container
        self._followed: dict[str, FollowedContainer] = {}
        """By the container's id."""
        self._looked_at = 0.0
        self._returncode: int | None = None
        self._death: str | None = None
        self._stopped = False
        for manifest in self.manifests:
            api.apply(manifest)

    # -- Running -----------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        return not self._stopped

    @property
    def returncode(self) -> int | None:
        self._look()
        return self._returncode

    def ended(self) -> str | None:
        self._look()
        return self._death

    def outputs(self) -> Sequence[tuple[str, Output]]:
        return [(container.node, container.output) for container in self._refreshed()]

    def read_log(self) -> str:
        lines = []
        for container in self._refreshed():
            messages = [*container.words, *([container.log.failure] if container.log.failure else [])]
            lines += [f"{container.node}: {message}" for message in messages]
        return "".join(f"{line}\n" for line in lines)

    def stop(self, patience: float = 1.0) -> Ending:
        self._look(now=True)
        self._stopped = True
        started = time.monotonic()
        self._api.remove(of_kind(self.manifests, "DaemonSet"))
        deadline = started + (self.adapter.stop_grace_s + _END_S) * patience
        for container in self._followed.values():
            container.stop(deadline)
        for container in self._refreshed():
            container.output.finish()
        return Ending(seconds=time.monotonic() - started)

    def close(self) -> None:
        """Stop reading its logs, and remove the objects that the end of the namespace does not remove."""
        for container in self._followed.values():
            container.cancel()
        if not self._stopped:
            self._stopped = True
            self._api.remove(of_kind(self.manifests, "DaemonSet"))
        for manifest in self.manifests:
            if manifest["kind"] in CLUSTER_WIDE:
                self._api.remove(manifest)

    # -- for the starters --------------------------------------------------------------------------------------------

    def _pods(self) -> list[Manifest]:
        return self._api.list("Pod", self._space, self._selector)

    def _status(self, pod: Manifest, container: str | None = None) -> Manifest:
        """The status of one of a pod's containers, by default the tapper's; empty while there is none."""
        statuses: list[Manifest] = pod["status"].get("containerStatuses", [])
        return next((status for status in statuses if status["name"] == (container or self._container)), {})

    @abstractmethod
    def _follow(self, pod: Manifest, container_id: str) -> FollowedContainer:
        """Read a container that was not known before."""

    def _log(self, pod: Manifest, container: str) -> FollowedLog:
        identifier = self._status(pod, container)["containerID"]
        return FollowedLog(self._api, self._space, pod["metadata"]["name"], container, identifier)

    def _wait(self, probe: Callable[[], object], what: str, logs: Callable[[], str] | None = None) -> None:
        self._api.wait(probe, what, START_S, logs or self.read_log)

    def _look(self, *, now: bool = False) -> None:
        """Ask the API server for new and ended containers, once a second at most."""
        if self._stopped or not (now or time.monotonic() > self._looked_at + _LOOK_S):
            return
        self._looked_at = time.monotonic()
        try:
            pods = self._pods()
        except ApiRefused:
            return  # it is away for the moment
        for pod in pods:
            status = self._status(pod)
            identifier = status.get("containerID", "")
            if identifier and identifier not in self._followed:
                self._followed[identifier] = self._follow(pod, identifier)
            for moment in (status.get("state", {}), status.get("lastState", {})):
                if "terminated" in moment:
                    self._returncode = moment["terminated"]["exitCode"]
                    self._death = self._death or self._how_it_ended(pod, self._returncode)

    def _how_it_ended(self, pod: Manifest, code: int | None) -> str:
        said = self.last_words() or self._last_line_before(pod)
        return f"its end (exit code {code} on {pod['spec'].get('nodeName')})" + (f": {said}" if said else "")

    def _last_line_before(self, pod: Manifest) -> str:
        """The last line of a container that ended before its log was followed."""
        name = pod["metadata"]["name"]
        try:
            text = self._api.call(
                lambda: self._api.core.read_namespaced_pod_log(
                    name, self._space, container=self._container, tail_lines=1
                )
            )
        except HarnessError:
            return ""
        return in_words(str(text).strip())

    def _refreshed(self) -> list[FollowedContainer]:
        self._look()
        for container in self._followed.values():
            container.refresh()
        return list(self._followed.values())

"""`ClusterTap`: the reference tapper as a DaemonSet, and what its pods say."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from harness.errors import HarnessError
from harness.worlds.cluster import execute, objects
from harness.worlds.cluster.api import ApiRefused, ClusterApi
from harness.worlds.cluster.execute import FollowedLog
from harness.worlds.cluster.kustomize import Manifest, of_kind
from harness.worlds.tap import Record, Tap
from harness.worlds.world import WorldPod

_START_S = 120.0
_END_S = 40.0
_CONTAINER = "tapper"
# all the node's processes are in sight of the tapper's container: the one whose target selector is this tapper's
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


class ClusterTap(Tap):
    """`label` puts the target label's value on pods, or (None) takes it off."""

    def __init__(
        self,
        api: ClusterApi,
        fixtures: Path,
        name: str,
        space: str,
        image: str,
        run: str,
        label: Callable[[WorldPod, str | None], None],
    ) -> None:
        self._api = api
        self._fixtures, self._name, self._space, self._image, self._run = fixtures, name, space, image, run
        self._label = label
        self._targets: set[WorldPod] = set()
        self._manifests: list[Manifest] = []
        self._logs: dict[tuple[str, str], FollowedLog] = {}
        """By the node's name, and the container's id: one that starts again writes another log."""
        self._records: dict[tuple[str, str], tuple[int, list[Record]]] = {}
        """How many lines were read, and the records among them."""
        self._exit: int | None = None
        self._stopped = False

    @property
    def manifests(self) -> list[Manifest]:
        return self._manifests

    def begin(self, targets: Iterable[WorldPod], options: Sequence[str], *, istio: bool, without: str | None) -> None:
        self.retarget(targets)
        self._manifests = objects.tapper(
            self._fixtures,
            self._name,
            self._space,
            self._image,
            self._run,
            options=options,
            istio=istio,
            without=without,
        )
        for manifest in self._manifests:
            self._api.apply(manifest)
        if without is None:
            self._api.wait(self._ready, f"the DaemonSet {self._name} to be ready", _START_S, self.read_log)
            self._attach()
            self.wait_for(self._on_every_node, "its capture on every node")

    # -- Tap -------------------------------------------------------------------------------------------------------

    def records_by_node(self) -> dict[str, list[Record]]:
        if not self._stopped:
            self._attach()
        found: dict[str, list[Record]] = {}
        for key, log in self._logs.items():
            done, records = self._records.setdefault(key, (0, []))
            fresh = log.lines[done:]
            records += [json.loads(line) for line in fresh if line.startswith("{")]
            self._records[key] = (done + len(fresh), records)
            found.setdefault(key[0], []).extend(records)
        return found

    def retarget(self, targets: Iterable[WorldPod]) -> None:
        wanted = set(targets)
        value = f"{self._space}.{self._name}"
        for pod in self._targets - wanted:
            self._label(pod, None)
        for pod in wanted - self._targets:
            self._label(pod, value)
        self._targets = wanted

    def read_log(self) -> str:
        """What is not a record: a container has one log for both of its outputs."""
        if not self._stopped:
            self._attach()
        lines = []
        for (node, _), log in self._logs.items():
            lines += [f"{node}: {line}" for line in log.lines if line and not line.startswith("{")]
            lines += [f"{node}: {log.failure}"] if log.failure else []
        return "".join(f"{line}\n" for line in lines)

    def ended(self) -> int | None:
        self._attach()
        return self._exit

    def kill(self) -> None:
        before = {pod["metadata"]["name"]: _status(pod)["restartCount"] for pod in self._pods()}
        greeted = self._greetings()
        for name in before:
            self._in_container(name, "kill")

        def again() -> bool:
            return all(
                _status(pod)["restartCount"] > before.get(pod["metadata"]["name"], -1) and _status(pod)["ready"]
                for pod in self._pods()
            )

        self._api.wait(again, f"the containers of {self._name} to start again", _START_S)
        # until its first words have come, its predecessor's would be taken for what is so now
        self.wait_for(lambda: all(now > greeted[node] for node, now in self._greetings().items()), "its greeting again")
        self.wait_for(self._on_every_node, "its capture on every node")

    def resident_bytes(self) -> int:
        return 1024 * max(int(self._in_container(pod["metadata"]["name"], "size")) for pod in self._pods())

    def stop(self) -> None:
        self._attach()
        last = {key[0]: key for key in self._logs}
        self._remove()
        deadline = time.monotonic() + _END_S
        for key in last.values():
            if not self._logs[key].join(max(0.0, deadline - time.monotonic())):
                raise HarnessError(f"the log of the tapper on {key[0]} does not end, {_END_S:g} s after its pod's end")
        self._stopped = True
        records = self.records_by_node()
        silent = [node for node in last if not records[node] or records[node][-1]["type"] != "bye"]
        if silent:
            raise HarnessError(f"the tappers of {', '.join(silent)} did not end with their summary:\n{self.read_log()}")

    def stop_if_running(self) -> None:
        for log in self._logs.values():
            log.cancel()
        if not self._stopped:
            self._stopped = True
            self._remove()

    # -- helpers ---------------------------------------------------------------------------------------------------

    def _remove(self) -> None:
        for manifest in reversed(self._manifests):
            if manifest["kind"] != "ServiceAccount":  # the pods that end have a token of it; it goes with its namespace
                self._api.remove(manifest)

    def _pods(self) -> list[Manifest]:
        return self._api.list("Pod", self._space, f"{objects.APP}={self._name}")

    def _ready(self) -> bool:
        found = self._api.get(of_kind(self._manifests, "DaemonSet"))
        status = (found or {}).get("status", {})
        wanted = status.get("desiredNumberScheduled", 0)
        return bool(0 < wanted == status.get("numberReady", 0) == status.get("updatedNumberScheduled", 0))

    def _greetings(self) -> dict[str, int]:
        nodes = self.records_by_node()
        return {node: sum(each["type"] == "hello" for each in records) for node, records in nodes.items()}

    def _on_every_node(self) -> bool:
        """Each process opens the node's own interfaces once."""
        greeted = self._greetings()
        opened = {
            node: sum(each["type"] == "source" and each["kind"] == "node" for each in records)
            for node, records in self.records_by_node().items()
        }
        return bool(greeted) and all(opened[node] >= count > 0 for node, count in greeted.items())

    def _attach(self) -> None:
        """Follow the log of every container that there is by now."""
        try:
            pods = self._pods()
        except ApiRefused:
            return  # away for the moment: what there is to read comes later
        for pod in pods:
            status = _status(pod)
            for moment in (status.get("state", {}), status.get("lastState", {})):
                if "terminated" in moment:
                    self._exit = moment["terminated"]["exitCode"]
            key = (pod["spec"].get("nodeName", ""), status.get("containerID", ""))
            if key[1] and key not in self._logs:
                self._logs[key] = FollowedLog(self._api, self._space, pod["metadata"]["name"], _CONTAINER, key[1])

    def _in_container(self, pod: str, what: str) -> str:
        selector = objects.target_selector(self._space, self._name)
        return execute.run(self._api, self._space, pod, _CONTAINER, ["python", "-c", _FIND, selector, what])


def _status(pod: Manifest) -> Manifest:
    """Its container's; empty while there is none."""
    statuses: list[Manifest] = pod["status"].get("containerStatuses", [])
    return statuses[0] if statuses else {}

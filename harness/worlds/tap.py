"""`Tap`: a tapper that runs in a world, on every node of it, and what it has said.

Its records arrive while it runs, from one process (the sandbox) or from the logs of a DaemonSet's pods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from harness.errors import WaitTimeout
from harness.mesh.traffic import AnsweredRequest
from harness.waiting import wait_until

if TYPE_CHECKING:
    from harness.worlds.world import WorldPod

Record = dict[str, Any]
TIMEOUT_S = 30.0
"""For what a tapper is to notice or to report: a DaemonSet's log takes its time."""


class Tap(ABC):
    """Made by `World.tapper`."""

    @abstractmethod
    def records_by_node(self) -> dict[str, list[Record]]:
        """Everything that it has said so far, in order, by node."""

    @abstractmethod
    def retarget(self, targets: Iterable[WorldPod]) -> None:
        """These pods, and no others, from now on. Returns when the tapper was told; it may take a moment to act."""

    @abstractmethod
    def read_log(self) -> str:
        """What it has said to people."""

    @abstractmethod
    def ended(self) -> int | None:
        """The exit code of the last of its processes that has ended, None if none has."""

    @abstractmethod
    def kill(self) -> None:
        """SIGKILL, on every node; returns when another process is at work, started by hand or by Kubernetes."""

    @abstractmethod
    def resident_bytes(self) -> int:
        """The memory of the largest of its processes (VmRSS, proc_pid_status(5))."""

    @abstractmethod
    def stop(self) -> None:
        """Ask it to end and read the rest of its output. Raises HarnessError if it does not end well."""

    # -- what it said ----------------------------------------------------------------------------------------------

    def of_type(self, kind: str, node: str | None = None) -> list[Record]:
        """The records of a type, of all nodes or of one."""
        return [
            record
            for name, records in self.records_by_node().items()
            if node in (None, name)
            for record in list(records)
            if record["type"] == kind
        ]

    def exchanges(
        self, pod: WorldPod | None = None, direction: str | None = None, node: str | None = None
    ) -> list[Record]:
        """The HTTP records, optionally of one pod, direction and node; without the kubelet's probes, which nobody
        sent, and without answers whose requests crossed before the capture, as a probe's may."""
        return [
            record
            for record in self.of_type("http", node)
            if (pod is None or record["pod_ip"] in pod.ips)
            and (direction is None or record["direction"] == direction)
            and record["target"] is not None
            and not _is_probe(record)
        ]

    def seen(self, pod: WorldPod | None = None, direction: str | None = None) -> Counter[str]:
        """How often each request target was reported."""
        return Counter(record["target"] for record in self.exchanges(pod, direction))

    def sources(self) -> list[Record]:
        """The records of the pods' namespaces in which it captures now."""
        found: list[Record] = []
        for records in self.records_by_node().values():
            here: dict[int, Record] = {}
            for record in list(records):
                if record["type"] == "hello":
                    here.clear()  # another process
                elif record["type"] == "source" and record["kind"] == "pod":
                    if record["state"] == "open":
                        here[record["netns"]] = record
                    else:
                        here.pop(record["netns"], None)
            found += here.values()
        return found

    def said(self, *parts: str) -> list[str]:
        """The lines of its log that have all the parts."""
        return [line for line in self.read_log().splitlines() if all(part in line for part in parts)]

    # -- waiting ---------------------------------------------------------------------------------------------------

    def wait_for(self, probe: Callable[[], object], what: str, timeout: float = TIMEOUT_S) -> None:
        """Wait until the probe is true. Raises WaitTimeout with the tapper's log."""

        def check() -> bool:
            return bool(probe())

        try:
            wait_until(check, f"the tapper: {what}", timeout, self.read_log)
        except WaitTimeout as error:
            ended = self.ended()
            if ended is not None:
                error.add_note(f"one of its processes has ended with {ended}")
            raise

    def wait_capturing(self, *pods: WorldPod, timeout: float = TIMEOUT_S) -> None:
        """Wait until it says that it captures in the namespaces of these pods."""
        for pod in pods:
            self.wait_for(lambda pod=pod: self.captures(pod), f"its capture in {pod.name}", timeout)  # type: ignore[misc]

    def captures(self, pod: WorldPod) -> bool:
        return any(source["instance_ip"] in pod.ips for source in self.sources())

    def wait_seen(
        self,
        sent: Sequence[AnsweredRequest],
        pod: WorldPod | None = None,
        direction: str | None = None,
        timeout: float = TIMEOUT_S,
    ) -> None:
        """Wait until each of the requests was reported, optionally of one pod and direction."""
        wanted = {each.target for each in sent}
        where = f" of {pod.name}" if pod is not None else ""

        def missing() -> bool:
            return wanted <= self.seen(pod, direction).keys()

        self.wait_for(missing, f"{len(wanted)} requests{where}, {direction or 'any direction'}", timeout)


def _is_probe(record: Record) -> bool:
    """Whether the kubelet asked: it says so (`kube-probe/1.34`), also where pilot-agent passes it on."""
    fields = (record["request"] or {}).get("headers", [])
    return any(name.lower() == "user-agent" and value.startswith("kube-probe/") for name, value in fields)

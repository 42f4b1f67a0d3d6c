"""The reference tapper while it runs, and questions to its records.

`ReferenceTapper` reads what any of its processes reports. `RunningTapper` is the one on a node of the sandbox;
`harness.worlds.cluster.reference_daemonset` has the one of a cluster.
"""

from __future__ import annotations

import functools
import itertools
import signal
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from pathlib import Path
from typing import Any, Protocol, Self

from harness.adapters import contract, shipped
from harness.adapters.process import TapperProcess
from harness.adapters.records import Records
from harness.adapters.running import Running
from harness.adapters.targets import Target, target
from harness.errors import HarnessError, WaitTimeout
from harness.mesh.traffic import AnsweredRequest
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod
from harness.sandbox.process import MINIMAL_ENVIRON, Command, Process
from harness.waiting import DEFAULT_TIMEOUT, wait_until

Record = dict[str, Any]
TIMEOUT_S = 30.0
"""For a report or a reaction of the tapper, in seconds: the log of a DaemonSet comes late."""
TAPPER_ENVIRON = MINIMAL_ENVIRON | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
"""An environment in which `tapper_argv` finds the tapper beside this harness."""


_numbers = itertools.count(1)


def tapper_argv(*arguments: str) -> list[str]:
    """The reference tapper's command line, for the interpreter that runs this."""
    return [sys.executable, "-m", "tapper", *arguments]


@functools.cache
def adapter(name: str = "reference") -> contract.Adapter:
    """The adapter of the reference; it is not asked for its version."""
    return contract.load(shipped.names()[name], installed=False)


class Addressed(Protocol):
    """A pod of any world."""

    @property
    def name(self) -> str: ...

    @property
    def ips(self) -> tuple[str, ...]:
        """All its addresses."""


class ReferenceTapper(ABC):
    """A reference tapper that runs, on one node or on several."""

    running: Running

    # -- records -----------------------------------------------------------------------------------------------------

    def runs(self) -> list[tuple[str, list[Record]]]:
        """The node's name and all records of each of its processes, in order."""
        return [(node, output.all()) for node, output in self.running.outputs() if isinstance(output, Records)]

    def of_type(self, kind: str, node: str | None = None) -> list[Record]:
        """The records of a type, of all nodes or of one."""
        return [
            record
            for name, records in self.runs()
            if node in (None, name)
            for record in records
            if record["type"] == kind
        ]

    @property
    def exchanges(self) -> list[Record]:
        """Every HTTP record."""
        return self.of_type("http")

    def exchanges_of(
        self, pod: Addressed | None = None, direction: str | None = None, node: str | None = None
    ) -> list[Record]:
        """The HTTP records, optionally of one pod, direction and node.

        Without the kubelet's probes, which no test has sent, and without answers whose requests crossed before the
        capture began, as a probe's may.
        """
        return [
            record
            for record in self.of_type("http", node)
            if (pod is None or record["pod_ip"] in pod.ips)
            and (direction is None or record["direction"] == direction)
            and record["target"] is not None
            and not _is_probe(record)
        ]

    def seen(self, pod: Addressed | None = None, direction: str | None = None) -> Counter[str]:
        """How often each request target (`/orders/nonce-…`) was reported, optionally of one pod and one direction."""
        return Counter(record["target"] for record in self.exchanges_of(pod, direction))

    def sources(self) -> list[Record]:
        """The records of the network namespaces of pods in which it captures now."""
        return [record for record in self._open() if record["kind"] == "pod"]

    def captures(self, pod: Addressed) -> bool:
        """Whether the tapper says that it captures in the pod's network namespace now."""
        return any(source["instance_ip"] in pod.ips for source in self.sources())

    def reads_tls(self, pod: Addressed) -> bool:
        """Whether the tapper says that it reads what the pod's applications encrypt themselves (`--tls`)."""
        return any(source["interface"] == "tls" and source["instance_ip"] in pod.ips for source in self._open())

    def _open(self) -> Iterator[Record]:
        """The sources that are open now, of the newest process of every node."""
        for records in dict(self.runs()).values():
            opened: dict[object, Record] = {}
            for record in records:
                if record["type"] == "hello":
                    opened.clear()  # another process writes to the same log
                elif record["type"] == "source":
                    key = "node" if record["kind"] == "node" else (record["netns"], record["interface"])
                    if record["state"] == "open":
                        opened[key] = record
                    else:
                        opened.pop(key, None)
            yield from opened.values()

    # -- words for people --------------------------------------------------------------------------------------------

    def read_log(self) -> str:
        """Everything that it wrote for people."""
        return self.running.read_log()

    def said(self, *parts: str) -> list[str]:
        """The lines of its log that contain all the parts."""
        return [line for line in self.read_log().splitlines() if all(part in line for part in parts)]

    def ended(self) -> int | None:
        """The exit code of the process that ended last, None if none has."""
        return self.running.returncode

    # -- waiting -----------------------------------------------------------------------------------------------------

    def wait_for(self, probe: Callable[[], object], what: str, timeout: float = TIMEOUT_S) -> None:
        """Wait until the probe is true. Raises `WaitTimeout` with the tapper's log, at once if the tapper has ended."""

        def check() -> bool:
            if probe():
                return True
            if not self.running.running:
                raise WaitTimeout(f"the tapper ended with {self.ended()} before {what}\n{self.read_log()}")
            return False

        wait_until(check, f"the tapper to report {what}", timeout, self.read_log)

    def wait_capturing(self, *pods: Addressed, timeout: float = TIMEOUT_S) -> None:
        """Wait until it says that it captures on the node and in the network namespaces of these pods."""
        self.wait_for(
            lambda: any(source["kind"] == "node" for source in self._open()), "its capture on the node", timeout
        )
        for pod in pods:
            self.wait_for(functools.partial(self.captures, pod), f"its capture in {pod.name}", timeout)

    def wait_reading_tls(self, *pods: Addressed, timeout: float = TIMEOUT_S) -> None:
        """Wait until it says that it reads what the applications of these pods encrypt themselves."""
        for pod in pods:
            what = f"that it reads what applications in {pod.name} encrypt themselves"
            self.wait_for(functools.partial(self.reads_tls, pod), what, timeout)

    def wait_seen(
        self,
        sent: Sequence[AnsweredRequest],
        pod: Addressed | None = None,
        direction: str | None = None,
        timeout: float = TIMEOUT_S,
    ) -> None:
        """Wait until each of the requests was reported, optionally of one pod and direction."""
        self.wait_targets([request.target for request in sent], timeout, pod=pod, direction=direction)

    def wait_targets(
        self,
        targets: Sequence[str],
        timeout: float = TIMEOUT_S,
        pod: Addressed | None = None,
        direction: str | None = None,
    ) -> None:
        """Wait until every one of the request targets was reported; `pod` and `direction` as for `seen`."""
        wanted = set(targets)
        where = (f" of {pod.name}" if pod is not None else "") + (f", {direction}" if direction is not None else "")
        what = f"{len(wanted)} requests{where}"
        self.wait_for(lambda: wanted <= self.seen(pod, direction).keys(), what, timeout)

    # -- commands ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def retarget(self, targets: Iterable[Addressed]) -> None:
        """Give it these pods and no others. It may take a moment to act."""

    @abstractmethod
    def kill(self) -> None:
        """SIGKILL every process; returns when another one captures, whoever started it."""

    @abstractmethod
    def resident_bytes(self) -> int:
        """The resident memory of the largest of its processes."""

    @abstractmethod
    def stop(self) -> int:
        """Ask it to end and read the rest of its output; its exit code. Raises HarnessError for a broken output."""


class RunningTapper(ReferenceTapper):
    """`tapper tap -o ndjson` as a process of a node. Use it as a context manager, or call `stop`.

    `targets` are pods or addresses: given as options, or with `follow`, which takes pods only, in a file that the
    tapper follows. `arguments` are further options; `istio=True` adds `--istio`. `uid`, `capabilities` and `read_only`
    are as for `Command`.
    """

    def __init__(
        self,
        node: Node,
        targets: Iterable[str | Pod],
        *arguments: str,
        istio: bool = True,
        follow: bool = False,
        uid: int | None = None,
        capabilities: Set[str] | None = None,
        read_only: bool = False,
    ) -> None:
        self._node = node
        self._mode = ["--istio"] if istio else []
        self._arguments = arguments
        self._follow = follow
        self._rights: dict[str, Any] = {"uid": uid, "capabilities": capabilities, "read_only": read_only}
        self._earlier: list[TapperProcess] = []
        """The processes that `kill` has killed."""
        self.running: TapperProcess
        self._start([_target(pod) for pod in targets])

    @property
    def process(self) -> Process:
        return self.running.process

    def runs(self) -> list[tuple[str, list[Record]]]:
        processes = [*self._earlier, self.running]
        return [("the node", output.all()) for process in processes if isinstance(output := process.output, Records)]

    @property
    def records(self) -> list[Record]:
        """Everything that it has reported so far, in order."""
        return [record for _, records in self.runs() for record in records]

    def captures(self, pod: Addressed) -> bool:
        return pod.netns_inode in self.open_sources() if isinstance(pod, Pod) else super().captures(pod)

    def open_sources(self) -> set[int | str]:
        """The network namespaces of pods in which it captures, and "node" for the interfaces of the node."""
        return {"node" if record["kind"] == "node" else record["netns"] for record in self._open()}

    def read_log(self) -> str:
        return "".join(process.read_log() for process in [*self._earlier, self.running])

    def retarget(self, targets: Iterable[Addressed]) -> None:
        self.running.retarget([_target(pod) for pod in targets])
        wanted = self.running.generation
        self.wait_for(
            lambda: any(record["generation"] == wanted for record in self.of_type("ack")), f"its list {wanted}"
        )

    def kill(self) -> None:
        self.running.stop(signum=signal.SIGKILL)
        self._earlier.append(self.running)
        self._start(self.running.target_lists[-1][1])
        self.wait_capturing()

    def resident_bytes(self) -> int:
        return self.running.family.memory()

    def stop(self, timeout: float = DEFAULT_TIMEOUT, signum: int = signal.SIGTERM) -> int:
        ending = self.running.stop(signum=signum, grace_s=timeout)
        if self.running.problems():
            raise HarnessError(f"the tapper wrote lines that are not records: {self.running.problems()[:3]}")
        return ending.code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self, targets: Sequence[Target]) -> None:
        directory = self._node.run_dir / f"tapper-{next(_numbers)}"
        directory.mkdir()
        if self._follow:
            which = ["--targets-file", self._node.inside(directory / "targets.json")]
        else:
            which = ["--filter-authorities", ",".join(target.ips[0] for target in targets)]
        argv = tapper_argv("tap", *self._mode, *which, "-o", "ndjson", *self._arguments)
        command = Command(argv, env=TAPPER_ENVIRON, **self._rights)
        name = "reference-verify" if "--verify" in self._arguments else "reference"
        self.running = TapperProcess(adapter(name), self._node, targets, directory, command=command, alone=False)


def _target(pod: Addressed | str) -> Target:
    if isinstance(pod, str):
        return Target(pod, (pod,), pod)
    return target(pod) if isinstance(pod, Pod) else Target(pod.name, pod.ips, f"uid-{pod.name}")


def _is_probe(record: Record) -> bool:
    """Whether the kubelet asked: its user agent says so (`kube-probe/1.34`), also where pilot-agent passes it on."""
    fields = (record["request"] or {}).get("headers", [])
    return any(name.lower() == "user-agent" and value.startswith("kube-probe/") for name, value in fields)

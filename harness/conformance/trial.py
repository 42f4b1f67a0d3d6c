"""`Trial`: the tools of a case: its own node, pods with sidecars, and the tapper on trial."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from harness.adapters.contract import Adapter
from harness.adapters.process import TapperProcess
from harness.adapters.targets import Target, target
from harness.conformance import report_file, truth
from harness.conformance.audit.written import Written
from harness.conformance.model import Case, Result
from harness.conformance.oracle import targets as target_times
from harness.conformance.oracle.compare import same_address
from harness.conformance.oracle.judge import Question, judge
from harness.conformance.oracle.model import Difference, PodTruth
from harness.conformance.tap import TrialTap
from harness.conformance.watched import Watched
from harness.errors import Unsupported
from harness.mesh import delivery, fake_envoy
from harness.mesh.fake_envoy import FakeEnvoy, Variant
from harness.mesh.mesh import Mesh
from harness.mesh.own_tls.ends import TlsProgram
from harness.sandbox import uprobes
from harness.sandbox.links import GATEWAY4
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod
from harness.sandbox.process import Command, Environ
from harness.sandbox.recorder import PacketRecorder, on_eth0, on_lo

NODE = "node"
"""The name under which the node's own `lo` is recorded."""
TOLERANCE_S = 1.0
"""The tolerance between the time of a record and its packets', in seconds; scales with --patience."""


class Trial:
    """One case in the sandbox, with a node that goes when it is left. `directory` gets the evidence."""

    def __init__(self, adapter: Adapter, directory: Path, patience: float = 1.0) -> None:
        self.adapter = adapter
        self.directory = directory
        self.patience = patience
        self.node = Node()
        self.taps: list[Watched[Any]] = []
        self.undetermined: set[str] = set()
        """Client ends (`127.0.0.6:40001`) of connections whose report is not judged."""
        self.may_lose = False
        """Set by a case that sends more than a tapper has to keep up with."""
        self._recordings: dict[str, PacketRecorder] = {}
        """Of the `lo` of pods and of the node."""
        self._outside: dict[str, PacketRecorder] = {}
        """Of the pods' `eth0`."""
        self._unrecorded: set[str] = set()
        self._some_unrecorded = False
        self._envoys: list[tuple[str, FakeEnvoy]] = []
        self._foreign_envoys: set[str] = set()
        self._programs: list[TlsProgram] = []

    @cached_property
    def mesh(self) -> Mesh:
        """Pods with applications and real Envoys."""
        return Mesh(self.node)

    def pod(self, name: str, *, envoy: Variant | None = Variant.COPY, record: bool = True) -> Pod:
        """A pod with Istio's rules and a fake Envoy of its own address, or without an Envoy.

        Its `lo` is recorded, for the oracle and the evidence; `record=False` if that cannot be done, or would be too
        much.
        """
        pod = self.node.pod(name)
        delivery.outfit(pod)
        if envoy is not None:
            self._envoys.append((name, fake_envoy.start(pod, envoy)))
        if record:
            self.record(pod)
        else:
            self._unrecorded.add(name)
        return pod

    def envoy(
        self,
        where: Pod,
        variant: Variant = Variant.COPY,
        *,
        instance_ip: str | None = None,
        env: Environ | None = None,
        prefix: Sequence[str] = (),
    ) -> FakeEnvoy:
        """Start a further process of `harness.mesh.fake_envoy` in a pod."""
        started = fake_envoy.start(where, variant, instance_ip=instance_ip, env=env, prefix=prefix)
        self._envoys.append((where.name, started))
        own = {str(where.ipv4), str(where.ipv6)}
        if env is not None or (instance_ip is not None and same_address(instance_ip) not in own):
            self._foreign_envoys.add(where.name)
        return started

    def tls_program(self, pod: Pod, *, late: bool = False, own_library: bool = False) -> TlsProgram:
        """Start a process that has TLS connections; the options are those of `TlsProgram`.

        Raises `Unsupported` if the kernel lets nobody look into the libraries of processes.
        """
        if (why_not := uprobes.refusal()) is not None:
            raise Unsupported(f"what applications encrypt themselves cannot be read here: {why_not}")
        started = TlsProgram(pod, late=late, own_library=own_library)
        self._programs.append(started)
        return started

    def record(self, pod: Pod) -> None:
        """Record a pod's `lo`, for the oracle and the evidence, and its `eth0`, for the oracle, until it is deleted."""
        if pod.name not in self._recordings:
            self._recordings[pod.name] = on_lo(pod, pod.name)
            self._outside[pod.name] = on_eth0(pod, pod.name)
            pod.before_deletion += [self._recordings[pod.name].stop, self._outside[pod.name].stop]

    def tap(
        self,
        *pods: Pod,
        look: Sequence[Pod] | None = None,
        targets: Sequence[Target] | None = None,
        procfs: str = "/proc",
        command: Command | None = None,
        capabilities: frozenset[str] | None = None,
        watch_files: bool = False,
        read_tls: bool = False,
    ) -> TrialTap:
        """Start the tapper with these pods as its targets, and prove by canaries that it captures in them.

        `look` are the pods to prove it for (all targets by default; an empty sequence for a case that does so itself);
        `targets` replaces the pods as targets. `command` replaces the adapter's; `capabilities` are the only ones that
        it gets, all by default. `watch_files` makes every file that it writes known, wherever it lies; raises
        `Unsupported` if the kernel does not allow that. `read_tls` asks it to read what applications encrypt
        themselves.
        """
        told = [self.target(pod) for pod in pods] if targets is None else targets
        directory = self._fresh_directory()
        written = Written(self.node, directory) if watch_files else None
        under_test = self.start(
            told,
            directory,
            procfs=procfs,
            command=command,
            capabilities=capabilities,
            overlay=None if written is None else written.overlay,
            read_tls=read_tls,
        )
        tap = TrialTap(under_test, self.patience, written)
        self.taps.append(tap)
        tap.look(*(pods if look is None else look))
        return tap

    def start(self, targets: Sequence[Target], directory: Path | None = None, **how: Any) -> TapperProcess:
        """Start the tapper with these targets; `how` as for `TapperProcess`. The caller puts a tap into `taps`."""
        self._record_all(targets)
        return TapperProcess(self.adapter, self.node, targets, directory or self._fresh_directory(), **how)

    def target(self, pod: Pod, *, ips: Sequence[str] | None = None) -> Target:
        """The target for a pod, with other addresses if they are given."""
        return target(pod, ips=ips, pid=self.adapter.delegates_discovery)

    # -- how `harness.conformance.run` uses it -----------------------------------------------------------------------

    def play(self, case: Case) -> None:
        case.function(self)

    def killed(self) -> list[str]:
        """The pods that the tapper killed, in words: nobody else is in the node."""
        return [truth.in_words(pod) for pod in self.node.pods.values() if not (pod.alive or pod.deleted)]

    def impaired(self) -> str | None:
        if not self.node.alive:
            return "the node of the case has ended: something outside of it has killed its keeper"
        return report_file.why_full(self.directory)

    def stop(self) -> None:
        for tap in self.taps:
            tap.stop()

    def differences(self, tap: Watched[Any]) -> list[Difference]:
        """The differences between the report of a tapper that has ended and every `lo` that was recorded."""
        told = tap.running.target_lists
        addresses = {name: self._addresses(name, told) for name in self._recordings}
        breaks = [(name, time_ns) for name, envoy in self._envoys for time_ns in envoy.changes()]
        claimed = self._foreign_envoys
        truths = [
            PodTruth(
                name,
                addresses[name],
                each.frames,
                self._netns(name),
                self._outside[name].frames if name in self._outside else (),
                lost=each.dropped > 0 or (name in self._outside and self._outside[name].dropped > 0),
                foreign_envoy=name in claimed,
            )
            for name, each in self._recordings.items()
        ]
        question = Question(
            truths,
            target_times.spans(addresses, told, breaks),
            self.adapter.claims,
            tap.reported(),
            tap.running.others(),
            len(told),
            packets=tap.packets() if self.adapter.format != "ndjson" else None,
            tolerance_s=TOLERANCE_S * self.patience,
            undetermined=frozenset(self.undetermined),
            whole=not self._some_unrecorded and self._recordings.keys() >= self.node.pods.keys(),
            may_lose=self.may_lose,
        )
        return judge(question)

    def save(self, _result: Result | None = None) -> None:
        """Write the evidence."""
        for tap in self.taps:
            tap.save()
        for recording in self._recordings.values():
            recording.save(self.directory / f"truth-{recording.name}-lo.pcap")
        for name, text in self.node.logs().items():
            if text.strip():
                (self.directory / f"{name}.log").write_text(text)

    def close(self) -> None:
        """End the taps, the recordings and the node."""
        with ExitStack() as rest:  # the node is closed also if one of the others fails
            rest.callback(self.node.close)
            for recording in (*self._recordings.values(), *self._outside.values()):
                rest.callback(recording.stop)
            for tap in self.taps:
                rest.callback(tap.stop)
            for program in self._programs:
                rest.callback(program.close)

    # -- inner -----------------------------------------------------------------------------------------------------

    def _fresh_directory(self) -> Path:
        directory = self.directory / f"tap-{len(self.taps) + 1}"
        directory.mkdir(parents=True)
        return directory

    def _record_all(self, targets: Sequence[Target]) -> None:
        """Record every pod, and the node if a target has its address."""
        for pod in self.node.pods.values():
            if pod.name in self._recordings or pod.name in self._unrecorded or pod.deleted:
                continue
            self.record(pod)
            self._some_unrecorded = self._some_unrecorded or bool(self.taps)  # an earlier tapper may have seen more
        if NODE not in self._recordings and any(str(GATEWAY4) in target.ips for target in targets):
            self._recordings[NODE] = on_lo(self.node, NODE)

    def _addresses(self, name: str, told: Sequence[tuple[int, Sequence[Target]]]) -> frozenset[str]:
        """A pod's own addresses, and those in the targets that name it."""
        if name == NODE:
            return frozenset({str(GATEWAY4)})
        pod = self.node.pods[name]
        own = {str(pod.ipv4), str(pod.ipv6)}
        named = [target for _, targets in told for target in targets if target_times.names(target, frozenset(own))]
        return frozenset(own | {same_address(ip) for target in named for ip in target.ips})

    def _netns(self, name: str) -> int | None:
        return None if name == NODE else self.node.pods[name].netns_inode

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

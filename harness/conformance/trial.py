"""What a case works with: a node of its own, pods with sidecars, and the tapper on trial."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Self

from harness.adapters.contract import Adapter
from harness.adapters.running import UnderTest
from harness.adapters.targets import Target, target
from harness.conformance.audit.written import Written
from harness.conformance.recording import Recording
from harness.conformance.tap import Tap
from harness.mesh import delivery, fake_envoy
from harness.mesh.fake_envoy import FakeEnvoy, Variant
from harness.mesh.mesh import Mesh
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod
from harness.sandbox.process import Command, Environ


class Trial:
    """One case's world, gone when it is left. `directory` is its evidence folder."""

    def __init__(self, adapter: Adapter, directory: Path, patience: float = 1.0) -> None:
        self.adapter = adapter
        self.directory = directory
        self.patience = patience
        self.node = Node()
        self.taps: list[Tap] = []
        self._recordings: list[Recording] = []

    @cached_property
    def mesh(self) -> Mesh:
        """Pods with applications and real Envoys."""
        return Mesh(self.node)

    def pod(self, name: str, *, envoy: Variant | None = Variant.COPY, record: bool = True) -> Pod:
        """A pod with Istio's rules and a fake Envoy of its own address, or without an Envoy.

        What happens on its `lo` is recorded for the evidence; `record=False` where a recording would pin a namespace
        that the case wants to see released.
        """
        pod = self.node.pod(name)
        delivery.outfit(pod)
        if envoy is not None:
            fake_envoy.start(pod, envoy)
        if record:
            self.record(pod)
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
        """A further process in a pod, as `harness.mesh.fake_envoy` makes them."""
        return fake_envoy.start(where, variant, instance_ip=instance_ip, env=env, prefix=prefix)

    def record(self, pod: Pod) -> None:
        """Keep what happens on a pod's `lo`, for the evidence."""
        self._recordings.append(Recording(pod))

    def tap(
        self,
        *pods: Pod,
        look: Sequence[Pod] | None = None,
        targets: Sequence[Target] | None = None,
        procfs: str = "/proc",
        command: Command | None = None,
        capabilities: frozenset[str] | None = None,
        watch_files: bool = False,
    ) -> Tap:
        """Start the tapper with these pods as its targets, and prove by canaries that it looks into them.

        `look` are the pods to prove it for (all the targets, if not said; none, for a case that does so itself);
        `targets` replaces what it is told. `command` replaces what the adapter says, but for the environment;
        `capabilities` are the only ones that it gets, all if not said. `watch_files`: every file that it writes is
        known afterwards, wherever it lies; raises `Unsupported` where the kernel does not allow that.
        """
        directory = self.directory / f"tap-{len(self.taps) + 1}"
        directory.mkdir(parents=True)
        told = [self.target(pod) for pod in pods] if targets is None else targets
        written = Written(self.node, directory) if watch_files else None
        under_test = UnderTest(
            self.adapter,
            self.node,
            told,
            directory,
            procfs=procfs,
            command=command,
            capabilities=capabilities,
            overlay=None if written is None else written.overlay,
        )
        tap = Tap(under_test, directory, self.patience, written)
        self.taps.append(tap)
        tap.look(*(pods if look is None else look))
        return tap

    def target(self, pod: Pod, *, ips: Sequence[str] | None = None) -> Target:
        """A pod as the tapper is told of it, with its pid where the adapter leaves discovery to the kit."""
        return target(pod, ips=ips, pid=self.adapter.delegates_discovery)

    @property
    def checks(self) -> int:
        """How many expectations were looked at."""
        return sum(tap.checks for tap in self.taps)

    def notes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(note for tap in self.taps for note in tap.notes()))

    def save(self) -> None:
        """Write the evidence."""
        for tap in self.taps:
            tap.save()
        for recording in self._recordings:
            recording.save(self.directory / f"truth-{recording.name}-lo.pcap")
        for name, text in self.node.logs().items():
            if text.strip():
                (self.directory / f"{name}.log").write_text(text)

    def close(self) -> None:
        """End whatever still runs, and the node with it."""
        with ExitStack() as rest:  # the node goes, whatever happens to the others
            rest.callback(self.node.close)
            for recording in self._recordings:
                rest.callback(recording.close)
            for tap in self.taps:
                rest.callback(tap.stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

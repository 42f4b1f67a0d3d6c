"""The targets of a tapper under test, and the file in which it reads them (contract, version 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.adapters.contract import targets_document
from harness.sandbox.pod import Pod


@dataclass(frozen=True, slots=True)
class Target:
    """A target, as the tapper is told of it."""

    name: str
    ips: tuple[str, ...]
    uid: str
    namespace: str = "default"
    pid: int | None = None
    """A process in its network namespace, for adapters that leave discovery to the kit."""

    def document(self) -> dict[str, Any]:
        pod: dict[str, Any] = {"uid": self.uid, "namespace": self.namespace, "name": self.name, "ips": list(self.ips)}
        return pod if self.pid is None else pod | {"pid": self.pid}


def target(pod: Pod, name: str | None = None, *, ips: Sequence[str] | None = None, pid: bool = False) -> Target:
    """A pod of a node as a target, by all its addresses unless others are given."""
    addresses = pod.ips if ips is None else tuple(ips)
    return Target(name or pod.name, addresses, f"uid-{pod.name}", pid=pod.pause_pid if pid else None)


class TargetsFileWriter:
    """The targets file, which is replaced by rename, so that nobody reads half of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.generation = 0
        """The number of the newest list."""

    def write(self, targets: Sequence[Target]) -> None:
        """Replace the list."""
        self.generation += 1
        self.path.parent.mkdir(parents=True, exist_ok=True)  # a tapper may have deleted the folder
        fresh = self.path.with_suffix(".new")
        fresh.write_text(targets_document(self.generation, [target.document() for target in targets]))
        fresh.rename(self.path)

"""`Running`: a tapper that runs, whoever started it and how.

harness.adapters.process.TapperProcess             one process on a node of the sandbox, by its adapter
harness.worlds.cluster.adapter_daemonset           a process on every node of a cluster, by its adapter
harness.worlds.cluster.reference_daemonset         the same, as fixtures/istio deploys the reference
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.adapters.contract import Adapter
from harness.adapters.observed import Output, ReportedExchange, in_words
from harness.adapters.targets import Target
from harness.errors import HarnessError


class TapperFault(HarnessError):
    """The tapper, or a program that its adapter names, does not work: `expected` and `seen` say how."""

    def __init__(self, expected: str, seen: str) -> None:
        super().__init__(f"expected {expected}; seen: {seen}")
        self.expected = expected
        self.seen = seen


@dataclass(frozen=True, slots=True)
class Ending:
    """How a tapper ended after it was asked to."""

    code: int = 0
    """Exit code, or minus the number of the signal that killed it; 0 where nobody can know it."""
    seconds: float = 0.0
    """From the stop signal to the end of its process."""
    killed: bool = False
    """Whether the tapper had to be killed after its grace period."""
    strays: Mapping[int, str] = field(default_factory=dict)
    """The processes that it left running: pid (in the node) -> command."""


class Running(ABC):
    """A tapper that runs as one process, or as several: one on every node of a cluster."""

    def __init__(self, adapter: Adapter, targets: Sequence[Target]) -> None:
        self.adapter = adapter
        self.target_lists: list[tuple[int, tuple[Target, ...]]] = [(time.time_ns(), tuple(targets))]
        """Every list of targets that it was given, and when (nanoseconds since the epoch)."""

    # -- how it is ---------------------------------------------------------------------------------------------------

    @property
    def generation(self) -> int:
        """The number of the newest list of targets, counted from 1."""
        return len(self.target_lists)

    @property
    @abstractmethod
    def running(self) -> bool:
        """Whether more output can come."""

    @property
    @abstractmethod
    def returncode(self) -> int | None:
        """The exit code of the process that ended last; None if none has ended."""

    @abstractmethod
    def ended(self) -> str | None:
        """How the tapper ended although nobody had asked it to, in words; None while the tapper runs."""

    # -- output ------------------------------------------------------------------------------------------------------

    @abstractmethod
    def outputs(self) -> Sequence[tuple[str, Output]]:
        """The node's name and the output of every process, in order of their start; up to date."""

    @abstractmethod
    def read_log(self) -> str:
        """Everything that it wrote for people."""

    def last_words(self) -> str:
        """The last line that it wrote for people; empty if it wrote nothing."""
        lines = self.read_log().strip().splitlines()
        return in_words(lines[-1]) if lines else ""

    def reported(self) -> list[ReportedExchange]:
        """Every exchange that it has reported so far."""
        return [exchange for _, output in self.outputs() for exchange in output.seen()]

    def records(self, kind: str) -> list[Mapping[str, Any]]:
        """Its records of one type so far; a capture of packets has none."""
        return [record for _, output in self.outputs() for record in output.records(kind)]

    def others(self) -> list[Mapping[str, Any]]:
        """Its records of every type but `http`, in order; a capture of packets has none."""
        return [record for _, output in self.outputs() for record in output.others()]

    def mentioned(self) -> set[str]:
        """The kit's markers that are anywhere in its output so far."""
        return set().union(*(output.mentioned() for _, output in self.outputs()))

    def problems(self) -> list[str]:
        """The places where the output breaks the format that the adapter promises, in sentences."""
        return [problem for _, output in self.outputs() for problem in output.problems]

    def everything(self) -> Iterable[bytes]:
        """All that it wrote, with whatever is encoded in it decoded; the words for people included."""
        for _, output in self.outputs():
            yield from output.everything()
        yield self.read_log().encode()

    def declared_ready(self) -> bool:
        """Whether the tapper has said by now, in the way of its adapter, that it captures."""
        return False

    def wait_for_news(self, seconds: float) -> None:
        """Return when there may be new output, or after so many seconds."""
        time.sleep(seconds)

    def why_silent(self) -> list[str]:
        """Circumstances that explain missing output, in words, for the author of an adapter."""
        reasons = [f"its output has {problem}" for problem in self.problems()[:1]]
        if last_line := self.last_words():
            reasons.append(f"it last said: {last_line}")
        return reasons

    # -- commands ----------------------------------------------------------------------------------------------------

    def retarget(self, targets: Sequence[Target]) -> None:
        """Give it these targets and no others. It may take a moment to act."""
        self.target_lists.append((time.time_ns(), tuple(targets)))
        self._update(targets)

    @abstractmethod
    def _update(self, targets: Sequence[Target]) -> None: ...

    @abstractmethod
    def stop(self, patience: float = 1.0) -> Ending:
        """Ask it to end, and read the rest of its output. `patience` scales the time that it may take."""

    @abstractmethod
    def save(self) -> None:
        """Write the evidence of the run, unless somebody else does."""

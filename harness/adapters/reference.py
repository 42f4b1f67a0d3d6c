"""Running the reference tapper in a node and reading its NDJSON."""

from __future__ import annotations

import functools
import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set
from pathlib import Path
from typing import Any, Self

from harness.errors import HarnessError, WaitTimeout
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod
from harness.sandbox.process import MINIMAL_ENVIRON, Command
from harness.waiting import DEFAULT_TIMEOUT, wait_until

Record = dict[str, Any]

TAPPER_ENVIRON = MINIMAL_ENVIRON | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
"""An environment in which `tapper_argv` finds the tapper beside this harness."""


def tapper_argv(*arguments: str) -> list[str]:
    """The reference tapper's command line, for the interpreter that runs this."""
    return [sys.executable, "-m", "tapper", *arguments]


class RunningTapper:
    """`tapper tap -o ndjson` on a node. Use it as a context manager, or call `stop`.

    `targets` are the addresses to tap. `arguments` are further command line options; `istio=True` adds `--istio`.
    `uid`, `capabilities` and `read_only` are as for `Command`.
    """

    def __init__(
        self,
        node: Node,
        targets: Iterable[str | Pod],
        *arguments: str,
        istio: bool = True,
        uid: int | None = None,
        capabilities: Set[str] | None = None,
        read_only: bool = False,
    ) -> None:
        addresses = ",".join(target.ip if isinstance(target, Pod) else target for target in targets)
        mode = ["--istio"] if istio else []
        argv = tapper_argv("tap", *mode, "--filter-authorities", addresses, "-o", "ndjson", *arguments)
        self.records: list[Record] = []
        """Everything it has said so far, in order."""
        self._garbage: list[str] = []
        command = Command(argv, env=TAPPER_ENVIRON, uid=uid, capabilities=capabilities, read_only=read_only)
        self.process = node.spawn(command, name="tapper", stdout=subprocess.PIPE)
        self._reader = threading.Thread(target=self._read, name="tapper-output", daemon=True)
        self._reader.start()

    # -- what it said ----------------------------------------------------------------------------------------------

    @property
    def exchanges(self) -> list[Record]:
        """The HTTP records."""
        return self.of_type("http")

    def of_type(self, kind: str) -> list[Record]:
        return [record for record in list(self.records) if record["type"] == kind]

    def seen(self, pod: Pod | None = None, direction: str | None = None) -> Counter[str]:
        """How often each target (`/orders/nonce-…`) was reported, optionally of one pod and one direction."""
        return Counter(
            record["target"]
            for record in self.exchanges
            if (pod is None or record["pod_ip"] in (str(pod.ipv4), str(pod.ipv6)))
            and (direction is None or record["direction"] == direction)
        )

    # -- waiting ---------------------------------------------------------------------------------------------------

    def wait_for(self, probe: Callable[[], object], what: str, timeout: float = DEFAULT_TIMEOUT) -> None:
        """Wait until `probe` is true. Raises `WaitTimeout` with the tapper's log, at once if the tapper has ended."""

        def check() -> bool:
            if probe():
                return True
            if not self.process.running:
                raise WaitTimeout(f"the tapper ended with {self.process.returncode} before {what}\n{self.read_log()}")
            return False

        wait_until(check, f"the tapper to report {what}", timeout, self.read_log)

    def wait_capturing(self, *pods: Pod, timeout: float = DEFAULT_TIMEOUT) -> None:
        """Wait until it says that it captures on the node and in the network namespaces of these pods."""
        self.wait_for(lambda: "node" in self.open_sources(), "its capture on the node", timeout)
        for pod in pods:
            probe = functools.partial(self.captures_in, pod)
            self.wait_for(probe, f"its capture in {pod.name}", timeout)

    def wait_targets(self, targets: Sequence[str], timeout: float = DEFAULT_TIMEOUT, **where: Any) -> None:
        """Wait until every one of the request targets was reported; `where` as for `seen`."""
        wanted = set(targets)
        self.wait_for(lambda: wanted <= set(self.seen(**where)), f"{len(wanted)} requests", timeout)

    def stop(self, timeout: float = DEFAULT_TIMEOUT, signum: int = signal.SIGTERM) -> int:
        """Ask it to end, read the rest of its output, return its exit code. Raises on output that is not NDJSON."""
        code = self.process.stop(timeout, signum)
        self._reader.join(timeout)
        if self._garbage:
            raise HarnessError(f"the tapper wrote lines that are not records: {self._garbage[:3]}")
        return code

    def read_log(self) -> str:
        return self.process.read_log()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def captures_in(self, pod: Pod) -> bool:
        """Whether it says that it captures in the pod's network namespace now."""
        return pod.netns_inode in self.open_sources()

    def open_sources(self) -> set[int | str]:
        """The network namespaces of pods it captures in, and "node" for the node's own interfaces."""
        sources: set[int | str] = set()
        for record in self.of_type("source"):
            key = "node" if record["kind"] == "node" else record["netns"]
            if record["state"] == "open":
                sources.add(key)
            else:
                sources.discard(key)
        return sources

    def _read(self) -> None:
        stream = self.process.stdout
        assert stream is not None
        for line in stream:
            try:
                record = json.loads(line)
                record["type"]
            except (ValueError, TypeError, KeyError):
                self._garbage.append(line.decode(errors="replace"))
            else:
                self.records.append(record)

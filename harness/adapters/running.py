"""A tapper under test, running in a node by what its adapter says.

Nothing that it does is believed or feared: its output is drained as it comes and bounded, so is its memory; whatever it
leaves is found, and ended with the node.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from harness.adapters import files, limits, programs
from harness.adapters.contract import Adapter, Update, environment
from harness.adapters.family import Family
from harness.adapters.observed import Output, in_words
from harness.adapters.packets import Capture
from harness.adapters.pipes import Pipes
from harness.adapters.records import Records
from harness.adapters.stderr import StandardError
from harness.adapters.targets import Target, TargetsFileWriter
from harness.errors import HarnessError, InternalError, WaitTimeout
from harness.sandbox.node import Node
from harness.sandbox.process import MINIMAL_ENVIRON, Command, Overlay
from harness.waiting import wait_until

_SAMPLE_INTERVAL_S = 0.2
_ROUNDS_OF_KILLING = 10
_FAREWELL_S = 5.0
_READY_FD = 3
_STRAYS_GRACE_S = 1.0


class TapperFault(HarnessError):
    """The tapper, or what its adapter names, does not work: `expected` and `seen` say how."""

    def __init__(self, expected: str, seen: str) -> None:
        super().__init__(f"expected {expected}; seen: {seen}")
        self.expected = expected
        self.seen = seen


@dataclass(frozen=True, slots=True)
class Ending:
    """How a tapper ended."""

    code: int
    """Exit code, or minus the number of the signal that killed it."""
    seconds: float
    """From the stop signal to the end of its process."""
    killed: bool
    """Whether it had to be killed after its grace."""
    strays: dict[int, str]
    """What it left running: pid (in the node) -> command."""


class UnderTest:
    """Started on construction; `stop` it. `directory` gets its output, its log and its targets file."""

    def __init__(
        self,
        adapter: Adapter,
        node: Node,
        targets: Sequence[Target],
        directory: Path,
        *,
        procfs: str = "/proc",
        command: Command | None = None,
        capabilities: frozenset[str] | None = None,
        overlay: Overlay | None = None,
    ) -> None:
        self.adapter = adapter
        self._node = node
        self._directory = directory
        self._targets = TargetsFileWriter(directory / "targets.json")
        self._state = directory / "state"
        self._state.mkdir(parents=True)
        self._out = directory / "output"
        self.excess = ""
        """Why the kit has killed it, if it has."""
        self.most_memory = 0
        """The largest resident memory of it and its children that was seen, in bytes."""
        if adapter.to == "directory":
            self._out.mkdir()
        self._targets.write(targets)
        self.told: list[tuple[int, tuple[Target, ...]]] = [(time.time_ns(), tuple(targets))]
        """Every list of targets that it was given, and when (nanoseconds since 1970)."""
        # programs that write temporary files shall not write them into the machine's own directory
        self.environ = MINIMAL_ENVIRON | {"TMPDIR": str(self._state)} | dict(adapter.env) | self._told(procfs, targets)
        self.output = self._open_output()
        ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
        try:
            self._process = node.spawn(
                replace(command or self._command(capabilities), overlay=overlay),
                name="tapper",
                stdout=subprocess.PIPE,
                fds=[ready_write],
            )
        except OSError as error:
            os.close(ready_read)
            raise TapperFault("a tapper that can be started", f"{adapter.argv[0]}: {error.strerror or error}") from None
        except BaseException:
            os.close(ready_read)
            raise
        finally:
            os.close(ready_write)
        assert self._process.log_path is not None
        assert self._process.stdout is not None
        self.stderr = StandardError(self._process.log_path)
        self.family = Family(self._process)
        self._declared = False
        self._frozen = False
        self._stopping = threading.Event()
        self._taken = 0
        self._kept = (directory / "stdout").open("wb")
        self._pipes = Pipes(self._process.stdout.fileno(), ready_read, self._take)
        self._watcher = threading.Thread(target=self._watch, name="tapper-memory", daemon=True)
        self._watcher.start()

    # -- what it is, and says --------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        return self._process.running

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    @property
    def generation(self) -> int:
        """The number of the newest list of targets."""
        return self._targets.generation

    @property
    def host_pid(self) -> int:
        return self._process.host_pid

    def declared_ready(self) -> bool:
        """Whether it has said by now, in the way of its adapter, that it captures."""
        pattern = self.adapter.ready_line
        if pattern is not None:
            self._declared = self._declared or self.stderr.has_new(pattern, more_to_come=self.running)
            return self._declared
        return self.adapter.ready_by_fd and self._pipes.said_ready

    @property
    def closed_output(self) -> bool:
        """Whether its standard output has ended: no more can come that way."""
        return self._pipes.closed

    def wait_for_news(self, seconds: float) -> None:
        """Return when it has written something to standard output since the last call, or said that it is ready, or
        after so long."""
        self._pipes.wait_for_news(seconds)

    def strays(self) -> dict[int, str]:
        """What it has left to the node's PID 1 by now: pid (in the node) -> command."""
        return self._node.strays()

    # -- what is done to it ----------------------------------------------------------------------------------------

    def retarget(self, targets: Sequence[Target]) -> None:
        """Rewrite the targets file, and tell the tapper in its adapter's way."""
        self.told.append((time.time_ns(), tuple(targets)))
        self._targets.write(targets)
        match self.adapter.update:
            case Update.SIGHUP:
                self._process.send_signal(signal.SIGHUP)
            case Update.EXEC:
                hook = self.adapter.update_argv
                try:
                    self._node.run(Command(hook, env=self.environ, cwd=str(self.adapter.folder)))
                except (OSError, subprocess.CalledProcessError, WaitTimeout) as error:
                    raise TapperFault(f"the hook {' '.join(hook)} to end with 0", in_words(str(error))) from None
            case Update.WATCH:
                pass
            case Update.NONE:
                raise InternalError(f"{self.adapter.implementation.name} cannot be given other targets")

    def freeze(self) -> None:
        """Stop all of its processes (SIGSTOP): what it captures waits in the kernel. `stop` lets them go on."""
        self.family.send_signal(signal.SIGSTOP)
        self._frozen = True

    @contextmanager
    def unread(self) -> Iterator[None]:
        """Take nothing of its standard output meanwhile: what it writes fills the pipe (64 KiB, pipe(7)), and waits."""
        self._pipes.hold()
        try:
            yield
        finally:
            self._pipes.go_on()

    def stop(self, patience: float = 1.0) -> Ending:
        """Ask it to end, insist after its grace, read the rest of its output, and look for what it left."""
        started = time.monotonic()
        killed = False
        self._process.send_signal(self.adapter.stop_signal)
        if self._frozen:
            self.family.send_signal(signal.SIGCONT)
        try:
            code = self._process.wait(self.adapter.stop_grace_s * patience)
        except WaitTimeout:
            killed = True
            self.family.kill()
            code = self._process.wait()
        seconds = time.monotonic() - started
        strays = self._strays(patience)
        self._kill_strays(strays)
        self._stopping.set()
        self._pipes.finish(_FAREWELL_S)  # one that hides holds its standard output open; it falls with the node
        self._watcher.join(_FAREWELL_S)
        self.stderr.close()
        self.output.refresh()
        self.output.finish()
        return Ending(code, seconds, killed, strays)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._stopping.is_set():
            self.stop()

    # -- inner -----------------------------------------------------------------------------------------------------

    def _kill_strays(self, strays: Mapping[int, str]) -> None:
        """The children of one that is killed are the next strays, and some start another before they die."""
        for _ in range(_ROUNDS_OF_KILLING):
            if not strays:
                return
            self._node.kill(strays)
            strays = self._node.strays()

    def _told(self, procfs: str, targets: Sequence[Target]) -> dict[str, str]:
        return environment(
            procfs=procfs,
            targets_file=str(self._targets.path),
            target_ips=[ip for target in targets for ip in target.ips],
            output="-" if self.adapter.to == "stdout" else str(self._out),
            ready_fd=_READY_FD,
            state=str(self._state),
        )

    def _command(self, capabilities: Set[str] | None) -> Command:
        adapter, program = self.adapter, programs.executable(self.adapter)
        return Command(
            adapter.argv,
            env=self.environ,
            executable=program,
            cwd=str(adapter.folder),
            capabilities=capabilities,
        )

    def _open_output(self) -> Output:
        path = None if self.adapter.to == "stdout" else self._out
        return Records(path) if self.adapter.format == "ndjson" else Capture(path)

    def _take(self, data: bytes) -> None:
        """Keep what it wrote to standard output; whoever writes without measure is killed."""
        if not data:
            self._kept.close()
            return
        self._taken += len(data)
        if self._taken > limits.MOST_OUTPUT:
            self._kill_for(f"it wrote more than {limits.MOST_OUTPUT >> 20} MiB")
            return  # what is in the pipe still has to be taken
        self._kept.write(data)
        self._kept.flush()
        if self.adapter.to == "stdout":
            self.output.feed(data)

    def _watch(self) -> None:
        while not self._stopping.wait(_SAMPLE_INTERVAL_S):
            memory = self.family.memory()
            self.most_memory = max(self.most_memory, memory)
            reason = limits.exceeded(
                memory=memory,
                log=self.stderr.size,
                files=files.size(self._out) + files.size(self._state),
                run_files=self._node.memory_files(),
            )
            if reason:
                self._kill_for(reason)

    def _kill_for(self, reason: str) -> None:
        if not self.excess:
            self.excess = reason
            self.family.kill()

    def _strays(self, patience: float) -> dict[int, str]:
        """What it left, after a moment in which its children may end by themselves."""
        left: dict[int, str] = {}

        def none_left() -> bool:
            nonlocal left
            left = self._node.strays()
            return not left

        try:
            wait_until(none_left, "the tapper's children to end", _STRAYS_GRACE_S * patience)
        except WaitTimeout:
            return left
        return {}

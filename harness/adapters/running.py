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
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import psutil

from harness.adapters import files, programs
from harness.adapters.contract import Adapter, Update, environment, targets_document
from harness.adapters.observed import Output, in_words
from harness.adapters.packets import Capture
from harness.adapters.records import Records
from harness.errors import HarnessError, InternalError, WaitTimeout
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod
from harness.sandbox.process import MINIMAL_ENVIRON, Command
from harness.waiting import wait_until

MOST_OUTPUT = 256 << 20
MOST_MEMORY = 1 << 30
MOST_FILES = 512 << 20
_SAMPLE_INTERVAL_S = 0.2
_CHUNK = 1 << 16
_ROUNDS_OF_KILLING = 10
_FAREWELL_S = 5.0
_LAST_WORDS = 4096
_READY_FD = 3
_STRAYS_GRACE_S = 1.0


class TapperFault(HarnessError):
    """The tapper, or what its adapter names, does not work: `expected` and `seen` say how."""

    def __init__(self, expected: str, seen: str) -> None:
        super().__init__(f"expected {expected}; seen: {seen}")
        self.expected = expected
        self.seen = seen


@dataclass(frozen=True, slots=True)
class Target:
    """A pod as the tapper is told of it."""

    name: str
    ips: tuple[str, ...]
    uid: str
    namespace: str = "default"
    pid: int | None = None
    """A process in its network namespace, for adapters that leave discovery to the kit."""

    def document(self) -> dict[str, Any]:
        pod: dict[str, Any] = {"uid": self.uid, "namespace": self.namespace, "name": self.name, "ips": list(self.ips)}
        return pod if self.pid is None else pod | {"pid": self.pid}


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
    ) -> None:
        self.adapter = adapter
        self._node = node
        self._directory = directory
        self._generation = 0
        self._targets_file = directory / "targets.json"
        self._state = directory / "state"
        self._state.mkdir(parents=True)
        self._out = directory / "output"
        self.excess = ""
        """Why the kit has killed it, if it has."""
        self.most_memory = 0
        """The largest resident memory of it and its children that was seen, in bytes."""
        if adapter.to == "directory":
            self._out.mkdir()
        self._write_targets(targets)
        # programs that write temporary files shall not write them into the machine's own directory
        self.environ = MINIMAL_ENVIRON | {"TMPDIR": str(self._state)} | dict(adapter.env) | self._told(procfs, targets)
        self.output = self._open_output()
        ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
        self._ready_read: int | None = ready_read
        try:
            self._process = node.spawn(
                command or self._command(capabilities),
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
        os.set_blocking(ready_read, False)
        assert self._process.log_path is not None
        # kept open: a tapper may delete every file that it finds, and its last words are still to be read
        self._log: BinaryIO | None = self._process.log_path.open("rb")
        self._whole_log = b""
        self._declared = False
        self._log_looked_at = 0
        self.closed_output = False
        """Whether its standard output has ended: no more can come that way."""
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._drain, name="tapper-output", daemon=True),
            threading.Thread(target=self._watch, name="tapper-memory", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

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
        return self._generation

    @property
    def host_pid(self) -> int:
        return self._process.host_pid

    def read_log(self) -> str:
        """Its standard error so far."""
        return self.log_from(0).decode(errors="replace")

    def log_from(self, start: int) -> bytes:
        """Its standard error from a byte on, as far as there is any yet."""
        if self._log is None:
            return self._whole_log[start:]
        return os.pread(self._log.fileno(), MOST_OUTPUT, start)

    def last_words(self) -> str:
        """The last line of its standard error, as far as it is not endless; empty if it said nothing."""
        size = len(self._whole_log) if self._log is None else os.fstat(self._log.fileno()).st_size
        tail = self.log_from(max(0, size - _LAST_WORDS)).decode(errors="replace").strip().splitlines()
        return in_words(tail[-1]) if tail else ""

    def declared_ready(self) -> bool:
        """Whether it has said by now, in the way of its adapter, that it captures."""
        pattern = self.adapter.ready_line
        if pattern is not None:
            if not self._declared:
                fresh = self.log_from(self._log_looked_at)
                whole = fresh[: fresh.rfind(b"\n") + 1] if self.running else fresh  # a line may come in pieces
                self._log_looked_at += len(whole)
                self._declared = any(pattern.search(line) for line in whole.decode(errors="replace").splitlines())
            return self._declared
        if not self.adapter.ready_by_fd or self._ready_read is None:
            return False
        try:
            said = os.read(self._ready_read, 1)
        except BlockingIOError:
            return False
        if said:
            os.close(self._ready_read)
            self._ready_read = None
        return bool(said)

    def strays(self) -> dict[int, str]:
        """What it has left to the node's PID 1 by now: pid (in the node) -> command."""
        return self._node.strays()

    def handles(self) -> tuple[int, int]:
        """Descriptors and threads of it and its children now."""
        fds = threads = 0
        for process in self._family():
            try:
                fds += process.num_fds()
                threads += process.num_threads()
            except psutil.Error:
                continue
        return fds, threads

    def threads_in(self, netns_inode: int) -> int:
        """How many threads of it and its children are in a network namespace now."""
        wanted, found = f"net:[{netns_inode}]", 0
        for process in self._family():
            for link in Path(f"/proc/{process.pid}/task").glob("*/ns/net"):
                try:
                    found += str(link.readlink()) == wanted
                except OSError:
                    continue  # it has ended meanwhile
        return found

    # -- what is done to it ----------------------------------------------------------------------------------------

    def retarget(self, targets: Sequence[Target]) -> None:
        """Rewrite the targets file, and tell the tapper in its adapter's way."""
        self._write_targets(targets)
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

    def send_signal(self, signum: int) -> None:
        self._process.send_signal(signum)

    def send_signal_to_all(self, signum: int) -> None:
        """Send a signal to it and to all its children."""
        for process in self._family():
            try:
                process.send_signal(signum)
            except psutil.Error:
                continue

    def stop(self, patience: float = 1.0) -> Ending:
        """Ask it to end, insist after its grace, read the rest of its output, and look for what it left."""
        started = time.monotonic()
        killed = False
        self._process.send_signal(self.adapter.stop_signal)
        try:
            code = self._process.wait(self.adapter.stop_grace_s * patience)
        except WaitTimeout:
            killed = True
            self._kill_group()
            code = self._process.wait()
        seconds = time.monotonic() - started
        strays = self._strays(patience)
        self._kill_strays(strays)
        self._stopping.set()
        for thread in self._threads:
            thread.join(_FAREWELL_S)  # one that hides holds its standard output open; it falls with the node
        if self._ready_read is not None:
            os.close(self._ready_read)
            self._ready_read = None
        if self._log is not None:
            self._whole_log = self.log_from(0)
            self._log.close()
            self._log = None
        self.output.refresh()
        self.output.finish()
        return Ending(code, seconds, killed, strays)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._stopping.is_set():
            self.stop()

    # -- inner -----------------------------------------------------------------------------------------------------

    def _write_targets(self, targets: Sequence[Target]) -> None:
        """Replace the file by rename, so that nobody reads half of one."""
        self._generation += 1
        self._directory.mkdir(parents=True, exist_ok=True)  # a tapper may have deleted it
        fresh = self._targets_file.with_suffix(".new")
        fresh.write_text(targets_document(self._generation, [target.document() for target in targets]))
        fresh.rename(self._targets_file)

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
            targets_file=str(self._targets_file),
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

    def _drain(self) -> None:
        """Take its standard output to the end, and keep it; whoever writes without measure is killed."""
        stream = self._process.stdout
        assert stream is not None
        taken = 0
        with (self._directory / "stdout").open("wb") as kept:
            while data := os.read(stream.fileno(), _CHUNK):
                taken += len(data)
                if taken > MOST_OUTPUT:
                    self._kill_for(f"it wrote more than {MOST_OUTPUT >> 20} MiB")
                    continue  # what is in the pipe still has to be taken
                kept.write(data)
                kept.flush()
                if self.adapter.to == "stdout":
                    self.output.feed(data)
        self.closed_output = True

    def _watch(self) -> None:
        while not self._stopping.wait(_SAMPLE_INTERVAL_S):
            memory = 0
            for process in self._family():
                try:
                    memory += process.memory_info().rss
                except psutil.Error:
                    continue  # gone meanwhile, or another user's
            self.most_memory = max(self.most_memory, memory)
            if memory > MOST_MEMORY:
                self._kill_for(f"it took more than {MOST_MEMORY >> 20} MiB of memory")
            if self._log is not None and os.fstat(self._log.fileno()).st_size > MOST_OUTPUT:
                self._kill_for(f"it wrote more than {MOST_OUTPUT >> 20} MiB to its standard error")
            if files.size(self._out) + files.size(self._state) > MOST_FILES:
                self._kill_for(f"its files took more than {MOST_FILES >> 20} MiB")
            if self._node.memory_files() > MOST_FILES:
                self._kill_for(f"the files in /run took more than {MOST_FILES >> 20} MiB")

    def _family(self) -> list[psutil.Process]:
        pid = self._process.host_pid
        if pid <= 0:
            return []
        try:
            head = psutil.Process(pid)
            return [head, *head.children(recursive=True)]
        except psutil.Error:
            return []

    def _kill_for(self, reason: str) -> None:
        if not self.excess:
            self.excess = reason
            self._kill_group()

    def _kill_group(self) -> None:
        """It leads a process group, as everything that a node starts does."""
        family = self._family()
        self._process.send_signal(signal.SIGKILL)
        for process in family:
            try:
                process.kill()
            except psutil.Error:
                continue

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


def target(pod: Pod, name: str | None = None, *, ips: Sequence[str] | None = None, pid: bool = False) -> Target:
    """A pod of a node as a target, by all its addresses unless others are given."""
    addresses = (str(pod.ipv4), str(pod.ipv6)) if ips is None else tuple(ips)
    return Target(name or pod.name, addresses, f"uid-{pod.name}", pid=pod.pause_pid if pid else None)

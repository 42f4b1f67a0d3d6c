"""A process inside a node, held by its pidfd."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from harness.errors import WaitTimeout
from harness.sandbox import protocol
from harness.sandbox.syscalls import CAPABILITIES
from harness.waiting import DEFAULT_TIMEOUT

Environ = Mapping[str, str] | Sequence[bytes]
"""Names and values, or the raw entries of environ(7) for a test that needs what a mapping cannot hold."""

MINIMAL_ENVIRON = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


@dataclass(frozen=True, slots=True)
class Overlay:
    """The place of the files that a process writes. Paths are those inside the node."""

    store: str
    """An empty directory in the node's memory. Each file system that is written to gets a `NUMBER/upper` in it."""
    keep: tuple[str, ...] = ()
    """Directories in which it writes to the machine as usual."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to run in a node.

    `executable` is the file; by default argv[0] looked up in PATH. `uid` and `gid` None mean root of the node.
    `binds` maps a path as the process shall see it (`/usr/local/bin/envoy`) to the file that lies there; the process
    gets a mount namespace of its own for that.

    `capabilities` are those that root keeps, named as in Kubernetes (`NET_RAW`), without a way to others
    (no_new_privs); None keeps them all. `read_only` lets it write to no file system. Together they are what a container
    without privileges is.

    `overlay` gives it a view of the file system of its own, in which all that it writes lands elsewhere
    (`harness.sandbox.overlay`).
    """

    argv: Sequence[str | bytes]
    env: Environ = field(default_factory=lambda: MINIMAL_ENVIRON)
    executable: str | None = None
    cwd: str = "/"
    uid: int | None = None
    gid: int | None = None
    binds: Mapping[str, str] = field(default_factory=dict)
    capabilities: Set[str] | None = None
    read_only: bool = False
    overlay: Overlay | None = None

    def request(self, pod: int | None) -> protocol.Message:
        return {
            "op": "spawn",
            "pod": pod,
            "argv": [protocol.text(os.fsencode(arg)) for arg in self.argv],
            "env": [protocol.text(entry) for entry in self._entries()],
            "path": protocol.text(os.fsencode(self._path())),
            "cwd": protocol.text(os.fsencode(self.cwd)),
            "uid": self.uid,
            "gid": self.gid,
            "binds": [[protocol.text(os.fsencode(source)), target] for target, source in self.binds.items()],
            "capabilities": self._capability_numbers(),
            "read_only": self.read_only,
            "overlay": None if self.overlay is None else [self.overlay.store, list(self.overlay.keep)],
        }

    def _capability_numbers(self) -> list[int] | None:
        """Raises ValueError for an unknown capability, and for a user who would lose all of them."""
        if self.capabilities is None:
            return None
        if self.uid:
            raise ValueError(f"uid {self.uid} has no capabilities after execve: only root can be limited to some")
        unknown = self.capabilities - CAPABILITIES.keys()
        if unknown:
            raise ValueError(f"{', '.join(sorted(unknown))}: no such capability (without CAP_, as in NET_RAW)")
        return [CAPABILITIES[name] for name in sorted(self.capabilities)]

    def _entries(self) -> list[bytes]:
        if isinstance(self.env, Mapping):
            return [os.fsencode(f"{key}={value}") for key, value in self.env.items()]
        return list(self.env)

    def _path(self) -> str:
        name = self.executable or os.fsdecode(self.argv[0])
        if "/" in name:
            return name
        path = shutil.which(name, path=MINIMAL_ENVIRON["PATH"])
        if path is None:
            raise FileNotFoundError(f"{name}: no such program on this machine's standard path")
        return path


class Process:
    """A running program. `stdout` is a file of the owner's side if it was asked for as a pipe, else None."""

    def __init__(self, pid: int, pidfd: int, exit_pipe: int, name: str, stdout: IO[bytes] | None) -> None:
        self.pid = pid
        """The pid inside the node, as its procfs shows it."""
        self.name = name
        self.stdout = stdout
        self.log_path: Path | None = None
        self._pidfd = pidfd
        self._exit_pipe = exit_pipe
        self._status: int | None = None
        self._closed = False

    @property
    def host_pid(self) -> int:
        """The pid as the owner's procfs shows it; -1 once the process is gone (fdinfo of a pidfd, pidfd_open(2))."""
        text = Path(f"/proc/self/fdinfo/{self._pidfd}").read_text()
        found = re.search(r"^Pid:\s*(-?\d+)$", text, re.MULTILINE)
        return int(found[1]) if found else -1

    def read_log(self) -> str:
        """The log of the process so far."""
        return "" if self.log_path is None else self.log_path.read_text(errors="replace")

    @property
    def returncode(self) -> int | None:
        """The exit code, minus the signal's number for a killed process, None while it runs."""
        if self._status is None and self._readable(0):
            self._read_status()
        return self._status

    @property
    def running(self) -> bool:
        return self.returncode is None

    def send_signal(self, signum: int) -> None:
        """Send a signal; nothing happens if the process is gone already."""
        try:
            signal.pidfd_send_signal(self._pidfd, signum)
        except ProcessLookupError:
            pass

    def wait(self, timeout: float = DEFAULT_TIMEOUT) -> int:
        """Wait for the end and return the exit code. Raises `WaitTimeout`."""
        if self._status is None:
            if not self._readable(timeout):
                raise WaitTimeout(f"waited {timeout:g} s for {self.name} (pid {self.pid}) to end, in vain")
            self._read_status()
        assert self._status is not None
        return self._status

    def finish(self, timeout: float) -> tuple[int, str]:
        """Wait for the end; return the exit code and the log. A process that takes longer is killed, and `WaitTimeout`
        has its log."""
        try:
            code = self.wait(timeout)
        except WaitTimeout as error:
            self.stop(0.0)
            raise WaitTimeout(f"{error}\n--- log ---\n{self.read_log()}") from None
        return code, self.read_log()

    def stop(self, timeout: float = DEFAULT_TIMEOUT, signum: int = signal.SIGTERM) -> int:
        """Send the signal, SIGKILL after `timeout` seconds; return the exit code."""
        self.send_signal(signum)
        try:
            return self.wait(timeout)
        except WaitTimeout:
            self.send_signal(signal.SIGKILL)
            return self.wait()

    def close(self) -> None:
        """Close the descriptors. Does not end the process."""
        if not self._closed:
            self._closed = True
            os.close(self._pidfd)
            os.close(self._exit_pipe)
            if self.stdout is not None:
                self.stdout.close()

    def _readable(self, timeout: float) -> bool:
        if self._closed:
            return False
        poller = select.poll()
        poller.register(self._exit_pipe, select.POLLIN)
        return bool(poller.poll(timeout * 1000))

    def _read_status(self) -> None:
        text = os.read(self._exit_pipe, 16)
        self._status = int(text) if text else -signal.SIGKILL  # no status: the process ended with its node


def orphans(procfs: Path, known: Set[int]) -> dict[int, str]:
    """Processes whose parent is PID 1, other than those `known`: pid -> command. Zombies, which PID 1 has not reaped
    yet, are left out."""
    found = {}
    for entry in os.scandir(procfs):
        if not entry.name.isdigit() or int(entry.name) in known:
            continue
        try:
            stat = (procfs / entry.name / "stat").read_text()
            command = (procfs / entry.name / "cmdline").read_bytes()
        except OSError:
            continue  # gone meanwhile
        state, parent = stat.rpartition(")")[2].split()[:2]  # proc_pid_stat(5): the third and the fourth field
        if parent == "1" and state != "Z":
            found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace").strip() or stat
    return found

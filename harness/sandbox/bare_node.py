"""`BareNode`: a node without pods: its processes, mounts and sockets, owned by the node's PID 1.

The owner itself never changes namespace; it asks PID 1 for processes and for sockets that live inside.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, Self

from harness import leaks
from harness.errors import InternalError, Leak
from harness.sandbox import launch, protocol
from harness.sandbox.init import RUN_DIR
from harness.sandbox.logs import Logs
from harness.sandbox.process import Command, Process, orphans
from harness.waiting import DEFAULT_TIMEOUT, wait_until


class NetworkNamespace(Protocol):
    """A pod, as far as a node has to know it."""

    @property
    def pause_pid(self) -> int:
        """A process in its network namespace, as the node's procfs numbers it."""


class BareNode:
    """Everything of a `Node` but its pods."""

    def __init__(self) -> None:
        self._world = launch.start()
        self.single_id = self._world.single_id
        """True where no process of the node can have a uid other than 0 (an unprivileged user without subuids)."""
        self._lock = threading.Lock()
        self._closed = False
        self._processes: list[Process] = []
        self._logs = Logs(self.run_dir)

    # -- places ----------------------------------------------------------------------------------------------------

    @property
    def root(self) -> Path:
        """The node's file system, as a path for processes outside the node."""
        return Path(f"/proc/{os.getpid()}/fd/{self._world.root_fd}")

    @property
    def procfs(self) -> Path:
        """The node's own procfs: only its processes."""
        return self.root / "proc"

    @property
    def run_dir(self) -> Path:
        """A directory in the node's memory. Its path inside the node is `inside(run_dir)`."""
        return self.root / RUN_DIR.lstrip("/")

    @staticmethod
    def inside(path: Path) -> str:
        """A path below `run_dir`, as processes in the node name it."""
        parts = path.parts
        return "/" + "/".join(parts[parts.index("fd") + 2 :])

    @property
    def host_pid(self) -> int:
        """PID 1 of the node as this machine sees it, for nsenter(1)."""
        keeper = self._world.keeper.pid
        return int(Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()[0])

    # -- processes and sockets --------------------------------------------------------------------------------------

    def spawn(
        self,
        command: Command | Sequence[str],
        *,
        pod: NetworkNamespace | None = None,
        name: str | None = None,
        stdout: int | None = None,
        stdin: int | None = None,
        fds: Sequence[int] = (),
    ) -> Process:
        """Start a program in the node, or in a pod's network namespace.

        `stdout=subprocess.PIPE` makes it readable as `process.stdout`; otherwise both outputs go to the process's log
        (`process.read_log`). `stdin` is a descriptor; by default it reads as empty. `fds` are further descriptors,
        which the program has as 3, 4 and so on.
        """
        if not isinstance(command, Command):
            command = Command(command)
        name = name or os.fsdecode(command.argv[0])
        try:
            log_path, log = self._logs.create(name)
        except FileNotFoundError:  # the node's mounts go with its PID 1
            raise self._gone() from None
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        read_end = write_end = None
        if stdout == subprocess.PIPE:
            read_end, write_end = os.pipe2(os.O_CLOEXEC)
        try:
            streams = [null if stdin is None else stdin, log if write_end is None else write_end, log]
            request = command.request(pod.pause_pid if pod else None)
            process = self._process(request, [*streams, *fds], name, read_end)
        except BaseException:
            if read_end is not None:
                os.close(read_end)
            raise
        finally:
            for fd in (null, log, write_end):
                if fd is not None:
                    os.close(fd)
        process.log_path = log_path
        return process

    def run(
        self,
        command: Command | Sequence[str],
        *,
        pod: NetworkNamespace | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        text: str = "",
    ) -> str:
        """Run a program to its end, with `text` on its standard input, and return its output.

        Raises subprocess.CalledProcessError, with the output, when the exit code is not 0.
        """
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        with open(write_end, "wb") as feed, open(read_end, "rb") as source:  # noqa: PTH123 - descriptors
            feed.write(text.encode())  # short texts only: it fits the pipe
            feed.close()
            process = self.spawn(command, pod=pod, stdin=source.fileno())
        code, output = process.finish(timeout)
        self.forget(process)
        if code != 0:
            argv = command.argv if isinstance(command, Command) else command
            failed = subprocess.CalledProcessError(code, [os.fsdecode(arg) for arg in argv], output)
            failed.add_note(output)
            raise failed
        return output

    def socket(self, family: int, kind: int, proto: int = 0, *, pod: NetworkNamespace | None = None) -> socket.socket:
        """A socket that lives in the node's (or the pod's) network namespace, for use from here."""
        where = pod.pause_pid if pod else None
        _, fds = self._ask({"op": "socket", "pod": where, "family": family, "type": kind, "proto": proto})
        return socket.socket(fileno=fds[0])

    def write_sysctl(self, name: str, value: str) -> None:
        """Set a network sysctl of the node (`net/ipv4/ip_forward`)."""
        if not name.startswith("net/"):
            raise ValueError(f"{name} is the machine's, not the sandbox's: only net/ is private")
        self._ask({"op": "write", "path": f"/proc/sys/{name}", "text": value})

    def choose_next_pid(self, pid: int) -> None:
        """Have the next process of the node get this number, if it is free (proc_sys_kernel(5), ns_last_pid).

        The setting is the node's own: it belongs to its PID namespace. A thread that starts meanwhile takes it.
        """
        self._ask({"op": "write", "path": "/proc/sys/kernel/ns_last_pid", "text": str(pid - 1)})

    def kill_all_in(self, netns_inode: int) -> int:
        """SIGKILL every process in a network namespace; returns how many there were."""
        reply, _ = self._ask({"op": "empty_namespace", "inode": netns_inode})
        return int(reply["killed"])

    def strays(self) -> dict[int, str]:
        """Orphans that PID 1 has inherited, without the processes of `spawn`: pid (in the node) -> command."""
        return orphans(self.procfs, known={process.pid for process in self._processes})

    def kill(self, pids: Iterable[int]) -> None:
        """SIGKILL processes, by their pids in the node; those that are gone meanwhile are no error."""
        self.run(["sh", "-c", 'for pid; do kill -KILL "$pid" 2>/dev/null; done; true', "kill", *map(str, pids)])

    def memory_files(self) -> int:
        """The size of the files in the node's own /run, in bytes of memory."""
        there = os.statvfs(self.run_dir)
        return (there.f_blocks - there.f_bfree) * there.f_frsize

    def forget(self, process: Process) -> None:
        """Close the owner's descriptors of a process that has ended."""
        process.close()
        self._processes.remove(process)

    def logs(self) -> dict[str, str]:
        """The log of every process so far (16 MiB at most), by the log's name."""
        return self._logs.read()

    # -- the end ---------------------------------------------------------------------------------------------------

    def netns_inodes(self) -> set[int]:
        """The network namespaces of its pods that have processes."""
        return set()

    @property
    def alive(self) -> bool:
        """Whether the node runs: its processes end with its keeper, which is outside of it. Not after `close`."""
        return not self._world.keeper.wait(0)

    def close(self, timeout: float = DEFAULT_TIMEOUT) -> None:
        """End everything in the node and wait until the kernel has done so. Raises `Leak` if anything is left."""
        if self._closed:
            return
        inside = leaks.processes_inside(self.netns_inodes())
        self._closed = True
        self._world.control.close()  # PID 1 ends with it
        for process in self._processes:
            process.close()
        try:
            if not self._world.keeper.wait(timeout):
                self._world.keeper.kill()
                self._world.keeper.wait()
                raise Leak(f"the node did not end within {timeout:g} s of being closed; its keeper was killed")
        finally:
            self._world.keeper.close()
            os.close(self._world.root_fd)
            self._world.log.close()
        wait_until(
            lambda: not any(process.lives for process in inside),
            f"the processes in the node's network namespaces to end: {inside}",
            timeout,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- inner -----------------------------------------------------------------------------------------------------

    def _ask(self, request: protocol.Message, fds: Sequence[int] = ()) -> protocol.Frame:
        """Send PID 1 a request with descriptors; returns the answer and its descriptors. Any thread may ask.

        Raises OSError if PID 1 could not do it, and `InternalError` if PID 1 is gone.
        """
        with self._lock:
            if self._closed:
                raise InternalError(f"the node is closed: it cannot {request['op']}")
            try:
                protocol.send(self._world.control, request, fds)
                reply, received = protocol.receive(self._world.control)
            except protocol.PeerGone:
                raise self._gone() from None
        if "error" in reply:
            raise OSError(reply["errno"], reply["error"])
        return reply, received

    def _gone(self) -> InternalError:
        """The exception for a PID 1 that has ended, with its last words."""
        return InternalError(f"the node's PID 1 is gone:\n{self._world.read_log()}")

    def _process(self, request: protocol.Message, fds: Sequence[int], name: str, stdout: int | None) -> Process:
        reply, (pidfd, exit_pipe) = self._ask(request, fds)
        stream = None if stdout is None else open(stdout, "rb")  # noqa: PTH123,SIM115 - owned by the Process
        process = Process(int(reply["pid"]), pidfd, exit_pipe, name, stream)
        self._processes.append(process)
        return process

"""PID 1 of a node, and the keeper that stands outside it.

Two processes, forked by `harness.sandbox.forks`:

    owner (pytest)  ->  fork server  ->  keeper (unshares, forks)  ->  init (PID 1 of the node)  ->  everything else

- The *keeper* waits for one of two things: init's end, or the owner's. When the owner is gone, by whatever signal, the
  keeper leaves, and the kernel kills init (PR_SET_PDEATHSIG), and with PID 1 the whole PID namespace, its mounts, its
  network namespaces, links and rules.
- *init* serves the owner's requests and reaps. It ends as soon as the control socket does. It is small and it never
  waits for anything but `poll`: nothing that a test does inside the node can keep it from ending.

Only the standard library, and of that neither pathlib nor typing, so that it starts in two hundredths of a second.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
from collections.abc import Callable

from harness.sandbox import child, overlay, protocol, syscalls
from harness.sandbox.protocol import Frame, Message

TYPE_CHECKING = False  # typing's own would cost its import
if TYPE_CHECKING:
    from typing import NoReturn

RUN_DIR = "/run/node"
RUN_SIZE = 1 << 30  # bytes of memory that logs and other files may take
_ABOVE = 64  # descriptors that a program is given are fewer


def main(control_fd: int, owner_pidfd: int) -> NoReturn:
    """The keeper: make the namespaces, fork init, watch both sides. Reports a failure over the control socket."""
    control = socket.socket(fileno=control_fd)
    control.set_inheritable(False)  # no program in the node shall hold it, or speak to PID 1
    os.set_inheritable(owner_pidfd, False)
    try:
        _make_namespaces(control)
    except OSError as error:
        protocol.send(control, {"error": str(error), "errno": error.errno})
        os._exit(1)
    pid = os.fork()
    if pid == 0:
        syscalls.set_death_signal(signal.SIGKILL)
        os.close(owner_pidfd)
        _run_init(control)
    control.close()
    syscalls.set_name("node-keeper")
    poller = select.poll()
    poller.register(owner_pidfd, select.POLLIN)
    poller.register(os.pidfd_open(pid), select.POLLIN)
    poller.poll()
    os._exit(0)


def _make_namespaces(control: socket.socket) -> None:
    """Unshare everything; where the user is not root, first a user namespace whose map the owner may have written."""
    if os.geteuid() != 0:
        syscalls.unshare(syscalls.CLONE_NEWUSER)
        protocol.send(control, {"state": "userns", "pid": os.getpid()})
        protocol.receive(control)  # the owner has written the maps
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    syscalls.unshare(
        syscalls.CLONE_NEWNS
        | syscalls.CLONE_NEWPID
        | syscalls.CLONE_NEWNET
        | syscalls.CLONE_NEWIPC
        | syscalls.CLONE_NEWUTS
    )


def _run_init(control: socket.socket) -> NoReturn:
    syscalls.set_name("node-init")
    try:
        _mount_world()
        root = os.open("/", os.O_PATH | os.O_DIRECTORY)
        protocol.send(control, {"state": "ready"}, [root])
        os.close(root)
        Init(control).serve()
    except protocol.PeerGone:
        os._exit(0)
    except OSError as error:
        protocol.send(control, {"error": str(error), "errno": error.errno})
    os._exit(1)


def _mount_world() -> None:
    """Own procfs and sysfs, and an own /run, so that no lock or socket of the machine is touched."""
    syscalls.mount("none", "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    safe = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    syscalls.mount("proc", "/proc", "proc", safe)
    syscalls.mount("sysfs", "/sys", "sysfs", safe)
    syscalls.mount("tmpfs", "/run", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, f"mode=0755,size={RUN_SIZE}")
    os.mkdir(RUN_DIR, mode=0o755)  # noqa: PTH102 - see above: without pathlib
    socket.sethostname("node")


class Init:
    """The request loop: one request, one reply. A pipe of its own reports the exit of each child."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._own_net = os.open("/proc/self/ns/net", os.O_RDONLY)
        self._exit_pipes: dict[int, int] = {}
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        # PID 1 gets only those signals from inside that it has a handler for (pid_namespaces(7)); Python's own handler
        # of SIGINT would let any tapper end the node
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        self._operations: dict[str, Callable[[Message, list[int]], Frame]] = {
            "pause": self._pause,
            "spawn": self._spawn,
            "socket": self._socket,
            "write": self._write,
            "empty_namespace": self._empty_namespace,
        }

    def serve(self) -> NoReturn:
        poller = select.poll()
        poller.register(self._control, select.POLLIN)
        poller.register(self._wake_read, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poller.poll()}
            if self._wake_read in ready:
                self._reap()
            if self._control.fileno() in ready:
                self._answer()

    def _answer(self) -> None:
        request, fds = protocol.receive(self._control)
        reply: Message
        try:
            reply, out = self._operations[request["op"]](request, fds)
        except OSError as error:
            reply, out = {"error": str(error), "errno": error.errno}, []
        finally:
            for fd in fds:
                os.close(fd)
        protocol.send(self._control, reply, out)
        for fd in out:
            os.close(fd)

    def _reap(self) -> None:
        try:
            os.read(self._wake_read, 4096)
        except BlockingIOError:
            pass
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            pipe = self._exit_pipes.pop(pid, None)  # an orphan that init inherited has none
            if pipe is not None:
                try:
                    os.write(pipe, str(os.waitstatus_to_exitcode(status)).encode())
                except BrokenPipeError:
                    pass  # the owner has closed its end
                os.close(pipe)

    # -- operations ------------------------------------------------------------------------------------------------

    def _pause(self, request: Message, _fds: list[int]) -> Frame:
        """Fork the process that holds a pod's network namespace open, as Kubernetes' pause container does."""

        def prepare() -> None:
            syscalls.unshare(syscalls.CLONE_NEWNET)
            for name, value in request["sysctls"].items():
                syscalls.write_file(f"/proc/sys/{name}", value)
            syscalls.set_name("pause")

        def forever() -> NoReturn:
            os.closerange(0, 65536)  # forked, not executed: nothing of init may stay open here
            while True:
                signal.pause()

        return self._fork(prepare, forever)

    def _spawn(self, request: Message, fds: list[int]) -> Frame:
        """Run a program. See `harness.sandbox.process.Command` for the fields."""
        argv = [protocol.raw(arg) for arg in request["argv"]]
        environ = [protocol.raw(entry) for entry in request["env"]]
        path = protocol.raw(request["path"])

        def prepare() -> None:
            os.setsid()
            if request["pod"] is not None:
                child.enter_net(request["pod"])
            if request["overlay"]:
                overlay.enter(*request["overlay"])
            if request["binds"]:
                child.bind_in_private(request["binds"])
            if request["read_only"]:
                child.make_read_only()
            os.chdir(protocol.raw(request["cwd"]))
            # out of the way first: a source may have the number of another's target
            for target, source in enumerate([fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE) for fd in fds]):
                os.dup2(source, target, inheritable=True)
            child.drop_to(request["uid"], request["gid"])
            if request["capabilities"] is not None:
                child.confine(request["capabilities"])

        def run() -> NoReturn:
            syscalls.execve(path, argv, environ)
            raise AssertionError("execve returned")

        return self._fork(prepare, run)

    def _fork(self, prepare: Callable[[], None], run: Callable[[], NoReturn]) -> Frame:
        """Fork; the child calls `prepare`, then `run`. An OSError in either is this request's error.

        Replies with the pid, and as descriptors a pidfd and a pipe that will carry the exit code as text.
        """
        error_read, error_write = os.pipe2(os.O_CLOEXEC)
        exit_read, exit_write = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            child.become(prepare, run, error_write)
        os.close(error_write)
        with open(error_read, "rb") as pipe:  # noqa: PTH123 - a descriptor, not a path
            failure = pipe.read()
        if failure:
            os.waitpid(pid, 0)
            os.close(exit_read)
            os.close(exit_write)
            code, _, text = failure.partition(b" ")
            raise OSError(int(code), text.decode(errors="replace"))
        self._exit_pipes[pid] = exit_write
        return {"pid": pid}, [os.pidfd_open(pid), exit_read]

    def _socket(self, request: Message, _fds: list[int]) -> Frame:
        """A socket that lives in the node's or a pod's network namespace, for the owner to use from outside."""
        with child.InNet(request["pod"], self._own_net):
            sock = socket.socket(request["family"], request["type"], request["proto"])
        return {}, [sock.detach()]

    def _write(self, request: Message, _fds: list[int]) -> Frame:
        """Write a file of /proc/sys, which shows the settings of this process's namespaces."""
        syscalls.write_file(request["path"], request["text"])
        return {}, []

    def _empty_namespace(self, request: Message, _fds: list[int]) -> Frame:
        """SIGKILL every process whose main thread is in the network namespace `inode`; say how many there were."""
        wanted = f"net:[{request['inode']}]"
        killed = 0
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit():
                continue
            try:
                if os.readlink(f"/proc/{entry.name}/ns/net") == wanted and int(entry.name) != 1:
                    os.kill(int(entry.name), signal.SIGKILL)
                    killed += 1
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # gone meanwhile, or a kernel thread
        return {"killed": killed}, []

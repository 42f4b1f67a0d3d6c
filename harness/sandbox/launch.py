"""Starting a node: the keeper process, the maps of the user namespace, and the reasons why it cannot be done.

Keepers are forked by a server (`harness.sandbox.forks`) that this process starts with its first node.
"""

from __future__ import annotations

import atexit
import errno
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

from harness.errors import InternalError, Unsupported
from harness.sandbox import protocol
from harness.waiting import DEFAULT_TIMEOUT

_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])
_PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from harness.sandbox.forks import main; main(int(sys.argv[2]))"
_IDS_IN_A_FULL_MAP = 65536


class Keeper:
    """The process whose end ends the node. It is the fork server's child, held here by its pidfd."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self._pidfd = pidfd

    def wait(self, timeout: float | None = None) -> bool:
        """Whether the process has ended after so many seconds; None waits for its end."""
        poller = select.poll()
        poller.register(self._pidfd, select.POLLIN)
        return bool(poller.poll(None if timeout is None else timeout * 1000))

    def kill(self) -> None:
        """Send SIGKILL; no error if it is gone."""
        try:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._pidfd)


class _Forks:
    """The fork server, from construction to the end of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._orders.settimeout(DEFAULT_TIMEOUT)  # a person may have stopped the server
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _PROGRAM, _PACKAGE_ROOT, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd="/",
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # a Ctrl-C at the terminal is the owner's to handle
            )
        finally:
            theirs.close()

    def keeper(self, fds: Sequence[int]) -> Keeper:
        """Fork a keeper. Raises `PeerGone` if the server is gone, `InternalError` if it does not answer.

        A server that does not answer is ended: its late answer would be taken for the answer to the next order.
        """
        with self._lock:
            try:
                protocol.send(self._orders, {}, fds)
                answer, (pidfd,) = protocol.receive(self._orders)
            except TimeoutError:
                self._process.kill()
                self._orders.shutdown(socket.SHUT_RDWR)
                raise InternalError(f"the sandbox's fork server did not answer within {DEFAULT_TIMEOUT:g} s") from None
        return Keeper(answer["pid"], pidfd)

    def close(self) -> None:
        """End the server by closing its socket."""
        self._orders.close()
        self._process.wait()


@cache
def _forks(owner: int) -> _Forks:
    """This process's server: after a fork the owner is another process."""
    server = _Forks()
    atexit.register(lambda: server.close() if os.getpid() == owner else None)
    return server


@dataclass(frozen=True, slots=True)
class StartedNode:
    """A running node: its keeper, the socket to its PID 1, its root directory as a descriptor, its log."""

    keeper: Keeper
    control: socket.socket
    root_fd: int
    log: IO[bytes]
    single_id: bool
    """True where the user namespace maps one id only: no process can have another uid than 0."""

    def read_log(self) -> str:
        return _text_of(self.log)


def start() -> StartedNode:
    """Start the keeper and PID 1. Raises `Unsupported` with one sentence when the machine does not allow it."""
    if sys.platform != "linux":
        raise Unsupported("the sandbox is made of Linux namespaces: it runs on Linux only")
    with ExitStack() as undone:
        # 1. Fork the keeper.
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        undone.callback(ours.close)
        log = undone.enter_context(tempfile.TemporaryFile())
        owner = os.pidfd_open(os.getpid())
        try:
            keeper = _fork_keeper([theirs.fileno(), owner, log.fileno()])
        finally:
            theirs.close()
            os.close(owner)
        for undo in (keeper.close, keeper.wait, keeper.kill):  # called in the opposite order
            undone.callback(undo)
        # 2. Map the ids of its user namespace, if it has one of its own, and wait for PID 1.
        single_id = False
        try:
            reply, fds = protocol.receive(ours)
            if reply.get("state") == "userns":
                single_id = _write_id_maps(reply["pid"])
                protocol.send(ours, {})
                reply, fds = protocol.receive(ours)
        except protocol.PeerGone:
            keeper.wait()
            raise InternalError(f"the sandbox ended before it was ready:\n{_text_of(log)}") from None
        if "error" in reply:
            raise Unsupported(_why_not(reply))
        undone.pop_all()
    return StartedNode(keeper, ours, fds[0], log, single_id)


def _text_of(log: IO[bytes]) -> str:
    return os.pread(log.fileno(), 1 << 20, 0).decode(errors="replace")


def _fork_keeper(fds: Sequence[int]) -> Keeper:
    """Fork a keeper by this process's server, or by a new server if that one has ended. Raises `InternalError`."""
    owner = os.getpid()
    try:
        return _forks(owner).keeper(fds)
    except protocol.PeerGone:
        _forks.cache_clear()
    try:
        return _forks(owner).keeper(fds)
    except protocol.PeerGone:
        raise InternalError("the sandbox's fork server ended as soon as it was started") from None


def _write_id_maps(pid: int) -> bool:
    """Map root in the new user namespace to this user; with newuidmap and /etc/subuid, every other id too.

    Returns True when only a single id could be mapped (user_namespaces(7)).
    """
    uid, gid = os.geteuid(), os.getegid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    subuid = _subordinate_range("/etc/subuid", name, uid)
    subgid = _subordinate_range("/etc/subgid", name, uid)
    if subuid and subgid and shutil.which("newuidmap") and shutil.which("newgidmap"):
        ranges = ((["newuidmap"], uid, subuid), (["newgidmap"], gid, subgid))
        results = [
            subprocess.run(
                [*tool, str(pid), "0", str(own), "1", "1", str(first), str(_IDS_IN_A_FULL_MAP - 1)],
                capture_output=True,
                check=False,
            ).returncode
            for tool, own, first in ranges
        ]
        if results == [0, 0]:
            return False
    proc = Path(f"/proc/{pid}")
    (proc / "setgroups").write_text("deny")
    (proc / "uid_map").write_text(f"0 {uid} 1")
    (proc / "gid_map").write_text(f"0 {gid} 1")
    return True


def _subordinate_range(path: str, name: str, uid: int) -> int | None:
    """The first subordinate id that subuid(5) grants, if the range is long enough."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        owner, _, rest = line.partition(":")
        first, _, count = rest.partition(":")
        if owner in (name, str(uid)) and count.isdigit() and int(count) >= _IDS_IN_A_FULL_MAP - 1:
            return int(first)
    return None


def _why_not(reply: protocol.Message) -> str:
    if os.geteuid() == 0:
        return (
            f"the sandbox needs CAP_SYS_ADMIN to make namespaces and was refused ({reply['error']}); "
            "run it on the machine itself or in a container with --privileged"
        )
    cure = "run as root, or allow user namespaces"
    knobs = {
        "/proc/sys/kernel/unprivileged_userns_clone": ("0", "sysctl kernel.unprivileged_userns_clone=1"),
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": (
            "1",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        "/proc/sys/user/max_user_namespaces": ("0", "sysctl user.max_user_namespaces=10000"),
    }
    for path, (bad, command) in knobs.items():
        try:
            if Path(path).read_text().strip() == bad:
                cure += f" ({command})"
        except OSError:
            continue
    if reply.get("errno") == errno.ENOSPC:
        cure += " (their number is limited: sysctl user.max_user_namespaces)"
    return f"without root the sandbox needs a user namespace and was refused one ({reply['error']}); {cure}"

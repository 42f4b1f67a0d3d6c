"""Processes that look like an Envoy sidecar in procfs, or nearly so.

No compiler is needed: a variant is a copy of this machine's shell under another name, or of the Python interpreter if
it has to do more than wait. The table of what procfs shows for each is in docs/fixtures.md.
"""

from __future__ import annotations

import enum
import itertools
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from harness.mesh.sidecar import ENVOY_PATH, istio_environ
from harness.sandbox.bare_node import BareNode
from harness.sandbox.pod import Pod
from harness.sandbox.process import Command, Environ, Process
from harness.waiting import wait_until

_SHELL = Path("/bin/sh")
_SHELL_WAITS = 'echo ready; read never <>"$0"'  # a FIFO whose only writer is its reader, which never writes
_PYTHON = ("-I", "-S", "-c")
_WAIT = "import signal, sys; print('ready', flush=True); signal.pause()"
_LEADER_LEAVES = (
    "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(86400,)).start(); "
    "print('ready', flush=True); ctypes.CDLL(None).pthread_exit(None)"
)
_FORK = f"import os; os.fork(); {_WAIT}"
_ZOMBIE_PARENT = (
    "import os, signal; os.posix_spawn({child!r}, [{child!r}, '-I', '-S', '-c', ''], dict(os.environ)); "
    + ("os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT); print('ready', flush=True); signal.pause()")
)
_MEMFD = (
    "import os, sys; fd = os.memfd_create('envoy', 0); os.sendfile(fd, os.open({binary!r}, os.O_RDONLY), 0, {size}); "
    "os.execve(fd, ['/usr/local/bin/envoy', '-I', '-S', '-c', {body!r}], dict(os.environ))"
)
_CHROOT = f"import os, signal; os.chroot({{directory!r}}); os.chdir('/'); {_WAIT}"


class Variant(enum.Enum):
    """How the process gets its name, and whether a tapper has to treat it as an Envoy (`is_envoy`)."""

    COPY = "a binary named envoy", True
    HARD_LINK = "a hard link named envoy", True
    PRIVATE_MOUNT = "/usr/local/bin/envoy in a mount namespace of its own, as in a container", True
    RENAMED = "a binary that was renamed to envoy after it had been started", True
    DELETED = "a binary named envoy, unlinked while it runs", True
    REPLACED = "a binary named envoy, replaced while it runs, as an upgrade does", True
    CHROOT = "a binary named envoy that has gone into a chroot", True
    LEADER_GONE = "an envoy whose main thread has ended while another goes on", True
    FORKED = "an envoy that has forked: two processes", True

    SYMLINK = "a symbolic link named envoy: the kernel resolves it", False
    ARGV0 = "another binary that calls itself envoy in argv[0]", False
    SCRIPT = "a shell script named envoy", False
    MEMFD = "a file without a path, named envoy: /memfd:envoy (deleted)", False
    SUFFIX = "a binary named envoy-x", False
    PREFIX = "a binary named notenvoy", False
    DIRECTORY = "another binary in a directory named envoy", False
    ZOMBIE = "an envoy that has ended and was not reaped", False

    def __init__(self, description: str, is_envoy: bool) -> None:
        self.description = description
        self.is_envoy = is_envoy


_numbers = itertools.count()


def _interpreter() -> str:
    return os.path.realpath(sys.executable)


def _waiting(node: BareNode, directory: Path) -> tuple[str, Sequence[str]]:
    """The binary to copy, and the arguments with which the copy reports that it runs, and waits.

    The shell runs after a millisecond, the interpreter after fifteen. A multi-call binary such as busybox picks its
    applet by name, so a renamed copy of it is not a shell.
    """
    shell = _SHELL.resolve()
    if shell.name in ("dash", "bash"):
        os.mkfifo(directory / "never")
        return str(shell), ("-c", _SHELL_WAITS, node.inside(directory / "never"))
    return _interpreter(), (*_PYTHON, _WAIT)


class FakeEnvoy:
    """A running fake. `process` is the spawned process; for ZOMBIE it is the parent that does not reap."""

    def __init__(self, process: Process, variant: Variant, instance_ip: str | None) -> None:
        self.process = process
        self.variant = variant
        self.instance_ip = instance_ip
        self._started_ns = time.time_ns()
        self._stopped_ns: int | None = None

    @property
    def pid(self) -> int:
        return self.process.pid

    def changes(self) -> list[int]:
        """The times of its start and of its stop, if it was stopped (nanoseconds since the epoch)."""
        return [self._started_ns, *([] if self._stopped_ns is None else [self._stopped_ns])]

    def stop(self) -> None:
        self._stopped_ns = time.time_ns()
        self.process.stop()


def start(
    where: Pod | BareNode,
    variant: Variant = Variant.COPY,
    *,
    instance_ip: str | None = None,
    env: Environ | None = None,
    prefix: Sequence[str] = (),
) -> FakeEnvoy:
    """Start a fake in a pod, or on the node itself (a host-network Envoy, or one started by hand).

    `instance_ip` defaults to the pod's address; a fake on the node has to be given one. `env` replaces the whole
    environment: raw entries (bytes) for what a mapping cannot hold. `prefix` is a program that prepares something and
    then executes the fake, whose file and arguments it is given as its last arguments.
    """
    pod = where if isinstance(where, Pod) else None
    node = pod.node if pod else where
    assert isinstance(node, BareNode)
    if env is None:
        env = _environ(pod, instance_ip)
    directory = _directory(node)
    command = _command(node, directory, variant, env)
    if prefix:
        command = replace(command, argv=[*prefix, *command.argv], executable=None)
    process = node.spawn(command, pod=pod, name=f"fake-{variant.name.lower()}")
    _wait_up(process, variant.description)
    if variant is Variant.RENAMED:
        (directory / "sleeper").rename(directory / "envoy")
    elif variant is Variant.DELETED:
        (directory / "envoy").unlink()
    elif variant is Variant.REPLACED:
        shutil.copy(_interpreter(), directory / "fresh")
        (directory / "fresh").rename(directory / "envoy")
    if variant is Variant.LEADER_GONE:
        wait_until(lambda: _is_defunct(node, process.pid), "the main thread to end")
    return FakeEnvoy(process, variant, instance_ip or (pod.ip if pod else None))


def start_linkerd(pod: Pod) -> Process:
    """Start a process that looks like Linkerd's proxy: its environment has the pod's name, and no address."""
    directory = _directory(pod.node)
    file = directory / "linkerd2-proxy"
    binary, arguments = _waiting(pod.node, directory)
    shutil.copy(binary, file)
    env = {"_pod_name": pod.name, "_pod_ns": "default"}
    process = pod.spawn(Command([pod.node.inside(file), *arguments], env=env), name="linkerd")
    _wait_up(process, "a binary named linkerd2-proxy")
    return process


def _directory(node: BareNode) -> Path:
    directory = node.run_dir / f"fake-{next(_numbers)}"
    directory.mkdir()
    # a copied interpreter searches its library beside itself (PEP 405)
    (directory / "pyvenv.cfg").write_text(f"home = {Path(_interpreter()).parent}\n")
    return directory


def _wait_up(process: Process, what: str) -> None:
    wait_until(lambda: "ready" in process.read_log(), f"{what} to be up", logs=process.read_log)


def _environ(pod: Pod | None, instance_ip: str | None) -> Mapping[str, str]:
    if pod is None:
        if instance_ip is None:
            raise ValueError("a fake Envoy on the node has no pod address: give it an instance_ip")
        return {"INSTANCE_IP": instance_ip}
    return istio_environ(pod) | ({"INSTANCE_IP": instance_ip} if instance_ip else {})


def _command(node: BareNode, directory: Path, variant: Variant, env: Environ) -> Command:
    names = {
        Variant.SUFFIX: "envoy-x",
        Variant.PREFIX: "notenvoy",
        Variant.RENAMED: "sleeper",
        Variant.DIRECTORY: "envoy/sleeper",
    }
    file = directory / names.get(variant, "envoy")
    inside = node.inside(file)
    arguments: Sequence[str] = (*_PYTHON, _WAIT)
    executable = inside
    binds: dict[str, str] = {}
    match variant:
        case Variant.SYMLINK:
            file.symlink_to(_interpreter())
        case Variant.ARGV0:
            executable = _interpreter()
        case Variant.SCRIPT:
            file.write_text("#!/bin/sh\necho ready\nwhile :; do sleep 3600; done\n")
            file.chmod(0o755)
        case Variant.MEMFD:
            executable = _interpreter()
            size = Path(executable).stat().st_size
            arguments = (*_PYTHON, _MEMFD.format(binary=executable, size=size, body=_WAIT))
        case Variant.PRIVATE_MOUNT:
            executable = ENVOY_PATH
            binary, arguments = _waiting(node, directory)
            settings = str(Path(ENVOY_PATH).with_name("pyvenv.cfg"))
            binds = {ENVOY_PATH: binary, settings: node.inside(directory / "pyvenv.cfg")}
        case Variant.HARD_LINK:
            binary, arguments = _waiting(node, directory)
            shutil.copy(binary, directory / "original")
            file.hardlink_to(directory / "original")
        case Variant.ZOMBIE:
            shutil.copy(_interpreter(), file)
            executable, arguments = _interpreter(), (*_PYTHON, _ZOMBIE_PARENT.format(child=inside))
        case Variant.LEADER_GONE | Variant.FORKED | Variant.CHROOT:
            shutil.copy(_interpreter(), file)
            bodies = {
                Variant.LEADER_GONE: _LEADER_LEAVES,
                Variant.FORKED: _FORK,
                Variant.CHROOT: _CHROOT.format(directory=node.inside(directory)),
            }
            arguments = (*_PYTHON, bodies[variant])
        case _:
            file.parent.mkdir(exist_ok=True)
            binary, arguments = _waiting(node, directory)
            shutil.copy(binary, file)
    name = ENVOY_PATH if variant is Variant.ARGV0 else executable
    return Command([name, *arguments], env=env, executable=executable, binds=binds)


def _is_defunct(node: BareNode, pid: int) -> bool:
    """True once the leader is a zombie: /proc/PID/stat's third field (proc_pid_stat(5))."""
    stat = (node.procfs / str(pid) / "stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "Z"

"""Which process is the Envoy of a target pod: a decision on what procfs says about a process.

The executable's path ends in `/envoy`, and its environment has INSTANCE_IP, which Istio sets to the pod's address, and
which is a target. The process controls both: an Envoy that a person starts with INSTANCE_IP is captured. This is a
documented limit of the method.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Set
from dataclasses import dataclass, replace

from tapper.discovery.finders import Finder, Finding, Verdict, is_envoy_path
from tapper.namespaces.identity import NamespaceId
from tapper.targets.addresses import Address, parse_address

LINKERD_VARIABLES = (b"_pod_name", b"_pod_ns")
_KEY = b"INSTANCE_IP"
_LONGEST_VALUE = 256
"""Bytes; a Kubernetes name has up to 253, an address up to 45."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something that could not be read, with the error number."""

    errno: int

    def __str__(self) -> str:
        return _HOSTILE.get(self.errno) or os.strerror(self.errno).lower()

    @property
    def hostile(self) -> bool:
        """Whether the process itself has made this unreadable."""
        return self.errno in _HOSTILE


_HOSTILE = {
    errno.EFBIG: "it is larger than execve(2) allows, so the process has moved it",
    errno.ETIMEDOUT: "the kernel waits too long for the process's memory",
}


@dataclass(frozen=True, slots=True)
class ProcessSnapshot:
    """A process as procfs shows it. A value that was not asked for, or does not exist, is None."""

    pid: int
    exe: str | Unreadable | None
    """The link's text, with Python's surrogate escapes for bytes that are not UTF-8; None for zombies and kernel
    threads."""
    environ: bytes | Unreadable | None = None
    """Of its environment block the variables that matter (`relevant_variables`)."""
    netns: NamespaceId | Unreadable | None = None
    name: str = ""
    """Its name in the kernel (comm), at most 15 bytes."""
    argv0: str = ""

    def is_notable(self) -> bool:
        """Whether the process needs a verdict of its own, whatever the targets are: its environment was asked for,
        since its executable is a proxy's, or something of it could not be read."""
        return self.environ is not None or type(self.exe) is Unreadable or type(self.netns) is Unreadable


def first_value(environ: bytes, name: bytes) -> bytes | None:
    """A variable's value in an environment block: NUL separated, `key=value`, the first one counts as in getenv(3)."""
    _, found, rest = (b"\0" + environ).partition(b"\0" + name + b"=")
    return rest.partition(b"\0")[0] if found else None


def instance_ip(environ: bytes) -> bytes | None:
    """The value of INSTANCE_IP in an environment block."""
    return first_value(environ, _KEY)


def relevant_variables(environ: bytes) -> bytes:
    """The variables of an environment block that the tapper reads, their values cut to 256 bytes; empty without any of
    them. The block itself may be megabytes."""
    kept = [(_KEY, instance_ip(environ)), *((name, first_value(environ, name)) for name in LINKERD_VARIABLES)]
    return b"\0".join(name + b"=" + value[:_LONGEST_VALUE] for name, value in kept if value is not None)


def classify(process: ProcessSnapshot, targets: Set[Address] | None) -> Finding:
    """Whether a process is the Envoy of a target. `targets` None makes a target of every address."""
    exe, environ = process.exe, process.environ
    netns = process.netns if isinstance(process.netns, NamespaceId) else None
    finding = Finding(process.pid, exe if isinstance(exe, str) else None, netns, Verdict.OTHER)
    # 1. The executable.
    if isinstance(exe, Unreadable):
        return replace(finding, verdict=Verdict.UNREADABLE, reason=f"the exe link cannot be read: {exe}")
    if exe is None:
        return replace(finding, reason="no executable: a kernel thread or a zombie")
    value = instance_ip(environ) if isinstance(environ, bytes) else None
    if value is not None:
        finding = replace(finding, instance_ip=value.decode("latin-1"))
    if not is_envoy_path(exe):
        likeness = _likeness(process, has_instance_ip=value is not None)
        if likeness is None:
            return replace(finding, reason="not an Envoy")
        reason = f"{likeness}, but its executable is not named envoy"
        return replace(finding, verdict=Verdict.LOOK_ALIKE, reason=reason)
    # 2. The environment.
    if not isinstance(environ, bytes):
        reason = f"the environment cannot be read: {'it was not read' if environ is None else environ}"
        hostile = isinstance(environ, Unreadable) and environ.hostile
        return replace(finding, verdict=Verdict.UNREADABLE, reason=reason, hostile=hostile)
    if value is None:
        return replace(finding, verdict=Verdict.NO_INSTANCE_IP, reason="no INSTANCE_IP in its environment")
    try:
        address = parse_address(value.decode("ascii"))
    except ValueError:  # also a UnicodeDecodeError
        return replace(finding, verdict=Verdict.BAD_INSTANCE_IP, reason="its INSTANCE_IP is not an address")
    if targets is not None and address not in targets:
        return replace(finding, verdict=Verdict.NOT_A_TARGET, reason="its INSTANCE_IP is not a target")
    # 3. The namespace.
    if netns is None:
        cause = process.netns if isinstance(process.netns, Unreadable) else "the link is not there"
        return replace(finding, verdict=Verdict.UNREADABLE, reason=f"the network namespace cannot be read: {cause}")
    return Finding(process.pid, exe, netns, Verdict.ENVOY, None, str(address), Finder.ENVOY, address)


def _likeness(process: ProcessSnapshot, *, has_instance_ip: bool) -> str | None:
    """Why a person may take the process for an Envoy; None without a reason."""
    exe = process.exe if isinstance(process.exe, str) else ""
    if "envoy" in exe.rpartition("/")[2].lower():
        return "its executable's name has envoy in it"
    if "envoy" in process.name.lower():
        return "it is named after envoy"
    if "envoy" in process.argv0.lower():
        return "its argv[0] says envoy"
    if has_instance_ip:
        return "it has an INSTANCE_IP"
    return None

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
from enum import StrEnum

from tapper.namespaces.identity import NamespaceId
from tapper.targets.addresses import Address, parse_address

DELETED = " (deleted)"
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
class Process:
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


class Verdict(StrEnum):
    """Why a process is an Envoy to be tapped, or is not."""

    ENVOY = "envoy"
    NOT_A_TARGET = "not-a-target"
    NO_INSTANCE_IP = "no-instance-ip"
    BAD_INSTANCE_IP = "bad-instance-ip"
    UNREADABLE = "unreadable"
    LOOK_ALIKE = "look-alike"
    OTHER = "other"
    RESIDENT = "resident"
    """In a target's network namespace, found by `linkerd` or `netns`."""
    NODE = "node"
    NO_ADDRESS = "no-address"


@dataclass(frozen=True, slots=True)
class Envoy:
    """The Envoy of a target."""

    pid: int
    exe: str
    instance_ip: Address
    netns: NamespaceId


@dataclass(frozen=True, slots=True)
class Refused:
    """A process that is not the Envoy of a target, and why."""

    pid: int
    exe: str | None
    verdict: Verdict
    reason: str
    """A phrase for a person."""
    instance_ip: str | None = None
    """Its text in the environment, decoded as latin-1; None where there is none."""
    netns: NamespaceId | None = None
    hostile: bool = False
    """Whether the process has made its environment unreadable."""

    @property
    def looked_at(self) -> bool:
        """Whether anything about the process suggests an Envoy."""
        return self.verdict is not Verdict.OTHER and self.exe is not None


def is_envoy_path(exe: str) -> bool:
    """Whether the last component of an exe link is `envoy`, also of a deleted binary."""
    return exe.removesuffix(DELETED).endswith("/envoy")


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


def classify(process: Process, targets: Set[Address] | None) -> Envoy | Refused:
    """The verdict on one process. `targets` None makes a target of every address."""
    exe = process.exe
    netns = process.netns if isinstance(process.netns, NamespaceId) else None
    if isinstance(exe, Unreadable):
        return Refused(process.pid, None, Verdict.UNREADABLE, f"the exe link cannot be read: {exe}", netns=netns)
    if exe is None:
        return Refused(process.pid, None, Verdict.OTHER, "no executable: a kernel thread or a zombie", netns=netns)
    environ = process.environ
    value = instance_ip(environ) if isinstance(environ, bytes) else None
    text = None if value is None else value.decode("latin-1")

    def refuse(verdict: Verdict, reason: str) -> Refused:
        return Refused(process.pid, exe, verdict, reason, text, netns)

    if not is_envoy_path(exe):
        likeness = _likeness(process, has_instance_ip=value is not None)
        if likeness is None:
            return refuse(Verdict.OTHER, "not an Envoy")
        return refuse(Verdict.LOOK_ALIKE, f"{likeness}, but its executable is not named envoy")
    if not isinstance(environ, bytes):
        cause = "it was not read" if environ is None else str(environ)
        refused = refuse(Verdict.UNREADABLE, f"the environment cannot be read: {cause}")
        return replace(refused, hostile=isinstance(environ, Unreadable) and environ.hostile)
    if value is None or text is None:
        return refuse(Verdict.NO_INSTANCE_IP, "no INSTANCE_IP in its environment")
    try:
        address = parse_address(value.decode("ascii"))
    except ValueError:  # UnicodeDecodeError is one, too
        return refuse(Verdict.BAD_INSTANCE_IP, "its INSTANCE_IP is not an address")
    if targets is not None and address not in targets:
        return refuse(Verdict.NOT_A_TARGET, "its INSTANCE_IP is not a target")
    if netns is None:
        cause = str(process.netns) if isinstance(process.netns, Unreadable) else "the link is not there"
        return refuse(Verdict.UNREADABLE, f"the network namespace cannot be read: {cause}")
    return Envoy(process.pid, exe, address, netns)


def _likeness(process: Process, *, has_instance_ip: bool) -> str | None:
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

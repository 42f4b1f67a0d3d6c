"""The capabilities that a capture in pods needs (capabilities(7)), and the sentence for each that is missing.

The kernel does not always refuse visibly: without CAP_SYS_PTRACE, a process that cannot be read looks like a process
that is no Envoy. So the capabilities are checked by name before the first scan.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Set
from enum import IntEnum
from pathlib import Path

from tapper.errors import MissingCapabilityError


class Capability(IntEnum):
    """The capabilities that the tapper needs or that replace one, by their numbers in linux/capability.h."""

    DAC_OVERRIDE = 1
    DAC_READ_SEARCH = 2
    NET_RAW = 13
    SYS_PTRACE = 19
    SYS_ADMIN = 21


_NEEDED_FOR = {
    Capability.NET_RAW: "capturing packets",
    Capability.SYS_ADMIN: "entering a pod's network namespace",
    Capability.SYS_PTRACE: "reading other processes' exe, environ and ns",
    Capability.DAC_READ_SEARCH: "opening the environ of other users' processes, as Envoy is one,",
}
_READING = (Capability.SYS_PTRACE, Capability.DAC_READ_SEARCH)


def advice(capability: Capability, purpose: str = "") -> str:
    """The purpose of a capability, by default in a capture in pods, and the way to get it."""
    return (
        f"{purpose or _NEEDED_FOR[capability]} needs CAP_{capability.name}: "
        f"run as root, or add {capability.name} to the container's securityContext.capabilities"
    )


def check_following(*, reads_environ: bool) -> None:
    """Raises MissingCapabilityError for the first capability that following pods needs and this thread lacks.
    `reads_environ`: whether pods are found by the environments of processes."""
    needed = [Capability.SYS_ADMIN, Capability.SYS_PTRACE] + [Capability.DAC_READ_SEARCH] * reads_environ
    for capability in needed:
        if capability in missing():
            raise MissingCapabilityError(advice(capability))


def why_unreadable(errors: Set[int]) -> str:
    """The end of a sentence: why processes could not be read, with these error numbers."""
    names = [f"CAP_{capability.name}" for capability in _READING if capability in missing()]
    if names:
        return f"without {' and '.join(names)}"
    others = sorted(os.strerror(error).lower() for error in errors - {errno.EACCES, errno.EPERM})
    if others:
        return f"as long as reading it fails: {', '.join(others)}"
    return "as long as a security module such as AppArmor forbids it: the capabilities are there"


def missing() -> frozenset[Capability]:
    """The needed capabilities that are not in effect in this thread (proc(5), CapEff)."""
    effective = _effective()
    absent = {capability for capability in _NEEDED_FOR if not effective >> capability & 1}
    if effective >> Capability.DAC_OVERRIDE & 1:  # includes the right to read
        absent.discard(Capability.DAC_READ_SEARCH)
    return frozenset(absent)


def _effective() -> int:
    for line in Path("/proc/thread-self/status").read_text(encoding="ascii", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return int(value, 16)
    return ~0  # a kernel without CapEff: the system calls themselves will fail

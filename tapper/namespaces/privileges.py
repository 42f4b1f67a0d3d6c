"""The capabilities that a capture in pods needs (capabilities(7)), and the sentence for each that is missing.

Where one is missing, the kernel does not always refuse what cannot be overlooked: processes that may not be read look
like processes that are no Envoys. So what following needs is checked before the first look, by name.
"""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path

from tapper.errors import MissingCapabilityError


class Capability(IntEnum):
    """Those that matter here, by their numbers in linux/capability.h."""

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


def advice(capability: Capability) -> str:
    """What it is needed for, and what to do."""
    return (
        f"{_NEEDED_FOR[capability]} needs CAP_{capability.name}: "
        f"run as root, or add {capability.name} to the container's securityContext.capabilities"
    )


def check_following(*, reads_environ: bool) -> None:
    """Raises MissingCapabilityError for what following pods' namespaces cannot do without.

    `reads_environ` says whether pods are found by what their processes' environments say of them.
    """
    needed = [Capability.SYS_ADMIN, Capability.SYS_PTRACE]
    if reads_environ:
        needed.append(Capability.DAC_READ_SEARCH)
    absent = missing()
    for capability in needed:
        if capability in absent:
            raise MissingCapabilityError(advice(capability))


def why_unreadable() -> str:
    """Why processes could not be read, to end a sentence with."""
    names = [f"CAP_{capability.name}" for capability in _READING if capability in missing()]
    if names:
        return f"without {' and '.join(names)}"
    return "as long as a security module such as AppArmor forbids it: the capabilities are there"


def missing() -> frozenset[Capability]:
    """Those of `_NEEDED_FOR` that this thread does not have in effect (proc(5), CapEff)."""
    effective = _effective()
    absent = {capability for capability in _NEEDED_FOR if not effective >> capability & 1}
    if effective >> Capability.DAC_OVERRIDE & 1:  # which includes reading
        absent.discard(Capability.DAC_READ_SEARCH)
    return frozenset(absent)


def _effective() -> int:
    for line in Path("/proc/thread-self/status").read_text(encoding="ascii", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return int(value, 16)
    return ~0  # a kernel that does not say: it will refuse by itself

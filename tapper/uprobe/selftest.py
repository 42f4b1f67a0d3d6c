"""Whether probes work here, by trying: the programs of a TLS library run at a function of this process's own C library.

strxfrm(3) has the form of SSL_write: its second argument is a buffer, of which it takes as many bytes as it returns. So
the real programs hand over what was passed to it. They are attached in this process alone.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import struct
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tapper.errors import MissingCapabilityError, TapperError, explain
from tapper.namespaces.identity import own_namespace
from tapper.namespaces.privileges import Capability, advice, missing
from tapper.uprobe import bpf, btf
from tapper.uprobe.bpf import Way
from tapper.uprobe.elf import Elf
from tapper.uprobe.layout import HEAD
from tapper.uprobe.libraries import OPENSSL
from tapper.uprobe.probes import Probes
from tapper.uprobe.readable import FileVerdict, FunctionPlace, mapped_files
from tapper.uprobe.ring import ProbeRing
from tapper.uprobe.segments import Segments

_FUNCTION: Final = "strxfrm"
_WORDS: Final = b"the self-test of tapper --tls"
_RING_SIZE: Final = 1 << 16
_C_LIBRARY: Final = re.compile(r"libc\.so\.6|libc-2\.\d+\.so|ld-musl-\w+\.so\.1")
_ALL_USERS: Final = 4_294_967_295
_SECCOMP_KILLS: Final = ((6, 11), (6, 14))
"""The versions of Linux whose seccomp filters see a return probe as a system call that they do not know."""
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _SECCOMP_MODE_FILTER, _URETPROBE = 22, 38, 2, 335
_KILL, _ALLOW = 0x8000_0000, 0x7FFF_0000  # seccomp(2): SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_ALLOW

_libc = ctypes.CDLL(None)


def open_probes() -> Probes:
    """Probes that have been tried. Raises TapperError, and MissingCapabilityError, where they do not work: in a
    sentence that says why."""
    machine = os.uname().machine
    if not bpf.supported():
        raise TapperError(f"--tls runs on x86-64 and arm64, and this machine is {machine}")
    check_rights()
    types = btf.of_kernel()
    place = own_function(machine)
    for way in Way:
        with ExitStack() as stack:
            try:
                probes = Probes(types.offset, machine, way)
                stack.callback(probes.close)
                try_probes(probes, place)
                if seccomp_may_kill() and not survives_seccomp(probes, place):
                    raise TapperError(
                        "--tls would kill the processes of pods: for the seccomp filters of this kernel (Linux 6.11 to "
                        "6.13) a probe at a function's return is a forbidden system call; use another kernel"
                    )
                probes.watch_sockets()
            except PermissionError as error:
                raise refusal(error) from error
            except OSError as error:
                if way is Way.PERF:
                    raise TapperError(
                        f"this kernel attaches no programs to functions: {explain(error)} (--tls)"
                    ) from error
            else:
                stack.pop_all()
                return probes
    raise AssertionError("the last way returns or raises")


def own_function(machine: str) -> tuple[str, int]:
    """The path of this process's C library, and the offset of the function in it."""
    for file in mapped_files(Path("/proc/self/maps").read_bytes()):
        if _C_LIBRARY.fullmatch(file.name):
            path = f"/proc/self/map_files/{file.addresses}"
            try:
                data = Path(path).read_bytes()
                found = Elf(lambda at, size: data[at : at + size], machine).functions({_FUNCTION.encode()})  # noqa: B023
            except (OSError, ValueError) as error:
                raise TapperError(f"--tls cannot be tried: {file.path} cannot be read: {error}") from error
            if found:
                return path, found[_FUNCTION.encode()]
    raise TapperError(f"--tls cannot be tried: this Python has no C library with {_FUNCTION}")


def call() -> None:
    """Call the function as the self-test expects it."""
    room = ctypes.create_string_buffer(4 * len(_WORDS))
    getattr(_libc, _FUNCTION)(room, ctypes.create_string_buffer(_WORDS), len(room))


def verdict_on(offset: int) -> FileVerdict:
    return FileVerdict(OPENSSL.name, None, ((b"SSL_write", FunctionPlace(offset)),), OPENSSL)


def try_probes(probes: Probes, place: tuple[str, int]) -> None:
    """Raises TapperError where the programs do not hand over what was passed to the function."""
    path, offset = place
    ring = ProbeRing(probes, own_namespace().inode, _RING_SIZE, Segments())
    try:
        probes.attach("self-test", path, verdict_on(offset), os.getpid())
        call()
        probes.detach("self-test")
        taken = [bytes(record[HEAD : HEAD + len(_WORDS)]) for record in ring.records(_RING_SIZE)]
    finally:
        ring.close()
    if taken != [_WORDS]:
        raise TapperError("--tls does not work here: a program at a function of this process saw nothing of its call")


def seccomp_may_kill() -> bool:
    """Whether this kernel's seccomp filters may see a probe at a return as a system call."""
    version = tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])
    return _SECCOMP_KILLS[0] <= version < _SECCOMP_KILLS[1] and os.uname().machine == "x86_64"


def survives_seccomp(probes: Probes, place: tuple[str, int]) -> bool:
    """Whether a process of ours outlives a probe at a function's return, under a filter that kills it for the system
    call uretprobe."""
    path, offset = place
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(ready, 1)
        os._exit(0 if _call_under_seccomp() else 1)
    try:
        probes.attach("seccomp", path, verdict_on(offset), child)
        os.write(go, b"\n")
        _, status = os.waitpid(child, 0)
    except OSError:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    finally:
        probes.detach("seccomp")
        os.close(ready)
        os.close(go)
    return status == 0


def _call_under_seccomp() -> bool:
    load, jump, give = 0x20, 0x15, 0x06
    code = [(load, 0, 0, 0), (jump, 0, 1, _URETPROBE), (give, 0, 0, _KILL), (give, 0, 0, _ALLOW)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *instruction) for instruction in code))
    filter_ = ctypes.create_string_buffer(struct.pack("@HP", len(code), ctypes.addressof(program)))
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, filter_):
        return False
    call()
    return True


def check_rights(uid_map: Path = Path("/proc/self/uid_map")) -> None:
    """Raises MissingCapabilityError for what is certain to be missing."""
    if uid_map.read_text(encoding="ascii").split() != ["0", "0", str(_ALL_USERS)]:
        raise MissingCapabilityError(
            "in a user namespace the kernel permits no probes: run --tls as root outside of it"
        )
    if Capability.SYS_ADMIN in missing():
        raise MissingCapabilityError(advice(Capability.SYS_ADMIN, "probing functions of TLS libraries"))


def refusal(error: OSError, lockdown: Path = Path("/sys/kernel/security/lockdown")) -> MissingCapabilityError:
    """Why the kernel does not permit probes although the rights are there."""
    reason = f"{explain(error)}; a security module may forbid it"
    try:
        if "[confidentiality]" in lockdown.read_text(encoding="ascii"):
            reason = "it is locked down (kernel_lockdown(7), confidentiality)"
    except OSError:
        pass  # a kernel without lockdown
    return MissingCapabilityError(f"the kernel permits no probes, so --tls cannot run: {reason}")

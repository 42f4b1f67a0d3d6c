"""bpf(2) and perf_event_open(2) by ctypes: maps, programs, and what attaches them to functions (linux/bpf.h,
linux/perf_event.h). Numbers are in the machine's byte order. Every function raises OSError.

A program runs where it is attached as long as the descriptor of its link is open. So nothing is left when this process
ends, in whatever way.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Final

MAP_HASH, MAP_LRU_HASH, MAP_HASH_OF_MAPS, MAP_RINGBUF = 1, 9, 13, 27
PROG_KPROBE, PROG_RAW_TRACEPOINT = 2, 17
LICENCE: Final = b"Dual MIT/GPL"
"""What the programs are under: the kernel lets only programs of a licence that is compatible with the GPL read
memory."""

_SYSTEM_CALLS: Final = {"x86_64": (321, 298), "aarch64": (280, 241)}
_MAP_CREATE, _MAP_LOOKUP, _MAP_UPDATE, _MAP_DELETE, _MAP_NEXT_KEY, _PROG_LOAD, _RAW_TRACEPOINT, _LINK_CREATE = (
    *range(6),
    17,
    28,
)
_TRACE_UPROBE_MULTI: Final = 48  # enum bpf_attach_type
_UPROBE_MULTI_RETURN: Final = 1
_PERF_EVENT_IOC_SET_BPF, _PERF_EVENT_IOC_ENABLE = 0x40042408, 0x2400
_PERF_FLAG_FD_CLOEXEC: Final = 8
_PERF_ATTR_SIZE: Final = 112  # up to and with config2, and what came before aux_watermark
_UPROBE_PMU: Final = Path("/sys/bus/event_source/devices/uprobe/type")
_LOG_SIZE: Final = 1 << 20
_MAP_ATTR: Final = struct.Struct("=IIQQQ")

_libc = ctypes.CDLL(None, use_errno=True)


class Way(IntEnum):
    """How programs are attached to functions."""

    MULTI = 0
    """One link for all functions of a file, since Linux 6.6. Detaching waits for readers of memory once a link."""
    PERF = 1
    """One perf event for each function."""


def supported() -> bool:
    """Whether the numbers of the system calls are known here."""
    return os.uname().machine in _SYSTEM_CALLS


def _bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    return _check(_libc.syscall(_SYSTEM_CALLS[os.uname().machine][0], command, buffer, len(attributes)))


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


# Maps. Keys and values are bytes of the map's sizes.


def create_map(kind: int, key_size: int, value_size: int, most: int, *, inner: int = 0) -> int:
    """A map with room for `most` entries, or a ring of so many bytes; returns its descriptor. `inner` is a map like
    those that a map of maps will have."""
    return _bpf(_MAP_CREATE, struct.pack("=IIIIII24x", kind, key_size, value_size, most, 0, inner))


def update(descriptor: int, key: bytes, value: bytes) -> None:
    key_buffer, value_buffer = (
        ctypes.create_string_buffer(key, len(key)),
        ctypes.create_string_buffer(value, len(value)),
    )
    addresses = ctypes.addressof(key_buffer), ctypes.addressof(value_buffer)
    _bpf(_MAP_UPDATE, _MAP_ATTR.pack(descriptor, 0, *addresses, 0))


def lookup(descriptor: int, key: bytes, size: int) -> bytes | None:
    """The value of a key, which has `size` bytes; None where there is none."""
    key_buffer, value = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(size)
    try:
        _bpf(_MAP_LOOKUP, _MAP_ATTR.pack(descriptor, 0, ctypes.addressof(key_buffer), ctypes.addressof(value), 0))
    except FileNotFoundError:
        return None
    return value.raw


def delete(descriptor: int, key: bytes) -> None:
    """Remove a key, which need not be there."""
    buffer = ctypes.create_string_buffer(key, len(key))
    try:
        _bpf(_MAP_DELETE, _MAP_ATTR.pack(descriptor, 0, ctypes.addressof(buffer), 0, 0))
    except FileNotFoundError:
        pass


def keys(descriptor: int, size: int, most: int) -> Iterator[bytes]:
    """At most `most` keys, of `size` bytes each. A key that is removed meanwhile may make the listing begin anew."""
    buffer = ctypes.create_string_buffer(size)
    before = 0
    for _ in range(most):
        try:
            _bpf(_MAP_NEXT_KEY, _MAP_ATTR.pack(descriptor, 0, before, ctypes.addressof(buffer), 0))
        except FileNotFoundError:
            return
        yield buffer.raw
        before = ctypes.addressof(buffer)


# Programs.


def load(kind: int, code: bytes, way: Way | None = None) -> int:
    """Let the kernel verify a program; returns its descriptor. `way` is how it will be attached to functions. The
    verifier's last words are in the note of the OSError."""
    instructions, licence = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(LICENCE)
    attach_type = _TRACE_UPROBE_MULTI if way is Way.MULTI else 0

    def attributes(log: int) -> bytes:
        head = (kind, len(code) // 8, ctypes.addressof(instructions), ctypes.addressof(licence))
        return struct.pack("=IIQQIIQII16xII", *head, bool(log), _LOG_SIZE * bool(log), log, 0, 0, 0, attach_type)

    try:
        return _bpf(_PROG_LOAD, attributes(0))
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EINVAL, errno.E2BIG):
            raise
    log = ctypes.create_string_buffer(_LOG_SIZE)
    try:
        return _bpf(_PROG_LOAD, attributes(ctypes.addressof(log)))
    except OSError as error:
        error.add_note(log.value.decode("latin-1")[-2000:])
        raise


def attach_tracepoint(name: str, program: int) -> int:
    """Run a program at a raw tracepoint; returns the link's descriptor."""
    buffer = ctypes.create_string_buffer(name.encode("ascii"))
    return _bpf(_RAW_TRACEPOINT, struct.pack("=QI4x", ctypes.addressof(buffer), program))


def attach_functions(
    way: Way, program: int, path: str, offsets: Sequence[int], *, returning: bool, pid: int | None = None
) -> list[int]:
    """Run a program where the instructions at these offsets in a file are reached; `returning`: where the functions
    that begin there return. In one process, or (None) in all. Returns the descriptors of the links."""
    if way is Way.MULTI:
        return [_attach_multi(program, path, offsets, returning=returning, pid=pid)]
    links: list[int] = []
    try:
        for offset in offsets:
            links.append(_attach_perf(program, path, offset, returning=returning, pid=pid))
    except OSError:
        for link in links:
            os.close(link)
        raise
    return links


def _attach_multi(program: int, path: str, offsets: Sequence[int], *, returning: bool, pid: int | None) -> int:
    name, places = ctypes.create_string_buffer(os.fsencode(path)), (ctypes.c_uint64 * len(offsets))(*offsets)
    flags = _UPROBE_MULTI_RETURN if returning else 0
    multi = (ctypes.addressof(name), ctypes.addressof(places), 0, 0, len(offsets), flags, pid or 0)
    return _bpf(_LINK_CREATE, struct.pack("=IIIIQQQQIII4x", program, 0, _TRACE_UPROBE_MULTI, 0, *multi))


def _attach_perf(program: int, path: str, offset: int, *, returning: bool, pid: int | None) -> int:
    name = ctypes.create_string_buffer(os.fsencode(path))
    kind = int(_UPROBE_PMU.read_text(encoding="ascii"))
    attributes = bytearray(_PERF_ATTR_SIZE)  # struct perf_event_attr
    struct.pack_into("=IIQ", attributes, 0, kind, len(attributes), int(returning))
    struct.pack_into("=QQ", attributes, 56, ctypes.addressof(name), offset)  # config1, config2
    processor = 0 if pid is None else -1
    call = _SYSTEM_CALLS[os.uname().machine][1]
    where = (-1 if pid is None else pid, processor, -1, _PERF_FLAG_FD_CLOEXEC)
    descriptor = _check(_libc.syscall(call, bytes(attributes), *where))
    try:
        for request, value in ((_PERF_EVENT_IOC_SET_BPF, program), (_PERF_EVENT_IOC_ENABLE, 0)):
            _check(_libc.ioctl(descriptor, request, value))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor

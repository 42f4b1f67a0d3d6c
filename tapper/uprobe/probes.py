"""The programs in the kernel, and where they are attached."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

from tapper.runtime.threads import on_threads
from tapper.uprobe import bpf, layout
from tapper.uprobe.bpf import Way
from tapper.uprobe.layout import COUNTERS, REGISTERS
from tapper.uprobe.libraries import LIBRARIES, probes
from tapper.uprobe.programs import CallProgram
from tapper.uprobe.readable import FileVerdict

_TOGETHER: Final = 64


def _close_together(links: Sequence[int]) -> None:
    """Close links on several threads: for each the kernel waits until no processor runs its program any more."""
    on_threads([partial(os.close, link) for link in links], _TOGETHER)


class Probes:
    """Programs take what processes do in the network namespaces that `admit` was called for.

    Construction loads them all, which takes the kernel a tenth of a second: a short-lived process should not end
    meanwhile. It raises TapperError and OSError. Closing removes everything; the kernel does the same when this process
    ends.
    """

    def __init__(self, offset_of: Callable[[str], int], machine: str, way: Way) -> None:
        self._maps = layout.create_maps()
        self._way = way
        self._new = partial(CallProgram, self._maps, offset_of, REGISTERS[machine])
        self._loaded: dict[bytes, int] = {}
        """The descriptors of programs, by their code."""
        self._links: dict[object, list[int]] = {}
        try:
            self._probes = {
                library.name: [
                    (probe.name, self._load(bpf.PROG_KPROBE, probe.code), probe.returning)
                    for probe in probes(library, self._new)
                ]
                for library in LIBRARIES
            }
        except BaseException:
            self.close()
            raise

    def watch_sockets(self) -> None:
        """Attach the programs that tie connections to sockets, and tell of ends of processes."""
        self._watch("sched_process_exit", self._new().ended(whole=False))
        self._watch("sched_process_exec", self._new().ended(whole=True))
        try:
            self._watch("sock_recv_length", self._new().socket_used(sends=False))
            self._watch("sock_send_length", self._new().socket_used(sends=True))
        except FileNotFoundError:  # before Linux 6.3: then only a socket on which something has come is known
            self._watch("tcp_rcv_space_adjust", self._new().socket_used(sends=False, tells_length=False))

    def _watch(self, tracepoint: str, code: bytes) -> None:
        program = self._load(bpf.PROG_RAW_TRACEPOINT, code)
        self._links[tracepoint] = [bpf.attach_tracepoint(tracepoint, program)]

    def _load(self, kind: int, code: bytes) -> int:
        if code not in self._loaded:
            self._loaded[code] = bpf.load(kind, code, self._way if kind == bpf.PROG_KPROBE else None)
        return self._loaded[code]

    # Network namespaces.

    def admit(self, inode: int, ring: int) -> None:
        """From now on the plaintext of the network namespace with this inode goes to the ring with this descriptor."""
        key = struct.pack("=I", inode)
        bpf.update(self._maps.counters, key, bytes(COUNTERS.size))
        bpf.update(self._maps.rings, key, struct.pack("=I", ring))

    def dismiss(self, inode: int) -> None:
        """Nothing more of this network namespace."""
        bpf.delete(self._maps.rings, struct.pack("=I", inode))

    def forget_losses(self, inode: int) -> None:
        """The counts of a network namespace that was dismissed are not asked for any more."""
        bpf.delete(self._maps.counters, struct.pack("=I", inode))

    def losses(self, inode: int) -> tuple[int, int]:
        """Records of this network namespace that found no room, and calls whose plaintext was cut, since `admit`."""
        value = bpf.lookup(self._maps.counters, struct.pack("=I", inode), COUNTERS.size)
        lost, _, cut = (0, 0, 0) if value is None else COUNTERS.struct.unpack(value)
        return lost, cut

    def began_in(self, process: int) -> int | None:
        """The inode of the network namespace in which a process has begun a program; None where that has no ring. It
        is told once."""
        key = struct.pack("=Q", process)
        value = bpf.lookup(self._maps.began, key, 8)
        bpf.delete(self._maps.began, key)
        return None if value is None else int.from_bytes(value, sys.byteorder)

    def forget(self, processes: Iterable[int]) -> None:
        """Remove what the maps have of processes that have ended."""
        ended = set(processes)
        for descriptor, most in (
            (self._maps.calls, layout.MOST_CALLS),
            (self._maps.connections, layout.MOST_CONNECTIONS),
        ):
            for key in list(bpf.keys(descriptor, layout.KEY_SIZE, most)):
                (owner,) = struct.unpack_from("=Q", key)
                if owner in ended or owner >> 32 in ended:
                    bpf.delete(descriptor, key)

    # Files.

    def attach(self, key: object, path: str, verdict: FileVerdict, pid: int | None = None) -> None:
        """Attach the programs of a library to a file, in one process or (None) in all. `key` is for `detach`. Raises
        OSError."""
        if verdict.known is None or key in self._links:
            return
        places = dict(verdict.places)
        # One link for each program, with all places where it is attached.
        wanted: dict[tuple[int, bool], list[int]] = {}
        for name, program, returning in self._probes[verdict.known.name]:
            place = places.get(name)
            if place is not None:
                explicit = place.returns if returning else None
                offsets = [place.entry] if explicit is None else explicit
                wanted.setdefault((program, returning and explicit is None), []).extend(offsets)
        links = self._links[key] = []
        try:
            for (program, returning), offsets in wanted.items():
                links += bpf.attach_functions(self._way, program, path, offsets, returning=returning, pid=pid)
        except OSError:
            self.detach(key)
            raise

    def detach(self, key: object) -> None:
        """Remove the programs of a file, which may have none."""
        _close_together(self._links.pop(key, []))

    def close(self) -> None:
        """Remove everything."""
        _close_together([link for links in self._links.values() for link in links])
        for descriptor in self._loaded.values():
            os.close(descriptor)
        self._maps.close()

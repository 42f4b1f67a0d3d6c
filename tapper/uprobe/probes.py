"""The programs in the kernel, and where they are attached."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

from tapper.runtime.threads import on_threads
from tapper.uprobe import bpf, layout
from tapper.uprobe.bpf import Way
from tapper.uprobe.btf import Btf
from tapper.uprobe.layout import COUNTERS, REGISTERS
from tapper.uprobe.libraries import Probe, probes
from tapper.uprobe.programs import Programs
from tapper.uprobe.readable import FileVerdict

_TOGETHER: Final = 64


def _close_together(links: Sequence[int]) -> None:
    """Close links on several threads: for each the kernel waits until no processor runs its program any more."""
    on_threads([partial(os.close, link) for link in links], _TOGETHER)


class Probes:
    """Programs take what processes do in the network namespaces that `admit` was called for. Construction raises
    TapperError and OSError. Closing removes everything; the kernel does the same when this process ends."""

    def __init__(self, btf: Btf, machine: str, way: Way) -> None:
        self._maps = layout.create_maps()
        self._programs = Programs(self._maps, layout.offsets(btf), REGISTERS[machine])
        self._way = way
        self._loaded: dict[bytes, int] = {}
        """The descriptors of programs, by their code."""
        self._links: dict[object, list[int]] = {}
        self._attached: dict[str, list[Probe]] = {}

    def watch_sockets(self) -> None:
        """Attach the programs that tie connections to sockets, and tell of ends of processes."""
        programs = self._programs
        self._watch("sched_process_exit", programs.ended(whole=False))
        self._watch("sched_process_exec", programs.ended(whole=True))
        try:
            self._watch("sock_recv_length", programs.socket_used(sends=False))
            self._watch("sock_send_length", programs.socket_used(sends=True))
        except FileNotFoundError:  # before Linux 6.3: then only a socket on which something has come is known
            self._watch("tcp_rcv_space_adjust", programs.socket_used(sends=False, tells_length=False))

    def _watch(self, tracepoint: str, code: bytes) -> None:
        self._loaded[code] = bpf.load(bpf.PROG_RAW_TRACEPOINT, code)
        self._links[tracepoint] = [bpf.attach_tracepoint(tracepoint, self._loaded[code])]

    # Network namespaces.

    def admit(self, inode: int, ring: int) -> None:
        """From now on the plaintext of the network namespace with this inode goes to the ring with this descriptor."""
        key = struct.pack("=I", inode)
        bpf.update(self._maps.counters, key, bytes(COUNTERS.size))
        bpf.update(self._maps.rings, key, struct.pack("=I", ring))

    def dismiss(self, inode: int) -> None:
        """Nothing more of this network namespace."""
        bpf.delete(self._maps.rings, struct.pack("=I", inode))

    def losses(self, inode: int) -> tuple[int, int]:
        """Records of this network namespace that found no room, and calls whose plaintext was cut, since `admit`."""
        value = bpf.lookup(self._maps.counters, struct.pack("=I", inode), COUNTERS.size)
        lost, _, cut = (0, 0, 0) if value is None else COUNTERS.unpack(value)
        return lost, cut

    def forget(self, processes: Iterable[int]) -> None:
        """Remove what the maps have of processes that have ended."""
        ended = set(processes)
        for descriptor, size, most in (
            (self._maps.calls, layout.CALL_KEY_SIZE, layout.MOST_CALLS),
            (self._maps.connections, layout.CONNECTION_KEY_SIZE, layout.MOST_CONNECTIONS),
        ):
            for key in list(bpf.keys(descriptor, size, most)):
                (owner,) = struct.unpack_from("=Q", key)
                if owner in ended or owner >> 32 in ended:
                    bpf.delete(descriptor, key)

    # Files.

    def attach(self, key: object, path: str, verdict: FileVerdict, pid: int | None = None) -> None:
        """Attach the programs of a library to a file, in one process or (None) in all. `key` is for `detach`. Raises
        OSError."""
        library = verdict.known
        if library is None or key in self._links:
            return
        places = dict(verdict.places)
        if library.name not in self._attached:
            self._attached[library.name] = probes(library, self._programs)
        links = self._links[key] = []
        # One link for each program, with all places where it is attached.
        wanted: dict[tuple[bytes, bool], list[int]] = {}
        for probe in self._attached[library.name]:
            place = places.get(probe.name)
            if place is None:
                continue
            if not probe.returning:
                wanted.setdefault((probe.code, False), []).append(place.entry)
            elif place.returns is None:
                wanted.setdefault((probe.code, True), []).append(place.entry)
            else:
                wanted.setdefault((probe.code, False), []).extend(place.returns)
        try:
            # What ends a call is attached first: a call without an end would stay.
            for (code, returning), offsets in reversed(wanted.items()):
                program = self._load(code)
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
        self._links.clear()
        for descriptor in [*self._loaded.values(), *self._maps.descriptors()]:
            os.close(descriptor)
        self._loaded.clear()

    def _load(self, code: bytes) -> int:
        if code not in self._loaded:
            self._loaded[code] = bpf.load(bpf.PROG_KPROBE, code, self._way)
        return self._loaded[code]

"""Sources follow the Envoys of targets.

A look at all processes finds new ones and those that went; the death of a known one is told by the kernel through its
pidfd and causes a look at once. A source is closed only on evidence: its Envoys died, or were looked at and are Envoys
of a target no longer. A look that failed, or did not see everything, closes nothing.

Before a namespace is captured in, it is asked for its own addresses: an INSTANCE_IP is what a process says of itself.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tapper.capture import bpf
from tapper.capture.namespace import SYS_ADMIN_ADVICE, may_enter_namespaces, run_inside
from tapper.capture.ring import Ring, open_ring
from tapper.capture.sources import Sources
from tapper.discovery.envoy import Envoy, is_envoy_path
from tapper.discovery.interfaces import own_addresses
from tapper.discovery.netns import NamespaceId
from tapper.discovery.procfs import Procfs
from tapper.discovery.scanner import Scan, scan, unexamined
from tapper.errors import MissingCapabilityError, NamespaceGoneError, TapperError
from tapper.output.records import Place
from tapper.output.sink import Console
from tapper.streams.connection import Scope
from tapper.targets.addresses import Address

Add: TypeAlias = Callable[[NamespaceId, Ring, Place, Scope], None]

_SHORTEST_INTERVAL_S = 0.5
_SCAN_SHARE = 20  # a scan may take a twentieth of the time


@dataclass(slots=True)
class _Followed:
    """A source that is open, or still drained."""

    addresses: frozenset[Address]
    """It is a target's as long as one of these is a target."""
    pids: set[int] = field(default_factory=set)
    """The processes by which its namespace was found, as of the last look that saw them."""


class Follower:
    """Opens sources in the namespaces of targets, by `add`, and shuts them when their Envoys are gone."""

    def __init__(
        self,
        procfs: Procfs,
        sources: Sources[Any],
        console: Console,
        add: Add,
        drop: Callable[[NamespaceId], None],
        targets: frozenset[Address],
        *,
        verify: bool = False,
    ) -> None:
        self._procfs = procfs
        self._sources = sources
        self._console = console
        self._add = add
        self._drop = drop
        self._verify = verify
        self._targets = targets
        self._followed: dict[NamespaceId, _Followed] = {}
        """What there is to know about the open sources."""
        self._said_unseen: set[Address] = set()
        self._pidfds: dict[int, int] = {}
        self._watch_deaths = False
        self.next_look = 0.0
        """When to look again, by time.monotonic."""

    def begin(self) -> None:
        """The first look. Raises TapperError for what makes following impossible."""
        if not may_enter_namespaces():
            raise MissingCapabilityError(SYS_ADMIN_ADVICE)
        self._watch_deaths = self._procfs.numbers_are_ours()
        found = scan(self._procfs, self._targets)
        self._follow(found)
        if found.unreadable:
            self._console.warn(unexamined(found))
        self.next_look = time.monotonic() + _SHORTEST_INTERVAL_S

    def retarget(self, targets: frozenset[Address]) -> None:
        """Other targets: sources of those that are none any longer are dropped; the next look finds the new ones."""
        self._targets = targets
        for netns, followed in list(self._followed.items()):
            if netns in self._sources and not followed.addresses & targets:
                self._drop(netns)
        self._said_unseen &= targets
        self.next_look = time.monotonic()

    def look(self) -> bool:
        """Look at all processes again, and follow what has changed. Returns whether there was anything to see."""
        started = time.monotonic()
        followed = True
        try:
            found = scan(self._procfs, self._targets)
        except TapperError as error:
            self._console.warn_once(("scan", str(error)), f"{error}; what is open stays open")
            followed = False
        else:
            self._follow(found)
        now = time.monotonic()
        self.next_look = now + max(_SHORTEST_INTERVAL_S, _SCAN_SHARE * (now - started))
        return followed

    def release(self) -> None:
        """Let go of processes. In good order nothing is left to do."""
        for descriptor in self._pidfds.values():
            os.close(descriptor)

    def _follow(self, found: Scan) -> None:
        """Open what is new, close what is certainly gone."""
        envoys: dict[NamespaceId, list[Envoy]] = {}
        for envoy in found.envoys:
            envoys.setdefault(envoy.netns, []).append(envoy)
            self._watch_process(envoy)
        for netns, group in envoys.items():
            if netns in self._sources or any(self._open(envoy) for envoy in group):
                self._followed[netns].pids = {envoy.pid for envoy in group}
        matched = {envoy.pid for envoy in found.envoys}
        for netns, followed in list(self._followed.items()):
            if netns not in self._sources:
                del self._followed[netns]
            elif netns not in envoys and not any(self._in_doubt(pid, found) for pid in followed.pids):
                self._sources.shut(netns)
        for pid in [pid for pid in self._pidfds if pid in found.seen and pid not in matched]:
            self._forget_process(pid)
        self._say_unseen({envoy.instance_ip for envoy in found.envoys})

    def _say_unseen(self, found: set[Address]) -> None:
        """Once for each target: silence about it would look like nothing having been sent."""
        for address in sorted(map(str, self._targets - found - self._said_unseen)):
            self._console.warn(
                f"no Envoy with INSTANCE_IP {address} yet: until there is, only the node sees its traffic"
            )
        self._said_unseen |= self._targets

    def _in_doubt(self, pid: int, found: Scan) -> bool:
        """Whether a former Envoy may still be one: it could not be read, or lives although the scan did not see it."""
        return pid in found.unreadable or (pid in self._pidfds and pid not in found.seen)

    # Opening.

    def _open(self, envoy: Envoy) -> bool:
        """Open a source in an Envoy's namespace. A failure is told once and costs nobody else anything."""
        path = self._procfs.namespace_path(envoy.pid)
        try:
            doubt = self._doubt(path, envoy)
            if doubt is not None and self._verify:
                self._warn(envoy, "is not captured (--verify)", doubt)
                return False
            ring = run_inside(path, envoy.netns, lambda: open_ring("lo", bpf.program()))
        except NamespaceGoneError:
            return False
        except TapperError as error:
            self._warn(envoy, "is not captured", str(error))
            return False
        if not self._still_is(envoy):
            ring.close()
            return False
        if doubt is not None:
            self._warn(envoy, "is captured unverified (--verify refuses it)", doubt)
        address = str(envoy.instance_ip)
        place = Place("pod", envoy.netns.inode, "lo", envoy.pid, address, verified=doubt is None)
        self._followed[envoy.netns] = _Followed(frozenset({envoy.instance_ip}))
        self._add(envoy.netns, ring, place, Scope(address, None))
        return True

    def _doubt(self, path: str, envoy: Envoy) -> str | None:
        """Why an Envoy may not be the one of the pod that it names; None where its namespace has the address.

        Raises NamespaceGoneError.
        """
        try:
            owned = run_inside(path, envoy.netns, own_addresses)
        except NamespaceGoneError:
            raise
        except TapperError as error:
            return str(error)
        return doubt(envoy.instance_ip, owned)

    def _warn(self, envoy: Envoy, fate: str, reason: str) -> None:
        self._console.warn_once(
            (envoy.netns, envoy.instance_ip, fate, reason),
            f"the pod {envoy.instance_ip} (pid {envoy.pid}) {fate}: {reason}",
        )

    def _still_is(self, envoy: Envoy) -> bool:
        exe = self._procfs.exe(envoy.pid)
        return exe is not None and is_envoy_path(exe) and self._procfs.netns(envoy.pid) == envoy.netns

    # Deaths.

    def _watch_process(self, envoy: Envoy) -> None:
        """Have the kernel tell of its death. Where process ids mean something else here, further looks have to do."""
        if not self._watch_deaths or envoy.pid in self._pidfds:
            return
        try:
            descriptor = os.pidfd_open(envoy.pid)
        except OSError as error:
            if not isinstance(error, ProcessLookupError):
                self._console.warn_once("pidfd", f"deaths are noticed by scanning only: {error.strerror}")
            return
        self._pidfds[envoy.pid] = descriptor
        self._sources.watch(descriptor, select.POLLIN, lambda: self._died(envoy.pid))

    def _died(self, pid: int) -> None:
        self._forget_process(pid)
        self.next_look = time.monotonic()

    def _forget_process(self, pid: int) -> None:
        descriptor = self._pidfds.pop(pid)
        self._sources.unwatch(descriptor)
        os.close(descriptor)


def doubt(claimed: Address, owned: frozenset[Address]) -> str | None:
    """Why a process that claims an address may not be of the pod that has it; None where its namespace has it."""
    if claimed in owned:
        return None
    has = ", ".join(sorted(map(str, owned))) or "none"
    return f"its network namespace does not have the address of its INSTANCE_IP, but {has}"

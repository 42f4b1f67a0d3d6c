"""The records that formats write besides exchanges and facts: places, counts, processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple, TypeAlias

from tapper.discovery.finders import Finding
from tapper.namespaces.identity import NamespaceId
from tapper.streams.bounds import Tally
from tapper.streams.legs import Direction
from tapper.targets.addresses import Address
from tapper.targets.pods import PodName

Owned: TypeAlias = Mapping[NamespaceId, frozenset[Address]]
"""The addresses of each network namespace that could be asked."""


@dataclass(frozen=True, slots=True)
class Place:
    """The place where a source captures: an interface in a network namespace."""

    kind: str
    """`node` or `pod`; `file` for a source that is read from a capture file."""
    netns: int | None
    """The namespace's inode, as `readlink /proc/PID/ns/net` shows it; None for a file."""
    interface: str
    """The interface's name, or `any`."""
    pid: int | None = None
    """The process by which the namespace was found."""
    instance_ip: str | None = None
    verified: bool | None = None
    """True if the namespace itself has the address `instance_ip`; None for the node's source."""
    found_by: str | None = None
    """How the namespace was found: `envoy`, `linkerd` or `netns`."""
    pods: Mapping[str, PodName] = field(default_factory=dict)
    """The known names of pods, by address."""
    name: PodName | None = None
    """The pod's name as its own proxy has it. A name in `pods` takes precedence."""

    @property
    def identity(self) -> tuple[str, int | None, str, str | None]:
        """The members that stay the same when a source is opened again. The names of pods may change meanwhile."""
        return self.kind, self.netns, self.interface, self.instance_ip

    def name_of(self, address: str | None) -> PodName | None:
        """The name of the pod that has this address; None where it is not known."""
        return self.pods.get(address or "") or (self.name if address == self.instance_ip else None)

    def __str__(self) -> str:
        if self.kind == "file":
            return f"{self.interface} of {self.instance_ip or 'a file'}"
        whose = f"pod {self.instance_ip} (pid {self.pid})" if self.instance_ip else "this node"
        return f"{self.interface} of {whose}, network namespace {self.netns}"


def verified(process: Finding, owned: Owned) -> bool | None:
    """True if an Envoy's namespace has the address that the Envoy claims; None if that is not known, and for other
    processes."""
    if process.address is None or process.netns is None or process.netns not in owned:
        return None
    return process.address in owned[process.netns]


def reason(process: Finding, owned: Owned) -> str | None:
    """Why a process is not the Envoy of a target, or does not prove its network namespace to be a target's."""
    return "its network namespace does not have that address" if verified(process, owned) is False else process.reason


@dataclass(frozen=True, slots=True)
class TlsProcess:
    """A process of a pod that does TLS itself."""

    pod_ip: str
    pid: int
    program: str
    """The name of its executable."""
    library: str
    """The TLS library, as far as it is known."""
    reason: str | None
    """Why its plaintext cannot be read: a phrase for a person. None if it can."""


@dataclass(frozen=True, slots=True)
class Stat:
    """The packets of one source."""

    received: int
    dropped: int
    """Lost because the ring was full, as the kernel counted them."""
    cut: int = 0
    """Captured only in part."""
    bad_checksum: int = 0
    """Left out because of a wrong checksum, as their receiver drops them."""
    unread: int = 0
    """Received, but not read, because the time for it had ended."""
    postponed: int = 0
    """How often the source was put back, because it had spent its share of the time while others had packets."""


@dataclass(slots=True)
class Totals:
    """The counts of a source, or of a whole run."""

    exchanges: int = 0
    incomplete: int = 0
    """Exchanges whose request, response or header fields are missing; they are among `exchanges`."""
    filtered: int = 0
    """Exchanges that the filters left out; they are not among `exchanges`."""
    sources: int = 0
    received: int = 0
    dropped: int = 0
    cut: int = 0
    bad_checksum: int = 0
    unread: int = 0
    postponed: int = 0
    malformed: int = 0
    mesh: int = 0
    connections: int = 0
    gaps: int = 0
    gap_bytes: int = 0
    given_up: int = 0
    refused: int = 0
    """Connection attempts that a RST answered; not all of them have a record."""
    undecoded: dict[str, int] = field(default_factory=dict)
    """Connections that were not HTTP, by kind."""
    passed_over: dict[str, int] = field(default_factory=dict)
    """Packets that were not looked into, by protocol."""

    def copy(self) -> Totals:
        return replace(self, undecoded=dict(self.undecoded), passed_over=dict(self.passed_over))

    def add(self, *parts: Stat | Tally | Totals) -> None:
        """Add counts by their names: of a source's packets and streams, or all counts of another source or run."""
        for part in parts:
            for count in fields(self):
                mine: Any = getattr(self, count.name)
                further: Any = getattr(part, count.name, 0)
                if isinstance(mine, dict):
                    for kind, number in (further or {}).items():
                        mine[kind] = mine.get(kind, 0) + number
                else:
                    setattr(self, count.name, mine + further)


class LegKey(NamedTuple):
    """A pod, and a direction of its exchanges."""

    pod_ip: str | None
    name: PodName | None
    direction: Direction


@dataclass(slots=True)
class Seen:
    """Numbers of exchanges, and of those among them that are incomplete."""

    exchanges: int = 0
    incomplete: int = 0


@dataclass(slots=True)
class Row:
    """The counts of one source, open or closed."""

    place: Place
    counts: Totals
    legs: dict[LegKey, Seen]

    def plus(self, later: Row) -> Row:
        """The sum with the counts of the same source, which was opened again."""
        counts = self.counts.copy()
        counts.add(later.counts)
        legs = {key: Seen(seen.exchanges, seen.incomplete) for key, seen in self.legs.items()}
        for key, seen in later.legs.items():
            mine = legs.setdefault(key, Seen())
            mine.exchanges += seen.exchanges
            mine.incomplete += seen.incomplete
        return Row(_named(later.place, self.place), counts, legs)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All counts at one moment."""

    rows: list[Row]
    sources: int
    """Number of open sources."""
    targets: int
    """Number of addresses."""


def _named(place: Place, before: Place) -> Place:
    return place if place.instance_ip in place.pods or before.instance_ip not in before.pods else before

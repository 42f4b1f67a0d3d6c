"""What there is to say besides exchanges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple, Protocol, TypeAlias

from tapper.discovery.envoy import Envoy, Refused
from tapper.discovery.finders import Finder, Resident
from tapper.namespaces.identity import NamespaceId
from tapper.protocols.records import ExchangeRecord, FactRecord
from tapper.streams.bounds import Tally
from tapper.streams.legs import Direction
from tapper.targets.addresses import Address
from tapper.targets.pods import PodName

Listed: TypeAlias = Envoy | Refused | Resident
"""A process that `tapper discover` shows."""

Owned: TypeAlias = Mapping[NamespaceId, frozenset[Address]]
"""What addresses network namespaces have, of those that could be asked."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a source captures."""

    kind: str
    """`node` or `pod`; `file` for what was captured before."""
    netns: int | None
    """The namespace's inode, as `readlink /proc/PID/ns/net` shows it; None where a file does not tell."""
    interface: str
    """An interface's name, or `any`."""
    pid: int | None = None
    """The Envoy by which the namespace was found."""
    instance_ip: str | None = None
    verified: bool | None = None
    """Whether the namespace itself has `instance_ip`; None for the node's source."""
    found_by: str | None = None
    """How the namespace was found: `envoy`, `linkerd` or `netns`."""
    pods: Mapping[str, PodName] = field(default_factory=dict)
    """The names of pods by address, of those that are known."""
    name: PodName | None = None
    """The pod's name as its own proxy has it; `pods` knows better."""

    @property
    def identity(self) -> tuple[str, int | None, str, str | None]:
        """What stays the same of a place, also when its source is opened again; the names of pods may change."""
        return self.kind, self.netns, self.interface, self.instance_ip

    def name_of(self, address: str | None) -> PodName | None:
        """The name of the pod that has this address; None where it is not known."""
        return self.pods.get(address or "") or (self.name if address == self.instance_ip else None)

    def __str__(self) -> str:
        if self.kind == "file":
            return f"{self.interface} of {self.instance_ip or 'a file'}"
        whose = f"pod {self.instance_ip} (pid {self.pid})" if self.instance_ip else "this node"
        return f"{self.interface} of {whose}, network namespace {self.netns}"


def found_by(process: Listed) -> str | None:
    """How a process was found: `envoy`, `linkerd` or `netns`; None where it is none of what was looked for."""
    if isinstance(process, Refused):
        return None
    return str(process.found_by if isinstance(process, Resident) else Finder.ENVOY)


def verified(process: Listed, owned: Owned) -> bool | None:
    """Whether an Envoy's namespace has the address that it claims; None where that is not known, or no Envoy's."""
    if not isinstance(process, Envoy) or process.netns not in owned:
        return None
    return process.instance_ip in owned[process.netns]


def reason(process: Listed, owned: Owned) -> str | None:
    """What speaks against a process being the Envoy of a target, or living in a target's namespace."""
    if not isinstance(process, Envoy):
        return process.reason
    return "its network namespace does not have that address" if verified(process, owned) is False else None


@dataclass(frozen=True, slots=True)
class Stat:
    """The packets of one source."""

    received: int
    dropped: int
    """Lost for want of room in the ring, as the kernel counted them."""
    cut: int = 0
    """Captured in part only."""
    bad_checksum: int = 0
    """Left out for a wrong checksum: their receiver refuses them."""


@dataclass(slots=True)
class Totals:
    """What a source or a whole run came to."""

    exchanges: int = 0
    incomplete: int = 0
    """Those of the exchanges of which request, response or fields are missing."""
    filtered: int = 0
    """Exchanges that were seen and, by the person's filters, not reported; not among `exchanges`."""
    sources: int = 0
    received: int = 0
    dropped: int = 0
    cut: int = 0
    bad_checksum: int = 0
    malformed: int = 0
    mesh: int = 0
    connections: int = 0
    gaps: int = 0
    gap_bytes: int = 0
    given_up: int = 0
    undecoded: dict[str, int] = field(default_factory=dict)
    """Connections that carried no HTTP, by kind."""

    def copy(self) -> Totals:
        return replace(self, undecoded=dict(self.undecoded))

    def add(self, stat: Stat, tally: Tally) -> None:
        """What became of one source's packets and streams."""
        self.received += stat.received
        self.dropped += stat.dropped
        self.cut += stat.cut
        self.bad_checksum += stat.bad_checksum
        self.malformed += tally.malformed
        self.mesh += tally.mesh
        self.connections += tally.connections
        self.gaps += tally.gaps
        self.gap_bytes += tally.gap_bytes
        self.given_up += tally.given_up

    def merge(self, other: Totals) -> None:
        """Everything that another came to."""
        for each in fields(self):
            if each.name != "undecoded":
                setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))
        for kind, count in other.undecoded.items():
            self.undecoded[kind] = self.undecoded.get(kind, 0) + count


class LegKey(NamedTuple):
    """Of whose exchanges, and in which direction."""

    pod_ip: str | None
    name: PodName | None
    direction: Direction


@dataclass(slots=True)
class Seen:
    """Exchanges, and those of them that have something missing."""

    exchanges: int = 0
    incomplete: int = 0


@dataclass(slots=True)
class Row:
    """The counts of one source, whether open or not."""

    place: Place
    counts: Totals
    legs: dict[LegKey, Seen]

    def plus(self, later: Row) -> Row:
        """Together with the same source's when it was opened again."""
        counts = self.counts.copy()
        counts.merge(later.counts)
        legs = {key: Seen(seen.exchanges, seen.incomplete) for key, seen in self.legs.items()}
        for key, seen in later.legs.items():
            mine = legs.setdefault(key, Seen())
            mine.exchanges += seen.exchanges
            mine.incomplete += seen.incomplete
        return Row(_named(later.place, self.place), counts, legs)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that was counted, as of one moment."""

    rows: list[Row]
    sources: int
    """How many are open."""
    targets: int
    """Addresses."""


def _named(place: Place, before: Place) -> Place:
    return place if place.instance_ip in place.pods or before.instance_ip not in before.pods else before


class Format(Protocol):
    """Turns records into text to write, each ending in a line feed; empty where this format has nothing to say."""

    def hello(self, version: str, pid: int, /) -> str: ...

    def source(self, state: str, place: Place, /) -> str: ...

    def ack(self, generation: int, /) -> str: ...

    def exchange(self, place: Place, record: ExchangeRecord, /) -> str: ...

    def fact(self, place: Place, record: FactRecord, /) -> str: ...

    def stat(self, place: Place | None, counts: Totals, /, *, so_far: bool = False) -> str: ...

    def bye(self, totals: Totals, /) -> str: ...

    def ending(self) -> str:
        """What makes the output whole behind any record, where there is no room for `bye`."""
        ...

    def processes(self, found: Sequence[Listed], owned: Owned, /) -> str: ...


class Silent:
    """A Format that says nothing: as it is beside a Recorder, since a file of packets has no records; elsewhere what
    other formats override where they have something to say."""

    def hello(self, _version: str, _pid: int) -> str:
        return ""

    def source(self, _state: str, _place: Place) -> str:
        return ""

    def ack(self, _generation: int) -> str:
        return ""

    def fact(self, _place: Place, _record: FactRecord) -> str:
        return ""

    def exchange(self, _place: Place, _record: ExchangeRecord) -> str:
        return ""

    def stat(self, _place: Place | None, _counts: Totals, *, so_far: bool = False) -> str:  # noqa: ARG002
        return ""

    def ending(self) -> str:
        return ""

    def bye(self, _totals: Totals) -> str:
        return ""

    def processes(self, _found: Sequence[Listed], _owned: Owned) -> str:
        return ""

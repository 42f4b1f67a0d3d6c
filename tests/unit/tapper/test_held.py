"""What waits until the wire was read as far. Packets come from the future, so that no clock lets anything go."""

from __future__ import annotations

import time
from dataclasses import replace
from ipaddress import ip_address

import pytest
from tapper_wire import Capture, Wire, get, ok

from tapper.held import Held
from tapper.output.records import Place
from tapper.protocols.beneath import Beneath
from tapper.protocols.facts import Note, Tls
from tapper.protocols.session import Sighting
from tapper.streams.connection import Scope
from tapper.streams.connection import Wire as Kind

PLACE = Place("pod", 1, "lo", 77, "10.0.0.2")
FUTURE = time.time_ns() + 10**12
GRACE = 20_000_000
TLS = b"\x16\x03\x01\x00\x05hello"


class World:
    def __init__(self, now: int = FUTURE) -> None:
        self.node = Capture(Scope(None, frozenset({ip_address("10.0.0.2").packed})))
        self.pod = Capture()
        self.node.ts = self.pod.ts = now
        self.held = Held(Beneath(self.node.connections))
        wire = Wire((("10.0.0.3", 40000), ("10.0.0.2", 8080)))
        self.node.feed([*wire.handshake(), wire.ask(TLS), wire.answer(TLS)])
        leg = Wire((("127.0.0.6", 40000), ("10.0.0.2", 8080)))
        self.pod.ts = self.node.ts
        self.pod.feed([*leg.handshake(), leg.ask(get("/a")), leg.answer(ok("x"))])
        (self.seen,) = self.pod.seen
        self.end = self.pod.ts

    def put(self, key: str = "pod", seen: Sighting | Note | None = None) -> None:
        self.held.put(key, PLACE, self.pod.connections, seen or self.seen)

    def ready(self, *, everything: bool = False) -> list[Sighting | Note]:
        return [seen for _, seen in self.held.ready(everything=everything)]


def known(seen: Sighting | Note) -> Sighting | Note:
    return replace(seen, leg=replace(seen.leg, wire=Kind.TLS))


def test_it_waits_until_the_wire_is_read_past_its_end() -> None:
    world = World()
    world.put()
    assert world.ready() == []
    world.held.wire_read((), world.end + GRACE - 1)
    assert world.ready() == []
    world.held.wire_read((), world.end + GRACE)
    assert world.ready() == [known(world.seen)]
    assert len(world.held) == 0


def test_time_alone_lets_it_go() -> None:
    """Nothing passes the wire any more; what it brought has been handed over by then."""
    world = World(time.time_ns() - 10**9)
    world.put()
    assert world.ready() == [known(world.seen)]


def test_what_leaves_early_is_not_known() -> None:
    world = World()
    world.put()
    assert world.ready(everything=True) == [world.seen]
    world.put()
    world.put("other")
    assert [seen for _, seen in world.held.of("pod")] == [world.seen]
    assert len(world.held) == 1


def test_what_nobody_wants_any_longer_is_gone() -> None:
    world = World()
    world.put()
    world.held.drop("pod")
    assert world.ready(everything=True) == []


def test_notes_wait_as_well_and_the_order_stays() -> None:
    world = World()
    note = Note(world.seen.leg, Tls(world.end, None, ()))
    world.put()
    world.put(seen=note)
    world.held.wire_read((), world.end + GRACE)
    assert world.ready() == [known(world.seen), known(note)]


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tapper.held._MOST", 3)
    world = World()
    for _ in range(5):
        world.put()
    assert world.ready() == [world.seen] * 2
    assert len(world.held) == 3

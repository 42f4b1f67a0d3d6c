"""Records wait until the wire is read as far. Packets come from the future, so that no clock lets a record leave."""

from __future__ import annotations

import time
from dataclasses import replace
from ipaddress import ip_address

import pytest
from tapper_wire import Capture, Wire, endpoint, get, ok

from tapper.output.records import Place
from tapper.protocols.cost import cost_of
from tapper.protocols.facts import Tls
from tapper.protocols.records import FactRecord, Record
from tapper.run.accounts import Account
from tapper.run.pending import PendingRecords
from tapper.streams.connection import Scope
from tapper.streams.connection import WireSecurity as Kind
from tapper.wire.verdict import WireVerdict

PLACE = Place("pod", 1, "lo", 77, "10.0.0.2")
GRACE = 20_000_000
TLS = b"\x16\x03\x01\x00\x05hello"


class World:
    def __init__(self, now: int | None = None) -> None:
        """`now` is the time of the first packet, in nanoseconds since 1970."""
        # a thousand seconds from this very moment: a module's constant would be the past late in a long session
        now = time.time_ns() + 10**12 if now is None else now
        self.node = Capture(Scope(None, frozenset({ip_address("10.0.0.2").packed})))
        self.pod = Capture()
        self.node.ts = self.pod.ts = now
        self.drained = False
        self.pending = PendingRecords(WireVerdict(self.node.connections), lambda: self.drained)
        wire = Wire((("10.0.0.3", 40000), ("10.0.0.2", 8080)))
        self.node.feed([*wire.handshake(), wire.ask(TLS), wire.answer(TLS)])
        leg = Wire((("127.0.0.6", 40000), ("10.0.0.2", 8080)))
        self.pod.ts = self.node.ts
        self.pod.feed([*leg.handshake(), leg.ask(get("/a")), leg.answer(ok("x"))])
        (self.seen,) = self.pod.seen
        self.end = self.pod.ts
        self.account = self.open()

    def open(self) -> Account:
        return Account(PLACE, self.pod.connections, self.pod.connections)

    def put(self, account: Account | None = None, seen: Record | None = None) -> None:
        self.pending.add(account or self.account, iter([seen or self.seen]))

    def ready(self) -> list[Record]:
        return [seen for _, seen in self.pending.ready()]


def known(seen: Record) -> Record:
    return replace(seen, leg=replace(seen.leg, wire=Kind.TLS))


def test_a_record_waits_until_the_wire_is_read_past_its_end() -> None:
    world = World()
    world.put()
    assert world.ready() == []
    world.pending.wire_read((), world.end + GRACE - 1)
    assert world.ready() == []
    world.pending.wire_read((), world.end + GRACE)
    assert world.ready() == [known(world.seen)]
    assert len(world.pending) == 0


def test_a_record_leaves_after_a_time() -> None:
    """Nothing passes the wire any more; what it brought has been handed over by then."""
    world = World(time.time_ns() - 10**9)
    world.put()
    assert world.ready() == [known(world.seen)]


def test_a_record_that_leaves_early_has_no_verdict() -> None:
    world = World()
    world.put()
    world.put(world.open())
    assert [seen for _, seen in world.pending.of(world.account)] == [world.seen]
    assert len(world.pending) == 1


def test_at_the_end_all_records_leave() -> None:
    world = World()
    world.put()
    assert list(world.pending.rest()) == [(world.account, known(world.seen))]
    assert len(world.pending) == 0


def test_a_final_verdict_waits_only_until_the_ring_is_empty() -> None:
    world = World()
    world.put()
    world.drained = True
    assert world.ready() == [known(world.seen)]


def test_a_record_without_wire_connections_waits_only_until_the_ring_is_empty() -> None:
    world = World()
    stranger = replace(world.seen, leg=replace(world.seen.leg, dst=endpoint("10.0.0.9:8080")))
    world.put(seen=stranger)
    assert world.ready() == []
    world.drained = True
    assert world.ready() == [stranger]


def test_records_from_before_the_ring_was_empty_may_bypass() -> None:
    world = World(time.time_ns() - 10**9)
    account = Account(PLACE, Capture().connections, Capture().connections)  # of a pod of which no wire is known
    blind = PendingRecords(WireVerdict(Capture().connections), lambda: world.drained)
    assert not blind.may_bypass(account)
    world.drained = True
    assert blind.may_bypass(account)
    world.drained = False
    account.connections.newest = time.time_ns() - 1  # of packets that were captured before that
    assert not blind.may_bypass(account)
    account.connections.newest -= 10**9
    assert blind.may_bypass(account)


def test_a_verdict_by_content_waits_for_the_end_of_the_exchange_on_the_wire() -> None:
    """The response passes lo before it passes the wire; and nothing overtakes what waits."""
    world = World()
    plain = Wire((("10.0.0.4", 41000), ("10.0.0.2", 8080)), None, 5_000_000, 7_000_000)
    world.node.ts = world.seen.exchange.ts - 5_000_000
    world.node.feed([*plain.handshake(), plain.ask(get("/a"))])
    stranger = replace(world.seen, leg=replace(world.seen.leg, dst=endpoint("10.0.0.9:8080")))
    world.put()
    world.put(seen=stranger)
    world.drained = True
    assert world.ready() == []
    world.node.ts = world.end
    world.node.feed([plain.answer(ok("x"))])
    world.pending.wire_read(world.node.seen, world.end + GRACE)
    told = [replace(world.seen, leg=replace(world.seen.leg, wire=Kind.PLAIN)), stranger]
    assert world.ready() == told


def test_the_records_of_a_dropped_source_are_forgotten() -> None:
    world = World()
    world.put()
    world.put(world.open())
    world.pending.drop(world.account)
    assert [account is world.account for account, _ in world.pending.rest()] == [False]


def test_facts_wait_as_well_and_the_order_stays() -> None:
    world = World()
    fact = FactRecord(world.seen.leg, Tls(world.end, None, ()))
    world.put()
    world.put(seen=fact)
    world.pending.wire_read((), world.end + GRACE)
    assert world.ready() == [known(world.seen), known(fact)]


def test_the_number_of_pending_records_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tapper.run.pending.MOST_PENDING", 3)
    world = World()
    for _ in range(5):
        world.put()
    assert world.ready() == [world.seen] * 2
    assert len(world.pending) == 3


def test_the_bytes_of_pending_records_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after a source's records were dropped."""
    world = World()
    monkeypatch.setattr("tapper.run.pending.MOST_PENDING_BYTES", 3 * cost_of(world.seen))
    other = world.open()
    world.put(other)
    world.pending.drop(other)
    for _ in range(5):
        world.put()
    assert world.ready() == [world.seen] * 2
    assert len(world.pending) == 3

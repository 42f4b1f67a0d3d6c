"""What each source came to, and the table of it."""

from __future__ import annotations

from dataclasses import replace

from tapper_wire import Capture, Wire

from tapper.output.counts import table
from tapper.output.records import LegKey, Place, Row, Seen, Stat, Totals
from tapper.protocols.detect import Kind
from tapper.protocols.records import ExchangeRecord
from tapper.run import accounts
from tapper.run.accounts import Account, Books
from tapper.streams.connection import Scope
from tapper.streams.legs import Direction
from tapper.targets.pods import PodName

POD = Place("pod", 4026531999, "lo", 77, "10.0.0.2")
NODE = Place("node", 4026531840, "any")
CART = PodName("shop", "cart")


def account(place: Place) -> Account:
    connections = Capture(Scope(place.instance_ip, None)).connections
    return Account(place, connections, connections)


def row(place: Place, received: int, exchanges: int = 0) -> Row:
    opened = account(place)
    opened.counts.exchanges = exchanges
    return opened.row(Stat(received, 0))


def exchange_records(count: int, unanswered: int = 0) -> list[ExchangeRecord]:
    wire = Wire((("127.0.0.6", 40000), ("10.0.0.2", 8080)))
    packets = wire.handshake()
    for number in range(count):
        packets += wire.exchange(f"/{number}", "x")
    packets += [wire.ask(b"GET /last HTTP/1.1\r\n\r\n") for _ in range(unanswered)]
    return Capture().feed(packets).finish().seen


def test_a_row_is_a_copy() -> None:
    """Who reads it may take its time."""
    opened = account(POD)
    opened.count(exchange_records(2))
    opened.undecoded(Kind.TLS)
    before = opened.row(Stat(5, 1))
    opened.count(exchange_records(3))
    opened.undecoded(Kind.TLS)
    opened.connections.tally.gaps += 1
    (seen,) = before.legs.values()
    assert (seen.exchanges, before.counts.undecoded, before.counts.gaps) == (2, {"tls": 1}, 0)
    after = opened.row(Stat(9, 1))
    (seen,) = after.legs.values()
    assert (seen.exchanges, after.counts.undecoded, after.counts.gaps) == (5, {"tls": 2}, 1)


def test_exchanges_are_counted_by_pod_and_direction() -> None:
    opened = account(replace(POD, pods={"10.0.0.2": CART}))
    opened.count(exchange_records(2, unanswered=1))
    row = opened.row(Stat(0, 0))
    assert row.legs == {LegKey("10.0.0.2", CART, Direction.INBOUND): Seen(3, 1)}
    assert (row.counts.exchanges, row.counts.incomplete) == (3, 1)


def test_a_source_that_is_opened_again_goes_on_and_others_are_others() -> None:
    """The same address in another namespace is another source: a manual Envoy's, or a later pod's."""
    books = Books()
    books.close(row(POD, 5, 1))
    books.close(row(replace(POD, netns=7), 100, 10))
    books.close(row(replace(POD, pid=78), 6, 2))
    assert [(it.place.netns, it.counts.received, it.counts.exchanges) for it in books.rows()] == [
        (7, 100, 10),
        (4026531999, 11, 3),
    ]
    still_open = [row(replace(POD, pid=79), 7, 4), row(NODE, 1)]
    assert [it.counts.received for it in books.rows(still_open)] == [100, 18, 1]
    assert [it.counts.received for it in books.rows()] == [100, 11], "asking changes nothing"
    assert (books.totals.received, books.totals.exchanges, books.totals.sources) == (111, 13, 3)


def test_a_pods_name_outlives_the_list_of_targets() -> None:
    books = Books()
    books.close(row(replace(POD, pods={"10.0.0.2": CART}), 5))
    books.close(row(POD, 5))
    assert [it.place.pods for it in books.rows()] == [{"10.0.0.2": CART}]


def test_closed_sources_are_bounded_and_the_totals_have_all() -> None:
    books = Books()
    for netns in range(accounts.MOST_GONE + 10):
        books.close(row(replace(POD, netns=netns), 1))
    assert len(books.rows()) == accounts.MOST_GONE
    assert books.rows()[0].place.netns == 10
    assert (books.forgotten, books.totals.received) == (10, accounts.MOST_GONE + 10)
    assert table(books.rows(), books.forgotten)[-1].startswith("10 more that were closed before")


def test_pods_of_one_source_are_bounded() -> None:
    opened = account(NODE)
    (example,) = exchange_records(1)
    for number in range(accounts.MOST_LEGS + 5):
        leg = replace(example.leg, pod_ip=f"pod {number}")
        opened.count([replace(example, leg=leg), replace(example, leg=replace(leg, pod_ip="pod 0"))])
    legs = opened.row(Stat(0, 0)).legs
    assert len(legs) == accounts.MOST_LEGS
    assert opened.counts.exchanges == 2 * (accounts.MOST_LEGS + 5)
    assert legs[LegKey("pod 0", None, Direction.INBOUND)].exchanges == accounts.MOST_LEGS + 6
    assert LegKey("pod 1", None, Direction.INBOUND) not in legs


def test_totals_are_added_field_by_field() -> None:
    totals = Totals(exchanges=1, gaps=2, undecoded={"tls": 1})
    totals.add(Totals(exchanges=2, sources=1, undecoded={"tls": 2, "other": 1}))
    assert totals == Totals(exchanges=3, gaps=2, sources=1, undecoded={"tls": 3, "other": 1})


def test_the_table() -> None:
    pod = row(replace(POD, pods={"10.0.0.2": CART}), 1200, 3)
    pod.counts.undecoded = {"tls": 2, "other": 1}
    pod.counts.gaps, pod.counts.gap_bytes, pod.counts.dropped, pod.counts.cut = 1, 77, 5, 6
    node = row(NODE, 9, 2)
    node.legs[LegKey("10.0.0.9", PodName("a", "\x1b[2J"), Direction.NODE)] = Seen(2, 1)
    assert table([], 0) == []
    assert table([node, pod], 0) == [
        "POD       INTERFACE  NETNS       PACKETS  DROPPED  CUT  GAPS  MISSING  EXCHANGES  INCOMPLETE  GIVEN UP"
        "  NOT DECODED     NAME",
        "-         any        4026531840        9        0    0     0        0          2           0         0  -",
        "10.0.0.9  any        4026531840        -        -    -     -        -          2           1         -"
        "  -               a/\\x1b[2J",
        "10.0.0.2  lo         4026531999     1200        5    6     1       77          3           0         0"
        "  1 other, 2 tls  shop/cart",
    ]

"""The tests of the oracle catch a wrong oracle: each of these is broken in one place, and says something wrong.

What is asked of each is what the other tests ask of the right one: no fault in a perfect report, and every fault found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
from oracle_faults import FAULTS, found
from oracle_world import everything

from harness.conformance.oracle import (
    beneath,
    compare,
    counts,
    decode,
    expectation,
    http1,
    http2,
    judge,
    matching,
    sockets,
    websocket,
)
from harness.conformance.oracle.compare import FieldDifference
from harness.conformance.oracle.matching import Matched
from harness.conformance.oracle.model import (
    Decoded,
    Difference,
    DifferenceKind,
    Duty,
    Expected,
    TcpConnection,
    TrueExchange,
    TrueMessage,
)

Break = Callable[[Any], Any]
Exchanges = list[TrueExchange]


def _exchanges(change: Callable[[Exchanges], Exchanges]) -> Break:
    """Break what is read of a connection."""

    def breaking(whole: Callable[[TcpConnection], Decoded]) -> Callable[[TcpConnection], Decoded]:
        def decoded(connection: TcpConnection) -> Decoded:
            right = whole(connection)
            return replace(right, exchanges=tuple(change(list(right.exchanges))))

        return decoded

    return breaking


def _messages(change: Callable[[TrueMessage], TrueMessage]) -> Break:
    """Break what is read of both messages of each exchange."""

    def broken(exchange: TrueExchange) -> TrueExchange:
        assert exchange.request is not None
        assert exchange.response is not None
        return replace(exchange, request=change(exchange.request), response=change(exchange.response))

    return _exchanges(lambda several: [broken(each) for each in several])


def _result(value: Any) -> Break:
    return lambda _: lambda *_args, **_named: value


def _without_field(*ends: str) -> Break:
    """Compare all fields but those whose names end so."""

    def breaking(whole: Callable[..., Iterator[FieldDifference]]) -> Callable[..., Iterator[FieldDifference]]:
        return lambda *args: (each for each in whole(*args) if not each.field.endswith(ends))

    return breaking


def _without_kind(kind: DifferenceKind) -> Break:
    def breaking(whole: Callable[..., Iterator[Difference]]) -> Callable[..., Iterator[Difference]]:
        return lambda *args: (each for each in whole(*args) if each.kind is not kind)

    return breaking


def _duties(duty: Duty) -> Break:
    def breaking(whole: Callable[..., list[Expected]]) -> Callable[..., list[Expected]]:
        return lambda *args, **named: [replace(each, duty=duty) for each in whole(*args, **named)]

    return breaking


def _connections(change: Callable[[TcpConnection], TcpConnection]) -> Break:
    def breaking(whole: Callable[..., list[TcpConnection]]) -> Callable[..., list[TcpConnection]]:
        return lambda frames: [change(each) for each in whole(frames)]

    return breaking


def _in_seconds(each: TcpConnection) -> TcpConnection:
    return replace(each, requests=replace(each.requests, times=tuple(time // 10**9 for time in each.requests.times)))


def _in_capitals(each: TcpConnection) -> TcpConnection:
    return replace(each, responses=replace(each.responses, data=each.responses.data.upper()))


def _swapped(several: Exchanges) -> Exchanges:
    """Each request with the answer of the next one."""
    answers = [*several[1:], *several[:1]]
    pairs = zip(several, answers, strict=True)
    return [replace(each, response=other.response, status=other.status) for each, other in pairs]


def _another_count(several: Exchanges) -> Exchanges:
    return [each if each.call is None else replace(each, call=replace(each.call, responses=9)) for each in several]


def _backwards(whole: Callable[..., Matched]) -> Callable[..., Matched]:
    def match(expectations: Any, records: Any) -> Matched:
        right = whole(expectations, records)
        right.pairs = dict(zip(right.pairs, reversed(right.pairs.values()), strict=True))
        return right

    return match


def _unmasked(whole: Callable[..., Any]) -> Callable[..., Any]:
    return lambda way, start, **named: whole(way, start, **(named | {"from_client": False}))


def _first_frame_lost(whole: Callable[..., Any]) -> Callable[..., Any]:
    def read_side(data: bytes, *, client: bool) -> Any:
        size = int.from_bytes(data[:3], "big") + 9
        return whole(data if client else data[size:] and data[size + 9 :], client=client)

    return read_side


BROKEN: dict[str, tuple[ModuleType, str, Break]] = {
    "drops the last exchange of a connection": (expectation, "decode", _exchanges(lambda several: several[:-1])),
    "reads each exchange twice": (expectation, "decode", _exchanges(lambda several: several * 2)),
    "pairs with the next answer": (expectation, "decode", _exchanges(_swapped)),
    "counts other messages of a call": (expectation, "decode", _exchanges(_another_count)),
    "forgets trailers": (expectation, "decode", _messages(lambda message: replace(message, trailers=()))),
    "cuts bodies": (expectation, "decode", _messages(lambda message: replace(message, body=message.body[:-1]))),
    "keeps one line of a name": (
        expectation,
        "decode",
        _messages(lambda message: replace(message, fields=tuple(dict(message.fields).items()))),
    ),
    "reads nothing of HTTP/2": (http2, "exchanges", _result(([], ""))),
    "loses frames of HTTP/2": (http2, "read_side", _first_frame_lost),
    "reads nothing of HTTP/1": (http1, "read", _result(http1.Http1Messages([]))),
    "reads no messages behind an upgrade": (websocket, "messages", _result(([], ""))),
    "does not unmask": (websocket, "messages", _unmasked),
    "takes gRPC for plain HTTP": (decode, "with_call", lambda _: lambda exchange: exchange),
    "calls each connection unclear": (expectation, "connections", _connections(lambda each: replace(each, flaw="so"))),
    "has times in seconds": (expectation, "connections", _connections(_in_seconds)),
    "reads capitals": (expectation, "connections", _connections(_in_capitals)),
    "takes the sidecar for the client": (
        expectation,
        "connections",
        _connections(lambda each: replace(each, client=each.server)),
    ),
    "swaps the ways": (
        expectation,
        "directions",
        lambda whole: lambda each: frozenset({"inbound", "outbound"} - whole(each)),
    ),
    "knows no way": (expectation, "directions", _result(frozenset({"inbound", "outbound", "local", "node"}))),
    "owes nothing": (expectation, "with_duties", _duties(Duty.MAY)),
    "forbids everything": (expectation, "with_duties", _duties(Duty.NEVER)),
    "matches backwards": (matching, "match", _backwards),
    "compares no fields of messages": (compare, "differences", _without_field(".headers", ".lines")),
    "compares no bodies": (compare, "differences", _without_field(".body")),
    "compares no trailers": (compare, "differences", _without_field(".trailers")),
    "compares no targets": (compare, "differences", _without_field("target")),
    "compares no pods": (compare, "differences", _without_field("pod_ip")),
    "compares no ways": (compare, "differences", _without_field("direction")),
    "compares no ends": (compare, "differences", _without_field("src", "dst")),
    "compares no times": (compare, "differences", _without_field("ts", "duration_s")),
    "takes all texts for the same": (compare, "same_text", _result(True)),
    "takes no texts for the same": (compare, "same_text", _result(False)),
    "takes all addresses for the same": (compare, "same_address", _result("10.244.0.1")),
    "compares nothing of mTLS": (beneath, "difference", _result(())),
    "takes all bytes for TLS": (beneath, "_begins_record", _result(True)),
    "takes no bytes for TLS": (beneath, "_begins_record", _result(False)),
    "takes each connection for one of the pod's": (beneath, "_is_of", _result(True)),
    "knows nothing between pods": (expectation, "between_pods", _result([])),
    "takes records between pods for legs": (judge, "_parted", lambda _: lambda seen, *_rest: ([], list(seen))),
    "compares no counts": (counts, "differences", _result(())),
    "agrees with no message": (sockets, "differences", lambda whole: lambda pods, up, told: whole(pods, up, told[:1])),
    **{
        f"finds nothing {kind}": (judge, "of_records", _without_kind(kind))
        for kind in DifferenceKind
        if kind != "forbidden"
    },
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_oracle_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, attribute, breaking = BROKEN[name]
    broken = breaking(getattr(module, attribute))
    monkeypatch.setattr(module, attribute, broken)
    if module is matching:
        monkeypatch.setattr(judge, attribute, broken)
    assert wrong()


def test_the_right_one_is_not() -> None:
    assert not wrong()


def wrong() -> bool:
    """Whether the oracle as it is now says something wrong of the tests' world, or fails over it."""
    world = everything()
    try:
        if world.judged(world.question()) or not world.judged(world.question(others=world.sockets[:1])):
            return True
        if not world.judged(world.question(others=[*world.sockets, {"type": "bye", "exchanges": 0}])):
            return True
        return not all(found(world, fault, everywhere=False) for fault in FAULTS)
    except (ValueError, LookupError, AssertionError, TypeError):
        return True


def test_each_kind_of_difference_is_asked_for() -> None:
    kinds: Iterable[DifferenceKind] = {fault.kind for fault in FAULTS}
    assert {*kinds, DifferenceKind.FORBIDDEN} == set(DifferenceKind)

"""A plan in which every two circumstances meet: protocol, direction, family, pod, kind of message, age, lives. Pure.

Drawn plans hold most pairs by chance; a fault that shows in one pair alone is found only where that pair is played. So
this plan is not drawn. It has each protocol in each direction over both families, each with the same kinds of messages,
in three pods whose lists and Envoys change, and pauses, so that some of it comes late.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

from harness.conformance.generated.plan import (
    BURST,
    CHUNKED,
    DIRECTIONS,
    ENVOY_RETURNS,
    FIN,
    GRPC,
    HTTP1,
    HTTP2,
    INBOUND,
    OUTBOUND,
    POD_JOINS,
    POD_LEAVES,
    RST,
    SERVER,
    WEBSOCKET,
    Close,
    Content,
    Happening,
    Plan,
    PlannedExchange,
    PlannedMessage,
    Segmentation,
    Talk,
)

NAME = "pairs-1"
_PODS = 3
_LONG_BODY = 17_000
_TRAILERS = (("x-sum", "42"), ("x-time", "7"))
_REPEATED = (("x-again", "1"), ("x-other", "a"), ("x-again", "2"))
_COOKIES = (("Set-Cookie", "a=1; Path=/"), ("x-again", "3"), ("Set-Cookie", "b=2, c; Secure"), ("x-again", "4"))
_LONG_HEAD = (("x-long", "v" * 8_300),)
_UPLOAD = Content(700, kind="noise", framing=CHUNKED, piece=100, trailers=_TRAILERS)


def _answer(size: int, *, chunked: bool) -> Content:
    if not chunked:
        return Content(size)
    return Content(size, framing=CHUNKED, piece=4096, trailers=_TRAILERS)


def _kinds(method: str, *, chunked: bool) -> tuple[PlannedExchange, ...]:
    """An exchange of each kind. All of them send a body and repeat fields; with `chunked` they have trailers."""

    def kind(path: str, status: int, size: int, extra: tuple[tuple[str, str], ...] = ()) -> PlannedExchange:
        return PlannedExchange(
            method, path, status, _REPEATED + extra, _UPLOAD, _COOKIES, _answer(size, chunked=chunked)
        )

    return (
        kind("/search?q=%20&x=", 200, _LONG_BODY),
        kind("/long" * 220 + "/", 404, 300, _LONG_HEAD),
        kind("/orders/", 503, 0),
        kind("/orders/?page=2", 201, _LONG_BODY, _LONG_HEAD),
        kind("/refused?", 418, _LONG_BODY + 1),
        kind("/long?" + "a=b&" * 300, 500, _LONG_BODY + 2),
    )


_CALLS = _kinds("POST", chunked=True)
_MIXED = tuple(itertools.chain(*zip(_kinds("PROPFIND", chunked=True), _kinds("POST", chunked=False), strict=True)))
_EXCHANGES = {HTTP1: _MIXED, HTTP2: _MIXED, GRPC: _CALLS, WEBSOCKET: (PlannedExchange(path="/socket?a=", status=200),)}
_MESSAGES = (
    PlannedMessage(),
    PlannedMessage(SERVER, size=300, frames=2),
    PlannedMessage(text=False, size=130),
    PlannedMessage(SERVER, text=False, size=20),
)
_BEFORE_THE_LAST_ANSWER = 982
"""Permille of the bytes of a connection in `_broken_off` that pass before its last answer."""
_PAUSED = (
    (1_300, GRPC, INBOUND),
    (2_600, HTTP1, OUTBOUND),
    (3_900, GRPC, OUTBOUND),
    (5_000, HTTP1, INBOUND),
    (5_000, GRPC, INBOUND),
    (5_000, WEBSOCKET, INBOUND),
)
"""How long a connection is quiet, in milliseconds, its protocol and its direction."""
_HAPPENINGS = (
    Happening(BURST, 2, 0),
    Happening(ENVOY_RETURNS, 1, 0),
    Happening(POD_LEAVES, 2, 0),
    Happening(POD_JOINS, 2, 0),
)
"""All before the first connection: a tapper may miss some of a connection that is open meanwhile."""


def plan() -> Plan:
    """The plan as it ships."""
    talks = [*_openings(), *_ordinary(), *_broken_off(), *_paused()]
    return Plan(NAME, _PODS, tuple(replace(talk, pod=number % _PODS) for number, talk in enumerate(talks)), _HAPPENINGS)


def _openings() -> list[Talk]:
    """Connections with an upgrade (WebSocket) and with a gap: other connections follow them."""
    return [
        *(_talk(WEBSOCKET, direction, ipv6=ipv6) for ipv6 in (False, True) for direction in DIRECTIONS),
        Talk(direction=INBOUND, exchanges=(PlannedExchange(),) * 4, segments=Segmentation(cut=60, lost=3)),
    ]


def _ordinary() -> list[Talk]:
    """Each protocol in each direction over both families; the longest of each protocol has more than 20 exchanges."""
    return [
        _talk(protocol, direction, ipv6=ipv6)
        for protocol in (HTTP1, HTTP2, GRPC)
        for ipv6 in (False, True)
        for direction in DIRECTIONS
    ]


def _broken_off() -> list[Talk]:
    """Connections that are reset before the last answer."""
    last = PlannedExchange("POST", "/unanswered?", request_fields=_REPEATED, request=_UPLOAD, response=Content(300))
    return [
        Talk(
            direction=direction,
            protocol=protocol,
            exchanges=(*_kinds("POST", chunked=True)[:1], last),
            close=Close(RST, SERVER, _BEFORE_THE_LAST_ANSWER),
        )
        for protocol in (HTTP1, HTTP2, GRPC)
        for direction in (INBOUND, OUTBOUND)
    ]


def _paused() -> list[Talk]:
    """Connections that are quiet in the middle, each for longer than the one before."""
    return [
        Talk(
            direction=direction,
            protocol=protocol,
            exchanges=_EXCHANGES[protocol][:4],
            messages=_MESSAGES if protocol == WEBSOCKET else (),
            quiet_ms=quiet_ms,
            close=Close(FIN, SERVER),
        )
        for quiet_ms, protocol, direction in _PAUSED
    ]


def _talk(protocol: str, direction: str, *, ipv6: bool) -> Talk:
    long = direction == INBOUND and not ipv6
    return Talk(
        direction=direction,
        protocol=protocol,
        ipv6=ipv6,
        localhost=direction == INBOUND and ipv6,
        exchanges=_EXCHANGES[protocol],
        rounds=4 if long and protocol == GRPC else 2 if long or protocol == WEBSOCKET else 1,
        together=1 if protocol == WEBSOCKET else 2,
        messages=_MESSAGES if protocol == WEBSOCKET else (),
    )

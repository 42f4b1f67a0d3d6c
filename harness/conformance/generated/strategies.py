"""Hypothesis strategies that draw new plans, simple values first.

Each theme is the subject of one case of the group GEN. `check` uses nothing of this: it plays the plans that ship.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from harness.adapters.contract import Feature
from harness.conformance.generated.checks import FieldPairs
from harness.conformance.generated.plan import (
    BURST,
    CHUNKED,
    CLIENT,
    ENVOY_RETURNS,
    FIN,
    GRPC,
    HTTP1,
    HTTP2,
    INBOUND,
    ITSELF,
    LENGTH,
    MOST_PODS,
    OUTBOUND,
    PERMILLE,
    PLAIN_METHODS,
    POD_JOINS,
    POD_LEAVES,
    RST,
    SERVER,
    STAYS_OPEN,
    UNTIL_CLOSE,
    UPGRADE,
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

MOST_DRAWN = 3 << 20
"""Bytes of all bodies of a drawn plan: as much as a tapper's buffers hold on a busy machine, where the bytes of a call
to itself cross `lo` twice."""
_LARGEST_POWER = 20
_MOST_SEGMENTS = 500
"""Segments into which the bodies of a connection are cut."""
_METHODS = (*PLAIN_METHODS, "HEAD", "PATCH", "OPTIONS", "PROPFIND", "X-COUNT")
_STATUSES = (200, 201, 204, 206, 299, 301, 304, 400, 404, 418, 500, 503)
_PATHS = ("/", "/orders/", "/a/b/../c/", "/search?q=%20%00&x=", "//double//", "/%C3%A9/~;v=1/", "/?a=b&a=c&a=")
_NAMES = ("x-a", "X-Request-Id", "accept", "ACCEPT-Language", "x_under", "user-agent", "x-" + "n" * 60)
_TRAILERS: tuple[FieldPairs, ...] = ((), (("x-sum", "42"),), (("x-sum", "a"), ("x-sum", ""), ("X-Time", "7")))
_ODD = "".join(map(chr, [*range(0x20, 0x7F), 9, *range(0x80, 0x100)]))


@cache
def _sizes(largest: int) -> SearchStrategy[int]:
    """0, 1, and the sizes around each power of two."""
    around = [2**power + off for power in range(1, _LARGEST_POWER + 1) for off in (-1, 0, 1)]
    return st.sampled_from([0, 1, *sorted({size for size in around if 1 < size <= largest + 1})])


@cache
def _values() -> SearchStrategy[str]:
    odd = st.text(_ODD, max_size=20).map(lambda text: text.strip(" \t"))
    long = st.sampled_from([255, 256, 4095, 4096, 8200]).map(lambda size: "v" * size)
    return st.one_of(st.sampled_from(["a", "", "a, b", "a=b; c"]), odd, long)


@cache
def _fields(*, answers: bool) -> SearchStrategy[FieldPairs]:
    pair = st.tuples(st.sampled_from(_NAMES), _values())
    repeated = st.just((("x-again", "1"), ("x-again", "2"), ("X-Again", "1")))
    cookies = st.just((("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2, c; Secure")))
    several = st.lists(pair, max_size=4).map(tuple)
    return st.one_of(st.just(()), several, repeated, *([cookies] if answers else []))


@cache
@st.composite
def _contents(draw: st.DrawFn, largest: int) -> Content:
    framing = draw(st.sampled_from([LENGTH, CHUNKED]))
    return Content(
        size=draw(_sizes(largest)),
        kind=draw(st.sampled_from(["text", "noise", "lookalike"])),
        coding=draw(st.sampled_from(["", "", "gzip", "deflate"])),
        framing=framing,
        piece=draw(st.sampled_from([1 << 14, 1, 7, 100, 4096, (1 << 14) - 1, 1 << 16])),
        trailers=draw(st.sampled_from(_TRAILERS)) if framing == CHUNKED else (),
    )


@cache
@st.composite
def _exchanges(draw: st.DrawFn, largest: int, *, plain: bool = False) -> PlannedExchange:
    if plain:
        return PlannedExchange(
            method=draw(st.sampled_from(PLAIN_METHODS)),
            status=draw(st.sampled_from([200, 201, 404, 500])),
            request=Content(draw(_sizes(64))),
            response=Content(draw(_sizes(largest))),
        )
    return PlannedExchange(
        method=draw(st.sampled_from(_METHODS)),
        path=draw(st.sampled_from(_PATHS)),
        status=draw(st.sampled_from(_STATUSES)),
        request_fields=draw(_fields(answers=False)),
        request=_not_tiny_pieces(draw(_contents(largest))),
        response_fields=draw(_fields(answers=True)),
        response=_not_tiny_pieces(draw(_contents(largest))),
        interim=draw(st.sampled_from([(), (), (100,), (103, 103)])),
    )


def _not_tiny_pieces(content: Content) -> Content:
    """At most 256 pieces: a mebibyte in pieces of one byte would be 18 MiB of chunks."""
    return replace(content, piece=max(content.piece, content.size // 256 or 1))


@st.composite
def _talks(
    draw: st.DrawFn,
    protocol: str,
    *,
    largest: int = 1 << 14,
    pods: int = 1,
    ipv6: SearchStrategy[bool] | None = None,
    directions: tuple[str, ...] = (INBOUND, OUTBOUND, ITSELF),
    plain: bool = False,
    segments: SearchStrategy[Segmentation] | None = None,
    most_rounds: int = 25,
) -> Talk:
    direction = draw(st.sampled_from(directions))
    most = 1 if protocol == WEBSOCKET else 12
    exchanges = draw(st.lists(_exchanges(largest, plain=plain), min_size=1, max_size=most))
    close = Close() if plain else draw(_closes())
    rounds = draw(st.sampled_from([1, 1, 1, 2, 5, most_rounds]))
    messages = draw(_messages()) if protocol == WEBSOCKET else ()
    weight = sum(exchange.request.size + exchange.response.size for exchange in exchanges)
    weight += sum(message.size for message in messages)
    while rounds > 1 and (weight * rounds > 2 << 20 or len(exchanges) * rounds > 300):
        rounds //= 2
    if protocol == HTTP1 and not plain and draw(st.sampled_from([False, False, False, True])):
        rounds, close = 1, Close(FIN, SERVER)
        last = exchanges[-1]
        exchanges[-1] = replace(last, response=replace(last.response, framing=UNTIL_CLOSE, trailers=()))
    how = draw(segments) if segments is not None else Segmentation()
    return Talk(
        pod=draw(st.integers(0, pods - 1)),
        direction=direction,
        protocol=protocol,
        ipv6=draw(ipv6) if ipv6 is not None else False,
        localhost=direction == INBOUND and draw(st.sampled_from([False, False, True])),
        exchanges=tuple(exchanges),
        rounds=rounds,
        together=1 if plain else draw(st.sampled_from([1, 1, 2, 5, 16])),
        messages=messages,
        quiet_ms=draw(st.sampled_from([0, 0, 0, 0, 300])),
        segments=_fitting(how, direction, weight * rounds),
        close=close,
    )


def _fitting(how: Segmentation, direction: str, weight: int) -> Segmentation:
    """The segmentation, with at most _MOST_SEGMENTS segments, and without disorder for a call to itself."""
    if direction == ITSELF:
        how = replace(how, swapped=0, repeated=0, lost=0)
    return replace(how, cut=min(max(how.cut, weight // _MOST_SEGMENTS), 60_000)) if how.cut else how


@cache
def _messages() -> SearchStrategy[tuple[PlannedMessage, ...]]:
    message = st.builds(
        PlannedMessage,
        sender=st.sampled_from([CLIENT, SERVER]),
        text=st.booleans(),
        size=_sizes(1 << 17).map(lambda size: max(size, 1)),
        frames=st.sampled_from([1, 1, 2, 5]),
    )
    return st.lists(message, min_size=1, max_size=8).map(tuple)


@cache
def _closes() -> SearchStrategy[Close]:
    whole = st.builds(Close, st.sampled_from([FIN, FIN, RST, STAYS_OPEN]), st.sampled_from([CLIENT, SERVER]))
    cut = st.builds(Close, st.sampled_from([FIN, RST]), st.sampled_from([CLIENT, SERVER]), st.integers(0, PERMILLE - 1))
    return st.one_of(whole, whole, whole, cut)


@cache
def _cuts() -> SearchStrategy[Segmentation]:
    return st.builds(Segmentation, cut=st.sampled_from([0, 7, 90, 536, 1448, 16_384]), merged=st.booleans())


@cache
def _disorders() -> SearchStrategy[Segmentation]:
    rhythm = st.sampled_from([0, 2, 3, 7])
    return st.builds(
        Segmentation,
        cut=st.sampled_from([1400, 100, 536, 20_000]),
        merged=st.booleans(),
        swapped=rhythm,
        repeated=rhythm,
        lost=st.sampled_from([0, 0, 0, 11, 40]),
    )


def _happenings(pods: int) -> SearchStrategy[tuple[Happening, ...]]:
    one = st.builds(
        Happening,
        what=st.sampled_from([ENVOY_RETURNS, POD_JOINS, POD_LEAVES, BURST]),
        pod=st.integers(1, pods - 1),
        at=st.integers(0, PERMILLE),
    )
    return st.lists(one, min_size=1, max_size=4).map(tuple)


# -- themes ------------------------------------------------------------------------------------------------------------


def _of(protocol: str, count: int = 4) -> SearchStrategy[Plan]:
    talks = st.lists(_talks(protocol, largest=1 << 20, segments=_cuts()), min_size=1, max_size=count)
    return _plans(talks)


def _ipv6() -> SearchStrategy[Plan]:
    protocols = st.sampled_from([HTTP1, HTTP2])
    talk = protocols.flatmap(lambda protocol: _talks(protocol, ipv6=st.just(True), segments=_cuts()))
    return _plans(st.lists(talk, min_size=1, max_size=4))


def _segments() -> SearchStrategy[Plan]:
    return _plans(
        st.lists(
            _talks(HTTP1, segments=st.one_of(_cuts(), _disorders()), directions=(INBOUND, OUTBOUND)),
            min_size=1,
            max_size=6,
        )
    )


@st.composite
def _pods(draw: st.DrawFn) -> Plan:
    """Connections that every tapper can read: each head in one segment, over IPv4."""
    pods = draw(st.integers(2, MOST_PODS))
    talk = _talks(HTTP1, pods=pods, plain=True, directions=(INBOUND, OUTBOUND), most_rounds=10)
    return Plan(pods=pods, talks=tuple(draw(st.lists(talk, min_size=1, max_size=2 * pods))))


@st.composite
def _lives(draw: st.DrawFn) -> Plan:
    pods = draw(st.integers(2, MOST_PODS))
    talk = _talks(HTTP1, pods=pods, plain=True, directions=(INBOUND, OUTBOUND), most_rounds=10)
    talks = tuple(draw(st.lists(talk, min_size=1, max_size=2 * pods)))
    return Plan(pods=pods, talks=talks, happenings=draw(_happenings(pods)))


@st.composite
def _mixed(draw: st.DrawFn) -> Plan:
    """Every protocol, direction and family in several pods."""
    pods = draw(st.integers(2, MOST_PODS))
    protocols = st.sampled_from([HTTP1, HTTP2, GRPC, WEBSOCKET])
    talk = protocols.flatmap(
        lambda protocol: _talks(protocol, pods=pods, ipv6=st.booleans(), segments=_cuts(), most_rounds=5)
    )
    talks = tuple(draw(st.lists(talk, min_size=1, max_size=2 * pods).map(tuple).filter(_is_light)))
    return Plan(pods=pods, talks=talks)


def _plans(talks: SearchStrategy[list[Talk]]) -> SearchStrategy[Plan]:
    return talks.map(tuple).filter(_is_light).map(lambda drawn: Plan(talks=drawn))


def _is_light(talks: tuple[Talk, ...]) -> bool:
    size = sum(part.request.size + part.response.size for talk in talks for part in talk.played)
    return size <= MOST_DRAWN


@dataclass(frozen=True, slots=True)
class Theme:
    """The subject of one case of the group."""

    features: frozenset[Feature]
    """The only features that the plans of the case may need."""
    draw: Callable[[], SearchStrategy[Plan]]


THEMES: Mapping[str, Theme] = {
    "http1": Theme(frozenset({Feature.HTTP1}), lambda: _of(HTTP1)),
    "http2": Theme(
        frozenset({Feature.HTTP1, Feature.HTTP2}), lambda: st.one_of(_of(HTTP2), _of(HTTP2), _of(UPGRADE, 2))
    ),
    "grpc": Theme(frozenset({Feature.HTTP2, Feature.GRPC}), lambda: _of(GRPC)),
    "websocket": Theme(frozenset({Feature.HTTP1, Feature.WEBSOCKET}), lambda: _of(WEBSOCKET)),
    "segments": Theme(frozenset({Feature.HTTP1}), _segments),
    "pods": Theme(frozenset(), _pods),
    "lives": Theme(frozenset({Feature.TARGETS_DYNAMIC}), _lives),
    "pairs": Theme(
        frozenset(
            {Feature.HTTP1, Feature.HTTP2, Feature.GRPC, Feature.WEBSOCKET, Feature.IPV6, Feature.TARGETS_DYNAMIC}
        ),
        _mixed,
    ),
    "ipv6": Theme(frozenset({Feature.HTTP1, Feature.HTTP2, Feature.IPV6}), _ipv6),
}


def plans(claims: frozenset[Feature]) -> SearchStrategy[Plan]:
    """Plans of every theme whose features the tapper claims."""
    return st.one_of(*(theme.draw() for theme in THEMES.values() if theme.features <= claims))

"""FastNdjson writes the lines that Ndjson writes, byte for byte; a TemplateList answers as a HeaderList does."""

from __future__ import annotations

import pybase64  # noqa: F401 - FastNdjson prefers it, so without it the comparison would miss a case
from drawn_exchanges import NASTY, exchanges, legs
from hypothesis import given
from hypothesis import strategies as st

from tapper.fast.headers import HeaderTemplate, TemplateList
from tapper.fast.ndjson import FastNdjson
from tapper.output.ndjson import Ndjson
from tapper.output.records import Place
from tapper.output.redaction import Redaction
from tapper.protocols.exchange import Exchange
from tapper.protocols.headers import HeaderList, Headers
from tapper.protocols.records import ExchangeRecord
from tapper.streams.connection import Leg
from tapper.targets.pods import PodName

SECRET = Redaction(["x-id"])
sightings = st.tuples(legs, exchanges, st.none() | st.integers(1, 1 << 32), st.booleans())


def with_template(fields: HeaderList, is_varying: list[bool]) -> HeaderList:
    """The same fields as a TemplateList, in which some values vary; others stand for them in the template."""
    headers = fields.headers
    varying = [
        index
        for index, (_, value) in enumerate(headers)
        if is_varying[index % len(is_varying)] and all(ord(char) < 0x100 for char in value)
    ]
    template = tuple((name, "x" if index in varying else value) for index, (name, value) in enumerate(headers))
    return TemplateList(HeaderTemplate(template, varying), [headers[index][1].encode("latin-1") for index in varying])


@given(st.lists(sightings, max_size=4), st.none() | st.lists(st.booleans(), min_size=1, max_size=4))
def test_lines_are_equal(drawn: list[tuple[Leg, Exchange, int | None, bool]], is_varying: list[bool] | None) -> None:
    plain, fast = Ndjson(), FastNdjson()
    for leg, exchange, netns, named in drawn:
        pods = {leg.pod_ip: PodName(NASTY, "web-0")} if named and leg.pod_ip else {}
        place = Place("pod", netns, "lo", pods=pods)
        expected = plain.exchange(place, ExchangeRecord(leg, exchange))
        for message in (exchange.request, exchange.response):
            if message is not None and is_varying is not None:
                message.head.fields = with_template(message.head.fields, is_varying)
        for _ in range(2):  # the second time from the caches
            assert fast.exchange(place, ExchangeRecord(leg, exchange)) == expected


names = st.sampled_from(["Cookie", "COOKIE", "X-Id", "User-Agent", "a", "Referer", "Sec-WebSocket-Protocol"])
values = st.sampled_from(["", "kube-probe/1.3", "\xe9", "secret", "http://a@b/?token=\xe9", "bearer, x"])


@given(st.lists(st.lists(st.tuples(names, values), max_size=4).map(tuple), min_size=1), st.lists(st.booleans()))
def test_header_lists_are_equal(drawn: list[Headers], is_varying: list[bool]) -> None:
    for headers in drawn:
        plain = HeaderList(headers)
        fast = with_template(plain, is_varying or [False])
        for _ in range(2):
            for question in (("user-agent", "kube-probe/"), ("x-id", "kube-probe/"), ("user-agent", "sec")):
                assert fast.has_prefix(*question) == plain.has_prefix(*question)
            assert fast.masked(SECRET).headers == plain.masked(SECRET).headers
            assert fast.masked(SECRET).masked(SECRET).headers == plain.masked(SECRET).headers
            assert fast.get("cookie") == plain.get("cookie")
            assert fast == plain

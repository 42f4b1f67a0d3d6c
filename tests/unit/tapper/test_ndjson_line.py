"""An exchange's line is put together by hand: it is JSON all the same, as a general encoder would have written it."""

from __future__ import annotations

import base64
import json
import re
from decimal import Decimal
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from tapper.output import ndjson
from tapper.output.ndjson import Ndjson
from tapper.output.records import Place
from tapper.protocols.exchange import Exchange
from tapper.protocols.fieldlist import FieldList, Template, listed
from tapper.protocols.grpc import Call, Messages
from tapper.protocols.messages import End, Request, RequestHead, Response, ResponseHead
from tapper.protocols.records import ExchangeRecord
from tapper.runtime import memo
from tapper.runtime.memo import Memo
from tapper.streams.connection import Leg, Wire
from tapper.streams.legs import Direction
from tapper.targets.pods import PodName

NASTY = 'a"b\\c\x00\x1f\x7f\xe9\u2028\U0001f600</script>'
texts = st.text(st.characters(codec="utf-8"), max_size=12) | st.just(NASTY)
fields = st.lists(st.tuples(texts, texts), max_size=4).map(tuple)
counts = st.builds(Messages, st.integers(0, 9), st.lists(st.integers(0, 1 << 40), max_size=3).map(tuple), st.booleans())
calls = st.builds(
    Call, st.none() | texts, st.none() | texts, st.none() | st.integers(0, 99), st.none() | texts, counts, counts
)
times = st.integers(0, 1 << 70)


def of_a_kind(parts: list[tuple[str, str, bytes | None]]) -> FieldList:
    """Names, values, and for those that vary the value that it is."""
    varying = [at for at, (_, _, value) in enumerate(parts) if value is not None]
    template = Template(tuple((name, value) for name, value, _ in parts), varying)
    return FieldList(template, [value for _, _, value in parts if value is not None])


lists = fields.map(listed) | st.lists(st.tuples(texts, texts, st.none() | st.binary(max_size=5)), max_size=4).map(
    of_a_kind
)
ends = st.builds(
    lambda ts, body, lost, trailers: End(ts, 0, body, len(body) + lost, lost > 0, trailers),
    times,
    st.binary(max_size=9),
    st.integers(0, 1 << 40),
    fields,
)
requests = st.builds(
    Request,
    st.builds(RequestHead, times, st.just(0), st.just(0), texts, texts, texts, lists, st.integers(0, 9)),
    ends,
)
responses = st.builds(
    Response,
    st.builds(ResponseHead, times, st.just(0), st.just(0), st.integers(0, 999), texts, texts, lists, st.integers(0, 9)),
    ends,
)
exchanges = st.one_of(
    st.builds(Exchange, requests, responses, st.none() | texts, st.none() | calls),
    st.builds(Exchange, requests, st.none(), st.none() | texts, st.none() | calls),
    st.builds(Exchange, st.none(), responses, st.none() | texts, st.none() | calls),
)
legs = st.builds(Leg, st.none() | texts, st.sampled_from(Direction), texts, texts, st.none() | st.sampled_from(Wire))


@given(st.binary(max_size=300))
def test_bodies_are_the_same_with_either_encoder(body: bytes) -> None:
    assert ndjson._base64 is not ndjson._base64_slowly, "pybase64 is not installed here, so nothing is compared"
    assert ndjson._base64(body) == ndjson._base64_slowly(body) == base64.b64encode(body).decode()


@given(legs, exchanges, st.none() | st.integers(1, 1 << 32), st.booleans())
def test_a_line_is_what_a_general_encoder_writes(leg: Leg, exchange: Exchange, netns: int | None, named: bool) -> None:
    pods = {leg.pod_ip: PodName(NASTY, "web-0")} if named and leg.pod_ip else {}
    line = Ndjson().exchange(Place("pod", netns, "lo", pods=pods), ExchangeRecord(leg, exchange))
    record = json.loads(line, parse_float=Decimal)
    exact = partial(json.dumps, separators=(",", ":"), default=lambda number: {"decimal": f"{number:f}"})
    assert exact(record) + "\n" == re.sub(r'("ts"|"duration_s"):(-?\d+\.\d{9})(?=[,}])', r'\1:{"decimal":"\2"}', line)
    assert (record["ts"] * 10**9, record["src"], record["pod_ip"]) == (exchange.ts, leg.src, leg.pod_ip)
    duration = record["duration_s"]
    assert (None if duration is None else duration * 10**9) == exchange.duration
    assert record.get("pod") == ({"namespace": NASTY, "name": "web-0"} if pods else None)
    for name, message in (("request", exchange.request), ("response", exchange.response)):
        if message is None:
            assert record[name] is None
            continue
        assert record[name] == {
            "headers": [list(field) for field in message.head.headers],
            "body_b64": base64.b64encode(message.end.body).decode(),
            "body_size": message.end.size,
            "truncated": message.end.truncated,
            "trailers": [list(field) for field in message.end.trailers],
        }
    call = exchange.grpc
    if call is not None:
        assert record["grpc"]["message"] == call.message
        assert record["grpc"]["status"] == call.status
        assert record["grpc"]["responses"]["sizes"] == list(call.responses.sizes)


class Asked:
    """A function that remembers what it was asked."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def __call__(self, key: str) -> str:
        self.keys.append(key)
        return key.upper()


def test_what_is_known_is_not_asked_again() -> None:
    asked = Asked()
    known = Memo(asked, len)
    assert [known[key] for key in "aab"] == ["A", "A", "B"]
    assert asked.keys == ["a", "b"]


def test_no_more_is_known_than_a_few_short_ones() -> None:
    asked, long = Asked(), "x" * (memo.LONGEST + 1)
    known = Memo(asked, len, most=3)
    for key in ["a", "b", long, "c", "d", "a"]:
        assert known[key] == key.upper()
        assert len(known) <= 3
    assert long not in known
    assert asked.keys == ["a", "b", long, "c", "d", "a"], "with the fourth, the first were forgotten"

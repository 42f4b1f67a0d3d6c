"""Exchanges and legs of any kind, for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from tapper.protocols.exchange import Exchange
from tapper.protocols.grpc import Call, Messages
from tapper.protocols.headers import HeaderList
from tapper.protocols.messages import End, Request, RequestHead, Response, ResponseHead
from tapper.protocols.outcome import COMPLETE, ExchangeOutcome, MalformedPart, OutcomeKind
from tapper.streams.connection import Leg, WireSecurity
from tapper.streams.legs import Direction, Endpoint

NASTY = 'a"b\\c\x00\x1f\x7f\xe9\u2028\U0001f600</script>'
texts = st.text(st.characters(codec="utf-8"), max_size=12) | st.just(NASTY)
names = texts | st.sampled_from(["Content-Encoding", "content-encoding"])
fields = st.lists(st.tuples(names, texts), max_size=4).map(tuple)
counts = st.builds(Messages, st.integers(0, 9), st.lists(st.integers(0, 1 << 40), max_size=3).map(tuple), st.booleans())
calls = st.builds(
    Call, st.none() | texts, st.none() | texts, st.none() | st.integers(0, 99), st.none() | texts, counts, counts
)
times = st.integers(0, 1 << 70)


lists = fields.map(HeaderList)
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
parts = st.builds(MalformedPart, st.sampled_from(["request", "response"]), texts, st.none() | texts, st.booleans())
outcomes = st.just(COMPLETE) | st.builds(
    ExchangeOutcome,
    st.sampled_from(OutcomeKind),
    st.none() | st.sampled_from(["client", "server"]),
    st.none() | texts | st.integers(0, 1 << 32),
    st.lists(parts, max_size=2).map(tuple),
)
exchanges = st.one_of(
    st.builds(Exchange, requests, responses, st.none() | texts, st.none() | calls, outcomes),
    st.builds(Exchange, requests, st.none(), st.none() | texts, st.none() | calls, outcomes),
    st.builds(Exchange, st.none(), responses, st.none() | texts, st.none() | calls, outcomes),
)
addresses = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)
endpoints = st.builds(Endpoint, addresses, st.integers(0, 65535))
legs = st.builds(
    Leg,
    st.none() | texts,
    st.sampled_from(Direction),
    endpoints,
    endpoints,
    st.none() | st.sampled_from(WireSecurity),
    st.none() | endpoints,
)

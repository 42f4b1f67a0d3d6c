"""FastNdjson writes the lines that Ndjson writes, byte for byte."""

from __future__ import annotations

import pybase64  # noqa: F401 - FastNdjson prefers it, so without it the comparison would miss a case
from drawn_exchanges import NASTY, exchanges, legs
from hypothesis import given
from hypothesis import strategies as st

from tapper.fast.ndjson import FastNdjson
from tapper.output.ndjson import Ndjson
from tapper.output.records import Place
from tapper.protocols.exchange import Exchange
from tapper.protocols.records import ExchangeRecord
from tapper.streams.connection import Leg
from tapper.targets.pods import PodName

sightings = st.tuples(legs, exchanges, st.none() | st.integers(1, 1 << 32), st.booleans())


@given(st.lists(sightings, max_size=4))
def test_lines_are_equal(drawn: list[tuple[Leg, Exchange, int | None, bool]]) -> None:
    plain, fast = Ndjson(), FastNdjson()
    for leg, exchange, netns, named in drawn:
        pods = {leg.pod_ip: PodName(NASTY, "web-0")} if named and leg.pod_ip else {}
        place, record = Place("pod", netns, "lo", pods=pods), ExchangeRecord(leg, exchange)
        expected = plain.exchange(place, record)
        assert fast.exchange(place, record) == expected
        assert fast.exchange(place, record) == expected, "the second time from the caches"

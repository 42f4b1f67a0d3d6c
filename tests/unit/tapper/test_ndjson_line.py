"""An exchange's line is JSON, whatever the exchange holds, and its times are exact."""

from __future__ import annotations

import base64
import json
import re
from decimal import Decimal
from functools import partial

from drawn_exchanges import NASTY, exchanges, legs
from hypothesis import given
from hypothesis import strategies as st

from tapper.output.ndjson import Ndjson
from tapper.output.records import Place
from tapper.protocols.exchange import Exchange
from tapper.protocols.records import ExchangeRecord
from tapper.streams.connection import Leg
from tapper.targets.pods import PodName


@given(legs, exchanges, st.none() | st.integers(1, 1 << 32), st.booleans())
def test_a_line_is_what_a_general_encoder_writes(leg: Leg, exchange: Exchange, netns: int | None, named: bool) -> None:
    pods = {leg.pod_ip: PodName(NASTY, "web-0")} if named and leg.pod_ip else {}
    line = Ndjson().exchange(Place("pod", netns, "lo", pods=pods), ExchangeRecord(leg, exchange))
    record = json.loads(line, parse_float=Decimal)
    exact = partial(json.dumps, separators=(",", ":"), default=lambda number: {"decimal": f"{number:f}"})
    assert exact(record) + "\n" == re.sub(r'("ts"|"duration_s"):(-?\d+\.\d{9})(?=[,}])', r'\1:{"decimal":"\2"}', line)
    assert (record["ts"] * 10**9, record["src"], record["pod_ip"]) == (exchange.ts, str(leg.src), leg.pod_ip)
    duration = record["duration_s"]
    assert (None if duration is None else duration * 10**9) == exchange.duration
    assert record.get("pod") == ({"namespace": NASTY, "name": "web-0"} if pods else None)
    for name, message in (("request", exchange.request), ("response", exchange.response)):
        if message is None:
            assert record[name] is None
            continue
        coding = [value for key, value in message.head.headers if key.lower() == "content-encoding"]
        assert record[name].pop("content_encoding", None) == (", ".join(coding) if coding else None)
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

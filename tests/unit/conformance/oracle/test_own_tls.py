"""A record of what an application encrypted itself has to be of a TLS connection that there was."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.adapters.contract import Feature
from harness.adapters.records import exchange
from harness.conformance.oracle import own_tls
from harness.conformance.oracle.expectation import PodDecoded

CLIENT, SERVER, STRANGER = ("10.244.0.2", 40000), ("10.244.0.3", 8443), "10.244.0.9"
HELLO, HTTP = b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n"


def pods(begins: bytes = HELLO) -> list[PodDecoded]:
    way = SimpleNamespace(data=begins)
    connection = SimpleNamespace(client=CLIENT, server=SERVER, replies_from=SERVER, requests=way)
    outside = [SimpleNamespace(connection=connection)]
    found = [
        SimpleNamespace(truth=SimpleNamespace(addresses=frozenset({address})), decoded=[], outside=outside)
        for address in (CLIENT[0], SERVER[0], STRANGER)
    ]
    return cast("list[PodDecoded]", found)


def record(**other: Any) -> dict[str, Any]:
    told = {"src": "10.244.0.2:40000", "dst": "10.244.0.3:8443", "pod_ip": "10.244.0.3"}
    return {"type": "http", "method": "GET", "target": "/", "plaintext": "openssl", **told, **other}


@pytest.mark.parametrize(
    ("begins", "other", "said"),
    [
        (HELLO, {}, None),
        (HELLO, {"pod_ip": "10.244.0.2"}, None),
        (HELLO, {"src": None, "dst": None}, None),
        (HELLO, {"src": "0.0.0.0:0"}, "0.0.0.0:0 and 10.244.0.3:8443"),
        (HELLO, {"src": "10.244.0.2:40001"}, "10.244.0.2:40001 and"),
        (HELLO, {"dst": "127.0.0.1:8443"}, "and 127.0.0.1:8443"),
        (HELLO, {"pod_ip": STRANGER}, STRANGER),
        (HTTP, {}, "10.244.0.2:40000 and"),
    ],
)
def test_its_ends_are_those_of_a_tls_connection(begins: bytes, other: dict[str, Any], said: str | None) -> None:
    found = list(own_tls.differences(pods(begins), [exchange(record(**other))]))
    assert len(found) == (said is not None)
    assert all(said is not None and said in difference.seen for difference in found)


def test_only_the_records_of_a_tapper_that_claims_it_are_set_apart() -> None:
    seen = [exchange(record()), exchange(record(plaintext=None))]
    assert own_tls.parted(seen, frozenset({Feature.TLS})) == (seen[:1], seen[1:])
    assert own_tls.parted(seen, frozenset()) == ([], seen)

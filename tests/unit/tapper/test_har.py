"""HAR 1.2, held to the fields that its specification requires."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from tapper_wire import Capture, Wire, exchanges, get, ok

from tapper.output.har import Har
from tapper.output.records import Place, Totals
from tapper.output.shape import Shape
from tapper.protocols.records import ExchangeRecord

POD = Place("pod", 4026531999, "lo", 77, "10.0.0.2")

Schema = dict[str, Any]
PAIR: Schema = {"name": str, "value": str}
REQUEST: Schema = {
    "method": str,
    "url": str,
    "httpVersion": str,
    "cookies": [PAIR],
    "headers": [PAIR],
    "queryString": [PAIR],
    "headersSize": int,
    "bodySize": int,
}
RESPONSE: Schema = {
    "status": int,
    "statusText": str,
    "httpVersion": str,
    "cookies": [PAIR],
    "headers": [PAIR],
    "content": {"size": int, "mimeType": str},
    "redirectURL": str,
    "headersSize": int,
    "bodySize": int,
}
ENTRY: Schema = {
    "startedDateTime": str,
    "time": float,
    "request": REQUEST,
    "response": RESPONSE,
    "cache": {},
    "timings": {"send": float, "wait": float, "receive": float},
}
ARCHIVE: Schema = {"log": {"version": str, "creator": {"name": str, "version": str}, "entries": [ENTRY]}}
OPTIONAL = {
    "postData": {"mimeType": str, "params": [PAIR], "text": str},
    "comment": str,
    "text": str,
    "encoding": str,
    "serverIPAddress": str,
    "connection": str,
}


def check(value: Any, schema: Any, where: str = "") -> None:
    """Everything required is there and of its type, and nothing else that the specification does not know."""
    if isinstance(schema, dict):
        assert isinstance(value, dict), where
        assert set(schema) <= set(value), where
        for key, item in value.items():
            if not key.startswith("_"):
                assert key in schema or key in OPTIONAL, f"{where}.{key}"
                check(item, schema[key] if key in schema else OPTIONAL[key], f"{where}.{key}")
    elif isinstance(schema, list):
        assert isinstance(value, list), where
        for item in value:
            check(item, schema[0], where + "[]")
    else:
        assert type(value) is schema, where


def archive(records: list[ExchangeRecord]) -> dict[str, Any]:
    form = Har()
    text = form.hello("1.2.3", 5) + "".join(form.exchange(POD, it) for it in records) + form.bye(Totals())
    found = json.loads(text)
    assert isinstance(found, dict)
    check(found, ARCHIVE)
    log: dict[str, Any] = found["log"]
    return log


def seen(*messages: tuple[bytes | None, bytes | None]) -> list[ExchangeRecord]:
    wire = Wire((("127.0.0.6", 40000), ("10.0.0.2", 8080)))
    packets = wire.handshake()
    for request, response in messages:
        packets += [wire.ask(request)] if request else []
        packets += [wire.answer((response or b"")[at : at + 30_000]) for at in range(0, len(response or b""), 30_000)]
    return Capture().feed(packets).finish().seen


POST = (
    b"POST /a?b=c&d=&b=%20e HTTP/1.1\r\nHost: shop:80\r\nContent-Type: text/plain\r\nCookie: s3cr3t\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n3\r\nh\xc3\xa9\r\n0\r\nSum: 9\r\n\r\n"
)
MOVED = b"HTTP/1.1 302 Found it\r\nLocation: /b\r\nContent-Type: image/png\r\nContent-Length: 3\r\n\r\n\x89\xff\x00"


def test_an_entry() -> None:
    (entry,) = archive(seen((POST, MOVED)))["entries"]
    request, response = entry["request"], entry["response"]
    assert (request["method"], request["url"], request["httpVersion"]) == (
        "POST",
        "http://shop:80/a?b=c&d=&b=%20e",
        "HTTP/1.1",
    )
    assert [(it["name"], it["value"]) for it in request["queryString"]] == [("b", "c"), ("d", ""), ("b", " e")]
    assert request["headers"][0] == {"name": "Host", "value": "shop:80"}
    assert request["postData"] == {"mimeType": "text/plain", "params": [], "text": "hé"}
    assert request["headersSize"] == POST.index(b"\r\n\r\n") + 4
    assert request["bodySize"] == 3
    assert request["_trailers"] == [{"name": "Sum", "value": "9"}]
    assert (response["status"], response["statusText"], response["redirectURL"]) == (302, "Found it", "/b")
    text = base64.b64encode(b"\x89\xff\x00").decode()
    assert response["content"] == {"size": 3, "mimeType": "image/png", "text": text, "encoding": "base64"}
    assert entry["startedDateTime"] == "2023-11-14T22:13:20.004000Z"
    assert entry["timings"] == {"send": 0.0, "wait": 1.0, "receive": 0.0}
    assert entry["time"] == 1.0
    assert (entry["serverIPAddress"], entry["_direction"]) == ("10.0.0.2", "inbound")


@pytest.mark.parametrize(
    ("start", "url"),
    [
        ("GET http://other/x?u=1", "http://other/x?u=1"),
        ("OPTIONS *", "http://test/*"),
        ("GET /x?u=http://y", "http://test/x?u=http://y"),
    ],
)
def test_urls(start: str, url: str) -> None:
    (entry,) = archive(seen((f"{start} HTTP/1.1\r\nHost: test\r\n\r\n".encode(), ok())))["entries"]
    assert entry["request"]["url"] == url


def test_without_a_host_the_server_is_named_by_its_address() -> None:
    (entry,) = archive(seen((b"GET / HTTP/1.0\r\n\r\n", ok())))["entries"]
    assert entry["request"]["url"] == "http://10.0.0.2:8080/"


def test_what_is_missing_or_cut_is_said() -> None:
    log = archive(seen((None, ok("x")), (get("/unanswered"), None)))
    (entry,) = log["entries"]
    assert entry["response"]["status"] == 0
    assert entry["response"]["_error"] == "no response seen"
    assert log["comment"] == "1 responses without their requests are left out"
    (cut,) = archive(seen((get("/cut"), ok("hello")[:-2])))["entries"]
    assert cut["response"]["comment"] == "the end of the body was not seen"
    (long,) = archive(seen((get("/long"), ok("x" * 70_000))))["entries"]
    assert long["response"]["comment"] == "65536 of 70000 bytes of the body were kept"


def test_none_one_or_many_entries_are_an_archive() -> None:
    for count in range(3):
        assert len(archive(seen(*[(get(f"/{index}"), ok()) for index in range(count)]))["entries"]) == count


def test_what_a_killed_run_wrote_needs_three_characters() -> None:
    form = Har()
    text = form.hello("1", 5) + "".join(form.exchange(POD, it) for it in seen((get("/1"), ok()), (get("/2"), ok())))
    check(json.loads(text + "]}}"), ARCHIVE)


def test_redaction_reaches_the_archive() -> None:
    records = seen((POST, MOVED))
    assert "s3cr3t" in json.dumps(archive(records)), "the canary"
    assert "s3cr3t" not in json.dumps(archive(exchanges(Shape().apply(records, Totals()))))

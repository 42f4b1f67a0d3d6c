"""HAR 1.2, held to a schema of its specification, and to what the importers of browsers ask besides."""

from __future__ import annotations

import base64
import copy
import gzip
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
from h2_wire import Peer, data, opening
from tapper_wire import Capture, Wire, exchanges, get, ok

from tapper.output import har
from tapper.output.har import Har
from tapper.output.records import Place, Totals
from tapper.output.shape import Shape
from tapper.protocols.records import ExchangeRecord, FactRecord, Record

POD = Place("pod", 4026531999, "lo", 77, "10.0.0.2")

SCHEMA = json.loads((Path(__file__).parent / "har12.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
WITHOUT_REQUEST = "1 responses without their requests are left out"


def check(found: Any) -> None:
    """The specification's schema, and what the importers of browsers do with an archive besides."""
    VALIDATOR.validate(found)
    assert isinstance(found["log"]["pages"], list), "Firefox goes through the pages"
    for entry in found["log"]["entries"]:
        datetime.fromisoformat(entry["startedDateTime"])
        assert 0 < int(entry["connection"]) < 65536, "Chrome and Firefox show it as the server's port"
        assert all(type(time) in (int, float) for time in entry["timings"].values()), "Firefox adds them up"
        assert set(entry["timings"]) >= {"blocked", "dns", "connect", "ssl", "send", "wait", "receive"}
        url = urlsplit(entry["request"]["url"])
        assert url.scheme in ("http", "https", "ws", "wss")
        assert url.hostname, "both make an URL object of it"
        for cookie in entry["response"]["cookies"]:
            datetime.fromisoformat(cookie.get("expires", "2026-01-01T00:00:00+00:00"))
        content = entry["response"]["content"]
        if content.get("encoding") == "base64":
            base64.b64decode(content["text"], validate=True)
        if "compression" in content:
            assert content["size"] - content["compression"] == entry["response"]["bodySize"]


def archive(records: Sequence[Record]) -> dict[str, Any]:
    form = Har()
    lines = [form.fact(POD, it) if isinstance(it, FactRecord) else form.exchange(POD, it) for it in records]
    text = form.hello("1.2.3", 5) + "".join(lines) + form.bye(Totals())
    found = json.loads(text)
    check(found)
    log: dict[str, Any] = found["log"]
    return log


def seen(*messages: tuple[bytes | None, bytes | None]) -> list[Record]:
    wire = Wire((("127.0.0.6", 40000), ("10.0.0.2", 8080)))
    packets = wire.handshake()
    for request, response in messages:
        packets += [wire.ask(request)] if request else []
        packets += [wire.answer((response or b"")[at : at + 30_000]) for at in range(0, len(response or b""), 30_000)]
    return Capture().feed(packets).finish().records


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
    unknown = dict.fromkeys(("blocked", "dns", "connect", "ssl"), -1)
    assert entry["timings"] == {**unknown, "send": 0.0, "wait": 1.0, "receive": 0.0}
    assert entry["time"] == 1.0
    assert (entry["serverIPAddress"], entry["_direction"]) == ("10.0.0.2", "inbound")


@pytest.mark.parametrize(
    ("start", "url"),
    [
        ("GET http://other/x?u=1", "http://other/x?u=1"),
        ("OPTIONS *", "http://test/*"),
        ("GET /x?u=http://y", "http://test/x?u=http://y"),
        ("CONNECT api.test:443", "http://api.test:443/"),
        ("CONNECT [fd00::1]:80", "http://[fd00::1]:80/"),
        ("GET /na\u00efve?q=\u00fc", "http://test/na\u00efve?q=\u00fc"),
    ],
)
def test_urls(start: str, url: str) -> None:
    (entry,) = archive(seen((f"{start} HTTP/1.1\r\nHost: test\r\n\r\n".encode(), ok())))["entries"]
    assert entry["request"]["url"] == url


def test_a_target_that_is_not_utf8_is_percent_encoded() -> None:
    (entry,) = archive(seen((b"GET /na\xefve?q=\xfc HTTP/1.1\r\nHost: a\r\n\r\n", ok())))["entries"]
    assert entry["request"]["url"] == "http://a/na%EFve?q=%FC"


def test_the_values_of_a_query_are_utf8() -> None:
    (entry,) = archive(seen((get("/?a=\u00fc&b=%C3%BC"), ok())))["entries"]
    assert entry["request"]["queryString"] == [{"name": "a", "value": "\u00fc"}, {"name": "b", "value": "\u00fc"}]


def test_cookies() -> None:
    request = b"GET / HTTP/1.1\r\nHost: a\r\nCookie: a=1; b=x=y\r\nCookie: c=\r\n\r\n"
    response = (
        b"HTTP/1.1 200 OK\r\nSet-Cookie: s=1; Path=/; Domain=a.test; Secure; HttpOnly; SameSite=Lax\r\n"
        b"Set-Cookie: t=2; Expires=Wed, 21 Oct 2026 07:28:00 GMT\r\nSet-Cookie: u=3; Expires=tomorrow\r\n"
        b"Set-Cookie: v=4; Expires=Wed, 99 Oct 2026 07:28:00 GMT\r\nSet-Cookie: nothing\r\nContent-Length: 0\r\n\r\n"
    )
    (entry,) = archive(seen((request, response)))["entries"]
    assert [(it["name"], it["value"]) for it in entry["request"]["cookies"]] == [("a", "1"), ("b", "x=y"), ("c", "")]
    assert entry["response"]["cookies"] == [
        {"name": "s", "value": "1", "path": "/", "domain": "a.test", "secure": True, "httpOnly": True},
        {"name": "t", "value": "2", "expires": "2026-10-21T07:28:00+00:00"},
        {"name": "u", "value": "3"},
        {"name": "v", "value": "4"},
    ]


def coded(coding: str, body: bytes) -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (coding.encode(), len(body)) + body
    )


def test_a_body_is_decoded_and_the_sizes_tell_so() -> None:
    packed = gzip.compress(b"hello" * 100)
    (entry,) = archive(seen((get(), coded("gzip", packed))))["entries"]
    assert entry["response"]["bodySize"] == len(packed)
    assert entry["response"]["content"] == {
        "size": 500,
        "compression": 500 - len(packed),
        "mimeType": "x-unknown",
        "text": "hello" * 100,
    }


def test_a_body_that_cannot_be_decoded_is_there_as_it_was_sent() -> None:
    (entry,) = archive(seen((get(), coded("lzma", b"\xff\xfe"))))["entries"]
    content = entry["response"]["content"]
    assert (content["size"], content["text"], content["encoding"]) == (2, "//4=", "base64")
    assert content["comment"] == "not decoded: lzma is not known"


def test_a_decoded_request() -> None:
    packed = gzip.compress(b'{"a": 1}')
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    (entry,) = archive(seen((head + packed, ok())))["entries"]
    assert (entry["request"]["postData"]["text"], entry["request"]["bodySize"]) == ('{"a": 1}', len(packed))


# -- WebSocket ---------------------------------------------------------------------------------------------------------

UPGRADE = b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: x\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"


CLIENTS_CLOSE = b"\x88\x80" + bytes(4)  # masked, as all frames of clients


def frame(opcode: int, payload: bytes) -> bytes:
    return bytes([0x80 | opcode, len(payload)]) + payload


def websocket(*answers: bytes, asks: bytes = b"", port: int = 40000) -> list[Record]:
    wire = Wire((("127.0.0.6", port), ("10.0.0.2", 8080)))
    packets = [*wire.handshake(), wire.ask(UPGRADE), wire.answer(SWITCHED), *map(wire.answer, answers)]
    packets += [wire.ask(asks)] if asks else []
    return Capture().feed(packets).finish().records


def test_the_messages_of_a_websocket_are_in_its_entry_as_chrome_has_them() -> None:
    records = websocket(frame(1, "h\u00e9".encode()), frame(2, b"\xff"), frame(8, b"\x03\xe8"), asks=CLIENTS_CLOSE)
    (entry,) = archive(records)["entries"]
    assert (entry["_resourceType"], entry["request"]["url"]) == ("websocket", "ws://a/chat")
    assert [(it["type"], it["opcode"], it["data"]) for it in entry["_webSocketMessages"]] == [
        ("receive", 1, "h\u00e9"),
        ("receive", 2, "/w=="),
        ("receive", 8, "A+g="),
        ("send", 8, ""),
    ]
    assert entry["_webSocketMessages"][0]["time"] == pytest.approx(1_700_000_000.006)


def test_an_entry_waits_until_both_sides_have_closed() -> None:
    form = Har()
    form.hello("1", 5)
    upgrade, *facts = websocket(frame(1, b"a"), frame(8, b""), asks=CLIENTS_CLOSE)
    assert isinstance(upgrade, ExchangeRecord)
    assert form.exchange(POD, upgrade) == ""
    told = [form.fact(POD, fact) for fact in facts if isinstance(fact, FactRecord)]
    assert [bool(text) for text in told] == [False, False, True]


def test_an_open_websocket_is_written_at_the_end() -> None:
    (entry,) = archive(websocket(frame(1, b"a")))["entries"]
    assert len(entry["_webSocketMessages"]) == 1


def test_what_waits_is_bounded_and_the_largest_entry_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(har, "MOST_HELD", 40_000)
    large, small = websocket(frame(1, b"a" * 100)), websocket(frame(1, b"b"), port=40001)
    log = archive([large[0], *small, *[large[1]] * 400])
    first, second = log["entries"]
    assert 50 < len(first["_webSocketMessages"]) < 200, "each costs more than its bytes"
    assert first["comment"] == "further messages are left out"
    assert [it["data"] for it in second["_webSocketMessages"]] == ["b"]
    left = 400 - len(first["_webSocketMessages"])
    assert log["comment"] == f"{left} messages of WebSockets without an entry that waits are left out"


def test_websockets_that_share_a_connection_have_their_own_messages() -> None:
    wire = Wire((("127.0.0.6", 40000), ("10.0.0.2", 8080)))
    client, server = Peer(), Peer()
    packets = [*wire.handshake(), wire.ask(opening())]
    for stream in (1, 3):
        opens = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", f"/{stream}")]
        packets += [wire.ask(client.headers(stream, opens)), wire.answer(server.headers(stream, [(":status", "200")]))]
    packets += [wire.answer(data(stream, frame(1, b"to %d" % stream))) for stream in (3, 1, 3)]
    log = archive(Capture().feed(packets).finish().records)
    texts = {
        entry["request"]["url"][-2:]: [it["data"] for it in entry["_webSocketMessages"]] for entry in log["entries"]
    }
    assert texts == {"/1": ["to 1"], "/3": ["to 3", "to 3"]}
    assert "comment" not in log


def test_a_message_without_an_entry_is_counted() -> None:
    assert archive(websocket(frame(1, b"a"))[1:])["comment"].startswith("1 messages of WebSockets without an entry")


@pytest.mark.parametrize(
    ("sent", "method", "url"),
    [
        (b"GET /a b{c} HTTP/1.1\r\nHost: h\r\n\r\n", "GET", "http://h/a%20b%7Bc%7D"),
        (b"what is this\r\n\r\n", "UNKNOWN", "http://10.0.0.2:8080/"),
    ],
)
def test_a_malformed_request_has_a_method_and_an_url_all_the_same(sent: bytes, method: str, url: str) -> None:
    (entry,) = archive(seen((sent, ok())))["entries"]
    assert (entry["request"]["method"], entry["request"]["url"]) == (method, url)


@pytest.mark.parametrize(
    ("charset", "text"),
    [
        ("; Charset=iso-8859-1", "gr\u00fc\u00df"),
        ('; charset="utf-16"', "gr\u00fc\u00df"),
        ("", "gr\u00fc\u00df"),
        ("; charset=idna", None),
    ],
)
def test_a_text_in_another_character_set_is_text(charset: str, text: str | None) -> None:
    coding = "utf-16" if "16" in charset else "latin-1" if charset else "utf-8"
    body = "gr\u00fc\u00df".encode(coding)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain{charset}\r\nContent-Length: {len(body)}\r\n\r\n"
    (entry,) = archive(seen((get("/"), head.encode() + body)))["entries"]
    content = entry["response"]["content"]
    assert (content["text"] if "encoding" not in content else None) == text


def test_entries_that_wait_are_bounded_without_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(har, "MOST_HELD", 40_000)
    upgrades = [websocket(port=port)[0] for port in range(1000, 1100)]
    form = Har()
    form.hello("1", 5)
    written = sum(bool(form.exchange(POD, it)) for it in exchanges(upgrades))
    assert 70 < written < 100


def test_without_a_host_the_server_is_named_by_its_address() -> None:
    (entry,) = archive(seen((b"GET / HTTP/1.0\r\n\r\n", ok())))["entries"]
    assert entry["request"]["url"] == "http://10.0.0.2:8080/"


def test_what_is_missing_or_cut_is_said() -> None:
    log = archive(seen((None, ok("x")), (get("/unanswered"), None)))
    (entry,) = log["entries"]
    assert entry["response"]["status"] == 0
    assert entry["response"]["_error"] == "no response seen"
    assert log["comment"] == WITHOUT_REQUEST
    (cut,) = archive(seen((get("/cut"), ok("hello")[:-2])))["entries"]
    assert cut["response"]["comment"] == "the end of the body was not seen"
    (long,) = archive(seen((get("/long"), ok("x" * 70_000))))["entries"]
    assert long["response"]["comment"] == "65536 of 70000 bytes of the body were kept"


def test_none_one_or_many_entries_are_an_archive() -> None:
    for count in range(3):
        assert len(archive(seen(*[(get(f"/{index}"), ok()) for index in range(count)]))["entries"]) == count


def test_what_a_killed_run_wrote_needs_three_characters() -> None:
    form = Har()
    records = exchanges(seen((get("/1"), ok()), (get("/2"), ok())))
    text = form.hello("1", 5) + "".join(form.exchange(POD, it) for it in records)
    check(json.loads(text + "]}}"))


def test_the_schema_refuses() -> None:
    """The canary."""
    good = {"log": archive(seen((POST, MOVED)))}
    spoils: list[Callable[[Any], object]] = [
        lambda log: log.pop("pages"),
        lambda log: log["entries"][0].pop("cache"),
        lambda log: log["entries"][0]["request"].update(url="/a"),
        lambda log: log["entries"][0]["request"].update(further=1),
        lambda log: log["entries"][0]["response"]["content"].update(size="3"),
    ]
    for spoil in spoils:
        bad = copy.deepcopy(good)
        spoil(bad["log"])
        assert not VALIDATOR.is_valid(bad)


def test_redaction_reaches_the_archive() -> None:
    records = seen((POST, MOVED))
    assert "s3cr3t" in json.dumps(archive(records)), "the canary"
    assert "s3cr3t" not in json.dumps(archive(Shape().apply(records, Totals())))

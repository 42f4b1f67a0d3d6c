"""What is secret, in which spellings, and that no output has it wherever in a message it stands."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from h2_wire import Peer, opening
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tapper_wire import Wire, get, ok

from tapper.cli import main
from tapper.errors import UsageError
from tapper.output import pcapng
from tapper.output.console import Console
from tapper.output.format import Format
from tapper.output.har import Har
from tapper.output.redaction import ENDINGS, NAMES, URL_ENDINGS, Redaction
from tapper.output.shape import Shape
from tapper.output.sink import Sink
from tapper.output.terminal import Terminal
from tapper.output.text import Text
from tapper.protocols.facts import ByteStream, StreamBegin, Tls
from tapper.protocols.headers import HeaderList
from tapper.protocols.messages import RequestHead, ResponseHead
from tapper.run.parts import PLAIN, Parts, chosen
from tapper.run.replay import Replay
from tapper.run.writer import RecordWriter

SECRET = "q7vZ0815kJ"

# Names and URLs.


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("/a?access_token=s&b=1", "/a?access_token=REDACTED&b=1"),
        ("/a?b=1&Signature=s", "/a?b=1&Signature=REDACTED"),
        (
            "/a?X-Goog-Signature=s&AWSAccessKeyId=s&sig=s",
            "/a?X-Goog-Signature=REDACTED&AWSAccessKeyId=REDACTED&sig=REDACTED",
        ),
        ("/a?sig=a%2Fb==&x", "/a?sig=REDACTED&x"),
        ("/a?key=1?2/3", "/a?key=REDACTED"),
        ("/a?%74o%6ben=s", "/a?%74o%6ben=REDACTED"),
        ("/a?user[password]=s", "/a?user[password]=REDACTED"),
        ("/a?a=1;token=s&b=2", "/a?a=REDACTED&b=2"),
        ("/a??token=s", "/a??token=REDACTED"),
        ("/a;jsessionid=s/b?c=d", "/a;jsessionid=REDACTED/b?c=d"),
        ("/callback#state=1&id_token=s", "/callback#state=1&id_token=REDACTED"),
        ("/a?next=https%3A%2F%2Fh%2F%3Fcode%3Ds&b=1", "/a?next=REDACTED&b=1"),
        ("/a?next=%253Fcode%253Ds", "/a?next=REDACTED"),
        ("/a?next=https://u:p@h/", "/a?next=https://REDACTED:REDACTED@h/"),
        ('/a?filter={"token":"s"}&b=1', "/a?filter=REDACTED&b=1"),
        ("/a?filter=%7B%22user%22%3A%7B%22password%22%3A%22s%22%7D%7D", "/a?filter=REDACTED"),
        ("/a token=s&b=1", "/a token=REDACTED"),
        ("/a?b=1 token=s", "/a?b=REDACTED"),
        ("/a?token=s t", "/a?token=REDACTED"),
        ("http://u:p@h/x", "http://REDACTED:REDACTED@h/x"),
        ("http://t@h:80?x=y", "http://REDACTED@h:80?x=y"),
        ("u:p@h:443", "REDACTED:REDACTED@h:443"),
        ("/proxy/http://u:p@q@h/", "/proxy/http://REDACTED:REDACTED@h/"),
        # Nothing of these is secret.
        ("/@scope/package?email=a@b.example&page=2", "/@scope/package?email=a@b.example&page=2"),
        ("/a?data=abc==&token=&monkey=1#top", "/a?data=abc==&token=&monkey=1#top"),
        ("*", "*"),
        ("/" + "a=b&" * 600, "/" + "a=b&" * 600),
        ("/?" + "a=b&" * 600, "/?" + "a=b&" * 512 + "REDACTED"),
    ],
)
def test_secrets_in_urls(url: str, shown: str) -> None:
    redaction = Redaction()
    assert redaction.url(url) == shown
    assert redaction.url(shown) == shown, "what is redacted stays as it is"


@pytest.mark.parametrize(
    ("name", "is_hidden"),
    [
        *((name, True) for name in ("Authorization", "PROXY_AUTHORIZATION", "apiKey", "X-Api-Key", "x-gitlab-token")),
        *((name, True) for name in ("client_secret", "Set-Cookie", "filter.token", "cookie\x00", "authorization\xa0")),
        *((name, True) for name in ("authorization-bin", "X-Token-Bin", "Ocp-Apim-Subscription-Key", "id_token_hint")),
        *((name, True) for name in ("X-GitHub-OTP", "X-Auth-Key", "Cf-Access-Jwt-Assertion", "mcp-session-id")),
        *((name, False) for name in ("ETag", "Idempotency-Key", "Sec-WebSocket-Key", "opcode", "Content-Type")),
    ],
)
def test_names(name: str, is_hidden: bool) -> None:
    assert Redaction().hides(name) is is_hidden


def test_names_are_added_and_kept() -> None:
    redaction = Redaction(["X-Seen"], ["code", "Set_Cookie"])
    assert redaction.url("/?x_seen=s&code=s&token=s") == "/?x_seen=REDACTED&code=s&token=REDACTED"
    assert redaction.shown("set-cookie", "s") == "s"
    assert redaction.shown("COOKIE", "s") == "[redacted]"
    assert Redaction(["x.y"]).shown("X.Y", "s") == "[redacted]", "a name is more than one word"
    with pytest.raises(UsageError, match="not hidden"):
        Redaction(keep=["X-Seen"])
    with pytest.raises(UsageError, match="contradict"):
        Redaction(["api-key"], ["API_KEY"])


def test_facts() -> None:
    redaction = Redaction()
    assert redaction.fact(Tls(1, "u:p@h", ("h2",))) == Tls(1, "REDACTED:REDACTED@h", ("h2",))
    stream = ByteStream(1, "mqtt", (3, 3), 0, (b"abc", b"def"), client_known=True)
    assert redaction.fact(stream) == ByteStream(1, "mqtt", (3, 3), 0, (b"", b""), client_known=True)
    asked, told = (
        HeaderList((("Cookie", SECRET), ("Referer", f"/?sig={SECRET}"))),
        HeaderList((("Set-Cookie", SECRET),)),
    )
    head = RequestHead(1, 0, 0, "GET", f"/events?token={SECRET}", "HTTP/1.1", asked, 9)
    begin = redaction.fact(StreamBegin("1", head, ResponseHead(2, 0, 0, 200, "OK", "HTTP/1.1", told, 9)))
    assert isinstance(begin, StreamBegin)
    assert begin.response is not None
    assert (begin.request.target, SECRET in head.target) == ("/events?token=REDACTED", True)
    assert begin.request.headers == (("Cookie", "[redacted]"), ("Referer", "/?sig=REDACTED"))
    assert begin.response.headers == (("Set-Cookie", "[redacted]"),)
    hidden = Redaction(["upgrade"]).fact(stream)
    assert isinstance(hidden, ByteStream)
    assert hidden.what == "[redacted]"


# Any place of any message, in any output.

FORMATS: tuple[Callable[[Parts], Format], ...] = (
    lambda parts: parts.ndjson(),
    lambda _: Text(verbose=True),
    lambda _: Terminal(lambda: 1000, colour=False, verbose=True),
    lambda _: Har(),
)
Message = tuple[bytes, bytes]
"""What a client sends, and what its server answers."""

_SPELLINGS = (str.lower, str.upper, str.title, lambda name: name.replace("-", "_"))
names = st.builds(
    lambda name, spell: spell(name),
    st.sampled_from([*NAMES, *ENDINGS, *(f"x-some-{ending}" for ending in ENDINGS)]),
    st.sampled_from(_SPELLINGS),
)
_SECRET_URLS = (
    f"http://u:{SECRET}@h/a",
    f"http://{SECRET}@h/",
    f"/a?b=1&%s={SECRET}&c=d",
    f"/a?%s={SECRET}==#x",
    f"/a;%s={SECRET}/b",
    f"/a#%s={SECRET}",
    f"/a?next=http%%3A%%2F%%2Fh%%2F%%3F%s%%3D{SECRET}",
    f"/a?next=http://u:{SECRET}@h/",
)
urls = st.builds(lambda url, name: url % name if "%s" in url else url, st.sampled_from(_SECRET_URLS), names)
# (name, value) of a field that has the secret in its value.
fields = st.one_of(
    st.tuples(names, st.sampled_from([SECRET, f"Bearer {SECRET}", f'a="{SECRET}", b=c'])),
    st.tuples(st.sampled_from([*URL_ENDINGS, *(f"x-some-{ending}" for ending in URL_ENDINGS)]), urls),
    st.just(("Sec-WebSocket-Protocol", f"chat, bearer.{SECRET}")),
)


def _line(field: tuple[str, str], how: str) -> str:
    """A field line as clients and servers write it, and as they should not."""
    name, value = field
    return {
        "usual": f"{name}: {value}",
        "blank": f"{name} : {value}",
        "tabs": f"{name}\t:\t{value}\t",
        "folded": f"{name}:\r\n {value}",
        "bare": f"{name}:{value}",
    }[how]


lines = st.builds(_line, fields, st.sampled_from(["usual", "blank", "tabs", "folded", "bare"]))
_FAULTS = (
    "",
    "no colon here\r\n",
    "\x00: \x01\r\n",
    "Content-Length: 3\r\nContent-Length: 4\r\n",
    " begins folded\r\n",
)


@st.composite
def http1(draw: st.DrawFn) -> Message:
    """A request and its answer, with the secret at one place of either."""
    place = draw(st.sampled_from(["target", "request", "request trailer", "response", "response trailer"]))
    target = draw(urls) if place == "target" else "/a"
    line = draw(lines)
    fault = draw(st.sampled_from(_FAULTS))
    heads = []
    for whose, start in (("request", f"POST {target} HTTP/1.1"), ("response", "HTTP/1.1 200 OK")):
        head = f"{start}\r\nX-First: 1\r\n{fault}"
        head += f"{line}\r\n" if place == whose else ""
        trailer = f"{line}\r\n" if place == f"{whose} trailer" else ""
        heads.append(f"{head}X: y\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n{trailer}\r\n".encode("latin-1"))
    return heads[0], heads[1]


@st.composite
def http2(draw: st.DrawFn) -> Message:
    """As http1. Names are in any case, although RFC 9113 section 8.2.1 wants lower case."""
    place = draw(st.sampled_from([":path", ":authority", "request", "trailer", "response"]))
    client, server = Peer(), Peer()
    field = draw(fields)
    path = draw(urls) if place == ":path" else "/a"
    authority = f"u:{SECRET}@h" if place == ":authority" else "h"
    pseudo = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", authority)]
    kind = [("content-type", draw(st.sampled_from(["application/grpc", "text/plain"])))]
    asked, answered = opening(), b""
    for stream in (1, 3):
        own = [field] if place == "request" else []
        asked += client.continued(stream, [*pseudo, *kind, *own], draw(st.sampled_from([7, 100])), end=True)
        answered += server.headers(stream, [(":status", "200"), *kind, *([field] if place == "response" else [])])
        answered += server.headers(stream, [("x", "y"), *([field] if place == "trailer" else [])], end=True)
    return asked, answered


def grpc_call(path: str) -> Message:
    """A gRPC call with this path."""
    request = [(":method", "POST"), (":scheme", "http"), (":path", path), ("content-type", "application/grpc")]
    response = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "0")]
    return opening() + Peer().headers(1, request, end=True), Peer().headers(1, response, end=True)


def _outputs(packets: list[bytes], shape: Shape | None = None) -> Iterator[str]:
    """What each format and the console write about the packets, with all texts in base64 decoded."""
    file = pcapng.section_header("t") + pcapng.interface("10.0.0.2 lo", "")
    file += b"".join(pcapng.packet(0, 1_700_000_000_000_000_000 + at, each) for at, each in enumerate(packets))
    for make in FORMATS:
        for parts in (PLAIN, chosen()):
            written, said = io.BytesIO(), io.StringIO()
            console = Console(said)
            writer = RecordWriter(Sink(written), make(parts), console, shape or Shape(), parts=parts)
            Replay(frozenset(), writer).run(io.BytesIO(file), "x")
            text = written.getvalue().decode()
            yield f"{text}\n{said.getvalue()}\n{_decoded(text)}"


def _decoded(text: str) -> str:
    """The bodies and previews of the records of NDJSON; nothing of another format."""
    found = []
    for line in text.splitlines():
        if line.startswith('{"type"'):
            record = json.loads(line)
            for part in (record, record.get("request") or {}, record.get("response") or {}):
                found += [base64.b64decode(part[name] or "") for name in part if name.endswith("_b64")]
    return b"\n".join(found).decode("latin-1")


@settings(max_examples=80, deadline=None)
@given(
    messages=st.lists(http1() | http2(), min_size=1, max_size=2),
    steps=st.lists(st.integers(1, 90), min_size=1, max_size=4),
    lost=st.sets(st.integers(0, 8), max_size=2),
    midstream=st.booleans(),
)
@example(messages=[(get(f"/?token={SECRET}"), ok())], steps=[1000], lost=set(), midstream=False)
@example(messages=[grpc_call(f"/a?token={SECRET}/b")], steps=[1000], lost=set(), midstream=False)
@example(messages=[grpc_call(f"/a?b/token={SECRET}")], steps=[1000], lost=set(), midstream=False)
@example(messages=[(b"Cookie: " + SECRET.encode() + b"\r\n\r\n" + get(), ok())], steps=[10], lost=set(), midstream=True)
def test_a_secret_is_in_no_output(messages: list[Message], steps: list[int], lost: set[int], midstream: bool) -> None:
    wire = Wire((("10.0.0.3", 40000), ("10.0.0.2", 8080)))
    packets = wire.handshake()
    if midstream:
        packets = []
    number = 0
    for asked, answered in messages:
        for send, sent in ((wire.ask, asked), (wire.answer, answered)):
            at = 0
            while at < len(sent):
                step = steps[number % len(steps)]
                packet = send(sent[at : at + step])
                if number not in lost:
                    packets.append(packet)
                at, number = at + step, number + 1
    for output in _outputs(packets + wire.close()):
        assert SECRET not in output


def test_the_property_sees_what_it_looks_at() -> None:
    """The canary: each output shows the place of the secret, and without redaction it has the secret."""
    wire = Wire((("10.0.0.3", 40000), ("10.0.0.2", 8080)))
    packets = [*wire.handshake(), wire.ask(get(f"/canary?token={SECRET}")), wire.answer(ok()), *wire.close()]
    assert all("/canary?token=REDACTED" in output for output in _outputs(packets))
    assert all(SECRET in output for output in _outputs(packets, Shape(redaction=None)))


@given(st.text(st.sampled_from("?&#;=@/%:a25B3D[]tokensig"), max_size=60))
def test_any_url_is_redacted_once(url: str) -> None:
    redaction = Redaction()
    shown = redaction.url(url)
    assert redaction.url(shown) == shown


@pytest.mark.parametrize("is_redacted", [True, False])
def test_a_crash_quotes_nothing_that_was_captured(
    is_redacted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ValueError(SECRET)

    monkeypatch.setattr("tapper.cli.open_output", fail)
    file = tmp_path / "file"
    file.write_bytes(pcapng.section_header("t"))
    argv = ["tap", "-r", str(file)]
    if not is_redacted:
        with pytest.raises(ValueError, match=SECRET):
            main([*argv, "--no-redact"])
        return
    assert main(argv) == 1
    said = capsys.readouterr().err
    assert SECRET not in said
    assert "ValueError" in said
    assert "in fail" in said, "where it was raised"


def test_packets_need_the_word_that_nothing_is_redacted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tap", "-r", "x", "-o", "pcapng", "-w", "x"]) == 2
    assert "add --no-redact" in capsys.readouterr().err


def test_trailers_that_repeat_a_request_hide_its_url() -> None:
    """A second header block is told as trailers, where RFC 9113 section 8.1 forbids pseudo-header fields."""
    shown = Redaction()
    assert "s3cret" not in shown.shown(":path", "http://u:s3cret@h/a?token=s3cret")
    assert shown.shown(":path", "/a?b=c") == "/a?b=c"

"""Content codings: undone by what a client would use, also one upon the other, and bounded."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tapper_wire import Capture, Wire, get

from tapper.output.content import DECODED_LIMIT, MessageContent, content
from tapper.output.details import details
from tapper.protocols.exchange import Exchange
from tapper.protocols.headers import HeaderList
from tapper.protocols.messages import End, Response, ResponseHead

TEXT = b'{"hello": "world"}' * 50


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def brotli(data: bytes) -> bytes:
    found = pytest.importorskip("brotli", reason="the extra decode is not installed")
    packed: bytes = found.compress(data, quality=4)
    return packed


def zstd(data: bytes) -> bytes:
    found = pytest.importorskip("zstandard", reason="the extra decode is not installed")
    packed: bytes = found.ZstdCompressor().compress(data)
    return packed


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli,
    "zstd": zstd,
    "identity": bytes,
}


def message(body: bytes, *codings: str, truncated: bool = False) -> Response:
    fields = HeaderList(tuple(("Content-Encoding", coding) for coding in codings))
    head = ResponseHead(0, 0, 0, 200, "OK", "HTTP/1.1", fields, 0)
    return Response(head, End(0, 0, body, len(body) + 9 * truncated, truncated, ()))


@pytest.mark.parametrize("coding", PACK)
def test_one_coding(coding: str) -> None:
    found = content(message(PACK[coding](TEXT), coding.upper()))
    assert found == MessageContent(TEXT, coding != "identity", True)


def test_deflate_without_the_header_of_zlib() -> None:
    assert content(message(raw_deflate(TEXT), "deflate")).data == TEXT


def test_gzip_of_several_members() -> None:
    assert content(message(gzip.compress(b"a") + gzip.compress(b"b" * 9000) + gzip.compress(b"c"), "gzip")).data == (
        b"a" + b"b" * 9000 + b"c"
    )


def test_zeros_after_gzip_are_no_damage_and_other_bytes_are() -> None:
    assert content(message(gzip.compress(TEXT) + bytes(9), "gzip")) == MessageContent(TEXT, True, True)
    found = content(message(gzip.compress(TEXT) + b"more", "gzip"))
    assert found == MessageContent(TEXT, True, False, "decoded in part: the content is no valid gzip to its end")


def test_transfer_codings_were_applied_after_content_codings() -> None:
    answer = message(gzip.compress(zlib.compress(TEXT)), "deflate")
    answer.head.fields = HeaderList((*answer.head.headers, ("Transfer-Encoding", "gzip, Chunked")))
    assert content(answer) == MessageContent(TEXT, True, True)


@pytest.mark.parametrize("fields", [("deflate, gzip",), ("deflate", "gzip"), (" deflate ,identity,, GZIP",)])
def test_codings_one_upon_the_other(fields: tuple[str, ...]) -> None:
    """The last one named was applied last (RFC 9110 section 8.4)."""
    assert content(message(gzip.compress(zlib.compress(TEXT)), *fields)) == MessageContent(TEXT, True, True)


def test_too_many_codings() -> None:
    found = content(message(b"x", ", ".join(["gzip"] * 5)))
    assert (found.data, found.remark) == (b"x", "not decoded: more than 4 content codings")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_a_body_that_was_kept_in_part_is_decoded_so_far(coding: str) -> None:
    long = b"".join(b"%d," % (number * 7919 % 65537) for number in range(60_000))
    packed = PACK[coding](long)
    found = content(message(packed[: len(packed) * 3 // 4], coding, truncated=True))
    assert long.startswith(found.data)
    assert len(found.data) > 30_000
    assert (found.whole, found.remark) == (False, "decoded as far as the body was kept")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_a_bomb_makes_no_more_than_the_limit(coding: str) -> None:
    bomb = PACK[coding](bytes(4 << 20))
    found = content(message(bomb, coding))
    assert len(found.data) == DECODED_LIMIT
    assert not found.whole
    assert found.remark == f"decoded in part: the content is longer than {DECODED_LIMIT} bytes"


def test_a_bomb_of_several_layers() -> None:
    bomb = gzip.compress(gzip.compress(gzip.compress(bytes(20 << 20))))
    assert len(bomb) < 1000
    assert len(content(message(bomb, "gzip, gzip, gzip")).data) <= DECODED_LIMIT


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_a_body_of_another_kind_stays_as_it_is(coding: str) -> None:
    PACK[coding](b"")  # skips where the module is missing
    found = content(message(b"\xff not packed at all", coding))
    assert found == MessageContent(b"\xff not packed at all", False, False, f"not decoded: the body is not {coding}")


@given(st.sampled_from(["gzip", "deflate", "x-gzip, deflate", "br", "zstd", "other"]), st.binary(max_size=200))
def test_any_bytes_are_decoded_or_stay(coding: str, body: bytes) -> None:
    found = content(message(body, coding))
    assert found.decoded or found.data == body


@pytest.mark.parametrize(("coding", "package"), [("br", "brotli"), ("zstd", "zstandard")])
def test_what_is_missing_is_said(coding: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if coding == "zstd" and sys.version_info >= (3, 14):
        pytest.skip("Python itself reads zstd")
    monkeypatch.setitem(sys.modules, package, None)
    found = content(message(b"packed", coding))
    assert found.data == b"packed"
    assert f"the Python package {package}: pip install 'tapper-harness[decode]'" in found.remark


def shown(body: bytes, coding: str) -> str:
    wire = Wire((("127.0.0.6", 40000), ("10.0.0.2", 8080)))
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (coding.encode(), len(body))
    capture = Capture().feed([*wire.handshake(), wire.ask(get("/")), wire.answer(head + body)]).finish()
    exchange: Exchange = capture.seen[0].exchange
    return details(exchange)


def test_text_shows_the_decoded_beginning() -> None:
    assert "\n    < hello\n" in shown(gzip.compress(b"hello"), "gzip")
    text = shown(gzip.compress(b"x" * 5000), "gzip")
    assert "\n    < " + "x" * 1000 in text
    assert "[3976 more bytes]" in text
    assert "[not decoded: the body is not gzip]" in shown(b"hello", "gzip")

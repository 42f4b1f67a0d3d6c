"""Which protocol a connection speaks, and what of it nobody has to know."""

from __future__ import annotations

import pytest
from oracle_world import START_NS, STEP_NS, pod

from harness.conformance import h2c
from harness.conformance.oracle.decode import NO_HTTP, decode
from harness.conformance.oracle.model import Decoded
from harness.conformance.oracle.wire import connections
from harness.mesh import replay
from harness.mesh.http2 import PREFACE
from harness.sandbox.frames import Frame


def read(*pairs: tuple[bytes, bytes]) -> Decoded:
    frames = replay.conversation(replay.inbound(pod(1), 8080), pairs)
    (connection,) = connections(Frame(START_NS + number * STEP_NS, data) for number, data in enumerate(frames))
    return decode(connection)


@pytest.mark.parametrize("asked", [b"\x16\x03\x01\x02\x00\x01", b"SSH-2.0-x\r\n", b"\0" * 40, b"GET /\r\n"])
def test_what_is_no_http_has_no_exchanges(asked: bytes) -> None:
    decoded = read((asked, b"whatever"))
    assert (decoded.exchanges, decoded.flaw) == ((), NO_HTTP)


def test_a_silent_connection_is_no_flaw() -> None:
    decoded = read()
    assert (decoded.exchanges, decoded.flaw) == ((), "")


@pytest.mark.parametrize(
    "frames",
    [
        h2c.Http2Sender.data(1, b"before any head"),
        b"\0\0\1\x09\4\0\0\0\1\x82",
        b"\0\0\5\1\4\0\0\0\1\x3f\xe1\xff\xff\x7f",
        b"\0\0\2\1\x0c\0\0\0\1\x09\x82",
    ],
    ids=["data first", "a lone CONTINUATION", "a table of gigabytes", "padding longer than its frame"],
)
def test_frames_that_are_not_allowed_are_told(frames: bytes) -> None:
    assert read((PREFACE + h2c.settings() + frames, h2c.settings())).flaw

"""What frames say is the same whether they come whole or by the octet."""

from __future__ import annotations

import pytest
from h2_wire import END_HEADERS, END_STREAM, PADDED, PRIORITY, frame
from hypothesis import given, settings
from hypothesis import strategies as st

import tapper
from tapper.protocols.frames import PREFACE, FrameReader, Handler, looks_like_frames

pytestmark = pytest.mark.skipif(
    tapper.FORM == "compiled",
    reason="no plain class derives from a compiled one, as the handler here does; test_http2.py is for both forms",
)

LOST = ("lost",)


class Heard(Handler):
    """What was told, in order; pieces of a body that follow each other are one."""

    def __init__(self) -> None:
        super().__init__(None)
        self.told: list[tuple[object, ...]] = []

    def on_block(self, side: int, stream: int, block: bytes, *, end: bool, promise: bool, is_cut: bool = False) -> None:
        self.told.append(("block", side, stream, block, end, promise, *(["cut"] if is_cut else [])))

    def on_data(self, side: int, stream: int, data: bytes, *, end: bool, lost: int = 0) -> None:
        if lost:
            self.told.append(("hole", side, stream, lost, end))
            return
        before = self.told[-1] if self.told else ()
        if before[:3] == ("piece", side, stream) and not before[4]:
            data = before[3] + data  # type: ignore[operator]
            self.told.pop()
        self.told.append(("piece", side, stream, data, end))

    def on_reset(self, side: int, stream: int, code: int) -> None:
        self.told.append(("reset", side, stream, code))

    def on_goaway(self, side: int, last: int, code: int) -> None:
        self.told.append(("goaway", side, last, code))

    def on_out_of_step(self, side: int) -> None:  # noqa: ARG002
        self.told.append(LOST)


def heard(sent: bytes, step: int, limit: int = 100) -> list[tuple[object, ...]]:
    """Up to where the reader fell out of step."""
    reader, handler = FrameReader(1, head_limit=limit), Heard()
    for at in range(0, len(sent), step):
        reader.feed(sent[at : at + step], handler)
        assert reader.held <= 2 * limit + 300
    told = handler.told
    return told[: told.index(LOST) + 1] if LOST in told else told


flags = st.sampled_from(
    [0, END_STREAM, END_HEADERS, END_HEADERS | END_STREAM, END_HEADERS | PRIORITY, END_HEADERS | PADDED, PADDED]
)
payloads = st.one_of(
    st.sampled_from([b"", bytes(4), bytes(5), bytes(8), b"\3abc\0\0\0", b"x" * 101, b"x" * 400]), st.binary(max_size=12)
)
frames = st.builds(frame, st.integers(0, 10), flags, st.sampled_from([0, 1, 1, 3, 1 << 31 | 1]), payloads)


@settings(max_examples=500, deadline=None)
@given(st.lists(frames, min_size=1, max_size=8), st.integers(1, 40))
def test_whole_or_in_parts(sent: list[bytes], step: int) -> None:
    """Frames of any kind, lawful or not, in any order: alone in a segment, all in one, or anyhow."""
    stream = b"".join(sent)
    apart = heard(stream, 1)
    assert heard(stream, len(stream)) == apart
    assert heard(stream, step) == apart


# A block for an END_HEADERS to end; what follows it must be its CONTINUATION.
OPEN = frame(1, 0, 1, b"ab")


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        pytest.param(frame(0, END_STREAM, 3, b"abc"), [("piece", 1, 3, b"abc", True)], id="data"),
        pytest.param(frame(0, 0, 3), [("piece", 1, 3, b"", False)], id="no data"),
        pytest.param(frame(0, PADDED, 3, b"\2abc\0\0"), [("piece", 1, 3, b"abc", False)], id="padded data"),
        pytest.param(frame(0, 0, 0, b"abc"), [LOST], id="data of no stream"),
        pytest.param(OPEN + frame(0, 0, 1, b"abc"), [LOST], id="data within a block"),
        pytest.param(frame(1, 5, 3, b"abc"), [("block", 1, 3, b"abc", True, False)], id="headers"),
        pytest.param(frame(1, 4, 3), [("block", 1, 3, b"", False, False)], id="no headers"),
        pytest.param(frame(1, 4, 0, b"abc"), [LOST], id="headers of no stream"),
        pytest.param(OPEN + frame(1, 4, 1, b"abc"), [LOST], id="headers within a block"),
        pytest.param(OPEN + frame(9, 4, 1, b"c"), [("block", 1, 1, b"abc", False, False)], id="continued"),
        pytest.param(
            frame(1, 4, 3, b"x" * 101), [("block", 1, 3, b"x" * 100, False, False, "cut")], id="headers over the limit"
        ),
        pytest.param(
            OPEN + frame(9, 0, 1, b"c" * 97) + frame(9, 0, 1, b"d" * 400) + frame(9, 4, 1, b"e"),
            [("block", 1, 1, b"ab" + b"c" * 97 + b"d", False, False, "cut")],
            id="continued over the limit",
        ),
        pytest.param(
            frame(1, END_HEADERS | PRIORITY, 3, bytes(5) + b"abc"),
            [("block", 1, 3, b"abc", False, False)],
            id="headers with a priority",
        ),
        pytest.param(
            frame(1, END_HEADERS | PADDED, 3, b"\2abc\0\0"),
            [("block", 1, 3, b"abc", False, False)],
            id="padded headers",
        ),
        pytest.param(frame(3, 0, 3, b"\0\0\1\2"), [("reset", 1, 3, 258)], id="reset"),
        pytest.param(frame(3, 0, 3, bytes(5)), [LOST], id="a reset that is too long"),
        pytest.param(OPEN + frame(3, 0, 1, bytes(4)), [LOST], id="reset within a block"),
        pytest.param(frame(0, 0, 1 << 31 | 3, b"abc"), [("piece", 1, 3, b"abc", False)], id="the reserved bit"),
        pytest.param(
            frame(8, 0, 0, bytes(4)) + frame(0, 1, 1 << 24 | 1, b"abc"),
            [("piece", 1, 1 << 24 | 1, b"abc", True)],
            id="a large stream number",
        ),
        pytest.param(frame(0, 0, 1, b"x" * 0x010203), [("piece", 1, 1, b"x" * 0x010203, False)], id="a large frame"),
    ],
)
@pytest.mark.parametrize("step", [7, 1 << 20])
def test_one_by_one(sent: bytes, told: list[tuple[object, ...]], step: int) -> None:
    assert heard(sent, step) == told


PING = frame(6, 0, 0, bytes(8))


@pytest.mark.parametrize(
    ("segment", "known_as_http2", "unknown"),
    [
        pytest.param(PING, True, True, id="a frame"),
        pytest.param(PING + frame(0, 0, 1, b"abc"), True, True, id="two frames"),
        pytest.param(PREFACE + b"anything", True, False, id="a preface"),
        pytest.param(PING + frame(0, 0, 1, b"abc")[:-1], True, False, id="half a frame at the end"),
        pytest.param(PING + b"\0", True, False, id="half a frame header at the end"),
        pytest.param(b"\0\0\4", False, False, id="less than a frame header"),
        pytest.param(PING + frame(6, 0, 1, bytes(8)), False, False, id="then a PING of a stream"),
        pytest.param(frame(0, 0, 1, b"abc"), True, False, id="one DATA frame, which proves nothing"),
        pytest.param(frame(4, 0, 0), True, False, id="one empty SETTINGS frame, which proves nothing"),
        pytest.param(frame(4, 1, 0), True, True, id="an acknowledgement of SETTINGS"),
        pytest.param(b"", False, False, id="nothing"),
    ],
)
def test_a_segment_looks_like_frames(segment: bytes, known_as_http2: bool, unknown: bool) -> None:
    assert looks_like_frames(segment, exact=False) == known_as_http2
    assert looks_like_frames(segment, exact=True) == unknown

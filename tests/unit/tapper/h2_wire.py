"""HTTP/2 for the tests: both ends of a connection, as the bytes they send. Blocks are made by hpack's own encoder."""

from __future__ import annotations

from collections.abc import Sequence

from hpack import Encoder

from tapper.protocols.connection_reader import Content
from tapper.protocols.exchange import Exchange
from tapper.protocols.facts import Fact
from tapper.protocols.frames import PREFACE
from tapper.protocols.http2 import Http2
from tapper.streams.bounds import Pace
from tapper.streams.reassembly import Data

Fields = list[tuple[str, str]]
END_STREAM, END_HEADERS, PADDED, PRIORITY = 0x01, 0x04, 0x08, 0x20
SETTINGS = b"\0\0\0\x04\0\0\0\0\0"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


class Peer:
    """One end. Every method returns bytes."""

    def __init__(self) -> None:
        self.encoder = Encoder()

    def headers(self, stream: int, fields: Fields, *, end: bool = False, pad: int | None = None) -> bytes:
        block, flags = self.encoder.encode(fields), END_HEADERS | (END_STREAM if end else 0)
        if pad is not None:
            block, flags = bytes([pad]) + bytes(5) + block + bytes(pad), flags | PADDED | PRIORITY
        return frame(1, flags, stream, block)

    def continued(self, stream: int, fields: Fields, step: int = 1, *, end: bool = False) -> bytes:
        """The same over CONTINUATION frames."""
        block = self.encoder.encode(fields)
        parts = [block[at : at + step] for at in range(0, len(block), step)]
        last = len(parts) - 1
        return b"".join(
            frame(9 if index else 1, END_HEADERS * (index == last) | (END_STREAM * (end and not index)), stream, part)
            for index, part in enumerate(parts)
        )

    def get(self, stream: int, path: str, *more: tuple[str, str], end: bool = True) -> bytes:
        pseudo = [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "shop")]
        return self.headers(stream, [*pseudo, *more], end=end)

    def ok(self, stream: int, body: bytes = b"", *more: tuple[str, str]) -> bytes:
        head = self.headers(stream, [(":status", "200"), ("server", "test"), *more], end=not body)
        return head + (data(stream, body, end=True) if body else b"")


def data(stream: int, body: bytes, *, end: bool = False, pad: int | None = None) -> bytes:
    flags = END_STREAM if end else 0
    if pad is not None:
        return frame(0, flags | PADDED, stream, bytes([pad]) + body + bytes(pad))
    return frame(0, flags, stream, body)


class Talk:
    """An Http2, or a subclass, that is fed bytes, `step` at a time. All have the sequence number `seq`."""

    def __init__(
        self,
        *,
        client: int | None = 0,
        in_step: tuple[bool, bool] = (True, True),
        step: int = 1 << 20,
        reader: type[Http2] = Http2,
        seq: int = 0,
    ) -> None:
        self.http2 = reader(client, in_step, pace=Pace(1000))
        self._empty = self.http2.held
        self.step = step
        self.seq = seq
        self.ts = 0
        self.done: list[Exchange] = []
        self.facts: list[Fact] = []

    @property
    def held(self) -> int:
        """Bytes that are held of messages, roughly."""
        return self.http2.held - self._empty

    def say(self, side: int, sent: bytes) -> Talk:
        for at in range(0, len(sent), self.step):
            self.ts += 10
            self.take(self.http2.data(side, Data(sent[at : at + self.step], self.ts, self.seq, 0)))
        return self

    def take(self, contents: Sequence[Content]) -> Talk:
        """Results of the Http2."""
        for content in contents:
            if isinstance(content, Exchange):
                self.done.append(content)
            else:
                self.facts.append(content)
        return self

    def ask(self, sent: bytes) -> Talk:
        return self.say(0, sent)

    def answer(self, sent: bytes) -> Talk:
        return self.say(1, sent)

    def lose(self, side: int, size: int | None) -> Talk:
        return self.take(self.http2.gap(side, size))

    def finish(self) -> Talk:
        return self.take(self.http2.finish())

    @property
    def pairs(self) -> list[tuple[str | None, int | None, bytes | None]]:
        """(target, status, response body); None for a half that was not seen."""
        return [
            (
                each.request.head.target if each.request else None,
                each.response.head.status if each.response else None,
                each.response.end.body if each.response else None,
            )
            for each in self.done
        ]


def opening() -> bytes:
    return PREFACE + SETTINGS

"""A tapper's output as lines and records, and filters over them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from harness.conformance.mutants.streams import Record, lines, over_exchanges, over_records, parsed, repeated

_HELLO = b'{"type": "hello"}\n'
_HTTP = b'{"type": "http", "target": "/a"}\n'


def _same(records: Iterator[Record]) -> Iterator[Record]:
    yield from records


@given(st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b""))), st.data())
def test_lines_are_the_same_however_their_bytes_are_cut(content: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(line + b"\n" for line in content)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)))))
    pieces = [whole[start:stop] for start, stop in itertools.pairwise([0, *cuts, len(whole)])]
    assert list(lines(pieces)) == [line + b"\n" for line in content]


def test_a_line_is_yielded_before_more_is_read() -> None:
    def endless() -> Iterator[bytes]:
        yield b"one\ntw"
        raise AssertionError("more was read although a line was there")

    assert next(lines(endless())) == b"one\n"


def test_a_last_line_without_its_end_stays_without() -> None:
    assert list(lines([b"one\ntw", b"o"])) == [b"one\n", b"two"]


def test_what_is_no_record_keeps_its_place() -> None:
    incoming = [b"Capturing on lo\n", _HELLO, b"[1]\n", b'{"no": "type"}\n', _HTTP, b"the rest"]
    assert list(over_records(_same)(iter(incoming))) == incoming


def test_a_record_is_changed_dropped_and_repeated() -> None:
    def told(change: object) -> list[Record | None]:
        return [parsed(line) for line in over_records(change)(iter([_HELLO, _HTTP]))]  # type: ignore[arg-type]

    hello, http = json.loads(_HELLO), json.loads(_HTTP)
    assert told(over_exchanges(lambda record: record | {"target": "/b"})) == [hello, http | {"target": "/b"}]
    assert told(over_exchanges(lambda _record: None)) == [hello]
    assert told(repeated(lambda _record: 3)) == [hello, http, http, http]


def test_a_changed_record_is_written_before_the_next_line_is_read() -> None:
    def endless() -> Iterator[bytes]:
        yield _HTTP
        raise AssertionError("another line was read although a record was there")

    assert next(over_records(repeated(lambda _record: 2))(endless())) == _HTTP

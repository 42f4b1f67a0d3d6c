"""A tapper's standard output as a stream of bytes, of lines and of records, and filters over each. Pure.

A filter is a function from an iterator to an iterator: it gets the next element when it asks for it, keeps what it has
to remember in its local variables, and sees the end of the stream as the end of its loop. What it yields is written at
once.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

Record: TypeAlias = dict[str, Any]
"""One object of the reference's NDJSON: tapper/output/ndjson.schema.json."""
LineFilter: TypeAlias = Callable[[Iterator[bytes]], Iterator[bytes]]
"""Over lines, each with its line feed; the last may have none."""
RecordFilter: TypeAlias = Callable[[Iterator[Record]], Iterator[Record]]


def lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines of bytes that come in pieces, cut anywhere. A last line without its line feed is yielded as it is."""
    rest: list[bytes] = []
    for chunk in chunks:
        first, *others = chunk.split(b"\n")
        rest.append(first)
        for piece in others:
            yield b"".join(rest) + b"\n"
            rest = [piece]
    if last := b"".join(rest):
        yield last


def parsed(line: bytes) -> Record | None:
    """The record in a line; None where the line holds none."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("type"), str) else None


def written(record: Record) -> bytes:
    """The line that holds a record."""
    return json.dumps(record).encode() + b"\n"


def over_records(change: RecordFilter) -> LineFilter:
    """A filter over lines that changes the records in them. A line without a record keeps its place."""

    def changed(incoming: Iterator[bytes]) -> Iterator[bytes]:
        passing: deque[bytes] = deque()

        def records() -> Iterator[Record]:
            for line in incoming:
                record = parsed(line)
                if record is None:
                    passing.append(line)
                else:
                    yield record

        for record in change(records()):
            while passing:
                yield passing.popleft()
            yield written(record)
        yield from passing

    return changed


def over_exchanges(change: Callable[[Record], Record | None]) -> RecordFilter:
    """Changes each `http` record by itself; None drops it. All other records pass."""

    def changed(records: Iterator[Record]) -> Iterator[Record]:
        for record in records:
            result = change(record) if record["type"] == "http" else record
            if result is not None:
                yield result

    return changed


def repeated(times: Callable[[Record], int]) -> RecordFilter:
    """Writes each `http` record as many times as `times` says. All other records pass."""

    def changed(records: Iterator[Record]) -> Iterator[Record]:
        for record in records:
            yield from [record] * (times(record) if record["type"] == "http" else 1)

    return changed


def connection(record: Record) -> tuple[object, ...]:
    """The key of a connection in records: the pod, the direction, and both ends."""
    return record["pod_ip"], record["direction"], record["src"], record["dst"]


def both_messages(record: Record, change: Callable[[Record], Record]) -> Record:
    """The record with its request and its response changed, where they are there."""
    return record | {which: record[which] and change(record[which]) for which in ("request", "response")}


def header(message: Record | None, name: str) -> list[str]:
    """All values of a header field, in order; names in any case. None of a message that is not there."""
    fields = [] if message is None else message["headers"]
    return [value for key, value in fields if key.lower() == name]

"""NDJSON output of a tapper under test (contract, version 1)."""

from __future__ import annotations

import base64
import binascii
import json
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.adapters import files
from harness.adapters.observed import Markers, ReportedExchange, ReportedMessage

_LONGEST_LINE = 64 << 20
_MOST_RECORDS = 500_000
_MOST_BAD_LINES = 10_000
_KEPT_PROBLEMS = 20
_NODE_BEFORE = "wire"
"""The older spelling of the `direction` `node`, for traffic on the node's interfaces."""
_MTLS_BEFORE: Mapping[str, bool] = {"tls": True, "plain": False}
"""By the older field `wire`: the value of `mtls`."""


class Records:
    """An `harness.adapters.observed.Output` of lines, from standard output or from `file`.

    Lines that are no records are problems, never exceptions.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._read_so_far = 0
        self.problems: list[str] = []
        self._lock = threading.Lock()
        self._raw = bytearray()
        self._markers = Markers()
        self._parsed: list[dict[str, Any]] = []
        self._rest = bytearray()
        self._bad_lines = 0
        self._overwhelmed = False

    def feed(self, data: bytes) -> None:
        """Add the next piece, cut anywhere."""
        with self._lock:
            self._raw += data
            self._markers.feed(data)
            if self._overwhelmed:
                return
            *lines, rest = data.split(b"\n")
            for line in lines:
                self._rest += line
                self._take(bytes(self._rest))
                self._rest.clear()
            self._rest += rest
            if len(self._rest) > _LONGEST_LINE:
                self._complain(f"a line of more than {_LONGEST_LINE} bytes")
                self._rest.clear()

    def refresh(self) -> None:
        if self._file is None or self._read_so_far >= files.MOST:
            return
        try:
            data = files.read(self._file, self._read_so_far)
        except files.UnreadableFile as error:
            self._complain(f"its output, {error}")
            return
        self._read_so_far += len(data)
        if self._read_so_far == files.MOST:
            self._complain(f"more than {files.MOST >> 20} MiB of output: the rest is not read")
        self.feed(data)

    def finish(self) -> None:
        """The output is complete. A last line without a line feed is a problem."""
        with self._lock:
            if self._rest:
                self._complain(f"the last line has no end: {bytes(self._rest[:80])!r}")
                self._rest.clear()

    def mentioned(self) -> set[str]:
        with self._lock:
            return set(self._markers.found)

    def seen(self) -> list[ReportedExchange]:
        return [exchange(record) for record in self.records("http")]

    def records(self, kind: str) -> list[Mapping[str, Any]]:
        with self._lock:
            return [record for record in self._parsed if record["type"] == kind]

    def others(self) -> list[Mapping[str, Any]]:
        with self._lock:
            return [record for record in self._parsed if record["type"] != "http"]

    def all(self) -> list[dict[str, Any]]:
        """Every record so far, in order."""
        with self._lock:
            return list(self._parsed)

    def everything(self) -> Iterable[bytes]:
        with self._lock:
            yield bytes(self._raw)
            for record in self._parsed:
                yield from _encoded(record)

    def _take(self, line: bytes) -> None:
        if len(self._parsed) >= _MOST_RECORDS or self._bad_lines >= _MOST_BAD_LINES:
            if not self._overwhelmed:
                what = "records" if len(self._parsed) >= _MOST_RECORDS else "lines that are no records"
                self._complain(f"more than {max(len(self._parsed), self._bad_lines)} {what}: the rest is not read")
                self._overwhelmed = True
            return
        try:
            record = json.loads(line)
            if not isinstance(record, dict) or not isinstance(record.get("type"), str):
                raise ValueError("no object with a type")
            if record["type"] == "http":
                exchange(record)  # reports a broken exchange once
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            self._bad_lines += 1
            self._complain(f"a line that is no record ({error}): {line[:120]!r}")
        else:
            self._parsed.append(record)

    def _complain(self, problem: str) -> None:
        if len(self.problems) < _KEPT_PROBLEMS and problem not in self.problems:
            self.problems.append(problem)


def exchange(record: Mapping[str, Any]) -> ReportedExchange:
    """An `http` record. Raises ValueError, TypeError or AttributeError for one that breaks the contract."""
    status = record.get("status")
    if not isinstance(status, int | None) or isinstance(status, bool):
        raise ValueError("its status is no number")
    texts = {name: record.get(name) for name in ("target", "method", "pod_ip", "direction", "src", "dst")}
    for name, value in texts.items():
        if not isinstance(value, str | None):
            raise ValueError(f"its {name} is no text")
        if value is not None:
            texts[name] = _text(value)
    if texts["direction"] == _NODE_BEFORE:
        texts["direction"] = "node"
    ts = record.get("ts")
    if not isinstance(ts, int | float | None) or isinstance(ts, bool):
        raise ValueError("its ts is no number")
    mtls = record["mtls"] if "mtls" in record else _MTLS_BEFORE.get(str(record.get("wire")))
    if not isinstance(mtls, bool | None):
        raise ValueError("its mtls is neither true nor false nor null")
    return ReportedExchange(
        **texts,
        mtls=mtls,
        status=status,
        time=None if ts is None else float(ts),
        request=_message(record.get("request")),
        response=_message(record.get("response")),
        record=record,
    )


def _message(table: Mapping[str, Any] | None) -> ReportedMessage | None:
    if table is None:
        return None
    if not isinstance(table, dict):
        raise ValueError("its request and response have to be objects")
    return ReportedMessage(
        _pairs(table.get("headers")),
        base64.b64decode(table.get("body_b64") or "", validate=True),
        bool(table.get("truncated")),
        _pairs(table.get("trailers")),
        gives_body=table.get("body_b64") is not None,
        gives_headers=table.get("headers") is not None,
        gives_trailers=table.get("trailers") is not None,
    )


def _pairs(pairs: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(pairs, list | None):
        raise ValueError("headers and trailers have to be lists of [name, value]")
    found = [(name, value) for name, value in pairs or ()]
    if not all(isinstance(text, str) for pair in found for text in pair):
        raise ValueError("a header's name and value have to be texts")
    return tuple((_text(name), _text(value)) for name, value in found)


def _text(value: str) -> str:
    r"""Text without lone surrogates: JSON can name half of a pair (\ud800), which no file and no report can hold."""
    return value.encode(errors="replace").decode()


def _encoded(value: Any, key: str = "") -> Iterable[bytes]:
    """The decoded base64 of a record, by the names of its fields."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _encoded(inner, str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _encoded(inner, key)
    elif isinstance(value, str) and key.endswith("_b64"):
        try:
            yield base64.b64decode(value)
        except binascii.Error:
            return  # the raw form was yielded with the rest

"""Broken in how messages are read: filters over records."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from harness.conformance.mutants.model import Fault, Mutant, MutantEndsError
from harness.conformance.mutants.reasons import CUT_IN_SILENCE, LOST, OUT_OF_STEP, UNREADABLE
from harness.conformance.mutants.streams import Record, both_messages, connection, header, over_exchanges

_SHORTEST_LIMIT = 8 << 10
_KEY = 0x5A


def _without_body(message: Record) -> Record:
    return message | {"body_b64": "", "body_size": 0, "truncated": False}


NO_LENGTH = Mutant(
    "no-length",
    "It takes a message for what its head is, and its body for nothing.",
    {"HTTP-01": OUT_OF_STEP},
    Fault(records=(over_exchanges(lambda record: both_messages(record, _without_body)),)),
)


def losing_step(last: Callable[[Record], bool]) -> Fault:
    """After an exchange of a kind nothing more is read on its connection."""

    def changed(records: Iterator[Record]) -> Iterator[Record]:
        lost: set[tuple[object, ...]] = set()
        for record in records:
            if record["type"] == "http":
                if connection(record) in lost:
                    continue
                if last(record):
                    lost.add(connection(record))
            yield record

    return Fault(records=(changed,))


def is_chunked(record: Record) -> bool:
    """Whether an exchange's answer came in chunks."""
    return bool(header(record["response"], "transfer-encoding"))


RAW_CHUNKS = Mutant(
    "raw-chunks",
    "It does not know chunks: to it such a body goes on to the end of the connection.",
    {"HTTP-02": UNREADABLE},
    losing_step(is_chunked),
)
BODY_OF_HEAD = Mutant(
    "body-of-head",
    "It waits for the body of an answer to HEAD.",
    {"HTTP-04": OUT_OF_STEP},
    losing_step(lambda record: record["method"] == "HEAD"),
)


def _latest_first(records: Iterator[Record]) -> Iterator[Record]:
    """An answer that was there before the next request came is its own; later ones go to the request after."""
    before: dict[tuple[object, ...], tuple[float, Record]] = {}
    for record in records:
        if record["type"] == "http" and record["response"] is not None and record["version"] == "HTTP/1.1":
            key = connection(record)
            answered, answer = before.get(key, (0.0, {}))
            before[key] = (
                (record["ts"] or 0.0) + (record["duration_s"] or 0.0),
                {name: record[name] for name in ("status", "response")},
            )
            yield record | (answer if record["ts"] < answered else {})
        else:
            yield record


LATEST_FIRST = Mutant(
    "latest-first",
    "It takes every answer for that of the latest request.",
    {"HTTP-03": "answered with"},
    Fault(records=(_latest_first,)),
)


def _read_on(records: Iterator[Record]) -> Iterator[Record]:
    """A WebSocket message that begins like a request is told as one."""
    for record in records:
        yield record
        words = (record.get("text") or "").split(" ", 2) if record["type"] == "websocket" else []
        if len(words) == 3 and record["from"] == "client" and words[2].startswith("HTTP/1.1"):
            ends = {name: record[name] for name in ("ts", "pod_ip", "direction", "src", "dst")}
            nothing = {"status": None, "request": None, "response": None}
            yield {"type": "http", "method": words[0], "target": words[1]} | ends | nothing


NEVER_UPGRADED = Mutant(
    "never-upgraded",
    "It reads HTTP/1 on behind an answer of 101.",
    {"HTTP-06": "another protocol's"},
    Fault(records=(_read_on,)),
)


def _in_order_of_requests(records: Iterator[Record]) -> Iterator[Record]:
    """An exchange that is over before an earlier one has that one's answer, and the other way round."""
    before: dict[tuple[object, ...], Record] = {}
    for record in records:
        if record["type"] == "http" and record["version"] == "HTTP/2":
            key = connection(record)
            other = before.get(key)
            before[key] = record
            if other is not None and record["ts"] < other["ts"]:
                record = record | {name: other[name] for name in ("status", "response")}  # noqa: PLW2901
        yield record


ONE_QUEUE = Mutant(
    "one-queue",
    "It pairs HTTP/2 in order, as if it were HTTP/1.",
    {"HTTP-07": "answered with"},
    Fault(records=(_in_order_of_requests,)),
)


def _without_known_fields(records: Iterator[Record]) -> Iterator[Record]:
    """A field that a connection has had before is in the table, and the table is forgotten."""
    known: dict[tuple[object, ...], set[tuple[str, str]]] = {}
    for record in records:
        if record["type"] == "http" and record["version"] == "HTTP/2":
            for which in ("request", "response"):
                table = known.setdefault((which, *connection(record)), set())
                fields = [] if record[which] is None else record[which]["headers"]
                fresh = [field for field in fields if tuple(field) not in table]
                table.update(map(tuple, fields))
                if record[which] is not None:
                    record = record | {which: record[which] | {"headers": fresh}}  # noqa: PLW2901
        yield record


NO_TABLE = Mutant(
    "no-header-table",
    "It reads every header block as if it were the connection's first.",
    {"HTTP-07": "x-common"},
    Fault(records=(_without_known_fields,)),
)


def dying_of_garbage(last_word: str) -> Fault:
    """It ends as soon as it has to tell of a connection that cannot be read."""

    def changed(records: Iterator[Record]) -> Iterator[Record]:
        for record in records:
            if record["type"] == "stream" and record["what"] == "other":
                raise MutantEndsError(last_word)
            yield record

    return Fault(records=(changed,))


DIES_OF_GARBAGE = Mutant(
    "dies-of-garbage",
    "An exception of its parser is nobody's, and ends it.",
    {"HTTP-08": "its end"},
    dying_of_garbage("ValueError: no start line"),
)
SILENT_CUT = Mutant(
    "silent-cut",
    "It keeps the beginning of a large body and does not say so.",
    {"HTTP-10": CUT_IN_SILENCE},
    Fault(
        records=(over_exchanges(lambda record: both_messages(record, lambda message: message | {"truncated": False})),)
    ),
)


def _believe_headers(record: Record) -> Record:
    claimed = header(record["request"], "x-forwarded-for")
    return record | ({"src": f"{claimed[-1]}:0"} if claimed else {})


BELIEVES_HEADERS = Mutant(
    "believes-headers",
    "It reports X-Forwarded-For as the source, as mizu did.",
    {"HTTP-11": "seen: .*203.0.113.77:0 >"},
    Fault(records=(over_exchanges(_believe_headers),)),
)


def _length_or_nothing(record: Record) -> Record:
    answer = record["response"]
    if answer is None or header(answer, "content-length") or header(answer, "transfer-encoding"):
        return record
    return record | {"response": _without_body(answer)}


LENGTH_OR_NOTHING = Mutant(
    "length-or-nothing",
    "To it an answer without a length has no body.",
    {"HTTP-12": CUT_IN_SILENCE},
    Fault(records=(over_exchanges(_length_or_nothing),)),
)


def _stay_masked(records: Iterator[Record]) -> Iterator[Record]:
    for record in records:
        if record["type"] == "websocket" and record["from"] == "client" and record["text"]:
            masked = "".join(chr(ord(character) ^ _KEY) for character in record["text"])
            record = record | {"text": masked}  # noqa: PLW2901
        yield record


STAYS_MASKED = Mutant(
    "stays-masked",
    "It reports a client's WebSocket messages as they are on the wire.",
    {"HTTP-13": "the client's message"},
    Fault(records=(_stay_masked,)),
)


ONLY_AT_THE_END = Mutant(
    "only-at-the-end",
    "It reports a response when it is complete, however long that takes.",
    {"HTTP-31": "the two events"},
    Fault(options=("--no-stream",)),
)


def _long_heads_dropped(records: Iterator[Record]) -> Iterator[Record]:
    """A connection with a head that is too long cannot be read from there on."""
    lost: set[tuple[object, ...]] = set()
    for record in records:
        if record["type"] == "http":
            sizes = [
                sum(len(name) + len(value) + 4 for name, value in message["headers"])
                for message in (record["request"], record["response"])
                if message is not None
            ]
            if max(sizes, default=0) > _SHORTEST_LIMIT:
                lost.add(connection(record))
            if connection(record) in lost:
                continue
        yield record


SHORT_HEADS = Mutant(
    "short-heads",
    "It has room for a head of 8 KiB.",
    {"HTTP-16": f"{LOST}|answered with"},
    Fault(records=(_long_heads_dropped,)),
)

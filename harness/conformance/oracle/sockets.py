"""WebSocket messages and the records of type `websocket` that a tapper made of them. Pure.

Each of these records has to be a message that crossed, and each text or binary message of an upgrade that was owed has
to have a record. A tapper that claims WebSocket may tell messages in records of another type. Then only the texts are
looked for, anywhere in its records.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.adapters.contract import Feature
from harness.adapters.observed import in_words
from harness.adapters.records import exchange
from harness.conformance.oracle import compare, expectation
from harness.conformance.oracle.compare import same_end
from harness.conformance.oracle.expectation import PodDecoded
from harness.conformance.oracle.model import (
    Address,
    Difference,
    DifferenceKind,
    Duty,
    Expected,
    TrueSocketMessage,
)

_SHOWN = 60
_TYPE = "websocket"
_TEXT, _CONTROL = 0x1, 0x8
_TELLING = 12
"""So many bytes of a text are not in other texts by chance."""
_FIELD = "websocket"


def differences(
    pods: Sequence[PodDecoded],
    upgrades: Sequence[Expected],
    records: Sequence[Mapping[str, Any]],
    claims: frozenset[Feature],
    tolerance_s: float,
) -> Iterator[Difference]:
    """Every difference of the WebSocket messages among these records, which are all but those of type `http`.

    `upgrades` are the expected records of the exchanges with status 101; `tolerance_s` is that of times, in seconds.
    """
    told_messages = [record for record in records if record["type"] == _TYPE]
    crossed: dict[Address, list[TrueSocketMessage]] = {}
    unclear: set[Address] = set()
    for pod in pods:
        for decoded in pod.decoded:
            client = decoded.connection.client
            crossed.setdefault(client, []).extend(decoded.socket_messages)
            if decoded.flaw or pod.truth.foreign_envoy or pod.truth.lost:
                unclear.add(client)
    legs = {leg.connection.client: leg for leg in upgrades}
    for record in told_messages:
        told = record.get("src")
        client_end = same_end(told) if isinstance(told, str) else None
        if client_end is None or client_end in unclear:
            continue
        left = crossed.get(client_end, [])
        leg = legs.get(client_end)
        found = next((each for each in left if _agrees(each, record, leg)), None)
        if found is not None:
            left.remove(found)
            if leg is not None:
                yield from _misplaced(leg, found, record, claims, tolerance_s)
            continue
        what = expectation.about(leg) if leg is not None else f"the connection from {in_words(str(told))}"
        expected = "a message of it that was not told yet" if left else "no further message of it"
        yield Difference(DifferenceKind.WRONG, _FIELD, what, expected, _record_in_words(record), leg, record)
    owed = [
        (leg, message)
        for client, leg in legs.items()
        if leg.duty is Duty.MUST and client not in unclear
        for message in crossed.get(client, ())
        if message.whole and not message.opcode & _CONTROL
    ]
    if owed and not told_messages:
        texts = json.dumps(list(records), ensure_ascii=False)
        owed = [(leg, message) for leg, message in owed if _is_nowhere(message, texts)]
    for leg, message in owed:
        what = expectation.about(leg)
        yield Difference(DifferenceKind.MISSING, _FIELD, what, f"a record of {_in_words(message)}", "none", leg)


def _misplaced(
    leg: Expected,
    message: TrueSocketMessage,
    record: Mapping[str, Any],
    claims: frozenset[Feature],
    tolerance_s: float,
) -> Iterator[Difference]:
    """What the record of a message says of its connection and its time, and is not so."""
    try:
        told = exchange(record)
    except (ValueError, TypeError, AttributeError) as error:
        expected = "fields of the types that the contract names"
        yield Difference(DifferenceKind.WRONG, _FIELD, expectation.about(leg), expected, str(error), leg, record)
        return
    for each in (
        *compare.place(leg, told, claims),
        *compare.time(told, message.first_ns, message.last_ns, tolerance_s),
    ):
        if not each.missing:
            what = f"{_in_words(message)}, {expectation.about(leg)}"
            yield Difference(
                DifferenceKind.WRONG, each.field, what, f"{each.field} {each.expected}", each.seen, leg, record
            )


def _is_nowhere(message: TrueSocketMessage, texts: str) -> bool:
    """Whether a text message's beginning, if it is long enough to be told from others, is in none of these texts."""
    beginning = json.dumps(message.payload[:_TELLING].decode(errors="replace").rstrip("\ufffd"), ensure_ascii=False)
    return message.opcode == _TEXT and len(message.payload) >= _TELLING and beginning[1:-1] not in texts


def _agrees(message: TrueSocketMessage, record: Mapping[str, Any], leg: Expected | None) -> bool:
    """Whether a record is of this message: sender, opcode, size, and the beginning that it shows.

    `leg` is the upgrade of the connection, None where that was not seen.
    """
    if record.get("from") != ("client" if message.from_client else "server") or record.get("opcode") != message.opcode:
        return False
    if record.get("deflated"):  # shown as it was sent, because what came before is not known
        return leg is None or _may_be_deflated(leg)
    if not message.whole and not record.get("truncated"):
        return False
    if message.whole and record.get("size") not in (None, len(message.payload)):
        return False
    text, preview = record.get("text"), record.get("preview_b64")
    if isinstance(text, str):
        whole = message.payload.decode(errors="replace")
        return whole == text or (bool(record.get("truncated")) and whole.startswith(text.rstrip("\ufffd")))
    if isinstance(preview, str):
        try:
            shown = base64.b64decode(preview, validate=True)
        except binascii.Error:
            return False
        return shown == message.payload or (bool(record.get("truncated")) and message.payload.startswith(shown))
    return True


def _may_be_deflated(leg: Expected) -> bool:
    """Whether the upgrade agreed on an extension, which may compress messages (RFC 7692)."""
    response = leg.exchange.response
    fields = () if response is None else response.fields
    return any(name.lower() == b"sec-websocket-extensions" for name, _ in fields)


def _in_words(message: TrueSocketMessage) -> str:
    whose = "client's" if message.from_client else "server's"
    shown = in_words(message.payload.decode(errors="replace"), _SHOWN)
    return f"the {whose} message of {len(message.payload)} bytes, opcode {message.opcode}: {shown}"


def _record_in_words(record: Mapping[str, Any]) -> str:
    said = record.get("text") or record.get("preview_b64") or ""
    of = f"{record.get('from')}, opcode {record.get('opcode')}, {record.get('size')} bytes"
    return in_words(f"a record of one of the {of}: {said}", _SHOWN * 3)

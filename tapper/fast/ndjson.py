"""The records of exchanges as NDJSON, put together from pieces that are JSON already.

Replaces `tapper.output.ndjson.Ndjson.exchange`. Exchanges are most of what is written, and a general encoder costs more
than all other work on an exchange.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable
from json.encoder import encode_basestring_ascii as _quoted
from typing import Final

from tapper.output.ndjson import Ndjson
from tapper.output.records import Place
from tapper.protocols.exchange import Exchange
from tapper.protocols.fieldlist import FieldList, Headers, Template, is_plain
from tapper.protocols.grpc import Call, Messages
from tapper.protocols.messages import End
from tapper.protocols.probes import is_probe
from tapper.protocols.records import ExchangeRecord
from tapper.runtime.memo import Memo
from tapper.streams.bounds import SECOND
from tapper.streams.connection import Leg

_BOOLEAN: Final = ("false", "true")
_MTLS: Final = {True: "true", False: "false", None: "null"}
_LONGEST: Final = 4096  # characters that are remembered of the fields of a message


def _text(text: str | None) -> str:
    return "null" if text is None else _quoted(text)


def _base64_slowly(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode("ascii")


def _encoder() -> Callable[[bytes], str]:
    """Python's own encoder costs as much as all else that is done with a body, so another is taken where it is there
    (`tapper-harness[fast]`)."""
    try:
        from pybase64 import b64encode_as_string  # noqa: PLC0415
    except ImportError:
        return _base64_slowly
    return b64encode_as_string


_base64: Final = _encoder()


def _seconds(nanoseconds: int) -> str:
    """To the last digit, which a float has not."""
    if 0 <= nanoseconds < SECOND:  # as most durations are: a number less to spell
        return f"0.{_fraction(nanoseconds)}"
    if nanoseconds < 0:
        return "-" + _seconds(-nanoseconds)
    return f"{nanoseconds // SECOND}.{_fraction(nanoseconds)}"


def _fraction(nanoseconds: int) -> str:
    """Of a second, nine digits."""
    return str(SECOND + nanoseconds % SECOND)[1:]


def _field(field: tuple[str, str]) -> str:
    return f"[{_quoted(field[0])},{_quoted(field[1])}]"


def _leg(leg: Leg) -> str:
    """The members that describe a leg, and the name of the member after them."""
    return (
        f',"pod_ip":{_text(leg.pod_ip)},"direction":{_quoted(leg.direction)}'
        f',"src":"{leg.src}","dst":"{leg.dst}","mtls":{_MTLS[leg.mtls]},"method":'
    )


def _method(method: str) -> str:
    """What is said of a method, and what follows it."""
    return f'{_quoted(method)},"target":'


def _outcome(version: str | None, status: int) -> str:
    return f',"version":{_text(version)},"status":{status or "null"},"request":'


_UNKNOWN_METHOD: Final = 'null,"target":'
_BEFORE_HEADERS: Final = '{"headers":['
_BEFORE_BODY: Final = '],"body_b64":"'
_IN_FULL: Final = ',"truncated":false,"trailers":[]}'
_WITHOUT_BODY: Final = f'","body_size":0{_IN_FULL}'


def _grpc(call: Call) -> str:
    return (
        f'{{"service":{_text(call.service)},"method":{_text(call.method)}'
        f',"status":{"null" if call.status is None else call.status},"message":{_text(call.message)}'
        f',"requests":{_messages(call.requests)},"responses":{_messages(call.responses)}}}'
    )


def _messages(messages: Messages) -> str:
    sizes = ",".join(map(str, messages.sizes))
    return f'{{"count":{messages.count},"sizes":[{sizes}],"exact":{_BOOLEAN[messages.exact]}}}'


class FastNdjson(Ndjson):
    """Gives the lines that Ndjson gives."""

    def __init__(self) -> None:
        super().__init__()
        self._known: Memo[tuple[str, str], str] = Memo(_field, lambda field: len(field[0]) + len(field[1]))
        self._methods: Memo[str, str] = Memo(_method, len)
        self._legs: Memo[Leg, str] = Memo(_leg, lambda _: 0)
        # What was said last, each with what it was said of: of many exchanges in a row it is the same.
        self._second = -1
        self._begins = ""
        self._version: str | None = None
        self._status = -1
        self._outcome = ""
        self._place: Place | None = None
        self._named = False
        self._ends = ""

    def exchange(self, place: Place, record: ExchangeRecord) -> str:
        leg, exchange = record.leg, record.exchange
        request, response = exchange.request, exchange.response
        method, target, quote, duration = _UNKNOWN_METHOD, "null", "", "null"
        asked = answered = "null"  # as far as a body
        said = replied = ""
        version: str | None = None
        ts = status = 0
        if response is not None:
            ts, version, status = response.head.ts, response.head.version, response.head.status
            answered, replied = self._told(response.head.fields), self._body(response.end)
            if request is not None:
                duration = _seconds(response.end.ts - request.head.ts)
        if request is not None:
            head = request.head
            ts, version = head.ts, head.version
            asked, said = self._told(head.fields), self._body(request.end)
            if head.method:
                method = self._methods[head.method]
            if head.target:
                target, quote = head.target if head.plain else _quoted(head.target)[1:-1], '"'
        if ts // SECOND != self._second:
            self._second = ts // SECOND
            self._begins = f'{{"type":"http","ts":{self._second}.'
        if status != self._status or version != self._version:
            self._status, self._version, self._outcome = status, version, _outcome(version, status)
        if place is not self._place:
            self._place, self._named = place, bool(place.pods or place.name)
            self._ends = f',"netns":{"null" if place.netns is None else place.netns}'
        return (
            f"{self._begins}{_fraction(ts)}{self._legs[leg]}{method}{quote}{target}{quote}{self._outcome}"
            f'{asked}{said},"response":{answered}{replied},"duration_s":{duration}{self._ends}'
            f"{self._further(place, leg, exchange)}}}\n"
        )

    def _further(self, place: Place, leg: Leg, exchange: Exchange) -> str:
        """What is said of few exchanges."""
        further = ""
        if self._named:
            name = place.name_of(leg.pod_ip)
            if name is not None:
                further = f',"pod":{{"namespace":{_quoted(name.namespace)},"name":{_quoted(name.name)}}}'
        if is_probe(leg, exchange):
            further += ',"probe":true'
        if exchange.incomplete is not None:
            further += f',"incomplete":{_quoted(exchange.incomplete)}'
        if exchange.grpc is not None:
            further += f',"grpc":{_grpc(exchange.grpc)}'
        return further

    def _told(self, fields: FieldList) -> str:
        """A message up to its body."""
        pieces = fields.template.json
        if pieces is None:
            pieces = self._pieces(fields.template)
        told = pieces[0]
        for number, value in enumerate(fields.values):
            text = value.decode("latin-1")
            further = pieces[number + 1]
            told = f'{told}"{text}"{further}' if is_plain(value) else told + _quoted(text) + further
        return told

    def _body(self, end: End) -> str:
        """The rest of it."""
        if not end.size and not end.truncated and not end.trailers:
            return _WITHOUT_BODY
        body = _base64(end.body) if end.body else ""
        if end.truncated or end.trailers:
            trailers = self._listed(end.trailers)
            return f'{body}","body_size":{end.size},"truncated":{_BOOLEAN[end.truncated]},"trailers":[{trailers}]}}'
        return f'{body}","body_size":{end.size}{_IN_FULL}'

    def _pieces(self, template: Template) -> list[str]:
        """A message up to its body, without the values that vary. Kept with the template, unless it is long."""
        pieces: list[str] = []
        told = _BEFORE_HEADERS
        for at, field in enumerate(template.headers):
            told += "," if at else ""
            if at in template.varying:
                pieces.append(f"{told}[{_quoted(field[0])},")
                told = "]"
            else:
                told += self._known[field]
        pieces.append(told + _BEFORE_BODY)
        if sum(map(len, pieces)) <= _LONGEST:
            template.json = pieces
        return pieces

    def _listed(self, fields: Headers) -> str:
        known = self._known
        return ",".join([known[field] for field in fields])

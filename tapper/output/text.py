"""Lines of text for people. Captured bytes are escaped, since a terminal obeys control characters."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tapper.discovery.finders import Finding
from tapper.output.columns import columns
from tapper.output.details import details
from tapper.output.escape import escape, escape_bytes, shortened, visible
from tapper.output.format import Format
from tapper.output.records import Owned, Place, TlsProcess, Totals, reason
from tapper.protocols.exchange import Exchange
from tapper.protocols.facts import Fact, RefusedAttempt, StreamBegin, StreamPart, Tls, WebSocketMessage
from tapper.protocols.messages import RequestHead, Response
from tapper.protocols.outcome import ExchangeOutcome, OutcomeKind
from tapper.protocols.probes import is_probe
from tapper.protocols.records import ExchangeRecord, FactRecord
from tapper.protocols.streaming import MESSAGE
from tapper.protocols.websocket import OPCODES
from tapper.streams.connection import Leg

_LONGEST_TARGET = 200
_PROCESS_COLUMNS = ("PID", "EXE", "INSTANCE_IP", "OWNED", "NETNS", "FOUND BY", "VERDICT", "REASON")
_TLS_COLUMNS = ("POD", "PID", "PROGRAM", "LIBRARY", "PLAINTEXT", "REASON")
_MOST_PROTOCOLS = 8
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size(count: int) -> str:
    """A number of bytes with a unit, in at most four digits."""
    amount = float(count)
    for unit in _UNITS:
        if amount < 1024 or unit == _UNITS[-1]:
            break
        amount /= 1024
    return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"


def clock(ts: int) -> str:
    """The local time of day, with milliseconds; `ts` is in nanoseconds since 1970."""
    return time.strftime("%H:%M:%S", time.localtime(ts // 1_000_000_000)) + f".{ts // 1_000_000 % 1000:03}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


class Text(Format):
    """The format for pipes and files: a line for each exchange.

    `verbose` adds its header fields and the beginning of its bodies. `tapper.output.terminal` is for terminals.
    """

    def __init__(self, *, verbose: bool = False) -> None:
        self._verbose = verbose

    def exchange(self, _place: Place, record: ExchangeRecord) -> str:
        leg, exchange = record.leg, record.exchange
        request = "(request not seen)"
        if exchange.request is not None:
            request = _asked(exchange.request.head)
        response = _answer(exchange.response, exchange.duration) + further(exchange)
        line = f"{clock(exchange.ts)}  {_where(leg)}  {request}  {response}\n"
        if not self._verbose:
            return line
        return line + "".join(f"    * {remark}\n" for remark in remarks(leg, exchange)) + details(exchange)

    def fact(self, _place: Place, record: FactRecord) -> str:
        return f"{clock(record.fact.ts)}  {_where(record.leg)}  {fact_line(record.fact)}\n"

    def tls_processes(self, found: Sequence[TlsProcess]) -> str:
        lines = columns([_TLS_COLUMNS, *map(_tls_row, found)])
        return "".join(line + "\n" for line in lines)

    def processes(self, found: Sequence[Finding], owned: Owned) -> str:
        lines = columns([_PROCESS_COLUMNS, *(_row(process, owned) for process in found)])
        return "".join(line + "\n" for line in lines)


def _where(leg: Leg) -> str:
    return f"{leg.pod_ip or '-':<15}  {leg.direction:<8}  {leg.src!s:>21} -> {leg.dst!s:<21}"


def remarks(leg: Leg, exchange: Exchange) -> list[str]:
    """The lines that --verbose adds about an exchange as a whole."""
    lines = [] if leg.mtls is None else ["mTLS on the wire" if leg.mtls else "plaintext on the wire"]
    if leg.plaintext is not None:
        lines.append(f"the application's own TLS, read at functions of {leg.plaintext}")
    return [*lines, "looks like a health probe"] if is_probe(leg, exchange) else lines


def fact_line(fact: Fact) -> str:
    """A fact on one line, escaped."""
    if isinstance(fact, Tls):
        name = "(no server name seen)" if fact.sni is None else escape(fact.sni[:_LONGEST_TARGET])
        return " ".join(["TLS", name, *(escape(protocol) for protocol in fact.alpn[:_MOST_PROTOCOLS])])
    if isinstance(fact, WebSocketMessage):
        kind = OPCODES.get(fact.opcode, "unreadable from here on")
        kind += ", compressed" if fact.deflated else ""
        shown = escape_bytes(fact.body[:_LONGEST_TARGET]) + ("..." if len(fact.body) > _LONGEST_TARGET else "")
        more = f" (and {fact.left_out} more)" if fact.left_out else ""
        return f"WebSocket {kind} from {fact.sender}  {size(fact.size)}{'+' if fact.truncated else ''}: {shown}{more}"
    if isinstance(fact, RefusedAttempt):
        more = f", and {fact.left_out} more before it" if fact.left_out else ""
        return f"connection refused by the server's host{more}"
    if isinstance(fact, StreamBegin):
        status = "?" if fact.response is None else fact.response.status or "?"
        return f"{_asked(fact.request)}  {status}  (goes on)"
    if isinstance(fact, StreamPart):
        return _part_line(fact)
    sent, received = fact.sizes
    previews = [escape_bytes(preview) or "-" for preview in fact.previews]
    return f"bytes ({escape(fact.what)})  {size(sent)} sent: {previews[0]}  {size(received)} received: {previews[1]}"


def _part_line(part: StreamPart) -> str:
    """Indented, since it belongs to the exchange above."""
    name = "" if part.event is None else f" {escape(part.event[:_LONGEST_TARGET])}"
    kind = f"gRPC message{', compressed' if part.compressed else ''}" if part.kind == MESSAGE else f"{part.kind}{name}"
    shown = escape_bytes(part.body[:_LONGEST_TARGET]) + ("..." if len(part.body) > _LONGEST_TARGET else "")
    more = f"  ({part.left_out} left out before it)" if part.left_out else ""
    return f"  | {kind} from the {part.sender}  {size(part.size)}{'+' if part.truncated else ''}: {shown}{more}"


def _asked(head: RequestHead) -> str:
    return f"{escape(head.method or '?')} {escape(shortened(head.target or '?', _LONGEST_TARGET))}"


def _answer(response: Response | None, duration: int | None) -> str:
    if response is None:
        return "(no response seen)"
    end = response.end
    text = f"{response.head.status or '?'}  {size(end.size)}{'+' if end.truncated else ''}"
    return text if duration is None else f"{text}  {duration / 1e6:.1f} ms"


def further(exchange: Exchange) -> str:
    """Two spaces and the members that few exchanges have: a gRPC call, how it ended, what is malformed, missing fields.
    Empty if there are none."""
    text = ""
    call = exchange.grpc
    if call is not None:
        status = "status not seen" if call.status is None else call.status_name or str(call.status)
        text = f"  gRPC {status}, {call.requests.count} sent, {call.responses.count} received"
    return text + _ended(exchange.outcome) + ("" if exchange.incomplete is None else f"  ({exchange.incomplete})")


def _ended(outcome: ExchangeOutcome) -> str:
    """Two spaces, how the exchange ended, and what of it is malformed; empty if there is nothing to say."""
    text = ""
    if outcome.kind is not OutcomeKind.COMPLETE:
        by = f" by the {outcome.by}" if outcome.by else ""
        code = f" with {outcome.code}" if outcome.code is not None and outcome.kind is not OutcomeKind.CANCELLED else ""
        text = f"  [{outcome.kind}{by}{code}]"
    for part in outcome.malformed:
        line = "" if part.line is None else f": {escape(part.line)}"
        text += f"  [{part.message}: {part.reason}{line}]"
    return text


def _tls_row(process: TlsProcess) -> tuple[str, ...]:
    can = "yes" if process.reason is None else "no"
    return process.pod_ip, str(process.pid), escape(process.program), process.library, can, process.reason or ""


def _row(process: Finding, owned: Owned) -> tuple[str, ...]:
    addresses = None if process.netns is None else owned.get(process.netns)
    return (
        str(process.pid),
        escape(process.exe or "-"),
        escape("-" if process.instance_ip is None else process.instance_ip),
        "?" if addresses is None else ",".join(sorted(map(str, addresses))) or "-",
        "-" if process.netns is None else str(process.netns.inode),
        process.found_by or "-",
        process.verdict,
        visible(reason(process, owned) or ""),
    )


def summary(totals: Totals) -> str:
    """The counts of a run: one line about all of it, and one for each kind of loss or omission."""
    lines = [
        f"{_plural(totals.exchanges, 'exchange')} from {_plural(totals.sources, 'source')}; "
        f"{_plural(totals.received, 'packet')} received, {totals.dropped} dropped by the kernel"
    ]
    if totals.filtered:
        lines.append(f"{_plural(totals.filtered, 'exchange')} more left out by the filters")
    if totals.passed_over:
        kinds = ", ".join(f"{count} of {escape(kind)}" for kind, count in sorted(totals.passed_over.items()))
        lines.append(f"packets that were not looked into: {kinds}")
    if totals.undecoded:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(totals.undecoded.items()))
        lines.append(f"connections that were not decoded: {kinds}")
    if totals.gaps:
        lines.append(f"{_plural(totals.gaps, 'gap')} in the streams, {totals.gap_bytes} bytes missing")
    for count, participle in (
        (totals.cut, "captured in part only"),
        (totals.bad_checksum, "left out for a wrong checksum, as their receiver does"),
        (totals.unread, "not read before the end"),
        (totals.malformed, "malformed"),
    ):
        if count:
            lines.append(f"{_plural(count, 'packet')} {participle}")
    if totals.refused:
        lines.append(f"{_plural(totals.refused, 'connection attempt')} refused")
    if totals.given_up:
        lines.append(f"{_plural(totals.given_up, 'connection')} given up to stay within memory bounds")
    return "".join(line + "\n" for line in lines)

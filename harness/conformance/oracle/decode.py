"""A connection's bytes become exchanges, whatever version of HTTP they speak. Pure."""

from __future__ import annotations

from harness.conformance.oracle import http1, http2, outcomes, websocket
from harness.conformance.oracle.grpc import with_call
from harness.conformance.oracle.model import Decoded, TcpConnection, TrueExchange, TrueOutcome, TrueSocketMessage
from harness.conformance.oracle.proxied import without_header

NO_HTTP = "it does not begin as HTTP does"


def decode(connection: TcpConnection) -> Decoded:
    """All exchanges and WebSocket messages of a connection. What is no HTTP has none, and a flaw."""
    connection = without_header(connection)
    data = connection.requests.data
    if not data and not connection.responses.data:
        return Decoded(connection)
    if data.startswith(http2.PREFACE):
        exchanges, flaw = http2.exchanges(connection, connection.requests, connection.responses)
        return Decoded(connection, tuple(map(with_call, exchanges)), flaw=connection.flaw or flaw)
    if not http1.STARTS.match(data.lstrip(b"\r\n")[:65_536]):
        return Decoded(connection, flaw=connection.flaw or NO_HTTP)
    return _http1(connection)


def _http1(connection: TcpConnection) -> Decoded:
    asked, answered = connection.requests, connection.responses
    read = http1.read(asked.data, answered.data, closed=answered.ended_ns is not None)
    exchanges = tuple(_exchange(connection, pair) for pair in read.pairs)
    flaw, messages = read.flaw, list[TrueSocketMessage]()
    last = read.pairs[-1] if read.pairs else None
    if read.switched_at is not None and last is not None and last.response is not None:
        upgrade = [value.strip().lower() for value in last.response.head.values(b"upgrade")]
        if upgrade == [b"websocket"]:
            deflate = websocket.extension(last.response.head.values(b"sec-websocket-extensions"))
            for way, start, from_client in ((asked, read.switched_at[0], True), (answered, read.switched_at[1], False)):
                found, problem = websocket.messages(way, start, from_client=from_client, deflate=deflate)
                messages += found
                flaw = flaw or problem
        elif upgrade == [b"h2c"] and last.request is not None:
            rest, problem = http2.exchanges(
                connection, asked.behind(read.switched_at[0]), answered.behind(read.switched_at[1]), exchanges[-1]
            )
            exchanges = (*exchanges[:-1], *map(with_call, rest))
            flaw = flaw or problem
    return Decoded(connection, exchanges, tuple(messages), connection.flaw or flaw)


def _outcomes(connection: TcpConnection, pair: http1.Pair, *, whole: bool) -> tuple[TrueOutcome, ...]:
    if whole:
        return (outcomes.COMPLETE,)
    ended = outcomes.of_connection(connection)
    refused = pair.request is not None and pair.request.refused and pair.response is not None
    return (outcomes.COMPLETE, *ended) if refused else ended  # a client need not send a body that is refused


def _exchange(connection: TcpConnection, pair: http1.Pair) -> TrueExchange:
    asked, answered = connection.requests, connection.responses
    request, response = pair.request, pair.response
    times = []
    first_ns = last_ns = answer_last = None
    if request is not None:
        first_ns = asked.time_of(request.head.begin)
        times.append(asked.time_of(request.end - 1))
    if response is not None:
        first_ns = answered.time_of(response.head.begin) if first_ns is None else first_ns
        answer_last = answered.time_of(response.end - 1)
        if response.message.until_close and answered.ended_ns is not None:
            answer_last = answered.ended_ns
        times.append(answer_last)
    last_ns = max(times)
    line = () if request is None else request.head.start
    start = () if response is None else response.head.start
    version = line[2] if line else start[0]
    whole = request is not None and response is not None and request.message.complete and response.message.complete
    return TrueExchange(
        protocol=version.decode(),
        method=line[0].decode() if line else None,
        target=line[1].decode("latin-1") if line else None,
        status=int(start[1]) if start else None,
        request=None if request is None else request.message,
        response=None if response is None else response.message,
        first_ns=first_ns or 0,
        last_ns=last_ns,
        response_last_ns=answer_last,
        reset=connection.reset and not whole,  # what was whole by then had passed
        outcomes=_outcomes(connection, pair, whole=whole),
    )

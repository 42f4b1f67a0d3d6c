"""How an exchange ended is told of both versions of HTTP, whoever ended it, over IPv4 and IPv6."""

from __future__ import annotations

import pytest
from h2_wire import SETTINGS, Peer, Talk, data, frame, opening
from tapper_wire import ACK, RST, SYN, Capture, Wire, get, ok, packet

from tapper.output.redaction import Redaction
from tapper.output.text import further
from tapper.protocols.exchange import Exchange
from tapper.protocols.facts import RefusedAttempt
from tapper.streams.bounds import MOST_REFUSALS, SECOND, RefusalPace
from tapper.streams.connection import Scope

Ends = tuple[tuple[str, int], tuple[str, int]]
PAIRS: tuple[Ends, ...] = (
    (("10.0.0.3", 40000), ("10.0.0.2", 8080)),
    (("fd00::3", 40000), ("fd00::2", 8080)),
)
WITHOUT_TARGETS = Scope(None, None)
Told = tuple[str, str | None, str | int | None]


def told(exchange: Exchange) -> Told:
    outcome = exchange.outcome
    return outcome.kind.value, outcome.by, outcome.code


def started(ends: Ends = PAIRS[0]) -> tuple[Capture, Wire]:
    wire = Wire(ends)
    return Capture(WITHOUT_TARGETS).feed(wire.handshake()), wire


def reset_by(wire: Wire, who: str) -> bytes:
    if who == "client":
        return packet(*wire.up, wire.client, wire.server, RST | ACK)
    return packet(*wire.down, wire.server, wire.client, RST | ACK)


PARTIAL = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart"
UPLOAD = b"POST /up HTTP/1.1\r\nContent-Length: 100\r\n\r\npart"


@pytest.mark.parametrize("ends", PAIRS)
@pytest.mark.parametrize("who", ["client", "server"])
@pytest.mark.parametrize("answer", [b"", PARTIAL, b"HTTP/1.1 200 OK\r\n\r\nuntil the end"])
def test_a_reset_is_told_with_who_sent_it(ends: Ends, who: str, answer: bytes) -> None:
    capture, wire = started(ends)
    capture.feed([wire.ask(get("/1")), wire.answer(ok("whole")), wire.client_ack(), wire.ask(get("/2"))])
    capture.feed([wire.answer(answer)] if answer else [wire.server_ack()])
    capture.feed([reset_by(wire, who)]).finish()
    assert [told(record.exchange) for record in capture.seen] == [("complete", None, None), ("reset", who, None)]


def test_a_reset_after_the_end_of_an_exchange_says_nothing_about_it() -> None:
    capture, wire = started()
    capture.feed([wire.ask(get()), wire.answer(ok("whole")), wire.client_ack(), reset_by(wire, "server")]).finish()
    assert [told(record.exchange) for record in capture.seen] == [("complete", None, None)]


def test_a_reset_that_its_receiver_ignores_ends_nothing() -> None:
    capture, wire = started()
    stray = packet(*wire.down, wire.server + 5, wire.client, RST)
    capture.feed([wire.ask(get()), stray, wire.answer(ok("whole"))]).finish()
    assert [told(record.exchange) for record in capture.seen] == [("complete", None, None)]
    capture, wire = started()
    capture.feed([wire.ask(get()), packet(*wire.down, wire.server + 5, wire.client, RST)]).finish()
    assert [told(record.exchange) for record in capture.seen] == [("open", None, None)]


@pytest.mark.parametrize("sent", [get(), UPLOAD])
@pytest.mark.parametrize("answer", [b"", PARTIAL])
def test_who_closes_first_has_ended_what_was_not_over(sent: bytes, answer: bytes) -> None:
    for who in ("client", "server"):
        capture, wire = started()
        capture.feed([wire.ask(sent), *([wire.answer(answer)] if answer else [])])
        fins = [wire.client_fin, wire.server_fin]
        first, second = fins if who == "client" else reversed(fins)
        capture.feed([first(), second()]).finish()
        assert [told(record.exchange) for record in capture.seen] == [("timeout", who, None)]


def test_a_client_that_only_closes_its_own_half_has_ended_nothing() -> None:
    capture, wire = started()
    capture.feed([wire.ask(get()), wire.client_fin(), wire.answer(ok("x")), wire.server_fin()]).finish()
    assert [told(record.exchange) for record in capture.seen] == [("complete", None, None)]
    capture, wire = started()
    capture.feed([wire.ask(get()), wire.client_fin()]).finish()
    assert [told(record.exchange) for record in capture.seen] == [("open", None, None)]


def test_an_answer_until_the_end_of_the_connection_is_complete_with_it() -> None:
    capture, wire = started()
    capture.feed([wire.ask(get()), wire.answer(b"HTTP/1.1 200 OK\r\n\r\nall"), *wire.close()]).finish()
    assert [told(record.exchange) for record in capture.seen] == [("complete", None, None)]


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_head_that_was_cut_off_is_told(who: str) -> None:
    for sent, answer in ((b"GET /1 HTTP/1.1\r\nHost: a\r\nX-Cu", b""), (get("/1"), b"HTTP/1.1 200 OK\r\nX: y\r\nX-Cu")):
        capture, wire = started()
        capture.feed([wire.ask(sent), *([wire.answer(answer)] if answer else []), reset_by(wire, who)]).finish()
        [record] = capture.seen
        assert told(record.exchange) == ("reset", who, None)
        assert record.exchange.request is not None
        assert record.exchange.request.head.target == "/1"
        if record.exchange.response is not None:
            assert (record.exchange.response.head.status, record.exchange.response.head.headers) == (200, (("X", "y"),))
        else:
            assert not answer
            assert record.exchange.request.head.headers == (("Host", "a"),)


def test_what_had_not_ended_when_the_capture_did_is_open() -> None:
    for sent, answer in ((get(), b""), (get(), PARTIAL), (UPLOAD, b"")):
        capture, wire = started()
        capture.feed([wire.ask(sent), *([wire.answer(answer)] if answer else [])]).finish()
        assert [told(record.exchange) for record in capture.seen] == [("open", None, None)]


def test_a_connection_whose_sockets_have_gone_has_timed_out() -> None:
    capture, wire = started()
    capture.feed([wire.ask(get())])
    connections = capture.connections
    capture.records += connections.gone(connections.quiet(capture.ts + SECOND, 9), capture.ts + SECOND)
    assert [told(record.exchange) for record in capture.finish().seen] == [("timeout", None, None)]


def test_ports_that_are_used_again_without_an_end_lose_the_exchange_before() -> None:
    capture, wire = started()
    capture.feed([wire.ask(get("/1")), wire.server_ack(), wire.server_fin()])
    again = Wire(PAIRS[0], client_isn=900_000_000, server_isn=5)
    capture.feed([*again.handshake(), again.ask(get("/2")), again.answer(ok("x"))]).finish()
    assert [told(record.exchange)[0] for record in capture.seen][-1] == "complete"


def test_bytes_that_were_not_captured_make_an_exchange_lost() -> None:
    # 1. The answer is missing.
    capture, wire = started()
    first = wire.ask(get("/1"))
    wire.answer(ok("missing"))
    capture.feed([first, wire.ask(get("/2")), wire.answer(ok("x")), *wire.close()]).finish()
    assert [told(record.exchange)[0] for record in capture.seen] == ["lost", "complete"]
    # 2. The request is missing.
    capture, wire = started()
    wire.ask(get("/1"))
    capture.feed([wire.answer(ok("x")), wire.ask(get("/2")), wire.answer(ok("y")), *wire.close()]).finish()
    assert sorted(told(record.exchange)[0] for record in capture.seen) == ["complete", "lost"]
    # 3. A piece of the body is missing.
    capture, wire = started()
    capture.feed([wire.ask(get("/1")), wire.answer(PARTIAL)])
    wire.answer(b"y" * 50)
    capture.feed([wire.answer(b"x" * 46), wire.client_ack(), *wire.close()]).finish()
    [lost] = capture.seen
    assert (told(lost.exchange)[0], lost.exchange.response and lost.exchange.response.end.truncated) == ("lost", True)


def test_a_client_that_goes_on_has_received_the_answers_of_a_server_that_is_not_captured() -> None:
    wire = Wire(PAIRS[0], client_isn=50_000)
    packets = [wire.handshake()[0], wire.ask(get("/1"))]
    wire.answer(ok("x"))
    capture = Capture().feed([*packets, wire.ask(get("/2"))]).finish()
    assert [told(record.exchange)[0] for record in capture.seen] == ["lost", "open"]


@pytest.mark.parametrize("captured", [0, 60])
@pytest.mark.parametrize("end", ["open", "reset"])
def test_an_answer_that_the_client_has_received_is_lost_whatever_ends_the_connection(captured: int, end: str) -> None:
    """The client acknowledges bytes that were not captured, and no later segment of the server shows the gap."""
    capture, wire = started()
    packets = [wire.ask(get("/1"))]
    if captured:
        packets.append(wire.answer(ok("x" * 200)[:captured]))
    wire.answer(ok("x" * 200)[captured:])
    packets.append(wire.client_ack())
    if end == "reset":
        packets.append(packet(*wire.up, wire.client, wire.server, RST | ACK))
    capture.feed(packets).finish()
    [lost] = capture.seen
    assert told(lost.exchange)[0] == "lost"
    assert capture.connections.tally.gap_bytes == len(ok("x" * 200)) - captured


def test_bytes_that_are_no_request_are_told_with_their_answer() -> None:
    capture, wire = started()
    capture.feed([wire.ask(get("/1")), wire.answer(ok("x")), wire.ask(b"GET /?token=s3cret\r\n\r\n")])
    capture.feed([wire.answer(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), *wire.close()]).finish()
    _, record = capture.seen
    assert record.exchange.response is not None
    assert (record.exchange.response.head.status, told(record.exchange)[0]) == (400, "unparsable")
    Redaction().apply(record)
    [part] = record.exchange.outcome.malformed
    assert (part.message, part.reason, part.line) == ("request", "not a start line", "GET /?[redacted]")


def test_bytes_that_are_no_request_get_no_answer_that_may_be_anothers() -> None:
    # 1. An earlier request waits: its answer comes first.
    capture, wire = started()
    capture.feed([wire.ask(get("/1")), wire.ask(b"rest of a body\r\n"), wire.answer(ok("1"))]).finish()
    by_kind = {told(record.exchange)[0]: record.exchange for record in capture.seen}
    complete, unparsable = by_kind["complete"], by_kind["unparsable"]
    assert complete.request is not None
    assert (complete.request.head.target, unparsable.response) == ("/1", None)
    # 2. Another request comes before any answer.
    capture, wire = started()
    capture.feed([wire.ask(get("/0")), wire.answer(ok("0")), wire.ask(b"rest of a body\r\n"), wire.ask(get("/1"))])
    capture.feed([wire.answer(ok("1"))]).finish()
    for record in capture.seen:
        if record.exchange.outcome.kind == "unparsable":
            assert record.exchange.response is None


def test_a_connection_that_is_not_http_has_no_record_of_a_malformed_request() -> None:
    for spoken in (b"\x00\x01binary\n", b"SELECT 1\r\n", b"HELO there\r\n\r\n", b"GET key\r\n"):
        capture, wire = started()
        capture.feed([wire.ask(spoken), wire.answer(b"+OK\r\n"), wire.ask(spoken), *wire.close()]).finish()
        assert capture.seen == []
        assert capture.undecoded == ["other"]


def test_the_first_request_of_a_connection_may_be_unreadable_if_the_answer_proves_http() -> None:
    capture, wire = started()
    bad = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
    capture.feed([wire.ask(b"GET /old\r\n\r\n"), wire.answer(bad), *wire.close()]).finish()
    [record] = capture.seen
    assert told(record.exchange)[0] == "unparsable"
    assert record.exchange.response is not None


def test_an_answer_that_cannot_be_read_is_told_with_its_request() -> None:
    capture, wire = started()
    capture.feed([wire.ask(get("/1")), wire.answer(b"HTTP/1.1 2x0 OK\r\n\r\n"), *wire.close()]).finish()
    [record] = capture.seen
    assert record.exchange.request is not None
    assert (record.exchange.request.head.target, told(record.exchange)[0]) == ("/1", "unparsable")
    [part] = record.exchange.outcome.malformed
    assert (part.message, part.line) == ("response", "HTTP/1.1 2x0 OK")
    assert "[response: not a start line: HTTP/1.1 2x0 OK]" in further(record.exchange)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"Authorization Bearer s3cret", "[redacted]"),
        (b"X Token: s3cret", "[redacted]"),
        (b" s3cret", "[redacted]"),
    ],
)
def test_a_malformed_field_line_may_hold_a_secret(line: bytes, shown: str) -> None:
    capture, wire = started()
    asked = b"GET /1 HTTP/1.1\r\n" + line + b"\r\nHost: a\r\n\r\n"
    capture.feed([wire.ask(asked), wire.answer(ok("x"))]).finish()
    [record] = capture.seen
    assert told(record.exchange)[0] == "complete"
    Redaction().apply(record)
    assert [part.line for part in record.exchange.outcome.malformed] == [shown]


# A refused attempt.


@pytest.mark.parametrize("ends", PAIRS)
def test_a_refused_attempt_is_told(ends: Ends) -> None:
    up, down = ends, (ends[1], ends[0])
    capture = Capture(WITHOUT_TARGETS)
    capture.feed([packet(*up, 1000, 0, SYN), packet(*down, 0, 1001, RST | ACK)]).finish()
    [record] = capture.facts
    assert record.fact == RefusedAttempt(1_700_000_000_001_000_000, 0)
    assert (record.leg.src.port, record.leg.dst.port) == (40000, 8080)
    assert capture.connections.tally.refused == 1


def test_a_reset_of_an_open_connection_is_no_refusal() -> None:
    capture, wire = started()
    capture.feed([reset_by(wire, "server")]).finish()
    wrong = packet(*(PAIRS[0][1], PAIRS[0][0]), 0, 5, RST | ACK)  # it acknowledges something else
    other = Capture(WITHOUT_TARGETS).feed([packet(*PAIRS[0], 1000, 0, SYN), wrong]).finish()
    assert (capture.facts, other.facts) == ([], [])
    assert capture.connections.tally.refused == other.connections.tally.refused == 0


def test_a_flood_of_refused_attempts_has_few_records_and_a_whole_count() -> None:
    capture = Capture(WITHOUT_TARGETS)
    for port in range(30_000, 30_000 + 50):
        up, down = (("10.0.0.3", port), ("10.0.0.2", 1)), (("10.0.0.2", 1), ("10.0.0.3", port))
        capture.feed([packet(*up, 1000, 0, SYN), packet(*down, 0, 1001, RST | ACK)])
    capture.ts += SECOND
    up, down = (("10.0.0.3", 99), ("10.0.0.2", 1)), (("10.0.0.2", 1), ("10.0.0.3", 99))
    capture.feed([packet(*up, 1000, 0, SYN), packet(*down, 0, 1001, RST | ACK)]).finish()
    left_out = [record.fact.left_out for record in capture.facts if isinstance(record.fact, RefusedAttempt)]
    assert left_out == [0] * MOST_REFUSALS + [50 - MOST_REFUSALS]
    assert capture.connections.tally.refused == 51


def test_each_pod_has_its_own_pace_and_few_are_remembered() -> None:
    pace = RefusalPace()
    assert [pace.tell("a", 5) for _ in range(MOST_REFUSALS + 2)] == [0] * MOST_REFUSALS + [None, None]
    assert pace.tell("b", 5) == 0
    assert pace.tell("a", SECOND) == 2


# HTTP/2.


@pytest.mark.parametrize("step", [1, 1 << 20])
@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (8, ("cancelled", "CANCEL")),
        (7, ("rst_stream", "REFUSED_STREAM")),
        (11, ("rst_stream", "ENHANCE_YOUR_CALM")),
        (0, ("rst_stream", "NO_ERROR")),
        (0xFF00, ("rst_stream", 0xFF00)),
    ],
)
@pytest.mark.parametrize("side", [0, 1])
def test_a_stream_is_reset_by_one_of_both(side: int, code: int, outcome: tuple[str, str | int], step: int) -> None:
    client = Peer()
    talk = Talk(step=step).ask(opening() + client.get(1, "/1", end=False) + data(1, b"part")).answer(SETTINGS)
    talk.say(side, frame(3, 0, 1, code.to_bytes(4, "big"))).finish()
    [exchange] = talk.done
    assert told(exchange) == (outcome[0], ("client", "server")[side], outcome[1])


def test_a_server_that_has_answered_may_refuse_the_rest_of_the_request() -> None:
    client, server = Peer(), Peer()
    talk = Talk().ask(opening() + client.get(1, "/1", end=False)).answer(SETTINGS + server.ok(1, b"early"))
    talk.answer(frame(3, 0, 1, bytes(4))).finish()
    [exchange] = talk.done
    assert told(exchange) == ("complete", "server", "NO_ERROR")


def test_goaway_ends_the_streams_above_its_last_one() -> None:
    client, server = Peer(), Peer()
    talk = Talk().ask(opening() + client.get(1, "/1") + client.get(3, "/3")).answer(SETTINGS)
    talk.answer(frame(7, 0, 0, (1).to_bytes(4, "big") + bytes(4))).answer(server.ok(1, b"a")).finish()
    assert [told(each) for each in talk.done] == [("goaway", "server", "NO_ERROR"), ("complete", None, None)]


@pytest.mark.parametrize("side", [0, 1])
def test_an_error_in_goaway_is_why_the_rest_ends_with_the_connection(side: int) -> None:
    client = Peer()
    talk = Talk().ask(opening() + client.get(1, "/1")).answer(SETTINGS)
    talk.say(side, frame(7, 0, 0, (1).to_bytes(4, "big") + (1).to_bytes(4, "big")))
    talk.take(talk.http2.end(side)).take(talk.http2.end(1 - side))
    assert [told(each) for each in talk.done] == [("goaway", ("client", "server")[side], "PROTOCOL_ERROR")]


def test_who_closes_an_http2_connection_first_has_ended_its_open_streams() -> None:
    for side, who in enumerate(("client", "server")):
        client = Peer()
        talk = Talk().ask(opening() + client.get(1, "/1")).answer(SETTINGS)
        talk.take(talk.http2.end(side)).take(talk.http2.end(1 - side))
        assert [told(each) for each in talk.done] == [("timeout", who, None)]


def test_an_http2_stream_of_which_frames_are_missing_is_lost() -> None:
    client, server = Peer(), Peer()
    talk = Talk().ask(opening() + client.get(1, "/1") + client.get(3, "/3")).answer(SETTINGS)
    talk.lose(1, None).answer(server.ok(3, b"x")).finish()
    assert sorted(told(each)[0] for each in talk.done) == ["complete", "lost"]
    talk = Talk().ask(opening() + Peer().get(1, "/1")).answer(SETTINGS).finish()
    assert [told(each)[0] for each in talk.done] == ["open"]


def test_a_reset_connection_resets_every_stream_of_it() -> None:
    capture, wire = started()
    client = Peer()
    capture.feed([wire.ask(opening() + client.get(1, "/1") + client.get(3, "/3")), wire.answer(SETTINGS)])
    capture.feed([reset_by(wire, "server")]).finish()
    assert [told(record.exchange) for record in capture.seen] == [("reset", "server", None)] * 2


def test_header_fields_over_the_limit_are_told_and_cost_nobody_else_anything() -> None:
    client, server = Peer(), Peer()
    many = [(f"x-{number}", "v" * 1000) for number in range(80)]
    huge = client.continued(1, [(":method", "GET"), (":path", "/huge"), (":authority", "a"), *many], 16_000, end=True)
    talk = Talk().ask(opening() + huge).answer(SETTINGS + server.headers(1, [(":status", "431")], end=True))
    talk.ask(client.get(3, "/after", ("x-79", "v" * 1000))).answer(server.ok(3)).finish()
    first, second = talk.done
    assert first.request is not None
    assert second.request is not None
    assert (first.request.head.method, first.request.head.target) == ("GET", "/huge")
    assert (told(first)[0], told(second)[0]) == ("unparsable", "complete")
    [part] = first.outcome.malformed
    assert (part.reason, part.line) == ("a header block over 65536 octets", "GET /huge HTTP/2")
    assert second.request.head.fields.get("x-79") == "v" * 1000, "the dynamic table is still known"

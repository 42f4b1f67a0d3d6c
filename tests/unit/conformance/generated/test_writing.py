"""What is written is what the plan says, as independent readers have it: h11, h2 and wsproto."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import h11
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, InformationalResponseReceived, RequestReceived, ResponseReceived, TrailersReceived
from h2.settings import SettingCodes
from hypothesis import HealthCheck, given, settings
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, TextMessage

from harness.conformance.generated import contents, disorder, http1, writing
from harness.conformance.generated.plan import (
    CLIENT,
    GRPC,
    HTTP1,
    PERMILLE,
    SERVER,
    UPGRADE,
    WEBSOCKET,
    Close,
    Content,
    Plan,
    PlannedExchange,
    PlannedMessage,
    Segmentation,
    Talk,
)
from harness.conformance.generated.strategies import THEMES
from harness.conformance.generated.turns import Script
from harness.mesh.replay import ReplayLeg
from harness.sandbox.frames import Flow, Frame, tcp_streams

QUICK = settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
_MOST = 4 << 20


def said(script: Script, side: str, first: int = 0) -> bytes:
    """From the side's turn of that number on."""
    return b"".join([turn.data for turn in script.turns if turn.side == side][first:])


def whole(plan: Plan) -> Iterator[tuple[Talk, Script]]:
    """Its connections as if none were cut short, in the segments in which they are written."""
    talks = tuple(
        replace(talk, close=replace(talk.close, after=PERMILLE), segments=Segmentation()) for talk in plan.talks
    )
    plan = replace(plan, talks=talks)
    for number, talk in enumerate(talks):
        yield talk, writing.script(plan, number)


Message = tuple[list[tuple[bytes, bytes]], bytes, list[tuple[bytes, bytes]]]


def read_http1(connection: h11.Connection) -> tuple[Any, Message]:
    """The next message: its head, and fields, body and trailers."""
    head, body = connection.next_event(), b""
    while isinstance(head, h11.InformationalResponse):
        head = connection.next_event()
    while isinstance(event := connection.next_event(), h11.Data):
        body += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage), event
    assert isinstance(head, h11.Request | h11.Response)
    return head, (list(head.headers.raw_items()), body, list(event.headers.raw_items()))


def raw(pairs: tuple[tuple[str, str], ...]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in pairs]


@QUICK
@given(THEMES["http1"].draw())
def test_http1_as_h11_reads_it(plan: Plan) -> None:
    for talk, script in whole(plan):
        client = h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST)
        server = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MOST)
        client.receive_data(said(script, CLIENT))
        server.receive_data(said(script, SERVER))
        for index, (exchange, marked) in enumerate(zip(talk.played, script.marked, strict=True)):
            request, (fields, body, trailers) = read_http1(client)
            assert (request.method.decode(), request.target.decode()) == (marked.method, marked.target)
            assert marked.nonce in marked.target
            assert body == marked.request_body
            assert raw(exchange.request_fields) == [each for each in fields if each in raw(exchange.request_fields)]
            assert trailers == raw(exchange.request.trailers)
            client.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            client.send(h11.EndOfMessage())
            server.send(h11.Request(method=marked.method, target="/", headers=[("host", "a")]))
            server.send(h11.EndOfMessage())
            if index == len(talk.played) - 1:
                server.receive_data(b"")  # its end, which one answer waits for
            response, (fields, body, _) = read_http1(server)
            assert response.status_code == marked.status == exchange.status
            assert body == marked.response_body
            assert raw(exchange.response_fields) == [each for each in fields if each in raw(exchange.response_fields)]
            if index < len(talk.played) - 1:
                client.start_next_cycle()
                server.start_next_cycle()


class ReadHttp2:
    """What h2 reads of one side."""

    def __init__(self, *, of_client: bool) -> None:
        config = H2Configuration(client_side=not of_client, header_encoding=None)
        self.connection = H2Connection(config)
        self.connection.local_settings[SettingCodes.INITIAL_WINDOW_SIZE] = (1 << 31) - 1
        self.connection.local_settings.acknowledge()
        self.connection.initiate_connection()
        self.connection.increment_flow_control_window((1 << 31) - 1 - 65_535)
        self.fields: dict[int, list[tuple[bytes, bytes]]] = {}
        self.bodies: dict[int, bytes] = {}
        self.trailers: dict[int, list[tuple[bytes, bytes]]] = {}
        self.interim: list[int] = []

    def receive(self, data: bytes) -> None:
        for event in self.connection.receive_data(data):
            if isinstance(event, RequestReceived | ResponseReceived):
                self.fields[event.stream_id] = list(event.headers)
            elif isinstance(event, DataReceived):
                self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
            elif isinstance(event, TrailersReceived):
                self.trailers[event.stream_id] = list(event.headers)
            elif isinstance(event, InformationalResponseReceived):
                self.interim.append(event.stream_id)


@pytest.mark.parametrize("theme", ["http2", "grpc"])
def test_http2_as_h2_reads_it(theme: str) -> None:
    @QUICK
    @given(THEMES[theme].draw())
    def holds(plan: Plan) -> None:
        for talk, script in whole(plan):
            check_http2(talk, script)

    holds()


def check_http2(talk: Talk, script: Script) -> None:
    client, server = ReadHttp2(of_client=True), ReadHttp2(of_client=False)
    first = 0
    if talk.protocol == UPGRADE:
        assert script.marked[0].target.encode() in said(script, CLIENT)
        assert said(script, SERVER).startswith(b"HTTP/1.1 101 ")
        server = ReadHttp2(of_client=False)
        server.connection = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        server.connection.local_settings[SettingCodes.INITIAL_WINDOW_SIZE] = (1 << 31) - 1
        server.connection.local_settings.acknowledge()
        server.connection.initiate_upgrade_connection()
        server.connection.increment_flow_control_window((1 << 31) - 1 - 65_535)
        first = 1
    for number, marked in enumerate(script.marked[first:], start=first):
        asked_for = [(":method", marked.method), (":scheme", "http"), (":path", "/"), (":authority", "a")]
        server.connection.send_headers(2 * number + 1, asked_for, end_stream=True)
    client.receive(said(script, CLIENT, first))
    server.receive(said(script, SERVER, first))
    for number, (exchange, marked) in enumerate(zip(talk.played, script.marked, strict=True)):
        stream = 2 * number + 1
        if number >= first:
            pseudo = dict(client.fields[stream])
            assert pseudo[b":method"] == marked.method.encode()
            assert pseudo[b":path"] == marked.target.encode()
            assert client.bodies.get(stream, b"") == marked.request_body
        answer = server.fields[stream]
        assert (b":status", str(marked.status).encode()) in answer
        assert server.bodies.get(stream, b"") == marked.response_body
        wanted = [(name.lower(), value) for name, value in raw(exchange.response_fields)]
        assert wanted == [each for each in answer if each in wanted]
        if talk.protocol == GRPC:
            fields = server.trailers.get(stream, answer)
            assert (b"grpc-status", str(exchange.status % 17).encode()) in fields


@QUICK
@given(THEMES["websocket"].draw())
def test_websockets_as_wsproto_reads_them(plan: Plan) -> None:
    for talk, script in whole(plan):
        (opening,) = script.marked
        for side, kind in ((CLIENT, ConnectionType.SERVER), (SERVER, ConnectionType.CLIENT)):
            _, _, frames = said(script, side).partition(b"\r\n\r\n")
            reader = Connection(kind)
            reader.receive_data(frames)
            told, parts = [], []
            events = list(reader.events())
            for event in events:
                if isinstance(event, TextMessage | BytesMessage):
                    parts.append(event.data.encode() if isinstance(event, TextMessage) else bytes(event.data))
                    if event.message_finished:
                        told.append((isinstance(event, TextMessage), b"".join(parts)))
                        parts = []
            assert isinstance(events[-1], CloseConnection)
            assert told == [
                (message.text, http1.message_payload(message, f"{opening.nonce}/{number}"))
                for number, message in enumerate(talk.messages * talk.rounds)
                if message.sender == side
            ]


def test_nonces_follow_from_the_plan() -> None:
    plan = Plan(name="one", talks=(Talk(rounds=3), Talk()))
    nonces = [each.nonce for number in (0, 1) for each in writing.script(plan, number).marked]
    assert len(set(nonces)) == 4
    assert nonces[:3] == [each.nonce for each in writing.script(plan, 0).marked]
    assert nonces[0] != writing.script(replace(plan, name="two"), 0).marked[0].nonce


def test_an_end_within_an_exchange_leaves_those_before_it() -> None:
    talk = Talk(rounds=2)
    entire = writing.script(Plan(talks=(talk,)), 0)
    for after in (0, 250, 500, 750, 999, PERMILLE):
        script = writing.script(Plan(talks=(replace(talk, close=Close(after=after)),)), 0)
        told = b"".join(turn.data for turn in script.turns)
        everything = b"".join(turn.data for turn in entire.turns)
        assert told == everything[: len(everything) * after // PERMILLE]
        assert len(script.marked) == (2 if after == PERMILLE else after >= 500)


@pytest.mark.parametrize("how", [Segmentation(cut=7), Segmentation(merged=True), Segmentation(cut=90, merged=True)])
def test_segments_have_the_same_bytes(how: Segmentation) -> None:
    talk = Talk(rounds=4, together=2, exchanges=(PlannedExchange(response=Content(100)),))
    plain = writing.script(Plan(talks=(talk,)), 0)
    script = writing.script(Plan(talks=(replace(talk, segments=how),)), 0)
    for side in (CLIENT, SERVER):
        assert said(script, side) == said(plain, side)
    assert all(len(turn.data) <= (how.cut or 10**9) for turn in script.turns)
    assert len(script.turns) != len(plain.turns)
    for old, new in zip(plain.marked, script.marked, strict=True):
        before = b"".join(turn.data for turn in plain.turns[: old.whole_after])
        assert b"".join(turn.data for turn in script.turns[: new.whole_after]).startswith(before)


LEG = ReplayLeg(("127.0.0.6", 45000), ("10.0.0.1", 8080), ("10.0.0.1", 8080))
FLOWS = {CLIENT: Flow("127.0.0.6", 45000, "10.0.0.1", 8080), SERVER: Flow("10.0.0.1", 8080, "127.0.0.6", 45000)}


@pytest.mark.parametrize(
    "how", [Segmentation(cut=50, swapped=2), Segmentation(cut=50, repeated=3), Segmentation(50, True, 2, 3)]
)
def test_disorder_loses_nothing(how: Segmentation) -> None:
    talk = Talk(rounds=3, segments=how)
    script = writing.script(Plan(talks=(talk,)), 0)
    framed = disorder.framed(talk, script, LEG, "seed")
    streams = tcp_streams(Frame(0, frame) for frame in framed.frames)
    ordered = disorder.framed(replace(talk, segments=Segmentation(cut=50)), script, LEG, "seed")
    assert framed.frames != ordered.frames
    assert {side: streams[FLOWS[side]] for side in FLOWS} == {side: said(script, side) for side in FLOWS}
    assert len(framed.marked) == 3
    for each in framed.marked:
        part = tcp_streams(Frame(0, frame) for frame in framed.frames[: each.whole_after])
        assert each.nonce.encode() in part[FLOWS[SERVER]]


def test_what_a_loss_may_have_touched_is_not_certain() -> None:
    talk = Talk(rounds=6, segments=Segmentation(lost=7))
    script = writing.script(Plan(talks=(talk,)), 0)
    framed = disorder.framed(talk, script, LEG, "seed")
    assert len(framed.frames) == 3 + 12 - 1 + 3
    assert [each.nonce for each in framed.marked] == [each.nonce for each in script.marked[:3]]


def test_bodies_are_as_large_as_planned() -> None:
    for kind in ("text", "noise", "lookalike"):
        for size in (0, 1, 4095, 4096, 1 << 20):
            assert len(contents.body(Content(size, kind), "seed")) == size


def test_the_kinds_of_connections_are_all_written() -> None:
    """A canary: the strategies above do draw each."""
    message = PlannedMessage()
    for protocol in (HTTP1, UPGRADE, GRPC, WEBSOCKET):
        script = writing.script(Plan(talks=(Talk(protocol=protocol, messages=(message,)),)), 0)
        assert said(script, CLIENT)
        assert said(script, SERVER)

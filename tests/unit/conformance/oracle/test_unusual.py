"""What the oracle makes of connections that generated conversations have brought up."""

from __future__ import annotations

from collections.abc import Iterable

from harness.conformance.generated import writing
from harness.conformance.generated.plan import (
    CLIENT,
    SERVER,
    UPGRADE,
    Close,
    Content,
    Plan,
    PlannedExchange,
    PlannedMessage,
    Talk,
)
from harness.conformance.generated.turns import Turn
from harness.conformance.oracle.decode import decode
from harness.conformance.oracle.model import Decoded
from harness.conformance.oracle.wire import connections
from harness.mesh.replay import FrameMaker, ReplayLeg
from harness.sandbox.frames import Frame

INBOUND = ReplayLeg(("127.0.0.6", 40000), ("10.0.0.1", 8080), ("10.0.0.1", 8080))


def decoded(turns: Iterable[Turn]) -> Decoded:
    maker = FrameMaker(INBOUND)
    frames = [*maker.handshake(), *(frame for turn in turns for frame in maker.data(turn.side, turn.data))]
    (connection,) = connections(Frame(number, frame) for number, frame in enumerate(frames))
    return decode(connection)


def of_plan(talk: Talk) -> tuple[Decoded, list[str]]:
    script = writing.script(Plan(talks=(talk,)), 0)
    return decoded(script.turns), [each.target for each in script.marked]


def test_http2_behind_an_upgrade() -> None:
    exchange = PlannedExchange(status=201, response=Content(70_000))
    read, targets = of_plan(Talk(protocol=UPGRADE, exchanges=(exchange,), rounds=3))
    assert not read.flaw
    assert [each.target for each in read.exchanges] == targets
    for each in read.exchanges:
        assert (each.status, each.protocol) == (201, "HTTP/2")
        assert each.response is not None
        assert len(each.response.body) == 70_000
        assert each.response.complete
    assert [each.upgraded for each in read.exchanges] == [True, False, False]


def test_an_upgrade_that_is_not_answered_any_more() -> None:
    exchange = PlannedExchange(response=Content(10_000))
    read, _ = of_plan(Talk(protocol=UPGRADE, exchanges=(exchange,), close=Close(after=40)))
    (each,) = read.exchanges
    assert each.target is not None
    assert each.response is None


def test_a_data_frame_that_breaks_off_is_read_as_far_as_it_comes() -> None:
    exchange = PlannedExchange(method="POST", request=Content(10_000))
    read, _ = of_plan(Talk(protocol="http2", exchanges=(exchange,), close=Close(after=500)))
    (each,) = read.exchanges
    assert each.request is not None
    assert 3_000 < len(each.request.body) < 10_000
    assert not each.request.complete


def test_a_websocket_message_that_breaks_off() -> None:
    talk = Talk(protocol="websocket", messages=(PlannedMessage(CLIENT, size=1000),), close=Close(after=800))
    read, _ = of_plan(talk)
    (message,) = read.socket_messages
    assert not message.whole
    assert 100 < len(message.payload) < 1000


def test_a_redirected_client_that_is_answered_at_another_port() -> None:
    sending = FrameMaker(ReplayLeg(("10.0.0.1", 30_719), ("127.0.0.1", 15001), ("10.96.0.1", 80)))
    answered = FrameMaker(ReplayLeg(("10.0.0.1", 51_546), ("127.0.0.1", 15001), ("10.96.0.1", 80)))
    asks, answers = b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n"
    sent = [maker.handshake() + maker.data(CLIENT, asks) + maker.data(SERVER, answers) for maker in (sending, answered)]
    frames = [sent[0][0], sent[1][1], sent[0][2], sent[0][3], sent[1][4]]
    (connection,) = connections(Frame(number, frame) for number, frame in enumerate(frames))
    assert not connection.flaw
    assert (connection.client, connection.source) == (("10.0.0.1", 51_546), ("10.0.0.1", 30_719))
    assert [each.status for each in decode(connection).exchanges] == [204]

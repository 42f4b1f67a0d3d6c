"""CAP, continued: what a pod's TCP does not take, and connections that are alike."""

from __future__ import annotations

from collections.abc import Sequence

from harness.adapters.contract import Feature
from harness.conformance import expect, strays, truth
from harness.conformance.model import Level, case
from harness.conformance.strays import ACK, FAR, FIN, PSH, RST, SYN, Moment, Stray
from harness.conformance.trial import Trial
from harness.conformance.truth import INBOUND, OUTBOUND, ExpectedLeg, Sent
from harness.mesh import replay
from harness.mesh.delivery import APP_PORT
from harness.mesh.envoy_config import LOOPBACK
from harness.sandbox.pod import Pod

_OLD = 70_000
"""Bytes back, further than a window that is not scaled reaches."""
_OF_NOBODY = truth.request("nonce-of-nobody", target="/of-nobody")
_ENDS: Sequence[Stray] = (
    lambda at: at.from_client(RST, seq=FAR),
    lambda at: at.from_server(RST | ACK, seq=FAR),
    lambda at: at.from_client(FIN | ACK, seq=FAR),
    lambda at: at.from_server(FIN | ACK, seq=FAR),
    lambda at: at.from_client(SYN, seq=FAR),
    lambda at: at.from_server(SYN | ACK, seq=FAR, ack=at.client_isn + 1 - at.client),
)
_BYTES: Sequence[Stray] = (
    lambda at: at.from_client(PSH | ACK, _OF_NOBODY, seq=FAR),
    lambda at: at.from_server(PSH | ACK, truth.response("nonce-of-nobody", 500), seq=FAR),
    lambda at: at.from_client(PSH | ACK, _OF_NOBODY, seq=-FAR),
    lambda at: at.from_server(PSH | ACK, truth.response("nonce-of-nobody", 500), seq=-FAR),
    lambda at: at.from_client(PSH | ACK, _OF_NOBODY, ack=FAR),
    lambda at: at.from_server(PSH | ACK, truth.response("nonce-of-nobody", 500), ack=FAR),
    lambda at: at.from_client(PSH | ACK, _OF_NOBODY, ack=-_OLD),
    lambda at: at.from_server(PSH | ACK, truth.response("nonce-of-nobody", 500), ack=-_OLD),
    lambda at: at.from_client(ACK, ack=FAR),
    lambda at: at.from_server(ACK, ack=FAR),
)


def _refused(at: Moment) -> bytes:
    return strays.refused(at.from_client(PSH | ACK, _OF_NOBODY))


def _refused_answer(at: Moment) -> bytes:
    return strays.refused(at.from_server(PSH | ACK, truth.response("nonce-of-nobody", 500)))


def _refused_end(at: Moment) -> bytes:
    return strays.refused(at.from_client(RST))


@case(
    "CAP-18",
    Level.MUST,
    "RFC 9293, section 3.10.7.4; RFC 5961, sections 3.2 and 4.2",
    features={Feature.HTTP1},
)
def ends_of_nobody(trial: Trial) -> None:
    """A tapper MUST go on with a connection after an RST, FIN, SYN or SYN-ACK that its receiver does not take.

    Any process that may open a raw socket in a pod can send them, and a late packet of an earlier connection may look
    the same. The case sends them between the messages of a connection, from either side: an RST and a FIN far outside
    of the window, a SYN with another number, and a second SYN-ACK with another number. TCP answers these with an
    acknowledgement at most, and the connection goes on.
    """
    _goes_on(trial, _ENDS)


@case("CAP-19", Level.MUST, "RFC 9293, section 3.10.7.4; RFC 5961, section 5.2", features={Feature.HTTP1})
def bytes_of_nobody(trial: Trial) -> None:
    """A tapper MUST read a connection as its ends do, whatever bytes and acknowledgements come from outside its window.

    Between the messages of a connection come, from either side, a request or an answer far ahead of the window, one far
    behind it, one that acknowledges bytes from before the connection, and an acknowledgement of bytes that were never
    sent. The tapper may not report any of these bytes, and may not miss anything else of the connection.
    """
    _goes_on(trial, _BYTES)


@case("CAP-20", Level.SHOULD, "RFC 9293, section 3.1: the checksum", features={Feature.HTTP1})
def refused_for_their_checksum(trial: Trial) -> None:
    """A tapper SHOULD take no segment that its receiver drops for its checksum.

    On `lo` the kernel does not fill in the checksum of its own packets, and the receiver does not verify it. The
    receiver does verify the checksum of a packet from a raw socket. Right before the true bytes, the case sends other
    bytes with the same sequence numbers and a wrong checksum, and an RST with a wrong checksum. It also sends a whole
    connection of such packets, which the receiver never takes.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    exchanges, sent = _exchanges(server, 40301, 4)
    leg = replay.inbound(server, APP_PORT, 40301)
    kinds = (_refused_answer, _refused, _refused_answer, _refused, _refused_end, _refused)
    replay.play(server, strays.between(leg, exchanges, kinds))
    never, hidden = _exchanges(server, 40302, 2)
    forged = replay.conversation(replay.inbound(server, APP_PORT, 40302), never)
    replay.play(server, [strays.refused(frame) for frame in forged])
    tap.settle(sent, server)
    tap.end()
    tap.expect_paired(sent)
    expect.not_presented(hidden, tap.seen)
    tap.require(
        not any(each.target == "/of-nobody" for each in tap.seen),
        "no record of a request that its receiver did not take",
        "one",
    )


@case("CAP-21", Level.MUST, "RFC 9293, section 3.4.1: a connection is known by its ends", features={Feature.HTTP1})
def equal_numbers(trial: Trial) -> None:
    """A tapper MUST keep connections with equal initial sequence numbers apart.

    A tapper that sees one packet at several places may recognise copies by their sequence numbers. But two connections
    may have equal numbers. Four connections whose clients and servers begin with the same numbers, and whose messages
    are of the same lengths, are open at once, and their segments come by turns.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    ports = (40401, 40402, 40403, 40404)
    made = [_exchanges(server, port, 3) for port in ports]
    connections = [
        replay.conversation(replay.inbound(server, APP_PORT, port), exchanges)
        for port, (exchanges, _) in zip(ports, made, strict=True)
    ]
    replay.play(server, [frame for step in zip(*connections, strict=True) for frame in step])
    sent = [each for _, several in made for each in several]
    tap.settle(sent, server)
    tap.end()
    tap.expect_paired(sent)


@case("CAP-22", Level.SHOULD, "Linkerd: its proxy takes what goes out at port 4140; Istio: proxyListenPort")
def another_redirect_port(trial: Trial) -> None:
    """A tapper SHOULD see what an application hands to a sidecar that listens at another port than 15001, as one
    exchange.

    Requests are redirected to port 4140 and to port 15101, and the answers come from the address that the application
    asked for. Each has to be reported once and with its answer.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    sent = []
    for port, source_port in ((4140, 40501), (15101, 40502)):
        destination = ("10.96.77.10", 80)
        leg = replay.ReplayLeg((server.ip, source_port), (LOOPBACK[4], port), destination)
        exchanges, several = _exchanges(server, source_port, 2, outbound=True)
        replay.play(server, replay.conversation(leg, exchanges))
        sent += several
    tap.settle(sent, server)
    tap.end()
    tap.expect_paired(sent)


def _goes_on(trial: Trial, kinds: Sequence[Stray]) -> None:
    """Two connections that carry exchanges around each stray, and plain ones after them."""
    server = trial.pod("server")
    tap = trial.tap(server)
    sent = []
    for port, order in ((40201, kinds), (40202, kinds[::-1])):
        exchanges, several = _exchanges(server, port, len(kinds) // 2 + 2)
        replay.play(server, strays.between(replay.inbound(server, APP_PORT, port), exchanges, order))
        sent += several
    sent += truth.deliver(server, 2)
    tap.settle(sent, server)
    tap.end()
    tap.expect_paired(sent)
    tap.require(
        not any(each.target == "/of-nobody" for each in tap.seen),
        "no record of a request that its receiver did not take",
        "one",
    )


def _exchanges(
    server: Pod, source_port: int, count: int, *, outbound: bool = False
) -> tuple[list[tuple[bytes, bytes]], list[Sent]]:
    """Exchanges that the kit writes itself, told apart by their status, and their records."""
    leg = ExpectedLeg(server, OUTBOUND if outbound else INBOUND)
    src = f"{server.ip if outbound else '127.0.0.6'}:{source_port}"
    exchanges, sent = [], []
    for number in range(count):
        nonce, status = truth.new_nonce(), 210 + number
        exchanges.append((truth.request(nonce), truth.response(nonce, status, body=b"ok\n")))
        sent.append(Sent(nonce, "GET", truth.target_of(nonce), status, (leg,), src, response_body=b"ok\n"))
    return exchanges, sent

"""CAP: the capture in a pod: each exchange, and each only once."""

from __future__ import annotations

from harness.adapters.contract import Feature
from harness.conformance import disturb, expect, tls, truth
from harness.conformance.model import Level, case
from harness.conformance.trial import Trial
from harness.conformance.truth import INBOUND, OUTBOUND, Sent
from harness.errors import InternalError
from harness.mesh import delivery, replay
from harness.mesh.delivery import APP_PORT
from harness.mesh.workload import Delivery
from harness.sandbox.pod import Pod

_PORTS = (3000, 9080, 20_001, 61_234)
_LARGEST_FRAME = 65_549
_LARGEST_PAYLOAD = 65_535 - 40  # an IPv4 packet's longest, without its and TCP's header


@case("CAP-01", Level.MUST, "Istio's inbound interception: Envoy hands plaintext to the application over lo")
def inbound_plaintext(trial: Trial) -> None:
    """A tapper MUST see the requests that a sidecar passes to its application on the pod's `lo`.

    Under mTLS an inbound request can be read at no other place. The sidecar sends twenty requests from 127.0.0.6 to the
    application on one connection, and some requests to applications on other ports, since every port may carry HTTP.
    The tapper has to report each request.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    sent = truth.deliver(server, 20)
    tap.settle(sent, server)
    sent += [each for port in _PORTS for each in truth.deliver(server, 2, port=port)]
    tap.settle(sent, server)
    tap.end()
    tap.expect_seen(sent)


@case("CAP-02", Level.MUST, "istio/istio#22915: the redirected leg is not symmetric")
def outbound_plaintext(trial: Trial) -> None:
    """A tapper MUST see the requests that an application passes to its sidecar, each with its response as one exchange.

    The request goes to 127.0.0.1:15001, and the answer comes from the address that the application asked for. So the
    addresses of the two directions do not mirror each other, and a tapper that pairs by addresses alone sees two
    halves. Answers are asked only of a tapper that claims `packets`, `http1` or `http2`.
    """
    client = trial.pod("client")
    tap = trial.tap(client)
    sent = truth.ask(client, ("10.96.77.10", 80), 10) + truth.ask(client, ("10.244.9.9", 8080), 10)
    tap.settle(sent, client)
    tap.end()
    tap.expect_seen(sent)
    tap.expect_answered(sent)


@case("CAP-03", Level.MUST, "packet(7): a raw socket gets every frame on lo twice, as outgoing and as incoming")
def loopback_once(trial: Trial) -> None:
    """A tapper MUST deliver loopback data once.

    The case opens several connections, and some of them have both ends at 127.0.0.1. The tapper has to report every
    request once. A tapper that does not see connections of the latter kind at all fails CAP-08, not this case.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    sent = [each for _ in range(5) for each in truth.deliver(server, 2)]
    at_one_address = [each for _ in range(5) for each in truth.deliver(server, 2, style=Delivery.LOCALHOST)]
    tap.settle(at_one_address, server)
    tap.end()
    tap.expect_exactly_once(sent + [each for each in at_one_address if expect.of(each, tap.seen)])


@case(
    "CAP-04", Level.MUST, "packet(7), lo's MTU of 65,536: a frame there reaches 65,549 bytes with its Ethernet header"
)
def largest_frame(trial: Trial) -> None:
    """A tapper MUST keep a frame of 65,549 bytes whole, or mark its message as truncated.

    That is the largest frame on `lo`, and large answers consist of such frames. The popular snapshot length of 65,535
    loses the last 14 bytes of each. One answer fills such a frame to its last byte. A capture of packets has to hold
    each packet as long as it was on the wire: nobody can decode later the bytes that were cut. A tapper that claims
    neither `http1` nor `http2` may report the request alone; if it reports the answer, the same holds.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    source_port, nonce = 40401, truth.new_nonce()
    head = len(truth.response(nonce, body=bytes(_LARGEST_PAYLOAD))) - _LARGEST_PAYLOAD
    body = bytes(number % 251 for number in range(_LARGEST_PAYLOAD - head))
    answer = truth.response(nonce, body=body)
    leg = replay.inbound(server, APP_PORT, source_port)
    frames = replay.conversation(leg, [(truth.request(nonce), answer)], mss=_LARGEST_PAYLOAD)
    if max(map(len, frames)) != _LARGEST_FRAME:
        raise InternalError(f"the largest frame has {max(map(len, frames))} bytes instead of {_LARGEST_FRAME}")
    replay.play(server, frames)
    sent = [Sent(nonce, "GET", truth.target_of(nonce), 200, (truth.ExpectedLeg(server, INBOUND),), response_body=body)]
    tap.settle(sent, server)
    tap.end()
    tap.expect_seen(sent)
    if tap.under_test.adapter.format == "ndjson":
        tap.expect_bodies(sent)
        return
    packets = tap.packets()
    cut = [f"{len(packet.data)} of {packet.length} bytes" for packet in packets if len(packet.data) < packet.length]
    tap.require(not cut, "each packet as long as it was on the wire", f"{len(cut)} cut, first of all {cut[:1]}")
    largest = max((segment for packet in packets if (segment := packet.tcp())), key=lambda each: len(each.payload))
    tap.require(
        len(largest.payload) == _LARGEST_PAYLOAD,
        f"a segment of {_LARGEST_PAYLOAD} bytes",
        f"{len(largest.payload)} bytes in the largest one",
    )


@case(
    "CAP-05",
    Level.MUST,
    "Istio: a pod that calls itself has the mTLS between its Envoys on lo, too",
    features={Feature.HTTP1},
)
def ciphertext_is_no_http(trial: Trial) -> None:
    """A tapper MUST NOT present ciphertext as HTTP.

    On `lo` there is TLS: of a pod that calls itself, on its way to port 15006, and of applications that encrypt by
    themselves. A real TLS 1.3 connection with requests in it runs in each of these places. The tapper may not report an
    exchange of it, and has to report the plain requests beside it.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    nonce = truth.new_nonce()
    said = tls.flights([(truth.request(nonce), truth.response(nonce))] * 3, alpn=("istio-http/1.1", "http/1.1"))
    before = truth.deliver(server, 3)
    to_itself = replay.ReplayLeg((server.ip, 41501), ("127.0.0.1", 15006), (server.ip, 8501))
    replay.play(server, replay.conversation(to_itself, said, mss=60_000))
    with delivery.inbound(server, 8502) as conversation:
        for ours, theirs in said:
            conversation.exchange(ours, theirs)
    seen = before + truth.deliver(server, 3)
    tap.settle(seen, server)
    tap.end()
    tap.expect_nothing_invented(8501, 8502, 15006, while_seeing=seen)


@case(
    "CAP-06",
    Level.SHOULD,
    "kubeshark and mizu: a fixed filter `not port 443`; under mTLS by a sidecar 443 carries plaintext on lo",
)
def plaintext_on_443(trial: Trial) -> None:
    """A tapper SHOULD see plaintext on port 443.

    A mesh encrypts below the application, so a service on port 443 may well speak plain HTTP on `lo`. A tapper that
    leaves the port out, in order to avoid TLS, loses these requests silently. Requests go in and out on port 443.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    sent = truth.deliver(server, 5, port=443) + truth.ask(server, ("10.96.77.10", 443), 5)
    tap.settle(sent, server)
    tap.end()
    tap.expect_seen(sent)


@case(
    "CAP-07",
    Level.SHOULD,
    "RFC 9293, section 3.10.7.4: segments come in any order, more than once, and not at all",
    features={Feature.HTTP1},
)
def loss_and_disorder(trial: Trial) -> None:
    """A tapper SHOULD survive segments that are lost, late, repeated or overlapping, and sequence numbers that wrap.

    Each disturbance has a connection of its own whose frames the kit writes to `lo`. All exchanges have to be reported,
    with their own answers and bodies. Where a piece of a body, a whole answer or a whole request is lost, the exchanges
    before and after the hole have to be reported. The exchange with the hole must not look whole, and must not get the
    answer of another exchange.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    whole: list[Sent] = []
    for number, change in enumerate((disturb.reordered, disturb.repeated, disturb.overlapping)):
        exchanges, sent = _numbered(server, 40701 + number)
        whole += sent
        leg = replay.inbound(server, APP_PORT, 40701 + number)
        replay.play(server, change(replay.conversation(leg, exchanges, mss=200)))
    exchanges, sent = _numbered(server, 40711)
    whole += sent
    start = 2**32 - 700  # in the midst of the second answer
    leg = replay.inbound(server, APP_PORT, 40711)
    replay.play(server, replay.conversation(leg, exchanges, mss=200, client_isn=start, server_isn=start))
    exchanges, (first, holed, third) = _numbered(server, 40712)
    leg = replay.inbound(server, APP_PORT, 40712)
    frames = replay.conversation(leg, exchanges, mss=200)
    lost = next(at for at, frame in enumerate(frames) if disturb.filler(2, 400)[200:300] in frame)
    replay.play(server, frames[:lost] + frames[lost + 1 :])
    whole += [first, third]
    exchanges, (first, unanswered, third) = _numbered(server, 40713)
    leg = replay.inbound(server, APP_PORT, 40713)
    frames = replay.conversation(leg, exchanges, mss=1400)
    replay.play(server, [frame for frame in frames if exchanges[1][1] not in frame])
    whole += [first, third]
    exchanges, (first, _, third) = _numbered(server, 40714)
    leg = replay.inbound(server, APP_PORT, 40714)
    frames = replay.conversation(leg, exchanges, mss=1400)
    replay.play(server, [frame for frame in frames if exchanges[1][0] not in frame])
    whole += [first, third]
    tap.settle(whole, server)
    tap.end()
    tap.expect_paired(whole)
    tap.expect_paired_right([holed, unanswered], while_seeing=whole)
    expect.bodies([holed], tap.seen, where_told=True)


@case(
    "CAP-08",
    Level.MUST,
    "Istio: passthrough delivery from 127.0.0.6 since 1.10, delivery over 127.0.0.1 before and by configuration",
)
def both_deliveries(trial: Trial) -> None:
    """A tapper MUST see both styles of delivery by a sidecar: from 127.0.0.6 to the pod, and over 127.0.0.1.

    The style is a setting that differs between releases, and within a mesh from port to port.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    sent = [each for style in Delivery for each in truth.deliver(server, 5, style=style)]
    tap.settle(sent, server)
    tap.end()
    tap.expect_seen(sent)


@case("CAP-09", Level.SHOULD, "Istio: a pod may be chosen as the endpoint of a service that it calls", real_envoy=True)
def calls_itself(trial: Trial) -> None:
    """A tapper SHOULD report both legs of a request of a pod to itself through its service.

    With one endpoint of a service this is every request of that pod to it. A real Envoy takes the request out, encrypts
    it, gets it back and hands it in: two plaintext legs on one `lo`, with TLS between them. Each leg has to be reported
    once. A tapper that drops the second leg as a copy loses it.
    """
    own = trial.mesh.pod("own")
    trial.mesh.inject(own)
    service = trial.mesh.service("own", own)
    trial.record(own.pod)
    tap = trial.tap(own.pod)
    legs = truth.ExpectedLeg(own.pod, OUTBOUND), truth.ExpectedLeg(own.pod, INBOUND)
    sent = truth.through_mesh(trial.mesh.send(own, service, 3), *legs)
    tap.settle(sent, own.pod)
    tap.end()
    tap.expect_seen(sent)


@case(
    "CAP-10",
    Level.MUST,
    "Istio's ip6tables rules: ::6 and ::1 in place of 127.0.0.6 and 127.0.0.1",
    features={Feature.IPV6},
)
def over_ipv6(trial: Trial) -> None:
    """A tapper that claims IPv6 MUST see plaintext there as it does over IPv4: in both styles inbound, and outbound.

    Requests from ::6 to the pod, on ::1, and redirected to ::1 port 15001.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    sent = [each for style in Delivery for each in truth.deliver(server, 3, style=style, ipv6=True)]
    sent += truth.ask(server, ("fd00:96::10", 80), 3)
    tap.settle(sent, server)
    tap.end()
    tap.expect_seen(sent)


@case("CAP-11", Level.MUST, "RFC 9293, section 3.4.1: a pair of addresses and ports is used again")
def ports_used_again(trial: Trial) -> None:
    """A tapper MUST tell connections apart that use the same addresses and ports one after the other.

    Proxies open connections by the thousand, and ports come round. Three connections with the same two ends: the first
    is closed, the second is not, as when its last packets or its owner are lost, and the third begins all the same.
    Each request has to be reported, and by a tapper that claims `packets`, `http1` or `http2` with its answer.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    leg = replay.inbound(server, APP_PORT, 41101)
    sent: list[Sent] = []
    for number, closed in enumerate((True, False, True)):
        exchanges, records = _numbered(server, 41101)
        start = 1_000_000_000 * (3 - number)
        frames = replay.conversation(leg, exchanges, close=closed, client_isn=start, server_isn=start + 500)
        replay.play(server, frames)
        sent += records
    tap.settle(sent, server)
    tap.end()
    tap.expect_seen(sent)
    tap.expect_answered(sent)


def _numbered(server: Pod, source_port: int) -> tuple[list[tuple[bytes, bytes]], list[Sent]]:
    """Three exchanges of one connection, told apart by their statuses and bodies."""
    exchanges, sent = [], []
    for number in range(3):
        nonce, status, body = truth.new_nonce(), 200 + number, disturb.filler(number + 1, 400)
        exchanges.append((truth.request(nonce), truth.response(nonce, status, body=body)))
        src = f"127.0.0.6:{source_port}"
        leg = truth.ExpectedLeg(server, INBOUND)
        sent.append(Sent(nonce, "GET", truth.target_of(nonce), status, (leg,), src, response_body=body))
    return exchanges, sent

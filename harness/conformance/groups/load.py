"""LOAD: a tapper under load."""

from __future__ import annotations

import signal

from harness.adapters.contract import Feature
from harness.adapters.targets import Target
from harness.conformance import truth
from harness.conformance.model import Level, case
from harness.conformance.trial import Trial
from harness.conformance.truth import INBOUND, ExpectedLeg, Sent
from harness.mesh import delivery, replay
from harness.mesh.delivery import APP_PORT

_FLOOD = 96
"""Exchanges of a mebibyte each: more than any ring should hold."""
_MOST_PACKETS = 2 * _FLOOD * 1024
"""Were each of them a kibibyte, with as many acknowledgements. On lo they are larger."""
_CONNECTIONS = 8
_EACH = 250
_OPEN_AT_ONCE = 600
_FIRST_PORT = 42_000


@case(
    "LOAD-01",
    Level.MUST,
    "packet(7), PACKET_STATISTICS: the kernel counts what it drops",
    features={Feature.DROP_COUNTERS},
)
def drops_are_told(trial: Trial) -> None:
    """A tapper that claims drop counters MUST report drops no lower than the loss that can be observed.

    The tapper is stopped (SIGSTOP) while 96 MiB pass, and goes on. Each exchange that it does not report has lost at
    least one packet: the largest `dropped` of its `stat` and `bye` records may not be less than their number. Nor may
    it be more than could have passed at all.
    """
    server = trial.pod("server", record=False)
    tap = trial.tap(server)
    tap.under_test.family.send_signal(signal.SIGSTOP)
    with delivery.inbound(server) as conversation:
        leg = ExpectedLeg(server, INBOUND)
        sent = [truth.speak(conversation, leg, body=b"x" * (1 << 20)) for _ in range(_FLOOD)]
    tap.under_test.family.send_signal(signal.SIGCONT)
    tap.look(server)
    tap.end()
    reported = {nonce for seen in tap.seen for nonce in truth.nonces_in(seen.target or "")}
    lost = sum(each.nonce not in reported for each in sent)
    dropped = max((int(record.get("dropped") or 0) for record in tap.records("stat") + tap.records("bye")), default=0)
    tap.require(dropped >= lost, f"at least {lost} drops told, {lost} of {_FLOOD} exchanges being lost", str(dropped))
    tap.require(dropped <= _MOST_PACKETS, f"no more drops told than packets passed, {_MOST_PACKETS}", str(dropped))


@case("LOAD-02", Level.SHOULD, "mizu: above 150 pods its packet filter loses every restriction to hosts")
def many_targets(trial: Trial) -> None:
    """A tapper SHOULD handle two hundred targets without widening its scope.

    198 of them are on other nodes, and two are here. The tapper has to report what these two receive. It may not report
    what passes between two pods that are no targets, over the node's interfaces and on a neighbour's `lo`.
    """
    first, last, neighbour = trial.pod("first"), trial.pod("last"), trial.pod("neighbour")
    client, plain = trial.node.pod("plain-client"), trial.node.pod("plain-server")
    elsewhere = [
        Target(f"elsewhere-{number}", (f"10.245.{number // 100}.{number % 100 + 1}",), f"uid-elsewhere-{number}")
        for number in range(198)
    ]
    if trial.adapter.delegates_discovery:
        elsewhere = []  # the kit knows no process of a pod on another node
    tap = trial.tap(targets=[trial.target(first), *elsewhere, trial.target(last)], look=[first, last])
    forbidden = truth.deliver(neighbour, 3)
    with delivery.across(client, plain) as conversation:
        forbidden += [truth.speak(conversation, ExpectedLeg(plain, INBOUND)) for _ in range(3)]
    sent = truth.deliver(first, 3) + truth.deliver(last, 3)
    tap.settle(sent, first, last)
    tap.end()
    tap.expect_seen(sent)
    tap.expect_never(forbidden, while_seeing=sent)


@case("LOAD-03", Level.SHOULD, "the size of a service that is worth looking at")
def nothing_lost(trial: Trial) -> None:
    """A tapper SHOULD lose nothing at the stated rate: 2,000 exchanges of 2 KiB over eight connections, back to back.

    One thread of the kit sends them as fast as it can: some thousands a second.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    leg = ExpectedLeg(server, INBOUND)
    conversations = [delivery.inbound(server) for _ in range(_CONNECTIONS)]
    try:
        body = b"y" * 2048
        sent = [truth.speak(each, leg, body=body) for _ in range(_EACH) for each in conversations]
    finally:
        for each in conversations:
            each.close()
    tap.settle(sent, server)
    tap.end()
    tap.expect_seen(sent)


@case(
    "LOAD-04", Level.SHOULD, "mizu: five hundred live streams, and those beyond are dropped", features={Feature.HTTP1}
)
def many_connections(trial: Trial) -> None:
    """A tapper SHOULD follow six hundred connections that are open at once.

    All connections are opened, then a request is sent on each, then each is answered. A sidecar with a few busy clients
    has as many.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    opened, asked, answered, sent = [], [], [], []
    for number in range(_OPEN_AT_ONCE):
        nonce, source_port = truth.new_nonce(), _FIRST_PORT + number
        leg = replay.inbound(server, APP_PORT, source_port)
        frames = replay.conversation(leg, [(truth.request(nonce), truth.response(nonce))], close=False)
        opened += frames[:3]
        asked += frames[3:4]
        answered += frames[4:]
        src = f"127.0.0.6:{source_port}"
        sent.append(Sent(nonce, "GET", truth.target_of(nonce), 200, (ExpectedLeg(server, INBOUND),), src))
    replay.play(server, [*opened, *asked, *answered])
    tap.settle(sent, server)
    tap.end()
    tap.expect_seen(sent)
    tap.expect_answered(sent)

"""CAP, continued: how many there were, and when."""

from __future__ import annotations

import threading

from harness.conformance import expect, truth
from harness.conformance.model import Level, case
from harness.conformance.trial import Trial
from harness.conformance.truth import INBOUND, ExpectedLeg
from harness.conformance.verdict import NotClaimed
from harness.mesh import delivery

_DELAY_S = 2.5
"""Between a request and its answer: more than twice the tolerance, so that the one cannot be taken for the other."""


@case("CAP-12", Level.MUST, "clients ask for the same again: probes, polling, retries")
def equal_requests(trial: Trial) -> None:
    """A tapper MUST report each of several equal requests.

    Three on one connection, and one on each of two others, equal to the last byte, as are their answers. A tapper that
    finds copies by the content of a message, and not by its place in the connection, takes four of them for copies.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    nonce, leg = truth.new_nonce(), ExpectedLeg(server, INBOUND)
    asked, answer = truth.request(nonce), truth.response(nonce)
    for count in (3, 1, 1):
        with delivery.inbound(server) as conversation:
            for _ in range(count):
                conversation.exchange(asked, answer)
            sent = truth.sent(conversation, leg, nonce)
    later = truth.deliver(server)
    tap.settle([sent, *later], server)
    tap.end()
    tap.expect_seen(later)
    copies = tap.copies() or 1
    times = len(expect.of(sent, tap.seen))
    usual = "5 times" if copies == 1 else f"5 times, and each up to {copies} times as in calm"
    tap.require(5 <= times <= 5 * copies, f"{sent.method} {sent.target} {usual}", f"{times} times")


@case("CAP-13", Level.MUST, "adapter contract: ts; pcap-savefile(5)")
def when_it_was(trial: Trial) -> None:
    """A tapper MUST tell the time of a request, if it tells one, to the second.

    People compare the logs of several places by time. One request is answered two and a half seconds later; `ts` of its
    record, or the time of its packet, has to be the time at which the request was sent: not the time of the answer, not
    local time, not a number in another unit.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    nonce = truth.new_nonce()
    with delivery.inbound(server) as conversation:
        conversation.client_sends(truth.request(nonce))
        threading.Event().wait(_DELAY_S * trial.patience)  # the delay is what is tried: nobody is waited for
        conversation.server_sends(truth.response(nonce))
        sent = truth.sent(conversation, ExpectedLeg(server, INBOUND), nonce)
    tap.settle([sent], server)
    tap.end()
    tap.expect_seen([sent])
    if all(each.time is None for each in expect.of(sent, tap.seen)):
        raise NotClaimed("its records have no ts")

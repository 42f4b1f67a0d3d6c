"""HTTP, continued: what is told of a message besides its body."""

from __future__ import annotations

from harness.adapters.contract import Feature
from harness.conformance import expect, truth
from harness.conformance.model import Level, case
from harness.conformance.trial import Trial
from harness.conformance.truth import INBOUND, ExpectedLeg, Sent
from harness.conformance.verdict import NotClaimed
from harness.mesh import delivery
from harness.sandbox.frames import endpoint

_FORGED = "203.0.113.77"  # RFC 5737: nobody's
_AS_THEY_CAME = (
    ("PATCH", "/orders/{nonce}?q=a%20b&empty=&x=1;y=2", 299),
    ("OPTIONS", "//twice//{nonce}/../Dots/./", 404),
    ("PROPFIND", "/orders/{nonce}/%2F%C3%A9%7e?a=b?c", 418),
    ("GET", "http://shop.default.svc/orders/{nonce}", 500),
    ("PURGE", "/a:b@c,d!e$f'(g)*/{nonce}", 503),
    ("TRACE", "/{nonce}" + "/long" * 1000, 599),
)


@case(
    "HTTP-11",
    Level.MUST,
    "mizu: X-Forwarded-For replaced the real source",
    features={Feature.HTTP1},
)
def source_is_the_packets(trial: Trial) -> None:
    """A tapper MUST report the addresses of the packets, never an address from a header.

    Requests in and out carry X-Forwarded-For, Forwarded, X-Real-IP and X-Envoy-External-Address with an address that no
    pod has. `src` and `dst` have to be those of the connection; for a redirected one `dst` may also be the sidecar. A
    tapper that does not report outbound requests, or reports only one of the ends, does not fail here.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    forged = [(name, _FORGED) for name in ("X-Forwarded-For", "X-Real-IP", "X-Envoy-External-Address")]
    forged.append(("Forwarded", f"for={_FORGED}"))
    inbound = truth.deliver(server, 3, headers=forged)
    with delivery.outbound(server, ("10.96.77.10", 80)) as conversation:
        outbound = [truth.speak(conversation, ExpectedLeg(server, truth.OUTBOUND), headers=forged) for _ in range(3)]
    tap.settle(inbound + outbound, server)
    tap.end()
    tap.expect_seen(inbound)
    found = [(each, sighting) for each in inbound + outbound for sighting in expect.of(each, tap.seen)]
    if all(sighting.src is None and sighting.dst is None for _, sighting in found):
        raise NotClaimed("its records tell no ends of a connection (src, dst)")
    for each, sighting in found:
        expect.from_and_to(each, sighting)


@case("HTTP-14", Level.SHOULD, "RFC 9110, sections 5.2, 5.3 and 5.5", features={Feature.HTTP1})
def fields_as_they_came(trial: Trial) -> None:
    """A tapper SHOULD give header fields as they came: every line of a name that occurs twice, in order, values whole.

    A request and an answer with eighty fields: a name in three lines among others, an empty value, values with colons,
    commas, quotes and blanks inside, blanks around them, and a name with no blank after its colon. Names may be written
    in any case. RFC 9110 lets a recipient join the lines of one name, but a tapper that does so can no longer show what
    was sent.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    lines = [
        ("X-Several", "First"),
        ("X-Empty", ""),
        ("X-Several", "second, with: a comma"),
        ("X-Colons", "a:b::c"),
        ("X-Quoted", '"one, two" ; q="0.5"'),
        ("x-several", "third"),
        ("X-Blanks", "two  blanks"),
        *((f"X-Number-{number}", str(number)) for number in range(70)),
    ]
    raw = "".join(f"{name}:{'' if name == 'X-Colons' else '  '}{value} \r\n" for name, value in lines)
    nonce, leg = truth.new_nonce(), ExpectedLeg(server, INBOUND)
    asked = truth.request(nonce).replace(b"\r\n\r\n", b"\r\n" + raw.encode() + b"\r\n")
    answer = truth.response(nonce, 203).replace(b"\r\n\r\n", b"\r\n" + raw.encode() + b"\r\n")
    with delivery.inbound(server) as conversation:
        conversation.exchange(asked, answer)
        sent = [truth.sent(conversation, leg, nonce, status=203)]
    tap.settle(sent, server)
    tap.end()
    tap.expect_seen(sent)
    found = expect.of(sent[0], tap.seen)
    messages = [message for each in found for message in (each.request, each.response) if message is not None]
    if not any(message.headers for message in messages):
        raise NotClaimed("its records have no header fields")


@case("HTTP-15", Level.MUST, "RFC 9110, sections 9.1 and 15; RFC 9112, section 3.2", features={Feature.HTTP1})
def as_they_came(trial: Trial) -> None:
    """A tapper MUST report method, target and status as they came, those that it does not know included.

    Methods beyond the usual five; targets with a query, escapes, empty segments and dots, in absolute form, of five
    thousand bytes; statuses of failures, and statuses that are not registered. A tapper that normalises targets, or
    knows only a list of methods, reports something else than what was sent.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    sent = []
    with delivery.inbound(server) as conversation:
        for method, form, status in _AS_THEY_CAME:
            nonce = truth.new_nonce()
            target = form.format(nonce=nonce)
            conversation.exchange(truth.request(nonce, method=method, target=target), truth.response(nonce, status))
            src, dst = endpoint(*conversation.src), endpoint(*conversation.dst)
            sent.append(Sent(nonce, method, target, status, (ExpectedLeg(server, INBOUND),), src, dst))
    tap.settle(sent, server)
    tap.end()
    tap.expect_paired(sent)


@case("HTTP-22", Level.MUST, "RFC 9110, section 6.3: a field is its message's", features={Feature.HTTP1})
def own_fields(trial: Trial) -> None:
    """A tapper MUST report with a message only the fields of that message.

    Requests and answers on one connection, each with fields that no other message has, and some of one name with
    another value in each. Every field of a record has to be a field of that message, with its value. HTTP-14 judges
    which fields are reported, and how.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    leg, sent = ExpectedLeg(server, INBOUND), []
    with delivery.inbound(server) as conversation:
        for number in range(4):
            nonce = truth.new_nonce()
            asked = truth.request(nonce, headers=[(f"X-Asked-{number}", "yes"), ("X-Number", f"question {number}")])
            theirs = [(f"X-Answered-{number}", "no"), ("X-Number", f"answer {number}")]
            conversation.exchange(asked, truth.response(nonce, 210 + number, headers=theirs))
            sent.append(truth.sent(conversation, leg, nonce, status=210 + number))
    tap.settle(sent, server)
    tap.end()
    tap.expect_seen(sent)

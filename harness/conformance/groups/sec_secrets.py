"""SEC, continued: secrets in what a tapper writes."""

from __future__ import annotations

import secrets
from dataclasses import replace

from harness.adapters.contract import Feature
from harness.conformance import h2c, truth
from harness.conformance.model import Level, case
from harness.conformance.tap import TrialTap
from harness.conformance.trial import Trial
from harness.conformance.truth import INBOUND, OUTBOUND, ExpectedLeg, Sent
from harness.mesh import delivery

OTHER = ("10.96.77.10", 80)
"""The address that an application asks."""


@case("SEC-04", Level.MUST, "RFC 9110, section 11.6.2; RFC 6265, section 8", features={Feature.REDACTION})
def secrets_stay_secret(trial: Trial) -> None:
    """A tapper that claims redaction MUST NOT write the values of Authorization, Proxy-Authorization, Cookie or
    Set-Cookie.

    Each has a value that occurs nowhere else, in usual and unusual spelling, in requests and answers: on the way in and
    out, over IPv6, with statuses of failures, in an upgrade and in a request without an answer. The tapper has to
    report the exchanges themselves. Everything that it wrote is searched as in SEC-03, also in packed or encoded form.
    SEC-11 is the same for HTTP/2.
    """
    server = trial.pod("server")
    tap = trial.tap(server, watch_files=True)
    ways = [(delivery.inbound(server), INBOUND, 200), (delivery.outbound(server, OTHER), OUTBOUND, 401)]
    if Feature.IPV6 in trial.adapter.claims:
        ways.append((delivery.inbound(server, ipv6=True), INBOUND, 404))
    tokens, values, sent = _tokens(6 * len(ways) + 4), list[tuple[str, str]](), list[Sent]()
    fresh = iter(tokens)
    # 1. Exchanges in and out, over IPv4 and IPv6, successful and refused.
    for connection, way, status in ways:
        asked = [("Authorization", f"Bearer {next(fresh)}"), ("cookie", f"session={next(fresh)}; theme=dark")]
        asked += [("PROXY-AUTHORIZATION", f"Basic {next(fresh)}"), ("authorization", f"Digest response={next(fresh)}")]
        answered = [("Set-Cookie", f"session={next(fresh)}; HttpOnly"), ("set-cookie", f"{'x' * 9_000}={next(fresh)}")]
        nonce = truth.new_nonce()
        with connection:
            connection.exchange(
                truth.request(nonce, headers=asked), truth.response(nonce, status, headers=answered, body=b"ok")
            )
            sent.append(truth.sent(connection, ExpectedLeg(server, way), nonce, status=status, body=b"ok"))
        values += asked + answered
    # 2. An upgrade, and a request without an answer.
    nonce, unanswered = truth.new_nonce(), truth.new_nonce()
    asked, answered = [("Cookie", f"a={next(fresh)}")], [("Set-Cookie", f"b={next(fresh)}")]
    with delivery.inbound(server) as connection:
        upgrade = [("Connection", "Upgrade"), ("Upgrade", "other")]
        connection.exchange(
            truth.request(nonce, headers=[*asked, *upgrade]), truth.response(nonce, 101, headers=[*answered, *upgrade])
        )
    values += asked + answered
    with delivery.inbound(server) as connection:
        asked = [("Authorization", f"Bearer {next(fresh)}"), ("Cookie", f"c={next(fresh)}")]
        connection.client_sends(truth.request(unanswered, headers=asked))
    values += asked
    _expect_hidden(tap, sent, values, tokens)


@case(
    "SEC-11",
    Level.MUST,
    "RFC 9110, section 11.6.2; RFC 6265, section 8; RFC 9113, section 8.2.3",
    features={Feature.REDACTION, Feature.HTTP2},
)
def secrets_stay_secret_in_http2(trial: Trial) -> None:
    """A tapper that claims redaction and HTTP/2 MUST NOT write the values of Authorization, Cookie or Set-Cookie there.

    As SEC-04, on a connection of HTTP/2. A cookie comes in two fields, as browsers send it, and every value comes again
    in a second stream, where only the dynamic table has it. Another cookie is set in trailers.
    """
    server = trial.pod("server")
    tap = trial.tap(server, watch_files=True)
    tokens = _tokens(5)
    asked = [("authorization", f"Bearer {tokens[0]}"), ("cookie", f"session={tokens[1]}"), ("cookie", f"b={tokens[2]}")]
    answered, trailers = [("set-cookie", f"session={tokens[3]}")], [("set-cookie", f"late={tokens[4]}")]
    client, answering, sent = h2c.Http2Sender(), h2c.Http2Sender(), []
    with delivery.inbound(server) as conversation:
        h2c.begin(conversation)
        for stream in (1, 3):
            nonce = truth.new_nonce()
            question = h2c.request_fields("GET", truth.target_of(nonce), asked)
            conversation.client_sends(client.headers(stream, question, end=True))
            conversation.server_sends(answering.headers(stream, [(":status", "204"), *answered]))
            conversation.server_sends(answering.headers(stream, trailers, end=True))
            sent.append(truth.sent(conversation, ExpectedLeg(server, INBOUND), nonce, status=204))
    _expect_hidden(tap, sent, [*asked, *answered, *trailers], tokens)


@case(
    "SEC-15",
    Level.SHOULD,
    "RFC 9110, sections 4.2.4 and 17.9; RFC 6750, section 5.3; OpenTelemetry, HTTP spans: url.full and url.query",
    features={Feature.REDACTION},
)
def secrets_in_urls_and_keys(trial: Trial) -> None:
    """A tapper that claims redaction SHOULD NOT write tokens that are in URLs or in the fields of well-known APIs.

    Each has a value that occurs nowhere else: parameters of the target (access_token, sig, api_key, one with an escaped
    name), password and user of an absolute target, tokens in the URLs of Referer and Location, X-API-Key, X-Auth-Token,
    X-Amz-Security-Token and X-Vault-Token. The exchanges themselves have to be reported, with the names of the
    parameters. A mask may stand for a value, and so may a mask for all of a parameter that is a URL.
    """
    server = trial.pod("server")
    tap = trial.tap(server, watch_files=True)
    tokens = _tokens(12)
    hidden: list[tuple[str, str]] = []

    def secret(where: str, form: str = "{}") -> str:
        hidden.append((where, form.format(tokens[len(hidden)])))
        return hidden[-1][1]

    sent = []
    with delivery.inbound(server) as conversation:
        for begin in ("", f"http://{secret('the user')}:{secret('the password')}@shop.default.svc"):
            nonce = truth.new_nonce()
            target = f"{begin}{truth.target_of(nonce)}?page=2"
            asked, answered = [("Accept", "*/*")], [("Server", "shop")]
            if not begin:
                for name in ("access_token", "sig", "api_key", "%74oken"):
                    target += f"&{name}={secret(f'the parameter {name}')}"
                for name in ("X-API-Key", "X-Auth-Token", "X-Amz-Security-Token", "X-Vault-Token"):
                    asked.append((name, secret(name)))
                asked.append(("Referer", secret("Referer", "http://shop.default.svc/?page=1&token={}")))
                answered.append(("Location", secret("Location", "/login#access_token={}&page=3")))
            question = truth.request(nonce, target=target, headers=asked)
            conversation.exchange(question, truth.response(nonce, headers=answered, body=b"ok"))
            leg = ExpectedLeg(server, INBOUND)
            sent.append(replace(truth.sent(conversation, leg, nonce, body=b"ok"), target=target))
    _expect_hidden(tap, sent, hidden, tokens)


def _tokens(count: int) -> list[str]:
    return [f"secret-{secrets.token_hex(16)}" for _ in range(count)]


def _expect_hidden(tap: TrialTap, sent: list[Sent], values: list[tuple[str, str]], tokens: list[str]) -> None:
    """The exchanges are reported, and none of the tokens in these values is written anywhere."""
    tap.wait_seen(sent)
    tap.end()
    tap.expect_seen(sent)
    found = tap.wrote(token.encode() for token in tokens)
    told = [
        f"that of {name} {found[token.encode()]}"
        for name, value in values
        for token in tokens
        if token in value and token.encode() in found
    ]
    tap.require(not told, "no secret value anywhere", "; ".join(told))

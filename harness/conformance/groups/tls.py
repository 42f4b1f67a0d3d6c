"""TLS: what applications encrypt themselves, with a sidecar or without."""

from __future__ import annotations

from harness.adapters.contract import Feature
from harness.conformance import h2c, own_tls, truth
from harness.conformance.model import Level, case
from harness.conformance.own_tls import inbound, one_of, outbound, speak
from harness.conformance.trial import Trial
from harness.conformance.truth import ExpectedLeg, Sent
from harness.errors import InternalError
from harness.mesh.own_tls.ends import TlsConnection, connect

OWN_TLS = frozenset({Feature.TLS})
_SIZES = (4096, 8192, 16384, 1 << 20)
_RETRIED = 300_000
"""More than the buffers of a small socket take at once."""


@case(
    "TLS-01", Level.MUST, "SSL_read(3), SSL_write(3): the plaintext passes a function of the library", features=OWN_TLS
)
def reads_own_tls(trial: Trial) -> None:
    """A tapper that claims `tls` MUST report what its targets' applications encrypt themselves, each leg once.

    Two targets without a sidecar talk HTTPS to each other, on several connections. Each request is reported twice: as
    outbound at the pod whose process opened the connection, and as inbound at the pod whose process accepted it. A
    tapper that claims `http2` also has to read HTTP/2.
    """
    client, server = trial.node.pod("client"), trial.node.pod("server")
    ours, theirs = trial.tls_program(client), trial.tls_program(server)
    legs = outbound(client), inbound(server)
    tap = own_tls.tap(trial, [client, server], lambda: one_of(ours, theirs, *legs))
    sent = one_of(ours, theirs, *legs, count=5) + one_of(ours, theirs, *legs, count=5)
    if Feature.HTTP2 in trial.adapter.claims:
        with connect(ours, theirs) as connection:
            sent += _http2(connection, 3, *legs)
    tap.settle(sent)
    tap.end()
    tap.expect_exactly_once(sent)


def _http2(connection: TlsConnection, count: int, *legs: ExpectedLeg) -> list[Sent]:
    """So many requests on a new connection, each on a stream of its own."""
    asking, answering = h2c.Http2Sender(), h2c.Http2Sender()
    h2c.begin(connection)
    sent = []
    for number in range(count):
        nonce, stream = truth.new_nonce(), 2 * number + 1
        fields = h2c.request_fields("GET", truth.target_of(nonce), [("x-nonce", nonce)])
        answer = answering.headers(stream, [(":status", "200"), ("x-nonce", nonce)])
        connection.exchange(
            asking.headers(stream, fields, end=True), answer + answering.data(stream, b"ok\n", end=True)
        )
        sent.append(own_tls.sent(connection, nonce, *legs, body=b"ok\n"))
    return sent


@case("TLS-02", Level.MUST, "a uprobe belongs to a file, and so to every process that has mapped it", features=OWN_TLS)
def only_targets(trial: Trial) -> None:
    """A tapper that claims `tls` MUST NOT read what others encrypt, even if they use the same library file.

    All processes of a node may have mapped one libssl.so. Of three pods one is a target. What the two others say to
    each other appears nowhere in the output. What one of them says to the target is reported once, at the target.
    """
    server, stranger, other = (trial.node.pod(name) for name in ("server", "stranger", "other"))
    theirs, ours, third = (trial.tls_program(pod) for pod in (server, stranger, other))
    tap = own_tls.tap(trial, [server], lambda: one_of(ours, theirs, inbound(server)))
    forbidden = one_of(ours, third, outbound(stranger), inbound(other), count=3)
    sent = one_of(ours, theirs, inbound(server), count=3)
    forbidden += one_of(third, ours, outbound(other), inbound(stranger), count=3)
    tap.settle(sent)
    tap.end()
    tap.expect_never(forbidden, while_seeing=sent)
    tap.expect_exactly_once(sent)


@case(
    "TLS-03",
    Level.MUST,
    "bcc's sslsniff cuts at 8,192 bytes, ecapture at 4,096; a mask of 8,191 makes nothing of 8,192",
    features=OWN_TLS,
)
def writes_of_any_size(trial: Trial) -> None:
    """A tapper that claims `tls` MUST report a message whole, however many bytes one write has, or say that it is cut.

    Requests and responses are written in one call of the library each: 4,096, 8,192 and 16,384 bytes, which are the
    buffers of well-known tools and a TLS record, and 1 MiB. Their bodies are reported whole, or marked as cut.
    """
    client, server = trial.node.pod("client"), trial.node.pod("server")
    ours, theirs = trial.tls_program(client), trial.tls_program(server)
    legs = outbound(client), inbound(server)
    tap = own_tls.tap(trial, [client, server], lambda: one_of(ours, theirs, *legs))
    with connect(ours, theirs) as connection:
        sent = [_of_size(connection, size, *legs) for size in _SIZES]
    tap.settle(sent)
    tap.end()
    tap.expect_bodies(sent)


def _of_size(connection: TlsConnection, size: int, *legs: ExpectedLeg) -> Sent:
    """An exchange in which each side writes so many bytes in one call, head included."""
    nonce = truth.new_nonce()
    body, answer = b"a" * (size - _head(truth.request, nonce, size)), b"b" * (size - _head(truth.response, nonce, size))
    calls = connection.client_sends(truth.request(nonce, method="POST", body=body))
    calls += connection.server_sends(truth.response(nonce, body=answer))
    if calls != 2:
        raise InternalError(f"{size} bytes took the library {calls - 1} calls to write: the case needs one")
    return own_tls.sent(connection, nonce, *legs, method="POST", request_body=body, body=answer)


@case(
    "TLS-04",
    Level.MUST,
    "users of ecapture: ends of 0.0.0.0:0; with memory BIOs the library does not know the socket",
    features=OWN_TLS,
)
def true_ends(trial: Trial) -> None:
    """A tapper that claims `tls` MUST report the connection's two ends, also if the library does not know the socket.

    Asyncio and others give the library two memory BIOs, and move the bytes between these and the socket themselves. One
    target talks to a pod that is no target: as client and as server, with sockets and with memory BIOs. Its listening
    socket takes IPv4 connections as IPv6 ones, with mapped addresses. Each report has the address and the port of both
    ends as the packets have them.
    """
    target, stranger = trial.node.pod("target"), trial.node.pod("stranger")
    ours, theirs = trial.tls_program(target), trial.tls_program(stranger)
    tap = own_tls.tap(trial, [target], lambda: one_of(ours, theirs, outbound(target)))
    sent = []
    for how in ({}, {"memory_bio": True}, {"ipv6": True}):
        if "ipv6" not in how or Feature.IPV6 in trial.adapter.claims:
            sent += one_of(ours, theirs, outbound(target), count=2, **how)
            sent += one_of(theirs, ours, inbound(target), count=2, **how)
    tap.settle(sent)
    tap.end()
    tap.expect_seen(sent)
    own_tls.expect_ends(sent, tap.seen)


@case(
    "TLS-05",
    Level.MUST,
    "SSL_get_error(3): a write that was refused is made again with the same bytes",
    features=OWN_TLS,
)
def retried_write(trial: Trial) -> None:
    """A tapper that claims `tls` MUST report a message once if its write had to be tried again.

    On a non-blocking socket that takes no more, SSL_write fails with SSL_ERROR_WANT_WRITE, and the program calls it
    again with the same bytes. A request of 300,000 bytes goes through small buffers to a server that does not read at
    first. It is reported once, with its own body.
    """
    client, server = trial.node.pod("client"), trial.node.pod("server")
    ours, theirs = trial.tls_program(client), trial.tls_program(server)
    legs = outbound(client), inbound(server)
    tap = own_tls.tap(trial, [client, server], lambda: one_of(ours, theirs, *legs))
    with connect(ours, theirs, small_buffers=True) as connection:
        nonce, body = truth.new_nonce(), b"c" * _RETRIED
        if not connection.client_retries(truth.request(nonce, method="POST", body=body)):
            raise InternalError("the socket took the whole request at once: no write was tried again")
        connection.server_sends(truth.response(nonce, body=b"ok\n"))
        sent = [own_tls.sent(connection, nonce, *legs, method="POST", request_body=body, body=b"ok\n")]
        sent.append(speak(connection, *legs))
    tap.settle(sent)
    tap.end()
    tap.expect_exactly_once(sent)
    tap.expect_bodies(sent)


def _head(make: object, nonce: str, size: int) -> int:
    """The number of bytes before a message's body if the message has so many bytes in all."""
    assert callable(make)
    how = {"method": "POST"} if make is truth.request else {}
    length = size
    while len(make(nonce, body=b"x" * length, **how)) > size:
        length -= len(make(nonce, body=b"x" * length, **how)) - size
    return size - length

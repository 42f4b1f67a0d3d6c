"""Requests that applications in pods encrypt themselves, as cases send them and wait for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.adapters.observed import ReportedExchange
from harness.conformance import expect, truth
from harness.conformance.oracle.compare import same_end
from harness.conformance.tap import TrialTap
from harness.conformance.trial import Trial
from harness.conformance.truth import INBOUND, OUTBOUND, ExpectedLeg, NamedPod, Sent
from harness.conformance.verdict import Violation
from harness.mesh.own_tls.ends import TlsConnection, TlsProgram, connect
from harness.sandbox.frames import endpoint
from harness.sandbox.pod import Pod


def speak(
    connection: TlsConnection,
    *legs: ExpectedLeg,
    method: str = "GET",
    status: int = 200,
    request_body: bytes = b"",
    body: bytes = b"ok\n",
    filler: int = 0,
) -> Sent:
    """Send one exchange on an open connection, each message in one write. `filler` letters `x` are the response's body
    in place of `body`."""
    nonce = truth.new_nonce()
    request = truth.request(nonce, method=method, body=request_body)
    if filler:
        head = f"HTTP/1.1 {status} Whatever\r\nx-nonce: {nonce}\r\nContent-Length: {filler}\r\n\r\n".encode()
        connection.exchange(request, head, filler=filler)
    else:
        connection.exchange(request, truth.response(nonce, status, body=body))
    return sent(connection, nonce, *legs, method=method, status=status, request_body=request_body, body=body)


def sent(
    connection: TlsConnection,
    nonce: str,
    *legs: ExpectedLeg,
    method: str = "GET",
    status: int = 200,
    request_body: bytes = b"",
    body: bytes = b"",
) -> Sent:
    """The record of an exchange whose bytes the case has written itself."""
    src, dst = endpoint(*connection.src), endpoint(*connection.dst)
    return Sent(nonce, method, truth.target_of(nonce), status, legs, src, dst, request_body, body)


def one_of(
    client: TlsProgram,
    server: TlsProgram,
    *legs: ExpectedLeg,
    count: int = 1,
    ipv6: bool = False,
    memory_bio: bool = False,
) -> list[Sent]:
    """Requests on a connection of their own; the options are those of `connect`."""
    with connect(client, server, ipv6=ipv6, memory_bio=memory_bio) as connection:
        return [speak(connection, *legs) for _ in range(count)]


def inbound(pod: NamedPod) -> ExpectedLeg:
    """The leg of the pod whose process accepted the connection."""
    return ExpectedLeg(pod, INBOUND)


def outbound(pod: NamedPod) -> ExpectedLeg:
    """The leg of the pod whose process opened the connection."""
    return ExpectedLeg(pod, OUTBOUND)


def tap(trial: Trial, pods: Sequence[Pod], send: Callable[[], list[Sent]]) -> TrialTap:
    """Start the tapper with these targets, and prove by requests of `send` that it reads what their applications
    encrypt themselves."""
    tap = trial.tap(*pods, look=(), read_tls=True)
    look(tap, send)
    return tap


def look(tap: TrialTap, send: Callable[[], list[Sent]]) -> list[Sent]:
    """Prove by requests of `send` that it reads what an application encrypts itself; returns them."""
    seen = tap.prove(send, "an HTTPS request of an application in a pod that is a target")
    tap.canaries += seen
    return seen


def expect_ends(sent: Sequence[Sent], seen: Sequence[ReportedExchange]) -> None:
    """Each report of these requests has the two ends that the connection's packets have."""
    for each in sent:
        for sighting in expect.of(each, seen):
            told = [None if end is None else same_end(end) for end in (sighting.src, sighting.dst)]
            if told != [same_end(each.src or ""), same_end(each.dst or "")]:
                raise Violation(f"{each.method} {each.target} from {each.src} to {each.dst}", str(sighting))

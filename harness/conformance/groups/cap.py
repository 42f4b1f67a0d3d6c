"""CAP: what is captured in a pod, and how often."""

from __future__ import annotations

from harness.conformance import truth
from harness.conformance.model import Level, case
from harness.conformance.trial import Trial
from harness.mesh.workload import Delivery


@case("CAP-01", Level.MUST, "Istio's inbound interception: Envoy hands plaintext to the application over lo")
def inbound_plaintext(trial: Trial) -> None:
    """A tapper MUST see what a sidecar hands to its application on the pod's `lo`.

    Under mTLS this is the only place of the way in where the request can be read. Twenty requests on one connection
    from 127.0.0.6 to the application; each has to be reported.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    sent = truth.deliver(server, 20)
    tap.settle(sent, server)
    tap.end()
    tap.expect_seen(sent)


@case("CAP-02", Level.MUST, "istio/istio#22915: the redirected leg is not symmetric")
def outbound_plaintext(trial: Trial) -> None:
    """A tapper MUST see what an application hands to its sidecar, request and answer as one exchange.

    The request goes to 127.0.0.1:15001, the answer comes from the address that the application asked for: the two
    directions are no mirrors of each other. Who pairs by addresses alone sees two halves.
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

    Several connections in both delivery styles; every request, and every byte of it, has to be reported once.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    sent = [each for style in Delivery for _ in range(5) for each in truth.deliver(server, 2, style=style)]
    tap.settle(sent, server)
    tap.end()
    tap.expect_once(sent)

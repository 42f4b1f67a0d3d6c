"""SEC: what a tapper may touch, tell and be hurt by."""

from __future__ import annotations

import secrets
import stat

from harness.adapters.contract import Feature
from harness.conformance import h2c, hostile, state, truth
from harness.conformance.model import Level, case
from harness.conformance.tap import Tap
from harness.conformance.trial import Trial
from harness.conformance.truth import INBOUND, Leg
from harness.conformance.verdict import NotClaimed
from harness.mesh import delivery, replay
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod

MOST_MEMORY = 512 << 20
"""Bytes resident that a tapper and its children may reach under hostile input."""


_MUCH = 256 << 10


@case("SEC-01", Level.SHOULD, "Kubernetes: pod security, least privilege; capabilities(7)")
def declared_capabilities(trial: Trial) -> None:
    """A tapper SHOULD run with the capabilities that it declares, and no others.

    The adapter's `run.capabilities` is what a DaemonSet would grant. The tapper is started with just these, everything
    else dropped from its bounding set, and has to see its target.
    """
    if trial.adapter.capabilities is None:
        raise NotClaimed("the adapter does not declare run.capabilities")
    server = trial.pod("server")
    tap = trial.tap(server, capabilities=trial.adapter.capabilities)
    sent = truth.deliver(server, 5)
    tap.settle(sent, server)
    tap.end()
    tap.expect_seen(sent)


@case("SEC-02", Level.MUST, "a tapper observes: whoever else uses the node must not notice it")
def changes_nothing(trial: Trial) -> None:
    """A tapper MUST leave links, addresses, routes, rules, packet filters and sysctls as they were.

    Of the node and of the pods, target and neighbour, compared before its start and after its end.
    """
    server, neighbour = trial.pod("server"), trial.pod("neighbour")
    places: dict[str, Node | Pod] = {"the node": trial.node, "the target pod": server, "a neighbour pod": neighbour}
    before = {name: state.snapshot(place) for name, place in places.items()}
    tap = trial.tap(server)
    sent = truth.deliver(server, 3)
    tap.settle(sent, server)
    tap.end()
    tap.expect_seen(sent)
    changed = [
        f"in {name}, {difference}"
        for name, place in places.items()
        for difference in state.differences(before[name], state.snapshot(place))
    ]
    tap.require(not changed, "everything as it was", "; ".join(changed[:3]))


@case("SEC-03", Level.MUST, "privacy: a target list is a permission, and everything else is somebody else's data")
def nothing_of_neighbours(trial: Trial) -> None:
    """A tapper MUST NOT emit anything of a pod that is no target, anywhere: no output, no log, no file.

    A neighbour with a sidecar of its own receives and sends requests on its `lo`, and two pods without sidecars talk
    over their veths, while the target's canaries are seen. Everything that the tapper wrote is searched.
    """
    server, neighbour = trial.pod("server"), trial.pod("neighbour")
    client, plain = trial.node.pod("plain-client"), trial.node.pod("plain-server")
    tap = trial.tap(server)
    forbidden = truth.deliver(neighbour, 5) + truth.ask(neighbour, ("10.96.77.10", 80), 5)
    with delivery.across(client, plain) as conversation:
        forbidden += [truth.speak(conversation, Leg(plain, INBOUND)) for _ in range(5)]
    canaries = truth.deliver(server, 3)
    tap.wait_seen(canaries)
    tap.end()
    tap.expect_never(forbidden, while_seeing=canaries)
    tap.expect_nothing_in_files(forbidden)


@case("SEC-04", Level.MUST, "RFC 9110, section 11.6.2; RFC 6265, section 8", features={Feature.REDACTION})
def secrets_stay_secret(trial: Trial) -> None:
    """A tapper that claims redaction MUST NOT write the values of Authorization, Proxy-Authorization, Cookie or
    Set-Cookie.

    Each has a value that occurs nowhere else, in usual and unusual spelling, in requests and answers. The exchange
    itself has to be reported: who drops it hides more than was asked. SEC-11 is the same for HTTP/2.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    tokens = _tokens(6)
    asked = [("Authorization", f"Bearer {tokens[0]}"), ("cookie", f"session={tokens[1]}; theme=dark")]
    asked += [("PROXY-AUTHORIZATION", f"Basic {tokens[2]}"), ("authorization", f"Digest response={tokens[3]}")]
    answered = [("Set-Cookie", f"session={tokens[4]}; HttpOnly"), ("set-cookie", f"other={tokens[5]}")]
    nonce = truth.new_nonce()
    with delivery.inbound(server) as conversation:
        conversation.exchange(truth.request(nonce, headers=asked), truth.response(nonce, headers=answered, body=b"ok"))
        sent = [truth.sent(conversation, Leg(server, INBOUND), nonce, body=b"ok")]
    tap.wait_seen(sent)
    tap.end()
    tap.expect_seen(sent)
    _expect_untold(tap, tokens, [*asked, *answered])


@case(
    "SEC-11",
    Level.MUST,
    "RFC 9110, section 11.6.2; RFC 6265, section 8; RFC 9113, section 8.2.3",
    features={Feature.REDACTION, Feature.HTTP2},
)
def secrets_stay_secret_in_http2(trial: Trial) -> None:
    """A tapper that claims redaction and HTTP/2 MUST NOT write the values of Authorization, Cookie or Set-Cookie there.

    As SEC-04, on a connection of HTTP/2. A cookie comes in two fields, as browsers send it, and every value comes again
    in a second stream, where only the header table has it.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    tokens = _tokens(4)
    asked = [("authorization", f"Bearer {tokens[0]}"), ("cookie", f"session={tokens[1]}"), ("cookie", f"b={tokens[2]}")]
    answered = [("set-cookie", f"session={tokens[3]}")]
    client, answering, sent = h2c.Side(), h2c.Side(), []
    with delivery.inbound(server) as conversation:
        h2c.begin(conversation)
        for stream in (1, 3):
            nonce = truth.new_nonce()
            question = h2c.request_fields("GET", truth.target_of(nonce), asked)
            conversation.client_sends(client.headers(stream, question, end=True))
            conversation.server_sends(answering.headers(stream, [(":status", "204"), *answered], end=True))
            sent.append(truth.sent(conversation, Leg(server, INBOUND), nonce, status=204))
    tap.wait_seen(sent)
    tap.end()
    tap.expect_seen(sent)
    _expect_untold(tap, tokens, [*asked, *answered])


def _tokens(count: int) -> list[str]:
    """Secrets that occur nowhere else."""
    return [f"secret-{secrets.token_hex(16)}" for _ in range(count)]


def _expect_untold(tap: Tap, tokens: list[str], fields: list[tuple[str, str]]) -> None:
    told = [token for token in tokens if tap.wrote(token.encode())]
    names = [name for name, value in fields for token in told if token in value]
    tap.require(not told, "no value of a secret header anywhere", f"those of {', '.join(names)}")


@case("SEC-05", Level.MUST, "the wire is not trusted: whoever can send to a pod can feed its tapper")
def hostile_bytes(trial: Trial) -> None:
    """A tapper MUST survive hostile bytes on the wire, in bounded memory, and go on seeing what follows.

    Heads without an end, impossible lengths and chunk sizes, smuggled and truncated messages, HTTP/2 frames out of
    order, random bytes; packets that overlap, contradict each other, or are cut in their headers. Resident memory is
    sampled while it runs and may not pass 512 MiB.
    """
    trial.may_lose = True
    server = trial.pod("server")
    tap = trial.tap(server)
    for payload in hostile.requests():
        with delivery.inbound(server) as conversation:
            conversation.client_sends(payload)
            conversation.server_sends(hostile.ANSWER)
        if len(payload) >= _MUCH:
            tap.look(server)  # what it drops would not hurt it
    replay.play(server, hostile.frames(server))
    sent = truth.deliver(server, 5)
    tap.settle(sent, server)
    tap.end()
    tap.expect_seen(sent)
    memory = tap.under_test.most_memory
    tap.require(memory < MOST_MEMORY, f"less than {MOST_MEMORY >> 20} MiB of memory", f"{memory >> 20} MiB")


@case("SEC-06", Level.SHOULD, "what a tapper stores is other people's traffic; open(2)")
def private_files(trial: Trial) -> None:
    """A tapper that writes files SHOULD let nobody but their owner read them.

    Looked at while it still runs: a file that is closed up later has been open to everybody.
    """
    if trial.adapter.to == "stdout":
        raise NotClaimed("the tapper writes to its standard output, whose permissions are not its own")
    server = trial.pod("server")
    tap = trial.tap(server)
    sent = truth.deliver(server, 3)
    tap.wait_seen(sent)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tap.files()}
    tap.end()
    tap.expect_seen(sent)
    readable = [f"{name} ({mode:04o})" for name, mode in modes.items() if mode & 0o077]
    tap.require(modes and not readable, "files of mode 0600", ", ".join(readable) or "no files")


@case("SEC-07", Level.MUST, "a tapper observes: it is nobody whom a pod talks with")
def says_nothing(trial: Trial) -> None:
    """A tapper MUST send nothing in a pod.

    Whoever resolves a name, asks an API or knocks on a port while one of its threads is in a pod's namespace does so in
    the pod's name. The kernel counts for each namespace what its sockets send: connections opened, UDP datagrams, ICMP
    messages. Of the target these have to be the kit's own, of a neighbour none.
    """
    server, neighbour = trial.pod("server"), trial.pod("neighbour")
    before = {pod.name: state.sent_by(pod) for pod in (server, neighbour)}
    tap = trial.tap(server)
    sent = truth.deliver(server, 5)
    tap.settle(sent, server)
    tap.end()
    tap.expect_seen(sent)
    own = len(tap.canaries) + 1  # each canary has a connection of its own, the five requests share one
    for pod, connections in ((server, own), (neighbour, 0)):
        more = {name: number - before[pod.name][name] for name, number in state.sent_by(pod).items()}
        more["connections opened"] -= connections
        told = ", ".join(f"{number} {name}" for name, number in more.items() if number)
        tap.require(not told, f"nothing sent in pod {pod.name} but by the kit", told)

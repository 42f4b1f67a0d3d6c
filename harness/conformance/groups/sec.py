"""SEC: security: the changes and writes of a tapper, and hostile input."""

from __future__ import annotations

import stat
from contextlib import ExitStack

from harness.conformance import expect, hostile, state, truth
from harness.conformance.audit import packets, unpacked
from harness.conformance.audit.changes import Changes
from harness.conformance.audit.logsocket import LogSocket
from harness.conformance.model import Level, case
from harness.conformance.trial import Trial
from harness.conformance.truth import INBOUND, ExpectedLeg, Sent
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
    """A tapper MUST NOT change links, addresses, routes, rules, packet filters, offloads or sysctls, even for a while.

    The node, the target and a neighbour are watched. The kernel reports each change as it happens (rtnetlink, nftables,
    inotify on sysctls), so a change that is taken back counts, too. The kit also compares all settings before the
    tapper's start, while it captures, and after its end. SEC-09 judges promiscuous mode.
    """
    server, neighbour = trial.pod("server"), trial.pod("neighbour")
    places: dict[str, Node | Pod] = {"the node": trial.node} | {truth.in_words(pod): pod for pod in (server, neighbour)}
    for place in places.values():
        state.wait_settled(place)
    with ExitStack() as watches:
        before = {name: state.snapshot(place) for name, place in places.items()}
        changes = {name: watches.enter_context(Changes(place)) for name, place in places.items()}
        tap = trial.tap(server)
        sent = truth.deliver(server, 3)
        tap.settle(sent, server)
        during = {name: state.snapshot(place) for name, place in places.items()}
        tap.end()
        tap.expect_seen(sent)
        changed = [
            f"in {name}, {said}"
            for name, place in places.items()
            for said in [
                *state.differences(before[name], state.snapshot(place)),
                *(
                    f"while it captured, {each}"
                    for each in state.differences(before[name], during[name], lasting=False)
                ),
                *changes[name].in_words(),
            ]
        ]
    tap.require(not changed, "everything as it was, all the time", "; ".join(changed[:3]))


@case("SEC-03", Level.MUST, "privacy: a target list is a permission, and everything else is somebody else's data")
def nothing_of_neighbours(trial: Trial) -> None:
    """A tapper MUST NOT emit anything of a pod that is no target, anywhere: no output, no log, no file, no connection.

    A neighbour with a sidecar of its own receives and sends requests on its `lo`, and two pods without sidecars talk
    over their veths, while the target's canaries are seen. Everything that the tapper wrote is searched, as it is and
    unpacked (gzip, base64 and others): its output, its standard error, every file wherever it lies, deleted ones that
    it holds open, and what was sent in the node's own network and to its log socket.
    """
    server, neighbour = trial.pod("server"), trial.pod("neighbour")
    client, plain = trial.node.pod("plain-client"), trial.node.pod("plain-server")
    with packets.watch(trial.node) as wire, LogSocket(trial.node) as log:
        tap = trial.tap(server, watch_files=True)
        forbidden = truth.deliver(neighbour, 5) + truth.ask(neighbour, ("10.96.77.10", 80), 5)
        with delivery.across(client, plain) as conversation:
            forbidden += [truth.speak(conversation, ExpectedLeg(plain, INBOUND)) for _ in range(5)]
        canaries = truth.deliver(server, 3)
        tap.wait_seen(canaries)
        tap.end()
        wire.require_whole()
        sent = list(packets.carried(wire.frames, leave_out={frozenset((client.ip, plain.ip))}))
        logged = log.received()
    tap.expect_never(forbidden, while_seeing=canaries)
    traces = {expect.trace(each) for each in forbidden}
    for where, content in (("sent in the node's network", sent), ("sent to the node's log socket", logged)):
        # piece by piece: each may be packed by itself, and of one text only so many packed parts are looked at
        found = {trace for piece in content for trace in unpacked.find(traces, piece)}
        expect.absent(forbidden, dict.fromkeys(found, where))


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

    The kit looks while the tapper still runs, since a file whose mode is changed later was readable until then.
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
    """A tapper MUST send nothing in a pod, nor to one: no connection, no datagram, no frame of any protocol.

    A tapper that resolves a name, asks an API or connects to a port while its thread is in a pod's namespace does so in
    the name of the pod. A tapper that injects frames disturbs the pod's connections. All traffic of the case is on the
    target's `lo`. Every frame on every link of the target, of a neighbour and of the node (but the node's `lo`) has to
    belong to the kit's own connections, or to the kernel's announcements of a new link, which the kernel counts. The
    kit also compares the kernel's counters of sent datagrams and segments.
    """
    server, neighbour = trial.pod("server"), trial.pod("neighbour")
    places = (trial.node, server, neighbour)
    for place in places:
        state.wait_settled(place)
    announced = packets.announced(*places)
    before = {pod.name: state.sent_by(pod) for pod in (server, neighbour)}
    with ExitStack() as watches:
        seen_by = {place: watches.enter_context(packets.watch(place)) for place in places}
        tap = trial.tap(server)
        sent = truth.deliver(server, 5)
        tap.settle(sent, server)
        tap.end()
        for watch in seen_by.values():
            watch.require_whole()
        passed = {place: list(watch.frames) for place, watch in seen_by.items()}
        kernels = packets.announced(*places) - announced  # after the last frame, so that none is counted too late
    tap.expect_seen(sent)
    kits = {frozenset((str(each.src), str(each.dst))) for each in [*tap.canaries, *sent]}
    own = len(tap.canaries) + 1  # each canary has a connection of its own, the five requests share one
    for pod, connections in ((server, own), (neighbour, 0)):
        more = {name: number - before[pod.name][name] for name, number in state.sent_by(pod).items()}
        more["connections opened"] -= connections
        told = [f"{number} {name}" for name, number in more.items() if number]
        told += packets.foreign(passed[pod], kits, kernels)
        tap.require(not told, f"nothing sent in {truth.in_words(pod)} but by the kit", "; ".join(told[:3]))
    told = packets.foreign([each for each in passed[trial.node] if each.link != "lo"], kits, kernels)
    tap.require(not told, "nothing sent to a pod from the node", "; ".join(told[:3]))


@case("SEC-09", Level.SHOULD, "packet(7), PACKET_MR_PROMISC: on lo and on a veth everything comes without it")
def stays_inconspicuous(trial: Trial) -> None:
    """A tapper SHOULD NOT switch a link to promiscuous mode.

    On `lo` and on a veth promiscuous mode shows no further packets. The kernel logs it, and intrusion detection in a
    pod takes it for an attack. tcpdump leaves it off with `-p`. The links of target and node are watched all the time.
    """
    server = trial.pod("server")
    places: dict[str, Node | Pod] = {"the node": trial.node, truth.in_words(server): server}
    with ExitStack() as watches:
        changes = {name: watches.enter_context(Changes(place)) for name, place in places.items()}
        tap = trial.tap(server)
        sent = truth.deliver(server, 3)
        tap.settle(sent, server)
        tap.end()
        tap.expect_seen(sent)
        told = [f"{link} in {name}" for name, each in changes.items() for link in sorted(each.promiscuous_links())]
    tap.require(not told, "no link in promiscuous mode", ", ".join(told))


@case("SEC-08", Level.SHOULD, "a target list is a permission: what is not captured cannot be lost, logged or stolen")
def captures_nothing_of_others(trial: Trial) -> None:
    """A tapper SHOULD NOT open a packet socket in a pod that is no target.

    A tapper that captures everywhere and selects afterwards holds every pod's plaintext in its memory. While it
    captures in its target, the list of packet sockets of a neighbour with a sidecar (/proc/net/packet) is compared with
    the one before its start, again and again until the target's requests are out.
    """
    server, neighbour = trial.pod("server"), trial.pod("neighbour")
    before = state.packet_sockets(neighbour)
    tap = trial.tap(server)
    most = 0
    sent: list[Sent] = []
    for _ in range(5):
        sent += truth.deliver(server)
        tap.wait_seen(sent)
        most = max(most, state.packet_sockets(neighbour) - before)
    tap.end()
    tap.expect_seen(sent)
    tap.require(most == 0, f"no packet socket in {truth.in_words(neighbour)}, which is no target", str(most))

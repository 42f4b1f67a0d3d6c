"""The steps of the experiment. Each measures real traffic, and returns the expected and the seen result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from harness.adapters.reference import Record, RunningTapper
from harness.mesh import fake_envoy, traffic
from harness.mesh.mesh import Mesh, MeshPod, Service
from harness.mesh.own_tls import applications
from harness.mesh.traffic import AnsweredRequest
from harness.sandbox import uprobes
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod
from harness.sandbox.recorder import PacketRecorder, on_link

_TLS = ("--discover", "netns", "--tls")


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """One row of the demo's table."""

    title: str
    expected: str
    seen: str
    holds: bool
    sample: tuple[Record, ...] = field(default=())


class Scene:
    """The pods of the experiment, on a node: a client and a server behind a service, and an outsider."""

    def __init__(self, node: Node, requests: int) -> None:
        self.node = node
        self.requests = requests
        self.mesh = Mesh(node)
        self.client: MeshPod = self.mesh.pod("client")
        self.server: MeshPod = self.mesh.pod("server")
        self.outsider: MeshPod = self.mesh.pod("outsider")
        self.shop: Service = self.mesh.service("shop", self.server)

    def send(self) -> list[AnsweredRequest]:
        return self.mesh.send(self.client, self.shop, self.requests, connections=2)

    @contextmanager
    def tapper(self, *, istio: bool) -> Iterator[RunningTapper]:
        """The reference tapper with the client and the server as its targets; on leaving, stopped and flushed."""
        with RunningTapper(self.node, [self.client.pod, self.server.pod], istio=istio) as running:
            running.wait_capturing()
            yield running
        if running.process.returncode:
            raise RuntimeError(f"the tapper ended with {running.process.returncode}:\n{running.read_log()}")


def plain(scene: Scene) -> StepOutcome:
    """Without a mesh: a watcher of the wire reads the requests."""
    with on_link(scene.server.pod) as wire, scene.tapper(istio=False) as tapper:
        sent = scene.send()
        tapper.wait_targets([exchange.target for exchange in sent])
    found = wire.found(traffic.nonces(sent))
    total = len(sent)
    return StepOutcome(
        "no mesh: the wire between the pods",
        f"{total} of {total} requests readable",
        f"{len(found)} of {total} readable; tapper without --istio: {_once(tapper.seen(), sent)} of {total}",
        len(found) == total and _once(tapper.seen(), sent) == total,
    )


def strict(scene: Scene) -> StepOutcome:
    """With sidecars and STRICT mTLS: nothing but TLS, and a tapper on the node is blind."""
    scene.mesh.inject(scene.client, scene.server)
    with on_link(scene.server.pod) as wire, scene.tapper(istio=False) as tapper:
        sent = scene.send()
    found = wire.found(traffic.nonces(sent))
    carried = sum(len(data) for data in wire.streams.values())
    plaintext = sum(len(data) for data in wire.streams_not_tls().values())
    return StepOutcome(
        "sidecars, STRICT mTLS: the same wire",
        "only TLS, 0 requests readable",
        f"{len(found)} of {len(sent)} readable; {carried:,} bytes, {carried - plaintext:,} of them TLS; "
        f"tapper without --istio: {len(tapper.exchanges)}",
        not found and carried > 0 and not plaintext and not tapper.exchanges,
    )


def decrypted(scene: Scene) -> StepOutcome:
    """The reference tapper in the pods' network namespaces: everything, once on each side."""
    pods = (scene.client.pod, scene.server.pod)
    with on_link(scene.server.pod) as wire, scene.tapper(istio=True) as tapper:
        tapper.wait_capturing(*pods)
        sent = scene.send()
        targets = [exchange.target for exchange in sent]
        tapper.wait_targets(targets, pod=scene.client.pod, direction="outbound")
        tapper.wait_targets(targets, pod=scene.server.pod, direction="inbound")
    return _on_both_sides("the same traffic, by tapper --istio", tapper, wire, sent, *pods)


def manual_envoy(scene: Scene) -> StepOutcome:
    """A process named envoy, started by hand in a pod that is no target, with a target's INSTANCE_IP: captured too."""
    outsider = scene.outsider
    with scene.tapper(istio=True) as tapper:
        tapper.wait_capturing(scene.client.pod, scene.server.pod)
        before = traffic.send(outsider.pod, "127.0.0.1", outsider.ports[0], 5, prefix="/before")
        # later requests of its real targets prove that the tapper was capturing
        canary = scene.send()
        tapper.wait_targets([exchange.target for exchange in canary], pod=scene.server.pod)
        seen_before = len(set(tapper.seen()) & {exchange.target for exchange in before})
        manual = fake_envoy.start(outsider.pod, instance_ip=scene.server.ip)
        tapper.wait_capturing(outsider.pod)
        after = traffic.send(outsider.pod, "127.0.0.1", outsider.ports[0], scene.requests, prefix="/after")
        tapper.wait_targets([exchange.target for exchange in after])
        manual.stop()
    seen_after = _once(tapper.seen(scene.server.pod), after)
    total = len(after)
    mine = [record for record in tapper.exchanges if record["target"].startswith("/after")]
    return StepOutcome(
        "edge case: an envoy started by hand with the server's INSTANCE_IP",
        "captured too (a documented limitation)",
        f"outsider's own requests: {seen_before} of {len(before)} before it, {seen_after} of {total} with it",
        seen_before == 0 and seen_after == total,
        _sample(mine, 1),
    )


def own_tls(scene: Scene) -> StepOutcome:
    """Two pods without a sidecar that encrypt themselves: tapper --tls reads it in their TLS libraries."""
    client, server = scene.node.pod("tls-client"), scene.node.pod("tls-server")
    applications.serve(server, "python")
    with on_link(server) as wire, RunningTapper(scene.node, [client, server], *_TLS) as tapper:
        tapper.wait_reading_tls(client, server)
        sent = applications.ask(client, "python", server.ip, count=scene.requests)
        targets = [exchange.target for exchange in sent]
        tapper.wait_targets(targets, pod=client, direction="outbound")
        tapper.wait_targets(targets, pod=server, direction="inbound")
    title = "no sidecar, HTTPS between two pods, by tapper --tls"
    return _on_both_sides(title, tapper, wire, sent, client, server, examples=1)


STEPS: tuple[Callable[[Scene], StepOutcome], ...] = (plain, strict, decrypted, manual_envoy, own_tls)


def left_out() -> dict[Callable[[Scene], StepOutcome], str]:
    """The steps that this machine does not permit, and why."""
    why_not = uprobes.refusal()
    return {} if why_not is None else {own_tls: why_not}


def _on_both_sides(
    title: str,
    tapper: RunningTapper,
    wire: PacketRecorder,
    sent: list[AnsweredRequest],
    client: Pod,
    server: Pod,
    examples: int = 2,
) -> StepOutcome:
    """The outcome of requests that the tapper has to report once leaving the client, and once entering the server."""
    out, into = _once(tapper.seen(client, "outbound"), sent), _once(tapper.seen(server, "inbound"), sent)
    found, total = wire.found(traffic.nonces(sent)), len(sent)
    return StepOutcome(
        title,
        f"{total} of {total} on each side, once each",
        f"leaving client {out} of {total}, entering server {into} of {total}, "
        f"twice or unasked: {len(tapper.exchanges) - out - into}; readable on the wire: {len(found)}",
        out == into == total and len(tapper.exchanges) == 2 * total and not found and _complete(tapper.exchanges),
        _sample(tapper.exchanges, examples),
    )


def _once(seen: Counter[str], sent: list[AnsweredRequest]) -> int:
    """How many of the sent requests were seen exactly once."""
    return sum(seen[exchange.target] == 1 for exchange in sent)


def _complete(records: list[Record]) -> bool:
    """Every exchange has both its halves, and the answer is the one that was given."""
    return all(record["request"] and record["response"] and record["status"] == 200 for record in records)


def _sample(records: list[Record], count: int = 2) -> tuple[Record, ...]:
    """The first records of each direction."""
    by_direction: dict[str, list[Record]] = {}
    for record in records:
        by_direction.setdefault(record["direction"], []).append(record)
    return tuple(record for some in by_direction.values() for record in some[:count])

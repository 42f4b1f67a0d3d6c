"""MESH: a tapper in a mesh of real sidecars, in the sandbox or in a cluster with Istio."""

from __future__ import annotations

from harness.adapters.contract import Feature
from harness.conformance.groups.mesh import between, entering, leaving, legs
from harness.conformance.mesh.case import mesh_case
from harness.conformance.mesh.stage import Stage
from harness.conformance.model import Level
from harness.conformance.truth import Sent
from harness.errors import WaitTimeout
from harness.mesh.workload import Mode
from harness.worlds import talk
from harness.worlds.model import APP_PORT, WorldService
from harness.worlds.pairs import pair

DYNAMIC = {Feature.TARGETS_DYNAMIC}
_KILLED_WITH_THEIR_POD = 2
"""Answers whose last packets a pod that is deleted may take along."""


@mesh_case(8, Level.MUST, "the kit's contract: nothing but the targets")
def neighbour(stage: Stage) -> None:
    """A tapper MUST NOT report anything of pods that it was not asked for.

    Two pairs with sidecars on one node, and one of them is asked for. The other's markers are nowhere in what the
    tapper writes, though its requests come between such as are seen.
    """
    wanted, other = pair(stage.world), pair(stage.world, name="other-")
    tap = stage.tap(*wanted.pods)
    sent = legs(wanted, wanted.send(5))
    foreign = legs(other, other.send(20))
    sent += legs(wanted, wanted.send(5))
    tap.conclude(sent)
    tap.expect_never(foreign, while_seeing=sent)


@mesh_case(9, Level.MUST, "the kit's contract: targets that change", features=DYNAMIC)
def added_and_removed(stage: Stage) -> None:
    """A tapper MUST capture in targets that are added while it runs, and stop capturing in removed targets.

    One pair takes the place of the other. Canaries prove both; then both are sent requests.
    """
    first, second = pair(stage.world, name="first-"), pair(stage.world, name="second-")
    tap = stage.tap(*first.pods)
    early = legs(first, first.send(5))
    tap.settle(early)
    tap.retarget(*second.pods)
    tap.look(*second.pods)
    tap.look_away(*first.pods)
    late = legs(first, first.send(5))
    sent = legs(second, second.send(5))
    tap.conclude(early + sent)
    tap.expect_never(late, while_seeing=sent)


@mesh_case(10, Level.MUST, "mizu: an empty list leaves the filter of before in force", features=DYNAMIC)
def nobody(stage: Stage) -> None:
    """A tapper MUST NOT capture anything when its list of targets is empty.

    A pair is asked for, then nobody, then the pair again: what was sent in between is nowhere.
    """
    meshed = pair(stage.world)
    tap = stage.tap(*meshed.pods)
    tap.retarget()
    tap.look_away(*meshed.pods)
    unseen = legs(meshed, meshed.send(5))
    tap.retarget(*meshed.pods)
    tap.look(*meshed.pods)
    sent = legs(meshed, meshed.send(5))
    tap.conclude(sent)
    tap.expect_never(unseen, while_seeing=sent)


@mesh_case(12, Level.MUST, "docs/limits.md: INSTANCE_IP proves nothing", features={Feature.VERIFIED_IDENTITY})
def envoy_by_hand(stage: Stage) -> None:
    """A tapper that verifies identity MUST refuse an Envoy that claims a target's address in another pod.

    Somebody starts a process named envoy in a pod that nobody asked for, with INSTANCE_IP of a target. Nothing that
    happens in that pod is reported.
    """
    meshed = pair(stage.world)
    outsider = stage.world.pod("outsider")
    tap = stage.tap(*meshed.pods)
    stage.world.manual_envoy(outsider, claims=meshed.server)
    itself = WorldService("itself", "127.0.0.1", APP_PORT)
    foreign: list[Sent] = []
    for _ in range(3):
        foreign += entering(outsider, talk.send(stage.world, outsider, itself, 5, prefix="/outside"))
        tap.look(*meshed.pods)
    sent = legs(meshed, meshed.send(5))
    tap.conclude(sent)
    tap.expect_never(foreign, while_seeing=sent)


@mesh_case(14, Level.MUST, "network_namespaces(7): an open descriptor keeps a namespace; NETNS-04")
def let_go(stage: Stage) -> None:
    """A tapper MUST let go of a pod that is deleted, so that its network namespace, veth and address are free again.

    A target with a sidecar is deleted while it is looked into. The kernel destroys its namespace when nobody holds it.
    """
    meshed = pair(stage.world)
    tap = stage.tap(*meshed.pods)
    sent = legs(meshed, meshed.send(3))
    tap.settle(sent)
    stage.world.set_endpoints(meshed.service)
    stage.world.delete(meshed.server)
    try:
        stage.world.wait_released(meshed.server)
        released = True
    except WaitTimeout:
        released = False
    tap.require(released, "the network namespace of a deleted pod to be destroyed", "it is held 20 s later")
    tap.end()
    tap.expect_once(sent)


@mesh_case(15, Level.MUST, "Kubernetes: a pod that is made again has another address", features=DYNAMIC)
def made_again(stage: Stage) -> None:
    """A tapper MUST look into a pod that takes the place of a target, once it is told of it.

    The server is deleted and made again: another address, another namespace, another Envoy.
    """
    meshed = pair(stage.world)
    tap = stage.tap(*meshed.pods)
    first = legs(meshed, meshed.send(3))
    tap.settle(first)
    stage.world.set_endpoints(meshed.service)
    stage.world.delete(meshed.server)
    again = stage.world.pod("server", mode=Mode.STRICT)
    tap.retarget(meshed.client, again)
    tap.look(again)
    stage.world.set_endpoints(meshed.service, again)
    second = between(meshed.client, again, meshed.send(3))
    tap.conclude(second)
    tap.expect_once(first)


@mesh_case(16, Level.MUST, "Kubernetes: a Deployment that is scaled", features=DYNAMIC)
def scaled(stage: Stage) -> None:
    """A tapper MUST report each exchange once for each leg while its targets behind a service grow to five and shrink.

    Four servers come beside the first, take their share, and are deleted. Which of them answered a request is the
    client's sidecar's choice; that it is one of them is seen by the number of sightings.
    """
    meshed = pair(stage.world)
    more = [stage.world.pod(f"server-{number}", mode=Mode.STRICT) for number in range(2, 6)]
    tap = stage.tap(*meshed.pods)
    sent = legs(meshed, meshed.send(5))
    tap.settle(sent)
    tap.retarget(*meshed.pods, *more)
    tap.look(*more)
    stage.world.set_endpoints(meshed.service, meshed.server, *more)
    shared = [each for _ in range(4) for each in legs(meshed, meshed.send(10))]
    tap.settle(shared)
    stage.world.set_endpoints(meshed.service, meshed.server)
    for pod in more:
        stage.world.delete(pod)
        stage.world.wait_released(pod)
    last = legs(meshed, meshed.send(5))
    tap.conclude(sent + last)
    tap.expect_number(shared)


@mesh_case(17, Level.SHOULD, "Kubernetes: every pod behind a service is replaced", features=DYNAMIC)
def rollout(stage: Stage) -> None:
    """A tapper SHOULD report each exchange once for each leg while the pods behind a service are replaced under load.

    Twice another server takes the place of the one before, which is deleted while requests go on. A pod may be killed
    between its answer and its last packets: so much may be missing, and nothing may be there twice.
    """
    meshed = pair(stage.world)
    tap = stage.tap(*meshed.pods)
    load = talk.load(stage.world, meshed.client, meshed.service)
    load.wait_more(5)
    current = meshed.server
    for number in range(2):
        fresh = stage.world.pod(f"next-{number}", mode=Mode.STRICT)
        tap.retarget(meshed.client, current, fresh)
        tap.look(fresh)
        stage.world.set_endpoints(meshed.service, fresh)
        load.wait_more(5)
        stage.world.delete(current)
        stage.world.wait_released(current)
        load.wait_more(5)
        current = fresh
    answered, _ = load.stop()
    sent = legs(meshed, answered)
    tap.settle(sent)
    tap.end()
    tap.expect_number(sent, most_missing=_KILLED_WITH_THEIR_POD)


@mesh_case(18, Level.MUST, "pilot-agent: an Envoy that ends is started again; LIFE-05")
def proxy_again(stage: Stage) -> None:
    """A tapper MUST go on reporting a pod whose Envoy has ended and was started again.

    The server's Envoy ends and another takes its place in the same namespace.
    """
    meshed = pair(stage.world)
    tap = stage.tap(*meshed.pods)
    sent = legs(meshed, meshed.send(3))
    tap.settle(sent)
    stage.world.restart_proxy(meshed.server)
    tap.look(meshed.server)
    sent += legs(meshed, meshed.send(3))
    tap.conclude(sent)


@mesh_case(37, Level.SHOULD, "Kubernetes: an API server that is away for a while", needs=("control_plane",))
def api_server_restarts(stage: Stage) -> None:
    """A tapper SHOULD go on through a restart of the API server, and know of what changed meanwhile and after it.

    The API server ends and comes back while requests flow between two targets: none of them is missed. A pod that is
    made afterwards, and becomes a target, is looked into.
    """
    meshed = pair(stage.world)
    tap = stage.tap(*meshed.pods)
    load = talk.DetachedLoad(stage.world, meshed.client, meshed.service, rate=20)
    stage.world.restart_api_server()
    answered, _ = load.stop()
    sent = legs(meshed, answered)
    if Feature.TARGETS_DYNAMIC in tap.running.adapter.claims:
        late = stage.world.pod("late", mode=Mode.STRICT)
        tap.retarget(*meshed.pods, late)
        tap.look(late)
    sent += legs(meshed, meshed.send(5))
    tap.conclude(sent)


@mesh_case(38, Level.SHOULD, "Kubernetes: a Deployment's rolling update", features=DYNAMIC, needs=("kubernetes",))
def deployment_rolls(stage: Stage) -> None:
    """A tapper SHOULD report each exchange once for each leg through a Deployment's rolling update under load.

    Kubernetes itself makes the new pods and deletes the old ones. The tapper is told of each generation's pods as they
    are ready, so the first exchanges of a pod may come before it looks; nothing may be there twice, and once the update
    is over everything is there.
    """
    client = stage.world.pod("client", mode=Mode.STRICT)
    deployment = stage.world.deployment("shop", replicas=2, mode=Mode.STRICT)
    tap = stage.tap(client, *deployment.pods())
    load = talk.load(stage.world, client, deployment.service)
    load.wait_more(5)
    deployment.roll()
    tap.retarget(client, *deployment.pods())
    tap.look(*deployment.pods())
    load.wait_more(5)
    answered, _ = load.stop()
    during = leaving(client, answered)
    final = talk.send(stage.world, client, deployment.service, 10)
    tap.settle(during)
    after = between(client, deployment.pods()[0], final)
    tap.settle(after)
    tap.end()
    tap.expect_somewhere(during)
    tap.expect_number(after)

"""The reference tapper end to end: real processes, real namespaces, real Envoys, real clients."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable

import psutil
import pytest

from harness.adapters.reference import TAPPER_ENVIRON, RunningTapper, tapper_argv
from harness.mesh import fake_envoy, replay, traffic
from harness.mesh.fake_envoy import Variant
from harness.mesh.mesh import Mesh, MeshPod
from harness.mesh.traffic import AnsweredRequest, PodConnection, nonces
from harness.mesh.workload import Delivery, Mode
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod
from harness.sandbox.process import Command
from harness.sandbox.recorder import PacketRecorder
from harness.waiting import wait_until

StartTapper = Callable[..., RunningTapper]
StartWire = Callable[[Pod], PacketRecorder]

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def once_each(sent: list[AnsweredRequest]) -> dict[str, int]:
    return {exchange.target: 1 for exchange in sent}


def targets(sent: list[AnsweredRequest]) -> list[str]:
    return [exchange.target for exchange in sent]


def request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n".encode()


def played(pod: Pod, path: str, leg: replay.ReplayLeg | None = None) -> None:
    """One exchange on a pod's lo, by default as an inbound leg."""
    replay.play(pod, replay.conversation(leg or replay.inbound(pod, 8080), [(request(path), ANSWER)]))


@pytest.fixture
def pair(mesh: Mesh) -> tuple[MeshPod, MeshPod]:
    """Client and server with sidecars, STRICT."""
    client, server = mesh.pod("client"), mesh.pod("server")
    mesh.inject(client, server)
    return client, server


# -- what it sees ----------------------------------------------------------------------------------------------------


def test_a_thousand_requests_through_strict_mtls(
    mesh: Mesh, pair: tuple[MeshPod, MeshPod], tapper: StartTapper, wire: StartWire
) -> None:
    """Each once at the server and once at the client, none of anybody else's, and nothing of it on the wire."""
    client, server = pair
    third, fourth = mesh.pod("third"), mesh.pod("fourth")
    mesh.inject(third, fourth)
    recordings = [wire(client.pod), wire(server.pod)]
    running = tapper([client.pod, server.pod])
    running.wait_capturing(client.pod, server.pod)
    sent = mesh.send(client, server, 500, connections=4)
    foreign = mesh.send(third, fourth, 50)
    sent += mesh.send(client, server, 500, connections=4)
    running.wait_targets(targets(sent), 30, pod=server.pod)
    running.wait_targets(targets(sent), 30, pod=client.pod)
    assert running.stop() == 0

    assert running.seen(server.pod, "inbound") == once_each(sent)
    assert running.seen(client.pod, "outbound") == once_each(sent)
    assert len(running.exchanges) == 2000
    assert not nonces(foreign) & {record["target"].rpartition("/")[2] for record in running.exchanges}
    assert {record["status"] for record in running.exchanges} == {200}
    for recording in recordings:
        assert recording.found(nonces(sent)) == set()
        assert recording.streams_not_tls() == {}


def test_both_halves_of_every_exchange_belong_together(
    mesh: Mesh, pair: tuple[MeshPod, MeshPod], tapper: StartTapper
) -> None:
    running = tapper([member.pod for member in pair])
    running.wait_capturing(*(member.pod for member in pair))
    sent = mesh.send(*pair, 40, connections=5)
    for member in pair:
        running.wait_targets(targets(sent), pod=member.pod)
    running.stop()
    for record in running.exchanges:
        nonce = record["target"].rpartition("/")[2]
        assert ["x-nonce", nonce] in [[key.lower(), value] for key, value in record["request"]["headers"]]
        assert ["x-nonce", nonce] in [[key.lower(), value] for key, value in record["response"]["headers"]]


def test_each_leg_has_the_addresses_of_its_packets(
    mesh: Mesh, pair: tuple[MeshPod, MeshPod], tapper: StartTapper
) -> None:
    """The client's leg names the original destination, here the service; the server's leg Envoy's own address."""
    client, server = pair
    shop = mesh.service("shop", server)
    running = tapper([client.pod, server.pod])
    running.wait_capturing(client.pod, server.pod)
    sent = mesh.send(client, shop)
    running.wait_targets(targets(sent), pod=client.pod, direction="outbound")
    running.wait_targets(targets(sent), pod=server.pod, direction="inbound")
    running.stop()
    ends = {record["direction"]: (re.sub(r"\d+$", "*", record["src"]), record["dst"]) for record in running.exchanges}
    assert ends == {
        "outbound": (f"{client.ip}:*", f"{shop.ip}:80"),
        "inbound": ("127.0.0.6:*", f"{server.ip}:8080"),
    }


def test_ipv6(mesh: Mesh, pair: tuple[MeshPod, MeshPod], tapper: StartTapper) -> None:
    client, server = pair
    running = tapper([client.pod, server.pod])
    running.wait_capturing(client.pod, server.pod)
    sent = mesh.send(client, server, 5, ipv6=True)
    for member in pair:
        running.wait_targets(targets(sent), pod=member.pod)
    running.stop()
    assert running.seen(direction="inbound") == running.seen(direction="outbound") == once_each(sent)
    ends = {record["direction"]: (re.sub(r"\d+$", "*", record["src"]), record["dst"]) for record in running.exchanges}
    assert ends == {
        "outbound": (f"[{client.pod.ipv6}]:*", f"[{server.pod.ipv6}]:8080"),
        "inbound": ("[::6]:*", f"[{server.pod.ipv6}]:8080"),
    }


def test_delivery_to_localhost(mesh: Mesh, tapper: StartTapper) -> None:
    client, server = mesh.pod("client"), mesh.pod("server")
    mesh.inject(client, server, delivery=Delivery.LOCALHOST)
    running = tapper([server.pod])
    running.wait_capturing(server.pod)
    sent = mesh.send(client, server, 5)
    running.wait_targets(targets(sent))
    running.stop()
    assert running.seen(server.pod, "inbound") == once_each(sent)


def test_a_pod_that_calls_itself(mesh: Mesh, pair: tuple[MeshPod, MeshPod], tapper: StartTapper) -> None:
    """Through its service: out and in, all on one lo, with the pod's own TLS between; directly: one leg, past Envoy."""
    server = pair[1]
    shop = mesh.service("shop", server)
    running = tapper([server.pod])
    running.wait_capturing(server.pod)
    through, direct = mesh.send(server, shop, 3), mesh.send(server, server, 3)
    running.wait_targets(targets(through), direction="inbound")
    running.wait_targets(targets(through), direction="outbound")
    running.wait_targets(targets(direct), direction="local")
    running.stop()
    assert running.seen(direction="inbound") == once_each(through)
    assert running.seen(direction="outbound") == once_each(through)
    assert running.seen(direction="local") == once_each(direct)


def test_real_clients(mesh: Mesh, pair: tuple[MeshPod, MeshPod], tapper: StartTapper) -> None:
    """curl, h2load and (in every other test) http.client."""
    client, server = pair
    running = tapper([client.pod, server.pod])
    running.wait_capturing(client.pod, server.pod)
    base = f"http://{server.ip}:8080"
    client.pod.run(["curl", "-sS", "-d", "a=b", f"{base}/form"])
    client.pod.run(["curl", "-sS", f"{base}/chunked/3"])
    client.pod.run(["curl", "-sS", "-I", f"{base}/head"])
    client.pod.run(["curl", "-sS", f"{base}/status/204"])
    client.pod.run(["curl", "-sS", f"{base}/close"])
    client.pod.run(["h2load", "--h1", "-n", "300", "-c", "6", f"{base}/load"], timeout=30)
    expected = {"/form": 1, "/chunked/3": 1, "/head": 1, "/status/204": 1, "/close": 1, "/load": 300}
    running.wait_for(lambda: all(running.seen(member.pod) == expected for member in pair), "all at both pods")
    running.stop()
    for member in pair:
        assert running.seen(member.pod) == expected
    by_target = {record["target"]: record for record in running.exchanges if record["direction"] == "inbound"}
    assert by_target["/form"]["method"] == "POST"
    assert by_target["/form"]["request"]["body_b64"] == "YT1i"
    assert by_target["/form"]["response"]["body_b64"] == "YT1i"
    assert by_target["/chunked/3"]["response"]["body_size"] == len("chunk 0\nchunk 1\nchunk 2\n")
    assert (by_target["/head"]["method"], by_target["/head"]["response"]["body_size"]) == ("HEAD", 0)
    assert by_target["/status/204"]["status"] == 204


def test_a_megabyte_is_measured_whole_and_said_to_be_cut(pair: tuple[MeshPod, MeshPod], tapper: StartTapper) -> None:
    """On lo it comes in frames of up to 64 KiB."""
    client, server = pair
    running = tapper([client.pod, server.pod])
    running.wait_capturing(client.pod, server.pod)
    client.pod.run(["curl", "-sS", "-o", "/dev/null", f"http://{server.ip}:8080/bytes/1000000"])
    running.wait_for(lambda: len(running.exchanges) == 2, "both legs")
    running.stop()
    for record in running.exchanges:
        assert record["response"]["body_size"] == 1_000_000
        assert record["response"]["truncated"] is True


def test_forwarded_headers_never_replace_the_source(pair: tuple[MeshPod, MeshPod], tapper: StartTapper) -> None:
    client, server = pair
    running = tapper([server.pod])
    running.wait_capturing(server.pod)
    client.pod.run(["curl", "-sS", "-H", "X-Forwarded-For: 6.6.6.6", f"http://{server.ip}:8080/forged"])
    running.wait_targets(["/forged"])
    running.stop()
    (record,) = running.exchanges
    assert record["src"].startswith("127.0.0.6:")


# -- on the node's own interfaces ------------------------------------------------------------------------------------


@pytest.mark.parametrize("interface", [[], ["-i", "server"]])
def test_without_a_mesh_the_nodes_interfaces_are_enough(mesh: Mesh, tapper: StartTapper, interface: list[str]) -> None:
    """On all interfaces a packet between two pods is seen twice and more; the exchange comes out once."""
    client, server, neighbour = mesh.pod("client"), mesh.pod("server"), mesh.pod("neighbour")
    running = tapper([server.pod], *interface, istio=False)
    running.wait_capturing()
    foreign = mesh.send(client, neighbour, 20)
    sent = mesh.send(client, server, 20, connections=3)
    running.wait_targets(targets(sent))
    running.stop()
    assert running.seen(direction="node") == once_each(sent)
    assert len(running.exchanges) == 20
    assert not set(running.seen()) & set(targets(foreign))
    assert {record["pod_ip"] for record in running.exchanges} == {server.ip}


def test_a_services_address_translated_on_the_node_does_not_make_two_of_one(mesh: Mesh, tapper: StartTapper) -> None:
    """The client's veth shows the service's address, the server's veth the server's: still one exchange each."""
    client, server = mesh.pod("client"), mesh.pod("server")
    shop = mesh.service("shop", server)
    running = tapper([client.pod, server.pod], istio=False)
    running.wait_capturing()
    sent = mesh.send(client, shop, 20, connections=4)
    running.wait_targets(targets(sent))
    running.stop()
    assert running.seen() == once_each(sent)
    assert all(record["response"] for record in running.exchanges)


def test_without_istio_a_mesh_is_opaque(mesh: Mesh, pair: tuple[MeshPod, MeshPod], tapper: StartTapper) -> None:
    """The canary: the same tapper does see a pod that has no sidecar."""
    plain = mesh.pod("plain")
    running = tapper([pair[0].pod, pair[1].pod, plain.pod], istio=False)
    running.wait_capturing()
    mesh.send(*pair, 20)
    canary = mesh.send(mesh.pod("caller"), plain, 3)
    running.wait_targets(targets(canary))
    running.stop()
    assert running.seen() == once_each(canary)


def test_permissive_shows_the_wire_and_the_inbound_leg_as_two(
    mesh: Mesh, pair: tuple[MeshPod, MeshPod], tapper: StartTapper
) -> None:
    mesh.set_mode(Mode.PERMISSIVE, pair[1])
    stranger = mesh.pod("stranger")
    running = tapper([pair[1].pod])
    running.wait_capturing(pair[1].pod)
    sent = mesh.send(stranger, pair[1], 5)
    running.wait_targets(targets(sent), direction="inbound")
    running.wait_targets(targets(sent), direction="node")
    running.stop()
    assert running.seen(direction="inbound") == running.seen(direction="node") == once_each(sent)
    assert len(running.exchanges) == 10


# -- whom it taps ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", [variant for variant in Variant if variant.is_envoy])
def test_what_is_an_envoy_is_tapped(node: Node, tapper: StartTapper, variant: Variant) -> None:
    pod = node.pod("server")
    fake_envoy.start(pod, variant)
    running = tapper([pod])
    running.wait_capturing(pod)
    played(pod, "/seen")
    running.wait_targets(["/seen"], pod=pod, direction="inbound")
    running.stop()
    assert running.seen() == {"/seen": 1}


def test_what_only_looks_like_one_is_not(node: Node, tapper: StartTapper) -> None:
    """All look-alikes at once, each in a pod of its own with a target's INSTANCE_IP; a real one is the canary."""
    pods = {variant: node.pod(variant.name.lower()) for variant in Variant if not variant.is_envoy}
    for variant, pod in pods.items():
        fake_envoy.start(pod, variant)
    canary = node.pod("canary")
    running = tapper([*pods.values(), canary])
    running.wait_capturing()
    fake_envoy.start(canary)
    running.wait_capturing(canary)
    for variant, pod in pods.items():
        played(pod, f"/{variant.name}")
    played(canary, "/canary")
    running.wait_targets(["/canary"])
    running.stop()
    assert running.seen() == {"/canary": 1}


def test_only_exact_addresses_are_targets(node: Node, tapper: StartTapper) -> None:
    """10.0.0.1 is neither 10.0.0.10 nor 110.0.0.1; ::ffff:10.0.0.1 and 2001:db8:0::1 are spellings of targets."""
    claims = {"10.0.0.10": False, "110.0.0.1": False, "": False, "10.0.0.1x": False}
    claims |= {"::ffff:10.0.0.1": True, "2001:DB8:0:0::1": True, "10.0.0.1": True}
    pods = {claim: node.pod(f"pod-{number}") for number, claim in enumerate(claims)}
    for claim, pod in pods.items():
        fake_envoy.start(pod, env={"INSTANCE_IP": claim})
    running = tapper(["10.0.0.1", "2001:db8::1"])
    running.wait_capturing(*(pod for claim, pod in pods.items() if claims[claim]))
    for number, pod in enumerate(pods.values()):
        played(pod, f"/{number}")
    expected = {f"/{number}": 1 for number, wanted in enumerate(claims.values()) if wanted}
    running.wait_targets(list(expected))
    running.stop()
    assert running.seen() == expected


def test_a_hostile_environment_is_read_exactly(node: Node, tapper: StartTapper) -> None:
    """The first `=` counts, a longer name is another name, the first of two entries wins, any bytes may surround it."""
    pod, decoy = node.pod("server"), node.pod("decoy")
    noise = [
        b"XINSTANCE_IP=10.9.9.9",
        b"INSTANCE_IPX=10.9.9.9",
        b"NO_EQUALS",
        b"",
        b"\xff\xfe=\xff",
        b"L=" + b"z" * 131_000,
    ]
    fake_envoy.start(pod, env=[*noise, b"INSTANCE_IP=10.0.0.1", b"INSTANCE_IP=10.9.9.9"])
    fake_envoy.start(decoy, env=[*noise, b"INSTANCE_IP=10.0.0.1=x", b"A=INSTANCE_IP=10.0.0.1"])
    running = tapper(["10.0.0.1"])
    running.wait_capturing(pod)
    played(decoy, "/decoy")
    played(pod, "/seen")
    running.wait_targets(["/seen"])
    running.stop()
    assert running.seen() == {"/seen": 1}


def test_two_envoys_in_one_namespace_are_one_source(node: Node, tapper: StartTapper) -> None:
    pod = node.pod("server")
    first, second = fake_envoy.start(pod), fake_envoy.start(pod)
    running = tapper([pod])
    running.wait_capturing(pod)
    played(pod, "/both")
    running.wait_targets(["/both"])
    first.stop()
    played(pod, "/one-left", replay.inbound(pod, 8080, 40009))
    running.wait_targets(["/one-left"])
    assert second.process.running
    running.stop()
    assert running.seen() == {"/both": 1, "/one-left": 1}
    pod_sources = [record["state"] for record in running.of_type("source") if record["kind"] == "pod"]
    assert pod_sources == ["open", "closed"]


def test_equal_tuples_of_two_pods_stay_apart(node: Node, tapper: StartTapper) -> None:
    """127.0.0.1 -> 127.0.0.1 with the same ports and sequence numbers in both, interleaved packet by packet."""
    pods = [node.pod("one"), node.pod("two")]
    for pod in pods:
        fake_envoy.start(pod)
    running = tapper(pods)
    running.wait_capturing(*pods)
    conversations = [
        replay.conversation(replay.inbound(pod, 8080, localhost=True), [(request(f"/{pod.name}"), ANSWER)])
        for pod in pods
    ]
    for frames in zip(*conversations, strict=True):
        for pod, frame in zip(pods, frames, strict=True):
            replay.play(pod, [frame])
    running.wait_targets(["/one", "/two"])
    running.stop()
    assert running.seen(pods[0]) == {"/one": 1}
    assert running.seen(pods[1]) == {"/two": 1}


def test_an_envoy_started_by_hand_is_captured(mesh: Mesh, tapper: StartTapper) -> None:
    """The documented limitation: INSTANCE_IP is what the process says of itself."""
    server, outsider = mesh.pod("server"), mesh.pod("outsider")
    running = tapper([server.pod])
    running.wait_capturing()
    before = traffic.send(outsider.pod, "127.0.0.1", 8080, 5)
    fake_envoy.start(outsider.pod, instance_ip=server.ip)
    running.wait_capturing(outsider.pod)
    after = traffic.send(outsider.pod, "127.0.0.1", 8080, 5)
    running.wait_targets(targets(after))
    running.stop()
    assert running.seen(server.pod) == once_each(after)
    assert not set(running.seen()) & set(targets(before))


# -- over time -------------------------------------------------------------------------------------------------------


def test_an_envoy_that_starts_later_is_found(mesh: Mesh, tapper: StartTapper) -> None:
    client, server = mesh.pod("client"), mesh.pod("server")
    running = tapper([server.pod])
    running.wait_capturing()
    mesh.inject(client, server)
    running.wait_capturing(server.pod)
    sent = mesh.send(client, server, 5)
    running.wait_targets(targets(sent), direction="inbound")
    running.stop()
    assert running.seen(direction="inbound") == once_each(sent)


def test_a_restarted_envoy_is_followed(mesh: Mesh, pair: tuple[MeshPod, MeshPod], tapper: StartTapper) -> None:
    client, server = pair
    assert server.sidecar is not None
    running = tapper([server.pod])
    running.wait_capturing(server.pod)
    before = mesh.send(client, server, 5)
    running.wait_targets(targets(before))
    server.sidecar.stop()
    running.wait_for(lambda: not running.captures(server.pod), "the end of the source")
    server.sidecar.start_again()
    running.wait_capturing(server.pod)
    after = mesh.send(client, server, 5)
    running.wait_targets(targets(after))
    running.stop()
    assert running.seen(server.pod, "inbound") == once_each(before + after)


def test_a_request_on_a_connection_older_than_the_tapper(
    mesh: Mesh, pair: tuple[MeshPod, MeshPod], tapper: StartTapper
) -> None:
    """Envoy pools its connections: whoever attaches later sees no SYN."""
    client, server = pair
    connection = PodConnection(client.pod, server.ip, 8080)
    try:
        connection.request("GET", "/early")
        connection.getresponse().read()
        running = tapper([client.pod, server.pod])
        running.wait_capturing(client.pod, server.pod)
        for number in range(3):
            connection.request("GET", f"/late/{number}")
            connection.getresponse().read()
    finally:
        connection.close()
    late = {f"/late/{number}": 1 for number in range(3)}
    running.wait_targets(list(late), pod=client.pod)
    running.wait_targets(list(late), pod=server.pod)
    running.stop()
    assert running.seen(client.pod, "outbound") == late
    assert running.seen(server.pod, "inbound") == late
    assert all(record["dst"] == f"{server.ip}:8080" for record in running.exchanges)


def test_a_dead_pods_namespace_is_let_go(node: Node, tapper: StartTapper) -> None:
    pod, other = node.pod("server"), node.pod("other")
    for each in (pod, other):
        fake_envoy.start(each)
    running = tapper([pod, other])
    running.wait_capturing(pod, other)
    played(pod, "/last-words")
    pod.delete()
    pod.wait_released()
    running.wait_targets(["/last-words"])
    played(other, "/still-here")
    running.wait_targets(["/still-here"])
    running.stop()
    closed = [record["netns"] for record in running.of_type("source") if record["state"] == "closed"]
    assert closed[0] == pod.netns_inode


def test_descriptors_and_threads_stay_flat(node: Node, tapper: StartTapper) -> None:
    running = tapper(["10.0.0.1"])
    running.wait_capturing()
    process = psutil.Process(running.process.host_pid)

    def come_and_go(name: str) -> None:
        pod = node.pod(name)
        fake_envoy.start(pod, instance_ip="10.0.0.1")
        running.wait_capturing(pod)
        pod.delete()
        pod.wait_released()
        running.wait_for(lambda: not running.captures(pod), "the end of its source")

    come_and_go("first")
    before = process.num_fds(), process.num_threads()
    for number in range(10):
        come_and_go(f"pod-{number}")
    assert (process.num_fds(), process.num_threads()) == before
    assert process.num_threads() == 2, "its own, and the one that reads the memory of processes"
    running.stop()


# -- how it ends -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_flushes_and_ends_it(node: Node, tapper: StartTapper, signum: int) -> None:
    """What is in the ring, and what is half seen, still comes out; the last record is `bye`."""
    pod = node.pod("server")
    fake_envoy.start(pod)
    running = tapper([pod])
    running.wait_capturing(pod)
    frames = replay.conversation(replay.inbound(pod, 8080), [(request("/whole"), ANSWER), (request("/half"), ANSWER)])
    replay.play(pod, frames[:6])  # handshake, both frames of the first exchange, the second request
    assert running.stop(signum=signum) == 0
    answers = {record["target"]: record["status"] for record in running.exchanges}
    assert answers == {"/whole": 200, "/half": None}
    assert running.records[-1]["type"] == "bye"


def test_the_kernels_drop_counter_is_told(node: Node, tapper: StartTapper) -> None:
    pod = node.pod("server")
    fake_envoy.start(pod)
    running = tapper([pod])
    running.wait_capturing(pod)
    played(pod, "/seen")
    running.stop()
    statistics = running.of_type("stat")
    assert statistics
    assert all(isinstance(record["dropped"], int) for record in statistics)
    assert sum(record["received"] for record in statistics) > 0


@pytest.mark.parametrize(
    ("capability", "istio", "named"),
    [
        ("net_raw", [], "CAP_NET_RAW"),
        ("sys_admin", ["--istio"], "CAP_SYS_ADMIN"),
        ("sys_ptrace", ["--istio"], "CAP_SYS_PTRACE"),
    ],
)
def test_a_missing_capability_is_named(node: Node, capability: str, istio: list[str], named: str) -> None:
    """Root without one capability, and an Envoy of another user: one sentence, exit code 3."""
    if node.single_id:
        pytest.skip("this user's node has a single uid, so there is nobody whose processes could be unreadable")
    pod = node.pod("server")
    fake_envoy.start(pod)
    pod.spawn(Command(["sleep", "1000"], uid=1337, gid=1337))
    argv = ["setpriv", f"--bounding-set=-{capability}"]
    argv += tapper_argv("tap", *istio, "--filter-authorities", pod.ip)
    process = node.spawn(Command(argv, env=TAPPER_ENVIRON), name="tapper")
    assert process.wait() == 3, process.read_log()
    assert named in process.read_log()
    assert "Traceback" not in process.read_log()


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["tap"], 2, "--targets"),
        (["tap", "--filter-authorities", "10.0.0.300"], 2, "10.0.0.300"),
        (["tap", "--filter-authorities", "10.0.0.1", "-i", "nope0"], 2, "nope0"),
        (["tap", "--filter-authorities", "10.0.0.1", "--verify"], 2, "they go with --istio"),
        (["tap", "--filter-authorities", "10.0.0.1", "--discover", "netns"], 2, "they go with --istio"),
        (["tap", "--istio", "--filter-authorities", "10.0.0.1", "--procfs", "/nowhere"], 4, "/nowhere"),
        (["discover", "--procfs", "/tmp"], 4, "/tmp"),
    ],
)
def test_errors_are_sentences(node: Node, arguments: list[str], code: int, sentence: str) -> None:
    process = node.spawn(Command(tapper_argv(*arguments), env=TAPPER_ENVIRON), name="tapper")
    assert process.wait() == code, process.read_log()
    assert sentence in process.read_log()
    assert "Traceback" not in process.read_log()


def test_discover_says_whom_and_why_not(node: Node) -> None:
    """One line for each process it looked at, with the reason for every refusal."""
    pods = {variant: node.pod(variant.name.lower().replace("_", "-")) for variant in Variant}
    fakes = {variant: fake_envoy.start(pod, variant) for variant, pod in pods.items()}
    stranger = fake_envoy.start(node.pod("stranger"))
    chosen = ",".join(pod.ip for pod in pods.values())
    argv = tapper_argv("discover", "--filter-authorities", chosen, "-o", "ndjson")
    output = node.run(Command(argv, env=TAPPER_ENVIRON))
    told = {record["pid"]: record for record in map(json.loads, output.splitlines())}
    for variant, fake in fakes.items():
        if variant.is_envoy:
            assert told[fake.pid]["verdict"] == "envoy", (variant, told[fake.pid])
            assert told[fake.pid]["netns"] == pods[variant].netns_inode
        elif variant is not Variant.ZOMBIE:
            assert told[fake.pid]["verdict"] == "look-alike", (variant, told.get(fake.pid))
            assert told[fake.pid]["reason"]
    assert told[stranger.pid]["verdict"] == "not-a-target"
    assert told[stranger.pid]["reason"] == "its INSTANCE_IP is not a target"


def test_wait_helper_fails_when_nothing_comes(node: Node, tapper: StartTapper) -> None:
    """The suite's own canary: a request that was never sent is never reported."""
    running = tapper(["10.0.0.1"])
    running.wait_capturing()
    with pytest.raises(Exception, match=r"waited 0\.3 s for the tapper to report 1 requests, in vain"):
        running.wait_targets(["/never"], 0.3)
    wait_until(lambda: running.process.running, "the tapper to go on")
    running.stop()

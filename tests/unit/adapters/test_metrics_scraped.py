"""`--metrics` end to end: scraped from inside the node while real traffic flows and pods come and go."""

from __future__ import annotations

import functools
import http.client
import itertools
import json
import socket
import sys
from collections.abc import Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness.adapters.reference import TAPPER_ENVIRON, RunningTapper, tapper_argv
from harness.mesh import fake_envoy, replay
from harness.mesh.mesh import Mesh
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod
from harness.sandbox.process import MINIMAL_ENVIRON, Command, Process
from harness.waiting import wait_until
from tapper import __version__

StartTapper = Callable[..., RunningTapper]
Sample = tuple[str, dict[str, str], float]

PORT = 9090
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def scrape(node: Node, address: str = "127.0.0.1") -> list[Sample]:
    """Over HTTP, from inside the node, as Prometheus's own parser reads it."""
    connection = http.client.HTTPConnection(address, PORT, timeout=10)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection.sock = node.socket(family, socket.SOCK_STREAM)
    connection.sock.settimeout(10)
    try:
        connection.sock.connect((address, PORT))
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        text = answer.read().decode()
    finally:
        connection.close()
    assert answer.status == 200, text
    return [
        (sample.name, dict(sample.labels), sample.value)
        for family_ in text_string_to_metric_families(text)
        for sample in family_.samples
    ]


def value(samples: list[Sample], name: str, **labels: str) -> float:
    """The sum of the series with these labels."""
    return sum(it[2] for it in samples if it[0] == name and labels.items() <= it[1].items())


def play(pod: Pod, path: str, port: int) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n".encode()
    replay.play(pod, replay.conversation(replay.inbound(pod, 8080, port), [(request, ANSWER)]))


def test_what_was_sent_through_mtls_is_what_a_scrape_says(mesh: Mesh, node: Node, tapper: StartTapper) -> None:
    """Two sidecars, STRICT; a third pod without one, seen on the node's interfaces; IPv4 and IPv6."""
    client, server, bare = mesh.pod("client"), mesh.pod("server"), mesh.pod("bare")
    mesh.inject(client, server)
    path = node.run_dir / "targets.json"
    pods = [
        {"uid": it.pod.name, "namespace": "shop", "name": it.pod.name, "ips": [it.ip]} for it in (client, server, bare)
    ]
    path.write_text(json.dumps({"generation": 1, "pods": pods}))
    running = tapper([], "--targets-file", node.inside(path), "--metrics", f"*:{PORT}")
    running.wait_capturing(client.pod, server.pod)
    before = scrape(node)
    assert value(before, "tapper_exchanges_total") == 0
    sent = [it.target for it in mesh.send(client, server, 60, connections=3)]
    plain = [it.target for it in mesh.send(mesh.pod("other"), bare, 7)]
    for member in (client, server):
        running.wait_targets(sent, pod=member.pod)
    running.wait_targets(plain, pod=bare.pod)

    for address in ("127.0.0.1", "::1"):
        samples = scrape(node, address)
        inbound = {"pod": "server", "namespace": "shop", "pod_ip": server.ip, "direction": "inbound"}
        assert value(samples, "tapper_exchanges_total", **inbound, interface="lo") == 60
        assert value(samples, "tapper_exchanges_total", pod="client", direction="outbound", interface="lo") == 60
        assert value(samples, "tapper_exchanges_total", pod="bare", direction="node", interface="any") == 7
        assert value(samples, "tapper_exchanges_total") == len(running.exchanges) == 127
        assert value(samples, "tapper_exchanges_incomplete_total") == 0
        assert value(samples, "tapper_packets_received_total", pod="server") >= 2 * 60
        assert value(samples, "tapper_packets_dropped_total") == 0
        assert value(samples, "tapper_connections_undecoded_total", interface="any", kind="tls") >= 1
        assert (value(samples, "tapper_sources"), value(samples, "tapper_targets")) == (3, 3)
        assert value(samples, "tapper_build_info", version=__version__) == 1
        namespaces = {labels["netns"] for name, labels, _ in samples if name == "tapper_packets_received_total"}
        assert {str(member.pod.netns_inode) for member in (client, server)} < namespaces
    running.stop()
    final = {it.get("instance_ip"): it for it in running.of_type("stat")}
    assert final[server.ip]["received"] == value(samples, "tapper_packets_received_total", pod="server")


SCRAPER = """
import http.client, sys
port, count = int(sys.argv[1]), 0
while True:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    count += 1
    sources = [line for line in text.splitlines() if line.startswith("tapper_sources ")]
    print(count, answer.status, sources[0], flush=True)
"""


def scraped_last(scraper: Process, sources: int) -> bool:
    """Whether so many sources were open at its last scrape."""
    return scraper.read_log().endswith(f" tapper_sources {sources}.0\n")


def test_scrapes_while_fifty_pods_come_and_go(node: Node, tapper: StartTapper) -> None:
    """Two scrapers never stop. Every pod's exchange is counted under its own address, also when the pod is gone."""
    path = node.run_dir / "targets.json"
    path.write_text('{"generation": 0, "pods": []}')
    arguments = ["--targets-file", node.inside(path), "--discover", "netns", "--metrics", f"127.0.0.1:{PORT}"]
    running = tapper([], *arguments)
    running.wait_capturing()
    scraping = Command([sys.executable, "-c", SCRAPER, str(PORT)], env=MINIMAL_ENVIRON)
    scrapers = [node.spawn(scraping, name="scraper") for _ in range(2)]
    addresses = []
    ports = itertools.count(41000)
    for generation in range(1, 6):
        pods = [node.pod(f"pod-{generation}-{number}") for number in range(10)]
        entries = [{"uid": pod.name, "namespace": "shop", "name": pod.name, "ips": [pod.ip]} for pod in pods]
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps({"generation": generation, "pods": entries}))
        fresh.rename(path)
        running.wait_capturing(*pods)
        for pod in pods:
            play(pod, f"/{pod.name}", next(ports))
        running.wait_targets([f"/{pod.name}" for pod in pods])
        for scraper in scrapers:
            wait_until(
                functools.partial(scraped_last, scraper, 11), "a scrape of all that is open", logs=scraper.read_log
            )
        addresses += [(pod.name, pod.ip, str(pod.netns_inode)) for pod in pods]
        for pod in pods:
            pod.delete()
        running.wait_for(lambda: running.open_sources() == {"node"}, "the end of all pods")
    for scraper in scrapers:
        assert scraper.running, scraper.read_log()
        scraper.stop()
        lines = [line.split() for line in scraper.read_log().splitlines()]
        assert {line[1] for line in lines} == {"200"}
        assert {"1.0", "11.0"} <= {line[3] for line in lines}, "the canary: it saw sources come and go"

    samples = scrape(node)
    assert value(samples, "tapper_sources") == 1
    counted = {
        (labels["pod"], labels["pod_ip"], labels["netns"]): count
        for name, labels, count in samples
        if name == "tapper_exchanges_total"
    }
    assert counted == dict.fromkeys(addresses, 1.0)
    assert running.stop() == 0
    assert "Traceback" not in running.read_log()


def test_a_restart_goes_on_counting(node: Node, tapper: StartTapper) -> None:
    """Counters of a pod never go back because its Envoy did."""
    pod = node.pod("server")
    envoy = fake_envoy.start(pod)
    running = tapper([pod], "--metrics", f"[::1]:{PORT}")
    running.wait_capturing(pod)
    play(pod, "/one", 41000)
    running.wait_targets(["/one"])
    envoy.stop()
    running.wait_for(lambda: not running.captures(pod), "the end of the source")
    assert value(scrape(node, "::1"), "tapper_exchanges_total", pod_ip=pod.ip) == 1
    fake_envoy.start(pod)
    running.wait_capturing(pod)
    play(pod, "/two", 41001)
    running.wait_targets(["/two"])
    samples = scrape(node, "::1")
    assert value(samples, "tapper_exchanges_total", pod_ip=pod.ip) == 2
    assert value(samples, "tapper_packets_received_total", pod_ip=pod.ip) == 16
    assert len([it for it in samples if it[0] == "tapper_packets_received_total" and it[1]["pod_ip"]]) == 1
    with pytest.raises(OSError, match="refused"):
        scrape(node)  # the canary: it listens where it was told to, and nowhere else


def test_a_port_in_use_ends_the_second_before_it_captures(node: Node, tapper: StartTapper) -> None:
    first = tapper(["10.0.0.2"], "--metrics", f"127.0.0.1:{PORT}")
    first.wait_capturing()
    argv = tapper_argv("tap", "--filter-authorities", "10.0.0.2", "--metrics", f"127.0.0.1:{PORT}")
    second = node.spawn(Command(argv, env=TAPPER_ENVIRON), name="second")
    assert second.wait() == 1
    (line,) = second.read_log().splitlines()
    assert line == f"tapper: cannot serve metrics on 127.0.0.1:{PORT}: address already in use (--metrics)"
    assert value(scrape(node), "tapper_sources") == 1, "the first is none the worse for it"

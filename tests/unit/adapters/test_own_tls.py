"""The reference reads what well-known applications encrypt themselves, each exchange once at each end."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.adapters.reference import TAPPER_ENVIRON, RunningTapper, tapper_argv
from harness.errors import Unsupported
from harness.mesh.mesh import Mesh
from harness.mesh.own_tls import applications
from harness.mesh.own_tls.ends import PORT
from harness.mesh.workload import Mode
from harness.sandbox import uprobes
from harness.sandbox.node import Node
from harness.sandbox.process import Command
from harness.waiting import wait_until

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "tls.md"
_IN_CI = bool(os.environ.get("CI"))


@pytest.fixture(autouse=True)
def permitted() -> None:
    """In continuous integration only a user namespace is a reason to skip."""
    why_not = uprobes.refusal()
    if why_not is not None and not (_IN_CI and os.geteuid() == 0):
        pytest.skip(why_not)
    assert why_not is None


@pytest.fixture
def node() -> Iterator[Node]:
    with Node() as made:
        yield made


def installed(some: dict[str, applications.TlsApplication]) -> Iterator[str]:
    """The applications that can be run here. In continuous integration that is all but Go, whose standard library takes
    minutes to compile where no cache has it."""
    for name, application in some.items():
        why_not = applications.missing(application)
        if name == "go" and _IN_CI:
            continue
        if why_not is not None and _IN_CI:
            raise Unsupported(why_not)
        if why_not is None:
            yield name


def test_each_exchange_of_each_application_is_seen_once_at_each_end(node: Node) -> None:
    client, server = node.pod("client"), node.pod("server")
    servers = {name: PORT + number for number, name in enumerate(installed(applications.SERVERS))}
    for name, port in servers.items():
        applications.serve(server, name, port)
    with RunningTapper(node, [client, server], "--discover", "netns", "--tls") as running:
        running.wait_reading_tls(client, server)
        asked = [(name, "nginx") for name in installed(applications.CLIENTS)]
        asked += [("curl", name) for name in servers if name != "nginx"]
        sent = {pair: applications.ask(client, pair[0], server.ip, servers[pair[1]], 2) for pair in asked}
        everything = [each for some in sent.values() for each in some]
        running.wait_seen(everything, server, "inbound")
        running.wait_seen(everything, client, "outbound")
    wanted = {each.target: 1 for each in everything}
    assert running.seen(server, "inbound") == wanted
    assert running.seen(client, "outbound") == wanted
    told = {record["target"]: record["plaintext"] for record in running.exchanges if record["direction"] == "outbound"}
    for (name, _), some in sent.items():
        assert {told[each.target] for each in some} == {applications.CLIENTS[name].library}, name


def test_the_commands_of_the_document(node: Node) -> None:
    block = re.search(r"```sh\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert block is not None
    tap, discover = (shlex.split(line)[1:] for line in block[1].splitlines())
    client, server = node.pod("client"), node.pod("server")
    applications.serve(server, "python")
    lists = node.run(Command(tapper_argv(*discover), env=TAPPER_ENVIRON))
    assert re.search(rf"{re.escape(server.ip)}\b.*openssl", lists), lists
    running = node.spawn(Command(tapper_argv(*tap), env=TAPPER_ENVIRON), name="tap")

    def shown() -> bool:
        (sent,) = applications.ask(client, "python", server.ip)
        return sent.nonce in running.read_log()

    wait_until(shown, "the requests to be shown", logs=running.read_log)
    assert running.stop() == 0, running.read_log()


def test_https_between_pods_with_sidecars_is_seen_once_at_each_end(node: Node) -> None:
    """The sidecars pass it on as it is; the ends are what the applications see."""
    mesh = Mesh(node)
    client, server = mesh.pod("client"), mesh.pod("server", ports=(PORT,), serve=False)
    mesh.inject(client, server, mode=Mode.PERMISSIVE)
    applications.serve(server.pod, "asyncio")
    with RunningTapper(node, [client.pod, server.pod], "--tls") as running:
        running.wait_reading_tls(client.pod, server.pod)
        sent = applications.ask(client.pod, "python", server.ip, count=3)
        running.wait_seen(sent, client.pod, "outbound")
        running.wait_seen(sent, server.pod, "inbound")
    assert running.seen() == {each.target: 2 for each in sent}
    ends = {(record["direction"], record["dst"]) for record in running.exchanges}
    assert ends == {(way, f"{server.ip}:{PORT}") for way in ("outbound", "inbound")}

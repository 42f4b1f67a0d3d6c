"""One server forks the keepers of all nodes of a process, and no node depends on it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from harness.errors import InternalError
from harness.sandbox import launch
from harness.sandbox.node import Node
from harness.waiting import wait_until


def server_of(node: Node) -> psutil.Process:
    keeper = psutil.Process(psutil.Process(node.host_pid).ppid())
    return psutil.Process(keeper.ppid())


def test_nodes_have_one_server_and_it_is_a_child_of_their_owner() -> None:
    with Node() as one, Node() as other:
        assert server_of(one) == server_of(other)
        assert server_of(one).ppid() == os.getpid()


def test_the_server_is_in_none_of_its_nodes(node: Node) -> None:
    ours, server = Path("/proc/self/ns"), Path(f"/proc/{server_of(node).pid}/ns")
    assert {each.name: each.readlink() for each in server.iterdir()} == {
        each.name: each.readlink() for each in ours.iterdir()
    }


def test_a_keeper_that_has_ended_is_reaped() -> None:
    with Node() as node:
        server, keeper = server_of(node), psutil.Process(node.host_pid).ppid()
    wait_until(lambda: keeper not in {child.pid for child in server.children()}, "the server to reap a keeper")


def test_a_server_that_was_ended_costs_nothing(node: Node) -> None:
    """Neither the nodes that there are, nor the next one."""
    ended = server_of(node)
    ended.send_signal(signal.SIGKILL)
    wait_until(lambda: ended.status() == psutil.STATUS_ZOMBIE, "the fork server to be dead")
    with Node() as another:
        assert another.run(["echo", "up"]) == "up\n"
        assert server_of(another) != ended
    assert node.run(["echo", "still there"]) == "still there\n"


def test_the_late_answer_of_a_server_is_no_other_nodes(node: Node) -> None:
    """One that did not answer in time, and goes on."""
    stopped = server_of(node)
    stopped.suspend()
    launch._forks(os.getpid())._orders.settimeout(0.1)
    with pytest.raises(InternalError, match="fork server did not answer"):
        Node()
    stopped.resume()
    for _ in range(2):
        with Node() as another:
            assert psutil.Process(another.host_pid).ppid() == another._world.keeper.pid


def test_a_node_has_no_descriptor_of_another(node: Node) -> None:
    """Whoever waits for the end of a socket or a log waits for that node alone."""
    with Node() as other:
        keeper = psutil.Process(other.host_pid).ppid()
        held = {os.readlink(fd) for fd in Path(f"/proc/{other.host_pid}/fd").iterdir()}
        held |= {os.readlink(fd) for fd in Path(f"/proc/{keeper}/fd").iterdir()}
        first = {os.readlink(fd) for fd in Path(f"/proc/{node.host_pid}/fd").iterdir()}
    sockets = {each for each in held & first if each.startswith(("socket:", "pipe:"))}
    assert first, "there was something to compare with"
    assert not sockets

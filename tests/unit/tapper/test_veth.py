"""A pod's link into its node, and namespaces without one."""

from __future__ import annotations

import os

import pytest

from harness.sandbox.node import Node
from harness.sandbox.process import Command
from harness.waiting import wait_until
from tapper.errors import TapperError
from tapper.namespaces.contents import is_linked_to
from tapper.namespaces.enter import run_inside
from tapper.namespaces.identity import namespace_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="setns needs CAP_SYS_ADMIN")


def linked(inside: str, node: str) -> bool:
    return run_inside(inside, namespace_of(inside), lambda: is_linked_to(node))


def test_a_pod_is_linked_to_its_node_and_to_no_other_pod(node: Node) -> None:
    one, other = (f"/proc/{node.pod(name).host_pid}/ns/net" for name in ("one", "other"))
    where = f"/proc/{node.spawn(Command(['sleep', '1000'])).host_pid}/ns/net"
    assert linked(one, where)
    assert linked(other, where)
    assert not linked(one, other)
    assert not linked(one, one)


def test_a_namespace_of_its_own_is_linked_to_nobody(node: Node) -> None:
    where = f"/proc/{node.spawn(Command(['sleep', '1000'])).host_pid}/ns/net"
    alone = node.spawn(Command(["unshare", "--net", "sleep", "1000"]))
    path = f"/proc/{alone.host_pid}/ns/net"
    wait_until(lambda: namespace_of(path) != namespace_of(where), "a network namespace of its own")
    assert not linked(path, where)


def test_what_is_no_namespace_is_said(node: Node) -> None:
    path = f"/proc/{node.pod('one').host_pid}/ns/net"
    for wrong in ("/proc/self/ns/none", "/etc/hostname"):
        with pytest.raises(TapperError, match="cannot read the links of a network namespace"):
            linked(path, wrong)

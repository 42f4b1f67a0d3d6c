"""The TCP connections that a pod's network namespace knows, asked of a real one."""

from __future__ import annotations

import json
import sys
from ipaddress import ip_address

from harness.adapters.reference import TAPPER_ENVIRON
from harness.mesh.delivery import APP_PORT, inbound
from harness.sandbox.node import Node
from harness.sandbox.process import Command

ASKS = """
import json, sys
from tapper.namespaces.enter import run_inside
from tapper.namespaces.identity import namespace_of
from tapper.namespaces.contents import tcp_connections

path = f"/proc/{sys.argv[1]}/ns/net"
print(json.dumps(sorted(key.hex() for key in run_inside(path, namespace_of(path), tcp_connections))))
"""


def test_open_connections_are_known_by_the_key_of_their_packets(node: Node) -> None:
    pod, other = node.pod("asked"), node.pod("other")

    def known() -> set[str]:
        return set(json.loads(node.run(Command([sys.executable, "-c", ASKS, str(pod.pause_pid)], env=TAPPER_ENVIRON))))

    assert known() == set()
    with inbound(pod) as conversation, inbound(other):
        source, target = ip_address(conversation.src[0]).packed, ip_address(conversation.dst[0]).packed
        port = conversation.src[1].to_bytes(2, "big")
        app = APP_PORT.to_bytes(2, "big")
        assert known() == {(source + target + port + app).hex(), (target + source + app + port).hex()}
    assert known() == set()

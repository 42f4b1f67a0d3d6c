"""A node: a private world of processes, mounts and networks on this machine.

Everything inside is owned by one process, the node's PID 1, and so by the kernel: when the owner closes the node, ends,
or is killed, the kernel ends every process in it and takes down every link, rule and mount.
"""

from __future__ import annotations

from harness import leaks
from harness.sandbox import links
from harness.sandbox.bare_node import BareNode
from harness.sandbox.pod import Pod

# Every namespace: addresses are usable at once, and no filter inherited from the machine drops a redirected packet.
_COMMON_SYSCTLS = {
    "net/ipv6/conf/all/accept_dad": "0",
    "net/ipv6/conf/default/accept_dad": "0",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
}
_NODE_SYSCTLS = _COMMON_SYSCTLS | {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    # pods share one bridge and are routed over it: without this the node would tell them to talk directly
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/default/send_redirects": "0",
}


class Node(BareNode):
    """Use it as a context manager, or call `close`.

        with Node() as node:
            server = node.pod("server")
            server.run(["ip", "address"])

    Raises `Unsupported` when this machine does not allow a sandbox.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pods: dict[str, Pod] = {}
        self._made_pods = 0
        try:
            for path, value in _NODE_SYSCTLS.items():
                self.write_sysctl(path, value)
            links.set_up_node(self)
        except BaseException:
            self.close()
            raise

    @property
    def pods(self) -> dict[str, Pod]:
        return dict(self._pods)

    def pod(self, name: str) -> Pod:
        """A new pod, connected and empty."""
        if name in self._pods:
            raise ValueError(f"there is a pod named {name} on this node already")
        index = self._made_pods
        self._made_pods += 1
        pause = self._process({"op": "pause", "sysctls": _COMMON_SYSCTLS}, [], f"pause of {name}", None)
        pod = Pod(self, name, links.PodAddresses(index), pause)
        self._pods[name] = pod
        links.connect_pod(self, pod, pause.host_pid, pod.link, pod.addresses)
        return pod

    def held_sockets(self) -> dict[int, str]:
        """This process's sockets that are still open inside the node's pods."""
        return leaks.sockets_inside({pod.netns_inode for pod in self._pods.values()})

    def netns_inodes(self) -> set[int]:
        return {pod.netns_inode for pod in self._pods.values() if pod.alive}

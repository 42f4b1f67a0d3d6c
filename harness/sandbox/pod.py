"""A pod: a network namespace on a node, with an eth0, kept open by a pause process."""

from __future__ import annotations

import os
import socket as sockets
from collections.abc import Callable, Sequence

from harness.errors import HarnessError
from harness.sandbox import links
from harness.sandbox.bare_node import BareNode
from harness.sandbox.process import Command, Process
from harness.waiting import DEFAULT_TIMEOUT, wait_until


class Pod:
    """Made by `Node.pod`. Processes are spawned in it, sockets opened in it, packets watched on its veth (`link`)."""

    def __init__(self, node: BareNode, name: str, addresses: links.PodAddresses, pause: Process) -> None:
        self.node = node
        self.name = name
        self.addresses = addresses
        self.link = links.host_link_name(name, addresses.index)
        """The node's end of the pod's veth."""
        self._pause = pause
        self.pause_pid = pause.pid
        """A process in this pod's namespaces, as the node's procfs numbers it."""
        self.ipv4, self.ipv6 = addresses.ipv4, addresses.ipv6
        self.ips = str(self.ipv4), str(self.ipv6)
        """Both addresses, the primary one first."""
        self.ip = self.ips[0]
        """The primary address, as `status.podIP` has it."""
        self.deleted = False
        """Whether `delete` has ended its processes."""
        self.before_deletion: list[Callable[[], None]] = []
        """Called when `delete` begins, so that holders of the pod's namespace let it go."""
        link = os.readlink(node.procfs / str(pause.pid) / "ns" / "net")
        self.netns_inode = int(link.removeprefix("net:[").removesuffix("]"))

    def __repr__(self) -> str:
        return f"<Pod {self.name} {self.ip}>"

    @property
    def host_pid(self) -> int:
        """The same process as this machine numbers it, for nsenter(1)."""
        return self._pause.host_pid

    @property
    def alive(self) -> bool:
        return self._pause.running

    def spawn(self, command: Command | Sequence[str], *, name: str | None = None, stdout: int | None = None) -> Process:
        """Start a program in this pod. See `Node.spawn`."""
        return self.node.spawn(command, pod=self, name=name, stdout=stdout)

    def run(self, command: Command | Sequence[str], *, timeout: float = DEFAULT_TIMEOUT, text: str = "") -> str:
        """Run a program in this pod to its end and return its output. See `Node.run`."""
        return self.node.run(command, pod=self, timeout=timeout, text=text)

    def socket(self, family: int = sockets.AF_INET, kind: int = sockets.SOCK_STREAM, proto: int = 0) -> sockets.socket:
        """A socket inside this pod, for use from here."""
        return self.node.socket(family, kind, proto, pod=self)

    def connect(self, host: str, port: int, timeout: float = DEFAULT_TIMEOUT) -> sockets.socket:
        """A TCP connection from inside this pod."""
        sock = self.socket(sockets.AF_INET6 if ":" in host else sockets.AF_INET)
        try:
            sock.settimeout(timeout)
            sock.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
            sock.connect((host, port))
        except BaseException:
            sock.close()
            raise
        return sock

    def wait_listening(self, process: Process, port: int) -> None:
        """Wait until a process of this pod listens on a port of 127.0.0.1. Raises HarnessError if the process ends."""

        def listening() -> bool:
            if not process.running:
                raise HarnessError(f"{process.name} ended with {process.returncode}:\n{process.read_log()}")
            try:
                self.connect("127.0.0.1", port).close()
            except ConnectionRefusedError:
                return False
            return True

        wait_until(listening, f"{process.name} to listen on port {port}", logs=process.read_log)

    def listen(self, host: str, port: int) -> sockets.socket:
        """A listening TCP socket inside this pod; port 0 lets the kernel choose. Its `accept` has a time limit."""
        sock = self.socket(sockets.AF_INET6 if ":" in host else sockets.AF_INET)
        sock.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
        sock.settimeout(DEFAULT_TIMEOUT)
        sock.bind((host, port))
        sock.listen()
        return sock

    def delete(self, timeout: float = DEFAULT_TIMEOUT) -> None:
        """Kill every process of the pod, as a kubelet finally does, and wait for the last.

        The kernel destroys the network namespace when no process or socket holds it any more (`released`).
        """
        self.deleted = True
        for let_go in self.before_deletion:
            let_go()
        while self.node.kill_all_in(self.netns_inode):
            self._pause.wait(timeout)

    @property
    def released(self) -> bool:
        """True once the kernel has destroyed the network namespace, and with it the node's end of the veth."""
        return self.link not in links.link_names(self.node)

    def wait_released(self, timeout: float = DEFAULT_TIMEOUT) -> None:
        """Wait for `released`. Raises `WaitTimeout` if the namespace is pinned."""
        wait_until(lambda: self.released, f"the network namespace of pod {self.name} to be released", timeout)

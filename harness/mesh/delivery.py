"""The traffic between a sidecar and its application, on real TCP connections inside a pod, with both ends in hand.

No proxy and no application run: the harness holds the client's and the server's socket, so every byte, every cut and
every pause is the test's. A capture on the pod's `lo` looks like that of a real sidecar, redirect rules included.
"""

from __future__ import annotations

import select
import socket
import struct
from typing import Self

from harness.mesh import redirect
from harness.mesh.envoy_config import LOOPBACK, OUTBOUND_PORT
from harness.mesh.redirect import TPROXY_MARK, TPROXY_TABLE, linkerd_rules, tproxy_rules
from harness.mesh.workload import PASSTHROUGH_SOURCE, Delivery
from harness.sandbox.pod import Pod
from harness.waiting import DEFAULT_TIMEOUT

APP_PORT = 8080
_IP_TRANSPARENT = 19  # linux/in.h


class LoopbackConnection:
    """One TCP connection inside a pod. Use it as a context manager, or call `close`."""

    def __init__(self, client: socket.socket, server: socket.socket, destination: tuple[str, int]) -> None:
        self._client = client
        self._server = server
        self.src: tuple[str, int] = client.getsockname()[:2]
        """The client's address, as its packets have it."""
        self.dst = destination
        """The address that it dialled: for an outbound leg the address before the redirect."""
        self.accepted_from: tuple[str, int] = server.getpeername()[:2]
        """The client's address, as the server's packets have it: another one if the node has rewritten it."""
        for sock in (client, server):
            sock.setblocking(False)

    def exchange(self, request: bytes, response: bytes) -> None:
        """The client sends its request whole, then the server its response."""
        self.client_sends(request)
        self.server_sends(response)

    def client_sends(self, data: bytes) -> None:
        """Send bytes, and wait until they have arrived, so that what follows comes after them on the wire, too."""
        _carry(self._client, self._server, data)

    def server_sends(self, data: bytes) -> None:
        _carry(self._server, self._client, data)

    def client_ends(self) -> None:
        """Half-close: the client has nothing more to send, and still listens."""
        self._client.shutdown(socket.SHUT_WR)

    def server_ends(self) -> None:
        """Half-close: the server has nothing more to send."""
        self._server.shutdown(socket.SHUT_WR)

    def resets(self, *, by_client: bool) -> None:
        """One side ends it with an RST in place of a FIN (socket(7), SO_LINGER). Wait until the other side has it: the
        process that opened the socket inside the pod may hold it a moment longer."""
        sock, other = (self._client, self._server) if by_client else (self._server, self._client)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
        sock.close()
        poller = select.poll()
        poller.register(other, 0)  # an error is reported in any case
        if not poller.poll(DEFAULT_TIMEOUT * 1000):
            raise TimeoutError(f"a reset inside a pod did not arrive within {DEFAULT_TIMEOUT:g} s")

    def close(self) -> None:
        self._client.close()
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def inbound(
    pod: Pod,
    port: int = APP_PORT,
    *,
    delivery: Delivery = Delivery.PASSTHROUGH,
    ipv6: bool = False,
    source_port: int = 0,
    address: str | None = None,
) -> LoopbackConnection:
    """A connection as a sidecar makes it to its application; `source_port` 0 lets the kernel choose.

    `address` is another address of the pod than its first, of the same family, for PASSTHROUGH. For PASSTHROUGH over
    IPv6 the pod needs its `outfit` first.
    """
    family = 6 if ipv6 else 4
    address = address or str(pod.ipv6 if ipv6 else pod.ipv4)
    source = PASSTHROUGH_SOURCE[family]
    if delivery is Delivery.LOCALHOST:
        address = source = LOOPBACK[family]
    with pod.listen(address, port) as listener:
        client = pod.socket(socket.AF_INET6 if ipv6 else socket.AF_INET)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return _join(client, listener, (address, port), (source, source_port))


def inbound_from_itself(pod: Pod, port: int = APP_PORT) -> LoopbackConnection:
    """A connection as Linkerd's proxy makes it to its application, over IPv4: from the pod's address to the same."""
    with pod.listen(pod.ip, port) as listener:
        return _join(pod.socket(), listener, (pod.ip, port), (pod.ip, 0))


def inbound_transparent(pod: Pod, caller: str, port: int = APP_PORT) -> LoopbackConnection:
    """A connection as a sidecar makes it to its application where interception is transparent: from the caller's IPv4
    address. The pod needs `outfit_tproxy` first."""
    with pod.listen(pod.ip, port) as listener:
        client = pod.socket()
        client.setsockopt(socket.SOL_IP, _IP_TRANSPARENT, 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, TPROXY_MARK)
        return _join(client, listener, (pod.ip, port), (caller, 0))


def wire(
    client: Pod, server: Pod, proxy_port: int, port: int = APP_PORT, *, transparent: bool = False
) -> LoopbackConnection:
    """A connection from another pod that the server's proxy accepts at `proxy_port`, over IPv4. The test decides what
    it carries: mostly TLS."""
    with server.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.settimeout(DEFAULT_TIMEOUT)
        if transparent:
            listener.setsockopt(socket.SOL_IP, _IP_TRANSPARENT, 1)
        listener.bind(("0.0.0.0", proxy_port))
        listener.listen()
        return _join(client.socket(), listener, (server.ip, port))


def outbound(pod: Pod, destination: tuple[str, int], *, proxy_port: int = OUTBOUND_PORT) -> LoopbackConnection:
    """A connection from the pod's application to `destination`, redirected to where its sidecar would listen.

    The pod needs its `outfit` first, or another that redirects to `proxy_port`.
    """
    ipv6 = ":" in destination[0]
    with pod.listen("::" if ipv6 else "0.0.0.0", proxy_port) as listener:
        return _join(pod.socket(socket.AF_INET6 if ipv6 else socket.AF_INET), listener, destination)


def across(
    client: Pod, server: Pod, port: int = APP_PORT, *, dialled: tuple[str, int] | None = None
) -> LoopbackConnection:
    """A plain connection between two pods that have no sidecars: over their veths, and through the node. `dialled` is
    the address of a service that the node translates, where the client does not dial the server's own."""
    with server.listen(server.ip, port) as listener:
        return _join(client.socket(), listener, dialled or (server.ip, port))


def outfit(pod: Pod) -> None:
    """Give a pod Istio's rules and address, for a sidecar that the harness plays."""
    redirect.install(pod)


def outfit_linkerd(pod: Pod) -> None:
    """Give a pod Linkerd's rules, for a proxy that the harness plays."""
    pod.run(["iptables-restore"], text=linkerd_rules())
    pod.run(["ip6tables-restore"], text=linkerd_rules())


def outfit_tproxy(pod: Pod) -> None:
    """Give a pod Istio's rules for transparent interception of IPv4. Raises where the kernel has no TPROXY target."""
    pod.run(["iptables-restore"], text=tproxy_rules())
    pod.run(["ip", "rule", "add", "fwmark", str(TPROXY_MARK), "lookup", str(TPROXY_TABLE)])
    pod.run(["ip", "route", "add", "local", "default", "dev", "lo", "table", str(TPROXY_TABLE)])


def _join(
    client: socket.socket, listener: socket.socket, address: tuple[str, int], source: tuple[str, int] | None = None
) -> LoopbackConnection:
    """Connect the client, which dials `address` from `source`, and accept the connection."""
    try:
        client.settimeout(DEFAULT_TIMEOUT)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source is not None:
            client.bind(source)
        client.connect(address)
        server, _ = listener.accept()
    except BaseException:
        client.close()
        raise
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return LoopbackConnection(client, server, address)


def _carry(sender: socket.socket, receiver: socket.socket, data: bytes) -> None:
    """Send all of it while receiving: more than the buffers of the sockets can hold has to be received meanwhile."""
    sent = received = 0
    poller = select.poll()
    while received < len(data):
        poller.register(sender, select.POLLOUT if sent < len(data) else 0)
        poller.register(receiver, select.POLLIN)
        events = dict(poller.poll(DEFAULT_TIMEOUT * 1000))
        if not events:
            raise TimeoutError(f"a connection inside a pod moved nothing for {DEFAULT_TIMEOUT:g} s")
        if events.get(sender.fileno(), 0) & select.POLLOUT and sent < len(data):
            sent += sender.send(memoryview(data)[sent:])
        if receiver.fileno() in events:
            arrived = receiver.recv(1 << 16)
            if not arrived:
                raise ConnectionError("the other end of a connection inside a pod was closed")
            received += len(arrived)

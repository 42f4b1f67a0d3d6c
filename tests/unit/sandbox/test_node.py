"""A node is a world of its own: what is inside cannot see out, and nothing outside is changed by it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from harness.errors import InternalError, WaitTimeout
from harness.sandbox import links
from harness.sandbox.node import Node
from harness.sandbox.process import Command, Process
from harness.waiting import DEFAULT_TIMEOUT, wait_until


def pids(node: Node) -> set[int]:
    return {int(name) for name in os.listdir(node.procfs) if name.isdigit()}


def test_the_machines_processes_are_invisible_inside(node: Node) -> None:
    sleeper = node.spawn(["sleep", "1000"])
    assert pids(node) == {1, sleeper.pid}
    assert sleeper.pid != sleeper.host_pid
    assert os.readlink(f"/proc/{sleeper.host_pid}/ns/net") != os.readlink("/proc/self/ns/net")


def test_the_machines_links_are_invisible_inside(node: Node) -> None:
    assert links.link_names(node) == {"lo", links.BRIDGE}
    assert set(node.run(["ls", "/sys/class/net"]).split()) == {"lo", links.BRIDGE}


def test_the_machine_itself_stays_as_it_is() -> None:
    def machine() -> tuple[object, ...]:
        return (
            socket.if_nameindex(),
            Path("/proc/sys/net/ipv4/ip_forward").read_text(),
            Path("/proc/self/mountinfo").read_text(),
            Path("/proc/net/route").read_text(),
            socket.gethostname(),
        )

    before = machine()
    with Node() as node:
        node.pod("server")
        assert (node.root / "proc/sys/net/ipv4/ip_forward").exists()
        assert machine() == before
    assert machine() == before


def test_nodes_do_not_collide() -> None:
    with Node() as one, Node() as other:
        server, double = one.pod("server"), other.pod("server")
        assert server.ip == double.ip
        assert server.netns_inode != double.netns_inode
        with server.listen("0.0.0.0", 80):
            other_client = other.pod("client")
            with pytest.raises(ConnectionRefusedError):
                other_client.connect(double.ip, 80, timeout=5)


def test_environment_reaches_the_process_byte_for_byte(node: Node) -> None:
    entries = [b"A=1", b"A=2", b"NO_EQUALS", b"", b"B=x=y", b"C=\xff\xfe", b"LONG=" + b"z" * 131_000]
    process = node.spawn(Command(["sleep", "1000"], env=entries))
    assert (node.procfs / str(process.pid) / "environ").read_bytes() == b"".join(entry + b"\0" for entry in entries)


def test_argv_zero_may_lie(node: Node) -> None:
    process = node.spawn(Command(["envoy", "1000"], executable="/bin/sleep"))
    proc = node.procfs / str(process.pid)
    assert (proc / "cmdline").read_bytes() == b"envoy\x001000\0"
    assert Path(os.readlink(proc / "exe")).name != "envoy"


def test_chosen_user_and_group(node: Node) -> None:
    if node.single_id:
        pytest.skip("this user has no subordinate ids (newuidmap, /etc/subuid), so its node has a single uid")
    output = node.run(Command(["id"], uid=1337, gid=1337))
    assert output.startswith("uid=1337")
    assert "gid=1337" in output
    assert "groups=1337" in output


def test_private_mount_shows_a_path_that_the_machine_has_not(node: Node) -> None:
    assert not Path("/usr/local/bin/envoy").exists()
    binds = {"/usr/local/bin/envoy": os.path.realpath("/bin/sleep")}
    process = node.spawn(Command(["/usr/local/bin/envoy", "1000"], binds=binds))
    assert os.readlink(node.procfs / str(process.pid) / "exe") == "/usr/local/bin/envoy"
    assert not Path("/usr/local/bin/envoy").exists()
    assert not (node.root / "usr/local/bin/envoy").exists()


def test_exit_codes_and_signals_are_told(node: Node) -> None:
    assert node.spawn(["sh", "-c", "exit 7"]).wait() == 7
    process = node.spawn(["sleep", "1000"])
    assert process.running
    assert process.stop() == -signal.SIGTERM
    assert not process.running


def test_stop_insists(node: Node) -> None:
    process = node.spawn(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    assert process.stop(timeout=0.1) == -signal.SIGKILL


def test_a_program_that_cannot_be_started_is_an_error(node: Node, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        node.spawn(["no-such-program"])
    text = tmp_path / "text"
    text.write_text("not a program")
    with pytest.raises(PermissionError):
        node.spawn([str(text)])
    with pytest.raises(OSError, match="No such file"):
        node.spawn(Command(["true"], cwd="/no/such/directory"))


def test_failed_run_carries_the_output(node: Node) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        node.run(["sh", "-c", "echo what went wrong; exit 3"])
    assert caught.value.returncode == 3
    assert "what went wrong" in caught.value.__notes__[0]


def test_timeout_carries_the_log(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    to_its_end = Process.wait

    def from_its_word_on(process: Process, timeout: float = DEFAULT_TIMEOUT) -> int:
        wait_until(lambda: "got this far" in process.read_log(), "the program's word")
        return to_its_end(process, timeout)

    monkeypatch.setattr(Process, "wait", from_its_word_on)
    with pytest.raises(WaitTimeout, match="got this far"):
        node.run(["sh", "-c", "echo got this far; exec sleep 1000"], timeout=0.0)
    monkeypatch.undo()
    assert pids(node) == {1}


def test_run_feeds_standard_input(node: Node) -> None:
    assert node.run(["cat"], text="hello\n") == "hello\n"


def test_orphans_are_reaped(node: Node) -> None:
    node.run(["sh", "-c", "sleep 0.01 & sleep 0.01 & exit 0"])
    node.run(["sh", "-c", "(sleep 0.05 &) ; (sleep 0.05 &)"])
    wait_until(lambda: pids(node) == {1}, "the orphans to end, and to be reaped")


def test_only_network_sysctls_are_private(node: Node) -> None:
    with pytest.raises(ValueError, match=r"kernel/panic is the machine's"):
        node.write_sysctl("kernel/panic", "0")


def test_a_closed_node_says_so() -> None:
    node = Node()
    node.close()
    node.close()
    with pytest.raises(InternalError, match="the node is closed"):
        node.pod("late")


def test_death_of_the_nodes_init_is_told(node: Node) -> None:
    os.kill(node.host_pid, signal.SIGKILL)
    with pytest.raises(InternalError, match="PID 1 is gone"):
        node.run(["true"])


def test_a_process_id_can_be_had_again(node: Node) -> None:
    first = node.spawn(["sleep", "1000"])
    first.stop()
    node.choose_next_pid(first.pid)
    assert node.spawn(["sleep", "1000"]).pid == first.pid


def test_a_program_inherits_its_own_descriptors_only(node: Node) -> None:
    """Whoever waits for the end of a pipe waits for the program, not for what it started with besides."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    process = node.spawn(["sleep", "1000"], fds=[writing])
    os.close(writing)
    os.close(reading)
    folder = node.procfs / str(process.pid) / "fd"
    own = {"0", "1", "2", "3"}  # and, while it is being loaded, the files of its libraries
    wait_until(lambda: {fd.name for fd in folder.iterdir()} == own, f"{own} to be all that it has")


def test_pid_1_survives_every_signal_from_inside(node: Node) -> None:
    node.run(["sh", "-c", "for n in $(seq 1 64); do kill -$n 1; done; true"])
    assert node.run(["echo", "still there"]) == "still there\n"

"""Fake Envoys: procfs shows for each variant what it shows for the real thing (the table in docs/fixtures.md)."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from harness.mesh import fake_envoy
from harness.mesh.fake_envoy import Variant
from harness.sandbox.node import Node

INTERPRETER = "python"


def exe(node: Node, pid: int) -> str:
    return os.readlink(node.procfs / str(pid) / "exe")


def environ(node: Node, pid: int, task: int | None = None) -> list[bytes]:
    directory = node.procfs / str(pid) / (f"task/{task}" if task else "")
    return (directory / "environ").read_bytes().split(b"\0")


@pytest.mark.parametrize(
    ("variant", "ends_with"),
    [
        (Variant.COPY, "/envoy"),
        (Variant.HARD_LINK, "/envoy"),
        (Variant.PRIVATE_MOUNT, "/usr/local/bin/envoy"),
        (Variant.RENAMED, "/envoy"),
        (Variant.DELETED, "/envoy (deleted)"),
        (Variant.REPLACED, "/envoy (deleted)"),
        (Variant.CHROOT, "/envoy"),
        (Variant.FORKED, "/envoy"),
        (Variant.MEMFD, "/memfd:envoy (deleted)"),
        (Variant.SUFFIX, "/envoy-x"),
        (Variant.PREFIX, "/notenvoy"),
        (Variant.DIRECTORY, "/envoy/sleeper"),
    ],
)
def test_exe_link_and_environment(node: Node, variant: Variant, ends_with: str) -> None:
    pod = node.pod("server")
    fake = fake_envoy.start(pod, variant)
    assert exe(node, fake.pid).endswith(ends_with)
    assert f"INSTANCE_IP={pod.ip}".encode() in environ(node, fake.pid)
    namespace = os.readlink(node.procfs / str(fake.pid) / "ns/net")
    assert namespace == f"net:[{pod.netns_inode}]"


@pytest.mark.parametrize("variant", [Variant.SYMLINK, Variant.ARGV0, Variant.SCRIPT])
def test_look_alikes_show_what_they_really_are(node: Node, variant: Variant) -> None:
    fake = fake_envoy.start(node.pod("server"), variant)
    assert "envoy" not in Path(exe(node, fake.pid)).name
    cmdline = (node.procfs / str(fake.pid) / "cmdline").read_bytes().split(b"\0")
    assert any(argument.endswith(b"/envoy") for argument in cmdline)


def test_a_dead_leader_hides_the_link_but_not_its_threads(node: Node) -> None:
    pod = node.pod("server")
    fake = fake_envoy.start(pod, Variant.LEADER_GONE)
    with pytest.raises(FileNotFoundError):
        exe(node, fake.pid)
    tasks = [int(task) for task in os.listdir(node.procfs / str(fake.pid) / "task")]
    (alive,) = set(tasks) - {fake.pid}
    assert os.readlink(node.procfs / str(fake.pid) / "task" / str(alive) / "exe").endswith("/envoy")
    assert f"INSTANCE_IP={pod.ip}".encode() in environ(node, fake.pid, alive)


def test_a_fork_makes_two(node: Node) -> None:
    fake = fake_envoy.start(node.pod("server"), Variant.FORKED)
    envoys = [
        int(name) for name in os.listdir(node.procfs) if name.isdigit() and exe(node, int(name)).endswith("/envoy")
    ]
    assert fake.pid in envoys
    assert len(envoys) == 2


def test_a_zombie_has_no_link_and_no_environment(node: Node) -> None:
    fake = fake_envoy.start(node.pod("server"), Variant.ZOMBIE)
    (zombie,) = (int(name) for name in os.listdir(node.procfs) if name.isdigit() and int(name) > fake.pid)
    assert "State:\tZ" in (node.procfs / str(zombie) / "status").read_text()
    with pytest.raises(FileNotFoundError):
        exe(node, zombie)
    with pytest.raises((ProcessLookupError, PermissionError)):
        environ(node, zombie)


def test_on_the_node_itself_an_address_has_to_be_given(node: Node) -> None:
    with pytest.raises(ValueError, match="give it an instance_ip"):
        fake_envoy.start(node)
    fake = fake_envoy.start(node, instance_ip="10.244.0.9")
    assert environ(node, fake.pid)[:1] == [b"INSTANCE_IP=10.244.0.9"]


def test_environment_of_ones_own(node: Node) -> None:
    entries = [b"XINSTANCE_IP=1.1.1.1", b"INSTANCE_IP=2.2.2.2=x", b"INSTANCE_IP=3.3.3.3", b"\xff"]
    fake = fake_envoy.start(node.pod("server"), env=entries)
    assert environ(node, fake.pid) == [*entries, b""]


@pytest.mark.parametrize("variant", [Variant.COPY, Variant.PRIVATE_MOUNT, Variant.HARD_LINK, Variant.REPLACED])
def test_where_the_shell_goes_by_its_name_the_interpreter_waits(
    node: Node, variant: Variant, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As on Alpine, where /bin/sh is busybox."""
    (tmp_path / "busybox").touch()
    (tmp_path / "sh").symlink_to("busybox")
    monkeypatch.setattr(fake_envoy, "_SHELL", tmp_path / "sh")
    fake = fake_envoy.start(node.pod("server"), variant)
    assert Path(exe(node, fake.pid).removesuffix(" (deleted)")).name == "envoy"
    assert b"-S" in (node.procfs / str(fake.pid) / "cmdline").read_bytes().split(b"\0")
    assert fake.process.stop() == -signal.SIGTERM


@pytest.mark.parametrize("variant", [each for each in Variant if each is not Variant.ZOMBIE])
def test_it_waits_until_it_is_stopped(node: Node, variant: Variant) -> None:
    fake = fake_envoy.start(node.pod("server"), variant)
    assert fake.process.running
    fake.stop()
    assert fake.process.returncode == -signal.SIGTERM


def test_every_variant_is_covered_here() -> None:
    tested = {mark.args[1][i][0] for mark in test_exe_link_and_environment.pytestmark for i in range(12)}  # type: ignore[attr-defined]
    tested |= {Variant.SYMLINK, Variant.ARGV0, Variant.SCRIPT, Variant.LEADER_GONE, Variant.ZOMBIE}
    assert tested == set(Variant)


def test_linkerds_proxy_has_its_pods_name(node: Node) -> None:
    pod = node.pod("server")
    process = fake_envoy.start_linkerd(pod)
    assert exe(node, process.pid).endswith("/linkerd2-proxy")
    assert environ(node, process.pid) == [b"_pod_name=server", b"_pod_ns=default", b""]


def test_a_prefix_prepares_and_executes(node: Node) -> None:
    fake = fake_envoy.start(node.pod("server"), prefix=["sh", "-c", 'exec "$@"', "sh"])
    assert exe(node, fake.pid).endswith("/envoy")
    assert b"INSTANCE_IP=" + node.pods["server"].ip.encode() in environ(node, fake.pid)

"""The demo: what it prints, when it says no, and whether the commands of --keep work."""

from __future__ import annotations

import html
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from harness import cli
from harness.adapters.reference import RunningTapper
from harness.demo import steps
from harness.demo.steps import Scene, StepOutcome
from harness.mesh import fake_envoy
from harness.mesh.mesh import Mesh
from harness.sandbox import uprobes
from harness.sandbox.node import Node
from harness.waiting import wait_until

REPOSITORY = Path(__file__).resolve().parents[3]
TITLES = (
    "no mesh: the wire between the pods",
    "sidecars, STRICT mTLS: the same wire",
    "the same traffic, by tapper --istio",
    "edge case: an envoy started by hand with the server's INSTANCE_IP",
    "no sidecar, HTTPS between two pods, by tapper --tls",
)


def words(text: str) -> str:
    """Text without the table's borders and line breaks."""
    return re.sub(r"[\s│┃|]+", " ", text)


def test_script_demo_shows_that_all_five_hold() -> None:
    """The README's first command, its output read as a person would; nothing on the machine is changed."""
    before = socket.if_nameindex(), Path("/proc/self/mountinfo").read_text()
    done = subprocess.run([REPOSITORY / "script/demo"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    if uprobes.refusal() is None:
        assert "All five hold. 5 steps, 20 requests each" in done.stdout
        assert len(re.findall(r"│ yes\s+│", done.stdout)) == 5
    else:
        assert "All four hold. 4 steps, 20 requests each" in done.stdout
        assert "Left out: Two pods without a sidecar that encrypt themselves" in words(done.stdout)
    seen = words(done.stdout)
    assert all(word in seen for word in ("leaving client", "entering server", "twice or unasked: 0"))
    for direction in ("outbound", "inbound"):
        assert re.search(rf"^ *10\.244\.0\.\d +{direction} .* GET +/orders/nonce-.* 200 *$", done.stdout, re.MULTILINE)
    assert "\x1b" not in done.stdout, "no colours and no progress where nobody watches"
    assert (socket.if_nameindex(), Path("/proc/self/mountinfo").read_text()) == before


@pytest.fixture
def scene() -> Iterator[Scene]:
    with Node() as node:
        yield Scene(node, 4)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that do not insist on seeing what they wait for: the verdict shall be their own."""
    monkeypatch.setattr(RunningTapper, "wait_targets", lambda *_, **__: None)


def test_a_mesh_that_does_not_encrypt_is_noticed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mesh, "inject", lambda *_, **__: None)
    assert not steps.strict(scene).holds


@pytest.mark.usefixtures("impatient")
def test_a_wire_that_cannot_be_read_is_noticed(scene: Scene) -> None:
    scene.mesh.inject(scene.client, scene.server)
    assert not steps.plain(scene).holds


@pytest.mark.usefixtures("impatient")
def test_a_tapper_that_sees_nothing_is_noticed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.mesh.inject(scene.client, scene.server)
    monkeypatch.setattr(RunningTapper, "exchanges", [])
    assert not steps.decrypted(scene).holds


@pytest.mark.usefixtures("impatient")
def test_a_tapper_that_reports_twice_is_noticed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.mesh.inject(scene.client, scene.server)
    twice = property(lambda running: running.of_type("http") * 2)
    monkeypatch.setattr(RunningTapper, "exchanges", twice)
    assert not steps.decrypted(scene).holds


@pytest.mark.usefixtures("impatient")
def test_a_manual_envoy_that_is_not_captured_is_noticed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.mesh.inject(scene.client, scene.server)
    real = fake_envoy.start
    monkeypatch.setattr(fake_envoy, "start", lambda pod, **_: real(pod, instance_ip="10.0.0.1"))
    wait = RunningTapper.wait_capturing
    monkeypatch.setattr(
        RunningTapper,
        "wait_capturing",
        lambda self, *pods: wait(self, *(p for p in pods if p is not scene.outsider.pod)),
    )
    assert not steps.manual_envoy(scene).holds


@pytest.mark.usefixtures("impatient")
@pytest.mark.skipif(uprobes.refusal() is not None, reason=f"--tls: {uprobes.refusal()}")
def test_https_that_is_not_read_is_noticed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunningTapper, "exchanges", [])
    assert not steps.own_tls(scene).holds


def test_a_step_that_the_kernel_refuses_is_left_out_and_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def good(_: Scene) -> StepOutcome:
        """Good: fine."""
        return StepOutcome("a good step", "x", "x", True)

    monkeypatch.setattr(steps, "STEPS", (good, steps.own_tls))
    monkeypatch.setattr(uprobes, "refusal", lambda: "the test refuses it")
    assert cli.main(["demo", "--requests", "1"]) == 0
    output = words(capsys.readouterr().out)
    assert "1 steps" in output
    assert "Left out: Two pods without a sidecar that encrypt themselves, because the test refuses it." in output


def test_a_step_that_does_not_hold_is_shown_and_exits_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def good(_: Scene) -> StepOutcome:
        """Good: fine."""
        return StepOutcome("a good step", "x", "x", True)

    def bad(_: Scene) -> StepOutcome:
        """Bad: not fine."""
        return StepOutcome("a bad step", "x", "y", False)

    monkeypatch.setattr(steps, "STEPS", (good, bad))
    assert cli.main(["demo", "--requests", "1"]) == 1
    output = capsys.readouterr().out
    assert "Not all of them hold." in output
    assert re.search(r"a bad step .* NO ", output)


@pytest.mark.parametrize("count", ["0", "-3", "many"])
def test_a_bad_number_is_a_sentence(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["demo", "--requests", count])
    assert caught.value.code == 2
    assert f"{count!r} is not a whole number from 1 on" in capsys.readouterr().err


def test_the_readmes_picture_is_of_this_demo() -> None:
    """script/picture draws it; what it shows must be what the demo prints today."""
    svg = html.unescape((REPOSITORY / "docs/demo.svg").read_text()).replace("\xa0", " ")
    drawn = words(" ".join(re.findall(r">([^<>]*)</text>", svg)))
    assert "All five hold. 5 steps, 20 requests each" in drawn
    for title in TITLES:
        for word in title.split():
            assert word in drawn, f"{word!r} of {title!r} is not in the picture: run script/picture"
    assert "https://" not in re.sub(r'xmlns="[^"]*"', "", svg)


def test_keep_prints_commands_that_work(tmp_path: Path) -> None:
    """Every command that it prints is run here; Ctrl-C takes the mesh down."""
    argv = [sys.executable, "-m", "harness.cli", "demo", "--requests", "2", "--keep"]
    with background(argv) as demo:
        commands = commands_of(demo)
        shell, curl, tcpdump, tapper, discover = commands
        inside = run([*shell, "-c", "cat /proc/net/dev; echo; cat /proc/1/comm"])
        assert "eth0:" in inside
        assert "cni0" not in inside

        assert '"path": "/hello"' in run(curl)

        recording = [*tcpdump, "-c", "8", "--immediate-mode", "-U", "-w", str(tmp_path / "wire.pcap")]
        with background(recording) as watching:
            ask_until(curl, lambda: watching.poll() is not None)
            assert watching.stderr is not None
            complaint = watching.stderr.read()
        tcpdump_refused = os.geteuid() != 0 and "Couldn't change to 'root'" in complaint
        if not tcpdump_refused:
            recorded = (tmp_path / "wire.pcap").read_bytes()
            assert len(recorded) > 8 * 60, complaint
            assert b"/hello" not in recorded

        with background(tapper) as tapping:
            seen: list[str] = []
            reader = threading.Thread(target=read_lines, args=(tapping, seen))
            reader.start()
            ask_until(curl, lambda: any("GET" in line and "/hello" in line for line in seen))
            os.killpg(tapping.pid, signal.SIGINT)  # as Ctrl-C at a terminal does
            reader.join(10)
            assert not reader.is_alive()

        assert run(discover).count("/usr/local/bin/envoy") == 2

        demo.send_signal(signal.SIGINT)
        assert demo.stdout is not None
        assert "Taking the mesh down." in demo.stdout.read()
        assert demo.wait(10) == 0
    if tcpdump_refused:
        pytest.skip(f"all but tcpdump was run; it does not run as the root of a user namespace: {complaint.strip()}")


def commands_of(demo: subprocess.Popen[str]) -> list[list[str]]:
    """The five commands that the demo prints before it waits."""
    assert demo.stdout is not None
    commands = []
    for line in demo.stdout:
        if line.startswith("  nsenter "):
            commands.append(shlex.split(line))
        if len(commands) == 5:
            break
    return commands


def read_lines(process: subprocess.Popen[str], lines: list[str]) -> None:
    assert process.stdout is not None
    lines.extend(process.stdout)


def run(argv: list[str]) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20).stdout


@contextmanager
def background(argv: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that does not outlive the block, whatever happens in it."""
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY, start_new_session=True
    )
    with process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def ask_until(curl: list[str], enough: Callable[[], bool]) -> None:
    """Send requests until somebody has noticed."""

    def probe() -> bool:
        run(curl)
        return enough()

    wait_until(probe, "a request to be noticed", 20)

"""What the reference tapper writes, end to end: real processes, real namespaces, played traffic."""

from __future__ import annotations

import functools
import io
import itertools
import json
import os
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scapy.utils import RawPcapNgReader

import tapper as package
from harness.adapters.reference import RunningTapper, tapper_argv
from harness.mesh import fake_envoy, replay
from harness.mesh.mesh import Mesh
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod
from harness.sandbox.process import MINIMAL_ENVIRON, Command, Process
from harness.waiting import wait_until
from tapper.output import pcapng
from tapper.output.pcapng import STATISTICS

StartTapper = Callable[..., RunningTapper]

ENVIRON = MINIMAL_ENVIRON | {"PYTHONPATH": str(Path(package.__file__).parents[1])}
SECRET = "s3cr3t-0815"


def ask(path: str, method: str = "GET") -> bytes:
    return (
        f"{method} {path} HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer {SECRET}\r\nX-Token: {SECRET}\r\n"
        f"X-Canary: canary-1\r\n\r\n"
    ).encode()


def answer(status: int = 200) -> bytes:
    return (
        f"HTTP/1.1 {status} X\r\nSet-Cookie: id={SECRET}\r\nX-Canary: canary-2\r\nContent-Length: 5\r\n\r\nhello"
    ).encode()


def play(pod: Pod, *exchanges: tuple[bytes, bytes]) -> None:
    replay.play(pod, replay.conversation(replay.inbound(pod, 8080), list(exchanges)))


@pytest.fixture
def pod(node: Node) -> Pod:
    """A pod with a fake Envoy in it."""
    pod = node.pod("server")
    fake_envoy.start(pod)
    return pod


def test_secrets_do_not_come_out(pod: Pod, tapper: StartTapper) -> None:
    """The canary is beside them; without redaction they are there, and the tapper says so."""
    hiding, showing = tapper([pod]), tapper([pod], "--no-redact")
    for running in (hiding, showing):
        running.wait_capturing(pod)
    play(pod, (ask("/a"), answer()))
    for running in (hiding, showing):
        running.wait_targets(["/a"])
        running.stop()
    assert "canary-1" in str(hiding.records)
    assert "canary-2" in str(hiding.records)
    assert SECRET not in str(hiding.records)
    assert str(hiding.records).count("[redacted]") == 3
    assert str(showing.records).count(SECRET) == 3
    assert "--no-redact: credentials, cookies and tokens come out" in showing.read_log()
    assert "redact" not in hiding.read_log()


def test_filters_and_the_body_limit(pod: Pod, tapper: StartTapper) -> None:
    """The last exchange passes the filters, so whatever was to come before it has come."""
    running = tapper([pod], "--path", "/orders", "--status", "5xx", "--body-limit", "3")
    running.wait_capturing(pod)
    play(
        pod,
        (ask("/cart"), answer(500)),
        (ask("/orders/1"), answer(200)),
        (ask("/orders/2"), answer(503)),
    )
    running.wait_targets(["/orders/2"])
    running.stop()
    assert running.seen() == {"/orders/2": 1}
    (record,) = running.exchanges
    assert (record["response"]["body_b64"], record["response"]["body_size"]) == ("aGVs", 5)
    assert record["response"]["truncated"]
    assert (running.records[-1]["exchanges"], running.records[-1]["filtered"]) == (1, 2)


def spawn(node: Node, *arguments: str, stdout: int | None = None) -> Process:
    return node.spawn(Command(tapper_argv("tap", *arguments), env=ENVIRON), name="tapper", stdout=stdout)


@pytest.mark.parametrize("form", ["har", "text"])
def test_a_file_of_exchanges_is_whole_and_without_secrets(node: Node, pod: Pod, tmp_path: Path, form: str) -> None:
    """An exchange is in the file as soon as it was seen; probes tell when it captures."""
    path = tmp_path / "out"
    arguments = ["--istio", "--filter-authorities", pod.ip, "--redact", "X-TOKEN", "-o", form, "-w", str(path)]
    process = spawn(node, *arguments)
    ports = itertools.count(41000)

    def probed() -> bool:
        leg = replay.inbound(pod, 8080, next(ports))
        replay.play(pod, replay.conversation(leg, [(b"GET /probe HTTP/1.1\r\n\r\n", answer())]))
        return path.exists() and b"/probe" in path.read_bytes()

    wait_until(probed, "the first probe")
    play(pod, (ask("/one"), answer()), (ask("/two"), answer(404)))
    wait_until(lambda: b"/two" in path.read_bytes(), "the exchanges")
    assert process.stop() == 0, process.read_log()
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    assert SECRET not in text
    if form == "har":
        entries = [it for it in json.loads(text)["log"]["entries"] if "probe" not in it["request"]["url"]]
        told = [(entry["request"]["url"], entry["response"]["status"]) for entry in entries]
        assert told == [("http://shop/one", 200), ("http://shop/two", 404)]
        assert text.count("canary-1") == 2, "the headers beside the secrets"
        assert json.dumps(entries).count("[redacted]") == 6
    else:
        lines = [line.split() for line in text.splitlines() if "/probe" not in line]
        assert [line[6:9] for line in lines] == [["GET", "/one", "200"], ["GET", "/two", "404"]]


def test_colour_on_a_terminal_only(tmp_path: Path) -> None:
    """A real pseudo-terminal of some width, a pipe, and terminals with NO_COLOR and that can do nothing."""
    wire = pcapng.section_header("t") + pcapng.interface("eth0", "")
    frames = replay.conversation(
        replay.ReplayLeg(("10.0.0.3", 1), ("10.0.0.2", 80), ("10.0.0.2", 80)), [(ask("/"), answer())]
    )
    wire += b"".join(pcapng.packet(0, 5_000_000_000, frame[14:]) for frame in frames)
    path = tmp_path / "in.pcapng"
    path.write_bytes(wire)
    argv = tapper_argv("tap", "-r", str(path), "--verbose")

    def on_terminal(**more: str) -> bytes:
        ours, theirs = os.openpty()
        termios.tcsetwinsize(theirs, (24, 70))
        subprocess.run(argv, stdout=theirs, stderr=subprocess.PIPE, env=ENVIRON | {"TERM": "xterm"} | more, check=True)
        os.close(theirs)
        said = b""
        try:
            while more_said := os.read(ours, 65536):
                said += more_said
        except OSError:
            pass  # EIO: nobody holds the other end any longer
        os.close(ours)
        return said.replace(b"\r\n", b"\n")

    coloured, plain, dumb = on_terminal(), on_terminal(NO_COLOR="1"), on_terminal(TERM="dumb")
    piped = subprocess.run(argv, capture_output=True, env=ENVIRON | {"TERM": "xterm"}, check=True).stdout
    assert b"\x1b[32m200\x1b[0m" in coloured
    assert re.sub(rb"\x1b\[[0-9;]*m", b"", coloured) == plain
    (line,) = [line.decode() for line in plain.splitlines() if b"~" in line]
    assert len(line) <= 70
    assert line.split()[:4] == ["~", "-", "GET", "/"], "no target, so nobody's pod; no room for the time"
    assert piped == dumb
    assert b"\x1b" not in piped + plain
    forced = subprocess.run([*argv, "--colour", "always"], capture_output=True, env=ENVIRON, check=True).stdout
    assert b"\x1b[32m200\x1b[0m" in forced
    loaded = [sys.executable, "-X", "importtime", *argv[1:]]
    imported = subprocess.run(loaded, capture_output=True, env=ENVIRON, check=True).stderr
    assert b"tapper.output.text" in imported
    assert b"rich" not in imported, "who reads from a pipe does not wait for it"
    assert b"    > X-Canary: canary-1\n" in piped
    assert b"    > Authorization: [redacted]\n" in piped
    assert f"Bearer {SECRET}".encode() not in coloured + piped


def tshark(file: bytes, *arguments: str) -> str:
    """What tshark makes of a capture file. (tcpdump does not do: libpcap 1.10 compares the link type of a second
    interface, 101, with its own number for raw IP, 12, and refuses the file.)"""
    argv = ["tshark", "-n", "-r", "-", *arguments]
    return subprocess.run(argv, input=file, capture_output=True, check=True).stdout.decode()


def test_pcapng_opens_in_tshark_with_the_plaintext_in_it(node: Node, pod: Pod, tmp_path: Path) -> None:
    """What was seen is in the file at once, and the statistics are when it has ended."""
    path = tmp_path / "out.pcapng"
    recording = spawn(node, "--istio", "--filter-authorities", pod.ip, "-o", "pcapng", "--no-redact", "-w", str(path))
    wait_until(lambda: path.exists() and f"{pod.ip} lo".encode() in path.read_bytes(), "the pod's interface")
    play(pod, (ask("/one"), answer()))
    wait_until(lambda: b"GET /one" in path.read_bytes() and b"hello" in path.read_bytes(), "the packets")
    assert recording.stop() == 0, recording.read_log()
    assert path.stat().st_mode & 0o777 == 0o600
    assert "nothing in them is redacted" in recording.read_log()
    assert "1 exchange from 2 sources" in recording.read_log()

    shown = tshark(
        path.read_bytes(), "-Y", "http", "-T", "fields", "-e", "frame.interface_name", "-e", "http.request.uri"
    )
    assert f"{pod.ip} lo\t/one\n" in shown
    assert "X-Canary: canary-2" in tshark(path.read_bytes(), "-Y", "http.response", "-V")
    # scapy also knows of a single packet how finely its interface counts the time
    (*_, (_, told)) = RawPcapNgReader(io.BytesIO(path.read_bytes()))
    assert (told.ifname, told.linktype, told.tsresol) == (f"{pod.ip} lo".encode(), 101, 1_000_000_000)
    assert path.read_bytes().count(struct.pack("<II", STATISTICS, 64)) == 2, "of the node and of the pod"


def test_pcapng_through_a_pipe(node: Node, pod: Pod) -> None:
    """`tapper tap -o pcapng -w - | tshark -r -`: what was seen is in the pipe before the tapper ends."""
    process = spawn(
        node,
        "--istio",
        "--filter-authorities",
        pod.ip,
        "-o",
        "pcapng",
        "--no-redact",
        "-w",
        "-",
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    written = b""

    def read_until(wanted: bytes) -> None:
        nonlocal written
        while wanted not in written:
            assert process.stdout is not None
            came = os.read(process.stdout.fileno(), 65536)
            assert came, process.read_log()
            written += came

    read_until(f"{pod.ip} lo".encode())
    play(pod, (ask("/piped"), answer()))
    read_until(b"hello")
    process.send_signal(signal.SIGTERM)
    written += process.stdout.read()
    assert process.wait() == 0, process.read_log()
    assert "/piped" in tshark(written, "-T", "fields", "-e", "http.request.uri")


def test_what_was_recorded_reads_back_without_any_privilege(
    mesh: Mesh, node: Node, tapper: StartTapper, tmp_path: Path
) -> None:
    """Real sidecars, STRICT: the file makes the exchanges that the live capture made, on both legs."""
    client, server = mesh.pod("client"), mesh.pod("server")
    mesh.inject(client, server)
    live = tapper([client.pod, server.pod])
    path = tmp_path / "out.pcapng"
    chosen = f"{client.ip},{server.ip}"
    recording = spawn(node, "--istio", "--filter-authorities", chosen, "-o", "pcapng", "--no-redact", "-w", str(path))
    live.wait_capturing(client.pod, server.pod)
    names = [f"{member.ip} lo".encode() for member in (client, server)]
    wait_until(lambda: path.exists() and all(name in path.read_bytes() for name in names), "both interfaces")
    sent = [exchange.target for exchange in mesh.send(client, server, 20, connections=2)]
    for member in (client, server):
        live.wait_targets(sent, pod=member.pod)
    live.stop()
    assert recording.stop() == 0, recording.read_log()

    # an ordinary user has none to begin with, and may not even give any up
    powerless = ["setpriv", "--bounding-set=-all"] if os.geteuid() == 0 else []
    status = subprocess.run([*powerless, "cat", "/proc/self/status"], capture_output=True, check=True).stdout
    assert b"CapEff:\t0000000000000000\n" in status
    argv = [*powerless, *tapper_argv("tap", "-r", "-", "-o", "ndjson")]
    read = subprocess.run(argv, input=path.read_bytes(), capture_output=True, check=True, env=ENVIRON).stdout
    records = [record for record in map(json.loads, read.splitlines()) if record["type"] == "http"]

    def told(exchanges: list[dict[str, Any]]) -> list[str]:
        """All but the namespace and `mtls`, which a file does not tell, and times, which each packet socket
        takes itself."""
        other = {"netns": None, "mtls": None, "ts": None, "duration_s": None}
        return sorted(json.dumps(exchange | other) for exchange in exchanges)

    assert len(records) == 40
    assert told(records) == told(live.exchanges)


def said(running: RunningTapper, line: str) -> bool:
    return line in running.read_log()


def test_a_summary_so_far(pod: Pod, tapper: StartTapper) -> None:
    """Each SIGUSR1 brings one, and capturing goes on; the last summary is not changed by the ones before."""
    running = tapper([pod])
    running.wait_capturing(pod)
    for count, port in enumerate((41001, 41002), 1):
        leg = replay.inbound(pod, 8080, port)
        replay.play(pod, replay.conversation(leg, [(ask(f"/{count}"), answer())]))
        running.wait_targets([f"/{count}"])
        running.process.send_signal(signal.SIGUSR1)
        exchanges = ("1 exchange", "2 exchanges")[count - 1]
        line = f"tapper: so far:\ntapper: {exchanges} from 2 sources; {8 * count} packets received"
        running.wait_for(functools.partial(said, running, line), "the summary")
    running.stop()
    assert running.read_log().splitlines()[-1].startswith("tapper: 2 exchanges from 2 sources; 16 packets received")
    assert running.records[-1]["received"] == 16

"""Without root: the same sandbox where the kernel allows user namespaces, one sentence where it does not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from harness.sandbox import launch

HELPER = Path(__file__).resolve().with_name("ordinary_user.py")
REPOSITORY = Path(__file__).resolve().parents[3]
HELPER_IN_CHECKOUT = HELPER.relative_to(REPOSITORY)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="becomes an ordinary user, which only root can; you are one")

MESH = """
import os
from harness.mesh import delivery, fake_envoy
from harness.mesh.mesh import Mesh
from harness.mesh.traffic import nonces
from harness.sandbox.node import Node
from harness.sandbox.recorder import on_link

assert os.geteuid() == 65534
with Node() as node:
    assert node.single_id
    mesh = Mesh(node)
    client, server = mesh.pod("client"), mesh.pod("server")
    mesh.inject(client, server)
    recording = on_link(server.pod)
    sent = mesh.send(client, server, 10) + mesh.send(client, mesh.service("shop", server), 10)
    assert recording.found(nonces(sent)) == set() and recording.streams and not recording.streams_not_tls()
    for variant in fake_envoy.Variant:
        fake_envoy.start(server.pod, variant)
    played = node.pod("played")
    delivery.outfit(played)
    for conversation in (delivery.inbound(played), delivery.outbound(played, ("10.96.77.10", 80))):
        with conversation:
            conversation.exchange(b"request", b"response")
print("all of it, as", os.geteuid())
"""


AUDITS = """
import tempfile
from pathlib import Path
from harness.conformance import state, truth
from harness.conformance.audit import packets
from harness.conformance.audit.changes import Changes
from harness.conformance.audit.written import Written
from harness.sandbox.node import Node
from harness.sandbox.process import Command

with tempfile.TemporaryDirectory() as folder, Node() as node:
    pod = node.pod("server")
    for place in (node, pod):
        state.wait_settled(place)
    files = Written(node, Path(folder))
    announced = packets.announced(node, pod)
    with Changes(pod) as changes, packets.watch(pod) as recorder:
        before = state.snapshot(pod)
        node.run(Command(["sh", "-c", "echo written > /tmp/file; echo kept > $0/kept; echo > /dev/null", folder],
                         overlay=files.overlay))
        sent = truth.deliver(pod, 3)
        assert state.differences(before, state.snapshot(pod)) == changes.in_words() == [], changes.in_words()
        kits = {frozenset((str(each.src), str(each.dst))) for each in sent}
        told = packets.foreign(recorder.frames, kits, packets.announced(node, pod) - announced)
        assert told == [], told
        pod.run(["sh", "-c", "echo 7 > /proc/sys/net/ipv4/tcp_retries1; ip link set lo mtu 1500"])
        assert len(changes.in_words()) == 2, changes.in_words()
    found = {name: content for name, content in files.contents() if content}
    assert found == {"/tmp/file": b"written\\n"}, found
    assert Path(folder, "kept").read_text() == "kept\\n"
print("all of it")
"""


def as_ordinary_user(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(HELPER), *argv], capture_output=True, text=True, check=False, timeout=60)


def test_an_ordinary_user_has_the_whole_sandbox() -> None:
    done = as_ordinary_user(sys.executable, "-c", MESH)
    assert done.stdout == "all of it, as 65534\n", done.stderr


def test_an_adapter_can_be_tried_by_an_ordinary_user() -> None:
    """A user with one uid plays a sidecar, too: the kit marks its connections, as it does a real Envoy's."""
    done = as_ordinary_user(sys.executable, "-m", "harness.cli", "adapter", "try", "reference")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NO  " not in done.stdout


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What the helper needs of this checkout, with a virtual environment in it, in a home that only root may enter."""
    home = tmp_path / "home"
    clone = home / "clone"
    (clone / HELPER_IN_CHECKOUT).parent.mkdir(parents=True)
    shutil.copy(HELPER, clone / HELPER_IN_CHECKOUT)
    shutil.copytree(REPOSITORY / "harness" / "sandbox", clone / "harness" / "sandbox")
    venv.create(clone / ".venv", symlinks=True)
    home.chmod(0o700)
    return clone


def list_as_ordinary_user(clone: Path) -> subprocess.CompletedProcess[str]:
    """Have the helper of a clone list that clone."""
    python = str(clone / ".venv" / "bin" / "python")
    program = f"import os; print(os.geteuid(), *sorted(os.listdir({str(clone)!r})))"
    environ = {"PYTHONPATH": str(clone), "PYTHONDONTWRITEBYTECODE": "1", "PATH": os.environ["PATH"]}
    argv = [python, str(clone / HELPER_IN_CHECKOUT), python, "-c", program]
    return subprocess.run(argv, env=environ, capture_output=True, text=True, check=False, timeout=60)


def test_a_checkout_below_a_shut_directory_is_whole_for_an_ordinary_user(clone: Path) -> None:
    """As in root's home: the virtual environment, which lies in the checkout, does not stand in for the checkout."""
    done = list_as_ordinary_user(clone)
    assert done.stdout == "65534 .venv harness tests\n", done.stderr


def test_a_checkout_that_is_shut_itself_is_a_sentence(clone: Path) -> None:
    clone.chmod(0o700)
    done = list_as_ordinary_user(clone)
    assert done.returncode == 1
    sentence = f"ordinary_user.py: only its owner may enter {clone} itself: chmod go+rx it, and what is in it\n"
    assert done.stderr == sentence


def test_an_ordinary_user_can_watch_what_a_tapper_writes_sends_and_changes() -> None:
    done = as_ordinary_user(sys.executable, "-c", AUDITS)
    assert done.stdout == "all of it\n", done.stderr


def test_where_user_namespaces_are_refused_one_sentence_says_so() -> None:
    done = as_ordinary_user("--no-user-namespaces", sys.executable, "-m", "harness.cli", "demo")
    assert done.returncode == 3, done.stderr
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("tapper-harness: without root the sandbox needs a user namespace and was refused one (")
    assert "run as root, or allow user namespaces" in sentence
    assert "sysctl user.max_user_namespaces" in sentence


def test_root_without_the_capability_is_told_which() -> None:
    drop = ["setpriv", "--bounding-set=-sys_admin"]
    argv = [*drop, sys.executable, "-m", "harness.cli", "demo"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    (sentence,) = done.stderr.splitlines()
    assert "CAP_SYS_ADMIN" in sentence


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("alice:100000:65536\n", 100000),
        ("bob:1:65536\n1000:200000:65536\n", 200000),
        ("alice:100000:10\n", None),
        ("alice:100000\nalice\n\n", None),
        ("", None),
    ],
)
def test_subordinate_ids(tmp_path: Path, lines: str, expected: int | None) -> None:
    path = tmp_path / "subuid"
    path.write_text(lines)
    assert launch._subordinate_range(str(path), "alice", 1000) == expected

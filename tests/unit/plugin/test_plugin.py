"""The plugin as a stranger uses it: from another folder, with nothing but what `pip install` has put there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pytest_elsewhere import outcome, run_pytest, write

from harness.sandbox import uprobes

REPOSITORY = Path(__file__).resolve().parents[3]
BLOCKS = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs/fixtures.md").read_text(), re.DOTALL)
EXAMPLES = [block for block in BLOCKS if "def test_" in block]


def run_example(directory: Path, source: str, *options: str, **how: Any) -> subprocess.CompletedProcess[str]:
    """Run one file of tests, where warnings are errors."""
    write(directory, {"test_example.py": source})
    return run_pytest(directory, "-W", "error", *options, **how)


def test_there_is_an_example_for_every_fixture() -> None:
    used = set(re.findall(r"def test_\w+\(([^)]*)\)", "\n".join(EXAMPLES)))
    names = {name.strip() for arguments in used for name in arguments.split(",")}
    assert {"harness_" + name for name in ("node", "pod", "wire", "fake_envoy", "mesh", "tapper")} <= names


@pytest.mark.parametrize("example", EXAMPLES, ids=[re.findall(r"def test_(\w+)", text)[0] for text in EXAMPLES])
def test_examples_of_the_documentation_pass_elsewhere(tmp_path: Path, example: str) -> None:
    done = run_example(tmp_path, example)
    expected = "1 skipped" if "--tls" in example and uprobes.refusal() is not None else "1 passed"
    assert (done.returncode, outcome(done)) == (0, expected), done.stdout


@pytest.mark.parametrize("name", ["tapper_harness", "harness.plugin"])
def test_the_plugin_can_be_named_on_the_command_line(tmp_path: Path, name: str) -> None:
    source = "def test_pod(harness_pod):\n    assert harness_pod('a').ip\n"
    done = run_example(tmp_path, source, "-p", name, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert outcome(done) == "1 passed", done.stdout


def test_a_socket_left_open_fails_the_test_that_left_it(tmp_path: Path) -> None:
    source = """
        kept = []
        def test_careless(harness_pod):
            kept.append(harness_pod("a").socket())
        def test_next_is_not_blamed(harness_pod):
            harness_pod("a")
    """
    done = run_example(tmp_path, source)
    assert outcome(done) == "2 passed, 1 error", done.stdout
    assert "left sockets open inside its node" in done.stdout


def test_a_failed_test_is_not_also_blamed_for_its_sockets(tmp_path: Path) -> None:
    source = "def test_it(harness_pod):\n    sock = harness_pod('a').socket()\n    assert sock is None\n"
    done = run_example(tmp_path, source)
    assert outcome(done) == "1 failed", done.stdout


def test_a_tapper_that_ends_badly_fails_the_test(tmp_path: Path) -> None:
    source = """
        def test_it(harness_pod, harness_tapper):
            running = harness_tapper([harness_pod("a")])
            running.wait_capturing()
            end = running.stop
            running.stop = lambda: end() + 5
    """
    done = run_example(tmp_path, source)
    assert outcome(done) == "1 passed, 1 error", done.stdout
    assert "the tapper ended with 5" in done.stdout


def test_a_failure_shows_the_nodes_logs_and_writes_evidence(tmp_path: Path) -> None:
    source = """
        def test_it(harness_pod, harness_wire):
            server = harness_pod("server")
            harness_wire(server)
            server.run(["sh", "-c", "echo said inside; exit 1"])
    """
    done = run_example(tmp_path, source, "--harness-evidence", "evidence")
    assert outcome(done) == "1 failed"
    assert "log of 001-sh" in done.stdout
    (folder,) = (tmp_path / "evidence").iterdir()
    assert (folder / "001-sh.log").read_text() == "said inside\n"
    assert (folder / "wire-0-server.pcap").stat().st_size >= 24


WITHOUT_ADMIN = ("setpriv", "--bounding-set=-sys_admin")


@pytest.mark.skipif(os.geteuid() != 0, reason="takes a capability away, which only root has")
@pytest.mark.parametrize(("option", "verdict"), [((), "1 skipped"), (("--harness-require",), "1 error")])
def test_a_machine_that_cannot_is_said_so(tmp_path: Path, option: tuple[str, ...], verdict: str) -> None:
    done = run_example(tmp_path, "def test_it(harness_node):\n    pass\n", "-rs", *option, wrapper=WITHOUT_ADMIN)
    assert outcome(done) == verdict, done.stdout
    assert "the sandbox needs CAP_SYS_ADMIN" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="takes a capability away, which only root has")
def test_in_ci_a_machine_that_cannot_is_a_failure(tmp_path: Path) -> None:
    done = run_example(tmp_path, "def test_it(harness_node):\n    pass\n", wrapper=WITHOUT_ADMIN, CI="true")
    assert outcome(done) == "1 error", done.stdout


# what a pip install of the tapper alone leaves out: importing it fails
NO_PYROUTE2 = "import sys; sys.modules['pyroute2'] = None; "


def test_without_the_extra_the_reason_names_it(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(NO_PYROUTE2)
    done = run_example(tmp_path, "def test_it(harness_node):\n    pass\n", "-rs")
    assert outcome(done) == "1 skipped", done.stdout
    assert "the package pyroute2 is not installed: pip install 'tapper-harness[harness]'" in done.stdout


def test_without_the_extra_the_command_is_a_sentence() -> None:
    program = NO_PYROUTE2 + "from harness.cli import main; sys.exit(main(['demo']))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert (
        done.stderr == "tapper-harness: the package pyroute2 is not installed: pip install 'tapper-harness[harness]'\n"
    )


def test_the_short_names_that_the_documentation_shows_are_there(tmp_path: Path) -> None:
    (conftest,) = [block for block in BLOCKS if "def test_" not in block]
    write(tmp_path, {"conftest.py": conftest})
    done = run_example(
        tmp_path, "def test_it(node, pod, wire, mesh, fake_envoy, tapper):\n    assert pod('a').node is node"
    )
    assert outcome(done) == "1 passed"

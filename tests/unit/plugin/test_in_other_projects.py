"""The plugin is loaded into every pytest of its environment: no name that another project has may be in its way."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_elsewhere import AS_COMMAND, AS_MODULE, outcome, run_pytest, write

STRICT = """
    [pytest]
    addopts = --strict-markers --strict-config
    filterwarnings = error
    xfail_strict = true
"""
OWN_PACKAGE = {
    "harness/__init__.py": "",
    "harness/answers.py": "ANSWER = 42",
    "test_own.py": "from harness.answers import ANSWER\ndef test_own():\n    assert ANSWER == 42",
}
OWN_MODULE = {
    "harness.py": "ANSWER = 42",
    "test_own.py": "import harness\ndef test_own():\n    assert harness.ANSWER == 42",
}
OWN_TESTS = {"harness/conformance/test_own.py": "def test_own():\n    pass"}
"""A folder that is no package: what is imported by its name is the installed one."""
OWN = {"package": OWN_PACKAGE, "module": OWN_MODULE, "tests": OWN_TESTS}
USES_A_FIXTURE = {"test_used.py": "def test_used(harness_pod):\n    assert harness_pod('a').ip"}


@pytest.mark.parametrize("command", [AS_MODULE, AS_COMMAND], ids=["python -m pytest", "pytest"])
@pytest.mark.parametrize("files", OWN.values(), ids=OWN)
def test_something_of_its_own_named_harness(tmp_path: Path, files: dict[str, str], command: tuple[str, ...]) -> None:
    write(tmp_path, files | {"pytest.ini": STRICT + "    pythonpath = .\n"})
    done = run_pytest(tmp_path, command=command)
    assert (outcome(done), done.stderr) == ("1 passed", "")


def test_its_own_folder_of_conformance_tests(tmp_path: Path) -> None:
    """Named on the command line, it is not taken for the kit's cases."""
    write(tmp_path, OWN_TESTS)
    assert outcome(run_pytest(tmp_path, "harness/conformance")) == "1 passed"
    write(tmp_path, {"harness/__init__.py": "", "harness/conformance/__init__.py": ""})
    assert outcome(run_pytest(tmp_path, "--pyargs", "harness.conformance")) == "1 passed"


@pytest.mark.parametrize("kind", ["package", "module"])
def test_a_fixture_beside_its_own_harness_fails_in_one_sentence(tmp_path: Path, kind: str) -> None:
    write(tmp_path, OWN[kind] | USES_A_FIXTURE)
    done = run_pytest(tmp_path)
    assert outcome(done) == "1 passed, 1 error"
    where = tmp_path / {"package": "harness/__init__.py", "module": "harness.py"}[kind]
    assert f"Python finds another one of that name first: {where}; rename that one" in done.stdout
    assert "Traceback" not in done.stdout
    assert "tapper_harness/" not in done.stdout, "no line of the plugin's own code"


MADE = {
    "of a folder": (
        """
        import sys
        from importlib import machinery, util
        spec = machinery.ModuleSpec("harness", None, is_package=True)
        spec.submodule_search_locations = ["/their/harness"]
        sys.modules["harness"] = util.module_from_spec(spec)
        """,
        "/their/harness",
    ),
    "of nothing": (
        """
        import sys, types
        sys.modules["harness"] = types.ModuleType("harness")
        """,
        "a module that was made while the program ran",
    ),
}
"""Modules of the name that no import statement has found. pytest makes one of a folder with --import-mode=importlib."""


@pytest.mark.parametrize(("conftest", "where"), MADE.values(), ids=MADE)
def test_a_fixture_beside_a_harness_that_a_program_has_made(tmp_path: Path, conftest: str, where: str) -> None:
    write(tmp_path, {"conftest.py": conftest, **USES_A_FIXTURE})
    done = run_pytest(tmp_path)
    assert outcome(done) == "1 error"
    assert f"Python finds another one of that name first: {where}; rename that one" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_fixture_beside_a_folder_that_is_no_package(tmp_path: Path) -> None:
    write(tmp_path, {"harness/notes.txt": "", **USES_A_FIXTURE})
    assert outcome(run_pytest(tmp_path)) == "1 passed"


def test_an_option_beside_its_own_harness_is_a_usage_error(tmp_path: Path) -> None:
    write(tmp_path, OWN_PACKAGE)
    done = run_pytest(tmp_path, "--pyargs", "harness.conformance", "--harness-adapter", "reference")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert done.stderr.startswith("ERROR: tapper-harness needs its own package harness (")
    assert str(tmp_path / "harness/__init__.py") in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_its_own_fixtures_by_the_short_names(tmp_path: Path) -> None:
    names = ("node", "pod", "wire", "mesh", "fake_envoy", "tapper")
    own = "\n".join(f"@pytest.fixture\ndef {name}():\n    return 'their {name}'" for name in names)
    source = """
        def test_theirs(node, pod, wire, mesh, fake_envoy, tapper):
            assert [node, pod, tapper] == ["their node", "their pod", "their tapper"]
        def test_ours(node, harness_node, harness_pod, harness_wire, harness_mesh, harness_fake_envoy, harness_tapper):
            assert node == "their node"
            server = harness_pod("server")
            assert server.node is harness_node
            harness_wire(server)
            harness_fake_envoy(server)
            harness_tapper([server]).wait_capturing(server)
            assert harness_mesh.pod("other").pod.node is harness_node
    """
    write(tmp_path, {"pytest.ini": STRICT, "conftest.py": f"import pytest\n{own}\n", "test_it.py": source})
    assert outcome(run_pytest(tmp_path)) == "2 passed"


def test_its_own_options_by_the_old_names(tmp_path: Path) -> None:
    conftest = """
        def pytest_addoption(parser):
            parser.addoption("--adapter")
            parser.addoption("--patience", type=int)
    """
    source = """
        def test_it(pytestconfig):
            assert pytestconfig.getoption("--adapter") == "mine"
            assert pytestconfig.getoption("--patience") == 7
            assert pytestconfig.getoption("--harness-adapter") is None
    """
    write(tmp_path, {"conftest.py": conftest, "test_it.py": source})
    done = run_pytest(tmp_path, "--adapter", "mine", "--patience=7")
    assert (outcome(done), done.stderr) == ("1 passed", "")


@pytest.mark.parametrize("strict", [False, True])
def test_old_names_of_options_work_with_a_warning(tmp_path: Path, strict: bool) -> None:
    """Also where warnings are errors: the warning is a line of standard error."""
    write(tmp_path, {"pytest.ini": STRICT if strict else "[pytest]\n"})
    options = ("--adapter", "reference", "--patience=3", "--collect-only", "-k", "CAP-01")
    done = run_pytest(tmp_path, "--pyargs", "harness.conformance", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_case[CAP-01]" in done.stdout
    assert done.stderr.splitlines() == [
        "tapper-harness: the option --adapter is now --harness-adapter: the old name will be removed",
        "tapper-harness: the option --patience is now --harness-patience: the old name will be removed",
    ]


def test_old_names_are_known_in_the_configuration_too(tmp_path: Path) -> None:
    write(tmp_path, {"pytest.ini": "[pytest]\naddopts = --patience 0 --adapter reference\n", "test_it.py": ""})
    done = run_pytest(tmp_path)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert done.stderr.strip().splitlines()[-1].startswith("ERROR: '0.0' is not a factor")


def test_all_options_begin_with_the_projects_name(tmp_path: Path) -> None:
    with_plugin, without = (
        set(run_pytest(tmp_path, "--help", *options).stdout.split()) for options in ((), ("-p", "no:tapper_harness"))
    )
    added = {word.partition("=")[0] for word in with_plugin - without if word.startswith("--")}
    assert {"--harness-adapter", "--harness-evidence", "--harness-patience", "--harness-require"} <= added
    assert all(name.startswith("--harness-") or name == "--pyargs" for name in added), added


def test_nothing_is_imported_before_it_is_used(tmp_path: Path) -> None:
    source = """
        import sys
        def test_it():
            assert "tapper_harness" in sys.modules
            assert not [name for name in sys.modules if name.partition(".")[0] in ("harness", "tapper")]
            assert not {"pyroute2", "scapy", "cryptography", "rich"} & set(sys.modules)
    """
    write(tmp_path, {"test_it.py": source})
    assert outcome(run_pytest(tmp_path)) == "1 passed"


def test_in_several_processes(tmp_path: Path) -> None:
    source = """
        import pytest
        @pytest.mark.parametrize("number", range(4))
        def test_it(harness_pod, number):
            assert harness_pod("a").ip
    """
    write(tmp_path, {"pytest.ini": STRICT, "test_it.py": source})
    assert outcome(run_pytest(tmp_path, "-n", "2")).endswith("4 passed")


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    write(tmp_path, OWN_PACKAGE | USES_A_FIXTURE)
    done = run_pytest(tmp_path, "-p", "no:tapper_harness")
    assert outcome(done) == "1 passed, 1 error"
    assert "fixture 'harness_pod' not found" in done.stdout


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "-n 2"])
@pytest.mark.parametrize("autoload", [True, False], ids=["autoload", "no autoload"])
def test_short_names_for_who_asks_for_them(tmp_path: Path, autoload: bool, options: tuple[str, ...]) -> None:
    source = """
        def test_it(node, pod, wire, mesh, fake_envoy, tapper):
            server = pod("server")
            assert server.node is node
            wire(server)
            fake_envoy(server)
            tapper([server]).wait_capturing(server)
            assert mesh.pod("other").pod.node is node
    """
    write(tmp_path, {"conftest.py": 'pytest_plugins = ["harness.short_names"]\n', "test_it.py": source})
    named = ("-p", "xdist") if options and not autoload else ()
    assert outcome(
        run_pytest(tmp_path, *named, *options, PYTEST_DISABLE_PLUGIN_AUTOLOAD="" if autoload else "1")
    ).endswith("1 passed")

"""The documents: every command in them is run somewhere, every link leads somewhere, nothing names a machine."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("**/*.md")])

RUN_BY = {
    **dict.fromkeys(
        (
            "tapper tap --istio --discover netns --tls --targets 10.244.0.2,10.244.0.3",
            "tapper discover --tls --targets 10.244.0.2,10.244.0.3",
        ),
        "tests/unit/adapters/test_own_tls.py::test_the_commands_of_the_document",
    ),
    "script/demo --keep": "tests/unit/demo/test_demo.py::test_keep_prints_commands_that_work",
    "tapper discover": "tests/unit/adapters/test_identity.py::test_discover_shows_claims_beside_what_is_owned",
    "tapper-harness adapter new my-tapper": "tests/unit/conformance/test_adapter_command.py",
    "script/demo": "tests/unit/demo/test_demo.py::test_script_demo_shows_that_all_five_hold",
    "script/test": "this very run, and test_script_test_runs_pytest",
    "pytest tests/e2e": "itself; .ci/run runs it",
    # There is no cluster here: what these would apply is rendered and validated, and its parts run in a sandbox.
    "kubectl apply -k fixtures/istio/tapper": "tests/unit/fixtures/test_manifests.py, test_least_privilege.py",
    "kubectl apply -k fixtures/istio/sample": "tests/unit/fixtures/test_manifests.py, test_sample.py",
    # the steps of docs/cluster.md
    "kubectl apply -f fixtures/istio/sample/namespace.yaml -f fixtures/istio/sample/server.yaml "
    "-f fixtures/istio/sample/client.yaml": "tests/unit/fixtures/test_sample.py; by hand on a cluster",
    **dict.fromkeys(
        (
            "kubectl -n tapper-sample rollout status deployment/client",
            "kubectl -n tapper-sample rollout restart deployment",
            "kubectl -n tapper-sample get pods -o wide",
            "kubectl -n tapper-sample logs deployment/client -c client",
            "kubectl -n tapper logs -l app.kubernetes.io/name=tapper --tail=-1",
            "kubectl -n tapper-sample label pod --all tapper-harness/target-",
            "kubectl delete -k fixtures/istio/sample",
            "kubectl delete -k fixtures/istio/tapper",
        ),
        "by hand on a cluster; tests/unit/fixtures/test_on_a_cluster.py, and E2E-03, 08, 28 and 35, do the same",
    ),
    # not typed on a cluster: what they start is run
    **dict.fromkeys(
        (
            "kubectl -n tapper exec daemonset/tapper -- tapper discover",
            "kubectl get --raw /api/v1/namespaces/tapper/pods/POD:9090/proxy/metrics",
        ),
        "tests/unit/fixtures/test_on_a_cluster.py::test_discover_and_metrics_in_its_pod",
    ),
}
"""The commands that stand in the documents' shell blocks, and the test that runs each, or all of it that can be run."""


def test_what_kubectl_is_given_is_there() -> None:
    for command in RUN_BY:
        if command.startswith("kubectl") and " -k " in command:
            assert (REPOSITORY / command.rpartition(" ")[2] / "kustomization.yaml").is_file(), command


OF_OTHERS = {"--pyargs", "--junitxml", "--tail", "--raw"}
"""Options of pytest and kubectl that the documents name."""


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def files_of_the_project() -> list[Path]:
    """Everything but what is made: caches, the virtual environment, git's own."""
    made = {
        ".git",
        ".venv",
        ".venv-bench",
        ".mypy_cache",
        ".ruff_cache",
        ".pytest_cache",
        ".hypothesis",
        "__pycache__",
        "build",
        "dist",
    }
    found = []
    for folder, names, files in os.walk(REPOSITORY):
        names[:] = [name for name in names if name not in made and not name.endswith(".egg-info")]
        found += [Path(folder) / name for name in files if name != ".git" and not name.endswith(".so")]
    return found


def test_every_shell_command_is_one_that_a_test_runs() -> None:
    found = set()
    for document in DOCUMENTS:
        for block in re.findall(r"```(?:sh|console|bash|shell)\n(.*?)```", text_of(document), re.DOTALL):
            found |= {line.partition("#")[0].strip() for line in block.splitlines()} - {""}
    assert found == set(RUN_BY)


def test_script_test_runs_pytest() -> None:
    """The README's second command; here it only collects, since what it runs is running now."""
    argv = [
        str(REPOSITORY / "script/test"),
        "--collect-only",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "test_readme_links",
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 5), done.stdout + done.stderr
    assert "deselected" in done.stdout


def anchors(page: Path) -> set[str]:
    """The headings as GitHub names them in addresses."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", text_of(document)):
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        page = document.parent / target if target else document
        assert page.exists(), f"{document.name} links to {link}, which is not there"
        assert not anchor or anchor in anchors(page), f"{document.name} links to {link}, and no heading is called so"


def test_documents_that_are_mentioned_exist() -> None:
    for document in DOCUMENTS:
        for name in re.findall(r"\bdocs/[\w./-]+\.(?:md|svg)", text_of(document)):
            assert (REPOSITORY / name).exists(), f"{document.name} mentions {name}, which is not there"


def test_options_in_the_documents_exist() -> None:
    """`--something` in a document is an option of one of our commands, or of a program that we name."""
    folders = ("tapper", "harness", "tapper_harness", "bench", "tests/e2e")
    sources = [source for folder in folders for source in (REPOSITORY / folder).rglob("*.py")]
    sources.append(REPOSITORY / "hatch_build.py")  # which is script/compile
    ours = "".join(map(text_of, sources))
    for document in DOCUMENTS:
        if document.name == "tappers.md":  # what others' programs said
            continue
        for option in set(re.findall(r"(?<![\w-])--[a-z][\w-]+", text_of(document))) - OF_OTHERS:
            assert f'"{option}"' in ours, f"{document.name} mentions {option}, which nothing takes"


def test_nothing_names_a_package_host_or_a_machine() -> None:
    hosts = re.compile(
        "|".join(("pypi" + r"\.org", "python" + "hosted", r"deb\.debian" + r"\.org", "registry" + r"\.npmjs"))
    )
    home = re.compile(r"/(?:root|home/\w+|work)/\w")
    for path in files_of_the_project():
        if path.suffix in {".png", ".pcap", ".bin"}:
            continue
        content = text_of(path)
        assert not hosts.search(content), f"{path} names a package host"
        assert not home.search(content), f"{path} names a path of one machine"

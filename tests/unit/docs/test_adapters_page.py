"""docs/adapters.md: its example is run as it stands there, and its tables have everything that the contract has."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml
from kit_command import command

from harness.adapters import contract, records
from harness.adapters.contract import Feature
from harness.conformance.record import PARTIAL

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "adapters.md").read_text()
EXAMPLE = PAGE.partition("## An example, from nothing")[2].partition("\n## ")[0]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def write_example(directory: Path) -> None:
    peek, run = blocks(EXAMPLE, "python")
    (adapter,) = blocks(EXAMPLE, "toml")
    for name, text in (("peek.py", peek), ("run.py", run), ("adapter.toml", adapter)):
        (directory / name).write_text(text)


def test_the_example_works_as_it_stands_there(tmp_path: Path) -> None:
    write_example(tmp_path)
    done = command(tmp_path, "adapter", "try", "adapter.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    (promised,) = blocks(EXAMPLE, "text")
    assert _shape(done.stdout)[: len(_shape(promised))] == _shape(promised)


def test_the_example_passes_every_case_that_it_is_asked(tmp_path: Path) -> None:
    """All of `check`, which takes a minute: the exit code is that of a run in which discovery is delegated."""
    write_example(tmp_path)
    options = ("--report", "report", "--jobs", "2", "--patience", "3")
    done = command(tmp_path, "check", "--adapter", "adapter.toml", *options, limit_s=900)
    assert done.returncode == PARTIAL, done.stdout + done.stderr
    results = yaml.safe_load((tmp_path / "report" / "report.yaml").read_text())["results"]
    outcomes = {result["case"]: result["outcome"] for result in results}
    assert {name for name, outcome in outcomes.items() if outcome == "non-strict"} <= {"LOAD-03"}
    assert set(outcomes.values()) <= {"pass", "non-strict", "not-claimed", "delegated", "deselected"}
    assert {outcomes[name] for name in ("CAP-02", "CAP-04", "CAP-11", "LIFE-06", "SEC-05")} == {"pass"}


def _shape(output: str) -> list[str]:
    """The lines without what differs from run to run."""
    return [re.sub(r"Started: .*|[\d.]+ s|nonce-\S+|10\.244\.\S+", "…", line) for line in output.strip().splitlines()]


def test_the_example_of_a_record_is_one() -> None:
    documents = [json.loads(block) for block in blocks(PAGE, "json")]
    assert len(documents) == 2
    (record,) = [document for document in documents if document.get("type") == "http"]
    seen = records.exchange(record)
    assert seen.response is not None
    assert seen.response.body == b"ok\n"
    shown = next(document for document in documents if "pods" in document)
    assert set(shown) == set(json.loads(contract.targets_document(1, [])))


def test_every_variable_and_every_claim_is_explained() -> None:
    told = contract.environment(procfs="", targets_file="", target_ips=(), output="", ready_fd=None, state="")
    assert set(re.findall(r"^\| `(TAPPER_HARNESS_\w+)`", PAGE, re.MULTILINE)) == set(told)
    table = PAGE.partition("## What to claim")[2].partition("## Ending")[0]
    claimed = {
        name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`([\w.]+)`", row)
    }
    assert claimed == {feature.value for feature in Feature}


def test_every_key_is_explained() -> None:
    table = PAGE.partition("## The file")[2].partition("## What to claim")[0]
    for section, properties in contract.schema()["properties"].items():
        for key in properties.get("properties", {}):
            assert re.search(rf"`(?:{section})?\.{key}\b", table), f"{section}.{key} is not explained"
        assert f"`{section}" in table, f"{section} is not explained"

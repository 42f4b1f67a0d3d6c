"""docs/adapters.md: its example is run as it stands there, and its tables have everything that the contract has."""

from __future__ import annotations

import json
import re
from pathlib import Path

from kit_command import command

from harness.adapters import contract, records
from harness.adapters.contract import Feature

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "adapters.md").read_text()
EXAMPLE = PAGE.partition("## An example, from nothing")[2]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_example_works_as_it_stands_there(tmp_path: Path) -> None:
    peek, run = blocks(EXAMPLE, "python")
    (adapter,) = blocks(EXAMPLE, "toml")
    for name, text in (("peek.py", peek), ("run.py", run), ("adapter.toml", adapter)):
        (tmp_path / name).write_text(text)
    done = command(tmp_path, "adapter", "try", "adapter.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    (promised,) = blocks(EXAMPLE, "text")
    assert _shape(done.stdout)[: len(_shape(promised))] == _shape(promised)
    done = command(tmp_path, "check", "--adapter", "adapter.toml", "--case", "CAP-01", "--case", "CAP-03")
    assert done.returncode == 0, done.stdout + done.stderr


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

"""report.yaml: the canonical report, from which all others are made. report.schema.json, beside this, describes it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from harness.adapters.contract import Implementation
from harness.conformance.model import Result
from harness.conformance.record import CaseRow, ClusterRun, Environment, RunRecord
from harness.errors import HarnessError, Unsupported

NAME = "report.yaml"
_PROBE = 64 << 10  # bytes
SCHEMA_VERSION = 1
_SCHEMA = Path(__file__).with_name("report.schema.json")
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class ReportError(HarnessError):
    """A broken report: the message names the file, the key and the reason."""


def write(record: RunRecord, directory: Path) -> Path:
    """Replace the report in a folder atomically. Returns its path.

    Raises `Unsupported` if it cannot be written, on a full disk for instance; the old report stays.
    """
    path = directory / NAME
    fresh = directory / f".{NAME}.{os.getpid()}"
    head = _yaml(plain(replace(record, rows=()))).removesuffix(" []\n")  # the last key is `results`
    with told_where(directory):
        try:
            fresh.write_text("".join([head, "\n", *map(_entry, record.rows)]))
            fresh.replace(path)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
    return path


@contextmanager
def told_where(directory: Path) -> Iterator[None]:
    """Turn an OSError while writing into a run's folder into `Unsupported`, with a sentence."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise Unsupported(
            f"the report in {directory} cannot be written: {reason}; make room there, or name another folder (--report)"
        ) from None


def why_full(directory: Path) -> str | None:
    """A sentence if a run's folder takes no more; None if it does."""
    probe = directory / f".probe.{os.getpid()}"
    try:
        probe.write_bytes(bytes(_PROBE))
    except OSError as error:
        return (
            f"the folder {directory} of the report takes no more: {(error.strerror or str(error)).lower()} (--report)"
        )
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    return None


def keep_error(directory: Path, text: str) -> None:
    """Write the traceback of a kit's fault beside a case's evidence.

    A failure to write it is ignored: the result has the sentence, which a full disk must not lose.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "kit-error.txt").write_text(text)
    except OSError:
        pass


@lru_cache(maxsize=1024)
def _entry(row: CaseRow) -> str:
    """The lines of a result in the report, cached: a run writes each many times, and YAML is slow."""
    return _yaml([_plain_row(row)])


def _yaml(document: object) -> str:
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=120)
    return text


def load(path: Path) -> RunRecord:
    """Read a report, or the one in a folder. Raises `ReportError`."""
    path = path / NAME if path.is_dir() else path
    try:
        document = yaml.load(path.read_text(), Loader=_Loader)
    except OSError as error:
        raise ReportError(f"{path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ReportError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    worst = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema()).iter_errors(document))
    if worst is not None:
        where = ".".join(str(part) for part in worst.absolute_path) or "the file"
        raise ReportError(f"{path}: {where}: {worst.message}")
    return _record(document)


@cache
def schema() -> dict[str, Any]:
    """The JSON Schema of reports."""
    document: dict[str, Any] = json.loads(_SCHEMA.read_text())
    return document


def plain(record: RunRecord) -> dict[str, Any]:
    """The data of a record, as in the file."""
    return {
        "schema_version": SCHEMA_VERSION,
        "suite": {"version": record.suite_version, "sha256": record.suite_sha256},
        "adapter": {
            "file": record.adapter_file,
            "sha256": record.adapter_sha256,
            "implementation": asdict(record.implementation),
            "claims": list(record.claims),
        },
        "environment": asdict(record.environment),
        "run": {
            "started": record.started,
            "seconds": round(record.seconds, 3),
            "patience": record.patience,
            "jobs": record.jobs,
            "asked_profiles": list(record.asked_profiles),
            "asked_cases": list(record.asked_cases),
            "finished": record.finished,
            **({} if record.cluster is None else {"cluster": asdict(record.cluster)}),
        },
        "profiles": dict(record.profiles),
        "results": [_plain_row(row) for row in record.rows],
    }


def _plain_row(row: CaseRow) -> dict[str, Any]:
    result = {name: _writable(value) for name, value in row.result.plain().items() if name != "charges"}
    return {
        "case": result.pop("case"),
        "outcome": result.pop("outcome"),
        "level": row.level,
        "requirement": row.requirement,
        "source": row.source,
        "features": list(row.features),
        "profiles": list(row.profiles),
        **result,
        "seconds": round(row.result.seconds, 3),
    }


def _writable(value: Any) -> Any:
    """Text without surrogates, which text from a tapper may have and no file can hold."""
    if isinstance(value, list):
        return [_writable(each) for each in value]
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _record(document: Mapping[str, Any]) -> RunRecord:
    adapter, run = document["adapter"], document["run"]
    return RunRecord(
        suite_version=document["suite"]["version"],
        suite_sha256=document["suite"]["sha256"],
        adapter_file=adapter["file"],
        adapter_sha256=adapter["sha256"],
        implementation=Implementation(**adapter["implementation"]),
        claims=tuple(adapter["claims"]),
        environment=Environment(**document["environment"]),
        started=run["started"],
        seconds=run["seconds"],
        patience=run["patience"],
        jobs=run["jobs"],
        asked_profiles=tuple(run["asked_profiles"]),
        asked_cases=tuple(run["asked_cases"]),
        finished=run["finished"],
        profiles=document["profiles"],
        rows=tuple(map(_row, document["results"])),
        cluster=_cluster_run(run.get("cluster")),
    )


def _cluster_run(entry: Mapping[str, Any] | None) -> ClusterRun | None:
    return None if entry is None else ClusterRun(tuple(entry["options"]), entry["limits"], entry["jobs"])


def _row(entry: Mapping[str, Any]) -> CaseRow:
    result = dict(entry)
    return CaseRow(
        level=result.pop("level"),
        requirement=result.pop("requirement"),
        source=result.pop("source"),
        features=tuple(result.pop("features")),
        profiles=tuple(result.pop("profiles")),
        result=Result.of(result),
    )

"""The adapter contract, version 1: a TOML file that says how to run a tapper and what it claims.

adapter.schema.json, beside this module, describes the file; docs/adapters.md explains it. `environment` makes the
variables that the tapper gets, `targets_document` its targets file.
"""

from __future__ import annotations

import enum
import hashlib
import json
import re
import signal
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from harness.adapters import problems, programs
from harness.errors import HarnessError

VERSION = 1
ENVIRON_PREFIX = "TAPPER_HARNESS_"
DEFAULT_RATE = 1000
"""The default rate that a tapper has to keep up with, in exchanges a second."""
_SCHEMA = Path(__file__).with_name("adapter.schema.json")


class AdapterError(HarnessError):
    """A broken adapter file: the message names the file, the key and the reason."""


class Feature(enum.StrEnum):
    """The features that a tapper may claim. A case that needs a feature is run for tappers that claim it."""

    DISCOVERY_ENVOY = "discovery.envoy"
    DISCOVERY_LINKERD = "discovery.linkerd"
    DISCOVERY_AMBIENT = "discovery.ambient"
    TARGETS_DYNAMIC = "targets.dynamic"
    PACKETS = "packets"
    HTTP1 = "http1"
    HTTP2 = "http2"
    GRPC = "grpc"
    WEBSOCKET = "websocket"
    STREAMING = "streaming"
    IPV6 = "ipv6"
    DIRECTION = "direction"
    POD_IDENTITY = "pod_identity"
    VERIFIED_IDENTITY = "verified_identity"
    MIDSTREAM = "midstream"
    DROP_COUNTERS = "drop_counters"
    REDACTION = "redaction"
    TLS = "tls"


class Update(enum.StrEnum):
    """How a tapper learns that its targets have changed, once the file is rewritten."""

    NONE = "none"
    WATCH = "watch"
    SIGHUP = "sighup"
    EXEC = "exec"


@dataclass(frozen=True, slots=True)
class Implementation:
    """The tapper's name, maker and version, as the report shows them."""

    name: str
    organization: str
    url: str
    version: str
    contact: str


@dataclass(frozen=True, slots=True)
class Exemption:
    """A case that the adapter leaves out, and why."""

    reason: str
    url: str


@dataclass(frozen=True, slots=True)
class InCluster:
    """How the tapper runs in a cluster: its table `cluster`."""

    manifest: Path
    """A file of YAML documents, or a folder with a kustomization.yaml; one of the documents is a DaemonSet."""
    image: str | None
    """Replaces the image of the manifest."""
    container: str | None
    """The tapper's container, if the DaemonSet has several."""
    argv: tuple[str, ...]
    """Replaces the container's command and arguments; empty keeps the manifest's."""
    update: Update
    """`watch` or `none`: nobody can send a signal into a container or run a hook there."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """The content of the file, with every default filled in and every path absolute."""

    file: Path
    sha256: str
    """SHA-256 of the file's bytes, in hexadecimal."""
    implementation: Implementation
    argv: tuple[str, ...]
    env: Mapping[str, str]
    programs: tuple[str, ...]
    """The programs that have to be installed besides argv[0], by names or paths."""
    ready_by_fd: bool
    ready_line: re.Pattern[str] | None
    """The pattern of the line of standard error with which it says that it is ready, if it says so that way."""
    stop_signal: signal.Signals
    stop_grace_s: float
    capabilities: frozenset[str] | None
    format: str
    """`ndjson`, `pcapng` or `pcap`."""
    to: str
    """`stdout`, `file` or `directory`."""
    update: Update
    update_argv: tuple[str, ...]
    delegates_discovery: bool
    claims: frozenset[Feature]
    exempt: Mapping[str, Exemption] = field(default_factory=dict)
    cluster: InCluster | None = None
    """None if it cannot be run in a cluster."""
    rate: int = DEFAULT_RATE
    """The rate that it claims to keep up with, in exchanges a second."""

    @property
    def folder(self) -> Path:
        return self.file.parent

    @property
    def claims_answers(self) -> bool:
        """Whether the tapper claims to report answers: it decodes HTTP, or writes packets, also those of answers."""
        return not self.claims.isdisjoint({Feature.HTTP1, Feature.HTTP2, Feature.PACKETS})


def load(path: Path, *, installed: bool = True) -> Adapter:
    """Read an adapter file. Raises `AdapterError`, which names the wrong key and the reason.

    Also checks that the tapper can be started, and asks it for its version; with `installed=False` neither is done, and
    a version that a command would print is "?".
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AdapterError(f"{path} cannot be read: {error.strerror}") from None
    try:
        document = tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise AdapterError(f"{path} is not TOML: {error}") from None
    _validate(path, document)
    file = path.resolve()
    run, output, targets = document["run"], document["output"], document.get("targets", {})
    update = targets.get("update", "none")
    executed = update["exec"] if isinstance(update, dict) else ()
    update = Update.EXEC if executed else Update(update)
    ready = run.get("ready", "none")
    adapter = Adapter(
        file=file,
        sha256=hashlib.sha256(content).hexdigest(),
        implementation=_implementation(document["implementation"]),
        argv=_argv(file, run["argv"]),
        env=run.get("env", {}),
        programs=_argv(file, run.get("programs", ())),
        ready_by_fd=ready == "fd",
        ready_line=_regex(path, ready["stderr"]) if isinstance(ready, dict) else None,
        stop_signal=_signal(path, run.get("stop_signal", "SIGTERM")),
        stop_grace_s=float(run.get("stop_grace_s", 5)),
        capabilities=frozenset(run["capabilities"]) if "capabilities" in run else None,
        format=output["format"],
        to=output.get("to", "stdout"),
        update=update,
        update_argv=_argv(file, executed),
        delegates_discovery=targets.get("discovery", "own") == "kit",
        claims=frozenset(Feature(claim) for claim in document["features"]["claims"]),
        exempt={name: Exemption(**exemption) for name, exemption in document.get("exempt", {}).items()},
        cluster=_in_cluster(file, document["cluster"], update) if "cluster" in document else None,
        rate=document.get("limits", {}).get("rate", DEFAULT_RATE),
    )
    if not installed:
        return adapter
    missing = programs.missing(adapter)
    if missing:
        raise AdapterError(f"{path}: {missing}")
    version = document["implementation"]["version"]
    if isinstance(version, str):
        return adapter
    try:
        printed = programs.version(adapter, _argv(file, version["exec"]))
    except programs.Unanswered as error:
        raise AdapterError(f"{path}: implementation.version.exec: {error}") from None
    return replace(adapter, implementation=replace(adapter.implementation, version=printed))


@cache
def schema() -> dict[str, Any]:
    """The JSON Schema of adapter files."""
    document: dict[str, Any] = json.loads(_SCHEMA.read_text())
    return document


def targets_document(generation: int, pods: Iterable[Mapping[str, Any]]) -> str:
    """The targets file: `{"generation": N, "pods": [{"uid", "namespace", "name", "ips"}]}`."""
    return json.dumps({"generation": generation, "pods": list(pods)}) + "\n"


def environment(
    *,
    procfs: str,
    targets_file: str,
    target_ips: Iterable[str],
    output: str,
    ready_fd: int | None,
    state: str,
    read_tls: bool = False,
) -> dict[str, str]:
    """The environment variables of the contract, with the adapter's own `env`. Paths are as the tapper sees them.

    `read_tls` asks a tapper to read what applications encrypt themselves (claim `tls`).
    """
    variables = {
        "CONTRACT": str(VERSION),
        "PROCFS": procfs,
        "INTERFACE": "lo",
        "TARGETS_FILE": targets_file,
        "TARGET_IPS": ",".join(target_ips),
        "OUTPUT": output,
        "READY_FD": "" if ready_fd is None else str(ready_fd),
        "STATE_DIR": state,
        "TLS": "1" if read_tls else "",
    }
    return {ENVIRON_PREFIX + name: value for name, value in variables.items()}


def _validate(path: Path, document: dict[str, Any]) -> None:
    import jsonschema  # noqa: PLC0415 - a tenth of a second, and only here

    errors = list(jsonschema.Draft202012Validator(schema()).iter_errors(document))
    if errors:
        reasons = dict.fromkeys(sentence for error in errors for sentence in problems.sentences(error))
        raise AdapterError(f"{path}: {'; '.join(reasons)}")
    claims, update = document["features"]["claims"], document.get("targets", {}).get("update", "none")
    if (Feature.TARGETS_DYNAMIC in claims) != (update != "none"):
        raise AdapterError(
            f"{path}: features.claims and targets.update disagree: targets.dynamic is claimed by those, and only "
            "those, that have another update than none"
        )
    output = document["output"]
    if output["format"] == "ndjson" and output.get("to") == "directory":
        raise AdapterError(f"{path}: output.to: records go to stdout or to one file; a directory is for packets")
    if "cluster" in document:
        _validate_cluster(path, document, update)


def _validate_cluster(path: Path, document: dict[str, Any], update: Any) -> None:
    """The rules for a DaemonSet that the schema cannot express."""
    output = document["output"]
    if output["format"] != "ndjson" and output.get("to", "stdout") == "stdout":
        raise AdapterError(
            f"{path}: output.to: in a cluster the standard output of a container is a log of lines, which cannot carry "
            "packets: write them to a file or a directory, or leave the table cluster out"
        )
    if document.get("targets", {}).get("discovery", "own") == "kit":
        raise AdapterError(
            f"{path}: targets.discovery: in a cluster nobody knows a pod's process id but the tapper on its node: "
            "leave the table cluster out"
        )
    if update not in ("none", "watch") and "update" not in document["cluster"]:
        raise AdapterError(
            f"{path}: cluster.update: is missing: in a cluster nobody can send a signal or run a hook beside the "
            "tapper; say whether it watches the targets file (watch) or not (none)"
        )


def _implementation(table: dict[str, Any]) -> Implementation:
    return Implementation(**(table | {"version": table["version"] if isinstance(table["version"], str) else "?"}))


def _in_cluster(file: Path, table: dict[str, Any], update: Update) -> InCluster:
    return InCluster(
        manifest=(file.parent / table["manifest"]).resolve(),
        image=table.get("image"),
        container=table.get("container"),
        argv=tuple(table.get("argv", ())),
        update=Update(table.get("update", update)),
    )


def _argv(file: Path, argv: Iterable[str]) -> tuple[str, ...]:
    """Command line with absolute paths: ./ and ../ are relative to the adapter, {python} is the kit's interpreter."""
    own = [str(file.parent / part) if part.startswith(("./", "../")) else part for part in argv]
    return tuple(sys.executable if part == "{python}" else part for part in own)


def _regex(path: Path, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise AdapterError(f"{path}: run.ready.stderr: {pattern!r} is no regular expression: {error}") from None


def _signal(path: Path, name: str) -> signal.Signals:
    try:
        return signal.Signals[name]
    except KeyError:
        raise AdapterError(f"{path}: run.stop_signal: there is no signal {name} on this machine") from None

"""The common parts of the scripts that play a hub for mizu's tapper and for Kubeshark's worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}


def pods() -> list[dict[str, Any]]:
    """The targets as Kubernetes describes pods, as far as these tappers read them: they know one address of each."""
    listed = json.loads(Path(os.environ["TAPPER_HARNESS_TARGETS_FILE"]).read_text())["pods"]
    return [
        {
            "metadata": {"name": pod["name"], "namespace": pod["namespace"], "uid": pod["uid"]},
            "status": {"podIP": pod["ips"][0]},
        }
        for pod in listed
    ]


def endpoint(address: str, port: str) -> str:
    """Write a record of the contract."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def write(record: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


def hold_signals() -> None:
    """Call it before any thread exists: `serve` waits for the signals."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def start(argv: Sequence[str], environ: Mapping[str, str], folder: str) -> subprocess.Popen[bytes]:
    """Start the tapper; all its output goes to standard error."""
    return subprocess.Popen(argv, env=environ, cwd=folder, stdout=sys.stderr, preexec_fn=_let_signals_pass)  # noqa: PLW1509


def serve(process: subprocess.Popen[bytes], tell_targets: Callable[[], None]) -> int:
    """Send the targets, again at every SIGHUP, until asked to end or until the tapper ends by itself."""
    asked: signal.Signals = signal.SIGHUP
    while asked is signal.SIGHUP:
        tell_targets()
        asked = signal.Signals(signal.sigwait(_SIGNALS))
    if asked is not signal.SIGCHLD:
        process.send_signal(signal.SIGINT)  # wakes whichever of them waits
    return process.wait()


def _let_signals_pass() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

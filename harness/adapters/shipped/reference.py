"""Runs the reference tapper by the adapter contract: the kit's environment variables become options."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

gc.disable()  # nothing that is imported is garbage
from tapper.cli import main  # noqa: E402 - see above

gc.enable()


def arguments() -> list[str]:
    """The tapper's command line, with the caller's further options."""
    if sys.argv[1:] == ["--version"]:
        return ["--version"]
    names = ("PROCFS", "TARGETS_FILE", "OUTPUT", "READY_FD")
    contract = {name: os.environ[f"TAPPER_HARNESS_{name}"] for name in names}
    return [
        *("tap", "--istio", "--discover", "envoy", "--discover", "linkerd", "-o", "ndjson"),
        *("--procfs", contract["PROCFS"], "--targets-file", contract["TARGETS_FILE"], "-w", contract["OUTPUT"]),
        *(("--ready-fd", contract["READY_FD"]) if contract["READY_FD"] else ()),
        *(("--tls", "--discover", "netns") if os.environ.get("TAPPER_HARNESS_TLS") else ()),
        *sys.argv[1:],
    ]


if __name__ == "__main__":
    sys.exit(main(arguments()))

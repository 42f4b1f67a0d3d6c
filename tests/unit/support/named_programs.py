"""Processes whose executable has a name of one's choice, inside pods."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from harness.sandbox.pod import Pod
from harness.sandbox.process import Command, Process
from harness.waiting import wait_until


def start_named(pod: Pod, name: str, env: Mapping[str, str]) -> Process:
    """A copy of this interpreter under another name, which does nothing; at most one a pod and name."""
    interpreter = os.path.realpath(sys.executable)
    directory = pod.node.run_dir / f"{name}-{pod.name}"
    directory.mkdir()
    (directory / "pyvenv.cfg").write_text(f"home = {Path(interpreter).parent}\n")
    shutil.copy(interpreter, directory / name)
    program = "import signal; print('up', flush=True); signal.pause()"
    process = pod.spawn(Command([pod.node.inside(directory / name), "-I", "-S", "-c", program], env=env), name=name)
    wait_until(lambda: "up" in process.read_log(), f"{name} to be up", logs=process.read_log)
    return process

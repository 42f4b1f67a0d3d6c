"""Programs of this interpreter, with its packages, inside pods."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from harness.mesh.mesh import MeshPod
from harness.sandbox.pod import Pod
from harness.sandbox.process import MINIMAL_ENVIRON, Command, Process


def python(pod: Pod, program: str, *arguments: str, tmp_path: Path) -> Command:
    """A program for this interpreter, with its packages, to be run in a pod."""
    script = pod.node.run_dir / f"{tmp_path.name}-{len(list(pod.node.run_dir.iterdir()))}.py"
    script.write_text(textwrap.dedent(program))
    return Command([sys.executable, "-W", "error", pod.node.inside(script), *arguments], env=MINIMAL_ENVIRON)


def start(member: MeshPod, program: str, *arguments: str, tmp_path: Path) -> Process:
    """Start a program that prints `ready` once it is."""
    process = member.pod.spawn(python(member.pod, program, *arguments, tmp_path=tmp_path), stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n", process.read_log()
    return process

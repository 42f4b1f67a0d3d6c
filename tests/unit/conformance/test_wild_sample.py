"""A few wild mutants, other ones with every commit. One that no case finds is a fault of the kit, and printed."""

from __future__ import annotations

import datetime
import re
import subprocess
import sys

from adapter_files import REPOSITORY
from kit_command import COMMAND, ENVIRON

COUNT = 4
SURVIVOR = re.compile(r"^(\S+) is not found by ", re.MULTILINE)


def seed() -> int:
    """The same for one commit, so that a run can be repeated; without git, the same for one day."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return int(done.stdout[:8], 16) if done.returncode == 0 else datetime.datetime.now(datetime.UTC).toordinal()


def test_a_sample_of_wild_mutants_is_found() -> None:
    arguments = ["mutants", "--wild", str(COUNT), "--seed", str(seed())]
    done = subprocess.run([*COMMAND, *arguments], env=ENVIRON, capture_output=True, text=True, check=False, timeout=600)
    sys.stdout.write(done.stdout)
    again = f"Again: tapper-harness {' '.join(arguments)}"
    assert done.returncode in (0, 1), f"{again}\n{done.stderr[-2000:]}"
    assert again in done.stdout
    assert SURVIVOR.findall(done.stdout) == [], f"{again}\n{done.stdout}"

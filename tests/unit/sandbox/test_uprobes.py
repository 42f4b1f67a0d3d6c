"""Whether the kernel attaches uprobes: for root it does, in a user namespace it does not, and a sentence says why."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.sandbox import uprobes

REPOSITORY = Path(__file__).resolve().parents[3]
_ASK = "from harness.sandbox import uprobes; print(uprobes.refusal())"


def test_the_kernel_is_asked() -> None:
    why_not = uprobes.refusal()
    if os.environ.get("CI") and os.geteuid() == 0:
        assert why_not is None
    assert why_not is None or not why_not.endswith(".")


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a user namespace in which the caller is root, which only root can")
def test_a_user_namespace_is_refused() -> None:
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", sys.executable, "-c", _ASK],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    assert done.stdout.strip().endswith("run the kit as root")

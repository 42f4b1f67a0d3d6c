"""A process that runs cases, one at a time: orders come as lines of JSON, results go as lines of JSON.

Started by `harness.conformance.schedule`; python -m harness.conformance.worker
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from harness.adapters import contract
from harness.adapters.contract import Adapter
from harness.conformance.catalogue import cases
from harness.conformance.generated import plan_file, planned
from harness.conformance.model import Case
from harness.conformance.mutants.catalogue import named
from harness.conformance.run import run
from harness.sandbox import syscalls

MUTANT = "mutant:"
PLAN = "plan:"
_BEFORE_THE_LIMIT = 0.95
_AT_ONCE_S = 0.001


def main() -> None:
    """Work until there are no more orders, or the run that gave them is dead."""
    syscalls.set_death_signal(signal.SIGKILL)
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # keep the output of cases and packages out of the answers
        for line in sys.stdin:
            order = json.loads(line)
            if os.getppid() != order["run"]:
                return  # the run was killed between the order and the death signal
            left = order["deadline"] - time.monotonic()  # one clock for all processes: CLOCK_MONOTONIC
            late = threading.Timer(max(left * _BEFORE_THE_LIMIT, _AT_ONCE_S), tell_where_it_is)
            late.daemon = True
            late.start()
            result = run(_tried(order), adapter(order["adapter"]), Path(order["directory"]), order["patience"])
            late.cancel()
            answers.write(json.dumps(result.plain()) + "\n")
            answers.flush()


def _tried(order: Mapping[str, str]) -> Case:
    """The case of an order: for a mutant its shorter form."""
    asked = case(order["case"])
    return asked.shortened() if order["adapter"].startswith(MUTANT) else asked


def tell_where_it_is() -> None:
    """Write the stack of each other thread to standard error.

    faulthandler's timer would read the frames of threads that go on meanwhile, and may crash on them.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        if ident != threading.get_ident():
            stack = "".join(traceback.format_stack(frame))
            sys.stderr.write(f"It is late. Thread {names.get(ident, ident)}, the innermost call last:\n{stack}")
    sys.stderr.flush()


def case(name: str) -> Case:
    """A case by its id, or by `plan:` and the file of a plan."""
    return planned.case_of(plan_file.load(Path(name.removeprefix(PLAN)))) if name.startswith(PLAN) else cases()[name]


@cache
def adapter(name: str) -> Adapter:
    """An adapter by its file, or by `mutant:` and a mutant's name."""
    return named(name.removeprefix(MUTANT)).adapter() if name.startswith(MUTANT) else contract.load(Path(name))


if __name__ == "__main__":
    main()

"""A wrong tapper: the reference, with one of the filters of harness.conformance.mutants.conversations over its output.

python run_wrongly.py NAME, run by the kit as an adapter's command.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator

from harness.conformance.mutants import conversations
from harness.conformance.mutants.conversations import Record

READY_FD = 3


def main() -> int:
    change = getattr(conversations, sys.argv[1])
    reference = [sys.executable, "-m", "harness.adapters.shipped.reference"]
    with subprocess.Popen(reference, stdout=subprocess.PIPE, pass_fds=[READY_FD]) as child:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda received, _: child.send_signal(received))

        def records() -> Iterator[Record]:
            assert child.stdout is not None
            return map(json.loads, child.stdout)

        for record in change(records()):
            sys.stdout.write(json.dumps(record) + "\n")
            sys.stdout.flush()
        child.terminate()  # where the filter has ended before it
    return child.returncode


if __name__ == "__main__":
    sys.exit(main())

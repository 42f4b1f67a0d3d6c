"""Runs one capturing program for each target pod, in that pod's network namespace (nsenter(1)).

    per_pod.py tcpdump …        the program and its options; {file} stands for the pod's file of packets

Which process is in which namespace is the kit's knowledge: the cases about discovery are delegated.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path


def main() -> int:
    output = Path(os.environ["TAPPER_HARNESS_OUTPUT"])
    pods = json.loads(Path(os.environ["TAPPER_HARNESS_TARGETS_FILE"]).read_text())["pods"]
    running = []
    for pod in pods:
        # the contract takes pod_identity from the file's name; pods of two namespaces may have one name, but
        # no common address
        file = str(output / f"{pod['ips'][0]}.pcap")
        program = [part.format(file=file) for part in sys.argv[1:]]
        entering = ["nsenter", "--net", "--target", str(pod["pid"]), "--", *program]
        running.append(subprocess.Popen(entering, preexec_fn=_listen_to_signals))  # noqa: PLW1509 - no threads here
    asked = signal.sigwait({signal.SIGTERM, signal.SIGINT})
    for process in running:
        process.send_signal(asked)
    codes = {process.wait() for process in running}
    return max(codes - {-asked}, default=0)  # its end by the signal is a good end


def _listen_to_signals() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    sys.exit(main())

"""tshark in every target pod's network namespace; a request and its answer, as tshark pairs them, become a record.

tshark names the frame of a response's request (http.request_in), so all that is done here is to remember requests until
then. A request that is never answered is written at the end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

FIELDS = (
    *("frame.number", "frame.time_epoch", "ip.src", "ipv6.src", "tcp.srcport", "ip.dst", "ipv6.dst", "tcp.dstport"),
    *("http.request.method", "http.request.uri", "http.response.code", "http.request_in"),
    *("http.request.line", "http.response.line", "http.chunked_trailer_part"),
)
_SEPARATOR, _BETWEEN = "\x1f", "\x1e"
_writing = threading.Lock()


def endpoint(fields: dict[str, str], side: str) -> str:
    address, port = fields[f"ip.{side}"], fields[f"tcp.{side}port"]
    return f"{address}:{port}" if address else f"[{fields[f'ipv6.{side}']}]:{port}"


def message(fields: dict[str, str], line: str, alone: bool) -> dict[str, object]:
    """A message of the contract. If several messages end in one frame (not `alone`), tshark does not say whose a header
    line is: they get none."""
    known = {"headers": pairs(fields[line]), "trailers": pairs(fields["http.chunked_trailer_part"])} if alone else {}
    return {**known, "truncated": True}  # tshark gives bodies in a form that differs by version


def pairs(value: str) -> list[list[str]]:
    """Header lines, with their ends as tshark writes them, as names and values."""
    lines = value.replace("\\r\\n", _BETWEEN).split(_BETWEEN)
    return [[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]


def write(record: dict[str, object]) -> None:
    with _writing:
        print(json.dumps(record), flush=True)  # noqa: T201 - the contract's standard output


def follow(pod: dict[str, object], lines: object) -> None:
    """Turn one tshark's lines into records."""
    waiting: dict[str, list[dict[str, object]]] = {}
    for line in lines:  # type: ignore[attr-defined]
        fields = dict(zip(FIELDS, line.rstrip("\n").split(_SEPARATOR), strict=True))
        methods, targets = several(fields["http.request.method"]), several(fields["http.request.uri"])
        for method, target in zip(methods, targets, strict=False):
            record = {
                "type": "http",
                "ts": float(fields["frame.time_epoch"]),
                "pod_ip": pod["ips"][0],  # type: ignore[index]
                "src": endpoint(fields, "src"),
                "dst": endpoint(fields, "dst"),
                "method": method,
                "target": target,
                "request": message(fields, "http.request.line", len(methods) == 1),
            }
            waiting.setdefault(fields["frame.number"], []).append(record)
        answers = several(fields["http.request_in"])
        final = [code for code in several(fields["http.response.code"]) if not code.startswith("1")]
        for frame, code in zip(answers[-len(final) :] if final else [], final, strict=False):
            requests = waiting.get(frame, [])
            if requests:
                response = message(fields, "http.response.line", len(final) == 1)
                write(requests.pop(0) | {"status": int(code), "response": response})
    for record in [request for requests in waiting.values() for request in requests]:
        write(record)


def several(value: str) -> list[str]:
    """A field's values in one frame."""
    return value.split(_BETWEEN) if value else []


def main() -> int:
    pods = json.loads(Path(os.environ["TAPPER_HARNESS_TARGETS_FILE"]).read_text())["pods"]
    shown = [part for field in FIELDS for part in ("-e", field)]
    tshark = ["tshark", "-l", "-n", "-i", "lo", "-p", "-B", "32", "-f", "tcp", "-Y", "http", "-T", "fields", *shown]
    tshark += ["-E", f"separator={_SEPARATOR}", "-E", f"aggregator={_BETWEEN}", "-E", "occurrence=a"]
    running, threads = [], []
    for pod in pods:
        command = ["nsenter", "--net", "--target", str(pod["pid"]), "--", *tshark]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=listen)  # noqa: PLW1509
        running.append(process)
        threads.append(threading.Thread(target=follow, args=(pod, process.stdout)))
        threads[-1].start()
    asked = signal.sigwait({signal.SIGTERM, signal.SIGINT})
    for process in running:
        process.send_signal(asked)
    for thread in threads:
        thread.join()
    return max((process.wait() for process in running), default=0)


def listen() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    sys.exit(main())

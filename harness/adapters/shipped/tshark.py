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
    *("http.request.line", "http.response.line"),
)
_SEPARATOR, _BETWEEN = "\x1f", "\x1e"
_writing = threading.Lock()


def endpoint(fields: dict[str, str], side: str) -> str:
    address, port = fields[f"ip.{side}"], fields[f"tcp.{side}port"]
    return f"{address}:{port}" if address else f"[{fields[f'ipv6.{side}']}]:{port}"


def message(fields: dict[str, str], line: str) -> dict[str, object]:
    lines = [each.replace("\\r\\n", "").strip() for each in fields[line].split(_BETWEEN) if each]
    headers = [list(each.split(": ", 1)) for each in lines if ": " in each]
    return {"headers": headers, "truncated": True}  # tshark gives bodies in a form that differs by version


def write(record: dict[str, object]) -> None:
    with _writing:
        print(json.dumps(record), flush=True)  # noqa: T201 - the contract's standard output


def follow(pod: dict[str, object], lines: object) -> None:
    """Turn one tshark's lines into records."""
    waiting: dict[str, dict[str, object]] = {}
    for line in lines:  # type: ignore[attr-defined]
        fields = dict(zip(FIELDS, line.rstrip("\n").split(_SEPARATOR), strict=True))
        if fields["http.request.method"]:
            waiting[fields["frame.number"]] = {
                "type": "http",
                "ts": float(fields["frame.time_epoch"]),
                "pod_ip": pod["ips"][0],  # type: ignore[index]
                "src": endpoint(fields, "src"),
                "dst": endpoint(fields, "dst"),
                "method": fields["http.request.method"],
                "target": fields["http.request.uri"],
                "request": message(fields, "http.request.line"),
            }
        elif fields["http.response.code"] and fields["http.request_in"] in waiting:
            record = waiting.pop(fields["http.request_in"])
            answer = {"status": int(fields["http.response.code"]), "response": message(fields, "http.response.line")}
            write(record | answer)
    for record in waiting.values():
        write(record)


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

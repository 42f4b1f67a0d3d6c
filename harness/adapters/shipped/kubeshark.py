"""Plays Kubeshark's hub for a worker, and turns what that sends into the contract's records.

Read from the worker's source, commit ab54d4e (January 2023), the last one that is public: the hub posts its pods to
/pods/set-targeted, and gets a summary of each pair of request and response from /ws. Bodies and headers would have to
be asked for one by one, and are not. Kubeshark's daemon set mounts a service account, by which a worker knows that it
is in a cluster and keeps only connections of its pods' addresses; without one it keeps all that its filter lets pass.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from harness.adapters.shipped import bridge
from harness.mesh.websocket import WebSocketConnection

_STARTS_S = 10.0


def set_targeted(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_STARTS_S)
    connection.request("POST", "/pods/set-targeted", json.dumps(bridge.pods()), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    if answer.status != 200:
        raise SystemExit(f"the worker refused its targets: {answer.status} {answer.read()!r}")
    connection.close()


def follow(worker: WebSocketConnection) -> None:
    for text in worker.messages():
        entry = json.loads(text)
        if entry["proto"]["name"] != "http":
            continue
        bridge.write(
            {
                "type": "http",
                "ts": entry["timestamp"] / 1000,
                "src": bridge.endpoint(entry["src"]["ip"], entry["src"]["port"]),
                "dst": bridge.endpoint(entry["dst"]["ip"], entry["dst"]["port"]),
                "method": entry["method"],
                "target": entry["summary"],
                "status": entry["status"],
                "request": {"truncated": True},
                "response": {"truncated": True},
            }
        )


def connected(port: int, process: subprocess.Popen[bytes]) -> WebSocketConnection:
    """Wait until the worker listens. Raises SystemExit if it ends instead, or never does."""
    deadline = time.monotonic() + _STARTS_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            return WebSocketConnection.connect("127.0.0.1", port, f"/ws?worker=127.0.0.1:{port}&node=node&q=")
        except OSError:
            threading.Event().wait(0.05)
    raise SystemExit(f"the worker does not listen on port {port}")


def main() -> int:
    bridge.hold_signals()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    argv = ["kubeshark-worker", "-i", "any", "-port", str(port), "-servicemesh"]
    argv += ["-packet-capture", "libpcap", "-procfs", os.environ["TAPPER_HARNESS_PROCFS"]]
    # it keeps its captures in its working directory
    process = bridge.start(argv, os.environ, os.environ["TAPPER_HARNESS_STATE_DIR"])
    worker = connected(port, process)
    threading.Thread(target=follow, args=(worker,), daemon=True).start()
    return bridge.serve(process, lambda: set_targeted(port))


if __name__ == "__main__":
    sys.exit(main())

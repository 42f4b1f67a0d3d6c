"""Plays mizu's API server for a tapper (`mizuagent --tap`), and turns what that sends into the contract's records.

Read from mizu's source, commit 692c500 (July 2022): the tapper connects to the server's WebSocket, gets its pods in
`tapConfig` messages, and sends each pair of request and response as `tappedEntry`. mizu's own daemon set starts it with
HOST_MODE=1, which has it keep only connections of its pods' addresses.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from harness.adapters.shipped import bridge
from harness.mesh.websocket import WebSocketConnection

Entry = dict[str, Any]


def message(details: Entry) -> Entry:
    """Of a HAR request or response. mizu sorts headers; a body's text is base64 where it says so."""
    content = details.get("content") or details.get("postData") or {}
    text = content.get("text") or ""
    # Go writes the []byte of answers in base64, of requests only if it is no text
    encoded = "content" in details or content.get("encoding") == "base64"
    body = text if encoded else base64.b64encode(text.encode()).decode()
    return {"headers": [[field["name"], field["value"]] for field in details["headers"]], "body_b64": body}


def record(entry: Entry) -> Entry | None:
    """The record of an entry; None if it is not HTTP."""
    pair, ends = entry["Pair"], entry["ConnectionInfo"]
    if entry["Protocol"]["name"] not in ("http", "grpc"):
        return None
    request, response = pair["request"]["payload"]["details"], pair["response"]["payload"]["details"]
    fields = {field["name"]: field["value"] for field in request["headers"]}
    return {
        "type": "http",
        "ts": entry["Timestamp"] / 1000,
        "src": bridge.endpoint(ends["ClientIP"], ends["ClientPort"]),
        "dst": bridge.endpoint(ends["ServerIP"], ends["ServerPort"]),
        "method": request["method"],
        "target": request["url"] or fields.get(":path", ""),  # of HTTP/2 the URL is empty
        "status": response["status"],
        "request": message(request),
        "response": message(response),
    }


def follow(tapper: WebSocketConnection) -> None:
    for text in tapper.messages():
        received = json.loads(text)
        exchange = record(received["Data"]) if received.get("messageType") == "tappedEntry" else None
        if exchange is not None:
            bridge.write(exchange)


def main() -> int:
    bridge.hold_signals()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"ws://127.0.0.1:{listener.getsockname()[1]}/wsTapper"
        procfs = os.environ["TAPPER_HARNESS_PROCFS"]
        argv = ["mizuagent", "--tap", "--api-server-address", address, "-i", "any", "--servicemesh", "--procfs", procfs]
        environ = os.environ | {"HOST_MODE": "1", "NODE_NAME": "node"}
        process = bridge.start(argv, environ, os.environ["TAPPER_HARNESS_STATE_DIR"])
        tapper = WebSocketConnection.accepted(listener.accept()[0])
    if tapper is None:
        raise SystemExit("mizuagent did not ask for a WebSocket")
    following = threading.Thread(target=follow, args=(tapper,))
    following.start()
    code = bridge.serve(process, lambda: tapper.send(json.dumps({"messageType": "tapConfig", "pods": bridge.pods()})))
    following.join()
    return code


if __name__ == "__main__":
    sys.exit(main())

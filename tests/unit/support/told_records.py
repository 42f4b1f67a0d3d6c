"""Records as the reference writes them, for tests of what reads them."""

from __future__ import annotations

import base64
from typing import Any

Record = dict[str, Any]
POD, OTHER = 111, 222
"""Two network namespaces."""


def message(**values: Any) -> Record:
    """A request or a response; `body` in place of the usual one."""
    body = values.pop("body", b"ok\n")
    encoded = base64.b64encode(body).decode()
    made: Record = {"headers": [["Host", "a"], ["X-A", "1"], ["x-a", "2"]], "body_b64": encoded, "body_size": len(body)}
    return made | {"truncated": False, "trailers": [["X-Sum", "1"]]} | values


def http(number: int = 0, **values: Any) -> Record:
    """An exchange; `number` makes its time, its target and its status."""
    made: Record = {"type": "http", "ts": 1000.0 + number, "pod_ip": "10.244.0.2", "direction": "inbound"}
    made |= {"src": "127.0.0.6:40001", "dst": "10.244.0.2:8080", "mtls": None, "netns": POD, "duration_s": 0.001}
    made |= {"method": "GET", "target": f"/orders/{number}", "version": "HTTP/1.1", "status": 200 + number}
    return made | {"request": message(), "response": message(body=b"answer %d" % number)} | values


def unasked(number: int = 0, **values: Any) -> Record:
    """An answer whose request was not seen."""
    return http(number, method=None, target=None, request=None, duration_s=None, **values)


def unanswered(number: int = 0, **values: Any) -> Record:
    """A request whose answer was not seen."""
    return http(number, status=None, response=None, duration_s=None, **values)


def source(netns: int = POD, state: str = "open", *, pid: int = 5, address: str = "10.244.0.2") -> Record:
    """A pod's `lo` was opened or closed."""
    made = {"type": "source", "state": state, "kind": "pod", "netns": netns, "pid": pid}
    return made | {"instance_ip": address, "interface": "lo"}


def socket_message(text: str = "hello", **values: Any) -> Record:
    """A WebSocket message."""
    ends = {name: http()[name] for name in ("ts", "pod_ip", "direction", "src", "dst", "netns", "mtls")}
    return {"type": "websocket", "from": "client", "text": text} | ends | values


def unreadable(what: str = "other") -> Record:
    """A connection that is no HTTP."""
    return socket_message() | {"type": "stream", "what": what, "client_bytes": 10, "server_bytes": 0}


def bye() -> Record:
    """The last record."""
    return {"type": "bye", "received": 9, "dropped": 3}

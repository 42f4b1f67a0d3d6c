"""An exchange that goes on is told live, before it ends: also where no packet comes after its first event."""

from __future__ import annotations

from collections.abc import Callable

from harness.adapters.reference import RunningTapper
from harness.mesh import delivery, fake_envoy
from harness.sandbox.node import Node

StartTapper = Callable[..., RunningTapper]

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body)


def test_events_are_told_while_their_stream_goes_on(node: Node, tapper: StartTapper) -> None:
    server = node.pod("server")
    fake_envoy.start(server)
    running = tapper([server])
    running.wait_capturing(server)
    with delivery.inbound(server) as conversation:
        # 1. The response begins, and then nothing comes: time alone shows that the exchange goes on.
        conversation.exchange(b"GET /sse HTTP/1.1\r\nHost: shop\r\n\r\n", HEAD + chunk(b"data: first\n\n"))
        running.wait_for(lambda: running.of_type("event"), "the first event")
        # 2. A later event is told as it comes.
        conversation.server_sends(chunk(b"event: tick\ndata: second\n\n"))
        running.wait_for(lambda: len(running.of_type("event")) == 2, "the second event")
        assert not running.exchanges, "the stream has not ended"
        # 3. The whole exchange comes at its end.
        conversation.server_sends(b"0\r\n\r\n")
        running.wait_targets(["/sse"], pod=server)
    running.stop()
    (begin,), (whole,) = running.of_type("begin"), running.exchanges
    assert (begin["target"], begin["status"], begin["pod_ip"]) == ("/sse", 200, server.ip)
    assert [(event["event"], event["data"]) for event in running.of_type("event")] == [
        (None, "first"),
        ("tick", "second"),
    ]
    assert whole["outcome"] == "complete"
    assert {record["exchange_id"] for record in [begin, whole, *running.of_type("event")]} == {whole["exchange_id"]}

"""The tapper within the memory that the manifest allows it.

The limit is RLIMIT_DATA (setrlimit(2)), which counts what the interpreter allocates, and not a memory cgroup: a test
cannot count on a cgroup file system that can be written to.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Iterator

from tapper_wire import Wire

LIMIT = 512 << 20
"""As resources.limits.memory in fixtures/istio/tapper/daemonset.yaml."""
LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[1]),) * 2)
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
CONNECTIONS = 10_000
BODY = bytes(60_000)


def packets() -> Iterator[bytes]:
    """Requests with a body, whose answers begin and never end: all together 600 MB, on connections that stay open."""
    for number in range(CONNECTIONS):
        ends = ("10.0.0.3", 20_000 + number), ("10.0.0.2", 8080)
        wire = Wire(ends, client_isn=number * 70_001, server_isn=number * 80_021)
        yield from wire.handshake()
        yield wire.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n" + BODY)
        yield wire.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")


def test_unfinished_exchanges_stay_within_the_limit_of_the_manifest() -> None:
    """The longest quiet connections are given up and told, and all exchanges come out."""
    tapper = [sys.executable, "-c", LIMITED, str(LIMIT), "-m", "tapper", "tap", "-r", "-", "-o", "ndjson"]
    with subprocess.Popen(
        [*tapper, "--method", "NONE"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        process.stdin.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, 101))
        for count, raw in enumerate(packets()):
            process.stdin.write(struct.pack("<IIII", 1_700_000_000 + count // 10_000, 0, len(raw), len(raw)) + raw)
        out, errors = process.communicate()
    assert process.returncode == 0, errors
    bye = json.loads(out.splitlines()[-1])
    assert bye["filtered"] == CONNECTIONS
    assert CONNECTIONS // 2 < bye["given_up"] < CONNECTIONS, "what is given up is told, and no more is than has to be"

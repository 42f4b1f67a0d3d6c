"""The sample client: sends requests to the sample application (`harness.mesh.app`) at a steady rate, and reports them.

Runs as a program of its own (`python -m harness.mesh.client --url http://server --rate 2`), with the standard library
only. Each request has a nonce in its target and in a header. One JSON object a line on standard output:

    {"nonce", "method", "target", "status"}     the application answered, with this nonce
    {"nonce", "method", "target", "error"}      anything else; the next request goes over a new connection

It ends after `--count` requests, or on SIGTERM or SIGINT, with 0 if every request was answered, else with 1.
"""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import sys
import time
import urllib.parse
import uuid

from harness.mesh.app import NONCE_HEADER

_TIMEOUT_S = 10.0
ENDING = (signal.SIGTERM, signal.SIGINT)


class Client:
    """Requests over one keep-alive connection, which is opened again after a failure."""

    def __init__(self, host: str, port: int, prefix: str) -> None:
        self._connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
        self._prefix = prefix.rstrip("/")

    def exchange(self) -> dict[str, object]:
        """Send one request; returns its line."""
        nonce = f"nonce-{uuid.uuid4().hex}"
        target = f"{self._prefix}/{nonce}"
        line: dict[str, object] = {"nonce": nonce, "method": "GET", "target": target}
        try:
            self._connection.request("GET", target, headers={NONCE_HEADER: nonce, "User-Agent": "tapper-harness"})
            response = self._connection.getresponse()
            body = response.read()
            if response.getheader(NONCE_HEADER) != nonce:
                raise ValueError(f"the answer, {response.status}, is not the application's: {body[:100]!r}")
        except (OSError, ValueError, http.client.HTTPException) as error:
            self._connection.close()
            return line | {"error": f"{type(error).__name__}: {error}"}
        return line | {"status": response.status}


def run(client: Client, interval: float, count: int | None) -> bool:
    """Send one request every `interval` seconds, the first at once; late requests are not made up for in a burst.

    Ends when one of `ENDING`, which must be blocked, is pending. Returns whether each request was answered.
    """
    answered = True
    sent = 0
    due = time.monotonic()
    while True:
        line = client.exchange()
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        answered = answered and "status" in line
        sent += 1
        if sent == count:
            return answered
        due = max(due + interval, time.monotonic())
        if signal.sigtimedwait(ENDING, max(0.0, due - time.monotonic())) is not None:
            return answered


def main() -> int:
    parser = argparse.ArgumentParser(description="Asks the sample application and says what it has sent.")
    parser.add_argument("--url", required=True, help="http://HOST[:PORT][/PREFIX]")
    parser.add_argument("--rate", type=float, default=1.0, help="requests a second (default: %(default)s)")
    parser.add_argument("--count", type=int, help="end after so many requests (default: never)")
    arguments = parser.parse_args()
    url = urllib.parse.urlsplit(arguments.url)
    if url.scheme != "http" or url.hostname is None:
        parser.error(f"--url {arguments.url!r} is not http://HOST[:PORT][/PREFIX]")
    if arguments.count is not None and arguments.count < 1:
        parser.error(f"--count {arguments.count} is not a number of requests")
    if not arguments.rate > 0:
        parser.error(f"--rate {arguments.rate:g} is not a number of requests a second")
    # Wait for the signals instead of handling them: a handler could interrupt anything, and PID 1 of a container
    # ignores signals without a handler.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    client = Client(url.hostname, url.port or 80, url.path or "/orders")
    return 0 if run(client, 1 / arguments.rate, arguments.count) else 1


if __name__ == "__main__":
    sys.exit(main())

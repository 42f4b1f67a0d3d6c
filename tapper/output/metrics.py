"""The counts as Prometheus metrics, served over HTTP in the formats of the official client library.

Nothing is counted here and nothing is kept: a scrape asks the loop for the counts as they stand. Labels have as many
values as there are pods: the pods captured now, and at most `tapper.run.accounts.MOST_GONE` closed sources. A series
goes on when its source is opened again.

The library's own `start_http_server` is not used: it takes any number of clients, waits for them without end, asks name
servers for the host's name, and prints a traceback where the loop does not answer. This module needs the package
`prometheus_client`; only `--metrics` imports it.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import MetricsHandler
from prometheus_client.registry import Collector

from tapper import __version__
from tapper.errors import TapperError, explain
from tapper.output.escape import visible
from tapper.output.listening import Listening
from tapper.output.records import Row, Snapshot
from tapper.runtime.threads import NO_THREAD
from tapper.targets.pods import PodName

Ask: TypeAlias = Callable[[float], Snapshot]
"""Asks for the counts and waits at most so many seconds. Raises TimeoutError where no answer comes."""

SOURCE = ("namespace", "pod", "pod_ip", "interface", "netns")
"""The labels of a source. `netns` is the network namespace's inode; the node's interfaces have no pod."""

COUNTERS = {
    "tapper_packets_received": ("received", None, "Packets captured."),
    "tapper_packets_dropped": ("dropped", None, "Packets that the kernel dropped because the ring was full."),
    "tapper_packets_cut": ("cut", None, "Packets captured in part only."),
    "tapper_packets_bad_checksum": ("bad_checksum", None, "Packets left out: their receiver refuses their checksum."),
    "tapper_packets_unread": ("unread", None, "Packets captured, but not read before the source was closed."),
    "tapper_postponements": ("postponed", None, "Times that a source was put back: it had spent its share of time."),
    "tapper_packets_passed_over": ("passed_over", "kind", "Packets that were not looked into, by protocol."),
    "tapper_stream_gaps": ("gaps", None, "Places in TCP streams where bytes are missing."),
    "tapper_stream_gap_bytes": ("gap_bytes", None, "Bytes missing there, as far as their number is known."),
    "tapper_connections_given_up": ("given_up", None, "Connections given up to stay within memory bounds."),
    "tapper_connections_undecoded": ("undecoded", "kind", "Connections that carried no HTTP, by kind."),
    "tapper_exchanges": ("exchanges", "direction", "Exchanges reported."),
    "tapper_exchanges_incomplete": ("incomplete", "direction", "Exchanges without request, response or fields."),
    "tapper_exchanges_filtered": ("filtered", None, "Exchanges left out by the filters."),
}
"""By name without `_total`: the field of `tapper.output.records.Totals`, the label besides SOURCE, the help."""

MOST_CLIENTS = 16
"""Connections at a time; a further one is closed at once."""
_ANSWER_S = 5.0
"""How long a scrape waits for the loop."""
CLIENT_S = 10.0
"""How long a connection may last."""
_POLL_S = 0.2
"""How often the server looks whether it is to end, and whether a connection lasts too long."""


class _NoAnswerError(Exception):
    """The loop did not answer in time."""


class Counters(Collector):
    """The collector that the registry asks at each scrape."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def describe(self) -> list[Metric]:
        """Nothing. A registry without this method collects once to learn the names, when no loop answers yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        try:
            now = self._ask(_ANSWER_S)
        except TimeoutError:
            raise _NoAnswerError from None
        info = GaugeMetricFamily("tapper_build_info", "Always 1; the label tells the version.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        yield GaugeMetricFamily("tapper_sources", "Sources that are open.", value=now.sources)
        yield GaugeMetricFamily("tapper_targets", "Addresses that are targets.", value=now.targets)
        for name, (field, label, text) in COUNTERS.items():
            # One series for each set of labels: a scraper refuses an answer that has two.
            sums: dict[tuple[str, ...], int] = {}
            for row in now.rows:
                for values, count in _samples(row, field, label):
                    sums[values] = sums.get(values, 0) + count
            family = CounterMetricFamily(name, text, labels=SOURCE if label is None else (*SOURCE, label))
            for values, count in sums.items():
                family.add_metric(values, count)
            yield family


def _samples(row: Row, field: str, label: str | None) -> Iterator[tuple[tuple[str, ...], int]]:
    """The values of the labels, and the count."""
    place = row.place
    own = place.instance_ip or ""
    namespace, pod = _named(place.pods.get(own))
    where = (place.interface, "" if place.netns is None else str(place.netns))
    if label is None:
        yield (namespace, pod, own, *where), getattr(row.counts, field)
    elif label == "kind":
        for kind, count in getattr(row.counts, field).items():
            yield (namespace, pod, own, *where, str(kind)), count
    else:
        for key, seen in row.legs.items():
            name = (namespace, pod) if key.pod_ip == own else _named(key.name)
            yield (*name, key.pod_ip or "", *where, str(key.direction)), getattr(seen, field)


def _named(name: PodName | None) -> tuple[str, str]:
    return ("", "") if name is None else (visible(name.namespace), visible(name.name))


class _Handler(MetricsHandler):
    timeout = CLIENT_S

    def do_GET(self) -> None:
        if urlsplit(self.path).path != "/metrics":
            self._refuse(404, "the metrics are at /metrics\n")
            return
        try:
            super().do_GET()
        except _NoAnswerError:
            self._refuse(503, "the tapper does not answer: it is starting or ending\n")

    def _refuse(self, status: int, sentence: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(sentence.encode())


class _Server(ThreadingHTTPServer):
    """Listens when it is made. Raises OSError."""

    def __init__(self, listening: Listening, handler: type[_Handler]) -> None:
        self._clients: dict[socket.socket, float] = {}
        """The open connections, and when each began, by time.monotonic."""
        self._lock = threading.Lock()
        address = listening.address or ("::" if socket.has_dualstack_ipv6() else "0.0.0.0")
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, listening.port), handler)

    def server_bind(self) -> None:
        """Without asking name servers for the host's name, as http.server does: they may not answer."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(self.server_address[0] != "::"))
        TCPServer.server_bind(self)

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError:  # out of descriptors: the connection stays, and would be accepted again at once
            time.sleep(_POLL_S)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            free = len(self._clients) < MOST_CLIENTS
            if free:
                self._clients[request] = time.monotonic()
        if not free:
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the kernel grants no further thread
            self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._clients.pop(request, None)
            super().shutdown_request(request)

    def service_actions(self) -> None:
        """End the connections that last too long: a client could send its request octet by octet."""
        begun = time.monotonic() - CLIENT_S
        with self._lock:
            for client in [client for client, began in self._clients.items() if began < begun]:
                try:
                    client.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # the client has gone, and its thread learns of that itself

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report errors, but not of a connection that the client ended."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


@contextmanager
def serving(listening: Listening, ask: Ask) -> Iterator[None]:
    """Serve the metrics meanwhile, in threads. Raises TapperError where it cannot listen there."""
    registry = CollectorRegistry()  # the library's global registry has metrics of the process, and of other packages
    registry.register(Counters(ask))
    handler = type("Handler", (_Handler,), {"registry": registry})
    try:
        server = _Server(listening, handler)
    except OSError as error:
        raise TapperError(f"cannot serve metrics on {listening}: {explain(error)} (--metrics)") from error
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_S,), name="tapper-metrics", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        server.server_close()
        raise TapperError(f"cannot serve metrics on {listening}: {NO_THREAD} (--metrics)") from None
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

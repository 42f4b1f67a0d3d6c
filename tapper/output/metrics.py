"""The counts as Prometheus metrics (the text format and OpenMetrics, by the official client library), over HTTP.

Nothing is counted here and nothing is kept: a scrape asks the loop for the counts as they stand. Labels have as many
values as there are pods: those captured now, and at most `tapper.run.accounts.MOST_GONE` closed sources. A series goes
on when its source is opened again.

This module needs the package `prometheus_client`; only `--metrics` imports it.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, TypeAlias
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tapper import __version__
from tapper.errors import TapperError, explain
from tapper.output.listening import Listening
from tapper.output.records import Row, Snapshot

Ask: TypeAlias = Callable[[], Snapshot]
"""Asks for the counts; raises TimeoutError where nobody answers."""

SOURCE = ("namespace", "pod", "pod_ip", "interface", "netns")
"""The labels of a source. `netns` is the network namespace's inode; the node's interfaces have no pod."""

BY_SOURCE = {
    "tapper_packets_received": ("received", "Packets captured."),
    "tapper_packets_dropped": ("dropped", "Packets lost for want of room in the ring, as the kernel counted them."),
    "tapper_packets_cut": ("cut", "Packets captured in part only."),
    "tapper_packets_bad_checksum": ("bad_checksum", "Packets left out for a checksum that their receiver refuses."),
    "tapper_stream_gaps": ("gaps", "Places in TCP streams where bytes are missing."),
    "tapper_stream_gap_bytes": ("gap_bytes", "Bytes missing there, as far as their number is known."),
    "tapper_connections_given_up": ("given_up", "Connections given up to stay within memory bounds."),
    "tapper_exchanges_filtered": ("filtered", "Exchanges left out by the filters."),
}
"""Counters: name without `_total`, field of `tapper.output.records.Totals`, help."""
BY_LEG = {
    "tapper_exchanges": ("exchanges", "Exchanges reported."),
    "tapper_exchanges_incomplete": ("incomplete", "Of these, those with request, response or fields missing."),
}
BY_KIND = {"tapper_connections_undecoded": ("undecoded", "Connections that carried no HTTP, by kind.")}

_PATIENCE_S = 5.0
_CLIENT_PATIENCE_S = 10.0
_POLL_S = 0.2  # how long the end may take longer


class Counters(Collector):
    """What a registry asks at each scrape."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def describe(self) -> list[Metric]:
        """Nothing: a registry would otherwise collect once to learn the names, and nobody may answer yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        now = self._ask()
        info = GaugeMetricFamily("tapper_build_info", "Always 1; the label tells the version.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        yield GaugeMetricFamily("tapper_sources", "Sources that are open.", value=now.sources)
        yield GaugeMetricFamily("tapper_targets", "Addresses that are targets.", value=now.targets)
        for name, (field, text) in BY_SOURCE.items():
            samples = ((_source(row), getattr(row.counts, field)) for row in now.rows)
            yield _counter(name, text, SOURCE, samples)
        for name, (field, text) in BY_LEG.items():
            yield _counter(name, text, (*SOURCE, "direction"), _legs(now.rows, field))
        for name, (_, text) in BY_KIND.items():
            kinds = (
                ((*_source(row), str(kind)), count) for row in now.rows for kind, count in row.counts.undecoded.items()
            )
            yield _counter(name, text, (*SOURCE, "kind"), kinds)


def _counter(
    name: str, text: str, labels: tuple[str, ...], samples: Iterable[tuple[tuple[str, ...], int]]
) -> CounterMetricFamily:
    """One series for each set of labels, whatever happens: two would make a scraper refuse the whole answer."""
    sums: dict[tuple[str, ...], int] = {}
    for values, count in samples:
        sums[values] = sums.get(values, 0) + count
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in sums.items():
        family.add_metric(values, count)
    return family


def _source(row: Row) -> tuple[str, ...]:
    place = row.place
    name = place.pods.get(place.instance_ip or "")
    named = ("", "") if name is None else (name.namespace, name.name)
    return (*named, place.instance_ip or "", place.interface, "" if place.netns is None else str(place.netns))


def _legs(rows: Iterable[Row], field: str) -> Iterator[tuple[tuple[str, ...], int]]:
    for row in rows:
        namespace, pod, address, *where = _source(row)
        for key, seen in row.legs.items():
            named = ("", "") if key.name is None else (key.name.namespace, key.name.name)
            if key.pod_ip == address:
                named = (namespace, pod)
            yield (*named, key.pod_ip or "", *where, str(key.direction)), getattr(seen, field)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Without asking name servers for the host's name, as http.server does: they may not answer."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(self.server_address[0] != "::"))
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: object, client_address: object) -> None:
        """A scraper that hung up is no error: there is nobody to tell. Anything else is."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(WSGIRequestHandler):
    timeout = _CLIENT_PATIENCE_S

    def log_message(self, format: str, *args: object) -> None:
        """Nothing for each scrape."""


def _application(ask: Ask) -> Callable[[dict[str, Any], Any], Iterable[bytes]]:
    registry = CollectorRegistry()  # of its own: the global one has the process's metrics, and whoever else's
    registry.register(Counters(ask))
    metrics = make_wsgi_app(registry)

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/metrics":
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"the metrics are at /metrics\n"]
        try:
            answer: Iterable[bytes] = metrics(environ, start_response)
        except TimeoutError:
            start_response("503 Service Unavailable", [("Content-Type", "text/plain")])
            return [b"the tapper does not answer: it is starting, ending, or nobody reads its output\n"]
        return answer

    return application


def _open(listening: Listening, application: Any) -> _Server:
    """Listens when it returns. Raises OSError."""
    address = listening.address or ("::" if socket.has_dualstack_ipv6() else "0.0.0.0")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = type("Server", (_Server,), {"address_family": family})
    server: _Server = kind((address, listening.port), _Handler)
    server.set_app(application)
    return server


@contextmanager
def serving(listening: Listening, ask: Callable[[float], Snapshot]) -> Iterator[None]:
    """Serve meanwhile, in threads. `ask` gets how many seconds to wait. Raises TapperError where the address cannot be
    had."""
    try:
        server = _open(listening, _application(lambda: ask(_PATIENCE_S)))
    except OSError as error:
        raise TapperError(f"cannot serve metrics on {listening}: {explain(error)} (--metrics)") from error
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_S,), name="tapper-metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

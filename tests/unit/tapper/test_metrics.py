"""Metrics: what a scrape says, who may ask when, and where the tapper listens."""

from __future__ import annotations

import re
import select
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from harness.waiting import wait_until
from tapper import __version__
from tapper.cli import main
from tapper.errors import TapperError, UsageError
from tapper.output import metrics
from tapper.output.listening import Listening, parse_listening
from tapper.output.metrics import COUNTERS, MOST_CLIENTS, SOURCE, Counters, serving
from tapper.output.records import LegKey, Place, Row, Seen, Snapshot, Totals
from tapper.run.snapshot_requests import SnapshotRequests
from tapper.streams.legs import Direction
from tapper.targets.pods import PodName

CART = PodName("shop", "cart")
POD = Place("pod", 77, "lo", 5, "10.0.0.2", pods={"10.0.0.2": CART})
NODE = Place("node", 1, "any")
IN, OUT, ON_NODE = Direction.INBOUND, Direction.OUTBOUND, Direction.NODE

Samples = dict[tuple[str, tuple[str, ...]], float]


def pod_row() -> Row:
    counts = Totals(exchanges=5, incomplete=1, received=90, dropped=2, cut=3, gaps=4, gap_bytes=55, given_up=6)
    counts.undecoded = {"tls": 7}
    counts.passed_over = {"UDP": 8}
    legs = {LegKey("10.0.0.2", None, IN): Seen(1, 0), LegKey("10.0.0.2", CART, IN): Seen(2, 1)}
    return Row(POD, counts, legs | {LegKey("10.0.0.2", CART, OUT): Seen(2, 0)})


def scraped(*rows: Row) -> Samples:
    registry = CollectorRegistry()
    registry.register(Counters(lambda _timeout_s: Snapshot(list(rows), 2, 3)))
    text = generate_latest(registry).decode()
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            key = sample.name, tuple(sample.labels.values())
            assert key not in samples, "every series once"
            samples[key] = sample.value
    return samples


def test_the_counts_of_a_pod() -> None:
    """A name that became known later makes no second series."""
    cart = ("shop", "cart", "10.0.0.2", "lo", "77")
    samples = scraped(pod_row())
    # the parser gives labels in the order of the text
    by_name = {(name, frozenset(labels)): value for (name, labels), value in samples.items()}
    assert by_name == {
        ("tapper_build_info", frozenset({__version__})): 1,
        ("tapper_sources", frozenset()): 2,
        ("tapper_targets", frozenset()): 3,
        ("tapper_packets_received_total", frozenset(cart)): 90,
        ("tapper_packets_dropped_total", frozenset(cart)): 2,
        ("tapper_packets_cut_total", frozenset(cart)): 3,
        ("tapper_packets_bad_checksum_total", frozenset(cart)): 0,
        ("tapper_packets_unread_total", frozenset(cart)): 0,
        ("tapper_postponements_total", frozenset(cart)): 0,
        ("tapper_packets_passed_over_total", frozenset({*cart, "UDP"})): 8,
        ("tapper_stream_gaps_total", frozenset(cart)): 4,
        ("tapper_stream_gap_bytes_total", frozenset(cart)): 55,
        ("tapper_connections_given_up_total", frozenset(cart)): 6,
        ("tapper_exchanges_filtered_total", frozenset(cart)): 0,
        ("tapper_exchanges_total", frozenset({*cart, "inbound"})): 3,
        ("tapper_exchanges_total", frozenset({*cart, "outbound"})): 2,
        ("tapper_exchanges_incomplete_total", frozenset({*cart, "inbound"})): 1,
        ("tapper_exchanges_incomplete_total", frozenset({*cart, "outbound"})): 0,
        ("tapper_connections_undecoded_total", frozenset({*cart, "tls"})): 7,
    }


def test_series_are_one_each_whatever_the_sources_are() -> None:
    """Two namespaces with one address, a pod without a name, and one that only the node's interfaces show."""
    twin = replace(pod_row(), place=replace(POD, netns=78))
    same = replace(pod_row(), place=replace(POD, kind="node"))
    node = Row(NODE, Totals(received=9), {LegKey("10.0.0.9", PodName("a", 'q"\n\ud800'), ON_NODE): Seen(4, 0)})
    samples = scraped(pod_row(), twin, same, node)
    received = {labels: value for (name, labels), value in samples.items() if name == "tapper_packets_received_total"}
    assert sorted(received.values()) == [9, 90, 180]
    (on_node,) = [(set(labels), value) for (_, labels), value in samples.items() if "node" in labels and value]
    assert on_node == ({"a", 'q"\\n\\ud800', "10.0.0.9", "any", "1", "node"}, 4), "unprintable characters are escaped"


def ask(port: int, path: str = "/metrics") -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_over_http() -> None:
    listening = Listening("127.0.0.1", free_port())
    with serving(listening, lambda _: Snapshot([pod_row()], 2, 3)):
        code, text = ask(listening.port)
        assert (code, ask(listening.port, "/")[0]) == (200, 404)
        assert 'direction="inbound"' in text
        with pytest.raises(
            TapperError, match=r"cannot serve metrics on 127.0.0.1:\d+: address already in use"
        ) as raised:
            serving(listening, lambda _: Snapshot([], 0, 0)).__enter__()
        assert raised.value.exit_code == 1
    with pytest.raises(urllib.error.URLError):
        ask(listening.port)


def test_clients_that_say_nothing_cost_a_bounded_number_of_threads() -> None:
    """A further connection is ended at once. When the others are gone, scrapes are answered again."""
    listening = Listening("127.0.0.1", free_port())
    place = ("127.0.0.1", listening.port)
    with serving(listening, lambda _: Snapshot([], 0, 0)):
        with ExitStack() as stack:
            for _ in range(MOST_CLIENTS):
                stack.enter_context(socket.create_connection(place, timeout=10))
            further = stack.enter_context(socket.create_connection(place, timeout=10))
            assert further.recv(1) == b""

        def answered() -> bool:
            try:
                return ask(listening.port)[0] == 200
            except (urllib.error.URLError, ConnectionError):
                return False

        wait_until(answered, "an answer")


def test_a_connection_ends_in_time_however_slowly_its_request_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "CLIENT_S", 0.2)
    listening = Listening("127.0.0.1", free_port())
    with (
        serving(listening, lambda _: Snapshot([], 0, 0)),
        socket.create_connection(("127.0.0.1", listening.port), timeout=10) as client,
    ):

        def ended() -> bool:
            try:
                client.sendall(b"G")
            except OSError:
                return True
            return False

        wait_until(ended, "the end of the connection")


def test_without_threads_a_connection_is_ended_and_later_ones_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if "process_request" in thread.name:
            raise RuntimeError("can't start new thread")
        start(thread)

    listening = Listening("127.0.0.1", free_port())
    with serving(listening, lambda _: Snapshot([], 0, 0)):
        monkeypatch.setattr(threading.Thread, "start", refuse)
        for _ in range(MOST_CLIENTS + 1):
            with socket.create_connection(("127.0.0.1", listening.port), timeout=10) as client:
                assert client.recv(1) == b""
        monkeypatch.undo()
        assert ask(listening.port)[0] == 200


def test_a_server_without_a_thread_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(TapperError, match="no further thread can be started"):
        serving(Listening("127.0.0.1", free_port()), lambda _: Snapshot([], 0, 0)).__enter__()


def test_a_loop_that_does_not_answer_is_said_so() -> None:
    def nobody(_timeout_s: float) -> Snapshot:
        raise TimeoutError

    listening = Listening("127.0.0.1", free_port())
    with serving(listening, nobody):
        code, text = ask(listening.port)
    assert (code, "does not answer" in text) == (503, True)


def in_threads(count: int, do: Callable[[], object]) -> list[threading.Thread]:
    threads = [threading.Thread(target=do) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def test_the_loop_answers_and_nobody_waits_for_ever() -> None:
    requests: SnapshotRequests[int] = SnapshotRequests()
    answers: list[int | str] = []
    everybody = threading.Barrier(4)

    def asking() -> None:
        everybody.wait()
        try:
            answers.append(requests.ask(10))
        except TimeoutError as error:
            answers.append(str(error))

    threads = in_threads(3, asking)
    everybody.wait()

    def answered() -> bool:
        try:
            requests.answer(threading.get_ident)
        except BlockingIOError:
            pass  # nobody has asked
        return len(answers) == 3

    wait_until(answered, "three answers")
    assert answers == [threading.get_ident()] * 3, "made by the loop"
    for thread in threads:
        thread.join()

    with pytest.raises(TimeoutError):
        requests.ask(0.01)
    requests.answer(lambda: 0)  # nobody waits any more, but the descriptor is readable no longer
    waiting = in_threads(1, lambda: answers.append(_complaint(requests)))
    wait_until(lambda: select.select([requests.fileno()], [], [], 0)[0], "the request")
    requests.close()
    waiting[0].join()
    assert answers[-1] == _complaint(requests) == "the loop has ended"


def _complaint(requests: SnapshotRequests[int]) -> str:
    with pytest.raises(TimeoutError) as raised:
        requests.ask(10)
    return str(raised.value)


@pytest.mark.parametrize(
    ("text", "address", "port", "shown"),
    [
        (":9090", "127.0.0.1", 9090, "127.0.0.1:9090"),
        ("*:9090", None, 9090, "*:9090"),
        ("127.0.0.1:1", "127.0.0.1", 1, "127.0.0.1:1"),
        ("[::1]:65535", "::1", 65535, "[::1]:65535"),
        ("[fd00:0::1]:80", "fd00::1", 80, "[fd00::1]:80"),
    ],
)
def test_where_to_listen(text: str, address: str | None, port: int, shown: str) -> None:
    listening = parse_listening(text, "--metrics")
    assert (listening, str(listening)) == (Listening(address, port), shown)


@pytest.mark.parametrize(
    "text",
    ["", "9090", ":", ":0", ":65536", ":-1", ":9_0", ":٣", "::1:90", "[127.0.0.1]:90", "[*]:90", "shop:90", "[::1]"],
)
def test_nowhere_to_listen(text: str) -> None:
    with pytest.raises(UsageError, match=re.escape(repr(text))):
        parse_listening(text, "--metrics")


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """And where no metrics are wanted, it is not even looked for."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "tapper.output.metrics")
    assert main(["tap", "--filter-authorities", "10.0.0.2", "--metrics", "127.0.0.1:9"]) == 6
    assert "pip install 'tapper-harness[metrics]'" in capsys.readouterr().err
    assert main(["tap", "-r", "/dev/null"]) == 5
    assert "the file is empty" in capsys.readouterr().err


def test_a_file_has_no_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tap", "-r", "/dev/null", "--metrics", ":9"]) == 2
    assert "leave out --metrics" in capsys.readouterr().err


def test_the_table_of_metrics_is_what_there_is() -> None:
    """docs/metrics.md: a row for each metric, with its labels."""
    text = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| `(tapper_\w+)` \|([^|]*)\|", text, re.MULTILINE))
    labels = {None: "source", "direction": "source, `direction`", "kind": "source, `kind`"}
    expected = {f"{name}_total": labels[label] for name, (_, label, _) in COUNTERS.items()}
    expected |= {"tapper_build_info": "`version`", "tapper_sources": "", "tapper_targets": ""}
    assert {name: cell.strip() for name, cell in told.items()} == expected
    assert {name for name, _ in scraped(pod_row())} == set(expected)
    assert set(re.findall(r"^\| `(\w+)` \| of a source", text, re.MULTILINE)) == set(SOURCE)
    directions = re.search(r"^`direction` is (.*?)\.", text, re.MULTILINE | re.DOTALL)
    assert directions is not None
    assert set(re.findall(r"`(\w+)`", directions[1])) == set(Direction)

"""The feed against a server that answers as a real one did: what it asks, what it survives, what it says."""

from __future__ import annotations

import json
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from kube_server import RECORDED, KubeServer, kubeconfig, pod, recorded, recorded_events

from harness.waiting import wait_until
from tapper.errors import KubernetesError, MissingPackageError, UsageError
from tapper.targets import podsapi
from tapper.targets.kubernetes import KubernetesFeed, Query, delay_s
from tapper.targets.podlist import MOST_PODS
from tapper.targets.pods import PodName, Targets
from tapper.targets.podsapi import Access

FIRST = {"10.0.0.1", "fd00::1", "10.0.0.7"}
LAST = {"10.0.0.3", "fd00::3", "10.0.0.4"}


class Followed:
    """A feed, and what it said last."""

    def __init__(self, feed: KubernetesFeed, said: list[str]) -> None:
        self._feed = feed
        self.said = said
        self.targets = Targets(frozenset())
        self.asked = False

    def addresses(self) -> set[str]:
        if self.asked and not self.readable():
            return set(map(str, self.targets.addresses))  # as the loop does: it is not asked before it says so
        self.asked = True
        news = self._feed.news()
        if news is not None:
            self.targets = news
        return set(map(str, self.targets.addresses))

    def readable(self) -> bool:
        descriptor = self._feed.fileno()
        assert descriptor is not None
        return bool(select.select([descriptor], [], [], 0)[0])

    def wait(self, expected: set[str]) -> None:
        wait_until(lambda: self.addresses() == expected, f"the targets {expected}", 15, lambda: "\n".join(self.said))

    def wait_said(self, text: str) -> None:
        def check() -> bool:
            self.addresses()
            return any(text in line for line in self.said)

        wait_until(check, f"{text!r} to be said", 15, lambda: "\n".join(self.said))


@pytest.fixture
def server() -> Iterator[KubeServer]:
    made = KubeServer()
    answer = recorded("list.json")
    made.put(answer["items"], int(answer["metadata"]["resourceVersion"]))
    made.begin()
    yield made
    made.end()


Follow = Callable[..., Followed]


@pytest.fixture
def follow(server: KubeServer, tmp_path: Path) -> Iterator[Follow]:
    path = tmp_path / "kubeconfig"
    path.write_text(kubeconfig(server.port))
    threads = threading.active_count()
    with ExitStack() as stack:

        def start(query: Query | None = None, context: str | None = None) -> Followed:
            said: list[str] = []
            query = query or Query("node-a", (None,))
            return Followed(stack.enter_context(KubernetesFeed(Access(str(path), context), query, said.append)), said)

        yield start
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("pods in")]
    assert not left, f"{threads} threads before, and these are left: {left}"


def watches(server: KubeServer) -> list[str]:
    return [query["resourceVersion"] for _, query in server.requests if "watch" in query]


def lists(server: KubeServer) -> int:
    return sum("watch" not in query and "continue" not in query for _, query in server.requests)


def next_event(server: KubeServer, name: str, ip: str) -> None:
    server.change("ADDED", pod(name, [ip]))


# -- what it asks ----------------------------------------------------------------------------------------------------


def test_recorded_list_and_watch(server: KubeServer, follow: Follow) -> None:
    """The list comes in pages; the watch begins where the list was."""
    followed = follow()
    followed.wait(FIRST)
    assert followed.targets.names["10.0.0.1"] == followed.targets.names["fd00::1"] == PodName("shop", "cart-1")
    for line in recorded_events():
        server.emit(line)
    followed.wait(LAST)
    assert not followed.readable(), "the loop would spin"
    assert followed.targets.generation is None
    selector = {query["fieldSelector"] for _, query in server.requests}
    assert selector == {"spec.nodeName=node-a"}
    assert {path for path, _ in server.requests} == {"/api/v1/pods"}
    assert [query.get("continue") for _, query in server.requests] == [None, "4", None]
    (watch,) = (query for _, query in server.requests if "watch" in query)
    assert watch["resourceVersion"] == recorded("list.json")["metadata"]["resourceVersion"]
    assert watch["allowWatchBookmarks"].lower() == "true"
    assert sum("host's network" in line for line in followed.said) == 1


def test_namespaces_and_selector_are_the_servers_affair(server: KubeServer, follow: Follow) -> None:
    followed = follow(Query("node-a", ("shop", "other", "shop"), labels="app in (cart,pay),!old"))
    followed.wait(FIRST)
    asked = sorted((path, "watch" in query) for path, query in server.requests if "continue" not in query)
    places = ("/api/v1/namespaces/other/pods", "/api/v1/namespaces/shop/pods")
    assert asked == [(place, kind) for place in places for kind in (False, True)]
    assert {query["labelSelector"] for _, query in server.requests} == {"app in (cart,pay),!old"}
    next_event(server, "cart-9", "10.0.0.9")
    followed.wait(FIRST | {"10.0.0.9"})


def test_the_current_namespace_is_said(server: KubeServer, follow: Follow) -> None:
    followed = follow(Query("node-a", labels="app"))
    followed.wait({"10.0.0.1", "fd00::1"})
    assert followed.said[0] == (
        "the pods are those of the namespace shop, the current one of the kubeconfig's context test"
    )
    assert "namespace default, the current one of the kubeconfig's context bare" in follow(Query("n"), "bare").said[0]


def test_nobody_yet_is_said(server: KubeServer, follow: Follow) -> None:
    server.put([], 5)
    followed = follow()
    followed.wait(set())
    assert followed.said == ["no pod of the node node-a is a target yet: nothing is captured until one is"]
    next_event(server, "first", "10.0.0.1")
    followed.wait({"10.0.0.1"})


# -- what it survives ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["drop", "finish"])
def test_a_watch_that_ends_goes_on_where_it_was(server: KubeServer, follow: Follow, how: str) -> None:
    """Broken off or in good order: nothing is said, nothing is listed again, and nothing is lost in between."""
    followed = follow()
    first = server.version
    next_event(server, "one", "10.0.0.21")
    followed.wait(FIRST | {"10.0.0.21"})
    getattr(server, how)()
    next_event(server, "two", "10.0.0.22")
    followed.wait(FIRST | {"10.0.0.21", "10.0.0.22"})
    assert lists(server) == 1
    assert watches(server) == [str(first), str(first + 1)]
    assert not any("API server" in line for line in followed.said)


def test_watches_of_no_use_are_not_begun_in_a_hurry(server: KubeServer, follow: Follow) -> None:
    """Ended at once, as by a proxy: the version stays, nothing is listed again, and each waits longer."""
    server.answer("watch", 200, "")
    followed = follow()
    began = time.monotonic()
    wait_until(lambda: len(watches(server)) >= 5, "the fifth watch")
    assert time.monotonic() - began > 1.0  # half of 0.2 + 0.4 + 0.8 + 1.6, less what passed before
    server.answer("watch", 0, "")
    next_event(server, "next", "10.0.0.24")
    followed.wait(FIRST | {"10.0.0.24"})
    assert lists(server) == 1
    assert len(set(watches(server))) == 1


def test_credentials_are_read_again_when_they_have_expired(server: KubeServer, follow: Follow, tmp_path: Path) -> None:
    followed = follow()
    followed.wait(FIRST)
    (tmp_path / "kubeconfig").write_text(kubeconfig(server.port, token="renewed"))
    for kind in ("list", "watch"):
        server.answer(kind, 401, (RECORDED / "401.json").read_text())
    server.drop()
    wait_until(lambda: "Bearer renewed" in server.tokens, "the new credentials", 15)
    assert server.tokens[0] == "Bearer t"


def test_gone_as_an_event_is_answered_by_a_fresh_list(server: KubeServer, follow: Follow) -> None:
    """Deletions that nobody was told of are seen by what the list lacks."""
    followed = follow()
    followed.wait(FIRST)
    server.items = [item for item in server.items if item["metadata"]["name"] != "stranger"]
    server.items.append(pod("fresh", ["10.0.0.23"]))
    server.version += 100
    server.forget()
    server.drop()
    followed.wait({"10.0.0.1", "fd00::1", "10.0.0.23"})
    assert lists(server) == 2
    assert not any("API server" in line for line in followed.said)
    next_event(server, "next", "10.0.0.24")
    followed.wait({"10.0.0.1", "fd00::1", "10.0.0.23", "10.0.0.24"})


def test_gone_as_a_status(server: KubeServer, follow: Follow) -> None:
    followed = follow()
    followed.wait(FIRST)
    server.answer("watch", 410, (RECORDED / "410-list.json").read_text())
    server.put([pod("fresh", ["10.0.0.23"])], server.version + 1)
    server.drop()
    followed.wait({"10.0.0.23"})
    server.answer("watch", 0, "")
    next_event(server, "next", "10.0.0.24")
    followed.wait({"10.0.0.23", "10.0.0.24"})
    assert not any("refuses" in line for line in followed.said)


def test_a_restart_of_the_server(server: KubeServer, follow: Follow, caplog: pytest.LogCaptureFixture) -> None:
    """While it is away the targets stay; that is said once, and that it is back; what happened meanwhile is seen."""
    followed = follow()
    followed.wait(FIRST)
    server.end()
    followed.wait_said("until that is over the targets of all namespaces stay as they are")
    assert followed.addresses() == FIRST
    server.put([pod("fresh", ["10.0.0.23"])], 9000)
    server.begin()
    followed.wait({"10.0.0.23"})
    followed.wait_said("answers again")
    assert sum("API server" in line for line in followed.said) == 2
    assert not caplog.records, "nobody else tries again, and nobody else says so"
    next_event(server, "next", "10.0.0.24")
    followed.wait({"10.0.0.23", "10.0.0.24"})


@pytest.mark.parametrize(("status", "body"), [(403, "403-list.json"), (401, "401.json")])
def test_a_refusal_later_is_a_warning(server: KubeServer, follow: Follow, status: int, body: str) -> None:
    followed = follow()
    followed.wait(FIRST)
    for kind in ("list", "watch"):
        server.answer(kind, status, (RECORDED / body).read_text())
    server.drop()
    followed.wait_said(f"({status})")
    tried = len(server.requests)
    wait_until(lambda: len(server.requests) >= tried + 3, "it to try again, and again")
    assert followed.addresses() == FIRST
    assert sum("API server" in said for said in followed.said) == 1
    for kind in ("list", "watch"):
        server.answer(kind, 0, "")
    followed.wait_said("answers again")
    next_event(server, "next", "10.0.0.24")
    followed.wait(FIRST | {"10.0.0.24"})


@pytest.mark.parametrize(
    "line",
    [
        '{"type":"SURPRISE","object":{"metadata":{"resourceVersion":"9"}}}',
        '{"type":"ERROR","object":{"kind":"Status","code":500,"message":"etcd has no leader"}}',
    ],
)
def test_what_cannot_be_read_costs_a_fresh_list(server: KubeServer, follow: Follow, line: str) -> None:
    followed = follow()
    followed.wait(FIRST)
    server.events.append((server.version + 1, line.encode() + b"\n"))
    next_event(server, "next", "10.0.0.24")
    followed.wait(FIRST | {"10.0.0.24"})
    followed.wait_said("answers again")
    assert lists(server) == 2


def test_a_line_without_an_end_costs_a_fresh_list(server: KubeServer, follow: Follow) -> None:
    followed = follow()
    followed.wait(FIRST)
    server.answer("watch", 200, "x" * (5 << 20))
    server.drop()
    followed.wait_said("it sends a line of more than 4194304 bytes")
    server.answer("watch", 0, "")
    followed.wait_said("answers again")
    assert lists(server) >= 2


# -- what it refuses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "status", "body", "sentence"),
    [
        ("list", 403, "403-list.json", r"refuses \(403\): .*cannot list.*verbs list and watch on pods"),
        ("watch", 403, "403-watch.json", r"refuses \(403\): .*cannot watch.*verbs list and watch on pods"),
        ("list", 401, "401.json", r"does not take the credentials \(401\): Unauthorized"),
        ("list", 500, "401.json", r"refuses to name the pods of all namespaces \(500\)"),
    ],
)
def test_a_refusal_at_the_start_is_the_end(
    server: KubeServer, follow: Follow, kind: str, status: int, body: str, sentence: str
) -> None:
    server.answer(kind, status, (RECORDED / body).read_text())
    with pytest.raises(KubernetesError, match=sentence) as caught:
        follow()
    assert caught.value.exit_code == 7


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        ({"items": [{}] * (MOST_PODS + 1), "metadata": {"resourceVersion": "1"}}, "names more than 10000 pods"),
        ({"items": 7, "metadata": {"resourceVersion": "1"}}, "its answer is no list of pods"),
        ({"items": [{}], "metadata": {"resourceVersion": "1"}}, "its answer cannot be read: a pod has no metadata"),
    ],
)
def test_an_answer_that_is_no_list_of_a_nodes_pods(
    server: KubeServer, follow: Follow, page: dict[str, object], sentence: str
) -> None:
    server.answer("list", 200, json.dumps(page))
    with pytest.raises(KubernetesError, match=sentence):
        follow()


def test_a_bad_selector_is_the_persons_fault(server: KubeServer, follow: Follow) -> None:
    server.answer("list", 400, (RECORDED / "400-selector.json").read_text())
    with pytest.raises(UsageError, match=r"unable to parse requirement.*--selector"):
        follow(Query("node-a", labels="a==b=="))


def test_a_server_that_is_not_there_at_the_start(tmp_path: Path) -> None:
    server = KubeServer()
    server.begin()
    server.end()
    path = tmp_path / "kubeconfig"
    path.write_text(kubeconfig(server.port))
    with (
        pytest.raises(KubernetesError, match=rf"ask the API server at .*:{server.port} for pods: .*refused"),
        KubernetesFeed(Access(str(path)), Query("node-a", (None,)), lambda _: None),
    ):
        pass


@pytest.mark.parametrize("text", ["{", "[]", "kind: Config", json.dumps({"contexts": 7})])
def test_a_kubeconfig_that_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(KubernetesError, match=r"kubeconfig"):
        podsapi.PodsApi(Access(str(path)), "node-a")


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "kubernetes", None)
    with pytest.raises(MissingPackageError, match=r"tapper-harness\[kubernetes\]") as caught:
        podsapi.PodsApi(Access(), "node-a")
    assert caught.value.exit_code == 6


def test_delays_grow_to_ten_seconds_and_are_spread() -> None:
    assert [delay_s(number, 1.0) for number in range(1, 9)] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]
    assert delay_s(1_000_000, 0.0) == 5
    assert delay_s(1, 0.0) == pytest.approx(0.1)

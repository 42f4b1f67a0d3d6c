"""The API server as a real one answered: kube-apiserver 1.34.2 with Istio 1.28.10 (recorded/answers.jsonl).

Each line of the recording is a method, a path, a status and a body. One that was asked for twice was answered
differently the second time (the namespace, before and after); then the answers come in that order, the last for ever.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.errors import Unsupported, WaitTimeout
from harness.mesh.workload import Mode
from harness.worlds.cluster import objects
from harness.worlds.cluster.api import ApiRefused, ClusterApi, is_local
from harness.worlds.cluster.cleanup import Ledger
from harness.worlds.cluster.session import ClusterSession, require_consent

RECORDED = Path(__file__).parent / "recorded" / "answers.jsonl"
FIXTURES = Path(__file__).resolve().parents[3] / "fixtures" / "istio"
NAMESPACE = objects.namespace("w5-recorded", "run0")


class Replay:
    """A server on loopback that gives the recorded answers, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.answers: dict[tuple[str, str], list[tuple[int, Any]]] = defaultdict(list)
        for line in RECORDED.read_text(encoding="utf-8").splitlines():
            method, path, status, body = json.loads(line)
            self.answers[method, path].append((status, body))
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                key = (self.command, self.path.partition("?")[0])
                owner.asked.append(key)
                left = owner.answers.get(key) or [(404, {"kind": "Status", "message": "nobody has recorded this"})]
                status, body = left.pop(0) if len(left) > 1 else left[0]
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            do_GET = do_PATCH = do_DELETE = _answer

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def replay() -> Iterator[Replay]:
    made = Replay()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def api(replay: Replay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClusterApi]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # where the client keeps what it has discovered
    made = ClusterApi(kubeconfig(tmp_path, f"http://127.0.0.1:{replay.server.server_address[1]}"), None)
    yield made
    made.close()


def kubeconfig(folder: Path, server: str) -> str:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_what_is_applied_comes_back(api: ClusterApi, replay: Replay) -> None:
    assert api.get(NAMESPACE) is None
    made = api.apply(NAMESPACE)
    assert made["metadata"]["labels"][objects.OWNER] == "run0"
    assert api.apply(objects.peer_authentication("a", "w5-recorded", Mode.STRICT))["spec"]["mtls"] == {"mode": "STRICT"}
    assert ("PATCH", "/api/v1/namespaces/w5-recorded") in replay.asked


def test_a_refusal_has_the_servers_words(api: ClusterApi) -> None:
    service = objects.service(
        "Bad_Name", "w5-recorded", port=80, target_port=8080, protocol="http", headless=False, ipv6=False
    )
    with pytest.raises(
        ApiRefused, match=r"Service Bad_Name is not taken: .*a DNS-1035 label must consist of"
    ) as refused:
        api.apply(service)
    assert refused.value.status == 422
    with pytest.raises(ApiRefused, match='namespaces "w5-none" not found'):
        api.apply(objects.peer_authentication("a", "w5-none", Mode.STRICT))


def test_a_cluster_without_istio_is_told(api: ClusterApi) -> None:
    assert api.has_kind("security.istio.io/v1", "PeerAuthentication")
    assert not api.has_kind("nope.example/v1", "Nope")
    with pytest.raises(ApiRefused, match=r"no kind Nope of nope\.example/v1: is Istio installed\?"):
        api.apply({"apiVersion": "nope.example/v1", "kind": "Nope", "metadata": {"name": "a"}})


def test_what_is_removed_is_waited_for(api: ClusterApi) -> None:
    api.get(NAMESPACE)
    assert api.remove(NAMESPACE)
    assert api.get(NAMESPACE) is not None  # it is still ending
    assert not api.remove(NAMESPACE)


def test_a_session_knows_the_nodes_that_take_pods(api: ClusterApi) -> None:
    """Those of the control plane have a taint. No pods are in the recording: so no gateway."""
    api.list = _without_pods(api.list)  # type: ignore[method-assign]
    session = ClusterSession(api, "image", FIXTURES, Ledger(lambda _: None), lambda _: None)
    assert session.nodes == ["tap-worker", "tap-worker2"]
    found = session.capabilities
    assert (found.kubernetes, found.nodes, found.ipv6, found.gateway) == (True, 2, False, False)
    assert found.native_sidecars


def _without_pods(ask: Any) -> Any:
    return lambda kind, *rest, **more: [] if kind == "Pod" else ask(kind, *rest, **more)


def test_a_server_that_is_away_is_waited_for_and_told(tmp_path: Path) -> None:
    api = ClusterApi(kubeconfig(tmp_path, "http://127.0.0.1:1"), None)
    try:
        with pytest.raises(ApiRefused, match=r"http://127\.0\.0\.1:1 cannot be reached") as refused:
            api.call(api.version)
        assert refused.value.status == 0
        with pytest.raises(WaitTimeout, match=r"waited 0 s for the nodes, in vain \(.*cannot be reached"):
            api.wait(lambda: api.call(api.version), "the nodes", 0)
    finally:
        api.close()


def test_no_kubeconfig_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="no cluster can be asked"):
        ClusterApi(str(tmp_path / "nowhere"), None)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("https://127.0.0.1:36871", True),
        ("https://[::1]:6443", True),
        ("https://localhost:6443", True),
        ("https://10.1.2.3:6443", False),
        ("https://127.0.0.1.example.com", False),
        ("https://cluster.example.com", False),
    ],
)
def test_which_clusters_are_of_this_machine(host: str, *, local: bool) -> None:
    assert is_local(host) is local


def test_another_cluster_needs_a_yes(tmp_path: Path) -> None:
    api = ClusterApi(kubeconfig(tmp_path, "https://cluster.example.com"), None)
    try:
        with pytest.raises(
            Unsupported, match=r"https://cluster\.example\.com is not on this machine.*--yes-this-cluster"
        ):
            require_consent(api, consent=False)
        require_consent(api, consent=True)
    finally:
        api.close()

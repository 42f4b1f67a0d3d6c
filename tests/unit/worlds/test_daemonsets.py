"""Tappers as DaemonSets, on an API server that is played: their logs become records, and their ends are noticed."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.adapters import reference
from harness.adapters.contract import InCluster, Update
from harness.adapters.running import TapperFault
from harness.adapters.targets import Target
from harness.errors import HarnessError, InternalError, WaitTimeout
from harness.waiting import wait_until
from harness.worlds.cluster import source
from harness.worlds.cluster.adapted import DESK
from harness.worlds.cluster.adapter_daemonset import AdapterDaemonSet
from harness.worlds.cluster.kustomize import Manifest
from harness.worlds.cluster.reference_daemonset import ClusterTapper, ReferenceDaemonSet
from harness.worlds.cluster.session import ClusterSession

TARGET = Target("server", ("10.0.0.1",), "uid-server", "ours")
SPACE = "ours"
MANIFEST = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: tap}
spec:
  selector: {matchLabels: {app: tap}}
  template:
    metadata: {labels: {app: tap}}
    spec: {containers: [{name: tap, image: "acme/tap:1"}]}
"""


@dataclass
class Log:
    """The log of a container. It grows by `write`, and ends with `end`."""

    text: bytes = b""
    ended: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)

    def write(self, *records: object) -> None:
        with self.changed:
            lines = (each if isinstance(each, str) else json.dumps(each) for each in records)
            self.text += "".join(f"{line}\n" for line in lines).encode()
            self.changed.notify_all()

    def end(self) -> None:
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def stream(self, _size: int, **_: object) -> Iterator[bytes]:
        read, done = 0, False
        while not done:
            with self.changed:
                while len(self.text) == read and not self.ended:
                    self.changed.wait(30)
                piece, done = self.text[read:], self.ended
            read += len(piece)
            yield piece

    def close(self) -> None: ...

    def release_conn(self) -> None: ...


@dataclass
class Cluster:
    """An API server with one node, on which every DaemonSet has one pod with these containers."""

    containers: tuple[str, ...]
    state: Manifest = field(default_factory=lambda: {"running": {}})
    applied: list[Manifest] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    logs: dict[str, Log] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.logs = {name: Log() for name in self.containers}

    # -- what `ClusterApi` offers

    @property
    def core(self) -> Cluster:
        return self

    def fresh_core(self) -> Cluster:
        return self

    def call(self, ask: Callable[[], Any]) -> Any:
        return ask()

    def apply(self, manifest: Manifest) -> Manifest:
        self.applied.append(manifest)
        return manifest

    def remove(self, manifest: Manifest) -> bool:
        self.removed.append(manifest["kind"])
        for log in self.logs.values():
            log.end()
        return True

    def get(self, _manifest: Manifest) -> Manifest:
        return {"status": {"desiredNumberScheduled": 1, "numberReady": 1, "updatedNumberScheduled": 1}}

    def list(self, _kind: str, _space: str | None = None, _labels: str | None = None) -> list[Manifest]:
        return [
            {
                "metadata": {"name": "pod"},
                "spec": {"nodeName": "worker"},
                "status": {"containerStatuses": [self._status(name) for name in self.containers]},
            }
        ]

    def wait(self, probe: Callable[[], Any], what: str, _timeout: float, why: Callable[[], str] | None = None) -> Any:
        return wait_until(probe, what, 2, why)

    # -- what the client of Kubernetes offers

    def read_namespaced_pod_log(self, _pod: str, _space: str, *, container: str, **_: object) -> Log:
        return self.logs[container]

    def read_namespaced_pod(self, *_: object) -> Any:
        statuses = [
            SimpleNamespace(name=name, container_id=f"id-{name}", state=SimpleNamespace(running=None))
            for name in self.containers
        ]
        return SimpleNamespace(status=SimpleNamespace(container_statuses=statuses, init_container_statuses=[]))

    def _status(self, name: str) -> Manifest:
        return {"name": name, "containerID": f"id-{name}", "state": self.state, "ready": True, "restartCount": 0}


def session(cluster: Cluster) -> ClusterSession:
    owned: list[str] = []
    made = SimpleNamespace(
        api=cluster,
        fixtures=source.FIXTURES,
        image="kit:1",
        run="run",
        events=lambda: "an event",
        own_cluster_wide=lambda kind, name: owned.append(f"{kind} {name}"),
    )
    return cast(ClusterSession, made)


def http(target: str) -> dict[str, Any]:
    return {"type": "http", "target": target, "pod_ip": "10.0.0.1", "direction": "inbound", "request": None}


HELLO = ({"type": "hello"}, {"type": "source", "kind": "node", "state": "open"})


@dataclass
class Labels:
    """The target labels of pods, by the pod's name."""

    values: dict[str, str | None] = field(default_factory=dict)

    def __call__(self, target: Target, value: str | None) -> None:
        self.values[target.name] = value


def started(cluster: Cluster, labels: Labels | None = None, without: str | None = None) -> ReferenceDaemonSet:
    return ReferenceDaemonSet(
        session(cluster), SPACE, "tapper-0", [TARGET], (), labels or Labels(), istio=True, without=without
    )


def test_the_reference_is_read_by_its_log_and_has_its_targets_by_labels() -> None:
    cluster, labels = Cluster(("tapper",)), Labels()
    cluster.logs["tapper"].write("a word for people", *HELLO)
    daemonset = started(cluster, labels)
    assert labels.values == {"server": "ours.tapper-0"}
    tapper = ClusterTapper(daemonset, lambda pod: replace(TARGET, name=pod.name, ips=pod.ips))
    cluster.logs["tapper"].write(http("/1"), http("/2"))
    tapper.wait_targets(["/1", "/2"])
    assert tapper.said("worker", "a word") == ["worker: a word for people"]
    tapper.retarget([replace(TARGET, name="other")])
    assert labels.values == {"server": None, "other": "ours.tapper-0"}
    assert daemonset.generation == 2
    cluster.logs["tapper"].write({"type": "bye"})
    assert tapper.stop() == 0
    assert cluster.removed == ["DaemonSet"]
    daemonset.close()
    assert sorted(cluster.removed[1:]) == ["ClusterRole", "ClusterRoleBinding"]


def test_the_reference_has_to_capture_on_every_node() -> None:
    cluster = Cluster(("tapper",))
    cluster.logs["tapper"].write(HELLO[0])
    with pytest.raises(WaitTimeout, match="the tapper's capture on every node"):
        started(cluster)
    assert started(cluster, without="NET_RAW").running


def test_the_reference_has_to_end_with_its_summary() -> None:
    cluster = Cluster(("tapper",))
    cluster.logs["tapper"].write(*HELLO)
    with pytest.raises(HarnessError, match="the tappers of worker did not end with their summary"):
        started(cluster).stop()


def test_an_end_by_itself_is_told_with_its_code_and_its_last_words() -> None:
    cluster = Cluster(("tapper",))
    cluster.logs["tapper"].write(*HELLO)
    daemonset = started(cluster, without="NET_RAW")
    assert daemonset.ended() is None
    cluster.logs["tapper"].write("no capability NET_RAW")
    cluster.state = {"terminated": {"exitCode": 3}}
    assert wait_until(daemonset.ended, "its end") == "its end (exit code 3 on worker): worker: no capability NET_RAW"
    assert daemonset.returncode == 3


def of_adapter(
    cluster: Cluster, tmp_path: Path, *, to: str = "stdout", update: Update = Update.WATCH
) -> AdapterDaemonSet:
    manifest = tmp_path / "tap.yaml"
    manifest.write_text(MANIFEST)
    adapter = replace(reference.adapter(), to=to, cluster=InCluster(manifest, None, None, (), update))
    return AdapterDaemonSet(session(cluster), SPACE, adapter, [TARGET], tmp_path / "evidence")


def test_an_adapters_records_come_by_its_log(tmp_path: Path) -> None:
    cluster = Cluster(("tap", DESK))
    daemonset = of_adapter(cluster, tmp_path)
    environ = cluster.applied[-1]["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "TAPPER_HARNESS_TARGET_IPS", "value": "10.0.0.1"} in environ
    cluster.logs["tap"].write(http("/nonce-" + "1" * 32), "no record")
    wait_until(daemonset.mentioned, "its record")
    assert [each.target for each in daemonset.reported()] == ["/nonce-" + "1" * 32]
    assert daemonset.last_words() == "worker: no record"
    daemonset.stop()
    daemonset.save()
    assert "no record" in (tmp_path / "evidence" / "1-worker.log").read_text()


def test_an_adapters_files_come_by_the_desk(tmp_path: Path) -> None:
    cluster = Cluster(("tap", DESK))
    daemonset = of_adapter(cluster, tmp_path, to="file")
    line = json.dumps(http("/nonce-" + "2" * 32)) + "\n"
    cluster.logs[DESK].write({"file": "out", "data": base64.b64encode(line.encode()).decode()})
    wait_until(daemonset.mentioned, "its record")
    daemonset.stop()
    assert daemonset.problems() == []


def test_a_tapper_that_does_not_start_is_at_fault(tmp_path: Path) -> None:
    cluster = Cluster(("tap", DESK), state={"waiting": {"reason": "ErrImagePull", "message": "no such image"}})
    with pytest.raises(TapperFault, match="ErrImagePull: no such image"):
        of_adapter(cluster, tmp_path)
    cluster.state = {"terminated": {"exitCode": 2}}
    cluster.logs["tap"].write("usage: tap")
    with pytest.raises(TapperFault, match=r"its end \(exit code 2 on worker\): worker: usage: tap"):
        of_adapter(cluster, tmp_path)


def test_targets_cannot_change_without_a_way(tmp_path: Path) -> None:
    cluster = Cluster(("tap", DESK))
    daemonset = of_adapter(cluster, tmp_path, update=Update.NONE)
    with pytest.raises(InternalError, match="cannot be given other targets in a cluster"):
        daemonset.retarget([])
    daemonset.close()

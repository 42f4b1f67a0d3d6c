"""The objects of a scenario in a cluster, against Kubernetes' own schemas."""

from __future__ import annotations

import kubernetes_validate
import pytest
from manifests import FOLDER, container, of_kind, pod_spec, render

from harness.mesh.workload import Mode
from harness.worlds.cluster import objects
from harness.worlds.cluster.kustomize import Manifest

VERSION = "1.33"


def tapper(*options: str, istio: bool = True, without: str | None = None) -> list[Manifest]:
    return objects.tapper(
        FOLDER, "tapper-0", "space-1", "image:tag", "run0", options=options, istio=istio, without=without
    )


@pytest.mark.parametrize("native", [None, True, False])
def test_kubernetes_takes_them(native: bool | None) -> None:
    made = [
        objects.namespace("space-1", "run0"),
        objects.pod("a", "space-1", "i", ["x"], port=8080, meshed=True, node="n", env={"A": "b"}, native=native),
        objects.service("s", "space-1", port=80, target_port=8080, protocol="grpc", headless=False, ipv6=True),
        objects.service("s", "space-1", port=80, target_port=8080, protocol="http", headless=True, ipv6=False),
        objects.observer("space-1", "i"),
        *tapper("--verify", without="NET_RAW"),
    ]
    for manifest in made:
        kubernetes_validate.validate(manifest, VERSION, strict=True)


def test_the_tapper_is_that_of_the_fixtures() -> None:
    """The same rights, the same arguments but for its targets, the options, and the metrics port."""
    ours, theirs = of_kind(tapper(), "DaemonSet"), of_kind(render(FOLDER / "tapper"), "DaemonSet")
    assert container(ours)["securityContext"] == container(theirs)["securityContext"]
    assert pod_spec(ours)["securityContext"] == pod_spec(theirs)["securityContext"]
    expected = list(container(theirs)["args"])
    expected[expected.index("--selector") + 1] = "tapper-harness/target=space-1.tapper-0"
    at = expected.index("--metrics")
    del expected[at : at + 2]
    assert container(ours)["args"] == expected
    assert container(of_kind(tapper("--verify"), "DaemonSet"))["args"] == [*expected, "--verify"]


def test_what_a_scenario_changes_of_it() -> None:
    assert "--istio" not in container(of_kind(tapper(istio=False), "DaemonSet"))["args"]
    kept = container(of_kind(tapper(without="NET_RAW"), "DaemonSet"))["securityContext"]["capabilities"]["add"]
    assert sorted(kept) == ["DAC_READ_SEARCH", "SYS_ADMIN", "SYS_PTRACE"]


def test_nothing_of_it_has_a_name_that_somebody_else_may_have() -> None:
    """What no namespace takes along is named after it, and the binding leads to it."""
    made = tapper()
    assert {each["kind"] for each in made} == {"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "DaemonSet"}
    binding = of_kind(made, "ClusterRoleBinding")
    assert binding["metadata"]["name"] == binding["roleRef"]["name"] == "space-1-tapper-0"
    assert of_kind(made, "ClusterRole")["metadata"]["name"] == "space-1-tapper-0"
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "tapper-0", "namespace": "space-1"}]


def test_a_mode_for_one_pod() -> None:
    spec = objects.peer_authentication("server", "space-1", Mode.PERMISSIVE)["spec"]
    assert spec == {"selector": {"matchLabels": {"app": "server"}}, "mtls": {"mode": "PERMISSIVE"}}


def test_a_cluster_of_kind_has_two_workers() -> None:
    assert [node["role"] for node in objects.kind_config()["nodes"]] == ["control-plane", "worker", "worker"]


@pytest.mark.parametrize(
    ("line", "address"),
    [
        ("outbound|80||shop.a.svc.cluster.local::10.244.1.8:8080::health_flags::healthy", "10.244.1.8"),
        ("outbound|80||shop.a.svc.cluster.local::[fd00:10:244:1::8]:8080::health_flags::healthy", "fd00:10:244:1::8"),
        ("outbound|80||shop.a.svc.cluster.local::10.244.1.8:8080::health_flags::/failed_eds_health", None),
        ("outbound|80||shop.a.svc.cluster.local::10.244.1.8:8080::weight::1", None),
    ],
)
def test_what_envoy_says_of_its_endpoints(line: str, address: str | None) -> None:
    from harness.worlds.cluster.sidecars import healthy

    assert healthy(line) == address

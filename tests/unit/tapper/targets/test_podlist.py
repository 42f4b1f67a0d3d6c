"""What events come to, without a network: recorded ones, and their neighbours."""

from __future__ import annotations

import json
import re

import pytest
from kube_server import pod, recorded, recorded_events

from tapper.targets.podlist import MOST_PODS, ApiError, PodList


def names(pods: PodList) -> dict[str, list[str]]:
    return {each.name.name: sorted(map(str, each.addresses)) for each in pods.pods}


def listed(wanted: str | None = None) -> PodList:
    pods = PodList(None if wanted is None else re.compile(wanted))
    answer = recorded("list.json")
    pods.replace(answer["items"], answer["metadata"]["resourceVersion"])
    return pods


def event(kind: str, item: dict[str, object], version: int = 400) -> str:
    item["metadata"]["resourceVersion"] = str(version)  # type: ignore[index]
    return json.dumps({"type": kind, "object": item})


def test_a_recorded_list_and_watch() -> None:
    """Pods without addresses, over, or on the host's network are none; all addresses of the others count."""
    pods = listed()
    assert names(pods) == {"cart-1": ["10.0.0.1", "fd00::1"], "stranger": ["10.0.0.7"]}
    states = []
    for line in recorded_events():
        pods.apply(line)
        states.append(names(pods))
    first, cart_3, waiting = {"cart-1": ["10.0.0.1", "fd00::1"]}, {"cart-3": ["10.0.0.3", "fd00::3"]}, ["10.0.0.4"]
    stranger = {"stranger": ["10.0.0.7"]}
    over = cart_3 | {"waiting": waiting}
    assert states == [
        first | stranger,
        first | stranger | cart_3,
        first | stranger | cart_3 | {"waiting": waiting},
        stranger | over,
        stranger | over,
        over,
        over,
        over,
    ]
    assert pods.version == json.loads(recorded_events()[-1])["object"]["metadata"]["resourceVersion"]


def test_the_hosts_network_is_told_once() -> None:
    notes = listed().notes
    assert list(notes) == ["hostNetwork"]
    assert "kube-system/proxy is on the host's network and left out" in notes["hostNetwork"]


def test_the_regex_is_searched_for_in_the_name_and_nowhere_else() -> None:
    assert set(names(listed("art-[12]$"))) == {"cart-1"}
    assert set(names(listed("shop|other"))) == set()
    assert set(names(listed(""))) == {"cart-1", "stranger"}


def test_a_bookmark_moves_the_version_and_nothing_else() -> None:
    pods = listed()
    before = pods.pods
    pods.apply('{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"999"},"spec":{},"status":{}}}')
    assert (pods.version, pods.pods) == ("999", before)


def test_an_error_says_its_code() -> None:
    with pytest.raises(ApiError, match="too old resource version") as caught:
        listed().apply(json.dumps(recorded("410-event.jsonl")))
    assert caught.value.status == 410


def test_a_pod_of_the_same_name_is_another_pod() -> None:
    """The old one's DELETED may be late."""
    pods = PodList()
    old, new = pod("cart-0", ["10.0.0.1"]), pod("cart-0", ["10.0.0.2"])
    new["metadata"]["uid"] = "another"
    pods.replace([old], "1")
    pods.apply(event("ADDED", new))
    pods.apply(event("DELETED", old))
    assert names(pods) == {"cart-0": ["10.0.0.2"]}


def test_a_pod_that_has_only_a_pod_ip() -> None:
    old = pod("cart-0", ["10.0.0.1"])
    del old["status"]["podIPs"]
    pods = PodList()
    pods.replace([old], "1")
    assert names(pods) == {"cart-0": ["10.0.0.1"]}


def test_a_pod_ip_that_is_a_number_is_refused() -> None:
    """Python's ip_address(167772161) is 10.0.0.1."""
    odd = pod("cart-0", [])
    odd["status"]["podIP"] = 167772161
    with pytest.raises(ValueError, match="no podIP that is a text"):
        PodList().replace([odd], "1")


def test_an_address_that_is_none_is_left_out_and_told() -> None:
    pods = PodList()
    pods.replace([pod("cart-0", ["010.0.0.1", "fd00::1"])], "1")
    assert names(pods) == {"cart-0": ["fd00::1"]}
    (note,) = pods.notes.values()
    assert "'010.0.0.1', of the pod shop/cart-0, is no address" in note


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[]",
        "{}",
        '{"type":"ADDED"}',
        '{"type":"ADDED","object":{}}',
        '{"type":"ADDED","object":{"metadata":{"resourceVersion":"7","uid":"u"}}}',
        '{"type":"SURPRISE","object":{"metadata":{"resourceVersion":"7"}}}',
        '{"type":"DELETED","object":{"metadata":{"resourceVersion":"7"}}}',
        "[" * 100_000,
    ],
)
def test_what_is_no_event_is_refused_and_changes_nothing(line: str) -> None:
    pods = listed()
    before = pods.pods, pods.version
    with pytest.raises(ValueError, match=r"."):
        pods.apply(line)
    assert (pods.pods, pods.version) == before


def test_more_pods_than_a_node_can_have_are_refused() -> None:
    """And so are more notes about them than anybody reads."""
    pods, item = PodList(), pod("cart", ["10.0.0.1", ""])
    for number in range(MOST_PODS):
        item["metadata"]["uid"] = item["status"]["podIPs"][1]["ip"] = f"number {number}"
        pods.apply(event("ADDED", item))
    assert len(pods.pods) == 1, "they are equal but for their uids"
    assert 10 < len(pods.notes) < 1000
    item["metadata"]["uid"] = "one more"
    with pytest.raises(ValueError, match="more than 10000 pods"):
        pods.apply(event("ADDED", item))

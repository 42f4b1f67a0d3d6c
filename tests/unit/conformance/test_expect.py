"""What is told has to be true, and how often is held against what a tapper does in calm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from harness.adapters import contract
from harness.adapters.contract import Adapter, Feature
from harness.adapters.observed import ReportedExchange, ReportedMessage
from harness.conformance import expect, groups
from harness.conformance.truth import INBOUND, OUTBOUND, ExpectedLeg, Sent, new_nonce, target_of
from harness.conformance.verdict import Violation
from harness.mesh.app import NONCE_HEADER
from harness.sandbox.pod import Pod

POD = cast(Pod, SimpleNamespace(name="server", ipv4="10.244.0.2", ipv6="fd00:10:244::2"))
REFERENCE = contract.load(Path(groups.__file__).parents[2] / "adapters" / "shipped" / "reference.toml")
PLAIN = replace(REFERENCE, claims=frozenset({Feature.PACKETS}))


def sent(direction: str = INBOUND) -> Sent:
    nonce = new_nonce()
    return Sent(
        nonce, "GET", target_of(nonce), 200, (ExpectedLeg(POD, direction),), "[::6]:40001", "[fd00:10:244::2]:8080"
    )


def seen(each: Sent) -> ReportedExchange:
    direction = each.legs[0].direction
    return ReportedExchange(
        each.target, "GET", 200, "10.244.0.2", direction, each.src, each.dst, response=ReportedMessage()
    )


@pytest.mark.parametrize(
    ("counts", "usual"),
    [((), None), ((0, 0), None), ((1, 1), 1), ((2, 2, 1), 2), ((1, 2), 1), ((0, 2), 2), ((4, 4, 2, 2), 2)],
)
def test_how_often_is_usual(counts: tuple[int, ...], usual: int | None) -> None:
    canaries = [sent() for _ in counts]
    sightings = [seen(each) for each, count in zip(canaries, counts, strict=True) for _ in range(count)]
    assert expect.usual_copies(canaries, sightings) == usual


def test_a_sentence_says_which_of_many_and_which_leg() -> None:
    many = [sent() for _ in range(9)]
    with pytest.raises(Violation) as raised:
        expect.seen(many, [seen(each) for each in many[:3] + many[5:6]], REFERENCE)
    assert (
        raised.value.seen
        == f"5 not at all, namely the 4th to 5th and 7th to 9th of 9; the first is GET {many[3].target}"
    )
    other = cast(Pod, SimpleNamespace(name="client", ipv4="10.244.0.9", ipv6="fd00:10:244::9"))
    two = replace(sent(), legs=(ExpectedLeg(other, OUTBOUND), ExpectedLeg(POD, INBOUND)), src=None, dst=None)
    with pytest.raises(Violation) as raised:
        expect.seen([two], [replace(seen(two), direction=INBOUND)], REFERENCE)
    begin = (
        f'1 too seldom, namely the only one; the first is GET {two.target}, without its leg outbound at pod "client"'
    )
    assert raised.value.seen.startswith(f"{begin} (10.244.0.9): GET ")
    with pytest.raises(Violation) as raised:
        expect.seen(many, [seen(each) for each in many] + [seen(many[8])], REFERENCE, copies=1)
    assert raised.value.seen.startswith("1 too often, namely the 9th of 9; the first is GET ")


@pytest.mark.parametrize(
    ("pod_ip", "right"), [("10.244.0.2", True), ("10.244.0.3", False)], ids=["its own", "another's"]
)
def test_a_pod_is_named_in_quotes_and_with_its_address(pod_ip: str, right: bool) -> None:
    each = sent()
    if right:
        expect.seen([each], [replace(seen(each), pod_ip=pod_ip)], REFERENCE)
    else:
        with pytest.raises(
            Violation, match=r'inbound at pod "server" \(10\.244\.0\.2\); seen: inbound at not pod "server"'
        ):
            expect.seen([each], [replace(seen(each), pod_ip=pod_ip)], REFERENCE)


def test_no_more_often_than_usual() -> None:
    each = sent()
    twice = [seen(each)] * 2
    expect.seen([each], twice, REFERENCE)
    expect.seen([each], twice, REFERENCE, copies=2)
    expect.seen([each], twice[:1], REFERENCE, copies=2)
    with pytest.raises(Violation, match="1 too often"):
        expect.seen([each], twice, REFERENCE, copies=1)
    with pytest.raises(Violation, match=r"once, and each 2 times as in calm; seen: 1 too often"):
        expect.seen([each], twice + twice, REFERENCE, copies=2)
    with pytest.raises(Violation, match="1 not at all"):
        expect.seen([each], [], REFERENCE, copies=2)


@pytest.mark.parametrize("adapter", [REFERENCE, PLAIN], ids=["http1", "packets"])
@pytest.mark.parametrize(
    ("told", "right"),
    [
        ({"src": None, "dst": None}, True),
        ({"src": "[0:0:0:0:0:0:0:6]:40001", "dst": "[FD00:10:244::2]:8080"}, True),
        ({"src": "::6:40001"}, False),
        ({"src": "[::6]:40002"}, False),
        ({"src": "[::7]:40001"}, False),
        ({"src": "203.0.113.77:0"}, False),
        ({"dst": "[fd00:10:244::2]:15006"}, False),
        ({"dst": "[::1]:15001"}, False),
    ],
)
def test_the_ends_are_the_packet_s_or_nothing_is_said(
    told: dict[str, str | None], right: bool, adapter: Adapter
) -> None:
    each = sent()
    sighting = replace(seen(each), **told)  # type: ignore[arg-type]
    if right:
        expect.seen([each], [sighting], adapter)
    else:
        with pytest.raises(Violation, match=r"(from|to) \["):
            expect.seen([each], [sighting], adapter)


def test_a_redirected_connection_may_end_at_the_sidecar() -> None:
    each = sent(OUTBOUND)
    for dst in (each.dst, "[::1]:15001", "127.0.0.1:15001"):
        expect.seen([each], [replace(seen(each), dst=dst)], REFERENCE)


def test_the_target_is_as_it_was_where_http_is_claimed() -> None:
    each = sent()
    absolute = replace(seen(each), target=f"http://shop{each.target}")
    expect.seen([each], [absolute], PLAIN)
    with pytest.raises(Violation, match="answered with 200"):
        expect.seen([each], [absolute], REFERENCE)


def test_the_answer_is_the_request_s_own() -> None:
    each, other = sent(), sent()
    own = ReportedMessage(headers=((NONCE_HEADER, each.nonce),))
    expect.seen([each], [replace(seen(each), response=own)], REFERENCE)
    answer = ReportedMessage(headers=((NONCE_HEADER, other.nonce),))
    with pytest.raises(Violation, match=f"its own answer; seen: that of {other.nonce}"):
        expect.seen([each], [replace(seen(each), response=answer)], REFERENCE)


@pytest.mark.parametrize("pod_ip", ["fd00:10:244::2", "FD00:10:244::2", "fd00:10:244:0:0:0:0:2", "10.244.0.2"])
def test_a_pod_s_address_may_be_spelled_in_any_valid_way(pod_ip: str) -> None:
    each = sent()
    expect.seen([each], [replace(seen(each), pod_ip=pod_ip)], REFERENCE)


def test_another_pod_s_address_is_not_this_pod_s() -> None:
    each = sent()
    with pytest.raises(Violation, match=r'inbound at pod "server"'):
        expect.seen([each], [replace(seen(each), pod_ip="fd00:10:244::3")], REFERENCE)


def test_a_record_without_a_body_has_said_nothing_about_it() -> None:
    each = replace(sent(), response_body=b"ok")
    without = replace(seen(each), response=ReportedMessage(gives_body=False))
    expect.bodies([each], [without], where_told=True)
    with pytest.raises(Violation, match="body of 2 bytes"):
        expect.bodies([each], [without])
    with pytest.raises(Violation, match="body of 2 bytes"):
        expect.bodies([each], [replace(seen(each), response=ReportedMessage(body=b"no"))], where_told=True)

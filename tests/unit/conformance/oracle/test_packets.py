"""Captures of packets: every byte of the targets, once, and nothing of others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from oracle_world import World, everything

from harness.adapters.packets import Packet
from harness.conformance.oracle.model import Difference, DifferenceKind, Span
from harness.mesh import replay
from harness.sandbox.frames import ETHERNET_HEADER

ETHERNET = 1


@pytest.fixture(scope="module")
def world() -> World:
    return everything()


def captured(world: World, *names: str, interface: Callable[[str], str] = lambda name: name) -> list[Packet]:
    return [
        Packet(frame.time_ns, interface(name), ETHERNET, len(frame.data), frame.data)
        for name, frames in world.frames.items()
        for frame in frames
        if not names or name in names
    ]


def said(differences: Iterable[Difference]) -> list[str]:
    return [f"{each.kind} {each.field}: {each}" for each in differences]


def judged(world: World, packets: list[Packet], **changes: object) -> list[Difference]:
    return world.judged(world.question((), packets=packets, **changes))


@pytest.mark.parametrize(
    "interface",
    [lambda name: name, lambda name: f"lo@10.244.0.{name[-1]}", lambda _: "any"],
    ids=["name", "ip", "none"],
)
def test_a_whole_capture_has_no_fault(world: World, interface: Callable[[str], str]) -> None:
    assert said(judged(world, captured(world, interface=interface))) == []


def test_packets_without_payload_are_asked_of_nobody(world: World) -> None:
    packets = [packet for packet in captured(world) if (segment := packet.tcp()) is not None and segment.payload]
    assert said(judged(world, packets)) == []


def test_packets_with_a_start_line_only_are_too_few(world: World) -> None:
    packets = [packet for packet in captured(world) if b" HTTP/1.1\r\n" in packet.data or b"HTTP/1.1 " in packet.data]
    kinds = {each.kind for each in judged(world, packets)}
    assert kinds == {DifferenceKind.MISSING}


def test_each_packet_twice_is_too_often(world: World) -> None:
    packets = [packet for packet in captured(world) for _ in (1, 2)]
    assert {each.kind for each in judged(world, packets)} == {DifferenceKind.REPEATED}


def test_packets_of_a_pod_that_is_no_target_are_forbidden(world: World) -> None:
    spans = [Span("pod-2", 0, world.now_ns)]
    assert said(judged(world, captured(world, "pod-2"), spans=spans)) == []
    assert {each.kind for each in judged(world, captured(world), spans=spans)} == {DifferenceKind.FORBIDDEN}


def test_a_packet_that_is_cut_is_told(world: World) -> None:
    packets = [replace(packet, data=packet.data[:90]) for packet in captured(world)]
    assert {(each.kind, each.field) for each in judged(world, packets)} == {(DifferenceKind.WRONG, "packet")}


def test_a_whole_packet_whose_header_states_more_bytes_than_crossed_is_not_cut(world: World) -> None:
    packets = [replace(packet, length=packet.length + 8) for packet in captured(world)]
    assert said(judged(world, packets)) == []


def test_times_of_another_hour_are_told(world: World) -> None:
    packets = [replace(packet, time_ns=(packet.time_ns or 0) + 3600 * 10**9) for packet in captured(world)]
    assert {(each.kind, each.field) for each in judged(world, packets)} == {(DifferenceKind.WRONG, "ts")}


def test_what_is_captured_besides_is_nobody_s(world: World) -> None:
    elsewhere = replay.ReplayLeg(("10.244.0.1", 1234), ("192.0.2.1", 443), ("192.0.2.1", 443))
    besides = [Packet(0, "eth0", ETHERNET, len(data), data) for data in replay.conversation(elsewhere, [(b"a", b"b")])]
    assert said(judged(world, captured(world) + besides)) == []


def test_packets_that_their_receiver_refuses_may_be_captured_or_not() -> None:
    changed = everything()
    frames = changed.frames["pod-1"]
    at = [number for number, frame in enumerate(frames) if b" HTTP/1.1\r\n" in frame.data][1]
    seq_at = ETHERNET_HEADER + 20 + 4
    elsewhere = (1 << 31).to_bytes(4, "big")
    other = replace(frames[at], data=frames[at].data[:seq_at] + elsewhere + frames[at].data[seq_at + 4 :], refused=True)
    frames.insert(at, other)
    with_it, without = captured(changed), [each for each in captured(changed) if each.data != other.data]
    assert len(without) < len(with_it)
    assert said(judged(changed, with_it)) == []
    assert said(judged(changed, without)) == []

"""The file of targets: what it says, what is wrong with it, and whether it is another one."""

from __future__ import annotations

import json
import os
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tapper_wire import Capture, Wire

from tapper.errors import UsageError
from tapper.streams.connection import Scope
from tapper.targets.addresses import packed
from tapper.targets.feed import TargetsFile
from tapper.targets.pods import PodName, Targets, parse_in_steps

SHOP = {"uid": "u1", "namespace": "default", "name": "shop", "ips": ["10.0.0.1", "FD00::0:1"]}


def parse_pods(text: str | bytes) -> Targets:
    return next(targets for targets in parse_in_steps(text) if targets is not None)


def document(*pods: object, generation: object = 7) -> str:
    return json.dumps({"generation": generation, "pods": pods, "more": 1})


def test_all_addresses_of_a_pod_count_and_have_its_name() -> None:
    cart = {"namespace": "other", "name": "cart", "ips": ["::ffff:10.0.0.2"]}
    name = PodName("default", "shop")
    assert parse_pods(document(SHOP, cart)) == Targets(
        frozenset(map(ip_address, ["10.0.0.1", "fd00::1", "10.0.0.2"])),
        {"10.0.0.1": name, "fd00::1": name, "10.0.0.2": PodName("other", "cart")},
        7,
    )


def test_an_address_that_pods_share_names_none_of_them() -> None:
    """As on the host's network. It is a target all the same."""
    twin = {**SHOP, "name": "twin", "ips": ["10.0.0.1"]}
    found = parse_pods(document(SHOP, twin))
    assert ip_address("10.0.0.1") in found.addresses
    assert list(found.names) == ["fd00::1"]


def test_a_name_with_a_single_surrogate_can_be_written() -> None:
    """JSON may have one, and no encoding does."""
    targets = parse_pods(document({**SHOP, "namespace": "a\ud800b", "name": "\U0001f600", "ips": ["10.0.0.1"]}))
    assert targets.names == {"10.0.0.1": PodName("a\ufffdb", "\U0001f600")}


def test_an_empty_list_is_a_list() -> None:
    assert parse_pods(document()) == Targets(frozenset(), {}, 7)
    assert parse_pods(document({**SHOP, "ips": []})).addresses == frozenset()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is not JSON"),
        ("[" * 100_000, "it is nested too deeply"),
        ("\udcff".encode("utf-8", "surrogatepass"), "it is not JSON"),
        ("[]", "it is no object"),
        ('{"pods": []}', "it has no generation that is a whole number"),
        (document(generation=True), "it has no generation that is a whole number"),
        ('{"generation": 1}', "it has no pods that is a list"),
        (document(5), "pods[0] is no object"),
        (document(SHOP, {**SHOP, "ips": "10.0.0.1"}), "pods[1] has no ips that is a list"),
        (document({**SHOP, "name": None}), "pods[0] has no name that is a text"),
        (
            document({**SHOP, "ips": ["10.0.0.1/8"]}),
            "'10.0.0.1/8' in the ips of pods[0] is not an IPv4 or IPv6 address",
        ),
        (document({**SHOP, "ips": [167772161]}), "167772161 in the ips of pods[0] is not an IPv4 or IPv6 address"),
    ],
)
def test_what_is_wrong_is_said(text: str | bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=r"^(it|pods|'|\d)") as caught:
        parse_pods(text)
    assert str(caught.value).startswith(reason)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*SHOP, "pods", "generation"]), inner),
    max_leaves=8,
)


@given(st.binary(max_size=40) | JSON.map(json.dumps) | JSON.map(document))
def test_anything_is_read_or_refused(text: str | bytes) -> None:
    """No file does worse than a ValueError."""
    try:
        parse_pods(text)
    except ValueError:
        return


def test_a_file_is_another_one_after_each_replacement(tmp_path: Path) -> None:
    path, fresh = tmp_path / "targets.json", tmp_path / "fresh"
    file = TargetsFile(str(path))
    assert not file.changed()
    path.write_text(document(SHOP))
    assert file.changed()
    assert file.read().generation == 7
    assert not file.changed()
    kept = path.stat()
    fresh.write_text(document(SHOP, generation=8))  # as long as before, and as old
    os.utime(fresh, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    fresh.rename(path)
    assert file.changed()
    assert file.read().generation == 8
    path.unlink()
    assert file.changed()
    with pytest.raises(UsageError, match=r"cannot read .*targets\.json: no such file or directory"):
        file.read()
    assert not file.changed()


def test_a_bad_file_is_read_once_until_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "targets.json"
    path.write_text("{")
    file = TargetsFile(str(path))
    with pytest.raises(UsageError, match=r"targets\.json is no list of targets: it is not JSON"):
        file.read()
    assert not file.changed()
    path.write_text("{}")
    assert file.changed()


# -- the node's connections when the targets change --------------------------------------------------------------------


def scope(*addresses: str) -> Scope:
    return Scope(None, packed(map(ip_address, addresses)))


def test_a_fifo_is_refused_without_waiting(tmp_path: Path) -> None:
    """Opening it would wait for somebody who writes, and nothing is captured meanwhile."""
    path = tmp_path / "targets"
    os.mkfifo(path)
    with pytest.raises(UsageError, match="is no regular file"):
        TargetsFile(str(path)).read()


def test_a_connection_out_of_scope_is_forgotten_with_what_it_held() -> None:
    """Its half request is never reported, nor what follows; another connection goes on, under its remaining target."""
    gone = Wire((("10.0.0.1", 40000), ("10.9.9.9", 80)))
    kept = Wire((("10.0.0.1", 40001), ("10.0.0.2", 80)))
    capture = Capture(scope("10.0.0.1", "10.0.0.2"))
    capture.feed([*gone.handshake(), *kept.handshake()])
    capture.feed([gone.ask(b"GET /gone HTTP/1.1\r\nX: "), kept.ask(b"GET /kept HTTP/1.1\r\n")])
    assert capture.connections.held > 0
    capture.connections.rescope(scope("10.0.0.2"))
    capture.feed([gone.ask(b"1\r\n\r\n"), *gone.exchange("/more", ""), kept.ask(b"\r\n")])
    capture.feed([kept.answer(b"HTTP/1.1 204 No Content\r\n\r\n")]).finish()
    assert capture.pairs == [("/kept", "")]
    assert [record.leg.pod_ip for record in capture.seen] == ["10.0.0.2"]
    assert capture.connections.held == 0


def test_an_empty_scope_reports_nothing_and_a_wider_one_again() -> None:
    capture = Capture(scope("10.0.0.1"))
    wire = Wire((("10.0.0.1", 40000), ("10.9.9.9", 80)))
    capture.connections.rescope(scope())
    capture.feed([*wire.handshake(), *wire.exchange("/unseen", "")])
    capture.connections.rescope(scope("10.0.0.1"))
    capture.feed(wire.exchange("/seen", "")).silence()
    assert capture.pairs == [("/seen", "")]

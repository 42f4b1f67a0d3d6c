"""Which process is a target's Envoy: a table, without processes."""

from __future__ import annotations

import errno
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapper.discovery.envoy import ProcessSnapshot, Unreadable, classify, instance_ip
from tapper.discovery.finders import Finder, Finding, Verdict, is_envoy_path
from tapper.namespaces.identity import NamespaceId

NETNS = NamespaceId(4, 4026531840)
TARGETS = frozenset({ip_address("10.0.0.1"), ip_address("fd00::1")})
ENV = b"A=b\0INSTANCE_IP=10.0.0.1\0"


@pytest.mark.parametrize(
    ("exe", "expected"),
    [
        ("/usr/local/bin/envoy", True),
        ("/envoy", True),
        ("/usr/local/bin/envoy (deleted)", True),
        ("/home/x y/envoy", True),
        ("/memfd:envoy (deleted)", False),
        ("/usr/local/bin/notenvoy", False),
        ("/usr/local/bin/envoy-x", False),
        ("/usr/local/bin/envoy/pilot-agent", False),
        ("/usr/local/bin/Envoy", False),
        ("/usr/local/bin/envoy (deleted) (deleted)", False),
        ("envoy", False),
        ("", False),
    ],
)
def test_the_last_component_is_exactly_envoy(exe: str, expected: bool) -> None:
    assert is_envoy_path(exe) is expected


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (b"INSTANCE_IP=10.0.0.1", b"10.0.0.1"),
        (b"A=1\0INSTANCE_IP=10.0.0.1\0B=2\0", b"10.0.0.1"),
        (b"XINSTANCE_IP=10.0.0.9\0INSTANCE_IP=10.0.0.1\0", b"10.0.0.1"),
        (b"INSTANCE_IP_X=10.0.0.9\0INSTANCE_IP=10.0.0.1\0", b"10.0.0.1"),
        (b"A=INSTANCE_IP=10.0.0.9\0INSTANCE_IP=10.0.0.1\0", b"10.0.0.1"),
        (b"INSTANCE_IP=10.0.0.1\0INSTANCE_IP=10.0.0.2\0", b"10.0.0.1"),
        (b"INSTANCE_IP\0INSTANCE_IP=a=b\0", b"a=b"),
        (b"INSTANCE_IP=\0INSTANCE_IP=10.0.0.1\0", b""),
        (b"\0\0=\0=x\0\xff\xfe=\xff\0INSTANCE_IP=\xff\0", b"\xff"),
        (b"A=" + b"x" * 131_070 + b"\0INSTANCE_IP=10.0.0.1\0", b"10.0.0.1"),
        (b"instance_ip=10.0.0.1\0", None),
        (b"", None),
    ],
)
def test_environ(environ: bytes, expected: bytes | None) -> None:
    assert instance_ip(environ) == expected


@given(st.binary(max_size=100))
def test_any_environ_is_read(environ: bytes) -> None:
    value = instance_ip(environ)
    assert value is None or b"INSTANCE_IP=" + value in environ


def process(
    exe: str | Unreadable | None = "/usr/local/bin/envoy",
    environ: bytes | Unreadable | None = ENV,
    netns: NamespaceId | Unreadable | None = NETNS,
    name: str = "envoy",
    argv0: str = "envoy",
) -> ProcessSnapshot:
    return ProcessSnapshot(42, exe, environ, netns, name, argv0)


def test_the_envoy_of_a_target() -> None:
    address = ip_address("10.0.0.1")
    expected = Finding(
        42, "/usr/local/bin/envoy", NETNS, Verdict.ENVOY, None, "10.0.0.1", found_by=Finder.ENVOY, address=address
    )
    assert classify(process(), TARGETS) == expected


@pytest.mark.parametrize("value", [b"fd00::1", b"FD00:0::0001", b"::ffff:10.0.0.1", b"::FFFF:a00:1"])
def test_any_spelling_of_a_target(value: bytes) -> None:
    assert classify(process(environ=b"INSTANCE_IP=" + value), TARGETS).verdict is Verdict.ENVOY


def test_without_targets_every_envoy_is_one() -> None:
    assert classify(process(environ=b"INSTANCE_IP=192.0.2.1"), None).verdict is Verdict.ENVOY


DENIED = Unreadable(errno.EACCES)


@pytest.mark.parametrize(
    ("snapshot", "verdict", "reason"),
    [
        (process(environ=b"INSTANCE_IP=10.0.0.10"), Verdict.NOT_A_TARGET, "its INSTANCE_IP is not a target"),
        (process(environ=b"A=b"), Verdict.NO_INSTANCE_IP, "no INSTANCE_IP in its environment"),
        (process(environ=b""), Verdict.NO_INSTANCE_IP, "no INSTANCE_IP in its environment"),
        (process(environ=b"INSTANCE_IP="), Verdict.BAD_INSTANCE_IP, "its INSTANCE_IP is not an address"),
        (process(environ=b"INSTANCE_IP= 10.0.0.1"), Verdict.BAD_INSTANCE_IP, "its INSTANCE_IP is not an address"),
        (process(environ=b"INSTANCE_IP=10.0.0.1\xff"), Verdict.BAD_INSTANCE_IP, "its INSTANCE_IP is not an address"),
        (process(environ=DENIED), Verdict.UNREADABLE, "the environment cannot be read: permission denied"),
        (process(netns=DENIED), Verdict.UNREADABLE, "the network namespace cannot be read: permission denied"),
        (process(netns=None), Verdict.UNREADABLE, "the network namespace cannot be read: the link is not there"),
        (process(exe=DENIED), Verdict.UNREADABLE, "the exe link cannot be read: permission denied"),
        (
            process(exe="/usr/local/bin/pilot-agent", name="pilot-agent", argv0="pilot-agent"),
            Verdict.LOOK_ALIKE,
            "it has an INSTANCE_IP, but its executable is not named envoy",
        ),
        (
            process(exe="/bin/sleep", environ=b"", name="sleep", argv0="/usr/local/bin/envoy"),
            Verdict.LOOK_ALIKE,
            "its argv[0] says envoy, but its executable is not named envoy",
        ),
        (
            process(exe="/bin/bash", environ=b"", name="envoy", argv0="bash"),
            Verdict.LOOK_ALIKE,
            "it is named after envoy, but its executable is not named envoy",
        ),
        (
            process(exe="/memfd:envoy (deleted)", environ=ENV, name="3", argv0="x"),
            Verdict.LOOK_ALIKE,
            "its executable's name has envoy in it, but its executable is not named envoy",
        ),
        (process(exe="/bin/sleep", environ=b"", name="sleep", argv0="sleep"), Verdict.OTHER, "not an Envoy"),
        (process(exe=None), Verdict.OTHER, "no executable: a kernel thread or a zombie"),
    ],
)
def test_everybody_else_is_refused_with_a_reason(snapshot: ProcessSnapshot, verdict: Verdict, reason: str) -> None:
    found = classify(snapshot, TARGETS)
    assert (found.pid, found.verdict, found.reason) == (42, verdict, reason)


def test_a_namespace_is_not_asked_of_a_non_target() -> None:
    found = classify(process(environ=b"INSTANCE_IP=10.9.9.9", netns=None), TARGETS)
    assert found.verdict is Verdict.NOT_A_TARGET

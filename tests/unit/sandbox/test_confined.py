"""A process with some of root's rights: what a container without `privileged` is."""

from __future__ import annotations

import errno
import re
import sys

import pytest

from harness.sandbox.node import Node
from harness.sandbox.process import Command

SHOW_STATUS = ["grep", "-E", "^(Cap|NoNewPrivs)", "/proc/self/status"]
TRY_TO_WRITE = [
    sys.executable,
    "-c",
    "import os, sys\n"
    "for path in sys.argv[1:]:\n"
    "    try: os.close(os.open(path + '/confined', os.O_CREAT | os.O_WRONLY))\n"
    "    except OSError as error: print(error.errno)\n"
    "    else: os.unlink(path + '/confined'); print(0)\n",
]


def status(node: Node, command: Command) -> dict[str, int]:
    found = re.findall(r"^(\w+):\s*([0-9a-f]+)$", node.run(command), re.MULTILINE)
    return {name: int(value, 16) for name, value in found}


def bits(*numbers: int) -> int:
    return sum(1 << number for number in numbers)


def test_only_the_named_capabilities_are_left(node: Node) -> None:
    """NET_RAW is 13 and BPF, in the upper half, 39 (linux/capability.h); the second run is the canary."""
    limited = status(node, Command(SHOW_STATUS, capabilities={"NET_RAW", "BPF"}))
    assert limited == {
        "CapInh": 0,
        "CapPrm": bits(13, 39),
        "CapEff": bits(13, 39),
        "CapBnd": bits(13, 39),
        "CapAmb": 0,
        "NoNewPrivs": 1,
    }
    usual = status(node, Command(SHOW_STATUS))
    assert usual["CapEff"].bit_count() > 20
    assert usual["NoNewPrivs"] == 0


def test_no_capability_at_all(node: Node) -> None:
    limited = status(node, Command(SHOW_STATUS, capabilities=frozenset()))
    assert {name: value for name, value in limited.items() if value} == {"NoNewPrivs": 1}


def test_what_cannot_be_limited_is_refused(node: Node) -> None:
    with pytest.raises(ValueError, match="CAP_NET_RAW: no such capability"):
        node.spawn(Command(["true"], capabilities={"CAP_NET_RAW"}))
    with pytest.raises(ValueError, match="uid 1337 has no capabilities after execve"):
        node.spawn(Command(["true"], capabilities={"NET_RAW"}, uid=1337))


def test_nothing_can_be_written_where_it_is_read_only(node: Node) -> None:
    """Not on the machine's file system nor on the node's; without it the node's own can be."""
    places = ["/run", "/run/node", "/tmp"]
    refused = node.run(Command([*TRY_TO_WRITE, *places], read_only=True))
    assert refused.split() == [str(errno.EROFS)] * len(places)
    allowed = node.run(Command([*TRY_TO_WRITE, *places[:2]]))
    assert allowed.split() == ["0", "0"]

"""When a text says what some bytes say, and an address what another says."""

from __future__ import annotations

import pytest

from harness.conformance.oracle.compare import same_address, same_end, same_text


@pytest.mark.parametrize(
    ("true", "told", "same"),
    [
        (b"plain", "plain", True),
        (b"plain", "Plain", False),
        (b"plain", "plain ", False),
        ("café".encode(), "café", True),
        ("café".encode(), "cafÃ©", True),
        ("café".encode(), "caf\\xc3\\xa9", True),
        ("café".encode(), "caf??", True),
        ("café".encode(), "cof\ufffd", False),
        (b"\xe9\t\xff", "\ufffd\\t\ufffd", True),
        (b"a\xffb", "ab", True),
        (b"a\xffb", "a", False),
        (b"a.b", "axb", False),
    ],
)
def test_how_odd_bytes_are_written_is_open(true: bytes, told: str, same: bool) -> None:
    assert same_text(true, told) is same


@pytest.mark.parametrize(
    ("told", "usual"),
    [
        ("10.244.0.2", "10.244.0.2"),
        ("FD00:0:0:0:0:0:0:2", "fd00::2"),
        ("[fd00::2]", "fd00::2"),
        ("::ffff:10.244.0.2", "10.244.0.2"),
        ("::FFFF:0AF4:0002", "10.244.0.2"),
        ("server", "server"),
    ],
)
def test_an_address_has_many_spellings(told: str, usual: str) -> None:
    assert same_address(told) == usual


@pytest.mark.parametrize(
    ("told", "end"),
    [
        ("10.244.0.2:80", ("10.244.0.2", 80)),
        ("[FD00::2]:80", ("fd00::2", 80)),
        ("[::ffff:10.244.0.2]:80", ("10.244.0.2", 80)),
        ("fd00::2:80", None),
        ("10.244.0.2", None),
        ("10.244.0.300:80", None),
        ("10.244.0.2:123456", None),
    ],
)
def test_an_end_is_an_address_and_a_port(told: str, end: tuple[str, int] | None) -> None:
    assert same_end(told) == end

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapper.errors import UsageError
from tapper.targets.addresses import packed, parse_address, parse_targets, spell


@pytest.mark.parametrize(
    ("spelling", "canonical"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::FFFF:0a00:0001", "10.0.0.1"),
        ("FD00:0:0:0::1", "fd00::1"),
        ("fd00:0000:0000:0000:0000:0000:0000:0001", "fd00::1"),
        ("::1", "::1"),
    ],
)
def test_an_address_is_one_value_whatever_its_spelling(spelling: str, canonical: str) -> None:
    assert str(parse_address(spelling)) == canonical


@pytest.mark.parametrize(
    "text", ["", " ", "10.0.0", "10.0.0.256", "010.0.0.1", "10.0.0.0/8", "fe80::1%eth0", "[::1]", "host"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|zone"):
        parse_address(text)


def test_lists_are_comma_separated_and_repeatable() -> None:
    assert parse_targets(["10.0.0.1, fd00::1,", "::ffff:10.0.0.1", ""]) == {
        IPv4Address("10.0.0.1"),
        IPv6Address("fd00::1"),
    }


def test_a_bad_value_is_named() -> None:
    with pytest.raises(UsageError, match=r"'10\.0\.0\.x' is not an IPv4 or IPv6 address"):
        parse_targets(["10.0.0.1,10.0.0.x"])


@given(st.ip_addresses())
def test_packed_and_spelled_addresses_are_the_same(address: IPv4Address | IPv6Address) -> None:
    (raw,) = packed([address])
    assert spell(raw) == str(address)

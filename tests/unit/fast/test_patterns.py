"""What a pattern reads is what is read without one; and it reads what it should."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapper.fast.headers import HeaderTemplate, TemplateList
from tapper.fast.http1 import FastRequestReader
from tapper.fast.patterns import Pattern, alike, learned
from tapper.protocols import heads
from tapper.streams.reassembly import Data


def fields_of(block: bytes) -> TemplateList:
    fields = parsed(block)
    assert fields is not None
    return fields


def parsed(block: bytes) -> TemplateList | None:
    section = heads.section(block)
    return section and TemplateList(HeaderTemplate(section[0].headers), framing=section[1], size=len(block))


def pattern_of(*blocks: bytes) -> Pattern:
    """Of all of them, one after the other."""
    pattern = None
    for block in blocks:
        pattern = learned(fields_of(block), block, pattern)
    assert pattern is not None
    return pattern


def head(**values: str) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in values.items()).encode("latin-1") + b"\r\n"


def test_what_differed_once_varies_and_nothing_else() -> None:
    pattern = pattern_of(head(Host="h", Id="1", Date="today"), head(Host="h", Id="22", Date="today"))
    before = b"GET / HTTP/1.1\r\n"
    for value in ("3", "22", "4444", "", 'a "b"', "\xe9", "a\tb"):
        data = before + head(Host="h", Id=value, Date="today") + b"body\r\n\r\n"
        found = pattern.read(data, len(before))
        assert found is not None
        assert found.headers == (("Host", "h"), ("Id", value), ("Date", "today"))
        assert data[len(before) + found.size :] == b"body\r\n\r\n"
        assert found.framing.length is None
    for other in (head(Host="i", Id="3", Date="today"), head(Host="h", Id="3", Date="now"), head(Host="h", Id="3")):
        assert pattern.read(before + other, len(before)) is None


def test_a_body_is_as_long_as_the_value_says_that_varies() -> None:
    pattern = pattern_of(*(head(**{"Content-Length": length, "A": "a"}) for length in ("1", "2")))
    for length, expected in (("0", 0), ("77", 77)):
        found = pattern.read(head(**{"Content-Length": length, "A": "a"}), 0)
        assert found is not None
        assert found.framing.length == expected
    assert pattern.read(head(**{"Content-Length": "x", "A": "a"}), 0) is None, "nobody knows where that ends"


@pytest.mark.parametrize("value", [" 3", "3 ", "\t3", "3\t", "3\n", "\n", "3\r\nB: b", "3\n 4", "3\r\n 4"])
def test_what_is_not_the_plain_rest_of_a_line_is_left_to_others(value: str) -> None:
    pattern = pattern_of(head(A="1", B="b"), head(A="2", B="b"))
    assert pattern.read(head(A="9", B="b"), 0) is not None
    assert pattern.read(head(A=value, B="b"), 0) is None


def test_other_names_begin_anew_and_too_many_that_vary_as_well() -> None:
    pattern = pattern_of(head(A="1"), head(A="2"), head(B="2"))
    assert not pattern.template.varying
    many = [head(**{f"N{number}": f"{number}{turn}" for number in range(40)}) for turn in range(2)]
    assert not pattern_of(*many).template.varying
    assert alike(pattern, fields_of(head(B="3")))
    assert not alike(pattern, fields_of(head(b="3")))
    assert not alike(None, fields_of(head(b="3")))


def test_patterns_are_shared() -> None:
    blocks = head(A="1", Z="same"), head(A="2", Z="same")
    assert pattern_of(*blocks) is pattern_of(*blocks)


def test_a_reader_keeps_two() -> None:
    """Requests of two kinds take turns on a connection, each with an id of its own: after a while both are known."""
    reader = FastRequestReader()
    lists: list[TemplateList] = []
    for number in range(12):
        block = head(Host="h", Id=str(number)) if number % 2 else head(Host="h", Accept="*/*", Id=str(number))
        request = reader.whole(Data(b"GET / HTTP/1.1\r\n" + block, 1, 1, 1))
        assert request is not None
        assert request.head.headers[-1] == ("Id", str(number))
        assert isinstance(request.head.fields, TemplateList)
        lists.append(request.head.fields)
    assert lists[-1].template is lists[-3].template
    assert lists[-2].template is lists[-4].template
    assert lists[-1].template is not lists[-2].template


NAMES = st.sampled_from(["A", "b", "Content-Length", "Transfer-Encoding", "X-Id"])
SEPARATORS = st.sampled_from([": ", ":", ":  ", " : ", ":\t"])
VALUES = st.text(st.sampled_from('0159 \t"\\\r\n\x00\x7f\xe9,chunked'), max_size=5)
ENDS = st.sampled_from(["\r\n", "\r\n", "\r\n", "\n", " \r\n", "\r\n \r\n", "\r\n\t"])
LINES = st.lists(st.tuples(NAMES, SEPARATORS, ENDS), min_size=1, max_size=4)


@given(LINES, st.data())
def test_a_pattern_reads_what_is_read_without_one(lines: list[tuple[str, str, str]], data: st.DataObject) -> None:
    pattern: Pattern | None = None
    for _ in range(4):
        text = "".join(name + separator + data.draw(VALUES) + end for name, separator, end in lines)
        block = text.encode("latin-1") + b"\r\n"
        stop = block.find(b"\r\n\r\n") + 4
        found = None if pattern is None else pattern.read(block + b"rest", 0)
        expected = parsed(block[:stop]) if stop >= 4 else None
        if found is not None:
            assert expected is not None
            assert (found.headers, found.size) == (expected.headers, expected.size)
            for name in ("length", "chunked", "coded"):
                assert getattr(found.framing, name) == getattr(expected.framing, name)
        if expected is not None:
            pattern = learned(expected, block[:stop], pattern)

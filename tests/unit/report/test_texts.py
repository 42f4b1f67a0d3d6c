"""Whatever a tapper says of itself, a page shows it and does not do it."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from harness.report.text import code, markdown, spans, visible

ANY = st.text(st.characters(codec=None))


@given(ANY)
def test_visible_text_is_legal_in_xml_and_in_every_file(text: str) -> None:
    element = ET.Element("e", a=visible(text))
    element.text = visible(text)
    again = ET.fromstring(ET.tostring(element, "utf-8"))
    assert again.text is None or again.text == visible(text)
    assert visible(visible(text)) == visible(text)


def test_what_nobody_can_see_is_spelled_out() -> None:
    assert visible("a\x00\x1b[31m\x7f\x9b\u202e\u200b\ud800\ufeff\u2028b") == (
        r"a\x00\x1b[31m\x7f\x9b\u202e\u200b\ud800\ufeff\u2028b"
    )
    assert visible("tür → 127.0.0.6\n\tyes") == "tür → 127.0.0.6\n\tyes"


@given(ANY)
def test_markdown_has_no_line_break_no_tag_no_cell_and_no_mention(text: str) -> None:
    # what stands in code spans means nothing, but for the cells of a table
    out = markdown(text)
    assert "\n" not in out
    assert "|" not in out.replace(r"\|", "")
    plain = "".join(part for part, is_code in spans(" ".join(visible(text).split())) if not is_code)
    rendered = markdown(plain.replace("`", ""))
    assert not set("<|@$#") & set(rendered.replace("&#", ""))
    assert "://" not in rendered


def test_markdown_that_means_something_means_it_no_more() -> None:
    assert markdown("*a* _b_ c_d [x](javascript:y) ~z~") == r"\*a\* \_b\_ c_d \[x\](javascript:y) \~z\~"
    assert markdown("<img src=x> @all #1 a|b") == "&#60;img src=x> &#64;all &#35;1 a&#124;b"
    assert markdown("see https://evil.example and www.evil.example") == (
        "see https:&#47;&#47;evil.example and www&#46;evil.example"
    )
    assert markdown("a pod's `lo`, always") == "a pod's `lo`, always"
    assert markdown("a lone ` here") == r"a lone \` here"


def test_a_code_span_holds_backticks() -> None:
    assert code("a`b``c") == "```a`b``c```"
    assert code("`a") == "`` `a ``"
    assert code("a|b") == r"`a\|b`"

"""The page as HTML and as Markdown, by the templates beside this."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup, escape

from harness.report import text
from harness.report.page import MEANINGS, SYMBOLS, CaseView, Page, tally

_FOLDER = Path(__file__).with_name("templates")


def html(page: Page) -> str:
    """One file that needs no network, and no JavaScript but for the filters.

    Everything from a report is escaped; should some of it get through, the page's own policy lets no browser run it:
    only the style and the script whose hashes it names.
    """
    style, script = _source("style.css"), _source("filters.js")
    policy = f"default-src 'none'; style-src {_hashed(style)}; script-src {_hashed(script)}; base-uri 'none'"
    environment = _environment(autoescape=True, escape=text.visible)
    environment.filters["prose"] = _prose
    return environment.get_template("report.html.j2").render(
        page=page, style=Markup(style), script=Markup(script), policy=policy, **_words()
    )


def markdown(page: Page) -> str:
    """Every case of every tapper, for a repository or a ticket."""
    return _markdown("report.md.j2", page, **_words())


def matrix(page: Page, docs: str | None) -> str:
    """Counts by tapper and group, and the failures with their reasons. `docs` is the folder of the cases' pages."""

    def counts(cases: Sequence[CaseView], column: int) -> str:
        return " / ".join(map(str, tally(cases, column)))

    return _markdown("matrix.md.j2", page, tally=counts, docs=(docs or "conformance").rstrip("/"))


def _markdown(template: str, page: Page, **more: Any) -> str:
    environment = _environment(autoescape=False, escape=text.markdown)
    environment.filters["code"] = lambda value: Markup(text.code(value))
    environment.filters["url"] = lambda value: Markup(quote(text.visible(value), safe="/:?#[]@!$&'()*+,;=%"))
    environment.filters["anchor"] = lambda value: Markup(re.sub(r"[^\w -]", "", value.lower()).replace(" ", "-"))
    return environment.get_template(template).render(page=page, **more).rstrip() + "\n"


def _environment(*, autoescape: bool, escape: Any) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=autoescape,
        finalize=lambda value: escape(value) if type(value) is str else value,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _prose(value: str) -> Markup:
    """Text with the parts between backticks as code."""
    parts = [(escape(part), is_code) for part, is_code in text.spans(text.visible(value))]
    return Markup("").join(Markup("<code>{}</code>").format(part) if is_code else part for part, is_code in parts)


def _words() -> dict[str, Any]:
    return {"symbols": SYMBOLS, "meanings": MEANINGS}


@cache
def _source(name: str) -> str:
    return "\n" + (_FOLDER / name).read_text()


def _hashed(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"

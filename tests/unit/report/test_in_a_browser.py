"""The page in a real browser: filters, both colour schemes, a narrow window, paper, and no JavaScript at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import browser
import pytest
from browser import Browser
from report_records import hostile, record, result

from harness.conformance.model import Outcome
from harness.report import render
from harness.report.building import build
from harness.report.merge import StoredReport, merge

SHOWN = "[...document.querySelectorAll('details.case')].filter(e => e.checkVisibility()).map(e => e.dataset.case)"
# the smallest contrast of a text with what is behind it, by WCAG 2.2, 1.4.3
CONTRAST = """(() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (color) => {
    const [r, g, b] = color.slice(0, 3).map((v) => v / 255)
      .map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const color = rgb(getComputedStyle(element).backgroundColor);
      if (color.length === 3 || color[3] > 0) return color;
    }
  };
  let worst = [99, ""];
  for (const element of document.querySelectorAll("body *")) {
    if (!element.checkVisibility() || ![...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
    const [a, b] = [light(rgb(getComputedStyle(element).color)), light(behind(element))];
    const contrast = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (contrast < worst[0]) worst = [contrast, `${element.tagName}.${element.className}: ${element.textContent}`];
  }
  return worst;
})()"""
ALL_OUTCOMES = {
    "DISC-01": Outcome.DELEGATED,
    "CAP-01": Outcome.FAIL,
    "CAP-02": Outcome.NON_STRICT,
    "LOAD-01": Outcome.PASS,
}
OTHERS = {
    "DISC-01": Outcome.EXEMPT,
    "CAP-01": Outcome.BLOCKED,
    "CAP-02": Outcome.NOT_CLAIMED,
    "LOAD-01": Outcome.ERROR,
}
REST = {"CAP-01": Outcome.TIMEOUT, "CAP-02": Outcome.DESELECTED}


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Browser]:
    program = browser.find()
    if program is None:
        missing = f"there is no browser to look with: script/setup browser installs one of {', '.join(browser.NAMES)}"
        if pytestconfig.getoption("--harness-require"):
            pytest.fail(missing)
        pytest.skip(missing)
    with Browser(program, tmp_path_factory.mktemp("browser") / "profile") as opened:
        yield opened


@pytest.fixture
def one(window: Browser, tmp_path: Path) -> Iterator[Browser]:
    yield from show(window, tmp_path, [ALL_OUTCOMES])


@pytest.fixture
def three(window: Browser, tmp_path: Path) -> Iterator[Browser]:
    yield from show(window, tmp_path, [ALL_OUTCOMES, OTHERS, REST])


def show(window: Browser, folder: Path, tappers: list[dict[str, Outcome]]) -> Iterator[Browser]:
    """Open a page of these tappers; afterwards it must have loaded nothing else, and complained of nothing."""
    records = [
        record({case: result(case, end) for case, end in ends.items()}, name=f"tapper {number}", seconds=number)
        for number, ends in enumerate(tappers)
    ]
    yield from opened(window, folder, [StoredReport(each, folder) for each in records])


def opened(window: Browser, folder: Path, sources: list[StoredReport]) -> Iterator[Browser]:
    path = folder / "report.html"
    path.write_text(render.html(build(merge(sources), folder)))
    window.troubles.clear()
    window.loaded.clear()
    window.ask("Emulation.setScriptExecutionDisabled", {"value": False})
    window.look()
    window.open(path.as_uri())
    yield window
    assert {url.partition("#")[0] for url in window.loaded} == {path.as_uri()}
    assert not window.troubles


def choose(page: Browser, name: str, value: str) -> list[str]:
    """Set a field as a person does. The cases that are shown then."""
    which = f"[name={name}]" + (f"[value={value}]" if name == "outcome" else "")
    page.run(
        f"""(() => {{
          const field = document.querySelector("#filters {which}");
          if (field.type === "checkbox") field.click();
          else {{
            field.value = "{value}";
            field.dispatchEvent(new Event("input", {{bubbles: true}}));
          }}
        }})()"""
    )
    return list(page.run(SHOWN))


def test_filters_show_what_was_asked_for(three: Browser) -> None:
    assert three.run(SHOWN) == ["DISC-01", "CAP-01", "CAP-02", "LOAD-01"]
    assert three.run("document.getElementById('shown').textContent") == "4 of 4 cases"
    assert choose(three, "group", "CAP") == ["CAP-01", "CAP-02"]
    assert three.run("document.getElementById('DISC').checkVisibility()") is False
    assert choose(three, "level", "SHOULD") == ["CAP-02"]
    assert three.run("document.getElementById('shown').textContent") == "1 of 4 cases"
    assert choose(three, "text", "no such thing") == []
    assert three.run("document.getElementById('nothing').checkVisibility()") is True
    three.run("document.querySelector('#filters [type=reset]').click()")
    assert three.run(SHOWN) == ["DISC-01", "CAP-01", "CAP-02", "LOAD-01"]
    assert choose(three, "text", "port 443") == ["CAP-02"]
    assert choose(three, "text", "") == ["DISC-01", "CAP-01", "CAP-02", "LOAD-01"]
    assert choose(three, "outcome", "fail") == ["CAP-01"]
    assert choose(three, "outcome", "exempt") == ["DISC-01", "CAP-01"]


def test_a_case_shows_whether_it_is_folded(one: Browser) -> None:
    mark = "getComputedStyle(document.querySelector('[data-case=LOAD-01] .id'), '::before').content"
    folded = one.run(mark)
    one.run("document.querySelector('[data-case=LOAD-01] summary').click()")
    assert {folded, one.run(mark)} == {'"▸"', '"▾"'}


def test_only_where_tappers_differ(window: Browser, tmp_path: Path) -> None:
    for page in show(window, tmp_path, [{}, {"CAP-01": Outcome.FAIL}]):
        assert choose(page, "differs", "on") == ["CAP-01"]


def test_a_tile_leads_to_its_result_whatever_is_filtered(three: Browser) -> None:
    choose(three, "group", "LOAD")
    three.run("document.querySelector('a.tile[href=\"#CAP-01-t2\"]').click()")
    three.run("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
    assert three.run("document.getElementById('CAP-01-t2').checkVisibility()") is True
    assert three.run("document.getElementById('CAP-01-t2').getBoundingClientRect().top < innerHeight") is True


def test_the_command_can_be_copied(one: Browser) -> None:
    button = "document.querySelector('[data-case=CAP-01] .copy')"
    assert one.run(f"{button}.checkVisibility()") is True
    one.run(f"{button}.click()")
    one.run("new Promise(done => setTimeout(done))")
    told = one.run(f"{button}.textContent")
    assert told in {"Copied", "Selected"}
    if told == "Selected":
        assert one.run("getSelection().toString()") == "tapper-harness check --adapter mine.toml --case CAP-01"


def test_all_of_it_can_be_reached_by_keyboard(one: Browser) -> None:
    reached: list[str] = []
    for _ in range(400):
        one.press("Tab", 9)
        now = one.run(
            "(e => e === document.body ? '' : e.id || e.name || e.parentElement.dataset.case || e.getAttribute('href') "
            "|| e.textContent)(document.activeElement)"
        )
        if len(reached) > 1 and one.run("document.activeElement.className") == "skip":
            break
        if now:
            assert one.run("getComputedStyle(document.activeElement).outlineStyle") != "none"
            reached.append(now)
    assert {"#cases", "#verdicts", "text", "group", "level", "outcome", "DISC-01", "CAP-02"} <= set(reached)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_it_can_be_read_in_both_schemes_and_in_a_narrow_window(three: Browser, scheme: str, width: int) -> None:
    three.look(scheme=scheme, width=width)
    three.run("document.querySelectorAll('details').forEach(e => e.open = true)")
    contrast, where = three.run(CONTRAST)
    assert contrast >= 4.5, where
    dark = three.run("getComputedStyle(document.body).backgroundColor") == "rgb(14, 18, 24)"
    assert dark == (scheme == "dark")
    assert three.run("document.documentElement.scrollWidth") <= width


def test_without_javascript_all_of_it_is_there(window: Browser, tmp_path: Path) -> None:
    pages = show(window, tmp_path, [ALL_OUTCOMES, OTHERS])
    next(pages)
    window.ask("Emulation.setScriptExecutionDisabled", {"value": True})
    window.open("about:blank")  # or it would stay where it is, with what the script made of it
    window.open((tmp_path / "report.html").as_uri() + "#CAP-01-t2")
    window.ask("Emulation.setScriptExecutionDisabled", {"value": False})
    assert window.run("document.getElementById('filters').checkVisibility()") is False
    assert window.run(SHOWN) == ["DISC-01", "CAP-01", "CAP-02", "LOAD-01"]
    assert window.run("document.getElementById('CAP-01-t2').checkVisibility()") is True, "the browser unfolds it"
    assert next(pages, None) is None


def test_on_paper_nothing_is_folded(three: Browser) -> None:
    folded = "[...document.querySelectorAll('.result dd')].filter(e => !e.checkVisibility()).length"
    assert three.run(folded) > 0
    three.look(media="print")
    assert three.run(folded) == 0
    assert three.run("document.getElementById('filters').checkVisibility()") is False


def test_hostile_words_stay_words(window: Browser, tmp_path: Path) -> None:
    for page in opened(window, tmp_path, [StoredReport(hostile(), tmp_path)]):
        assert page.run("document.scripts.length") == 1
        assert page.run("document.images.length") == 0
        assert page.run("document.title").startswith("Conformance of <script>alert(1)</script>")

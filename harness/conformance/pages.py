"""docs/conformance/: a page for each group of cases and an index, made from the cases' own words. Pure."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable

from harness.conformance.model import Case

INDEX = "README.md"
_MADE = "<!-- made by script/pages from the cases' docstrings: change those -->\n"


def needs(case: Case) -> str:
    """The features that have to be claimed, and the other needs."""
    also = [("discovery of its own", case.discovery), ("real Envoys", case.real_envoy)]
    return ", ".join([*sorted(case.features), *(what for what, needed in also if needed)])


def pages(cases: Iterable[Case]) -> dict[str, str]:
    """File name -> Markdown."""
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.group, []).append(case)
    return {INDEX: _index(groups)} | {f"{group}.md": _page(group, members) for group, members in groups.items()}


def _index(groups: dict[str, list[Case]]) -> str:
    lines = [
        _MADE,
        "# The conformance cases\n",
        "What each level, outcome and profile means, and how to run the cases: [conformance.md](../conformance.md).",
    ]
    for group, members in groups.items():
        lines += [
            f"\n## [{group}]({group}.md)\n\n{_about(group, members)}\n",
            "| case | level | requirement | needs |",
            "|---|---|---|---|",
        ]
        for case in members:
            link = f"[{case.id}]({group}.md#{case.id.lower()})"
            lines.append(f"| {link} | {case.level} | {_cell(case.requirement)} | {_cell(needs(case))} |")
    return "\n".join(lines) + "\n"


def _page(group: str, members: list[Case]) -> str:
    parts = [f"{_MADE}\n# {group}\n\n{_about(group, members)}\n"]
    for case in members:
        facts = [
            f"- Level: {case.level}",
            f"- Source: {case.source}",
            f"- Needs: {needs(case) or 'nothing but a tapper'}",
            f"- Profiles: {', '.join(case.profiles) or 'none'}",
        ]
        parts.append(f"## {case.id}\n\n{case.requirement}\n\n{case.explanation}\n\n" + "\n".join(facts) + "\n")
    return "\n".join(parts)


def _about(group: str, members: list[Case]) -> str:
    """The first line of the module that holds the group, which is `GROUP: what it is about.`"""
    module = sys.modules[members[0].function.__module__]
    about = (inspect.getdoc(module) or "").partition("\n\n")[0].removeprefix(f"{group}:").strip()
    return " ".join((about[:1].upper() + about[1:]).split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")

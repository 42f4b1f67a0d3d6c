"""The order of the tapper's rooms: a room imports only from rooms below it, in types, too."""

from __future__ import annotations

import ast
from pathlib import Path

import tapper

ROOT = Path(tapper.__file__).parent
ORDER = (
    "errors signals",
    "runtime",
    "targets",
    "namespaces",
    "discovery",
    "streams",
    "protocols",
    "output",
    "capture",
    "wire",
    "follow",
    "run",
    "fast uprobe",
    "options",
    "cli __main__",
)
"""From the lowest to the highest."""
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names.split()}


def room(module: str) -> str:
    """`tapper.follow.events` -> `follow`."""
    return module.split(".")[1]


def imported(path: Path) -> set[str]:
    """The modules of the tapper that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "tapper":
            found |= {node.module} if "." in node.module else {f"tapper.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("tapper.")}
    return {module for module in found if room(module) not in {"FORM", "__version__"}}


SEAM = ROOT / "run" / "parts.py"
"""The only module that may import `tapper.fast`."""


def rising(path: Path) -> list[str]:
    """The imports of a file that lead to a higher room."""
    own = path.relative_to(ROOT).with_suffix("").parts[0]
    return sorted(module for module in imported(path) if LEVEL[room(module)] > LEVEL[own])


def uses_fast(path: Path) -> bool:
    """True if a file outside tapper.fast imports that package."""
    return path.parent != ROOT / "fast" and any(room(module) == "fast" for module in imported(path))


def test_every_room_has_its_place() -> None:
    there = {path.relative_to(ROOT).with_suffix("").parts[0] for path in ROOT.rglob("*.py")} - {"__init__"}
    assert there | {"fast", "uprobe"} == set(LEVEL), "the tapper is complete without the packages fast and uprobe"


def test_no_import_leads_up() -> None:
    found = {
        str(path.relative_to(ROOT)): rising(path)
        for path in ROOT.rglob("*.py")
        if path.name != "__init__.py" and path != SEAM
    }
    assert {path: modules for path, modules in found.items() if modules} == {}
    assert any(imported(path) for path in ROOT.rglob("*.py"))


def uses_uprobe(path: Path) -> bool:
    """True if a file outside tapper.uprobe imports that package."""
    return path.parent != ROOT / "uprobe" and any(room(module) == "uprobe" for module in imported(path))


def test_only_the_command_imports_the_package_uprobe() -> None:
    assert [path for path in ROOT.rglob("*.py") if uses_uprobe(path)] == [ROOT / "cli.py"]


def test_only_the_seam_imports_the_package_fast() -> None:
    assert [path for path in ROOT.rglob("*.py") if uses_fast(path)] == [SEAM]
    assert [module for module in rising(SEAM) if room(module) != "fast"] == []

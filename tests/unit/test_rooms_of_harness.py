"""The order of the kit's packages: a package imports only from packages below it, and no modules import in a circle.

Imports for types (TYPE_CHECKING) count, and so do imports within functions.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import harness
import tapper

ROOT = Path(harness.__file__).parent
ORDER = (
    "errors",
    "waiting leaks standard_output",
    "sandbox",
    "mesh",
    "adapters",
    "worlds",
    "conformance",
    "report",
    "demo",
    "commands",
    "cli short_names plugin",
)
"""From the lowest to the highest."""
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names.split()}


def modules(root: Path) -> dict[str, Path]:
    """Every module of a package, by its dotted name."""
    found = {}
    for path in root.rglob("*.py"):
        parts = path.relative_to(root.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules(ROOT)


def imports(path: Path) -> Iterator[str]:
    """The modules of the kit that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "harness":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)


def package(module: str) -> str:
    """`harness.mesh.app` -> `mesh`."""
    return module.split(".")[1] if "." in module else ""


def test_every_package_has_its_place() -> None:
    assert {package(module) for module in MODULES} - {""} == set(LEVEL)


def test_no_import_leads_up() -> None:
    rising = {
        f"{module} imports {other}"
        for module, path in MODULES.items()
        for other in imports(path)
        if module != "harness" and other != "harness" and LEVEL[package(other)] > LEVEL[package(module)]
    }
    assert rising == set()


def test_no_modules_import_in_a_circle() -> None:
    graph = {module: set(imports(path)) - {module} for module, path in MODULES.items()}
    assert sum(map(len, graph.values())) > len(graph)
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise AssertionError(f"a circle of imports: {' <- '.join(error.args[1])}") from None


def classes(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)}


def test_a_class_name_has_one_meaning() -> None:
    where: dict[str, list[str]] = {}
    for root in (Path(tapper.__file__).parent, ROOT):
        for module, path in modules(root).items():
            for name in classes(path):
                where.setdefault(name, []).append(module)
    twice = {name: sorted(found) for name, found in where.items() if len(found) > 1}
    assert twice == {}

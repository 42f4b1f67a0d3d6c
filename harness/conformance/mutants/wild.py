"""Wild mutants: the reference with one small, random change of its source, to find cases that are missing.

Nobody made a case for them. One that no case finds is either no different to an outsider, or shows that a case is
missing: a person has to look. The changes are the usual ones of mutation testing: comparisons and boolean operators
turned, constants off by one, conditions negated, statements left out.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from harness.conformance.mutants.model import PREFIX_OF_WILD, Mutant

_TAPPER = Path(__file__).resolve().parents[3] / "tapper"
# text for people, Kubernetes, files: what the reference's adapter does not use
_LEFT_OUT = (
    *("text", "terminal", "har", "pcapng", "replay", "details", "metrics", "listening", "listing", "counts", "cli"),
    *("kubernetes", "podsapi", "podlist", "arguments", "file", "enquiry"),
)
_TURNED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}


@dataclass(frozen=True, slots=True)
class Change:
    """One change: the `number`th place of a file that can be changed."""

    file: Path
    number: int

    @property
    def module(self) -> str:
        parts = self.file.relative_to(_TAPPER.parent).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def code(self) -> tuple[ast.Module, str]:
        """The changed module, and the change in words."""
        tree = ast.parse(self.file.read_text())
        words = _apply(list(_places(tree))[self.number])
        return ast.fix_missing_locations(tree), f"{self.file.relative_to(_TAPPER.parent)}:{words}"


def change(seed: int) -> Change:
    """The same for the same seed, as long as the source stays the same."""
    chance = random.Random(seed)
    counts = _counts()
    file = chance.choices(list(counts), list(counts.values()))[0]
    return Change(file, chance.randrange(counts[file]))


@cache
def _counts() -> dict[Path, int]:
    """How many places of each file can be changed."""
    files = [file for file in sorted(_TAPPER.rglob("*.py")) if file.stem not in _LEFT_OUT]
    counts = {file: len(list(_places(ast.parse(file.read_text())))) for file in files}
    return {file: count for file, count in counts.items() if count}


def mutant(seed: int) -> Mutant:
    """What the kit runs."""
    _, words = change(seed).code()
    return Mutant(f"{PREFIX_OF_WILD}{seed}", words, {}, lambda: install(seed))


def install(seed: int) -> None:
    """Let the module be imported as changed. Has to come before anything of the tapper is imported."""
    chosen = change(seed)
    if chosen.module in sys.modules:
        raise RuntimeError(f"{chosen.module} was imported before it could be changed")
    sys.meta_path.insert(0, _Finder(chosen))


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, chosen: Change) -> None:
        self._change = chosen

    def find_spec(
        self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._change.module:
            return None
        loader = _Loader(name, str(self._change.file), self._change)
        return importlib.util.spec_from_file_location(name, self._change.file, loader=loader)


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, chosen: Change) -> None:
        super().__init__(name, path)
        self._change = chosen

    def get_code(self, _name: str) -> object:  # type: ignore[override]
        tree, _ = self._change.code()
        return compile(tree, self.path, "exec")


def _places(tree: ast.Module) -> Iterator[tuple[ast.AST, int]]:
    """Every node that can be changed, and which part of it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.BoolOp | ast.If | ast.IfExp) or _can_be_turned(node):
            yield node, 0
        elif isinstance(node, ast.FunctionDef):
            for index, statement in enumerate(node.body):
                if isinstance(statement, ast.Assign | ast.AugAssign | ast.Expr) and not _is_docstring(statement):
                    yield node, index


def _can_be_turned(node: ast.AST) -> bool:
    match node:
        case ast.Compare():
            return type(node.ops[0]) in _TURNED
        case ast.BinOp():
            return type(node.op) in _TURNED
        case ast.Constant():
            return type(node.value) is int
    return False


def _apply(place: tuple[ast.AST, int]) -> str:
    node, index = place
    line = getattr(node, "lineno", 0)
    match node:
        case ast.Compare():
            before, node.ops[0] = node.ops[0], _TURNED[type(node.ops[0])]()  # type: ignore[call-overload]
            return f"{line}: {type(before).__name__} became {type(node.ops[0]).__name__}"
        case ast.BoolOp() | ast.BinOp():
            turned = _TURNED[type(node.op)]
            before_name, node.op = type(node.op).__name__, turned()  # type: ignore[assignment]
            return f"{line}: {before_name} became {turned.__name__}"
        case ast.If() | ast.IfExp():
            node.test = ast.UnaryOp(ast.Not(), node.test)
            return f"{line}: a condition was negated"
        case ast.Constant():
            assert isinstance(node.value, int)
            node.value += 1
            return f"{line}: {node.value - 1} became {node.value}"
        case ast.FunctionDef():
            gone = node.body[index]
            node.body[index] = ast.Pass()
            return f"{gone.lineno}: left out: {ast.unparse(gone)[:60]}"
    raise AssertionError(f"{node} cannot be changed")


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)

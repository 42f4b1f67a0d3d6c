"""What a wheel has besides the packages: files of a checkout, and, where asked for, the tapper's hot path compiled.

The extension modules are of the same source, by mypyc:

    TAPPER_COMPILE=1 pip install .     a wheel with them; where they cannot be made there is none, and a sentence why
    script/compile                     beside the sources of this checkout, for tests and measurements

Without TAPPER_COMPILE nothing is compiled and no compiler is needed; with it, pip brings what compiles into the build's
own environment (`CompiledTapper.dependencies`), all but the C compiler. The plain modules are always in the wheel, too:
`tapper/runtime/form.py` says when they are taken.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
ASKED = "TAPPER_COMPILE"
NEEDED = ("mypy>=2.4", "setuptools>=65")
GROUP = "tapper__mypyc"
"""The extension module that holds the code of all others."""
BESIDE_PACKAGES = "harness/checkout"
"""Where a wheel has those files of a checkout that are in no package, for harness/worlds/cluster/source.py."""
RECORD = ROOT / "tapper" / "compiled.sources"
"""What an in-place build was made of, so that it is not taken for what was changed since."""

_LAST_LINES, _WIDEST = 20, 200
"""Of what a compiler wrote: lines, and characters of a line."""

_HOT = (
    "tapper/fast/*.py",  # this package may be missing
    "tapper/run/writer.py",
    "tapper/run/accounts.py",
    "tapper/run/pending.py",
    "tapper/wire/*.py",
    "tapper/run/replay.py",
    "tapper/streams/*.py",
    "tapper/protocols/*.py",
    "tapper/output/format.py",
    "tapper/output/ndjson.py",
    "tapper/output/redaction.py",
    "tapper/output/shape.py",
    "tapper/output/filters.py",
    "tapper/capture/file.py",
    "tapper/capture/link.py",
    "tapper/capture/sources.py",
    "tapper/capture/walk.py",
)


def sources(root: Path = ROOT) -> list[str]:
    """The modules on a packet's way, as paths below the root."""
    found = {path.relative_to(root).as_posix() for pattern in _HOT for path in root.glob(pattern)}
    return sorted(path for path in found if not path.endswith("__init__.py"))


def record(root: Path = ROOT) -> str:
    """What is compiled, and this file, which says how: as sha256sum(1) writes it."""
    paths = [*sources(root), Path(__file__).name]
    return "".join(f"{hashlib.sha256((root / path).read_bytes()).hexdigest()}  {path}\n" for path in paths)


def image_files(root: Path = ROOT) -> list[str]:
    """What fixtures/istio/Containerfile is built from, as paths below the root: .dockerignore is the list of it."""
    lines = (root / ".dockerignore").read_text().splitlines()
    return [line.removeprefix("!") for line in lines if line.startswith("!")]


class CannotCompile(Exception):
    """In one sentence."""


def lacking() -> str | None:
    """What this machine lacks to compile extension modules, and the cure; None where nothing is lacking."""
    compiler = os.environ.get("CC", "cc").split()[0]
    if shutil.which(compiler) is None:
        return f"there is no C compiler ({compiler}): install one, gcc for instance, or set CC"
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.exists():
        return f"there are no headers of this Python ({header}): install them, python3-dev for instance"
    return None


def build(into: Path) -> list[Path]:
    """Compile below a folder, which then has the extension modules where they belong. Returns their relative paths.

    Raises CannotCompile.
    """
    lack = lacking()
    if lack is not None:
        raise CannotCompile(lack)
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch)
        shutil.copytree(ROOT / "tapper", copy / "tapper", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        (copy / "setup.py").write_text(_SETUP.format(sources=sources()))
        told = subprocess.run(
            [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
            cwd=copy,
            capture_output=True,
            text=True,
            check=False,
        )
        if told.returncode:
            raise CannotCompile(f"the compiler failed, and its last lines were:\n{_end(told.stdout + told.stderr)}")
        made = sorted(path.relative_to(copy) for path in [*copy.glob("*.so"), *copy.glob("tapper/**/*.so")])
        for path in made:
            (into / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(copy / path, into / path)
    return made


def _end(text: str) -> str:
    """The last lines, cut where they are long: setuptools repeats the whole command of a compiler that failed."""
    return "\n".join(line[:_WIDEST] for line in text.splitlines()[-_LAST_LINES:])


_SETUP = """
from mypyc.build import mypycify
from setuptools import setup
# mypy's own run checks the types strictly, with all packages installed; some of those may be missing here.
options = ["--ignore-missing-imports", "--config-file="]
modules = mypycify([*options, *{sources}], opt_level="3", group_name="tapper")
# Nobody replaces its functions, so that calls among them need not go by a table, and short ones are no calls.
for module in modules:
    # new lists, since the modules share theirs
    module.extra_compile_args = [*module.extra_compile_args, "-fvisibility=hidden", "-fno-semantic-interposition"]
    module.extra_link_args = [*module.extra_link_args, "-Wl,-Bsymbolic"]
setup(name="tapper", packages=[], ext_modules=modules)
"""


class CompiledTapper(BuildHookInterface[Any]):
    """hatchling's hook (`[tool.hatch.build.targets.wheel.hooks.custom]`)."""

    _folder: Path | None = None

    def dependencies(self) -> list[str]:
        return list(NEEDED) if _asked() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        packages = set(self.build_config.packages)
        build_data["force_include"] |= {
            str(ROOT / path): f"{BESIDE_PACKAGES}/{path}" for path in image_files() if path not in packages
        }
        if not _asked():
            return
        self._folder = Path(tempfile.mkdtemp(prefix="tapper-compiled-"))
        try:
            made = build(self._folder)
        except CannotCompile as problem:
            shutil.rmtree(self._folder)
            self.app.abort(
                f"{ASKED} is set, so the tapper is to be compiled, but {problem}\n"
                f"Without {ASKED} the plain modules are installed, which need no compiler."
            )
        build_data["force_include"] |= {str(self._folder / path): path.as_posix() for path in made}
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        if self._folder is not None:
            shutil.rmtree(self._folder)


def _asked() -> bool:
    return os.environ.get(ASKED, "") not in {"", "0"}


def _is_current() -> bool:
    """Whether a build in place is of these sources, and for this Python."""
    group = ROOT / f"{GROUP}{sysconfig.get_config_var('EXT_SUFFIX')}"
    return group.exists() and RECORD.exists() and RECORD.read_text() == record()


def _remove() -> None:
    for path in [*ROOT.glob(f"{GROUP}*.so"), *ROOT.glob("tapper/**/*.so"), RECORD]:
        path.unlink(missing_ok=True)


def main() -> int:
    """What script/compile runs."""
    parser = argparse.ArgumentParser(
        prog="script/compile", description="Compile the tapper's hot path in this checkout."
    )
    parser.add_argument("--remove", action="store_true", help="have only the plain modules again")
    parser.add_argument("--if-changed", action="store_true", help="not where what there is was made of these sources")
    arguments = parser.parse_args()
    if arguments.if_changed and _is_current():
        return 0
    _remove()
    if not arguments.remove:
        try:
            made = build(ROOT)
        except CannotCompile as problem:
            sys.stderr.write(f"compile: {problem}\n")
            return 3
        RECORD.write_text(record())
        sys.stderr.write(f"compile: {len(made)} extension modules beside the sources\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

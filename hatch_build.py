"""Adds to a wheel, besides the packages, files of a checkout and, on request, the compiled hot path of the tapper.

mypyc compiles the extension modules from the same source:

    TAPPER_COMPILE=1 pip install .     a wheel with them; if the compilation fails, there is no wheel
    script/compile                     beside the sources of this checkout, for tests and measurements

The compiler optimizes with -O3. With TAPPER_COMPILE_LEVEL=0 it uses -O0, which takes a quarter of the time. The tests
of the compiled form do so, because they look at results and not at speed.

With TAPPER_COMPILE_CACHE=FOLDER the extension modules are kept in this folder, and taken from there as long as nothing
has changed that they are made of: sources, options, Python, mypy and the C compiler (`_inputs`). .ci/run does so.

Without TAPPER_COMPILE nothing is compiled and no compiler is needed. With it, pip installs mypyc into the environment
of the build (`CompiledTapper.dependencies`); the C compiler must be there already. The wheel always has the plain
modules, too: `tapper/runtime/form.py` says when Python imports them.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.metadata
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
"""The folder of a wheel with the files of a checkout that are in no package, for harness/worlds/cluster/source.py."""
RECORD = ROOT / "tapper" / "compiled.sources"
"""The hashes of the sources of an in-place build, so that changed sources make it invalid."""

_MOST_KEPT = 3
"""The builds in a cache to which another one may be added."""
_LAST_LINES, _WIDEST = 20, 200
"""The part of a compiler's output that a message shows: the number of lines, and of characters in a line."""

_HOT = (
    "tapper/fast/*.py",  # this package may be missing
    "tapper/runtime/memo.py",
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
    "tapper/capture/source.py",
    "tapper/capture/sources.py",
    "tapper/capture/walk.py",
)


def sources(root: Path = ROOT) -> list[str]:
    """The modules on a packet's path, as file paths below the root."""
    found = {path.relative_to(root).as_posix() for pattern in _HOT for path in root.glob(pattern)}
    return sorted(path for path in found if not path.endswith("__init__.py"))


def record(root: Path = ROOT) -> str:
    """The hashes of the compiled modules and of this file, in the format of sha256sum(1)."""
    paths = [*sources(root), Path(__file__).name]
    return "".join(f"{hashlib.sha256((root / path).read_bytes()).hexdigest()}  {path}\n" for path in paths)


def image_files(root: Path = ROOT) -> list[str]:
    """The sources of fixtures/istio/Containerfile, as paths below the root. .dockerignore lists them."""
    lines = (root / ".dockerignore").read_text().splitlines()
    return [line.removeprefix("!") for line in lines if line.startswith("!")]


class CannotCompile(Exception):
    """The compilation failed. The message is one sentence."""


def _compiler() -> list[str]:
    """The C compiler's command, as distutils takes it."""
    return os.environ.get("CC", "cc").split()


def lacking() -> str | None:
    """The missing requirement for a compilation, with the remedy; None if nothing is missing."""
    program = _compiler()[0]
    if shutil.which(program) is None:
        return f"there is no C compiler ({program}): install one, gcc for instance, or set CC"
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.exists():
        return f"there are no headers of this Python ({header}): install them, python3-dev for instance"
    return None


def build(into: Path) -> list[Path]:
    """Make the extension modules, or take them from the cache, and copy them to their places below `into`. Returns
    their relative paths.

    Raises CannotCompile.
    """
    lack = lacking()
    if lack is not None:
        raise CannotCompile(lack)
    cache = os.environ.get("TAPPER_COMPILE_CACHE")
    if not cache:
        return _compile(into)
    kept = Path(cache) / f"tapper-{_inputs()}"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        for old in sorted(kept.parent.glob("tapper-*"), key=lambda path: path.stat().st_mtime)[:-_MOST_KEPT]:
            shutil.rmtree(old)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            made = Path(scratch, "made")
            _compile(made)
            with contextlib.suppress(OSError):  # another process has just made the same
                made.rename(kept)
    shutil.copytree(kept, into, dirs_exist_ok=True)
    return _extension_modules(kept)


def _inputs() -> str:
    """A hash of all that the extension modules are made of."""
    compiler = subprocess.run([*_compiler(), "--version"], capture_output=True, text=True, check=False).stdout
    inputs = [
        sys.version,
        sysconfig.get_platform(),
        compiler,
        importlib.metadata.version("mypy"),
        _SETUP,
        repr(sources()),
    ]
    inputs += [os.environ.get(name, "") for name in ("TAPPER_COMPILE_LEVEL", "CFLAGS", "LDFLAGS")]
    # mypyc infers types from all modules of the package, and not only from the compiled ones.
    for path in sorted(ROOT.glob("tapper/**/*.py")):
        inputs += [path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")]
    return hashlib.sha256("\0".join(inputs).encode()).hexdigest()


def _compile(into: Path) -> list[Path]:
    """As `build`, without the cache."""
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
        made = _extension_modules(copy)
        for path in made:
            (into / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(copy / path, into / path)
    return made


def _extension_modules(folder: Path) -> list[Path]:
    """The extension modules in a folder, as paths below it."""
    return sorted(path.relative_to(folder) for path in [*folder.glob("*.so"), *folder.glob("tapper/**/*.so")])


def _end(text: str) -> str:
    """The last lines of the text, shortened, because setuptools repeats the whole command of a failed compiler."""
    return "\n".join(line[:_WIDEST] for line in text.splitlines()[-_LAST_LINES:])


_SETUP = """
import os
from mypyc.build import mypycify
from setuptools import setup
# A separate run of mypy checks the types strictly, with all packages installed. Here packages may be missing.
options = ["--ignore-missing-imports", "--config-file="]
level = os.environ.get("TAPPER_COMPILE_LEVEL", "3")
# Without information for debuggers the compiler is done sooner, and the modules are smaller.
modules = mypycify([*options, *{sources}], opt_level=level, debug_level="0", group_name="tapper")
# Nothing replaces its functions, so calls among them need no symbol table, and the compiler may inline short ones.
for module in modules:
    # new lists, because the modules share one list
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
    """True if the in-place build belongs to the present sources and to this Python."""
    group = ROOT / f"{GROUP}{sysconfig.get_config_var('EXT_SUFFIX')}"
    return group.exists() and RECORD.exists() and RECORD.read_text() == record()


def _remove() -> None:
    for path in [*_extension_modules(ROOT), RECORD]:
        (ROOT / path).unlink(missing_ok=True)


def main() -> int:
    """What script/compile runs."""
    parser = argparse.ArgumentParser(
        prog="script/compile", description="Compile the tapper's hot path in this checkout."
    )
    parser.add_argument("--remove", action="store_true", help="remove the compiled modules")
    parser.add_argument("--if-changed", action="store_true", help="do nothing if the sources are unchanged")
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

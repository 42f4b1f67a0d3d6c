"""The tapper is complete without the package tapper.uprobe: only --tls needs it."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

from tapper_wire import Wire

import tapper

_IMPORTS = """
import importlib, pkgutil, tapper
for module in pkgutil.walk_packages(tapper.__path__, "tapper."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
assert not any(name.startswith("tapper.uprobe") for name in sys.modules)
"""


def test_everything_but_tls_works_without_the_package(tmp_path: Path) -> None:
    # 1. A copy without it, for which every module can be imported.
    copy = tmp_path / "tapper"
    shutil.copytree(Path(tapper.__file__).parent, copy, ignore=shutil.ignore_patterns("uprobe", "__pycache__", "*.so"))
    env = os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", *arguments], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
        )

    where = run("-c", "import tapper; print(tapper.__file__)")
    assert where.stdout.strip() == str(copy / "__init__.py")
    imported = run("-W", "error", "-c", "import sys" + _IMPORTS)
    assert (imported.returncode, imported.stderr) == (0, "")
    # 2. It reads traffic.
    wire = Wire((("10.0.0.3", 40000), ("10.0.0.2", 8080)))
    file = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 101)
    for raw in [*wire.handshake(), *wire.exchange("/a", "b"), *wire.close()]:
        file += struct.pack("<IIII", 5, 0, len(raw), len(raw)) + raw
    (tmp_path / "file.pcap").write_bytes(file)
    read = run("-m", "tapper", "tap", "-r", "file.pcap", "-o", "ndjson")
    assert read.returncode == 0
    assert '"target":"/a"' in read.stdout
    # 3. --tls says what is missing.
    for command in (["tap", "--istio", "--targets", "10.0.0.2"], ["discover"]):
        refused = run("-m", "tapper", *command, "--tls")
        assert refused.returncode == 2
        assert "without the package tapper.uprobe" in refused.stderr

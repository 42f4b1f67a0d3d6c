"""istioctl: given, found, or fetched and compared before it is used; and how it is called."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from harness.errors import HarnessError, Unsupported
from harness.worlds.cluster import install
from harness.worlds.cluster.install import IstioOptions


def archive(folder: Path, name: str = "istio-1/bin/istioctl") -> tuple[str, str]:
    """A .tar.gz with one program: its URL and checksum."""
    content = b"#!/bin/sh\necho it runs\n"
    path = folder / "archive.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        file.addfile(entry, io.BytesIO(content))
    return path.as_uri(), hashlib.sha256(path.read_bytes()).hexdigest()


def test_one_that_was_given_is_taken(tmp_path: Path) -> None:
    program = tmp_path / "istioctl"
    program.write_text("#!/bin/sh\n")
    with pytest.raises(Unsupported, match="not a program"):
        install.find_istioctl(IstioOptions(program), tmp_path, lambda _: None)
    program.chmod(0o755)
    assert install.find_istioctl(IstioOptions(program), tmp_path, lambda _: None) == program


def test_none_and_nowhere_to_fetch_it_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unsupported, match="--istioctl-url"):
        install.find_istioctl(IstioOptions(url="file:///nowhere"), tmp_path, lambda _: None)


def test_a_fetched_one_with_the_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, digest = archive(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    said: list[str] = []
    program = install.find_istioctl(IstioOptions(url=url, sha256=digest.upper()), tmp_path, said.append)
    assert install.run([str(program)], 10) == "it runs\n"
    assert said == [f"fetching istioctl from {url}"]


def test_a_fetched_one_with_another_checksum_is_not_unpacked(tmp_path: Path) -> None:
    url, digest = archive(tmp_path)
    with pytest.raises(Unsupported, match=f"its SHA-256 is {digest}, not 00"):
        install.fetch_istioctl(url, "00" * 32, tmp_path, lambda _: None)
    assert not (tmp_path / "istioctl").exists()


def test_an_archive_without_the_program(tmp_path: Path) -> None:
    url, digest = archive(tmp_path, "istio-1/bin/other")
    with pytest.raises(Unsupported, match="no program named istioctl"):
        install.fetch_istioctl(url, digest, tmp_path, lambda _: None)


@pytest.mark.parametrize("url", ["file:///nowhere/istioctl.tar.gz", "istioctl.tar.gz"])
def test_what_cannot_be_fetched_is_said(url: str, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=f"^istioctl cannot be fetched from {url}: "):
        install.fetch_istioctl(url, "00" * 32, tmp_path, lambda _: None)


def test_what_is_no_archive_is_said(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_bytes(b"<html>not found")
    digest = hashlib.sha256(page.read_bytes()).hexdigest()
    with pytest.raises(Unsupported, match=r"page\.html sent cannot be unpacked: "):
        install.fetch_istioctl(page.as_uri(), digest, tmp_path, lambda _: None)


def test_how_istio_is_installed() -> None:
    assert IstioOptions().arguments() == ["install", "--skip-confirmation", "--set", "profile=minimal"]
    given = IstioOptions(hub="localhost/istio", tag="1.28.10", values=Path("values.yaml")).arguments()
    assert given[2:] == ["--filename", "values.yaml", "--set", "hub=localhost/istio", "--set", "tag=1.28.10"]


def test_a_program_that_fails_says_what_it_said() -> None:
    with pytest.raises(HarnessError, match=r"(?s)ended with 3:\n.*no luck"):
        install.run(["sh", "-c", "echo no luck >&2; exit 3"], 10)
    with pytest.raises(HarnessError, match=r"did not end within 0\.1 s"):
        install.run(["sleep", "10"], 0.1)
    with pytest.raises(Unsupported, match="cannot be run"):
        install.run(["/nowhere/program"], 10)

"""Whether probes work here: the sentences where they do not, and the test of the kernel itself."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tapper.errors import MissingCapabilityError, TapperError
from tapper.uprobe import bpf, selftest
from tapper.uprobe.bpf import Way
from tapper.uprobe.btf import of_kernel
from tapper.uprobe.probes import Probes
from tapper.uprobe.selftest import (
    check_rights,
    open_probes,
    own_function,
    refusal,
    survives_seccomp,
    try_probes,
    verdict_on,
)

REFUSED = PermissionError(errno.EPERM, "Operation not permitted")


@pytest.fixture
def probes() -> Iterator[Probes]:
    try:
        opened = open_probes()
    except TapperError as error:
        if os.environ.get("CI") and os.geteuid() == 0 and "user namespace" not in str(error):
            raise
        pytest.skip(str(error))
    yield opened
    opened.close()


def test_in_a_user_namespace(tmp_path: Path) -> None:
    for mapping in ("         0       1000          1\n", "0 100000 65536\n", ""):
        (tmp_path / "uid_map").write_text(mapping)
        with pytest.raises(MissingCapabilityError, match="user namespace"):
            check_rights(tmp_path / "uid_map")


def test_on_a_kernel_that_is_locked_down(tmp_path: Path) -> None:
    (tmp_path / "lockdown").write_text("none integrity [confidentiality]\n")
    assert "locked down" in str(refusal(REFUSED, tmp_path / "lockdown"))
    (tmp_path / "lockdown").write_text("none [integrity] confidentiality\n")
    for lockdown in (tmp_path / "lockdown", tmp_path / "none"):
        assert "operation not permitted; a security module may forbid it" in str(refusal(REFUSED, lockdown))


def test_on_a_machine_whose_registers_are_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpf, "supported", lambda: False)
    with pytest.raises(TapperError, match="x86-64 and arm64"):
        open_probes()


def test_programs_that_see_nothing_are_noticed(probes: Probes, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a kernel that attaches them in vain."""
    place = own_function(os.uname().machine)
    try_probes(probes, place)
    monkeypatch.setattr(selftest, "call", lambda: None)
    with pytest.raises(TapperError, match="saw nothing"):
        try_probes(probes, place)


def test_a_process_under_a_seccomp_filter(probes: Probes) -> None:
    """The filter kills for the system call that a probe at a return is. Only some kernels, of Linux 6.11 to 6.13, show
    it that call."""
    assert survives_seccomp(probes, own_function(os.uname().machine)) or selftest.seccomp_may_kill()


def test_two_paths_to_one_file_give_each_record_once(probes: Probes) -> None:
    """As two containers of one image have them: the kernel runs the programs for each path."""
    path, offset = own_function(os.uname().machine)
    probes.attach("another path", path, verdict_on(offset), os.getpid())
    try_probes(probes, (path, offset))


def test_a_kernel_without_links_for_many_functions(probes: Probes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Linux 6.6 the kernel does not accept such a program."""
    ways: list[Way | None] = []
    load = bpf.load

    def older(kind: int, code: bytes, way: Way | None = None) -> int:
        ways.append(way)
        if way is Way.MULTI:
            raise OSError(errno.EINVAL, "Invalid argument")
        return load(kind, code, way)

    monkeypatch.setattr(bpf, "load", older)
    open_probes().close()
    assert ways[0] is Way.MULTI
    assert Way.PERF in ways


def test_each_way_to_attach(probes: Probes) -> None:
    """Perf events are for kernels before 6.6."""
    for way in Way:
        other = Probes(of_kernel().offset, os.uname().machine, way)
        try:
            try_probes(other, own_function(os.uname().machine))
        finally:
            other.close()

"""The conformance cases as tests: pytest --pyargs harness.conformance --harness-adapter my-tapper.toml

Collected only where an adapter is given (`tapper_harness` sees to that). The cases run in a worker
process, as they do for `tapper-harness check`: one that hangs costs itself and not the test run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.conformance import pytest_face
from harness.conformance.catalogue import cases
from harness.conformance.model import MESH_GROUP
from harness.conformance.pytest_face import FACE, Face, Judge


@pytest.fixture(scope="session")
def judge(pytestconfig: pytest.Config) -> Iterator[Judge]:
    """The runner of this session's cases."""
    face = pytestconfig.pluginmanager.get_plugin(FACE)
    assert isinstance(face, Face)
    judge = face.judge()
    yield judge
    judge.close()


@pytest.mark.parametrize(
    "case_id", [case.id for case in cases().values() if case.group != MESH_GROUP and not case.long]
)
def test_case(case_id: str, judge: Judge, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """One case of the catalogue: `tapper-harness cases` explains them."""
    directory = pytest_face.evidence_folder(request.config, tmp_path, case_id)
    pytest_face.conclude(request, cases()[case_id], judge.judge(cases()[case_id], directory), directory)

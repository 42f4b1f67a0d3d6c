"""The adapters that ship: each is one, and says so where its program is missing."""

from __future__ import annotations

import pytest

from harness.adapters import contract, programs, shipped
from harness.adapters.contract import AdapterError


@pytest.mark.parametrize("name", shipped.names())
def test_each_is_an_adapter(name: str) -> None:
    adapter = contract.load(shipped.names()[name], installed=False)
    assert adapter.claims
    script = next((part for part in adapter.argv if part.endswith(".py")), None)
    assert script is not None
    lack = programs.missing(adapter)
    if lack is not None:
        with pytest.raises(AdapterError, match="there is no program"):
            contract.load(shipped.names()[name])


@pytest.mark.parametrize("name", ["tcpdump", "tshark", "dumpcap", "ptcpdump", "ecapture"])
def test_what_runs_another_program_says_which(name: str) -> None:
    adapter = contract.load(shipped.names()[name], installed=False)
    assert adapter.programs == ("nsenter", name)


@pytest.mark.parametrize(("name", "program"), [("mizu", "mizuagent"), ("kubeshark", "kubeshark-worker")])
def test_what_plays_a_hub_says_for_whom(name: str, program: str) -> None:
    assert contract.load(shipped.names()[name], installed=False).programs == (program,)

"""The options that ask for pods, and the sentences for what cannot be."""

from __future__ import annotations

import pytest

from tapper.cli import main


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--namespace", "shop"], "only pods of this node can be captured, and its name is not known"),
        (["--namespace", "shop", "--node-name", ""], "only pods of this node can be captured"),
        (["--namespace", "shop", "--node-name", "a,metadata.name=b"], "'a,metadata.name=b' cannot be a node's name"),
        (["--namespace", "Shop", "--node-name", "a"], "'Shop' cannot be a namespace's name, which is a DNS label"),
        (["--namespace", "a/../b", "--node-name", "a"], "'a/../b' cannot be a namespace's name, which is a DNS label"),
        (["--namespace", "a", "--all-namespaces", "--node-name", "a"], "--all-namespaces leaves nothing for"),
        (["--pod-regex", "a(", "--node-name", "a"], "'a(' is no regular expression: missing )"),
        (["--node-name", "a"], "ask for no pods: say which with --namespace"),
        (["--kubeconfig", "f"], "ask for no pods: say which with --namespace"),
        (["--context", "c"], "ask for no pods: say which with --namespace"),
        (["--all-namespaces", "--node-name", "a", "-r", "f"], "-r reads a file and captures nothing"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, options: list[str], sentence: str
) -> None:
    monkeypatch.delenv("NODE_NAME", raising=False)
    assert main(["tap", *options]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


def test_the_nodes_name_may_come_from_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the next thing that is wrong is that there is no such kubeconfig."""
    monkeypatch.setenv("NODE_NAME", "node-a")
    assert main(["tap", "--namespace", "shop", "--kubeconfig", "/nowhere/kubeconfig"]) == 7
    assert "no way by /nowhere/kubeconfig to the Kubernetes API" in capsys.readouterr().err

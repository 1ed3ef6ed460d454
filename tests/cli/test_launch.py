from __future__ import annotations

import os
import subprocess
import sys

import pytest

from modelwright.cli.launch import SETTINGS, relaunch, tuned
from modelwright.run import LAUNCHED, TUNABLES, c_library, untuned, why_untunable

PLAIN = {"HOME": "/home/someone", "PATH": "/usr/bin"}
on_glibc = pytest.mark.skipif(not c_library().startswith("glibc"), reason="needs Linux with glibc")


def started(argv, environment):
    """Return what would be started."""
    calls = []
    relaunch(argv, environment=environment, execute=lambda *call: calls.append(call))
    return calls


@on_glibc
@pytest.mark.parametrize("command", ["run", "compress", "check", "new"])
def test_what_trains_starts_anew_once_with_the_settings_and_the_same_line(command):
    ((program, line, environment),) = started([command, "a.yaml"], PLAIN)
    assert program == sys.executable
    assert line == [sys.executable, *sys.orig_argv[1:]]
    assert environment["HOME"] == PLAIN["HOME"]
    for name, value in SETTINGS.items():
        assert f"{name}={value}" in environment[TUNABLES].split(":")
    assert started([command, "a.yaml"], environment) == []
    assert untuned(environment) == ""


@pytest.mark.parametrize(
    "argv", [[], ["predict", "a.mw", "run"], ["run", "--help"], ["compress", "-h"]]
)
def test_nothing_else_starts_anew(argv):
    assert started(argv, PLAIN) == []


def test_settings_of_the_users_own_stand_and_are_not_complained_of():
    own = {**PLAIN, TUNABLES: "glibc.malloc.check=1"}
    assert started(["run", "a.yaml"], own) == []
    assert untuned(own) == ""


def test_processes_of_torchrun_are_left_alone_and_say_so():
    ranks = {**PLAIN, "RANK": "1", "LOCAL_RANK": "1"}
    assert started(["run", "a.yaml"], ranks) == []
    assert "isn't tuned" in untuned(ranks)


def test_a_lost_setting_does_not_start_it_for_ever():
    assert started(["run", "a.yaml"], {**PLAIN, LAUNCHED: "1"}) == []
    assert "isn't tuned" in untuned({**PLAIN, LAUNCHED: "1"})


@pytest.mark.parametrize("libc", ["", "musl 1.2"])
def test_another_c_library_is_left_alone(libc):
    assert "glibc" in why_untunable(PLAIN, libc=libc)


def test_a_start_that_fails_goes_on_untuned():
    def fail(*call):
        raise OSError("no such program")

    relaunch(["run", "a.yaml"], environment=PLAIN, execute=fail)
    assert untuned(PLAIN)


@on_glibc
def test_the_real_command_runs_tuned():
    code = (
        "import os, sys; from modelwright.cli.launch import relaunch; "
        f"relaunch(['run', 'a.yaml']); print(os.environ['{TUNABLES}'], os.getpid())"
    )
    clean = {name: value for name, value in os.environ.items() if name not in (TUNABLES, LAUNCHED)}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=clean, stdout=subprocess.PIPE, text=True
    ) as process:
        said, _ = process.communicate()
    settings, number = said.split()
    assert settings == tuned({})[TUNABLES]
    assert int(number) == process.pid  # The same process, so that signals still find it.

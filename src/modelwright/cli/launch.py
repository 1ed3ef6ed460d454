"""What must be in the environment before Python starts: the allocator's settings.

glibc gives large blocks back to the system after each use and takes them anew, which costs a page
fault for every 4 KiB; training with large batches then spends up to half of its time there. Its
settings are read once, when a process starts, so commands that train, or time training, start
themselves a second time with them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence

from modelwright.run import LAUNCHED, TUNABLES, c_library, why_untunable

COMMANDS = ("run", "compress", "check", "new")
"""The commands that train, or forecast what training takes."""
SETTINGS = {
    # Keep blocks up to 32 GiB in the heap, and never give it back.
    "glibc.malloc.mmap_threshold": 34_359_738_368,
    "glibc.malloc.trim_threshold": 34_359_738_368,
    "glibc.malloc.top_pad": 67_108_864,
    # Ask for pages of 2 MiB.
    "glibc.malloc.hugetlb": 1,
}


def tuned(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with the allocator's settings and the mark against a second start."""
    settings = ":".join(f"{name}={value}" for name, value in SETTINGS.items())
    return {**environment, TUNABLES: settings, LAUNCHED: "1"}


def relaunch(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str] = os.environ,
    execute: Callable[[str, list[str], dict[str, str]], object] = os.execve,
) -> None:
    """Start one of `COMMANDS` anew with the tuned allocator; return for any other one."""
    is_help = "-h" in argv or "--help" in argv
    if argv and argv[0] in COMMANDS and not is_help:
        restart_tuned(environment=environment, execute=execute)


def restart_tuned(
    *,
    environment: Mapping[str, str] = os.environ,
    execute: Callable[[str, list[str], dict[str, str]], object] = os.execve,
) -> None:
    """Start this program anew with the tuned allocator, in this very process; else return.

    Returns where the user has settings of their own, where it can't be done, and in the process
    that was started so.
    """
    if TUNABLES in environment or why_untunable(environment, libc=c_library()):
        return
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        execute(sys.executable, [sys.executable, *sys.orig_argv[1:]], tuned(environment))
    except OSError:
        return  # What trains says that it isn't tuned.

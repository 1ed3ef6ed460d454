"""What must be in the environment before Python starts: the allocator's settings.

glibc gives large blocks back to the system after each use and takes them anew, which costs a page
fault for every 4 KiB; training with large batches then spends up to half of its time there. Its
settings are read once, when a process starts, so `run` starts itself a second time with them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence

MARK = "MODELWRIGHT_LAUNCHED"
TUNABLES = "GLIBC_TUNABLES"
SETTINGS = {
    # Keep blocks up to 32 GiB in the heap, and never give it back.
    "glibc.malloc.mmap_threshold": 34_359_738_368,
    "glibc.malloc.trim_threshold": 34_359_738_368,
    "glibc.malloc.top_pad": 67_108_864,
    # Ask for pages of 2 MiB.
    "glibc.malloc.hugetlb": 1,
}
_DISTRIBUTED = ("RANK", "LOCAL_RANK", "TORCHELASTIC_RUN_ID")


def tuned(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with the allocator's settings and the mark against a second start."""
    settings = ":".join(f"{name}={value}" for name, value in SETTINGS.items())
    return {**environment, TUNABLES: settings, MARK: "1"}


def why_not(environment: Mapping[str, str], *, libc: str) -> str:
    """Return why the allocator can't be tuned by starting anew; empty where it can.

    Args:
        environment: the process's environment.
        libc: the C library as the system names it, `glibc 2.36`; empty where it isn't glibc.
    """
    if not libc.startswith("glibc"):
        return "that takes Linux with glibc"
    if any(name in environment for name in _DISTRIBUTED):
        return f"under torchrun, set {TUNABLES} for all processes yourself (docs/cli.md)"
    if MARK in environment:
        return f"{TUNABLES} was lost on the way"
    return ""


def relaunch(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str] = os.environ,
    execute: Callable[[str, list[str], dict[str, str]], object] = os.execve,
) -> None:
    """Start `run` anew with the tuned allocator, in this very process; else return.

    Returns where it is no `run`, where the user has settings of their own, where it can't be done,
    and in the process that was started so.
    """
    is_help = "-h" in argv or "--help" in argv
    if argv[:1] != ["run"] or is_help or TUNABLES in environment:
        return
    if why_not(environment, libc=c_library()):
        return
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        execute(sys.executable, [sys.executable, *sys.orig_argv[1:]], tuned(environment))
    except OSError:
        return  # The run says that it isn't tuned.


def untuned(environment: Mapping[str, str] = os.environ) -> str:
    """Return a sentence for the user where the allocator isn't tuned; else an empty text."""
    if TUNABLES in environment:
        return ""
    why = why_not(environment, libc=c_library()) or "the process couldn't be started anew"
    return f"The memory allocator isn't tuned, so large batches may train slower: {why}"


def c_library() -> str:
    """Return the C library's name and version, such as `glibc 2.36`; empty where unknown."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):  # Not on Windows, macOS, musl.
        return ""

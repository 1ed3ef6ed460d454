"""The entry: from a command line to an exit code, whatever happens on the way.

The answer goes to standard output, all else to standard error. With `--json` standard output gets
exactly one line, also when something went wrong. The one broad `except` of the project is here.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelwright.cli.arguments import parse
from modelwright.cli.launch import relaunch
from modelwright.cli.show import printable
from modelwright.cli.stopping import Terminated, noting_signals
from modelwright.errors import ModelwrightError, ResourceError, StoppedError

if TYPE_CHECKING:
    from modelwright.cli.commands import Answer

BROKEN_PIPE = 128 + 13
"""What a shell reports of a process whose reader went away."""
_THE_SYSTEMS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)
"""Errors of the system that aren't our mistake, wherever they come up."""


CarryOut = Mapping[str, Callable[[argparse.Namespace], "Answer"]]


def main(argv: Sequence[str] | None = None, *, carry_out: CarryOut | None = None) -> int:
    """Carry out a command line and return its exit code.

    Args:
        argv: the arguments; those of this process where not said.
        carry_out: what carries out each command; `commands.CARRY_OUT` where not said.
    """
    if argv is None:
        argv = sys.argv[1:]
        relaunch(argv)
        if not sys.warnoptions:  # A library's advice to programmers is nothing for users.
            warnings.simplefilter("ignore")
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # A test's stream may lack this.
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    as_json = "--json" in argv
    with noting_signals() as first_signal:
        try:
            return _guarded(argv, as_json, first_signal, carry_out)
        except BrokenPipeError:
            _drop_output()
            return BROKEN_PIPE


def _guarded(
    argv: Sequence[str],
    as_json: bool,
    first_signal: Callable[[], int | None],
    carry_out: CarryOut | None,
) -> int:
    """Turn whatever is raised into words and an exit code."""
    try:
        return _answer(argv, as_json, carry_out)
    except SystemExit as ended:  # --help
        return int(ended.code or 0)
    except StoppedError as error:
        return _fail(error, 128 + (first_signal() or signal.SIGINT), as_json, head="")
    except KeyboardInterrupt as stopped:
        number = signal.SIGTERM if isinstance(stopped, Terminated) else signal.SIGINT
        return _fail(_stopped(argv), 128 + number, as_json, head="")
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 (the outermost line: nobody else would report it)
        noted = first_signal()
        if noted is not None:
            # A library that was interrupted may raise something else, and we call that a failure.
            return _fail(_stopped(argv), 128 + noted, as_json, head="")
        error_shown = _as_our_error(error)
        return _fail(error_shown, error_shown.exit_code, as_json)


def _stopped(argv: Sequence[str]) -> StoppedError:
    fix = "Run the same command again to go on" if argv[:1] == ["run"] else ""
    return StoppedError("stopped", fix=fix)


def _as_our_error(error: Exception) -> ModelwrightError:
    """Return what to tell of an error."""
    if isinstance(error, ModelwrightError):
        return error
    if isinstance(error, MemoryError):
        fix = "Lower `train.batch_size`, or close other programs"
        return ResourceError("there isn't enough memory", fix=fix)
    return _explained(error)


def _answer(argv: Sequence[str], as_json: bool, carry_out: CarryOut | None) -> int:
    args = parse(argv)
    if carry_out is None:
        from modelwright.cli.commands import CARRY_OUT

        carry_out = CARRY_OUT
    # What a library prints must not stand in the answer.
    with contextlib.redirect_stdout(sys.stderr):
        answer = carry_out[args.command](args)
    if answer.value is not None:
        _print(_line(answer.value) if as_json else answer.text)
    return answer.exit_code


def _drop_output() -> None:
    """Let standard output lead nowhere: Python would try to flush it once more at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print(text: str) -> None:
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _drop_output()
        raise ResourceError(
            f"the answer can't be written ({error.strerror})", where="standard output"
        ) from error


def _line(value: Any) -> str:
    # ASCII, because some characters in labels end a line for some readers.
    return json.dumps(value, ensure_ascii=True, allow_nan=False)


def _fail(error: ModelwrightError, exit_code: int, as_json: bool, *, head: str = "error: ") -> int:
    with contextlib.suppress(OSError, ValueError):  # Nobody reads; the exit code still tells.
        lines = (printable(line) for line in str(error).split("\n"))
        sys.stderr.write(_painted(head) + "\n".join(lines) + "\n")
        sys.stderr.flush()
    if as_json:
        value = {
            "kind": type(error).__name__,
            "what": error.what,
            "where": error.where,
            "why": error.why,
            "fix": error.fix,
        }
        with contextlib.suppress(ResourceError):
            _print(_line({"error": value}))
    return exit_code


def _painted(head: str) -> str:
    """Return the head of an error, red on a terminal that takes colours."""
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return head if plain or not head or not sys.stderr.isatty() else f"\033[31m{head}\033[0m"


class InternalError(ModelwrightError):
    """A mistake of ours."""


def _explained(error: Exception) -> ModelwrightError:
    """Return what to tell of an error that should not have come this far."""
    if isinstance(error, OSError) and error.errno in _THE_SYSTEMS:
        from modelwright.files import as_resource_error

        return as_resource_error(error, Path(str(error.filename or "standard output")))
    text = "".join(traceback.format_exception(error))
    try:
        handle, name = tempfile.mkstemp(prefix="modelwright-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
        fix = f"Please report it with the file {name}"
    except OSError:
        fix = f"Please report it with this:\n{text}"
    return InternalError(
        f"this is our fault, not yours ({type(error).__name__}: {error})".replace("\n", " "),
        fix=fix,
    )

"""The entry point: from a command line to an exit code, whatever is raised.

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelwright.cli.arguments import parse
from modelwright.cli.launch import relaunch
from modelwright.cli.stopping import Terminated, noting_signals
from modelwright.errors import ModelwrightError, ResourceError, StoppedError
from modelwright.files import Json
from modelwright.progress import printable
from modelwright.run import TRUST

if TYPE_CHECKING:
    from modelwright.cli.commands import Answer

BROKEN_PIPE = 128 + 13
"""What a shell reports of a process whose reader went away."""
_SYSTEM_ERRORS = {
    getattr(errno, name): fix
    for name, fix in {
        **dict.fromkeys(("ENOSPC", "EDQUOT", "EACCES", "EPERM", "EROFS"), ""),
        "EMFILE": "Allow more open files: ulimit -n 1024",
        "ENFILE": "Close other programs",
        "ENOENT": "If something removed it, run the same command again",
        "ENOTDIR": "If something replaced it, run the same command again",
        "EIO": "The disk may be failing: look at the system's log, and copy what is on it",
        "ESTALE": "The network drive lost it: run the same command again",
        **dict.fromkeys(("ENAMETOOLONG", "ELOOP", "EISDIR", "EFBIG", "ENXIO", "ENODEV"), ""),
        **dict.fromkeys(("EBUSY", "ETXTBSY", "ENOTEMPTY", "ENOTCONN", "ETIMEDOUT"), ""),
    }.items()
    if hasattr(errno, name)
}
"""Errors of the system that aren't a bug of ours, wherever they occur, and what to do."""
_OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)


CarryOut = Mapping[str, Callable[[argparse.Namespace], "Answer"]]


def main(argv: Sequence[str] | None = None, *, carry_out: CarryOut | None = None) -> int:
    """Carry out a command line, by default that of this process, and return its exit code.

    `carry_out` holds the function of each command, by default `commands.CARRY_OUT`.
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
        shown = error if isinstance(error, ModelwrightError) else _explained(error)
        return _fail(shown, shown.exit_code, as_json)


def _stopped(argv: Sequence[str]) -> StoppedError:
    fix = "Run the same command again to go on" if argv[:1] == ["run"] else ""
    return StoppedError("stopped", fix=fix)


def _answer(argv: Sequence[str], as_json: bool, carry_out: CarryOut | None) -> int:
    args = parse(argv)
    if carry_out is None:
        from modelwright.cli.commands import CARRY_OUT

        carry_out = CARRY_OUT
    # What a library prints must not stand in the answer.
    trusted = _trusting(getattr(args, "trust", None))
    with contextlib.redirect_stdout(sys.stderr), trusted, _identities(args):
        answer = carry_out[args.command](args)
    if answer.value is not None:
        _print(answer.value if as_json else answer.text, as_json)
    return answer.exit_code


@contextlib.contextmanager
def _trusting(policy: Path | None) -> Iterator[None]:
    """Set the trust policy of this process, and of those that it starts, to that of `--trust`."""
    before = os.environ.get(TRUST)
    if policy is not None:
        os.environ[TRUST] = str(policy.absolute())
    try:
        yield
    finally:
        if policy is not None and before is None:
            del os.environ[TRUST]
        elif before is not None:
            os.environ[TRUST] = before


def _identities(args: argparse.Namespace) -> contextlib.AbstractContextManager[None]:
    refs = getattr(args, "identity", None)
    if not refs:
        return contextlib.nullcontext()
    from modelwright.security.sealing import using_identities

    return using_identities(refs)


def _drop_output() -> None:
    """Let standard output lead nowhere: Python would try to flush it once more at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print(value: Json, as_json: bool) -> None:
    # ASCII, because some characters in labels end a line for some readers.
    text = json.dumps(value, ensure_ascii=True, allow_nan=False) if as_json else value
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


def _fail(error: ModelwrightError, exit_code: int, as_json: bool, *, head: str = "error: ") -> int:
    with contextlib.suppress(OSError, ValueError):  # Nobody reads; the exit code still tells.
        lines = (printable(line) for line in str(error).split("\n"))
        is_plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
        if head and not is_plain and sys.stderr.isatty():
            head = f"\033[31m{head}\033[0m"  # red
        sys.stderr.write(head + "\n".join(lines) + "\n")
        sys.stderr.flush()
    if as_json:
        parts = {name: getattr(error, name) for name in ("what", "where", "why", "fix")}
        with contextlib.suppress(ResourceError):
            _print({"error": {"kind": type(error).__name__, **parts}}, as_json)
    return exit_code


class InternalError(ModelwrightError):
    """A bug of ours."""


def _of_the_system(error: OSError) -> ModelwrightError:
    """Return what the system refused, as an error for people."""
    where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    if error.errno in _OF_WRITING:
        from modelwright.files import as_resource_error

        return as_resource_error(error, Path(where or "standard output"))
    return ResourceError(
        f"the system can't use this ({error.strerror})" if where else f"{error.strerror}",
        where=where,
        fix=_SYSTEM_ERRORS[error.errno or 0],
    )


def _explained(error: Exception) -> ModelwrightError:
    """Return an error for people from one that isn't ours."""
    if isinstance(error, MemoryError):
        fix = "Lower `train.batch_size`, or close other programs"
        return ResourceError("there isn't enough memory", fix=fix)
    if isinstance(error, OSError) and error.errno in _SYSTEM_ERRORS:
        return _of_the_system(error)
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

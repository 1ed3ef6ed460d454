"""`python -m modelwright`, the same as the command `modelwright`."""

from __future__ import annotations

import sys


def entry() -> int:
    """Carry out the command line, and return the exit code."""
    try:
        from modelwright.cli import main

        return main()
    except KeyboardInterrupt:
        return 130  # It came before the command line could listen, or after it had.


if __name__ == "__main__":
    sys.exit(entry())

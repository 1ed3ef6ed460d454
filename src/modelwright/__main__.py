"""`python -m modelwright`, the same as the command `modelwright`."""

from __future__ import annotations

import sys

from modelwright.cli import main

if __name__ == "__main__":
    sys.exit(main())

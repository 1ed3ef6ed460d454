"""The command line, thin: parse, call the Python API, show; the contract is `docs/cli.md`."""

from __future__ import annotations

from modelwright.cli.main import main

__all__ = ["main"]

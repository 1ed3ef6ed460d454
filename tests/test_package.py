"""The package's own names."""

from __future__ import annotations

import subprocess
import sys

import modelwright as mw


def test_every_name_is_there():
    assert set(mw.__all__) <= set(dir(mw))
    assert all(getattr(mw, name) is not None for name in mw.__all__)


def test_run_is_the_function_whatever_was_imported_before():
    code = (
        "import modelwright as mw; mw.load; import modelwright.run; assert callable(mw.run); "
        "from modelwright import run; assert run is mw.run"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""What evaluation may not need."""

from __future__ import annotations

import subprocess
import sys


def test_evaluation_needs_no_torch_and_no_scikit_learn() -> None:
    script = (
        "import sys, modelwright.evaluation\n"
        "print(sorted({'torch', 'sklearn', 'scipy'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"

"""Write the pages, and parts of pages, that are made from the code: `make docs`.

A test fails where a page differs from what this would write.
"""

from __future__ import annotations

import sys
from pathlib import Path

from modelwright.cli.arguments import command_reference
from modelwright.recipe import composition_reference, recipe_reference, settings_reference
from modelwright.serving.config import ServeConfig

DOCS = Path(__file__).parent
TOGETHER = """\
## What goes together

Each pair below is judged before anything is trained: *refused* stops the run with a way out, *said*
is a sentence in the run and in its report. All other settings go together.
"""
MARK = "<!-- made by docs/generate.py from src/modelwright/cli/arguments.py -->\n"
SERVING = "<!-- made by docs/generate.py from src/modelwright/serving/config.py -->\n"


def pages() -> dict[Path, str]:
    """Return what each page should hold."""
    by_hand = (DOCS / "cli.md").read_text(encoding="utf-8").partition(MARK)[0]
    serving = (DOCS / "serving.md").read_text(encoding="utf-8").partition(SERVING)[0]
    return {
        DOCS / "recipe.md": f"{recipe_reference()}\n{TOGETHER}\n{composition_reference()}",
        DOCS / "cli.md": f"{by_hand}{MARK}\n{command_reference()}",
        DOCS / "serving.md": f"{serving}{SERVING}\n{settings_reference(ServeConfig)}",
    }


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{path}\n")

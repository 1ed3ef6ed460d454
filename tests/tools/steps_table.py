"""The table of `docs/compression.md`: which step each family of networks takes, or why it doesn't.

    python -m tests.tools.steps_table

asks each step of a small network of each family, as a run does before it trains, and writes the
table into the page. `tests/compression/test_table.py` holds the page against what it tests.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from modelwright.compression import check_step
from modelwright.errors import RequestError
from tests.compression.networks import SMALL, small

PAGE = Path(__file__).parents[2] / "docs" / "compression.md"
BEGIN, END = "<!-- steps: begin -->\n", "<!-- steps: end -->\n"
COLUMNS = {
    "int8": "`dtype: int8`",
    "qat": "`qat`",
    "float16": "16 bits",
    "weights: int8": "`weights: int8`",
    "weights: int4": "`weights: int4`",
    "prune": "`prune`",
    "structured": "`prune` structured",
    "distill": "`distill`",
    "codebooks": "`vector-quantize`",
}
"""The columns, by the names of steps in the test."""


def refusal(step: str, family: str) -> str:
    """Return why a small network of a family doesn't take a step; empty where it does."""
    from tests.compression.test_table import STEPS

    try:
        check_step(small(family), STEPS[step])
    except RequestError as error:
        return error.what
    return ""


def table(refused: Callable[[str, str], str]) -> str:
    """Return the table as Markdown, with the reasons below it."""
    lines = [f"| network | {' | '.join(COLUMNS.values())} |", "| --- |" + " --- |" * len(COLUMNS)]
    reasons: list[str] = []
    for family in SMALL:
        cells = []
        for step in COLUMNS:
            why = refused(step, family)
            if why and why not in reasons:
                reasons.append(why)
            cells.append(f"no ({reasons.index(why) + 1})" if why else "yes")
        lines.append(f"| `{family}` | {' | '.join(cells)} |")
    notes = [f"{number}. {why}" for number, why in enumerate(reasons, 1)]
    return "\n".join([*lines, "", *notes]) + "\n"


def written(page: str) -> str:
    """Return the table that a page holds."""
    return page.partition(BEGIN)[2].partition(END)[0]


def main() -> None:
    """Write the table into the page."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    PAGE.write_text(
        before + BEGIN + table(refusal) + END + rest.partition(END)[2], encoding="utf-8"
    )


if __name__ == "__main__":
    main()

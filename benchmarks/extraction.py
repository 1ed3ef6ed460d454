"""How many questions it takes to copy two models by asking them, by protection of their answers.

- `digits`: the network of `examples/digits.yaml`; of its 1,797 images 1,198 are asked about, and
  further questions are mixed of two.
- `imdb`: the network of `examples/text-classification.yaml`; reviews of its test split are asked
  about.

    python benchmarks/extraction.py                # both
    python benchmarks/extraction.py digits         # one of them
    python benchmarks/extraction.py --quick        # an epoch of few samples, 256 questions
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from measuring import real_data, run_recipe, tell
from modelwright.pipeline import audit_extraction

_CASES = {"digits": "digits", "imdb": "text-classification"}
"""The recipes among the examples."""


def main() -> None:
    """Train each model, copy it, and print a line for each protection."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", choices=[[], *_CASES], default=[])
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    settings = ["targets={}", "evaluate.baselines=false", "evaluate.latency=false"]
    settings += ["train.epochs=1", "data.limit=500"] if asked.quick else []
    for case in asked.cases or _CASES:
        if case != "digits":
            real_data()
        recipe = Path(__file__).parents[1] / "examples" / f"{_CASES[case]}.yaml"
        with tempfile.TemporaryDirectory() as folder:
            result = run_recipe(recipe, settings, out=Path(folder))
            begun = time.perf_counter()
            queries = 256 if asked.quick else 4096
            found = audit_extraction(Path(folder) / "run" / "model.mw", queries=queries)
        wall_s = round(time.perf_counter() - begun, 1)
        confidences = [found[key] for key in ("confidence", "mixed_confidence")]
        for row in found["protections"]:
            tell(
                "extraction",
                case=case,
                protection={key: row[key] for key in ("name", "digits", "top")},
                queries_needed=row["queries_needed"],
                agreements={
                    str(point["queries"]): [
                        round(point[key], 4) for key in ("value", "low", "high")
                    ]
                    for point in row["agreements"]
                },
                chance=round(found["chance"], 4),
                confidence=[each and round(each, 4) for each in confidences],
                accuracy=round(result["metrics"]["accuracy"]["value"], 5),
                wall_s=wall_s,
            )


if __name__ == "__main__":
    main()

"""The search for near-duplicates on the 60,000 images of CIFAR-10: time, and what it misses.

The reference compares every pair of thumbnails by correlation, in blocks of matrix products.

    python benchmarks/audit.py --sheet pairs.png
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from measuring import real_data, tell
from modelwright.data.audit import audit
from modelwright.data.near_duplicates import LEAST_CONTRAST, LEAST_LIKENESS, near_duplicate_pairs
from modelwright.data.prepare import prepare
from modelwright.recipe import parse_recipe
from modelwright.run import silent

RECIPE = "version: 1\ndata: {source: cifar10, leaks: allow, split: {val: 0}}"


def every_pair(thumbnails: NDArray[np.uint8], *, block: int = 2000) -> set[tuple[int, int]]:
    """Return all pairs whose thumbnails correlate as much as the search asks."""
    values = thumbnails.astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(values, axis=1)
    flat = norms < LEAST_CONTRAST * np.sqrt(values.shape[1])
    values /= np.maximum(norms, 1e-6)[:, None]
    values[flat] = 0
    found = set()
    for start in range(0, len(values), block):
        likeness = values[start : start + block] @ values[start:].T
        for a, b in np.argwhere(likeness >= LEAST_LIKENESS).tolist():
            if a < b:
                found.add((start + a, start + b))
    return found


def contact_sheet(pixels: NDArray[np.uint8], pairs: NDArray[np.int64], path: Path) -> None:
    """Write some pairs side by side, enlarged, to be looked at."""
    shown = pairs[np.linspace(0, len(pairs) - 1, min(len(pairs), 96)).astype(int)]
    sheet = Image.new("RGB", (12 * 150, -(-len(shown) // 12) * 74), "white")
    for number, pair in enumerate(shown.tolist()):
        for side, row in enumerate(pair):
            image = Image.fromarray(pixels[row]).resize((70, 70), Image.Resampling.NEAREST)
            sheet.paste(image, (number % 12 * 150 + side * 72, number // 12 * 74))
    sheet.save(path)


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sheet", type=Path, help="write the pairs found as a picture")
    parser.add_argument("--quick", action="store_true", help="without the reference")
    arguments = parser.parse_args()
    real_data()
    prepared = prepare(
        parse_recipe(RECIPE, where="recipe"), base=Path(), run_folder=None, observe=silent
    )
    store, splits = prepared.store, dict(prepared.rows)
    begun = time.perf_counter()
    report = audit(store, splits, prepared.adapter, leaks="allow")
    audit_s = time.perf_counter() - begun
    thumbnails = store.fixed("thumbnail")
    pairs = near_duplicate_pairs(store.numbers("phash"), thumbnails)
    test = set(splits["test"].tolist())
    across = np.array([p for p in pairs.tolist() if (p[0] in test) != (p[1] in test)])
    if arguments.sheet is not None and len(across):
        contact_sheet(prepared.dataset().train.pixels, across, arguments.sheet)
    reference: dict[str, float] = {}
    if not arguments.quick:
        begun = time.perf_counter()
        every = every_pair(thumbnails)
        brute_s = time.perf_counter() - begun
        found = {(int(a), int(b)) for a, b in pairs}
        reference = {
            "seconds": round(brute_s, 1),
            "pairs": len(every),
            "recall": round(len(found & every) / max(len(every), 1), 4),
        }
    tell(
        "audit",
        images=len(store),
        audit_s=round(audit_s, 2),
        pairs=len(pairs),
        pairs_across_train_and_test=len(across),
        test_images_concerned=len(report.near_test_rows),
        reference=reference,
        ratio=round(audit_s / reference["seconds"], 4) if reference else None,
        target="audit_s <= 60",
    )


if __name__ == "__main__":
    main()

"""The store: how fast it is built from 60,000 PNG files, and opened again.

The reference decodes the same files one after the other with Pillow, and keeps nothing.

    python benchmarks/store.py
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from measuring import real_data, spread, tell
from modelwright.data.folder import list_folder
from modelwright.data.inputs import INPUTS
from modelwright.data.store import open_store
from modelwright.kinds import InputKind
from modelwright.recipe.data import FolderData
from modelwright.run import silent


def write_files(root: Path, count: int) -> None:
    """Write CIFAR-10 as PNG files, a folder a class."""
    number = 0
    for split in ("train", "test"):
        table = pq.read_table(real_data() / "cifar10" / f"{split}.parquet")
        labels = table["label"].to_pylist()
        for row, label in enumerate(labels):
            if number == count:
                return
            folder = root / str(label)
            folder.mkdir(exist_ok=True)
            image = Image.open(io.BytesIO(table["image"][row].as_py()))
            image.save(folder / f"{number:06d}.png", compress_level=1)
            number += 1


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="6,000 files")
    count = 6_000 if parser.parse_args().quick else 60_000
    with tempfile.TemporaryDirectory() as aside:
        root = Path(aside) / "images"
        root.mkdir()
        write_files(root, count)
        begun = time.perf_counter()
        for path in sorted(root.rglob("*.png")):
            np.asarray(Image.open(path))
        plain_s = time.perf_counter() - begun
        os.environ["MODELWRIGHT_CACHE"] = str(Path(aside) / "cache")
        spec = FolderData(source="folder", path=str(root))
        begun = time.perf_counter()
        facts = INPUTS[InputKind.IMAGE].facts
        open_store(list_folder(spec, base=Path(), group=None), facts, observe=silent)
        built_s = time.perf_counter() - begun
        listed, opened = [], []
        for _ in range(5):
            begun = time.perf_counter()
            listing = list_folder(spec, base=Path(), group=None)
            middle = time.perf_counter()
            open_store(listing, facts, observe=silent)
            listed.append(middle - begun)
            opened.append(time.perf_counter() - middle)
    tell(
        "store",
        images=count,
        images_per_s=round(count / built_s, 1),
        reference={"plain_decoding_images_per_s": round(count / plain_s, 1)},
        ratio=round(plain_s / built_s, 3),
        reopening_s=spread(opened),
        listing_s=spread(listed),
        target="images_per_s >= 4000, reopening_s <= 0.2",
    )


if __name__ == "__main__":
    main()

"""The store: how fast it is built from 60,000 PNG files, and opened again.

The reference decodes the same files one after the other with Pillow, and keeps nothing. The files
are warm, in the memory of the system, as they were just written; where the system can be asked to
forget them (Linux), both are measured on cold files as well.

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
from modelwright.data.listing import Listing
from modelwright.data.store import Facts, open_store
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


def list_images(root: Path) -> Listing:
    """Return what the folder holds."""
    return list_folder(FolderData(source="folder", path=str(root)), base=Path(), group=None)


def decode(root: Path) -> float:
    """Decode all files with Pillow, and return the seconds."""
    begun = time.perf_counter()
    for path in sorted(root.rglob("*.png")):
        np.asarray(Image.open(path))
    return time.perf_counter() - begun


def build(root: Path, facts: Facts) -> float:
    """Build the store, and return the seconds."""
    begun = time.perf_counter()
    open_store(list_images(root), facts, observe=silent)
    return time.perf_counter() - begun


def forget(root: Path) -> bool:
    """Ask the system to drop all files from its memory; return whether it can be asked."""
    if not hasattr(os, "posix_fadvise"):
        return False
    os.sync()
    for path in root.rglob("*.png"):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
    return True


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="6,000 files")
    count = 6_000 if parser.parse_args().quick else 60_000
    with tempfile.TemporaryDirectory() as aside:
        root = Path(aside) / "images"
        root.mkdir()
        write_files(root, count)
        os.environ["MODELWRIGHT_CACHE"] = str(Path(aside) / "cache")
        facts = INPUTS[InputKind.IMAGE].facts
        plain_s = decode(root)
        built_s = build(root, facts)
        listed, opened = [], []
        for _ in range(5):
            begun = time.perf_counter()
            listing = list_images(root)
            middle = time.perf_counter()
            open_store(listing, facts, observe=silent)
            listed.append(middle - begun)
            opened.append(time.perf_counter() - middle)
        cold: dict[str, float] = {}
        if forget(root):
            cold["plain_decoding_images_per_s"] = round(count / decode(root), 1)
            os.environ["MODELWRIGHT_CACHE"] = str(Path(aside) / "cold")
            forget(root)
            cold["images_per_s"] = round(count / build(root, facts), 1)
    tell(
        "store",
        images=count,
        images_per_s=round(count / built_s, 1),
        reference={"plain_decoding_images_per_s": round(count / plain_s, 1)},
        ratio=round(plain_s / built_s, 3),
        reopening_s=spread(opened),
        listing_s=spread(listed),
        files="warm",
        cold=cold or "not measured: this system keeps files in memory",
        target="images_per_s >= 4000, reopening_s <= 0.2",
    )


if __name__ == "__main__":
    main()

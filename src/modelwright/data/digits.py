"""The source `digits`: 1,797 real handwritten digits that come with scikit-learn.

From the test part of Alpaydin and Kaynak's optical digits (UCI 1998): 8×8 grey pixels of 0…16.
"""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import numpy as np

from modelwright.data.listing import Listing
from modelwright.data.pixels import as_npy
from modelwright.errors import MissingExtraError
from modelwright.files import digest


def list_digits() -> Listing:
    """Return the digits, in the order of scikit-learn's file.

    Raises:
        MissingExtraError: scikit-learn isn't installed.
    """
    # The file is read without importing scikit-learn, which takes a second.
    module = importlib.util.find_spec("sklearn")
    path = (
        Path(module.origin).parent / "datasets" / "data" / "digits.csv.gz"
        if module and module.origin
        else None
    )
    if path is None or not path.exists():
        raise MissingExtraError(
            "the digits come with scikit-learn, which isn't installed",
            fix="Install it with: pip install -c constraints.txt 'modelwright[train]'",
        )
    raw = path.read_bytes()
    table = np.loadtxt(gzip.decompress(raw).decode().splitlines(), delimiter=",", dtype=np.float64)
    pixels = np.rint(table[:, :64].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    count = len(table)
    return Listing(
        title="digits",
        key=digest(b"digits 1\n" + raw),
        labels=[str(int(value)) for value in table[:, 64]],
        splits=[""] * count,
        origins=[f"digits {row}" for row in range(count)],
        read=lambda row: as_npy(pixels[row]),
    )

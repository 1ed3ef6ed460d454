"""The types of arrays that several rooms name; what an array holds is said where it is used."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
"""Numbers of any type."""
Floats = NDArray[np.floating[Any]]
"""Floats of any precision."""
Integers = NDArray[np.integer[Any]]
"""Integers of any width."""
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Pixels = NDArray[np.uint8]

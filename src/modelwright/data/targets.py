"""The table of target adapters, one for each kind of output, and the targets of regression.

Whatever is fitted (labels, characters, the vocabulary) is fitted to the training split.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from modelwright.data.adapters import (
    TargetAdapter,
    TargetCells,
    TargetRequest,
    Targets,
)
from modelwright.data.label_targets import BOXES, MULTI_LABEL, SINGLE_LABEL
from modelwright.data.numbers import read_numbers
from modelwright.data.text_targets import CAUSAL_LM, CTC, SEQ2SEQ
from modelwright.kinds import OutputKind

# -- numbers ---------------------------------------------------------------------------------


def _build_numbers(request: TargetRequest) -> Targets:
    """Return each row's numbers `[N, D]`, as they are: errors are measured against these."""
    values = np.zeros((len(request.stored), len(request.names)), dtype=np.float64)
    for row in np.concatenate(list(request.splits.values())).tolist():
        values[row] = json.loads(request.stored[row])
    return Targets(request.names, values, request.encoded.inputs)


def write_numbers(values: Sequence[float | None]) -> str:
    """Return numbers as a JSON list; empty where one of them is missing."""
    return "" if None in values else json.dumps(values)


def _read_numbers(cells: TargetCells) -> tuple[list[str], tuple[str, ...]]:
    columns = [
        read_numbers(column, name, is_comma_decimal=cells.is_comma_decimal)
        for column, name in zip(cells.columns, cells.names, strict=True)
    ]
    stored = [
        write_numbers(values) for values in zip(*(column.values for column in columns), strict=True)
    ]
    return stored, tuple(note for column in columns for note in column.notes)


REGRESSION = TargetAdapter(
    build=_build_numbers,
    describe=lambda labels, train, num_outputs: {"numbers": list(labels)},
    columns=lambda spec: spec.target_columns,
    setting="target_columns",
    read=_read_numbers,
    missing="its target isn't a finite number",
    without_variety=lambda only, noun: (
        f"all training samples have one target, {only}, so there is nothing to learn",
        "Look at `data.target_columns`: does it name the right column?",
    ),
)


# -- any of them -----------------------------------------------------------------------------

TARGETS: dict[OutputKind, TargetAdapter] = {
    OutputKind.SINGLE_LABEL: SINGLE_LABEL,
    OutputKind.MULTI_LABEL: MULTI_LABEL,
    OutputKind.REGRESSION: REGRESSION,
    OutputKind.CTC: CTC,
    OutputKind.SEQ2SEQ: SEQ2SEQ,
    OutputKind.CAUSAL_LM: CAUSAL_LM,
    OutputKind.BOXES: BOXES,
}

"""Which steps each family of networks takes, and that the page says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from modelwright import modelfile
from modelwright.compression import step_of, storage
from modelwright.compression.weights import grouped_layers
from modelwright.errors import RequestError
from modelwright.recipe.compression import (
    CompressionStep,
    DistillStep,
    PruneStep,
    QuantizeStep,
    VectorQuantizeStep,
)
from tests.compression.making import compress
from tests.compression.networks import SMALL, small
from tests.tools.steps_table import COLUMNS, PAGE, written

STEPS: dict[str, CompressionStep] = {
    "int8": QuantizeStep(name="quantize", dtype="int8", max_drop=9.0),
    "qat": QuantizeStep(name="quantize", dtype="int8", qat=True, epochs=1, max_drop=9.0),
    "float16": QuantizeStep(name="quantize", dtype="float16", max_drop=9.0),
    "bfloat16": QuantizeStep(name="quantize", dtype="bfloat16", max_drop=9.0),
    "weights: int8": QuantizeStep(name="quantize", weights="int8", max_drop=9.0),
    "weights: int4": QuantizeStep(name="quantize", weights="int4", max_drop=9.0),
    "prune": PruneStep(name="prune"),
    "distill": DistillStep(name="distill", teacher="teacher.mw"),
    "structured": PruneStep(name="prune", kind="structured", multiply_adds=0.95),
    "codebooks": VectorQuantizeStep(
        name="vector-quantize", block_size=8, codebook_size=16, epochs=1
    ),
}
NO_INT8 = ("bow", "rnn", "rnn-ctc", "decoder", "seq2seq")
NO_GROUPS = ("resnet", "resnet 18", "speednet", "efficientnet-lite0", "detector")
NO_GROUPS = (*NO_GROUPS, "audio-cnn", "conv-ctc", "rnn-ctc")
"""Families whose fully connected layers and embeddings are too small."""
REFUSED = {(step, name) for step in ("int8", "qat") for name in NO_INT8} | {
    ("distill", "detector"),
    ("distill", "linear"),
}
REFUSED |= {(step, name) for step in STEPS if step.startswith("weights") for name in NO_GROUPS}
REFUSED |= {("structured", name) for name in ("rnn", "rnn-ctc", "linear")}
NO_CODES = ("audio-cnn", "rnn-ctc")
"""Small ones, as these are here: nothing in them is worth a codebook."""
REFUSED |= {("codebooks", name) for name in NO_CODES}
PAIRS = [(step, name) for step in STEPS for name in SMALL]


TRACED = ("efficientnet-lite0", "seq2seq", "rnn-ctc", "conv-ctc", "audio-cnn", "resnet 18")
"""Families whose graphs take seconds."""


@pytest.mark.parametrize(
    ("step", "name"),
    [
        pytest.param(
            *pair,
            marks=[pytest.mark.slow] if pair[0] == "structured" and pair[1] in TRACED else [],
        )
        for pair in PAIRS
    ],
)
def test_a_step_is_taken_or_refused_with_a_way_out(step: str, name: str) -> None:
    check, _ = step_of(STEPS[step])
    candidate = small(name)
    if (step, name) not in REFUSED:
        check(candidate, STEPS[step])
        return
    with pytest.raises(RequestError) as caught:
        check(candidate, STEPS[step])
    assert caught.value.fix
    assert caught.value.why


NOT_SHIPPED = ("prune", "structured", "distill", "qat")
SHIPPED = [pair for pair in PAIRS if pair not in REFUSED and pair[0] not in NOT_SHIPPED]
QUICK = {
    ("int8", "cnn"),
    ("int8", "resnet"),
    ("weights: int4", "decoder"),
    ("weights: int8", "rnn"),
    ("codebooks", "transformer"),
}


@pytest.mark.parametrize(
    ("step", "name"),
    [pytest.param(*pair, marks=[] if pair in QUICK else [pytest.mark.slow]) for pair in SHIPPED],
)
def test_what_ships_answers_as_the_network_does_and_is_smaller(
    step: str, name: str, tmp_path: Path
) -> None:
    before = small(name)
    after, facts = compress(before, STEPS[step], tmp_path)
    modelfile.write_model(tmp_path / "before.mw", before)
    packed = modelfile.write_model(tmp_path / "after.mw", after)  # It compares the two.
    modelfile.verify(tmp_path / "after.mw", sandbox=False)
    assert packed.size_bytes < modelfile.describe(tmp_path / "before.mw")["size_bytes"]
    if step in ("float16", "bfloat16"):
        values = [item.numel() for _, item in storage.weights_of(before.network)]
        saved = modelfile.describe(tmp_path / "before.mw")["size_bytes"] - packed.size_bytes
        assert saved > 2 * sum(values) - 150 * len(values)  # It is declared of each.
        again = modelfile.rebuild(tmp_path / "after.mw").network.state_dict()
        held = after.network.state_dict()
        assert all(torch.equal(item, again[key]) for key, item in held.items())
        return
    assert facts["layers"] > 0
    kinds = {array.dtype for array in modelfile.read_weights(tmp_path / "after.mw").values()}
    assert np.dtype(np.int8 if step == "int8" else np.uint8) in kinds
    if step == "int8":
        found = modelfile.integer_layers(tmp_path / "after.mw")
        assert len(found) == facts["layers"]
        assert all(found.values())
    elif step != "codebooks":
        assert facts["layers"] == len(grouped_layers(before.network, 32))


def test_the_page_has_the_table() -> None:
    rows = [
        line.split("|") for line in written(PAGE.read_text("utf-8")).splitlines() if "`" in line
    ]
    rows = [[cell.strip(" `") for cell in row[1:-1]] for row in rows if len(row) > 3]
    assert rows[0] == ["network", *(name.strip("`") for name in COLUMNS.values())]
    assert [row[0] for row in rows[1:]] == list(SMALL)
    for family, *cells in rows[1:]:
        for step, cell in zip(COLUMNS, cells, strict=True):
            assert (cell != "yes") is ((step, family) in REFUSED), (step, family)

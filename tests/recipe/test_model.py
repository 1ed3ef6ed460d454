"""Sizes of a network that don't fit together are refused where the recipe is read."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from modelwright.recipe.model import ConvCtcModel, DecoderModel, Seq2SeqModel, TransformerModel


@pytest.mark.parametrize(
    ("family", "name", "sizes", "words"),
    [
        (TransformerModel, "transformer", {"width": 8, "heads": 3}, "multiple of `heads`"),
        (Seq2SeqModel, "seq2seq", {"width": 16, "heads": 3}, "multiple of `heads`"),
        (DecoderModel, "decoder", {"width": 18, "heads": 4}, "multiple of 8"),
        (DecoderModel, "decoder", {"width": 12, "heads": 4}, "multiple of 8"),
        (DecoderModel, "decoder", {"width": 16, "heads": 4, "kv_heads": 3}, "`kv_heads`"),
        (ConvCtcModel, "conv-ctc", {"kernel": 4}, "odd"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(family, name, sizes, words):
    with pytest.raises(ValidationError, match=words):
        family(name=name, **sizes)

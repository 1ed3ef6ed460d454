"""The texts that a network generates in a validation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modelwright.data import Dataset, Split
from modelwright.data.ragged import Ragged
from modelwright.data.text_targets import text_targets
from modelwright.kinds import OutputKind
from modelwright.models.candidate import Candidate
from modelwright.models.network import TextFrame
from modelwright.models.seq2seq import RnnSeq2Seq
from modelwright.recipe.networks import Seq2SeqModel
from modelwright.tasks import TASKS
from modelwright.tasks.sampling import BARRED
from modelwright.training.validation import ValidationGenerations, validation_scores
from modelwright.transforms.text import BEGIN, END, TextInput
from modelwright.transforms.tokenizing import train_tokenizer
from tests.training import small

SOURCES = ["the cat sat", "a dog", "on the mat a dog ran", "cat"]
TASK = TASKS["translation", OutputKind.SEQ2SEQ]


def greedy(network, ids, most):
    """Return what a network writes of one source, reading all of it anew for each token."""
    source, length, written = torch.tensor([ids]), torch.tensor([len(ids)]), [BEGIN]
    while len(written) <= most:
        logits = network(source, length, torch.tensor([written]))[0, -1]
        logits[list(BARRED)] = -torch.inf
        token = int(logits.argmax())
        if token == END:
            break
        written.append(token)
    return written[1:]


def split_of(input, references):
    """Return a validation split whose longest target is two words and the end."""
    ids = [np.array(item, np.int64) for item in input.tokenizer.encode(SOURCES)]
    inputs, following, _ = text_targets(
        Ragged.of("tokens", ids, "int64"), ["cat", "a dog", "cat", "dog"], input
    )
    rows = np.arange(len(SOURCES))
    return Split("validation", inputs, rows, following, pairs=lambda: (SOURCES, references))


def generations(input, references):
    return ValidationGenerations.of(split_of(input, references), TASK, input)


@pytest.mark.parametrize(("max_length", "most"), [(32, 6), (5, 5)])
def test_generated_texts_are_compared_with_their_references(tmp_path, max_length, most):
    tokenizer = train_tokenizer(
        ["the cat sat on the mat", "a dog ran"], kind="word", size=30, lowercase=True
    )
    input = TextInput(tokenizer, max_length, "source")
    torch.manual_seed(2)
    frame = TextFrame(tokenizer.size, max_length=max_length, num_outputs=tokenizer.size)
    network = RnnSeq2Seq(Seq2SeqModel(name="seq2seq", kind="gru", width=12, layers=1), frame)
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(3)
    network.eval()
    with torch.no_grad():
        written = [greedy(network, ids.tolist(), most) for ids in tokenizer.encode(SOURCES)]
    assert max(map(len, written)) == most  # At least one doesn't end by itself.
    references = [tokenizer.decode(np.array(item)) for item in written]
    assert len(set(references)) > 1
    network.train()
    scores = generations(input, references).scores(network)
    assert scores["chrf"] == pytest.approx(100)
    assert network.training
    assert generations(input, references[::-1]).scores(network)["chrf"] < 90
    # They stand beside what is measured without generating.
    split = split_of(input, references)
    candidate = Candidate(
        network,
        TASK.name,
        input,
        (),
        {"num_outputs": tokenizer.size},
        output_kind=OutputKind.SEQ2SEQ,
    )
    whole = validation_scores(
        candidate, Dataset(split, split, ()), small.run_in(tmp_path), task=TASK
    )
    assert whole.keys() - scores.keys() == {"token_loss", "perplexity"}
    assert {name: whole[name] for name in scores} == pytest.approx(scores)

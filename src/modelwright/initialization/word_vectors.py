"""Where the vectors of words start, if not at random: from a file of word vectors."""

from __future__ import annotations

import numpy as np
import torch

from modelwright.data import Prepared
from modelwright.errors import DataError, RecipeError
from modelwright.files import JsonObject, digest
from modelwright.run import Run, RunRequest
from modelwright.transforms.text import TextInput
from modelwright.transforms.tokenizing import SPECIALS, Tokenizer
from modelwright.transforms.word_vectors import read_word_vectors


def start_words(
    network: torch.nn.Module, request: RunRequest, prepared: Prepared, context: Run
) -> tuple[JsonObject, ...]:
    """Start the words that the file of `text.vectors` knows from there; return steps of lineage.

    Raises:
        RecipeError: the network has no word vectors, or ones of another width.
        DataError: the file can't be read, or isn't the one that the run began with.
    """
    if request.recipe.text.vectors is None:
        return ()
    path, where = request.find(request.recipe.text.vectors), request.recipe.place_of("text.vectors")
    tables = [item for item in network.modules() if isinstance(item, torch.nn.Embedding)]
    if not tables or not isinstance(prepared.input, TextInput):
        raise RecipeError("this network has no table of word vectors", where=where)
    table, tokenizer = tables[0], prepared.input.tokenizer
    assert isinstance(tokenizer, Tokenizer)  # The recipe's rules refuse both beside another.
    words = [tokenizer.token(number) for number in range(len(SPECIALS), tokenizer.size)]
    vectors, known = read_word_vectors(path, words)
    if vectors.shape[1] != table.embedding_dim:
        raise RecipeError(
            f"{path.name} has vectors of {vectors.shape[1]} numbers, and the network's have "
            f"{table.embedding_dim}",
            where=where,
            fix=f"Write `model: {{width: {vectors.shape[1]}}}`",
        )
    file_digest = digest(path.read_bytes())
    if context.decisions.decide("vectors", lambda: file_digest) != file_digest:
        raise DataError(
            f"{path.name} has changed since this run began",
            where="text.vectors",
            fix="Give the run another `--name`, or put the former file back",
        )
    rows = torch.from_numpy(np.flatnonzero(known) + len(SPECIALS))
    with torch.no_grad():
        table.weight[rows] = torch.from_numpy(vectors[known])
    context.say(f"{len(rows):,} of {len(words):,} words start from {path.name}")
    return ({"step": "vectors", "file": path.name, "digest": file_digest, "words": len(rows)},)

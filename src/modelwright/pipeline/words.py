"""Where the vectors of tokens start: from a file of word vectors, or from texts without labels."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from modelwright import data
from modelwright.data import Prepared
from modelwright.errors import DataError, RecipeError
from modelwright.files import cache_folder, json_digest, locked, write_bytes
from modelwright.files import digest as file_digest
from modelwright.pipeline.asking import Asked
from modelwright.recipe.data import UnlabelledSpec
from modelwright.run import Progress, Run
from modelwright.transforms.learnt_vectors import learn_vectors
from modelwright.transforms.text import TextInput
from modelwright.transforms.tokenizing import SPECIALS, Ids, Tokenizer, fold
from modelwright.transforms.word_vectors import read_word_vectors

_VERSION = 1
_AT_ONCE = 512
"""Texts that are tokenized in one go."""

Vectors = NDArray[np.float32]
Flags = NDArray[np.bool_]


def start_words(
    network: torch.nn.Module, asked: Asked, prepared: Prepared, context: Run
) -> tuple[dict[str, Any], ...]:
    """Start the vectors of tokens where the recipe says; return the steps of lineage.

    Raises:
        RecipeError: the network has no such vectors, or ones of another width.
        DataError: a file can't be read.
        ResourceError: the cache can't be written.
    """
    text = asked.recipe.text
    if text.vectors is not None:
        return (_take(text.vectors, network, asked, prepared, context),)
    if text.unlabelled is not None:
        return (_learn(text.unlabelled, network, asked, prepared, context),)
    return ()


def _take(
    name: str, network: torch.nn.Module, asked: Asked, prepared: Prepared, context: Run
) -> dict[str, Any]:
    """Start the words that a file of word vectors knows from there."""
    path, where = asked.find(name), asked.recipe.place_of("text.vectors")
    table, tokenizer = _words(network, prepared, where)
    words = [tokenizer.token(number) for number in range(len(SPECIALS), tokenizer.size)]
    vectors, known = read_word_vectors(path, words)
    if vectors.shape[1] != table.embedding_dim:
        raise RecipeError(
            f"{path.name} has vectors of {vectors.shape[1]} numbers, and the network's have "
            f"{table.embedding_dim}",
            where=where,
            fix=f"Write `model: {{width: {vectors.shape[1]}}}`",
        )
    rows = torch.from_numpy(np.flatnonzero(known) + len(SPECIALS))
    with torch.no_grad():
        table.weight[rows] = torch.from_numpy(vectors[known])
    context.say(f"{len(rows):,} of {len(words):,} words start from {path.name}")
    return {
        "step": "vectors",
        "file": path.name,
        "digest": file_digest(path.read_bytes()),
        "words": len(rows),
    }


def _learn(
    spec: UnlabelledSpec,
    network: torch.nn.Module,
    asked: Asked,
    prepared: Prepared,
    context: Run,
) -> dict[str, Any]:
    """Start tokens from the company that they keep in texts without labels."""
    table, tokenizer = _words(network, prepared, asked.recipe.place_of("text.unlabelled"))
    files = data.unlabelled_files(spec, base=asked.base)
    digests = [file_digest(file.read_bytes()) for file in files]
    held_out = _held_out(prepared)
    settings = [_VERSION, spec.text, spec.window, table.embedding_dim, sorted(held_out)]
    key = json_digest([*settings, digests, file_digest(tokenizer.to_bytes())])
    path = cache_folder() / "vectors" / f"{key.partition(':')[2][:32]}.npz"
    with locked(path.with_suffix(".lock")):
        if not path.exists():
            texts = _Texts(files, spec.text, held_out, tokenizer, context)
            vectors, known = learn_vectors(
                iter(texts), size=tokenizer.size, width=table.embedding_dim, window=spec.window
            )
            if not texts.read:
                raise DataError("there is no text here", where="text.unlabelled.path")
            _keep(path, vectors, known, texts)
    vectors, known, read, left_out = _kept(path)
    rows = torch.from_numpy(np.flatnonzero(known))
    with torch.no_grad():
        # As long as fresh ones: what follows expects that.
        length = table.weight[len(SPECIALS) : tokenizer.size].norm(dim=1).mean()
        table.weight[rows] = torch.from_numpy(vectors[known]) * length
    note = f"{len(rows):,} of {tokenizer.size - len(SPECIALS):,} tokens start from {read:,} texts"
    if left_out:
        note += f"; {left_out:,} that are held out to measure on were left out of these"
    context.say(note)
    return {
        "step": "unlabelled",
        "files": len(files),
        "digest": json_digest(digests),
        "texts": read,
        "left_out": left_out,
        "words": len(rows),
    }


def _words(
    network: torch.nn.Module, prepared: Prepared, where: str
) -> tuple[torch.nn.Embedding, Tokenizer]:
    """Return a network's table of vectors, and the tokenizer whose tokens they are.

    Raises:
        RecipeError: it has none.
    """
    tables = [item for item in network.modules() if isinstance(item, torch.nn.Embedding)]
    if not tables or not isinstance(prepared.input, TextInput):
        raise RecipeError("this network has no table of word vectors", where=where)
    tokenizer = prepared.input.tokenizer
    assert isinstance(tokenizer, Tokenizer)  # The recipe's rules refuse both beside another.
    return tables[0], tokenizer


def _held_out(prepared: Prepared) -> set[str]:
    """Return the marks of the texts that are measured on: nothing is to be learnt from them."""
    rows = [row for name in ("validation", "test") for row in prepared.rows[name].tolist()]
    return {_mark(prepared.store.original(row).decode()) for row in rows}


def _mark(text: str) -> str:
    return file_digest(fold(text).encode(errors="surrogatepass"))


class _Texts:
    """The token ids of the texts of some files, but for those that are held out."""

    def __init__(
        self,
        files: Sequence[Path],
        column: str,
        held_out: set[str],
        tokenizer: Tokenizer,
        context: Run,
    ) -> None:
        self.files, self.column, self.held_out = files, column, held_out
        self.tokenizer, self.context = tokenizer, context
        self.read = self.left_out = 0

    def __iter__(self) -> Iterator[Ids]:
        for number, file in enumerate(self.files):
            self.context.observe(Progress("vectors", number, len(self.files)))
            some: list[str] = []
            for text in data.unlabelled_texts(file, column=self.column):
                if _mark(text) in self.held_out:
                    self.left_out += 1
                    continue
                some.append(text)
                if len(some) == _AT_ONCE:
                    yield from self._encoded(some)
                    some = []
            yield from self._encoded(some)
        self.context.observe(Progress("vectors", len(self.files), len(self.files)))

    def _encoded(self, texts: list[str]) -> list[Ids]:
        self.read += len(texts)
        return self.tokenizer.encode(texts)


def _keep(path: Path, vectors: Vectors, known: Flags, texts: _Texts) -> None:
    stream = io.BytesIO()
    np.savez(stream, vectors=vectors, known=known, counts=[texts.read, texts.left_out])
    write_bytes(path, stream.getvalue())


def _kept(path: Path) -> tuple[Vectors, Flags, int, int]:
    try:
        with np.load(path, allow_pickle=False) as held:
            read, left_out = held["counts"].tolist()
            return held["vectors"], held["known"], read, left_out
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            "these cached vectors are damaged",
            where=str(path),
            fix="Remove the file and run again: they are learnt anew",
        ) from error

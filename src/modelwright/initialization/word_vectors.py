"""Where the vectors of tokens start: from a file of word vectors, or from texts without labels."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from modelwright import data
from modelwright.data import Prepared
from modelwright.data.labelled_lines import read_maybe_packed
from modelwright.errors import DataError, RecipeError
from modelwright.files import cache_folder, json_digest, locked, write_bytes
from modelwright.files import digest as file_digest
from modelwright.kinds import OutputKind
from modelwright.recipe.data import UnlabelledSpec
from modelwright.run import Progress, Run, RunRequest
from modelwright.transforms.learnt_vectors import learn_vectors
from modelwright.transforms.text import TextInput
from modelwright.transforms.tokenizing import SPECIALS, Ids, Tokenizer, fold
from modelwright.transforms.word_vectors import read_word_vectors

_VERSION = 1
_AT_ONCE = 512
"""Texts that are tokenized in one go."""


def start_words(
    network: torch.nn.Module, request: RunRequest, prepared: Prepared, context: Run
) -> tuple[dict[str, Any], ...]:
    """Start the vectors of tokens where the recipe says; return the steps of lineage.

    Raises:
        RecipeError: the network has no such vectors, or ones of another width.
        DataError: a file can't be read.
        ResourceError: the cache can't be written.
    """
    text = request.recipe.text
    if text.vectors is not None:
        return (_take(text.vectors, network, request, prepared, context),)
    if text.unlabelled is not None:
        return (_learn(text.unlabelled, network, request, prepared, context),)
    return ()


def _take(
    name: str, network: torch.nn.Module, request: RunRequest, prepared: Prepared, context: Run
) -> dict[str, Any]:
    """Start the words that a file of word vectors knows from there."""
    path, where = request.find(name), request.recipe.place_of("text.vectors")
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
        "digest": _settled("vectors", file_digest(path.read_bytes()), context),
        "words": len(rows),
    }


def _learn(
    spec: UnlabelledSpec,
    network: torch.nn.Module,
    request: RunRequest,
    prepared: Prepared,
    context: Run,
) -> dict[str, Any]:
    """Start tokens from the company that they keep in texts without labels."""
    table, tokenizer = _words(network, prepared, request.recipe.place_of("text.unlabelled"))
    files = data.unlabelled_files(spec, base=request.base)
    # Named with how it is read: a table and a text may have the same bytes.
    read_as = ["".join(file.suffixes).lower() for file in files]
    digests = [file_digest(read_maybe_packed(file)) for file in files]
    source = json_digest([read_as, digests])
    held_out = _held_out(prepared)
    settings = [_VERSION, spec.text, spec.window, table.embedding_dim, sorted(held_out)]
    key = json_digest([*settings, source, file_digest(tokenizer.to_bytes())])
    path = cache_folder() / "vectors" / f"{key.partition(':')[2][:32]}.npz"
    shape = (tokenizer.size, table.embedding_dim)
    with locked(path.with_suffix(".lock")):
        held = _kept(path, shape)
        if held is None:
            texts = _Texts(files, spec.text, held_out, tokenizer, context)
            vectors, known = learn_vectors(
                iter(texts), size=shape[0], width=shape[1], window=spec.window
            )
            held = _Learnt(vectors, known, texts.read, texts.left_out)
            _require_texts(held, files)
            _keep(path, held)
    rows = torch.from_numpy(np.flatnonzero(held.known))
    with torch.no_grad():
        # As long as fresh ones: what follows expects that.
        length = table.weight[len(SPECIALS) : tokenizer.size].norm(dim=1).mean()
        table.weight[rows] = torch.from_numpy(held.vectors[held.known]) * length
    note = f"{len(rows):,} of {tokenizer.size - len(SPECIALS):,} tokens start from {held.read:,} "
    note += "texts"
    if held.left_out:
        note += f"; {held.left_out:,} that are held out to measure on were left out of these"
    context.say(note)
    return {
        "step": "unlabelled",
        "files": len(files),
        "digest": _settled("unlabelled", source, context),
        "texts": held.read,
        "left_out": held.left_out,
        "words": len(rows),
    }


def _settled(name: str, digest: str, context: Run) -> str:
    """Return the digest of what words start from, the one that the run began with.

    Raises:
        DataError: it is another one now.
    """
    if context.decisions.decide(name, lambda: digest) != digest:
        raise DataError(
            "the texts or vectors that words start from have changed since this run began",
            where=f"text.{name}",
            fix="Give the run another `--name`, or put them back",
        )
    return digest


def _require_texts(held: _Learnt, files: Sequence[Path]) -> None:
    if held.read:
        return
    names = ", ".join(file.name for file in files[:3]) + (", …" if len(files) > 3 else "")
    raise DataError(
        f"all {held.left_out:,} texts are among those that the model is measured on"
        if held.left_out
        else "there is no text here",
        where=f"{names} (text.unlabelled.path)",
        fix="Give texts of another source" if held.left_out else "Look at what the files hold",
    )


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
    """Return the marks of the texts that are measured on, and of their lines."""
    rows = [row for name in ("validation", "test") for row in prepared.rows[name].tolist()]
    texts = [prepared.store.original(row).decode() for row in rows]
    if prepared.output_kind == OutputKind.SEQ2SEQ:  # What is to be written is measured on too.
        wanted = prepared.store.strings("label")
        texts += [wanted[row] for row in rows]
    return {_mark(part) for text in texts for part in (text, *text.split("\n")) if part.strip()}


def _mark(text: str) -> str:
    return file_digest(fold(text).encode(errors="surrogatepass"))


def _marks(text: str) -> set[str]:
    """Return the marks of a text, and of it without a label in front."""
    parts = text.split(maxsplit=1)
    return {_mark(text), _mark(parts[-1])} if parts else set()


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
                if not self.held_out.isdisjoint(_marks(text)):
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


@dataclass(frozen=True, slots=True)
class _Learnt:
    """Vectors `[V, D]`, which tokens have one `[V]`, and how many texts they come from."""

    vectors: NDArray[np.float32]
    known: NDArray[np.bool_]
    read: int
    left_out: int


def _keep(path: Path, learnt: _Learnt) -> None:
    stream = io.BytesIO()
    counts = [learnt.read, learnt.left_out]
    np.savez(stream, vectors=learnt.vectors, known=learnt.known, counts=counts)
    write_bytes(path, stream.getvalue())


def _kept(path: Path, shape: tuple[int, int]) -> _Learnt | None:
    """Return what was learnt before; nothing where there is none, or it is damaged."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as held:
            vectors, known, counts = held["vectors"], held["known"], held["counts"]
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error):
        return None
    is_whole = (
        (vectors.shape, vectors.dtype) == (shape, np.float32)
        and (known.shape, known.dtype) == (shape[:1], np.bool_)
        and counts.shape == (2,)
    )
    return _Learnt(vectors, known, int(counts[0]), int(counts[1])) if is_whole else None

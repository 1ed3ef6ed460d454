"""Word vectors from text files: word2vec (Mikolov et al. 2013), GloVe (Pennington et al. 2014).

A line is a word and its numbers, with blanks between; word2vec's first line says how many lines and
numbers follow. Only the vectors of requested words are kept in memory.
"""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from modelwright.arrays import Bools, Floats
from modelwright.errors import DataError, RequestError, nearest

LONGEST_LINE = 1 << 20
"""In bytes; a line of 2,000 numbers takes some 20,000."""
MOST_NUMBERS = 4096
"""The widest vectors in use have 1,024."""
_GZIP = b"\x1f\x8b"
_LARGEST = float(np.finfo(np.float32).max)
_FETCH = "Remove the line, or fetch the file again"
_TEXT_FORM = "Use the text form of word2vec or GloVe; the binary form isn't read"


def read_word_vectors(path: Path, words: Sequence[str]) -> tuple[NDArray[np.float32], Bools]:
    """Read the vectors of `words` from a text file of word2vec or GloVe, perhaps gzipped.

    Of a word that occurs twice, the first vector is taken. A word may have blanks in it, as some of
    GloVe's largest file have. Vectors of other words are only counted.

    Args:
        path: the file.
        words: W different words.

    Returns:
        The vectors `[W, D]`, zero where the file has none, and which words were found `[W]`.

    Raises:
        DataError: the file can't be read, or a line isn't a word and as many numbers as the others.
    """
    places = {word.encode(errors="surrogatepass"): at for at, word in enumerate(words)}
    kept: dict[int, NDArray[np.float32]] = {}
    count: int | None = None
    width = last = 0  # numbers in a vector, once known; vectors so far
    for number, line in _lines(path):
        where = f"{path}:{number}"
        if number == 1 and (header := _header(line)):
            count, width = header
            _check_width(width, where)
            continue
        last += 1
        word, fields = _parts(line, width, where)
        width = width or len(fields)
        at = places.get(word)
        if at is not None and at not in kept:
            kept[at] = _vector(fields, where)
    if not width or count not in (None, last):
        raise DataError(
            f"the file has {last:,} word vectors" + (f" and promises {count:,}" if count else ""),
            where=str(path),
            why="A download may have broken off",
            fix="Fetch the file again",
        )
    matrix = np.zeros((len(words), width), np.float32)
    for at, vector in kept.items():
        matrix[at] = vector
    is_known = np.zeros(len(words), np.bool_)
    is_known[list(kept)] = True
    return matrix, is_known


def nearest_words(
    matrix: Floats, words: Sequence[str], word: str, count: int
) -> list[tuple[str, float]]:
    """Return the `count` words whose vectors have the largest cosine with that of `word`.

    >>> square = np.array([[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]])
    >>> nearest_words(square, ["east", "between", "north"], "north", 1)
    [('between', 0.8)]

    Args:
        matrix: vectors `[W, D]`; words whose vector is zero are left out.
        words: W words.
        word: one of them.
        count: the most words to return.

    Returns:
        Words with their cosines, the nearest first.

    Raises:
        RequestError: the word isn't one of them, or its vector is zero.
    """
    if word not in words:
        raise RequestError(f"the word `{word}` has no vector", fix=nearest(word, words))
    at = words.index(word)
    lengths = np.linalg.norm(matrix, axis=1)
    if not lengths[at] > 0:
        raise RequestError(
            f"the vector of `{word}` is zero, so no other is near",
            why="The word has not been learnt",
        )
    others = np.flatnonzero(lengths > 0)
    others = others[others != at]
    cosines = (matrix[others] @ matrix[at]) / (lengths[others] * lengths[at])
    order = np.argsort(-cosines, kind="stable")[:count]
    return [(words[others[place]], float(cosines[place])) for place in order]


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield each line that isn't blank with its number, without its end."""
    number = 0
    try:
        with _open(path) as stream:
            while line := stream.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise DataError(
                        f"the line is longer than {LONGEST_LINE:,} bytes",
                        where=f"{path}:{number}",
                        why="A file of word vectors has a word and its numbers on each line",
                        fix=_TEXT_FORM,
                    )
                if number == 1:
                    if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                        raise DataError(
                            "the file is UTF-16", where=str(path), fix="Save it as UTF-8"
                        )
                    line = line.removeprefix(codecs.BOM_UTF8)
                if line := line.rstrip(b" \t\r\n"):
                    yield number, line
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"the file can't be read on ({error})" if number else f"can't be read ({error})",
            where=f"{path}:{number}" if number else str(path),
            fix="Fetch the file again" if number else "Check the path and its permissions",
        ) from error


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as stream:
        is_zipped = stream.read(len(_GZIP)) == _GZIP
    return gzip.open(path) if is_zipped else path.open("rb")  # type: ignore[return-value]


def _header(line: bytes) -> tuple[int, int] | None:
    """Return word2vec's first line, the numbers of words and of each vector's entries."""
    fields = line.split()
    if len(fields) != 2 or not all(field.isdigit() and len(field) < 12 for field in fields):
        return None
    return int(fields[0]), int(fields[1])


def _parts(line: bytes, width: int, where: str) -> tuple[bytes, list[bytes]]:
    """Return a line's word and its numbers, of which there must be `width` unless it is 0."""
    word, *fields = line.replace(b"\t", b" ").split(b" ")
    _check_width(width or len(fields), where)
    if not width or len(fields) == width:
        return word, fields
    spare = len(fields) - width
    if spare > 0 and not any(_number(field) is not None for field in fields[:spare]):
        return b" ".join([word, *fields[:spare]]), fields[spare:]
    raise DataError(
        f"a word with {len(fields)} numbers, where the others have {width}", where=where, fix=_FETCH
    )


def _check_width(width: int, where: str) -> None:
    if not 1 <= width <= MOST_NUMBERS:
        raise DataError(
            f"a vector of {width:,} numbers",
            where=where,
            why=f"A line needs a word and 1 to {MOST_NUMBERS:,} numbers",
            fix=_TEXT_FORM,
        )


def _number(field: bytes) -> float | None:
    """Return the number of a field, or `None` where it isn't a finite float32."""
    try:
        value = float(field)
    except ValueError:
        return None
    return value if abs(value) <= _LARGEST else None


def _vector(fields: list[bytes], where: str) -> NDArray[np.float32]:
    numbers = [_number(field) for field in fields]
    if None in numbers:
        text = fields[numbers.index(None)][:40].decode(errors="replace")
        raise DataError(f"`{text}` isn't a finite number", where=where, fix=_FETCH)
    return np.array(numbers, np.float32)

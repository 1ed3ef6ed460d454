from __future__ import annotations

import gzip
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from modelwright.errors import DataError, RequestError
from modelwright.transforms.word_vectors import LONGEST_LINE, nearest_words, read_word_vectors

GLOVE = "the 0.5 -1 2e-1\nzwölf 1 2 3\n. . . 7 8 9\n"
WORD2VEC = "3 3\n" + GLOVE.replace("\n", " \n")
VECTORS = [[1, 2, 3], [0, 0, 0], [0.5, -1, 0.2]]


def written(folder, content, name="vectors.txt"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "content",
    [GLOVE, WORD2VEC, "\ufeff" + GLOVE.replace("\n", "\r\n"), gzip.compress(WORD2VEC.encode())],
    ids=["glove", "word2vec", "windows", "gzip"],
)
def test_wanted_words_get_their_vectors(tmp_path, content):
    matrix, found = read_word_vectors(written(tmp_path, content), ["zwölf", "cat", "the"])
    assert matrix.dtype == np.float32
    assert np.array_equal(matrix, np.array(VECTORS, np.float32))
    assert found.tolist() == [True, False, True]


def test_words_with_blanks_and_words_that_come_twice(tmp_path):
    path = written(tmp_path, GLOVE + "the 9 9 9\n\nat home 4 5 6\n")
    matrix, found = read_word_vectors(path, ["at home", "the", ". . ."])
    assert matrix[0].tolist() == [4, 5, 6]
    assert matrix[1, 0] == 0.5
    assert matrix[2].tolist() == [7, 8, 9]
    assert found.all()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    words=st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=("Z", "C")), min_size=1),
        min_size=1,
        max_size=5,
        unique=True,
    ),
    seed=st.integers(0, 100),
)
def test_what_was_written_is_read(tmp_path, words, seed):
    vectors = np.random.default_rng(seed).normal(size=(len(words), 3)).astype(np.float32)
    lines = [
        " ".join([word, *map(str, row.tolist())]) for word, row in zip(words, vectors, strict=True)
    ]
    path = written(tmp_path, f"{len(words)} 3\n" + "\n".join(lines))
    matrix, found = read_word_vectors(path, words)
    assert np.array_equal(matrix, vectors)
    assert found.all()


@pytest.mark.parametrize(
    ("content", "place", "what"),
    [
        ("a 1 2\nb 1\n", ":2", "1 numbers, where the others have 2"),
        ("a 1 2\nb 1 2 3\n", ":2", "3 numbers, where the others have 2"),
        ("2 2\na 1 2\nb 1 2 3\n", ":3", "3 numbers"),
        ("a 1 2\nthe 1 x\n", ":2", "`x` isn't a finite number"),
        ("the 1 nan\n", ":1", "`nan`"),
        ("the 1 1e39\n", ":1", "`1e39`"),
        ("the 1 0.\x000\n", ":1", "isn't a finite number"),
        ("the\n", ":1", "a vector of 0 numbers"),
        ("5 100000\n", ":1", "a vector of 100,000 numbers"),
        ("a " + "1 " * 5000, ":1", "a vector of 5,000 numbers"),
        ("a 1 2\n" + "b" * (LONGEST_LINE + 1), ":2", "longer than"),
        (b"2 3\n" + bytes(range(256)) * 2, ":2", "numbers"),
        ("a 1 2\nthe 1 2\n".encode("utf-16"), "", "UTF-16"),
        ("3 2\na 1 2\n", "", "has 1 word vectors and promises 3"),
        ("", "", "has 0 word vectors"),
        ("\n \n", "", "has 0 word vectors"),
        (gzip.compress(GLOVE.encode() * 99, mtime=0)[:-20], "", "can't be read"),
        (gzip.compress(GLOVE.encode(), mtime=0)[:12] + b"\xff" * 40, "", "can't be read"),
    ],
)
def test_broken_files_are_refused_by_line(tmp_path, content, place, what):
    path = written(tmp_path, content)
    with pytest.raises(DataError, match=what) as caught:
        read_word_vectors(path, ["the", "b"])
    assert caught.value.where.startswith(f"{path}{place}")
    assert caught.value.fix


def test_missing_files_and_folders_are_refused(tmp_path):
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(DataError, match="can't be read"):
            read_word_vectors(path, ["the"])


def test_unwanted_words_take_no_memory(tmp_path):
    lines = [f"word{number} " + "0.123456 " * 300 for number in range(800)]
    path = written(tmp_path, gzip.compress("\n".join(lines).encode(), 1))
    tracemalloc.start()
    _, found = read_word_vectors(path, ["word7", "word799"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.all()
    assert peak < 400_000  # all vectors take 960,000 bytes


def test_nearest_words_by_cosine():
    matrix = np.array([[1, 0], [2, 0.1], [0, 3], [-1, 0], [0, 0]], np.float32)
    words = ["east", "eastish", "north", "west", "unlearnt"]
    assert [word for word, _ in nearest_words(matrix, words, "east", 9)] == [
        "eastish",
        "north",
        "west",
    ]
    assert nearest_words(matrix, words, "east", 3)[2][1] == pytest.approx(-1)
    assert nearest_words(matrix, words, "east", 1)[0][1] == pytest.approx(2 / np.hypot(2, 0.1))


@given(
    arrays.arrays(np.float64, (6, 3), elements=st.integers(-4, 4).map(float)),
    st.floats(0.1, 10),
)
def test_length_of_a_vector_does_not_matter(matrix, factor):
    matrix[0] = 1.0, 2.0, 3.0
    words = list("abcdef")
    once = nearest_words(matrix, words, "a", 5)
    scaled = dict(nearest_words(matrix * factor, words, "a", 5))
    assert all(abs(scaled[word] - cosine) < 1e-9 for word, cosine in once)
    assert all(abs(cosine) < 1 + 1e-9 for _, cosine in once)
    assert [cosine for _, cosine in once] == sorted((c for _, c in once), reverse=True)


def test_unknown_and_unlearnt_words_are_refused():
    matrix = np.array([[1.0, 0.0], [0.0, 0.0]])
    with pytest.raises(RequestError, match="Did you mean `east`"):
        nearest_words(matrix, ["east", "west"], "eats", 1)
    with pytest.raises(RequestError, match="is zero"):
        nearest_words(matrix, ["east", "west"], "west", 1)

"""Scripts that write no blank between words: Chinese, Japanese, Thai and their neighbours."""

from __future__ import annotations

import re
from collections.abc import Iterable

UNSPACED = (
    r"\u0e00-\u0eff"  # Thai and Lao.
    r"\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff"  # Tibetan, Burmese and Khmer.
    r"\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # Kana.
    r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"  # Han.
)
"""The ranges of these scripts, as they stand in a regular expression between brackets."""
_RUN = re.compile(f"[{UNSPACED}]+")
_CHARACTERS_A_WORD = 1.5
"""About as many characters make a word of Chinese."""
_SHARE = 0.2
"""Texts are in such a script from this share of their characters on."""


def count_words(text: str) -> float:
    """Return the number of words of a text; where none are separated, by their characters.

    >>> count_words("a good film"), count_words("很好吃")
    (3, 2.0)
    """
    unspaced = sum(len(run) for run in _RUN.findall(text))
    if not unspaced:
        return len(text.split())
    return len(_RUN.sub(" ", text).split()) + unspaced / _CHARACTERS_A_WORD


def are_unspaced(texts: Iterable[str]) -> bool:
    """Say whether texts are written in a script that has no blanks between words."""
    unspaced = total = 0
    for text in texts:
        unspaced += sum(len(run) for run in _RUN.findall(text))
        total += len(text)
    return unspaced > _SHARE * total

"""JSON from a file that may be hostile: canonical bytes or nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelwright.errors import ModelFileError
from modelwright.modelfile import strict

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a":1,"a":1}', "given twice"),
        ('{"b":1,"a":1}', "canonical"),
        ('{"a": 1}', "canonical"),
        ('{"a":NaN}', "JSON"),
        ('{"a":1e999}', "JSON"),
        ('{"a":"\\ud800"}', "JSON"),
        ("{", "JSON"),
        ("", "JSON"),
        ("[" * 40 + "]" * 40, "too deep"),
        ("[" * 200_000 + "]" * 200_000, "too deep"),
        ("1" * 5000, "JSON"),
        ('{"a":1.0e0}', "canonical"),
    ],
)
def test_json_is_canonical_or_refused(text: str, why: str) -> None:
    with pytest.raises(ModelFileError, match=why):
        strict.parse_json(text.encode(), name="x")


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(codec="utf-8")),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
        max_leaves=8,
    )
)
def test_json_round_trips(value: object) -> None:
    data = strict.json_member(value, name="x")
    assert strict.parse_json(data, name="x") == value


def test_fields_are_there_and_of_their_kind() -> None:
    value = {"count": 3, "is_new": True, "name": "x"}
    assert strict.field(value, "count", int, name="m") == 3
    assert strict.field(value, "is_new", bool, name="m") is True
    for key, kind in (("is_new", int), ("count", str), ("missing", str)):
        with pytest.raises(ModelFileError, match=f"no `{key}` of the right kind"):
            strict.field(value, key, kind, name="m")
    strict.only_keys(value, ("count", "is_new", "name"), name="m")
    with pytest.raises(ModelFileError, match="holds `name`, which this version doesn't know"):
        strict.only_keys(value, ("count", "is_new"), name="m")


def test_what_has_no_json_is_not_written() -> None:
    for value in (float("nan"), {"a": object()}, "\ud800", [[[[[0]]]]] * 1):
        deep = value
        for _ in range(40 if isinstance(value, list) else 0):
            deep = [deep]
        with pytest.raises(ModelFileError, match="written"):
            strict.json_member(deep, name="m")

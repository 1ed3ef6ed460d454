"""Numbers as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.data.numbers import is_missing, read_numbers


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["0,5", "1,5", "2"], [0.5, 1.5, 2.0]),
        (["$0", "$3", ""], [0.0, 3.0, None]),
        (["1,500.0", "2,500.0"], [1500.0, 2500.0]),
        (["1,500", "2,250", "12"], [1500.0, 2250.0, 12.0]),
        (["12,5", "1,234"], [12.5, 1.234]),
        (["1.500,25", "3.000,1", "1.000"], [1500.25, 3000.1, 1000.0]),
        (["1.234.567", "2"], [1234567.0, 2.0]),
        (["1.500", "2.25"], [1.5, 2.25]),
        (["0,103", "4,103"], [0.103, 4.103]),
        (["CHF 1'100.50", "CHF 20"], [1100.5, 20.0]),
        (["1 100,50 EUR", "3,5 EUR"], [1100.5, 3.5]),
        (["3.25", "(4.50)", "\u22121.5"], [3.25, -4.5, -1.5]),
        (["10%", "5 %", "1 500 %"], [10.0, 5.0, 1500.0]),
        (
            ["1e3", "-2.5", "nan", None, float("nan"), True, 7, 1e39],
            [1e3, -2.5, *[None] * 4, 7, None],
        ),
        (["28.03.2024", "1,2,3", "abc", "inf"], [None] * 4),
    ],
)
def test_numbers(cells, values):
    assert read_numbers(cells, "x").values == values


def test_what_is_not_written_plainly_is_said():
    assert read_numbers([1, 2.5, "3"], "x").notes == ()
    (sign,) = read_numbers(["$1"], "price").notes
    assert "`price` is written with `$`" in sign
    (comma,) = read_numbers(["1,5"], "price").notes
    assert "`1,5`, which is read as 1.5" in comma


@given(st.lists(st.floats(-1e9, 1e9).map(lambda value: round(value, 3)), min_size=1))
def test_plain_numbers_stay_what_they_are(values):
    assert read_numbers([str(value) for value in values], "x").values == values


@given(st.text())
def test_any_text_is_a_finite_number_or_none(text):
    (value,) = read_numbers([text], "x").values
    assert value is None or abs(value) < 1e38


def test_empty_cells():
    assert all(map(is_missing, ("", " ", "NaN", "null", None, float("nan"), "N/A")))
    assert not any(map(is_missing, ("0", "none", "a", 0, False)))


def test_a_comma_that_may_be_either_is_said_with_the_other_reading():
    cells = ["4,103", "1,100"]
    (plain,) = read_numbers(cells, "price").notes
    assert "read as 4103; where the comma is the decimal sign, write a point instead" in plain
    found = read_numbers(cells, "price", is_comma_decimal=True)
    assert found.values == [4.103, 1.1]
    assert "where the comma separates thousands, write the numbers without it" in found.notes[0]
    assert read_numbers(["1,500,000", "4,103"], "price", is_comma_decimal=True).values[1] == 4103.0

"""Metrics of numbers against scikit-learn's, over any number of columns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from modelwright.errors import DataError
from modelwright.metrics.regression import number_columns, number_metrics

CLOSE = 1e-9
"""Both are in double precision."""


@given(st.integers(2, 30), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_they_are_scikit_learns(count, numbers, seed):
    random = np.random.default_rng(seed)
    predicted, true = random.normal(3, 2, (2, count, numbers)) + [0, 1e7, -1e3][:numbers]
    found = number_metrics(number_columns(predicted, true).sum(axis=0))
    # The root is of the mean over all numbers.
    flat = root_mean_squared_error(true.ravel(), predicted.ravel())
    assert found["rmse"] == pytest.approx(flat, rel=CLOSE)
    assert found["mae"] == pytest.approx(mean_absolute_error(true, predicted), rel=CLOSE)
    assert found["r2"] == pytest.approx(r2_score(true, predicted), rel=1e-6, abs=1e-6)


def test_figures_of_many_draws_are_those_of_each():
    random = np.random.default_rng(0)
    columns = number_columns(*random.normal(size=(2, 40, 2)))
    draws = random.multinomial(40, np.full(40, 1 / 40), size=5).astype(float) @ columns
    together, each = number_metrics(draws), [number_metrics(draw) for draw in draws]
    for name, values in together.items():
        assert values.tolist() == pytest.approx([float(one[name]) for one in each], rel=CLOSE)


def test_targets_that_do_not_vary():
    true = np.full(4, 7.0)
    assert number_metrics(number_columns(true, true).sum(axis=0))["r2"] == 1.0
    assert number_metrics(number_columns(true + 1, true).sum(axis=0))["r2"] == 0.0


@pytest.mark.parametrize(
    ("predicted", "true"),
    [((4,), (3,)), ((4, 2), (4, 1)), ((4,), (2, 2)), ((2, 4), (4, 2)), ((0,), (0,))],
)
def test_other_shapes_are_refused(predicted, true):
    with pytest.raises(DataError, match=r"differ in shape|no samples"):
        number_columns(np.zeros(predicted), np.zeros(true))


def test_a_column_is_a_row_of_numbers():
    values = np.arange(4.0)
    np.testing.assert_array_equal(
        number_columns(values, values[:, None] * 2), number_columns(values[:, None], values * 2)
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused(value):
    for pair in ((np.array([value]), np.ones(1)), (np.ones(1), np.array([value]))):
        with pytest.raises(DataError, match="aren't finite"):
            number_columns(*pair)

"""How the penalty of a linear model is searched for; whole fits are in `tests/whole`."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from modelwright.training.linear import _Search

GRID = (1.0, 2.0, 3.0, 4.0, 5.0)


class Known(_Search):
    """A search whose scores are known: the nearer to `best`, the better."""

    def __init__(self, best, fits=99):
        self.best, self.fits, self.tried = best, fits, {}

    def _try(self, c, most):
        self.tried[c] = {}
        return len(self.tried) < self.fits

    def _rank(self, c):
        return (-abs(c - self.best), 0.0, -c)


@pytest.mark.parametrize(
    ("best", "tried"),
    [
        (3.0, [3.0, 4.0, 2.0]),
        (4.0, [3.0, 4.0, 5.0]),
        (5.0, [3.0, 4.0, 5.0]),
        (2.0, [3.0, 4.0, 2.0, 1.0]),
    ],
)
def test_the_search_goes_on_while_it_gets_better(best, tried):
    search = Known(best)
    search._climb(GRID, 2)
    assert list(search.tried) == tried


def test_the_search_ends_when_its_time_is_over():
    search = Known(5.0, fits=2)
    search._climb(GRID, 2)
    assert list(search.tried) == [3.0, 4.0]


@pytest.mark.parametrize("best", [1.0, 3.0, 30.0])
def test_the_best_of_those_that_were_tried_is_chosen(best):
    search = Known(best)
    search.spec, search.validation = SimpleNamespace(C="auto"), SimpleNamespace()
    search.fitting = SimpleNamespace(is_sparse=True)
    search.task = SimpleNamespace(select_by="accuracy")
    assert search.choose()["C"] == best
    assert len(search.tried) > 2

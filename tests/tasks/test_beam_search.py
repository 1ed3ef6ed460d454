"""What beams keep."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from modelwright.tasks.beam_search import _largest


@given(
    st.lists(st.sampled_from([-np.inf, -3.0, -2.0, -1.0, 0.5]), min_size=1, max_size=12),
    st.integers(1, 12),
)
def test_the_largest_are_those_of_a_stable_sort(values, count):
    array = np.array(values)
    order = np.argsort(-array, kind="stable")
    expected = [place for place in order.tolist() if array[place] > -np.inf][:count]
    assert _largest(array, count) == expected

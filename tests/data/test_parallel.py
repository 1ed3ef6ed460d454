from __future__ import annotations

import threading
import time

import pytest

from modelwright.data.parallel import in_order, processors


def test_results_come_in_the_order_of_their_items():
    def late(number):
        time.sleep(0.002 * (number % 3))
        return number

    assert list(in_order(late, range(50))) == list(range(50))
    assert list(in_order(late, [])) == []


def test_no_more_is_begun_than_is_soon_taken():
    begun = []
    results = in_order(begun.append, range(1000))
    for taken in range(1, 20):
        next(results)
        assert len(begun) <= taken + 2 * processors() + 1


def test_a_failure_ends_it_and_nothing_goes_on():
    begun, lock = [], threading.Lock()

    def fails(number):
        with lock:
            begun.append(number)
        if number == 5:
            raise ValueError("five")
        return number

    with pytest.raises(ValueError, match="five"):
        list(in_order(fails, range(1000)))
    assert len(begun) <= 5 + 2 * processors() + 2

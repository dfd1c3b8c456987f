# SPDX-License-Identifier: GPL-3.0-or-later
"""Linear algebra on one thread: inside, in several threads at once, and where the number cannot be set."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from hyperspy_multitomo import blas


def numbers():
    np.ones((2, 2)) @ np.ones((2, 2))
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.fixture
def two_threads():
    with threadpool_limits(2, user_api="blas"):
        yield


def test_one_inside_and_as_many_as_before_behind(two_threads):
    with blas.one_blas_thread():
        assert numbers() == {1}
        with blas.one_blas_thread():
            assert numbers() == {1}
        assert numbers() == {1}
    assert numbers() == {2}


def test_two_that_overlap():
    """The first to come is the first to leave, while the second is still inside: the number is the one before all the same."""
    before = numbers()
    first_is_in, second_is_in, first_has_left = Barrier(2), Barrier(2), Barrier(2)

    def first():
        with blas.one_blas_thread():
            first_is_in.wait(10)
            second_is_in.wait(10)
            inside = numbers()
        first_has_left.wait(10)
        return inside

    def second():
        first_is_in.wait(10)
        with blas.one_blas_thread():
            second_is_in.wait(10)
            first_has_left.wait(10)

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.submit(first), pool.submit(second)
        other.result()
        assert one.result() == {1}
    assert numbers() == before


def test_errors_bring_the_number_back(two_threads):
    @blas.one_blas_thread()
    def failing():
        assert numbers() == {1}
        raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert numbers() == {2}


def test_a_limit_that_cannot_be_set_is_no_error(two_threads, monkeypatch):
    def broken():
        raise OSError

    monkeypatch.setattr(blas, "_controller", broken)
    with blas.one_blas_thread():
        assert numbers() == {2}

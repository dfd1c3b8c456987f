# SPDX-License-Identifier: GPL-3.0-or-later
"""Linear algebra runs on one thread while anything asks for that,
and on as many as before afterwards."""

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.linalg  # noqa: F401
import threadpoolctl

from hyperspy_multitomo.alignment import align
from hyperspy_multitomo.machine import blas_threads
from hyperspy_multitomo.machine.blas_threads import one_blas_thread
from hyperspy_multitomo.simulation import misaligned

TILTS = np.arange(-60.0, 61.0, 10.0)


def threads():
    """Return the numbers of threads of NumPy's and SciPy's libraries;
    other packages bring some that have but one."""
    blas = [info for info in threadpoolctl.threadpool_info() if info["user_api"] == "blas"]
    return [
        info["num_threads"]
        for info in blas
        if any(name in info["filepath"] for name in ("numpy", "scipy"))
    ]


def limit(number):
    """Set the number of threads for good: a limit is held by the thread that set it,
    as long as that lives."""
    setter = threading.Thread(
        target=threadpoolctl.threadpool_limits, args=(number,), kwargs={"user_api": "blas"}
    )
    setter.start()
    setter.join()


@pytest.fixture(autouse=True)
def three_threads():
    before = threads()
    limit(3)
    assert set(threads()) == {3}
    yield
    assert set(threads()) == {3}
    limit(before[0])


def test_one_thread_inside_and_the_old_number_after():
    with one_blas_thread():
        assert set(threads()) == {1}
        with one_blas_thread():
            assert set(threads()) == {1}
        assert set(threads()) == {1}
    assert set(threads()) == {3}


def test_the_old_number_comes_back_after_an_error():
    @one_blas_thread()
    def broken():
        raise KeyError(*threads()[:1])

    for _ in range(2):
        with pytest.raises(KeyError, match="1"):
            broken()
        assert set(threads()) == {3}


@pytest.mark.parametrize("first_out", [0, 1])
def test_whichever_thread_leaves_last_restores_it(first_out):
    entered, leave = [threading.Event() for _ in range(2)], [threading.Event() for _ in range(2)]

    def work(number):
        with one_blas_thread():
            entered[number].set()
            assert leave[number].wait(10)

    with ThreadPoolExecutor(2) as pool:
        jobs = []
        for number in range(2):
            jobs.append(pool.submit(work, number))
            assert entered[number].wait(10)
        leave[first_out].set()
        jobs[first_out].result(10)
        assert set(threads()) == {1}
        leave[1 - first_out].set()
        jobs[1 - first_out].result(10)
    assert set(threads()) == {3}


@pytest.mark.parametrize("broken", ["set", "restore"])
def test_a_limit_that_fails_is_no_error(monkeypatch, broken):
    class Limits:
        def __init__(self, *_, **__):
            if broken == "set":
                raise OSError("no such library")

        def __enter__(self):
            return self

        def __exit__(self, *_):
            raise OSError("no such library")

    monkeypatch.setattr(threadpoolctl, "threadpool_limits", Limits)
    series = misaligned("particle", size=32, tilts=TILTS)
    assert np.isfinite(align(series.haadf, TILTS, "centre_of_mass").across).all()


def test_without_threadpoolctl(monkeypatch):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    with one_blas_thread():
        pass


def test_two_alignments_at_once_find_what_each_finds_alone():
    series = [
        misaligned(name, size=48, tilts=TILTS, shift=1.5, axis_offset=0.5)
        for name in ("needle", "particle")
    ]
    seen: list[set] = []

    def one(item):
        return align(item.haadf, TILTS, progress=lambda _: seen.append(set(threads())))

    alone = [one(item) for item in series]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(one, series))
    for a, b in zip(alone, together, strict=True):
        # A tenth of the standard errors would be 0.002.
        np.testing.assert_allclose(a.across, b.across, atol=2e-4)
        np.testing.assert_allclose(a.along, b.along, atol=2e-4)
        assert (a.axis_offset, a.rotation) == pytest.approx((b.axis_offset, b.rotation), abs=1e-3)
    assert len(seen) > 4
    assert all(number == {1} for number in seen)


def test_an_interrupt_while_the_limit_is_set_leaves_none(monkeypatch):
    class Interrupted(threading.Event):
        def wait(self, timeout=None):
            super().wait(timeout)
            if threading.current_thread() is threading.main_thread():
                raise KeyboardInterrupt
            return True

    monkeypatch.setattr(blas_threads, "Event", Interrupted)
    with pytest.raises(KeyboardInterrupt), one_blas_thread():
        raise AssertionError
    monkeypatch.undo()
    for _ in range(100):
        if set(threads()) == {3}:
            break
        time.sleep(0.02)
    with one_blas_thread():
        assert set(threads()) == {1}

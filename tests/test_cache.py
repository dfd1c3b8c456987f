# SPDX-License-Identifier: GPL-3.0-or-later
"""The cache of recent results: bounded, made once per key, whatever the threads."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import pytest

from hyperspy_multitomo.machine.cache import Recent

PATIENCE = 20  # s, after which a thread that waits for another fails


def test_the_oldest_result_gives_way():
    recent, made = Recent(2), []

    def get(key):
        return recent.get(key, lambda: made.append(key) or key.upper())

    assert [get(key) for key in "abacba"] == list("ABACBA")
    assert made == ["a", "b", "c", "a"]
    assert len(recent) == 2


def test_threads_make_one_result_of_a_key():
    recent, made, start = Recent(2), [], Barrier(4)

    def make():
        made.append(object())
        Event().wait(0.05)
        return made[-1]

    def get(_):
        start.wait(PATIENCE)
        return recent.get("key", make)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(get, range(4)))
    assert len(made) == 1
    assert all(result is made[0] for result in results)


def test_keys_do_not_wait_for_each_other():
    recent, both = Recent(2), Barrier(2)

    def make():  # returns only once the other key is being made too
        return both.wait(PATIENCE)

    with ThreadPoolExecutor(2) as pool:
        places = list(pool.map(lambda key: recent.get(key, make), "ab"))
    assert sorted(places) == [0, 1]


def test_a_result_that_fails_is_made_again():
    recent = Recent(2)
    with pytest.raises(ZeroDivisionError):
        recent.get("key", lambda: 1 // 0)
    assert recent.get("key", lambda: 2) == 2

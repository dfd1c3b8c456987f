# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of panels in threads: what is waited for, what replaces what,
and what an error becomes."""

import threading

from hyperspy_multitomo.widgets.panel import Panel


class Held:
    """Work that says when it has begun and ends when it may."""

    def __init__(self, then=lambda: None):
        self.begun, self.may_end, self.done, self.then = (
            threading.Event(),
            threading.Event(),
            False,
            then,
        )

    def __call__(self, job=None):
        self.begun.set()
        assert self.may_end.wait(30)
        self.then()
        self.done = True


def test_wait_for_the_picture_that_a_job_asks_for():
    panel = Panel()
    picture = Held()
    job = Held()
    panel.start(job, then=lambda result: panel.refresh(picture))
    assert not panel.wait(0.01)
    job.may_end.set()
    assert picture.begun.wait(30)
    assert not panel.wait(0.01)
    picture.may_end.set()
    assert panel.wait(30)
    assert picture.done
    assert not panel.running


def test_wait_for_what_began_before_the_last():
    panel = Panel()
    job, picture = Held(), Held()
    panel.start(job)
    panel.refresh(picture)
    picture.may_end.set()
    assert not panel.wait(0.05)
    job.may_end.set()
    assert panel.wait(30)
    assert (job.done, picture.done) == (True, True)


def test_of_several_requests_the_last_is_done():
    panel = Panel()
    first, second, last = Held(), Held(), Held()
    panel.refresh(first)
    assert first.begun.wait(30)
    for each in (second, last):
        each.may_end.set()
        panel.refresh(each)
    first.may_end.set()
    assert panel.wait(30)
    assert (first.done, second.done, last.done) == (True, False, True)


def test_one_job_at_a_time_and_errors_in_words():
    panel = Panel()

    def broken():
        raise ValueError("no counts in the window")

    job = Held(then=broken)
    panel.start(job)
    panel.start(Held())
    assert "still running" in panel.message
    job.may_end.set()
    assert panel.wait(30)
    assert panel.message == "No counts in the window"
    assert not panel.running


def test_nothing_to_wait_for():
    assert Panel().wait(0)


def test_apply_waits_for_what_is_lacking_running_or_outdated():
    panel = Panel()
    changes = []
    panel.observe(lambda event: changes.append(event.new), "can_apply")
    assert panel.can_apply
    panel.lacking = "Mark a tilt."
    assert (panel.can_apply, panel.hindrance()) == (False, "Mark a tilt.")
    panel.lacking = ""
    job = Held()
    panel.start(job)
    assert not panel.can_apply
    assert "still running" in panel.hindrance()
    job.may_end.set()
    assert panel.wait(30)
    assert panel.can_apply
    panel.outdated = "The maps were replaced: open it again."
    assert panel.message == panel.hindrance() == panel.outdated
    assert changes == [False, True, False, True, False]

# SPDX-License-Identifier: GPL-3.0-or-later
"""The state that all panels share: what is running, how far it is, what went wrong, and how to stop it."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable
from time import monotonic

import traits.api as t

#: Threads at work: they end before the interpreter does, which would pull the libraries away from
#: below them.
_THREADS: weakref.WeakSet = weakref.WeakSet()
_BUSY = "Something is still running: wait for it, or cancel it."


def held(desc: str = ""):
    """Return a trait that holds a signal. Signals are compared by identity: ``==`` would compare all their values."""
    return t.Any(desc=desc, comparison_mode=t.ComparisonMode.identity)


class Cancelled(Exception):
    """Raised inside of a job that is to stop."""


class Job:
    """What a piece of work is told: where to report, and whether to go on."""

    def __init__(self, panel: Panel):
        self._panel = panel
        self._stop = threading.Event()

    @property
    def cancelled(self) -> bool:
        """Whether the work is to stop."""
        return self._stop.is_set()

    def cancel(self) -> None:
        """Ask the work to stop at its next step."""
        self._stop.set()

    def step(self, fraction: float, message: str = "") -> None:
        """Report how much is done, 0 to 1, and stop here if that was asked for."""
        if self.cancelled:
            raise Cancelled
        self._panel.progress = float(min(max(fraction, 0.0), 1.0))
        if message:
            self._panel.message = message


class Panel(t.HasTraits):
    """Base of the panels: traits of their own, and work that leaves the kernel free.

    Two kinds of work: `start`, a long job with a progress bar that can be cancelled, of which there
    is one at a time; and `refresh`, short work for a picture, where a new request replaces one that
    has not begun. An error shows in `message`, in words.
    """

    message = t.Str(desc="What goes on, or what went wrong.")
    progress = t.Float(0.0, desc="How much of the work is done, 0 to 1.")
    running = t.Bool(False, desc="Whether a job is under way.")
    closed = t.Bool(False, desc="Whether the panel was closed.")
    outdated = t.Str(
        desc="What has been replaced since the panel was opened, in words; empty where it shows what there is."
    )
    lacking = t.Str(
        desc="What `apply` needs and does not have yet, in words; empty where it has all."
    )
    can_apply = t.Property(
        t.Bool, observe="running, outdated, lacking", desc="Whether `apply` would do something now."
    )
    #: Work in threads; without it everything happens at once, as tests want it.
    threaded = t.Bool(True)

    _job = t.Any
    _threads = t.List
    _waiting = t.Any
    _lock = t.Any(factory=threading.Lock)

    def start(
        self, work: Callable[[Job], object], then: Callable[[object], None] = lambda result: None
    ) -> None:
        """Run a long job; `then` gets its result, unless it was cancelled, failed, or the panel was closed."""
        if self.running:
            self.message = _BUSY
            return
        job = self._job = Job(self)
        self.running, self.progress = True, 0.0

        def run():
            try:
                result = work(job)
                if not (job.cancelled or self.closed):
                    then(result)
                    self.progress = 1.0
                else:
                    self.message = "Cancelled; everything is as it was."
            except Cancelled:
                self.message = "Cancelled; everything is as it was."
            except Exception as error:
                self.message = said(error)
            finally:
                self.running = False

        self._run(run)

    def refresh(self, work: Callable[[], None]) -> None:
        """Do short work soon, such as a picture; of several requests in a row the last one is done."""
        if not self.threaded:
            self._safely(work)
            return
        with self._lock:
            busy, self._waiting = self._waiting is not None, work
        if not busy:
            self._run(self._do_waiting)

    def hindrance(self) -> str:
        """Return in words why `apply` has to wait, or nothing."""
        return self.outdated or (_BUSY if self.running else self.lacking)

    def _get_can_apply(self) -> bool:
        return not self.hindrance()

    @t.observe("outdated")
    def _say_outdated(self, event) -> None:
        self.message = self.outdated

    def cancel(self) -> None:
        """Stop the job that is under way at its next step."""
        if self._job is not None:
            self._job.cancel()

    def close(self) -> None:
        """Stop what is running and leave everything as it is."""
        self.closed = True
        self.cancel()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is under way, what that work begins included; return whether it ended within `timeout` seconds."""
        end = None if timeout is None else monotonic() + timeout
        while working := [thread for thread in self._threads if thread.is_alive()]:
            left = None if end is None else end - monotonic()
            if left is not None and left <= 0:
                return False
            working[0].join(left)
        return True

    def _do_waiting(self) -> None:
        while True:
            with self._lock:
                work = self._waiting
            self._safely(work)
            with self._lock:
                if self._waiting is work:
                    self._waiting = None
                    return

    def _safely(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self.message = said(error)

    def _run(self, function: Callable[[], None]) -> None:
        if not self.threaded:
            function()
            return
        thread = threading.Thread(target=function, daemon=True)
        thread.start()  # before anybody can wait for it
        _THREADS.add(thread)
        with self._lock:
            # Another list, since a thread may look through this one.
            self._threads = [other for other in self._threads if other.is_alive()] + [thread]


@atexit.register
def _wait_for_threads() -> None:
    """Give drawing threads a moment to end."""
    for thread in list(_THREADS):
        thread.join(2.0)


def said(error: Exception) -> str:
    """Return an error as a sentence for people."""
    text = str(error) or type(error).__name__
    return f"{text[0].upper()}{text[1:]}" if text else "Something went wrong"

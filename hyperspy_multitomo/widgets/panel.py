# SPDX-License-Identifier: GPL-3.0-or-later
"""The base class of the panels' state: background tasks with progress, errors and cancelling."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable
from time import monotonic

import traits.api as t

#: Running threads. They are joined at exit: a daemon thread that still draws while the interpreter
#: unloads its libraries crashes.
_THREADS: weakref.WeakSet = weakref.WeakSet()
#: The projectors use all cores: one computation at a time, of all panels.
COMPUTING = threading.Lock()
_BUSY = "Something is still running: wait for it, or cancel it."


def signal_trait(desc: str = ""):
    """Return a trait for a signal, compared by identity: ``==`` would compare all values."""
    return t.Any(desc=desc, comparison_mode=t.ComparisonMode.identity)


class Cancelled(Exception):
    """Raised inside a task that the user has cancelled."""


class TaskControl:
    """Handle of a running task: it reports progress to the panel and carries the stop request."""

    def __init__(self, panel: Panel):
        self._panel = panel
        self._stop = threading.Event()

    @property
    def cancelled(self) -> bool:
        """Whether the user has asked the task to stop."""
        return self._stop.is_set()

    def cancel(self) -> None:
        """Ask the task to stop at its next step."""
        self._stop.set()

    def step(self, fraction: float, message: str = "") -> None:
        """Report the fraction done, 0 to 1; raise `Cancelled` if the task was asked to stop."""
        if self.cancelled:
            raise Cancelled
        self._panel.progress = float(min(max(fraction, 0.0), 1.0))
        if message:
            self._panel.message = message


class Panel(t.HasTraits):
    """Base class of the panels' state: traits, and background work that leaves the kernel free.

    `start` runs a long task with progress bar and cancelling, one at a time. `refresh` runs short
    work for a picture; a new request replaces one that has not begun. Errors are shown in
    `message`.
    """

    message = t.Str(desc="Status of the panel, or the last error.")
    progress = t.Float(0.0, desc="Fraction of the running task that is done, 0 to 1.")
    running = t.Bool(False, desc="Whether a task is running.")
    closed = t.Bool(False, desc="Whether the panel was closed.")
    outdated = t.Str(
        desc="What was replaced since the panel was opened; empty while the panel is up to date."
    )
    lacking = t.Str(desc="What `apply` still needs; empty when nothing is missing.")
    can_apply = t.Property(
        t.Bool, observe="running, outdated, lacking", desc="Whether `apply` would do something now."
    )
    #: Work in threads; False runs everything in the calling thread, as the tests do.
    threaded = t.Bool(True)

    _task = t.Any
    _threads = t.List
    _waiting = t.Any
    _lock = t.Any(factory=threading.Lock)

    def start(
        self,
        work: Callable[[TaskControl], object],
        then: Callable[[object], None] = lambda result: None,
    ) -> None:
        """Run a long task and pass its result to `then`.

        `then` is not called if the task failed or was cancelled, or if the panel was closed.
        """
        if self.running:
            self.message = _BUSY
            return
        task = self._task = TaskControl(self)
        self.running, self.progress = True, 0.0

        def run():
            try:
                result = work(task)
                if not (task.cancelled or self.closed):
                    then(result)
                    self.progress = 1.0
                else:
                    self.message = "Cancelled; everything is as it was."
            except Cancelled:
                self.message = "Cancelled; everything is as it was."
            except Exception as error:
                self.message = error_text(error)
            finally:
                self.running = False

        self._run(run)

    def refresh(self, work: Callable[[], None]) -> None:
        """Run short work soon, such as a picture; of several waiting requests the last one runs."""
        if not self.threaded:
            self._safely(work)
            return
        with self._lock:
            busy, self._waiting = self._waiting is not None, work
        if not busy:
            self._run(self._do_waiting)

    def hindrance(self) -> str:
        """Return why `apply` has to wait, or an empty string."""
        return self.outdated or (_BUSY if self.running else self.lacking)

    def _get_can_apply(self) -> bool:
        return not self.hindrance()

    @t.observe("outdated")
    def _say_outdated(self, event) -> None:
        self.message = self.outdated

    def cancel(self) -> None:
        """Stop the running task at its next step."""
        if self._task is not None:
            self._task.cancel()

    def close(self) -> None:
        """Stop the running task; nothing is changed."""
        self.closed = True
        self.cancel()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for all work, also work that it starts; return False after `timeout` seconds."""
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
            self.message = error_text(error)

    def _run(self, function: Callable[[], None]) -> None:
        if not self.threaded:
            function()
            return
        thread = threading.Thread(target=function, daemon=True)
        thread.start()  # before `wait` can see it: a thread that is not started cannot be joined
        _THREADS.add(thread)
        with self._lock:
            # A new list, since another thread may be iterating over this one.
            self._threads = [other for other in self._threads if other.is_alive()] + [thread]


@atexit.register
def _wait_for_threads() -> None:
    """Wait up to two seconds for each running thread."""
    for thread in list(_THREADS):
        thread.join(2.0)


def error_text(error: Exception) -> str:
    """Return the message of an error, capitalised, or else the name of its class."""
    text = str(error) or type(error).__name__
    return f"{text[0].upper()}{text[1:]}" if text else "Something went wrong"

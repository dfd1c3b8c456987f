# SPDX-License-Identifier: GPL-3.0-or-later
"""An interrupt that comes while something runs, as from the keyboard."""

import _thread
import signal
import threading
from contextlib import contextmanager


@contextmanager
def interrupts_heard():
    """Let an interrupt raise KeyboardInterrupt, as at a terminal:
    in the background of a script SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def interrupt_after(delay):
    """Give a function that sets off an interrupt of the main thread,
    which comes after so many seconds."""
    stopped = threading.Event()

    def interrupt():
        # Python may lose a simulated interrupt (seen once on 3.13.0); a user would press the keys
        # again.
        wait = delay
        while not stopped.wait(wait):
            _thread.interrupt_main()
            wait = 5.0

    with interrupts_heard():
        try:
            yield threading.Thread(target=interrupt, daemon=True).start
        finally:
            stopped.set()

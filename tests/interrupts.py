# SPDX-License-Identifier: GPL-3.0-or-later
"""An interrupt that comes while something runs, as from the keyboard."""

import _thread
import threading
from contextlib import contextmanager


@contextmanager
def interrupt_after(delay):
    """Give a function that sets off an interrupt of the main thread, which comes after so many seconds."""
    stopped = threading.Event()

    def interrupt():
        # Python may lose a simulated interrupt (seen once on 3.13.0); a user would press the keys again.
        wait = delay
        while not stopped.wait(wait):
            _thread.interrupt_main()
            wait = 5.0

    try:
        yield threading.Thread(target=interrupt, daemon=True).start
    finally:
        stopped.set()

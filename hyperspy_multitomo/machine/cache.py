# SPDX-License-Identifier: GPL-3.0-or-later
"""What was made last, kept by its key: the one cache of things that are made again and again."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from threading import RLock
from typing import Any


class Recent:
    """The results of the last few keys.

    Parameters
    ----------
    most : int
        Results that are kept; the oldest gives way.

    Examples
    --------
    >>> recent = Recent(2)
    >>> [recent.get(key, lambda: key.upper()) for key in "abab"], len(recent)
    (['A', 'B', 'A', 'B'], 2)
    """

    def __init__(self, most: int):
        self._most, self._results, self._lock = most, {}, RLock()

    def __len__(self) -> int:
        return len(self._results)

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return the result of a key, made now where it is not kept."""
        with self._lock:
            if key not in self._results:
                result = make()
                while len(self._results) >= self._most:
                    self._results.pop(next(iter(self._results)))
                self._results[key] = result
            return self._results[key]

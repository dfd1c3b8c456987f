# SPDX-License-Identifier: GPL-3.0-or-later
"""A bounded cache of results by key, for all threads of a process."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from threading import Lock, RLock
from typing import Any


class Recent:
    """The results of the last few keys.

    Threads that ask for one key make its result once; those of other keys do not wait for it.

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
        self._most, self._lock = most, Lock()
        self._results: dict[Hashable, Any] = {}
        # Re-entrant, for a `make` that asks for its own key.
        self._making: dict[Hashable, RLock] = {}

    def __len__(self) -> int:
        return len(self._results)

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return the result of a key, made now where it is not kept."""
        with self._lock:
            making = self._making.setdefault(key, RLock())
        with making:
            with self._lock:
                if key in self._results:
                    self._making.pop(key, None)
                    return self._results[key]
            try:
                result = make()
                self._keep(key, result)
            finally:
                with self._lock:
                    self._making.pop(key, None)
            return result

    def _keep(self, key: Hashable, result: Any) -> None:
        """Store a result; the oldest gives way."""
        with self._lock:
            while len(self._results) >= self._most:
                self._results.pop(next(iter(self._results)))
            self._results[key] = result

# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers below the smallest normal float count as 0 where our numerics run: some processors take 100 cycles for each.

The mode is one of the thread, and a thread that is created under it has it for good. So no pool of
others may be first created under it (HyperSpy's and dask's, a progress bar's monitor; that of BLAS
is there since SciPy was imported), and what users pass is called without it. It is set and put back
outside compiled code, across which a compiler may move arithmetic.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps

__all__ = ["denormals_flushed", "denormals_kept", "flush_denormals"]


class _Register:
    """Bits of the floating-point unit's control register, by C's `fegetenv` and `fesetenv`: `offset` bytes into their record."""

    def __init__(self, offset: int, bits: int):
        library = ctypes.PyDLL(None)
        self._read, self._write = library.fegetenv, library.fesetenv
        self._offset, self.bits = offset, bits

    def state(self) -> int:
        """Return the bits of this thread."""
        return self.swap(None)

    def swap(self, wanted: int | None) -> int:
        """Set the bits of this thread as wanted, None for as they are; return what they were."""
        record = ctypes.create_string_buffer(256)
        self._read(record)
        control = ctypes.c_uint32.from_buffer(record, self._offset)
        before = control.value & self.bits
        if wanted is not None and before != wanted:
            control.value = (control.value & ~self.bits) | wanted
            self._write(record)
        return before


class _WindowsRegister:
    """The same on Windows."""

    bits = 0x01000000
    _MASK = 0x03000000

    def __init__(self):
        self._control = ctypes.PyDLL("ucrtbase")._controlfp

    def state(self) -> int:
        """Return the bits of this thread."""
        return self._control(0, 0) & self._MASK

    def swap(self, wanted: int) -> int:
        """Set the bits of this thread as wanted; return what they were."""
        before = self.state()
        self._control(wanted, self._MASK)
        return before


def _register() -> _Register | _WindowsRegister | None:
    """Return the register of this machine; None where it is not known, or does not do as it is told."""
    intel, arm = (
        platform.machine().lower() in names for names in (("x86_64", "amd64"), ("aarch64", "arm64"))
    )
    # On x86 flush-to-zero and denormals-are-zero of MXCSR, on Arm the one bit of FPCR that is both.
    places = {
        ("linux", "intel"): (28, 0x8040),
        ("darwin", "intel"): (4, 0x8040),
        ("linux", "arm"): (0, 1 << 24),
        ("darwin", "arm"): (8, 1 << 24),
    }
    try:
        if sys.platform == "win32":
            register = _WindowsRegister()
        else:
            register = _Register(*places[sys.platform, "intel" if intel else "arm" if arm else ""])
        before = register.swap(register.bits)
        flushed = _halved(sys.float_info.min) == 0
        register.swap(before)
        return register if flushed and _halved(sys.float_info.min) > 0 else None
    except (KeyError, OSError, AttributeError):
        return None


def _halved(number: float) -> float:
    return number * 0.5


_REGISTER = _register() if sys.maxsize > 2**32 else None


def flush_denormals() -> None:
    """Let this thread take numbers below the smallest normal float for 0, for good: for the threads of our own pools."""
    if _REGISTER is not None:
        _REGISTER.swap(_REGISTER.bits)


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Let this thread take numbers below the smallest normal float for 0, until the context or the decorated function is left."""
    if _REGISTER is None:
        yield
        return
    before = (
        _REGISTER.state()
    )  # read beforehand, so that no interrupt comes between setting the mode and `try`
    try:
        _REGISTER.swap(_REGISTER.bits)
        yield
    finally:
        _REGISTER.swap(before)


def denormals_kept(call: Callable | None) -> Callable | None:
    """Return a function of the user's to be called under `denormals_flushed`, that runs without it; None for None."""
    if call is None or _REGISTER is None:
        return call

    @wraps(call)
    def called(*arguments, **keywords):
        before = _REGISTER.swap(0)
        try:
            return call(*arguments, **keywords)
        finally:
            _REGISTER.swap(before)

    return called

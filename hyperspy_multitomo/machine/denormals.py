# SPDX-License-Identifier: GPL-3.0-or-later
"""Flush denormal floats to zero where our numerics run: some processors take 100 cycles for each.

The mode belongs to a thread, and a new thread inherits it for good. So other libraries' threads
must not be created under it (HyperSpy's and dask's pools, a progress bar's monitor; the BLAS pool
exists since SciPy was imported), and users' functions are called without it. It is set and reset
outside of compiled code, because compilers may move arithmetic across the switch.
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
    """Bits of the floating-point control register, through C's `fegetenv` and `fesetenv`.

    `offset` is the place of the register in their record, in bytes.
    """

    def __init__(self, offset: int, bits: int):
        library = ctypes.PyDLL(None)
        self._read, self._write = library.fegetenv, library.fesetenv
        self._offset, self.bits = offset, bits

    def state(self) -> int:
        """Return the bits as set in this thread."""
        return self.swap(None)

    def swap(self, bits: int | None) -> int:
        """Set the bits of this thread, unless None; return the previous ones."""
        record = ctypes.create_string_buffer(256)
        self._read(record)
        control = ctypes.c_uint32.from_buffer(record, self._offset)
        before = control.value & self.bits
        if bits is not None and before != bits:
            control.value = (control.value & ~self.bits) | bits
            self._write(record)
        return before


class _WindowsRegister:
    """The same on Windows, through `_controlfp`."""

    bits = 0x01000000
    _MASK = 0x03000000

    def __init__(self):
        self._control = ctypes.PyDLL("ucrtbase")._controlfp

    def state(self) -> int:
        """Return the bits as set in this thread."""
        return self._control(0, 0) & self._MASK

    def swap(self, bits: int) -> int:
        """Set the bits of this thread; return the previous ones."""
        before = self.state()
        self._control(bits, self._MASK)
        return before


def _register() -> _Register | _WindowsRegister | None:
    """Return the register of this machine, or None where it is unknown or has no effect."""
    intel, arm = (
        platform.machine().lower() in names for names in (("x86_64", "amd64"), ("aarch64", "arm64"))
    )
    # x86: flush-to-zero and denormals-are-zero of MXCSR; Arm: the one bit of FPCR that does both.
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
    """Flush denormals to zero in this thread for good: for the threads of our own pools."""
    if _REGISTER is not None:
        _REGISTER.swap(_REGISTER.bits)


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Flush denormals to zero in this thread, inside a ``with`` block or a decorated function."""
    if _REGISTER is None:
        yield
        return
    # Read beforehand: an interrupt between setting the mode and `try` would leave it set.
    before = _REGISTER.state()
    try:
        _REGISTER.swap(_REGISTER.bits)
        yield
    finally:
        _REGISTER.swap(before)


def denormals_kept(call: Callable | None) -> Callable | None:
    """Wrap a user's function to run without the mode of `denormals_flushed`; None for None."""
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

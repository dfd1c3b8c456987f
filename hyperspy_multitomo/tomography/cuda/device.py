# SPDX-License-Identifier: GPL-3.0-or-later
"""The device: access to CuPy, checks of its memory, and calls of kernels with typed arguments.

A process works on CuPy's current device, the first one unless `CUDA_VISIBLE_DEVICES` or
`cupy.cuda.Device(n).use()` says otherwise. Work on several devices is work in several processes,
each of which sees one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from importlib.resources import files

import numpy as np

from hyperspy_multitomo.machine.memory import OF_DEVICE

#: Threads of a block in every kernel.
BLOCK = 256

_OPTIONS = ("--std=c++14",)
_NULL = np.uintp(0)


def cupy():
    """Return the module CuPy.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    import cupy as module

    return module


def problem() -> str | None:
    """Return what keeps this process from a device, or None where nothing does."""
    try:
        module = cupy()
    except ImportError as error:
        return (
            f"CuPy cannot be imported ({error}); install hyperspy-multitomo[cuda12] or [cuda13], "
            "as the driver is"
        )
    try:
        count = module.cuda.runtime.getDeviceCount()
        if count:
            module.zeros(1, np.float32)
    except Exception as error:  # the driver's own errors, of many types
        return f"CuPy is installed, but there is no working device: {error}"
    return None if count else "CuPy is installed, but it finds no device"


def available() -> bool:
    """Whether CuPy and a device that works are there.

    Examples
    --------
    >>> available() == (problem() is None)
    True
    """
    return problem() is None


def name() -> str:
    """Return the name of the current device."""
    module = cupy()
    found = module.cuda.runtime.getDeviceProperties(module.cuda.Device().id)["name"]
    return found.decode() if isinstance(found, bytes) else found


def free_memory() -> int:
    """Return the bytes of the current device that are free or unused in CuPy's pool."""
    module = cupy()
    return int(module.cuda.runtime.memGetInfo()[0]) + int(
        module.get_default_memory_pool().free_bytes()
    )


def _too_much(needed: int, what: str, free: int) -> MemoryError:
    return MemoryError(
        f"{what} needs about {needed / 1e9:.3g} GB on the device {name()}, {free / 1e9:.3g} GB are "
        "free: pass a lazy series, "
        "which goes slab by slab, or backend='numba'"
    )


@contextmanager
def reserved(needed: int, what: str) -> Iterator[None]:
    """Check that a run fits into the device's memory before it allocates.

    Parameters
    ----------
    needed : int
        Bytes of all its arrays.
    what : str
        What needs them, for the message.

    Raises
    ------
    MemoryError
        If more than `OF_DEVICE` of the free memory is needed, before anything is allocated, or if
        an allocation fails all the same.
    """
    free = free_memory()
    if needed > OF_DEVICE * free:
        raise _too_much(needed, what, free)
    try:
        yield
    except cupy().cuda.memory.OutOfMemoryError as error:
        raise _too_much(needed, what, free_memory()) from error


class Kernels:
    """The kernels of .cu files of this folder, called by name and compiled at the first call.

    Parameters
    ----------
    *sources : str
        Names of files, put together in this order: "common.cu" first, where its functions are used.
    """

    def __init__(self, *sources: str):
        self.sources = sources

    @cached_property
    def code(self) -> str:
        """The source."""
        return "\n".join(
            files(__package__).joinpath(source).read_text(encoding="utf-8")
            for source in self.sources
        )

    def call(
        self, function: str, grid: tuple[int, ...], block: tuple[int, ...], *arguments
    ) -> None:
        """Run the kernel `function` on blocks of threads.

        Parameters
        ----------
        function : str
        grid, block : tuple of int
            Blocks, and threads of a block, along x, y, z.
        *arguments
            As the kernel declares them: float32 or float64 device arrays, C-ordered, for a pointer,
            or None for a null pointer; int for an int, float for a float, other numbers as scalars
            of NumPy.

        Raises
        ------
        TypeError, ValueError
            If an argument is of another kind, or an array is not C-ordered.
        """
        module = cupy()
        found = _function(module, module.cuda.Device().id, self.code, function)
        found(grid, block, tuple(_argument(module, function, argument) for argument in arguments))


@cache
def _function(module, device: int, code: str, function: str):
    """Return a compiled kernel; compiled code belongs to one device."""
    return _module(module, device, code).get_function(function)


@cache
def _module(module, device: int, code: str):
    return module.RawModule(code=code, options=_OPTIONS)


def _argument(module, function: str, argument):
    """Return an argument of a kernel with the type that the kernel's C has for it."""
    if argument is None:
        return _NULL
    if isinstance(argument, module.ndarray):
        if not argument.flags.c_contiguous:
            raise ValueError(
                f"{function} was given an array of shape {argument.shape} that is not C-ordered"
            )
        return argument
    if isinstance(argument, np.generic):
        return argument
    if isinstance(argument, bool | int):
        return np.int32(argument)
    if isinstance(argument, float):
        return np.float32(argument)
    raise TypeError(
        f"{function} was given a {type(argument).__name__}; expected a device array, a number or "
        "None"
    )


def grid_of(elements: int) -> tuple[int]:
    """Return the grid of a kernel that does one element with each thread of blocks of `BLOCK`."""
    return (-(-elements // BLOCK),)


def to_device(array, dtype=np.float32):
    """Return a C-ordered copy of a host array on the device; device arrays of the type stay."""
    module = cupy()
    if isinstance(array, module.ndarray):
        return module.ascontiguousarray(array, dtype)
    if array.size and not any(array.strides):  # one number everywhere, which takes no memory here
        return module.full(array.shape, array.flat[0], dtype)
    return module.asarray(np.ascontiguousarray(array, dtype))


def to_host(array) -> np.ndarray:
    """Return a device array as a C-ordered array of the host."""
    return np.ascontiguousarray(cupy().asnumpy(array))


class BlockSums:
    """Sums of numbers per block, in a fixed order: the same bits in every run.

    Parameters
    ----------
    rows : int
        Sums.
    blocks : int
        Blocks that each is made of.

    Attributes
    ----------
    partial : device array (row, block), float64
        For the kernel: `block_sum` of common.cu writes one number of it.
    """

    _kernels = Kernels("common.cu")

    def __init__(self, rows: int, blocks: int):
        module = cupy()
        self.partial = module.zeros((rows, blocks), np.float64)
        self._sums = module.zeros(rows, np.float64)

    @staticmethod
    def device_bytes(rows: int, blocks: int) -> int:
        """Return the bytes that it takes."""
        return 8 * rows * (blocks + 1)

    def total(self) -> np.ndarray:
        """Return the sums (row,), float64, on the host."""
        rows, count = self.partial.shape
        self._kernels.call(
            "sum_partials", (rows,), (BLOCK,), self.partial, np.int64(count), self._sums
        )
        return to_host(self._sums)

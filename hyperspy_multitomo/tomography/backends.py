# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry of projector back-ends, and `projector`, which returns the best one that works."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.tomography.geometry import TiltGeometry
from hyperspy_multitomo.tomography.projectors import Projector


def _cuda() -> type[Projector]:
    from hyperspy_multitomo.tomography.cuda.projector import CudaProjector, verified

    return verified(CudaProjector, tolerance=5e-6, mismatch=1e-6)


def _numba() -> type[Projector]:
    from hyperspy_multitomo.tomography.cpu.numba_projector import NumbaProjector

    return NumbaProjector


def _astra_cuda() -> type[Projector]:
    import astra  # noqa: F401

    from hyperspy_multitomo.tomography.cuda.astra import AstraCudaProjector
    from hyperspy_multitomo.tomography.cuda.projector import verified

    # Its back projection is another interpolation, and no adjoint: this check finds wrong axes and
    # scales.
    return verified(AstraCudaProjector, tolerance=0.1, mismatch=0.05)


def _astra_cpu() -> type[Projector]:
    import astra  # noqa: F401

    from hyperspy_multitomo.tomography.cpu.astra_projector import AstraCpuProjector

    return AstraCpuProjector


# Best first. Each entry imports its back-end and returns the class. It raises ImportError where a
# library is missing, RuntimeError where the hardware is missing or gives wrong numbers.
BACKENDS: dict[str, Callable[[], type[Projector]]] = {
    "cuda": _cuda,
    "numba": _numba,
    "astra_cuda": _astra_cuda,
    "astra_cpu": _astra_cpu,
}


@cache
def _warn_once(message: str) -> None:
    warn(message)


@checked
def projector(
    geometry: TiltGeometry, backend: str | None = None, threads: int | None = None
) -> Projector:
    """Return the projector of a tilt geometry.

    Parameters
    ----------
    geometry : TiltGeometry
        Tilts, detector, volume and pixel size.
    backend : {"cuda", "numba", "astra_cuda", "astra_cpu"}, optional
        By default the first of these that works. "cuda" runs on an NVIDIA GPU, through CuPy;
        "numba" on the cores. "astra_cuda" is ASTRA's pair for the GPU, which is not adjoint, and
        "astra_cpu" its 'linear' projector, slice by slice: a reference, fifty times slower.
    threads : int, optional
        Threads that a call may use; by default all cores that are available. "astra_cpu" uses one.

    Returns
    -------
    Projector
        `A` with `A(volume)`, `A.T(projections)`, `A.row_sums()`, `A.column_sums()`, `A.norm()`.

    Raises
    ------
    ValueError
        If there is no back-end of that name.
    ImportError
        If the back-end cannot be imported.
    RuntimeError
        If the back-end was asked for by its name, and there is no GPU that works.

    Warns
    -----
    UserWarning
        Once in a process, if CuPy is installed but there is no GPU that works: the next back-end
        stands in.

    Notes
    -----
    Before a process first uses a GPU, its numbers on a tiny geometry are compared with those of the
    cores. Joseph's weights, P. M. Joseph, IEEE Trans. Med. Imaging 1 (1982) 192,
    doi:10.1109/TMI.1982.4307572.

    Examples
    --------
    >>> import numpy as np
    >>> from hyperspy_multitomo.tomography import TiltGeometry, projector
    >>> A = projector(TiltGeometry([0, 90], detector_width=8, pixel_size=0.5))
    >>> volume = np.zeros((8, 8, 1))
    >>> volume[2, 5] = 6.0
    >>> projections = A(volume)
    >>> projections[0, 5, 0], projections[1, 2, 0]
    (np.float32(3.0), np.float32(3.0))
    """
    if backend is None:
        for load in BACKENDS.values():
            try:
                return load()(geometry, threads)
            except ImportError:
                continue
            except RuntimeError as error:
                _warn_once(f"{error}; the work is done on the cores instead")
        raise ImportError(
            f"none of the projector back-ends {list(BACKENDS)} can be imported; install numba"
        )
    if backend not in BACKENDS:
        raise ValueError(
            f"there is no projector back-end {backend!r}; choose one of {list(BACKENDS)}, or None "
            "for the best"
        )
    try:
        return BACKENDS[backend]()(geometry, threads)
    except ImportError as error:
        raise ImportError(
            f"the projector back-end {backend!r} cannot be imported ({error}); install it or leave "
            "`backend` out"
        ) from error

# SPDX-License-Identifier: GPL-3.0-or-later
"""The base class of projectors: `A(volume)`, its exact adjoint `A.T(projections)`.

The back-ends are in `backends`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.machine.parallel import thread_count
from hyperspy_multitomo.tomography.geometry import TiltGeometry, volume_grid


def _last_axes(name: str, array, shape: tuple[int, int], axes: str) -> np.ndarray:
    """Return `array` as float32 with the axes (..., *shape, y), or say how its shape differs."""
    array = np.asarray(array)
    if array.dtype.kind not in "buif":
        raise TypeError(f"the {name} have the type {array.dtype}; expected real numbers")
    if array.ndim < 3 or array.shape[-3:-1] != shape or array.shape[-1] == 0:
        raise ValueError(
            f"the {name} have the shape {array.shape}; expected (..., {axes}, y) = (..., "
            f"{shape[0]}, {shape[1]}, y), "
            "with at least one slice y; move the axes or build the projector for this geometry"
        )
    return array.astype(np.float32, copy=False)


def block_means(projections: np.ndarray, binning: int) -> np.ndarray:
    """Return projections (channel, tilt, x, y) averaged over `binning` x `binning` pixels."""
    if binning == 1:
        return projections
    channels, tilts, width, slices = projections.shape
    blocks = projections.reshape(
        channels, tilts, width // binning, binning, slices // binning, binning
    )
    return blocks.mean(axis=(3, 5), dtype=np.float32)


def spread(projections: np.ndarray, binning: int) -> np.ndarray:
    """Return projections (..., x, y) with each pixel repeated on all the voxels it covers."""
    return (
        projections
        if binning == 1
        else projections.repeat(binning, axis=-2).repeat(binning, axis=-1)
    )


class Projector(ABC):
    """The linear map W from volumes (..., z, x, y) to projections (..., tilt, x, y).

    Projections are line integrals, in the unit of the pixel size.

    A back-end gives `_project` and `_back_project`, both for the detector pixels of `rays`, which
    are as wide as a voxel. Slices y and leading axes (channels) are independent of each other,
    except that a detector pixel of several voxels (`TiltGeometry.binning`, b) is the mean of b
    slices too: b slices of the volume make one of the projections.

    Attributes
    ----------
    geometry : TiltGeometry
    rays : TiltGeometry
        The same with detector pixels of one voxel.
    threads : int
        Threads that a call may use.
    backend : str
        Its name in `BACKENDS`.
    domain_shape : (int, int)
        (z, x) of a volume.
    range_shape : (int, int)
        (tilt, x) of the projections.
    """

    backend = ""

    def __init__(self, geometry: TiltGeometry, threads: int | None = None):
        if not isinstance(geometry, TiltGeometry):
            raise TypeError(f"`geometry` is a {type(geometry).__name__}; expected a TiltGeometry")
        self.geometry = geometry
        self.rays = geometry.fine
        self.threads = thread_count(threads)
        self.domain_shape = volume_grid(geometry)
        self.range_shape = (len(geometry.tilts), geometry.detector_width)
        self._adjoint = Adjoint(self)

    @abstractmethod
    def _project(self, volumes: np.ndarray) -> np.ndarray:
        """Map float32 (channel, z, x, y) to float32 (channel, tilt, x, y)."""

    @abstractmethod
    def _back_project(self, projections: np.ndarray) -> np.ndarray:
        """Map float32 (channel, tilt, x, y) to float32 (channel, z, x, y)."""

    def __call__(self, volume) -> np.ndarray:
        """Project `volume` (..., z, x, y) to float32 (..., tilt, x, y)."""
        volume = _last_axes("volumes", volume, self.domain_shape, "z, x")
        lead, slices, binning = volume.shape[:-3], volume.shape[-1], self.geometry.binning
        if slices % binning:
            raise ValueError(
                f"the volumes have {slices} slices y, but a detector pixel is {binning} voxels "
                f"wide; give a multiple of {binning}"
            )
        projections = self._project(volume.reshape(-1, *self.domain_shape, slices))
        return block_means(projections, binning).reshape(*lead, *self.range_shape, -1)

    def matched(self) -> Projector:
        """Return a projector of the same geometry whose pair is adjoint.

        It is this one in all back-ends but "astra_cuda".
        """
        return self

    @property
    def T(self) -> Adjoint:
        """The adjoint: projections (..., tilt, x, y) to volumes (..., z, x, y)."""
        return self._adjoint

    def row_sums(self) -> np.ndarray:
        """Return W 1 (tilt, x): the length of each ray inside the volume."""
        return self(np.ones((*self.domain_shape, self.geometry.binning), np.float32))[..., 0]

    def column_sums(self, weights_per_tilt=None) -> np.ndarray:
        """Return W^T g (z, x), with the weights per tilt g, by default 1, on every ray."""
        ones = np.ones((*self.range_shape, 1), np.float32)
        if weights_per_tilt is not None:
            weights = np.asarray(weights_per_tilt, np.float32)
            if weights.shape != self.range_shape[:1]:
                raise ValueError(
                    f"`weights_per_tilt` has the shape {weights.shape}; expected "
                    f"({self.range_shape[0]},), one per tilt"
                )
            ones *= weights[:, None, None]
        return self.T(ones)[..., 0]

    def norm(self, iterations: int = 50) -> float:
        """Return the largest singular value of W, by power iteration from a volume of ones.

        No weight of W is negative.
        """
        volume = np.ones((*self.domain_shape, self.geometry.binning), np.float32)
        square = 0.0
        for _ in range(iterations):
            length = np.linalg.norm(volume)
            if length == 0:
                return 0.0
            volume = self.T(self(volume / np.float32(length)))
            last, square = square, float(np.linalg.norm(volume))
            if abs(square - last) <= 1e-7 * square:
                break
        return float(np.sqrt(square))


class Adjoint:
    """The transpose of a projector; its own transpose is the projector itself."""

    def __init__(self, projector: Projector):
        self._projector = projector
        self.geometry = projector.geometry
        self.domain_shape, self.range_shape = projector.range_shape, projector.domain_shape

    def __call__(self, projections) -> np.ndarray:
        """Project back `projections` (..., tilt, x, y) to float32 (..., z, x, y)."""
        projections = _last_axes("projections", projections, self.domain_shape, "tilt, x")
        lead, binning = projections.shape[:-3], self.geometry.binning
        projections = spread(
            projections.reshape(-1, *self.domain_shape, projections.shape[-1]), binning
        )
        if binning > 1:
            projections *= np.float32(1 / binning**2)
        volume = self._projector._back_project(projections)
        return volume.reshape(*lead, *self.range_shape, -1)

    @property
    def T(self) -> Projector:
        """The projector."""
        return self._projector


def matched(projectors: Sequence[Projector]) -> list[Projector]:
    """Return projectors whose pairs are adjoint, for solvers that go astray without.

    Warns
    -----
    UserWarning
        If others had to take the place of some.
    """
    found = [A.matched() for A in projectors]
    if any(A is not pair for A, pair in zip(projectors, found, strict=True)):
        warn(
            "the projectors of this back-end are not adjoint: CGLS would diverge with them, and TV "
            "and TGV come to rest beside "
            "the minimum. The pair of backend='cuda' runs in their place"
        )
    return found


def dot_test(A, rng: np.random.Generator | int | None = 0, slices: int = 4) -> float:
    """Return how far `A.T` is from the adjoint of `A`, for random x and y.

    The value is |<A x, y> - <x, A^T y>| / (|A x| |y|).

    Parameters
    ----------
    A : Projector
        Or anything with `domain_shape`, `range_shape`, `A(x)` and `A.T(y)`, such as an operator of
        your own.
    rng : numpy.random.Generator or int, default 0
        Generator or seed of x and y, which are normal and have zero mean, so that no common offset
        hides a mismatch.
    slices : int, default 4
        Slices of the projections y; x has as many, times the geometry's binning.

    Returns
    -------
    float
        About 1e-8 for a matched pair in single precision; sums are in double precision.

    Examples
    --------
    >>> from hyperspy_multitomo.tomography import projector
    >>> dot_test(projector(TiltGeometry(range(-60, 61, 20), 16))) < 1e-6
    True
    """
    rng = np.random.default_rng(rng)
    binning = getattr(getattr(A, "geometry", None), "binning", 1)
    x: np.ndarray = rng.standard_normal((*A.domain_shape, slices * binning))
    y: np.ndarray = rng.standard_normal((*A.range_shape, slices))
    x, y = (x - x.mean()).astype(np.float32), (y - y.mean()).astype(np.float32)
    Ax, ATy = np.asarray(A(x), np.float64), np.asarray(A.T(y), np.float64)
    mismatch = abs(np.vdot(Ax, y.astype(np.float64)) - np.vdot(x.astype(np.float64), ATy))
    return float(mismatch / (np.linalg.norm(Ax) * np.linalg.norm(y.astype(np.float64))))

# SPDX-License-Identifier: GPL-3.0-or-later
"""Iterative reconstruction: SIRT and HEBT as generators of iterates, and `run`, which takes the iterates it needs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np

from hyperspy_multitomo.tomography.checks import (
    checked_gains,
    checked_initial,
    checked_mask,
    checked_projections,
    checked_ratios,
    without_dead_tilts,
)
from hyperspy_multitomo.tomography.projectors import Projector
from hyperspy_multitomo.tomography.steps import Steps, steps_of
from hyperspy_multitomo.tomography.system import System, hebt_coefficients, sirt_coefficients


class Iterate:
    """A view of a solver at work: what it holds changes with the next iteration, the arrays it gives do not."""

    def __init__(self, steps: Steps, has_channels: bool):
        self._steps = steps
        self._has_channels = has_channels

    @property
    def iteration(self) -> int:
        """Iterations done; 0 is the start."""
        return self._steps.iteration

    @property
    def volume(self) -> np.ndarray:
        """The volume, a copy: (channel, z, x, y) float32, or (z, x, y) for projections without a channel axis."""
        volume = self._steps.volume
        return volume if self._has_channels else volume[0]

    @property
    def residuals(self) -> dict[str, np.ndarray | float]:
        """|b - A x|/|b| of the volume that the last iteration started from, empty at the start.

        "eds" is an array, one value per channel of the projections (for SIRT of any signal too), "haadf" a number.
        """
        return dict(self._steps.residuals)

    def __repr__(self) -> str:
        return f"<Iterate {self.iteration}>"


@dataclass(frozen=True)
class Reconstruction:
    """What `run` returns.

    Attributes
    ----------
    volume : numpy.ndarray
        (channel, z, x, y) or (z, x, y) float32, signal per unit length.
    residuals : dict of numpy.ndarray
        Per iteration, |b - A x|/|b| of the volume that it started from: "eds" (iteration, channel), "haadf" (iteration,).
    iterations : int
        Iterations done.
    interrupted : bool
        Whether an interrupt ended the run.
    converged : bool
        Whether the tolerance was reached.
    """

    volume: np.ndarray
    residuals: dict[str, np.ndarray]
    iterations: int
    interrupted: bool
    converged: bool


def _iterates(system: System, has_channels: bool) -> Iterator[Iterate]:
    """Yield the start, then every iterate, without end.

    The work is done in a thread of its own, so that an interrupt, which arrives in the main thread, finds the iterate whole.
    """
    steps = steps_of(system)
    iterate = Iterate(steps, has_channels)
    try:
        yield iterate
        with ThreadPoolExecutor(1) as conductor:
            while True:
                try:
                    conductor.submit(steps.advance).result()
                except BaseException:
                    steps.cancel()
                    raise
                yield iterate
    finally:
        steps.close()


def sirt(
    A: Projector,
    projections,
    *,
    gains=None,
    mask=None,
    initial=None,
    nonnegative: bool = True,
) -> Iterator[Iterate]:
    """Reconstruct by SIRT: x <- max(0, x + C A^T R (b - A x)), every channel on its own.

    Parameters
    ----------
    A : Projector
        Of the tilt geometry of the projections.
    projections : array_like
        (channel, tilt, x, y) or (tilt, x, y), raw: counts stay counts.
    gains : array_like, optional
        (tilt,) or (channel, tilt), not negative: the data are gain times the projections of the volume. The default is 1; a tilt
        of gain 0 is left out.
    mask : array_like of bool, optional
        (z, x) or (z, x, y), False where the volume is to stay 0.
    initial : array_like, optional
        Start, shape of the volume; the default is 0.
    nonnegative : bool, default True
        Whether negative voxels are set to 0 in every iteration.

    Yields
    ------
    Iterate
        The start first (`iteration` 0), then one after every iteration, without end.

    Raises
    ------
    ValueError, TypeError
        If shapes do not fit or values are not finite, at the call.

    Notes
    -----
    R and C are the inverse row and column sums of A, which is diag(gains) W. P. Gilbert, J. Theor. Biol. 36 (1972) 105,
    doi:10.1016/0022-5193(72)90180-4; J. Gregor and T. Benson, IEEE Trans. Med. Imaging 27 (2008) 918,
    doi:10.1109/TMI.2008.923696.

    Examples
    --------
    >>> from hyperspy_multitomo.tomography import TiltGeometry, projector, run, sirt
    >>> A = projector(TiltGeometry(range(-80, 81, 20), detector_width=24))
    >>> truth = np.zeros((24, 24, 2))
    >>> truth[8:16, 8:16] = 2.0
    >>> result = run(sirt(A, A(truth)), iterations=30)
    >>> result.volume.shape, bool(abs(result.volume[10:14, 10:14].mean() - 2) < 0.1)
    ((24, 24, 2), True)
    """
    projections, has_channels = checked_projections("projections", projections, A)
    gains = checked_gains("gains", gains, projections.shape[:2])
    channels, slices = projections.shape[0], projections.shape[-1]
    system = System(
        A=A,
        projections=without_dead_tilts(projections, gains),
        gains=gains,
        coefficients=sirt_coefficients(channels),
        initial=checked_initial(initial, channels, A, slices, has_channels),
        mask=checked_mask(mask, A, slices),
        nonnegative=nonnegative,
    )
    return _iterates(system, has_channels)


def hebt(
    A: Projector,
    projections,
    haadf,
    ratios,
    *,
    alpha: float = 0.7,
    haadf_projector: Projector | None = None,
    gains=None,
    haadf_gains=None,
    mask=None,
    initial=None,
    rest: bool = False,
    weighting: str = "sirt",
    nonnegative: bool = True,
) -> Iterator[Iterate]:
    """Reconstruct by HEBT: the elements from their own maps and, as a sum weighted by the response ratios, from the HAADF.

    Parameters
    ----------
    A : Projector
        Of the tilt geometry of the maps.
    projections : array_like
        Maps (channel, tilt, x, y), raw counts.
    haadf : array_like
        (tilt, x, y), with the tilts of `haadf_projector`.
    ratios : array_like
        Response ratios r (channel,), HAADF signal per count, not negative: haadf = sum of r times maps. An element with ratio 0
        takes no part in the sum and is reconstructed from its map alone.
    alpha : float, default 0.7
        Weight of the HAADF, between 0 and 1: see Notes.
    haadf_projector : Projector, optional
        Of the HAADF's own tilts, on the same volume grid; by default `A`.
    gains, haadf_gains : array_like, optional
        Per tilt, of the maps (tilt,) or (channel, tilt) and of the HAADF (tilt,): the data are gain times projections. The
        default is 1; a tilt of gain 0 is left out.
    mask : array_like of bool, optional
        (z, x) or (z, x, y), False where the volume is to stay 0.
    initial : array_like, optional
        Start, shape of the volume; the default is 0.
    rest : bool, default False
        Whether to add one last channel, in HAADF signal per unit length, for what no map explains.
    weighting : {"sirt", "squared"}, default "sirt"
        What alpha means: see Notes.
    nonnegative : bool, default True
        Whether negative voxels are set to 0 in every iteration.

    Yields
    ------
    Iterate
        The start first (`iteration` 0), then one after every iteration, without end. The volume is in counts per unit length,
        each element in its own counts.

    Raises
    ------
    ValueError, TypeError
        If shapes do not fit, values are not finite, alpha is not inside (0, 1) or no ratio is positive, at the call.

    Notes
    -----
    Z. Zhong et al., Ultramicroscopy 174 (2017) 35, doi:10.1016/j.ultramic.2016.12.008, eqs. 9-11. With weighting "sirt" an
    iteration is SIRT on their stacked system; for the k elements that take part::

        x_e <- max(0, x_e + C_e [(1 - alpha) W^T R (p_e - W x_e) + alpha/(k r_e) W^T R (h - sum_e r_e W x_e)])

    R and C are the inverse row and column sums, R = 1/(W 1) and C = 1/(W^T 1). The pulls of the two residuals are thus 1 - alpha
    and alpha/k. With "squared" eq. 9 is read as least squares, with (1 - alpha)^2 and alpha^2 in place of 1 - alpha and alpha
    and C = 1/(((1 - alpha)^2 + alpha^2) W^T 1). Larger alpha needs more iterations: with too few, the other element shows as a
    ghost.

    Examples
    --------
    >>> from hyperspy_multitomo.tomography import TiltGeometry, hebt, projector, run
    >>> A = projector(TiltGeometry(range(-80, 81, 20), detector_width=24))
    >>> truth = np.zeros((2, 24, 24, 1))
    >>> truth[0, 8:16, 8:12], truth[1, 8:16, 12:16] = 2.0, 3.0
    >>> maps = A(truth)
    >>> result = run(hebt(A, maps, 5 * maps[0] + 7 * maps[1], [5, 7]), iterations=60)
    >>> result.volume.shape, bool(abs(result.volume[1, 10:14, 13:15].mean() - 3) < 0.2)
    ((2, 24, 24, 1), True)
    """
    projections, has_channels = checked_projections("projections", projections, A)
    if not has_channels:
        raise ValueError(
            f"`projections` has the shape {projections.shape[1:]}; expected (channel, tilt, x, y), one map per element"
        )
    ratios = checked_ratios(ratios, len(projections), rest)
    if not (isinstance(alpha, Real) and 0 < alpha < 1):
        raise ValueError(f"`alpha` is {alpha!r}; expected a number between 0 and 1, such as 0.7 (for maps alone use `sirt`)")
    if weighting not in ("sirt", "squared"):
        raise ValueError(f"`weighting` is {weighting!r}; expected 'sirt' or 'squared'")
    haadf_projector = A if haadf_projector is None else haadf_projector
    grids = [(P.domain_shape, P.geometry.pixel_size) for P in (A, haadf_projector)]
    if grids[0] != grids[1]:
        raise ValueError(
            f"the maps have the volume grid (z, x) {grids[0][0]} with a pixel size of {grids[0][1]}, the HAADF {grids[1][0]} "
            f"with {grids[1][1]}; give both geometries the same `volume_shape` and `pixel_size`"
        )
    haadf, stacked = checked_projections("haadf", haadf, haadf_projector)
    if stacked or haadf.shape[-1] != projections.shape[-1]:
        raise ValueError(
            f"`haadf` has the shape {haadf.shape if stacked else haadf.shape[1:]}; expected (tilt, x, y) with the "
            f"{projections.shape[-1]} slices y of the projections"
        )
    gains = checked_gains("gains", gains, projections.shape[:2])
    haadf_gains = checked_gains("haadf_gains", haadf_gains, haadf.shape[:2])
    channels, slices = len(projections) + bool(rest), projections.shape[-1]
    system = System(
        A=A,
        projections=without_dead_tilts(projections, gains),
        gains=gains,
        coefficients=hebt_coefficients(ratios, float(alpha), weighting, rest),
        initial=checked_initial(initial, channels, A, slices, True),
        haadf_projector=haadf_projector,
        haadf=without_dead_tilts(haadf, haadf_gains)[0],
        haadf_gains=haadf_gains[0],
        mask=checked_mask(mask, A, slices),
        nonnegative=nonnegative,
    )
    return _iterates(system, True)


def _change(residuals: list[dict]) -> float:
    """Return the largest change of a relative residual in the last iteration."""
    if len(residuals) < 2:
        return np.inf
    return max(np.max(np.abs(np.subtract(residuals[-1][name], residuals[-2][name]))) for name in residuals[-1])


def run(
    iterates: Iterator[Iterate],
    iterations: int,
    *,
    tolerance: float | None = None,
    progress: Callable[[Iterate], object] | None = None,
) -> Reconstruction:
    """Take iterates until enough of them are done, and return the last.

    Parameters
    ----------
    iterates : iterator of Iterate
        From `sirt`, `hebt` or another solver. It is left where it stopped: a second `run` of it goes on.
    iterations : int
        Iterations to do, at most.
    tolerance : float, optional
        Stop before that when no relative residual changes by this much between two iterations. By default exactly `iterations`
        are done.
    progress : callable, optional
        Called with the iterate after each iteration, to show a bar or a picture.

    Returns
    -------
    Reconstruction

    Raises
    ------
    ValueError
        If `iterations` is not a whole number, 0 or more, or `tolerance` is not positive.

    Warns
    -----
    UserWarning
        If a keyboard interrupt ends the run: the last whole iterate is returned.

    Examples
    --------
    >>> from hyperspy_multitomo.tomography import TiltGeometry, projector, run, sirt
    >>> A = projector(TiltGeometry(range(-80, 81, 20), detector_width=16))
    >>> result = run(sirt(A, A(np.ones((16, 16, 1)))), 200, tolerance=1e-3)
    >>> result.converged, result.iterations == len(result.residuals["eds"]) < 200
    (True, True)
    """
    if not isinstance(iterations, Integral) or iterations < 0:
        raise ValueError(f"`iterations` is {iterations!r}; expected a whole number, 0 or more")
    if tolerance is not None and not tolerance > 0:
        raise ValueError(f"`tolerance` is {tolerance!r}; expected a positive number, or None to do all iterations")
    history: list[dict] = []
    iterate, interrupted, converged = None, False, False
    try:
        for iterate in iterates:
            if iterate.iteration > 0:
                history.append(iterate.residuals)
                if progress is not None:
                    progress(iterate)
                converged = tolerance is not None and bool(_change(history) < tolerance)
            if converged or len(history) >= iterations:
                break
    except KeyboardInterrupt:
        if iterate is None:
            raise
        interrupted = True
        warnings.warn(f"interrupted: this is iteration {iterate.iteration} of {iterations}", stacklevel=2)
    names = history[0] if history else ()
    residuals = {name: np.array([entry[name] for entry in history]) for name in names}
    return Reconstruction(iterate.volume, residuals, iterate.iteration, interrupted, converged)

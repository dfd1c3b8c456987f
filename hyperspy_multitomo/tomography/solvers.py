# SPDX-License-Identifier: GPL-3.0-or-later
"""SIRT and HEBT as generators of iterates."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Real

from hyperspy_multitomo.tomography.forms import steps_of
from hyperspy_multitomo.tomography.input_checks import (
    checked_gains,
    checked_initial,
    checked_mask,
    checked_projections,
    checked_ratios,
    checked_relaxation,
    without_dead_tilts,
)
from hyperspy_multitomo.tomography.iterates import Iterate, iterates_of
from hyperspy_multitomo.tomography.projectors import Projector
from hyperspy_multitomo.tomography.system import System, hebt_coefficients, sirt_coefficients


def sirt(
    A: Projector,
    projections,
    *,
    gains=None,
    mask=None,
    initial=None,
    nonnegative: bool = True,
    relaxation: float = 1.0,
) -> Iterator[Iterate]:
    """Reconstruct by SIRT: x <- max(0, x + lambda C A^T R (b - A x)), every channel on its own.

    Parameters
    ----------
    A : Projector
        Of the tilt geometry of the projections.
    projections : array_like
        (channel, tilt, x, y) or (tilt, x, y), raw: counts stay counts.
    gains : array_like, optional
        (tilt,) or (channel, tilt), not negative: the data are gain times the projections of the
        volume. The default is 1; a tilt of gain 0 is left out.
    mask : array_like of bool, optional
        (z, x) or (z, x, y), False where the volume is to stay 0.
    initial : array_like, optional
        Start, shape of the volume; the default is 0.
    nonnegative : bool, default True
        Whether negative voxels are set to 0 in every iteration.
    relaxation : float, default 1.0
        lambda, a factor on every step, between 0 and 2: small ones converge more slowly, and stop
        more finely.

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
    R and C are the inverse row and column sums of A, which is diag(gains) W. P. Gilbert, J. Theor.
    Biol. 36 (1972) 105, doi:10.1016/0022-5193(72)90180-4; J. Gregor and T. Benson, IEEE Trans. Med.
    Imaging 27 (2008) 918, doi:10.1109/TMI.2008.923696.

    Examples
    --------
    >>> import numpy as np
    >>> from hyperspy_multitomo.tomography import TiltGeometry, projector, run, sirt
    >>> A = projector(TiltGeometry(range(-80, 81, 20), detector_width=24))
    >>> truth = np.zeros((24, 24, 2))
    >>> truth[8:16, 8:16] = 2.0
    >>> result = run(sirt(A, A(truth)), iterations=30)
    >>> result.volume.shape, bool(abs(result.volume[10:14, 10:14].mean() - 2) < 0.1)
    ((24, 24, 2), True)
    """
    system, has_channels = sirt_system(
        A,
        projections,
        gains=gains,
        mask=mask,
        initial=initial,
        nonnegative=nonnegative,
        relaxation=relaxation,
    )
    return iterates_of(steps_of(system.in_units()), has_channels)


def sirt_system(
    A: Projector, projections, *, gains, mask, initial, nonnegative: bool, relaxation: float = 1.0
) -> tuple[System, bool]:
    """Return the validated system of `sirt` or `cgls`, and whether the data have channels."""
    projections, has_channels = checked_projections("projections", projections, A)
    gains = checked_gains("gains", gains, projections.shape[:2])
    channels, slices = projections.shape[0], projections.shape[-1] * A.geometry.binning
    system = System(
        A=A,
        projections=without_dead_tilts(projections, gains),
        gains=gains,
        coefficients=sirt_coefficients(channels),
        initial=checked_initial(initial, channels, A, slices, has_channels),
        mask=checked_mask(mask, A, slices),
        nonnegative=nonnegative,
        relaxation=checked_relaxation(relaxation),
    )
    return system, has_channels


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
    relaxation: float = 1.0,
) -> Iterator[Iterate]:
    """Reconstruct by HEBT: the elements from their maps and, as a sum, from the HAADF.

    The sum is weighted by the response ratios.

    Parameters
    ----------
    A : Projector
        Of the tilt geometry of the maps.
    projections : array_like
        Maps (channel, tilt, x, y), raw counts.
    haadf : array_like
        (tilt, x, y), with the tilts of `haadf_projector`.
    ratios : array_like
        Response ratios r (channel,), HAADF signal per count, not negative: haadf = sum of r times
        maps. An element with ratio 0 takes no part in the sum and is reconstructed from its map
        alone.
    alpha : float, default 0.7
        Weight of the HAADF, between 0 and 1: see Notes.
    haadf_projector : Projector, optional
        Of the HAADF's own tilts, on the same volume grid; by default `A`.
    gains, haadf_gains : array_like, optional
        Per tilt, of the maps (tilt,) or (channel, tilt) and of the HAADF (tilt,): the data are gain
        times projections. The default is 1; a tilt of gain 0 is left out.
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
    relaxation : float, default 1.0
        lambda, a factor on every step, between 0 and 2: small ones converge more slowly, and stop
        more finely.

    Yields
    ------
    Iterate
        The start first (`iteration` 0), then one after every iteration, without end. The volume is
        in counts per unit length, each element in its own counts.

    Raises
    ------
    ValueError, TypeError
        If shapes do not fit, values are not finite, alpha is not inside (0, 1) or no ratio is
        positive, at the call.

    Notes
    -----
    Z. Zhong et al., Ultramicroscopy 174 (2017) 35, doi:10.1016/j.ultramic.2016.12.008, eqs. 9-11.
    With weighting "sirt" an iteration is SIRT on their stacked system; for the k elements that take
    part::

        x_e <- max(0, x_e + lambda C_e [(1 - alpha) W^T R (p_e - W x_e)
                                        + alpha/(k r_e) W^T R (h - sum_e r_e W x_e)])

    R and C are the inverse row and column sums, R = 1/(W 1) and C = 1/(W^T 1). The pulls of the two
    residuals are thus 1 - alpha and alpha/k. With "squared" eq. 9 is read as least squares, with
    (1 - alpha)^2 and alpha^2 in place of 1 - alpha and alpha and C = 1/(((1 - alpha)^2 + alpha^2)
    W^T 1). Larger alpha needs more iterations: with too few, the other element shows as a ghost. A
    detector pixel of b x b voxels (`TiltGeometry.binning` of either projector) counts as the b^2
    rows that it stands for, so that alpha means the same for maps of any pixel size. The volume's
    counts are those of the maps' own pixels.

    Examples
    --------
    >>> import numpy as np
    >>> from hyperspy_multitomo.tomography import TiltGeometry, hebt, projector, run
    >>> A = projector(TiltGeometry(range(-80, 81, 20), detector_width=24))
    >>> truth = np.zeros((2, 24, 24, 1))
    >>> truth[0, 8:16, 8:12], truth[1, 8:16, 12:16] = 2.0, 3.0
    >>> maps = A(truth)
    >>> result = run(hebt(A, maps, 5 * maps[0] + 7 * maps[1], [5, 7]), iterations=60)
    >>> result.volume.shape, bool(abs(result.volume[1, 10:14, 13:15].mean() - 3) < 0.2)
    ((2, 24, 24, 1), True)
    """
    system, has_channels = hebt_system(
        A,
        projections,
        haadf,
        ratios,
        alpha=alpha,
        haadf_projector=haadf_projector,
        gains=gains,
        haadf_gains=haadf_gains,
        mask=mask,
        initial=initial,
        rest=rest,
        weighting=weighting,
        nonnegative=nonnegative,
        relaxation=relaxation,
    )
    return iterates_of(steps_of(system.in_units()), has_channels)


def hebt_system(
    A: Projector,
    projections,
    haadf,
    ratios,
    *,
    alpha: float,
    haadf_projector: Projector | None,
    gains,
    haadf_gains,
    mask,
    initial,
    rest: bool,
    weighting: str,
    nonnegative: bool,
    relaxation: float,
) -> tuple[System, bool]:
    """Return the validated system of `hebt`, and that it has channels."""
    projections, has_channels = checked_projections("projections", projections, A)
    if not has_channels:
        raise ValueError(
            f"`projections` has the shape {projections.shape[1:]}; expected (channel, tilt, x, y), "
            "one map per element"
        )
    ratios = checked_ratios(ratios, len(projections), rest)
    if not (isinstance(alpha, Real) and 0 < alpha < 1):
        raise ValueError(
            f"`alpha` is {alpha!r}; expected a number between 0 and 1, such as 0.7 (for maps alone "
            "use `sirt`)"
        )
    if weighting not in ("sirt", "squared"):
        raise ValueError(f"`weighting` is {weighting!r}; expected 'sirt' or 'squared'")
    haadf_projector = A if haadf_projector is None else haadf_projector
    grids = [(P.domain_shape, P.geometry.pixel_size) for P in (A, haadf_projector)]
    if grids[0] != grids[1]:
        raise ValueError(
            f"the maps have the volume grid (z, x) {grids[0][0]} with a pixel size of "
            f"{grids[0][1]}, the HAADF {grids[1][0]} "
            f"with {grids[1][1]}; give both geometries the same `volume_shape` and `pixel_size`"
        )
    haadf, stacked = checked_projections("haadf", haadf, haadf_projector)
    slices, binning = projections.shape[-1] * A.geometry.binning, haadf_projector.geometry.binning
    if stacked or haadf.shape[-1] * binning != slices:
        raise ValueError(
            f"`haadf` has the shape {haadf.shape if stacked else haadf.shape[1:]}; expected (tilt, "
            "x, y) with "
            f"{slices / binning:g} slices y, for the {projections.shape[-1]} slices y of the "
            "projections"
        )
    gains = checked_gains("gains", gains, projections.shape[:2])
    haadf_gains = checked_gains("haadf_gains", haadf_gains, haadf.shape[:2])
    channels = len(projections) + bool(rest)
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
        relaxation=checked_relaxation(relaxation),
    )
    return system, True

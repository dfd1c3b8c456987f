# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures of merit of tilt schemes and reconstructions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def ssim_structure(image: ArrayLike, truth: ArrayLike) -> float:
    """
    Return the correlation of two images: the structure term of SSIM, global, with constant 0.

    Parameters
    ----------
    image, truth : array_like
        Same shape, any unit: the result depends neither on scale nor on offset.

    Returns
    -------
    float
        cov(image, truth) / (sd sd), from -1 to 1; NaN if one of them is constant.

    Raises
    ------
    ValueError
        If the shapes differ or the arrays are empty.

    References
    ----------
    Z. Wang, A.C. Bovik, H.R. Sheikh, E.P. Simoncelli, IEEE Trans. Image Process. 13 (2004) 600, eq.
    10, doi:10.1109/TIP.2003.819861; used globally by Z. Zhong et al., Ultramicroscopy 174 (2017)
    35, table 1.

    Examples
    --------
    >>> ssim_structure([1, 2, 3], [10, 20, 30])
    1.0
    """
    image, truth = _pair(image, truth)
    image, truth = image - image.mean(), truth - truth.mean()
    spread = np.sqrt((image @ image) * (truth @ truth))
    return float(image @ truth / spread) if spread > 0 else float("nan")


def scaled_mse(image: ArrayLike, truth: ArrayLike) -> float:
    """
    Return the mean squared error after optimal scaling, min_c mean (truth - c image)^2.

    Parameters
    ----------
    image : array_like
        Any unit: the result does not depend on its scale.
    truth : array_like
        Of the same shape.

    Returns
    -------
    float
        In the truth's unit squared.

    Raises
    ------
    ValueError
        If the shapes differ or the arrays are empty.

    References
    ----------
    Z. Zhong et al., Ultramicroscopy 174 (2017) 35, table 1, doi:10.1016/j.ultramic.2016.12.008.

    Examples
    --------
    >>> scaled_mse([0, 2, 4], [0, 1, 2])
    0.0
    """
    image, truth = _pair(image, truth)
    norm = image @ image
    scale = image @ truth / norm if norm > 0 else 0.0
    return float(np.mean((truth - scale * image) ** 2))


def wrong_pixels(image: ArrayLike, truth: ArrayLike) -> int:
    """
    Count the pixels that the best threshold misclassifies.

    Parameters
    ----------
    image : array_like
        Any unit.
    truth : array_like
        Same shape; pixels above half of its maximum are object.

    Returns
    -------
    int
        Number of pixels in which the binary images differ, minimised over all thresholds.

    Raises
    ------
    ValueError
        If the shapes differ or the arrays are empty.

    References
    ----------
    Z. Zhong et al., Ultramicroscopy 174 (2017) 35, table 1, doi:10.1016/j.ultramic.2016.12.008.

    Examples
    --------
    >>> wrong_pixels([0.1, 0.4, 0.3, 0.9], [0, 0, 1, 1])
    1
    """
    image, truth = _pair(image, truth)
    inside = truth > truth.max() / 2
    order = np.argsort(-image)
    # Lower the threshold past one pixel after the other: an object pixel is one error fewer, any
    # other one more.
    wrong = inside.sum() + np.concatenate([[0], np.cumsum(np.where(inside[order], -1, 1))])
    # No threshold separates equal values.
    separable = np.concatenate([[True], np.diff(image[order]) != 0, [True]])
    return int(wrong[separable].min())


def psnr(image: ArrayLike, truth: ArrayLike, peak: float | None = None) -> float:
    """
    Return the peak signal-to-noise ratio, 10 log10(peak^2 / mean (image - truth)^2).

    Parameters
    ----------
    image, truth : array_like
        Of the same shape and unit.
    peak : float, optional
        By default the maximum of the truth.

    Returns
    -------
    float
        dB; infinite if they are equal.

    Raises
    ------
    ValueError
        If the shapes differ, the arrays are empty, or the peak is not positive.

    References
    ----------
    R. Huber et al., Nanoscale 11 (2019) 5617, table 1, doi:10.1039/C8NR09058K.

    Examples
    --------
    >>> psnr([0.0, 0.9], [0.0, 1.0]).__round__(2)
    23.01
    """
    image, truth = _pair(image, truth)
    peak = truth.max() if peak is None else float(peak)
    if not peak > 0:
        raise ValueError(
            f"the peak is {peak}; expected a positive signal to compare the error with"
        )
    error = np.mean((image - truth) ** 2)
    return float(10 * np.log10(peak**2 / error)) if error > 0 else float("inf")


def nrmse(image: ArrayLike, truth: ArrayLike) -> float:
    """
    Return the root mean squared error divided by the standard deviation of the truth.

    Parameters
    ----------
    image, truth : array_like
        Of the same shape and unit.

    Returns
    -------
    float
        0 is perfect; 1 is what the mean of the truth alone would give.

    Raises
    ------
    ValueError
        If the shapes differ, the arrays are empty, or the truth is constant.

    References
    ----------
    J. Schwartz et al., Nat. Commun. 15 (2024) 3555, doi:10.1038/s41467-024-47558-0.

    Examples
    --------
    >>> nrmse([1.0, 1.0], [0.0, 2.0])
    1.0
    """
    image, truth = _pair(image, truth)
    return float(np.sqrt(np.mean((image - truth) ** 2)) / _spread(truth))


def r_squared(fitted: ArrayLike, measured: ArrayLike) -> float:
    """
    Return the centred coefficient of determination R2.

    It is 1 - sum (measured - fitted)^2 / sum (measured - mean)^2.

    Parameters
    ----------
    fitted, measured : array_like
        Of the same shape and unit.

    Returns
    -------
    float
        1 is perfect, 0 is no better than the mean, negative is worse.

    Raises
    ------
    ValueError
        If the shapes differ, the arrays are empty, or `measured` is constant.

    Examples
    --------
    >>> r_squared([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    1.0
    """
    fitted, measured = _pair(fitted, measured)
    return float(1 - np.mean((measured - fitted) ** 2) / _spread(measured) ** 2)


def dice(first: ArrayLike, second: ArrayLike) -> float:
    """
    Return the overlap of two masks, 2 |A and B| / (|A| + |B|).

    Parameters
    ----------
    first, second : array_like of bool
        Of the same shape.

    Returns
    -------
    float
        From 0 (disjoint) to 1 (equal, or both empty).

    Raises
    ------
    ValueError
        If the shapes differ or the masks are not boolean.

    References
    ----------
    L.R. Dice, Ecology 26 (1945) 297, doi:10.2307/1932409.

    Examples
    --------
    >>> dice([True, True, False], [True, False, False]).__round__(3)
    0.667
    """
    first, second = np.asarray(first), np.asarray(second)
    if first.dtype != bool or second.dtype != bool or first.shape != second.shape:
        raise ValueError(
            f"the masks are {first.dtype} of shape {first.shape} and {second.dtype} of shape "
            f"{second.shape}; "
            "expected bool of one shape: threshold the volumes first"
        )
    total = np.count_nonzero(first) + np.count_nonzero(second)
    return float(2 * np.count_nonzero(first & second) / total) if total else 1.0


def elongation_factor(max_tilt: float) -> float:
    """
    Return the factor by which the missing wedge elongates features along the beam (z).

    It is sqrt((a + sin a cos a) / (a - sin a cos a)).

    Parameters
    ----------
    max_tilt : float
        a, the largest tilt to either side, degrees; half of the range for an unsymmetrical series.

    Returns
    -------
    float
        1 at 90 degrees, more below.

    Raises
    ------
    ValueError
        If the angle is not above 0 and up to 90 degrees.

    References
    ----------
    M. Radermacher, W. Hoppe, Proc. 7th Eur. Congr. Electron Microsc. 1 (1980) 132; P.A. Midgley, M.
    Weyland, Ultramicroscopy 96 (2003) 413, doi:10.1016/S0304-3991(03)00105-0.

    Examples
    --------
    >>> round(elongation_factor(70), 2)
    1.31
    """
    if not 0 < max_tilt <= 90:
        raise ValueError(
            f"the largest tilt is {max_tilt}; expected an angle above 0 and up to 90 degrees"
        )
    a = np.deg2rad(max_tilt)
    mixed = np.sin(a) * np.cos(a)
    return float(np.sqrt((a + mixed) / (a - mixed)))


def crowther_resolution(diameter: float, tilts: ArrayLike) -> float:
    """
    Return Crowther's resolution limit, the diameter times the mean tilt step in radians.

    That is pi D / N for N projections spread evenly over 180 degrees. Noise, alignment errors and
    the missing wedge make the resolution worse.

    Parameters
    ----------
    diameter : float
        D, of the object across the tilt axis, any unit of length.
    tilts : array_like (tilt,)
        Degrees, in any order.

    Returns
    -------
    float
        In the unit of `diameter`.

    Raises
    ------
    ValueError
        If there are fewer than two tilts, they are all equal, or the diameter is not positive.

    References
    ----------
    R.A. Crowther, D.J. DeRosier, A. Klug, Proc. R. Soc. Lond. A 317 (1970) 319,
    doi:10.1098/rspa.1970.0119.

    Examples
    --------
    >>> round(crowther_resolution(100, range(-90, 90, 2)), 2)  # pi 100 / 90
    3.49
    """
    if not diameter > 0:
        raise ValueError(f"the diameter is {diameter}; expected a positive length")
    return float(diameter * np.deg2rad(_steps(tilts).mean()))


def largest_gap(tilts: ArrayLike) -> float:
    """
    Return the largest step between neighbouring tilts, the missing wedge excluded.

    Parameters
    ----------
    tilts : array_like (tilt,)
        Degrees, in any order.

    Returns
    -------
    float
        Degrees.

    Raises
    ------
    ValueError
        If there are fewer than two tilts or they are all equal.

    Examples
    --------
    >>> largest_gap([-10, 0, 5, 20])
    15.0
    """
    return float(_steps(tilts).max())


def _steps(tilts: ArrayLike) -> np.ndarray:
    tilts = np.unique(np.asarray(tilts, dtype=np.float64))
    if tilts.size < 2 or not np.isfinite(tilts).all():
        raise ValueError(
            f"the tilts are {tilts.tolist()}; expected two different angles at least, in degrees"
        )
    return np.diff(tilts)


def _spread(truth: np.ndarray) -> float:
    spread = truth.std()
    if spread == 0:
        raise ValueError(
            f"the reference is {truth[0]:g} everywhere; errors cannot be compared with its "
            "variation"
        )
    return spread


def _pair(image: ArrayLike, truth: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    image, truth = np.asarray(image, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if image.shape != truth.shape or image.size == 0:
        raise ValueError(
            f"the shapes are {image.shape} and {truth.shape}; expected two equal ones that are not "
            "empty"
        )
    return image.ravel(), truth.ravel()

# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts of each element in each pixel: the result of every way to make maps, and the product that makes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.acquisition.sparse_counts import SparseSpectra

__all__ = ["ElementalCounts", "apply_rows", "check_spectra", "expected_background"]

# Spectra converted to float32 at a time: 16 MiB of 2048 channels.
_BLOCK = 2048
# Background counts that a Gaussian is to gather, and its largest standard deviation (px): holders
# and grids have edges.
_GATHERED, _WIDEST = 100.0, 6.0
# The Gaussian is cut off at so many standard deviations; pixels farther off (px) do not count.
_TRUNCATED = 4.0
BACKGROUND_REACH = round(_TRUNCATED * _WIDEST)


@dataclass(frozen=True, eq=False)
class ElementalCounts:
    """
    Maps of the counts of each element.

    Attributes
    ----------
    elements, lines : tuple of str
        ``("Fe", ...)`` and ``("Fe_Ka", ...)``.
    net : ndarray (element, ...), float32
        Counts in the main line.
    gross : ndarray (element, ...), float32
        Counts as recorded in the window of one FWHM on each side of the line: whole numbers with
        Poisson statistics.
    background : ndarray (element, ...), float32
        Expected counts of everything else in this window.
    window_share : ndarray (element,)
        Own counts in the window per net count, so that gross = window_share * net + background on
        average.
    """

    elements: tuple[str, ...]
    lines: tuple[str, ...]
    net: np.ndarray
    gross: np.ndarray
    background: np.ndarray
    window_share: np.ndarray


def check_spectra(
    spectra: ArrayLike | SparseSpectra, channels: int, name: str = "spectra"
) -> np.ndarray | SparseSpectra:
    """
    Return spectra as an array after checking that they are raw counts.

    Parameters
    ----------
    spectra : array_like (..., energy), or SparseSpectra
    channels : int
        Number of channels that is expected.
    name : str
        For the error messages.

    Returns
    -------
    ndarray, or the SparseSpectra

    Raises
    ------
    ValueError
        For the wrong number of channels, NaN, infinite or negative values.
    """
    is_sparse = isinstance(spectra, SparseSpectra)
    spectra = spectra if is_sparse else np.asarray(spectra)
    if not spectra.shape or spectra.shape[-1] != channels:
        raise ValueError(
            f"{name} have the shape {spectra.shape}, but the energy axis has {channels} channels"
        )
    if is_sparse:
        return spectra
    if spectra.dtype.kind == "f" and not np.isfinite(spectra).all():
        raise ValueError(f"{name} contain NaN or infinite values; expected raw counts")
    if spectra.dtype.kind not in "ub" and spectra.size and spectra.min() < 0:
        raise ValueError(
            f"{name} contain negative values (lowest {spectra.min():g}); expected raw counts, "
            "nothing subtracted"
        )
    return spectra


def are_whole(values: np.ndarray) -> bool:
    """
    Say whether all values are whole numbers of at least 0, as counts are.

    Examples
    --------
    >>> are_whole(np.array([0.0, 2.0])), are_whole(np.array([0.5])), are_whole(np.array([-1]))
    (True, False, False)
    """
    if values.dtype.kind in "ub":
        return True
    whole = values.dtype.kind == "i" or bool((values == np.rint(values)).all())
    return whole and bool((values >= 0).all())


def apply_rows(
    rows: np.ndarray, spectra: np.ndarray | SparseSpectra, channels: slice = slice(None)
) -> np.ndarray:
    """
    Return the product (row, ...) of rows (row, energy) with these channels of spectra (..., energy), float32.

    Examples
    --------
    >>> apply_rows(np.ones((1, 4)), np.arange(8, dtype=np.uint8).reshape(2, 4))
    array([[ 6., 22.]], dtype=float32)
    """
    if isinstance(spectra, SparseSpectra):
        whole = np.zeros((len(rows), spectra.shape[-1]), np.float32)
        whole[:, channels] = rows
        return spectra.product(whole)
    spectra = spectra[..., channels]
    flat = spectra.reshape(-1, spectra.shape[-1])
    matrix = np.ascontiguousarray(rows.T, dtype=np.float32)
    product = np.empty((len(rows), len(flat)), np.float32)
    for first in range(0, len(flat), _BLOCK):
        product[:, first : first + _BLOCK] = (
            flat[first : first + _BLOCK].astype(np.float32) @ matrix
        ).T
    return product.reshape(len(rows), *spectra.shape[:-1])


def expected_background(background: ArrayLike) -> np.ndarray:
    """
    Turn backgrounds that were estimated pixel by pixel into expectations, as the mean of a Poisson law has to be.

    Estimates from few counts are noisy, and negative here and there. Each image is smoothed by a
    Gaussian so wide that it gathers some hundred background counts, 6 px at most; what is still
    negative becomes 0, and the sum is kept.

    Parameters
    ----------
    background : array_like (..., x, y)
        Estimated background counts.

    Returns
    -------
    ndarray (..., x, y), float32
        None below 0; the sum of each image is that of `background`, or 0 where that is negative.

    Examples
    --------
    >>> import numpy as np
    >>> noisy = np.random.default_rng(0).normal(1.0, 2.0, (32, 32))
    >>> smooth = expected_background(noisy)
    >>> bool(smooth.min() > 0), bool(np.isclose(smooth.sum(), noisy.sum(), rtol=1e-4))
    (True, True)
    """
    background = np.asarray(background, dtype=np.float32)
    expected = np.zeros_like(background)
    for place in np.ndindex(background.shape[:-2]):
        image = background[place]
        mean = float(image.mean(dtype=np.float64))
        if mean > 0:
            smooth = smoothed_background(image, background_width(mean))
            expected[place] = smooth * np.float32(mean / smooth.mean(dtype=np.float64))
    return expected


def background_width(mean: float) -> float:
    """Return the standard deviation (px) of the Gaussian that smooths a background of so many counts per pixel on average."""
    # A Gaussian averages over 4 pi sigma^2 pixels.
    return min(_WIDEST, np.sqrt(_GATHERED / (4 * np.pi * mean)))


def smoothed_background(image: np.ndarray, width: float) -> np.ndarray:
    """Return an image (x, y), or rows of one with the `BACKGROUND_REACH` rows beside them, smoothed and nowhere negative."""
    from scipy.ndimage import gaussian_filter

    return np.maximum(gaussian_filter(image, width, mode="nearest", truncate=_TRUNCATED), 0)

# SPDX-License-Identifier: GPL-3.0-or-later
"""The smooth background of X-ray spectra: a basis of splines, and parts that pixels scale."""

from __future__ import annotations

import numpy as np

__all__ = ["background_basis", "background_parts"]

# Knots (keV), farther apart than peaks are wide, and closest where absorption bends the background.
# Not flat: on tilts of the real series of tests/test_elemental.py half or twice as many move net
# counts by up to 6 %, and those of weak Al Ka and S Ka (standard error 5 to 8 %) by up to 40 %.
_KNOTS = (0.45, 0.8, 1.3, 2.0, 3.0, 4.5, 6.5, 9.0, 12.0, 16.0, 20.0, 27.0, 36.0, 50.0, 70.0, 100.0)
# Nodes (keV) between which the background of a pixel may differ from that of the image, by its
# absorption and thickness. One to five nodes move net counts by 0.3 to 0.8 % on the spectra of
# tests/test_elemental.py; five are too many for weak Al Ka (9 %).
_NODES = (1.0, 3.0, 8.0)


def background_basis(energy: np.ndarray) -> np.ndarray:
    """
    Return cubic B-splines, whose non-negative sums are the possible backgrounds.

    Parameters
    ----------
    energy : ndarray (energy,)
        In keV, ascending.

    Returns
    -------
    ndarray (spline, energy)
        Their sum is 1 everywhere.

    Examples
    --------
    >>> background_basis(np.linspace(0.2, 10, 99)).sum(0).round(6).min()
    np.float64(1.0)
    """
    # SciPy's interpolation takes a while to import.
    from scipy.interpolate import BSpline

    low, high = energy[0], energy[-1]
    # Knots close to the ends would let the background follow the noise there.
    inner = [knot for knot in _KNOTS if low * 1.3 < knot < high * 0.88]
    knots = np.array([low] * 4 + inner + [high] * 4)
    return np.nan_to_num(BSpline.design_matrix(energy, knots, 3).toarray()).T


def background_parts(shape: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """
    Split a background into parts in adjacent ranges of energy that add up to it.

    Parameters
    ----------
    shape : ndarray (energy,)
        The background of a summed spectrum.
    energy : ndarray (energy,)
        In keV, ascending.

    Returns
    -------
    ndarray (part, energy)
        The background times linear ramps in log(energy).

    Examples
    --------
    >>> energy = np.linspace(0.2, 20, 100)
    >>> parts = background_parts(1 / energy, energy)
    >>> parts.shape, np.allclose(parts.sum(0), 1 / energy)
    ((4, 100), True)
    """
    inner = [node for node in _NODES if energy[0] * 2 < node < energy[-1] / 2]
    # One part below each node, one above the last.
    nodes = np.log([np.sqrt(energy[0] * inner[0]), *inner]) if inner else np.log([energy[0]])
    ramps = [np.interp(np.log(energy), nodes, unit) for unit in np.eye(len(nodes))]
    return np.array(ramps) * shape

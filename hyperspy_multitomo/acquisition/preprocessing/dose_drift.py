# SPDX-License-Identifier: GPL-3.0-or-later
"""Drift of the signal over the acquisition: loss of mass, contamination and dose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.acquisition.preprocessing.image_checks import tilts_of_projections
from hyperspy_multitomo.parameters import positive_number

__all__ = ["DoseDrift", "fit_dose_drift"]

# Variance inflation above which the effect of the order cannot be separated from that of the tilt:
# the usual limit, tested on several orders in tests/test_preprocessing.py.
_CONFOUNDED = 10.0
# Standard errors beyond which a drift is significant.
_SIGNIFICANT = 3.0


@dataclass(frozen=True, eq=False, repr=False)
class DoseDrift:
    """
    The drift of the signal of a series over the order of acquisition.

    Attributes
    ----------
    names : tuple of str (channel,)
        ``"HAADF"``, or the elements.
    tilts, order : numpy.ndarray (tilt,)
        Degrees; index in the order of acquisition.
    relative : numpy.ndarray (channel, tilt)
        Signal over the expected signal at this tilt, of mean 1.
    fitted : numpy.ndarray (channel, tilt)
        Fit to `relative`, with the smooth dependence on the tilt where it can be separated from
        that on the order.
    change : numpy.ndarray (channel,)
        Change from the first image to the last, as a fraction of the mean: -0.1 is a loss of ten
        per cent.
    change_error : numpy.ndarray (channel,)
        Standard error, from the scatter about the line or the counts, whichever is larger.
    confounded : bool
        Whether order and tilt are correlated, so that drift cannot be separated from shadowing or
        from a wrong expected signal.
    threshold : float
        Smallest change that is reported as significant.
    """

    names: tuple[str, ...]
    tilts: np.ndarray
    order: np.ndarray
    relative: np.ndarray
    fitted: np.ndarray
    change: np.ndarray
    change_error: np.ndarray
    confounded: bool
    threshold: float

    @property
    def slope(self) -> np.ndarray:
        """Change per image, (channel,)."""
        return self.change / np.ptp(self.order)

    @property
    def significant(self) -> np.ndarray:
        """Whether each change exceeds three standard errors and the threshold, bool (channel,)."""
        return (np.abs(self.change) > _SIGNIFICANT * self.change_error) & (
            np.abs(self.change) > self.threshold
        )

    def __repr__(self) -> str:
        lines = [
            f"{name:>6}: {100 * change:+.1f} ± {100 * error:.1f} % from the first image to the "
            f"last{' (!)' if flag else ''}"
            for name, change, error, flag in zip(
                self.names, self.change, self.change_error, self.significant, strict=True
            )
        ]
        if self.confounded:
            lines.append(
                "Order and tilt went together in this series: a change may as well be shadowing, "
                "or a wrong expected signal."
            )
        return "\n".join(lines)


def fit_dose_drift(
    sums: ArrayLike,
    expected: ArrayLike,
    tilts: ArrayLike,
    order: ArrayLike,
    names: Sequence[str],
    *,
    variances: ArrayLike | None = None,
    threshold: float = 0.05,
) -> DoseDrift:
    """
    Fit the drift of the signal with the order of acquisition.

    Parameters
    ----------
    sums : array_like (channel, tilt)
        Signal summed over the pixels; net counts for maps.
    expected : array_like (tilt,) or (channel, tilt)
        Expected signal, up to a factor for each channel: expected means, or HAADF sums, times the
        known gains.
    tilts, order : array_like (tilt,)
        Degrees; index of each tilt in the order of acquisition.
    names : sequence of str (channel,)
        Names of the channels.
    variances : array_like (channel, tilt), optional
        Variances of `sums`: the gross counts.
    threshold : float, default 0.05
        Smallest change over the series that is reported as significant.

    Returns
    -------
    DoseDrift

    Raises
    ------
    ValueError
        For shapes that do not fit, fewer than four tilts, or a channel without signal.

    Notes
    -----
    Weighted least squares of signal over expected signal on the order, and on tilt and tilt squared
    (shadowing, a film) where these inflate the variance of the order's coefficient less than
    tenfold. They inflate it more in a series taken from one end to the other, or from the middle
    outwards on alternating sides: there the line alone is fitted, and `confounded` is True.

    Examples
    --------
    >>> import numpy as np
    >>> tilts, order = [-50, -30, -10, 10, 30, 50], np.array([5, 2, 0, 3, 1, 4])
    >>> drift = fit_dose_drift([1 - 0.04 * order], np.ones(6), tilts, order, ["HAADF"])
    >>> drift.change.round(3), drift.confounded
    (array([-0.222]), False)
    """
    threshold = positive_number("threshold", threshold)
    sums = np.asarray(sums, dtype=np.float64)
    if sums.ndim != 2 or len(sums) != len(names):
        raise ValueError(
            f"the sums have the shape {sums.shape} for {len(names)} names; expected (channel, tilt)"
        )
    tilts = tilts_of_projections(tilts, sums.shape[1])
    order = tilts_of_projections(order, sums.shape[1])
    if len(tilts) < 4 or np.ptp(order) == 0:
        raise ValueError(
            f"there are {len(tilts)} tilts; at least four, in a known order, are needed to see a "
            "drift"
        )
    expected = np.broadcast_to(np.asarray(expected, dtype=np.float64), sums.shape)
    if not (np.isfinite(expected).all() and (expected > 0).all()):
        raise ValueError("the expected signal is not positive at some tilts; leave these tilts out")
    relative = sums / expected
    means = relative.mean(axis=1, keepdims=True)
    if not (means > 0).all():
        raise ValueError(
            f"no positive signal in {', '.join(np.array(names)[means[:, 0] <= 0])}; leave it out"
        )
    relative = relative / means
    noise = None if variances is None else np.sqrt(np.maximum(variances, 1)) / (expected * means)
    line = (order - order.mean()) / np.ptp(order)
    nuisance = np.stack([np.ones(len(tilts)), tilts, tilts**2], axis=1)
    left = line - nuisance @ np.linalg.lstsq(nuisance, line, rcond=None)[0]
    # Six tilts leave at least two degrees of freedom for the scatter.
    confounded = len(tilts) < 6 or bool(np.sum(left**2) * _CONFOUNDED < np.sum(line**2))
    design = np.column_stack(
        [line, nuisance[:, :1] if confounded else nuisance / np.abs(nuisance).max(axis=0)]
    )
    fitted, change, error = [], [], []
    for c, values in enumerate(relative):
        weights = np.ones(len(tilts)) if noise is None else 1 / noise[c] ** 2
        inverse = np.linalg.inv((design.T * weights) @ design)
        coefficients = inverse @ (design.T @ (weights * values))
        fitted.append(design @ coefficients)
        scatter = np.sum(weights * (values - fitted[-1]) ** 2) / (len(tilts) - design.shape[1])
        change.append(coefficients[0])
        error.append(np.sqrt(inverse[0, 0] * (scatter if noise is None else max(scatter, 1.0))))
    return DoseDrift(
        names=tuple(names),
        tilts=tilts,
        order=order,
        relative=relative,
        fitted=np.array(fitted),
        change=np.array(change),
        change_error=np.array(error),
        confounded=confounded,
        threshold=threshold,
    )

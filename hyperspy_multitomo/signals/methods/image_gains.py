# SPDX-License-Identifier: GPL-3.0-or-later
"""Gains of a HAADF series, estimated from the means of its images."""

from __future__ import annotations

from hyperspy_multitomo.acquisition.preprocessing.gains import (
    GainEstimate,
    expected_means,
    fit_gains,
)
from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.signals.methods.tilt_gains import (
    attach_gains,
    chosen_model,
    known_gains,
    tilt_sums,
)


@checked
def estimate_gains(series, model: str = "auto", *, smooth: int | None = None) -> GainEstimate:
    """Estimate the gain of every image from its mean, and attach the gains.

    The data stay as they are.

    Parameters
    ----------
    model : {"auto", "constant", "lamella"}, default "auto"
        What the mean should be: ``"constant"``, for an object that is wholly in view across the
        tilt axis; or proportional to 1/cos t (``"lamella"``), for a specimen that fills the
        view. ``"auto"`` decides by the specimen that the alignment found, else by the rim of
        the images.
    smooth : int, optional
        Degree of a polynomial in the tilt for the logarithm of what is left after the gains
        known before; by default every tilt has a gain of its own.

    Returns
    -------
    GainEstimate
        ``values`` of the shape (tilt,), of mean 1; no standard errors, since the signal is no
        count.

    Raises
    ------
    ValueError
        For an unknown model, a mean that is not positive, or a lamella that stands on edge.

    Notes
    -----
    The images have to be zero in vacuum: take the detector's offset off first, with
    `remove_background`. What is measured is the whole gain, so it replaces gains that were
    attached before.

    References
    ----------
    .. [1] R. Huber et al., Nanoscale 11 (2019) 5617, https://doi.org/10.1039/C8NR09058K
       (constant mean, there as a scaling).

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> images = np.zeros((3, 40, 40))
    >>> images[:, 10:30, 10:30] = np.array([1.0, 2.0, 3.0])[:, None, None]
    >>> haadf = mt.TiltSeriesHAADF.from_images(images, tilts=[-10, 0, 10])
    >>> haadf.estimate_gains().model, haadf.gains
    ('constant', array([0.5, 1. , 1.5]))
    """
    model = chosen_model(series, model)
    values, _ = fit_gains(
        tilt_sums(series)[0],
        expected_means(series.tilts, model),
        series.tilts,
        known=known_gains(series),
        smooth=smooth,
    )
    return attach_gains(series, GainEstimate(values, None, series.tilts, model), smooth=smooth)

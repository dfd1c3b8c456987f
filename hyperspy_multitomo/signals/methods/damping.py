# SPDX-License-Identifier: GPL-3.0-or-later
"""Damping of the HAADF through the signals: measured first, corrected on request."""

from __future__ import annotations

import numpy as np

from hyperspy_multitomo.arguments import DAMPING, checked
from hyperspy_multitomo.composition.haadf import haadf_damping
from hyperspy_multitomo.composition.haadf.damping_from_maps import damping_from_maps
from hyperspy_multitomo.composition.haadf.haadf_damping import DampingModel
from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.parameters import positive_number
from hyperspy_multitomo.signals.arrays import projections
from hyperspy_multitomo.signals.masks import image_mask
from hyperspy_multitomo.signals.metadata.history import add_step
from hyperspy_multitomo.signals.metadata.recorded_arrays import axis_named, forget
from hyperspy_multitomo.signals.methods.common_tilts import paired
from hyperspy_multitomo.signals.methods.tilt_gains import chosen_model, known_gains


@checked
def estimate_damping(
    series, eds=None, *, model: str = "auto", mask=None, min_counts: float = 50.0
) -> DampingModel:
    """Estimate how the HAADF saturates in thick places; nothing is changed.

    From its own tilts, or against elemental maps.

    Parameters
    ----------
    eds : TiltSeriesEDS or TiltSeriesEELS, optional
        Maps of the same images, of every element that is bright in the HAADF, as recorded. By
        default the HAADF alone, whose undamped sum is the same at every tilt.
    model : {"auto", "constant", "lamella"}, default "auto"
        Without maps: whether the object is wholly in view across the tilt axis (``"constant"``)
        or a lamella fills the view (``"lamella"``); ``"auto"`` decides by the
        specimen that the alignment found, else by the rim of the images.
    mask : array-like of bool, shape (tilt, y, x), optional
        With maps: pixels of the HAADF, at its tilts, to use; by default the specimen.
    min_counts : float, default 50
        With maps: counts of the weakest element in the mean block of pixels.

    Returns
    -------
    DampingModel
        ``saturation`` with its error, ``significant`` and the ``reason`` in figures, ``apply``
        and ``invert``; for `correct_damping` and `plot_damping`.

    Raises
    ------
    ValueError
        Without maps for fewer than three tilts, an object equally thick at all tilts (a
        cylinder around the tilt axis), or sums that change more than damping explains; with
        maps where these are too alike, or no tilts are shared.

    Notes
    -----
    The HAADF has to be zero in vacuum (`remove_background`). Gains known otherwise are divided
    out; gains that `estimate_gains` of this series found from the means are not, since they
    would hold the damping. Gains of maps that were estimated against this HAADF hide a part of
    it.

    References
    ----------
    .. [1] R. Huber et al., Nanoscale 11 (2019) 5617, https://doi.org/10.1039/C8NR09058K.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> path = np.linspace(0, 40, 96) * np.ones((9, 32, 1))
    >>> counts = np.random.default_rng(0).poisson(path)
    >>> images = 1000 * (1 - np.exp(-20 * path / 1000))
    >>> haadf = mt.TiltSeriesHAADF.from_images(images, tilts=np.arange(9))
    >>> eds = mt.TiltSeriesEDS.from_maps({"Au": counts}, tilts=np.arange(9))
    >>> found = haadf.estimate_damping(eds)
    >>> 970 < found.saturation < 1030, found.significant
    (True, True)
    """
    min_counts = positive_number("min_counts", min_counts, "of counts")
    if eds is not None:
        if model != "auto":
            raise ValueError(f"model={model!r} is for the HAADF alone; leave out one of the two")
        return _from_maps(series, eds, mask, min_counts)
    if mask is not None:
        raise ValueError(
            "without maps whole images are summed; leave out the mask, or crop the series"
        )
    return haadf_damping.estimate_damping(
        projections(series)[0],
        series.tilts,
        model=chosen_model(series, model),
        gains=known_gains(series),
    )


@checked(model=DAMPING)
def correct_damping(series, model: DampingModel | None = None):
    """Return the series with the damping inverted: signal proportional to mass thickness.

    Parameters
    ----------
    model : DampingModel, optional
        From `estimate_damping`, or ``DampingModel(saturation)``; estimated now from this series
        alone where it is None.

    Returns
    -------
    TiltSeriesHAADF
        A new series, lazy if this one is. Thin places keep their signal, so that the unit
        stays; known gains stay factors of it, gains that were estimated from the damped means
        are dropped.

    Raises
    ------
    ValueError
        If pixels are at or above the saturation, or, without a model, where damping cannot be
        estimated.

    Warns
    -----
    UserWarning
        Where the damping is not significant, so that the correction may be noise; where gains
        are dropped.

    Notes
    -----
    Correct before response ratios and gains are estimated, which hold for the series they were
    estimated from. Noise grows with the correction.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> from hyperspy_multitomo.composition.haadf.haadf_damping import DampingModel
    >>> haadf = mt.TiltSeriesHAADF.from_images(np.full((2, 8, 8), 393.47), tilts=[-10, 10])
    >>> corrected = haadf.correct_damping(DampingModel(1000.0))
    >>> float(corrected.data.mean().round(1)), corrected.history[-1]["saturation"]
    (500.0, 1000.0)
    """
    model = series.estimate_damping() if model is None else model
    if not isinstance(model, DampingModel):
        raise TypeError(
            f"the model is a {type(model).__name__}; pass a DampingModel, such as "
            "estimate_damping() returns"
        )
    if not model.significant:
        warn(
            f"the damping is not significant ({model.reason}); the correction may put noise "
            "into the series"
        )
    gains, place = known_gains(series), axis_named(series, "tilt").index_in_array
    shape = [-1 if i == place else 1 for i in range(series.data.ndim)]
    scale = np.ones(len(series.tilts), np.float32) if gains is None else gains.astype(np.float32)
    for image, gain in zip(series.array("tilt", "x", "y"), scale, strict=True):
        _refuse_saturated(np.asarray(image) / gain, model)
    linear = series.data / scale.reshape(shape)
    linear = (
        linear.map_blocks(model.invert, dtype=linear.dtype)
        if series._lazy
        else model.invert(linear)
    )
    copy = series._deepcopy_with_new_data(linear * scale.reshape(shape))
    if copy.gains is not None and not (gains is not None and np.allclose(gains, copy.gains)):
        warn(
            "gains that were estimated from the damped images are dropped; estimate them again "
            "from the corrected series"
        )
        copy.gains = gains
        forget(copy, "estimated_gains")
    add_step(
        copy,
        "correct_damping",
        saturation=model.saturation,
        saturation_error=model.saturation_error,
        significant=model.significant,
        source=model.source,
        gains=gains,
    )
    return copy


@checked(model=DAMPING)
def plot_damping(series, model: DampingModel):
    """Draw the recorded HAADF against the linear signal, and each tilt before and after.

    Parameters
    ----------
    model : DampingModel
        From `estimate_damping`.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> from hyperspy_multitomo.composition import DampingModel
    >>> haadf = mt.TiltSeriesHAADF.from_images(np.full((2, 8, 8), 393.47), tilts=[-10, 10])
    >>> len(haadf.plot_damping(DampingModel(1000.0)).axes) > 0
    True
    """
    from hyperspy_multitomo.inspection.damping_plot import plot_damping

    return plot_damping(model, projections(series)[0])


def _refuse_saturated(image: np.ndarray, model: DampingModel) -> None:
    """Raise now what a lazy inversion would raise only when it is computed."""
    if not (image < model.saturation).all():
        model.invert(image)


def _from_maps(haadf, eds, mask, min_counts: float) -> DampingModel:
    """Estimate over the tilts that both series have."""
    pair = paired(eds, haadf)
    if mask is not None:
        shape = haadf.array("tilt", "y", "x").shape
        mask = image_mask(mask, shape, "HAADF images")[pair.partners]
        _, width, height = pair.haadf.shape
        mask = mask[:, : width * pair.binning, : height * pair.binning]
        mask = mask.reshape(len(mask), width, pair.binning, height, pair.binning).all(axis=(2, 4))
    known = known_gains(haadf)
    return damping_from_maps(
        pair.maps,
        pair.haadf,
        tilts=eds.tilts[pair.tilts],
        gains=pair.gains,
        haadf_gains=None if known is None else known[pair.partners],
        mask=mask,
        min_counts=min_counts,
    )

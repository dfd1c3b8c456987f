# SPDX-License-Identifier: GPL-3.0-or-later
"""Gains of a series of elemental maps: from the HAADF, their means, live times or the detectors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hyperspy_multitomo.acquisition.preprocessing.gains import (
    GainEstimate,
    expected_means,
    fit_gains,
)
from hyperspy_multitomo.acquisition.preprocessing.shadowing import weighted_sum
from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.composition.xrays.detectors import shadowing_gains
from hyperspy_multitomo.parameters import number
from hyperspy_multitomo.signals.arrays import check_pair, in_one_frame, pixel_ratio
from hyperspy_multitomo.signals.masks import image_mask
from hyperspy_multitomo.signals.metadata.recorded_arrays import axis_named, recall
from hyperspy_multitomo.signals.methods.tilt_gains import (
    MODELS,
    attach_gains,
    chosen_model,
    count_variances,
    haadf_at,
    known_gains,
    tilt_sums,
)


@checked
def estimate_gains(
    series,
    haadf=None,
    *,
    model: str = "auto",
    per_element: bool = False,
    smooth: int | None = None,
    weights: Mapping[str, float] | None = None,
    mask=None,
    horizon: float | tuple[float, float] | None = None,
) -> GainEstimate:
    """Estimate the gain of every tilt, and attach the gains. The counts stay as they are.

    Parameters
    ----------
    haadf : TiltSeriesHAADF, optional
        The HAADF of the same images: gain(t) is then counts over HAADF signal, which holds for
        a truncated view too. Its own gains are divided out.
    model : {"auto", "haadf", "constant", "lamella", "live_time", "geometry"}, default "auto"
        ``"auto"`` is ``"haadf"`` where that series is given. Otherwise the counts are compared
        with a constant mean (object wholly in view) or 1/cos t (it fills the view), by the
        specimen that the alignment found, else by the rim of the images. ``"live_time"`` compares
        nothing: the gains are the
        recorded live times, times the beam currents where these are recorded too.
        ``"geometry"`` calculates what the walls of the holder leave visible of the `detectors`.
    per_element : bool, default False
        One gain for each element and tilt, shape (tilt, element). It supposes the same
        composition in view at all tilts: where that changes, the change is taken for shadowing.
    smooth : int, optional
        Degree of a polynomial in the tilt for the logarithm of the gain, best for few counts;
        gains known before (merged exposures, live times set by hand) are kept as a factor, not
        smoothed. By default each tilt has its own gain.
    weights : dict of str to float, optional
        Weight of each element in the sum of the counts, 0 where it is not named: best the
        response ratios, or 1 for the elements of the specimen, without holder and grid. By
        default 1 for all.
    mask : array-like of bool, shape (tilt, y, x), optional
        Pixels to sum over.
    horizon : float or (float, float), optional
        For ``"geometry"``: degrees over the specimen's plane that the walls of the holder hide,
        one number or one each for +x and -x; 0 by default.

    Returns
    -------
    GainEstimate
        ``values`` (tilt,) or (tilt, element), of mean 1 over the tilts, and ``standard_errors``
        from the Poisson noise.

    Raises
    ------
    ValueError
        For an unknown model, series that do not fit together, a tilt without positive counts,
        or live times that are not recorded.

    Notes
    -----
    What is compared with HAADF or a mean is the whole gain: it contains live times and merged
    exposures, and replaces what was attached before. Gains from ``"live_time"`` multiply those
    known from loading (merged exposures).

    With one gain for all elements the counts are summed before the comparison. That is exact
    for any composition if the weights are the response ratios, and for an unchanged composition
    with any. HAADF has to be zero in vacuum.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> maps = np.full((3, 8, 8), 20.0) * np.array([0.5, 1.0, 1.5])[:, None, None]
    >>> eds = mt.TiltSeriesEDS.from_maps({"Au": maps}, tilts=[-40, 0, 40])
    >>> haadf = mt.TiltSeriesHAADF.from_images(np.full((3, 8, 8), 7.0), tilts=[-40, 0, 40])
    >>> print(eds.estimate_gains(haadf))
    gains, expected signal: haadf
      tilt              gain
     -40.0°    0.500 ± 0.018
       0.0°    1.000 ± 0.023
      40.0°    1.500 ± 0.024
    """
    _check_options(model, haadf, horizon)
    if model in ("live_time", "geometry"):
        if per_element or any(option is not None for option in (smooth, weights, mask)):
            raise ValueError(
                f"model={model!r} does not look at the counts; leave out all other options"
            )
        values = _live_times(series) if model == "live_time" else _from_geometry(series, horizon)
        elements = series.channels if values.ndim == 2 else ()
        return attach_gains(series, GainEstimate(values, None, series.tilts, model, elements))
    estimate = _from_counts(series, haadf, model, per_element, smooth, weights, mask)
    settings = {"per_element": per_element, "smooth": smooth, "weights": weights}
    return attach_gains(series, estimate, **settings)


def _check_options(model: str, haadf, horizon) -> None:
    """Raise an error for an unknown model, or one at odds with the other arguments."""
    if model not in (*MODELS, "haadf", "live_time", "geometry"):
        raise ValueError(
            f"model={model!r} must be 'auto', 'haadf', 'constant', 'lamella', 'live_time' or "
            "'geometry'"
        )
    if horizon is not None and model != "geometry":
        raise ValueError(
            "horizon= belongs to model='geometry'; leave it out, or ask for that model"
        )
    if model == "haadf" and haadf is None:
        raise ValueError(
            "model='haadf' compares with the HAADF series: pass it, estimate_gains(haadf)"
        )
    if haadf is not None and model not in ("auto", "haadf"):
        raise ValueError(f"model={model!r} does not use the HAADF series; leave out one of the two")


def _from_counts(
    series, haadf, model: str, per_element: bool, smooth, weights, mask
) -> GainEstimate:
    """Compare the counts of each tilt with the HAADF, or with what `model` expects."""
    maps, partner = (series, None) if haadf is None else _pair(series, haadf)
    if mask is not None:
        mask = image_mask(mask, [axis_named(maps, name).size for name in ("tilt", "y", "x")])
    if partner is None:
        model = chosen_model(series, model)
        expected = expected_means(series.tilts, model)
    else:
        model = "haadf"
        expected = _at_tilts(series.tilts, partner, mask)
    counts, variances = tilt_sums(maps, mask), count_variances(maps, mask)
    known = known_gains(series)
    if per_element and weights is not None:
        raise ValueError(
            "weights sum the elements up, and per_element=True keeps them apart; leave out one "
            "of the two"
        )
    if not per_element:
        weights = None if weights is None else _weight_array(weights, series.channels)
        counts, variances = weighted_sum(counts, weights), weighted_sum(variances, weights, power=2)
    if known is not None and known.ndim == 2:
        known = known.T if per_element else known.mean(axis=1)
    values, errors = fit_gains(
        counts, expected, series.tilts, variances=variances, known=known, smooth=smooth
    )
    elements = series.channels if per_element else ()
    return GainEstimate(values.T, errors.T, series.tilts, model, elements)


def _pair(eds, haadf):
    """Return both series in one frame."""
    check_pair(eds, haadf)
    if eds.alignment is None or haadf.alignment is None:
        # As recorded, even where one of the two has been aligned.
        binning = pixel_ratio(eds, haadf)
        return eds, haadf.bin(binning) if binning > 1 else haadf
    return in_one_frame(eds, haadf)


def _at_tilts(tilts, haadf, mask) -> np.ndarray:
    """Return the HAADF signal at each tilt without its gain, NaN where there is none."""
    places = haadf_at(tilts, haadf)
    gains = np.ones(len(haadf.tilts)) if haadf.gains is None else haadf.gains
    if mask is not None:
        whole = np.zeros((len(haadf.tilts), *mask.shape[1:]), bool)
        whole[places[places >= 0]] = mask[places >= 0]
        mask = whole
    sums = tilt_sums(haadf, mask)[0] / gains
    return np.where(places >= 0, sums[places], np.nan)


def _weight_array(weights: Mapping[str, float], channels) -> np.ndarray:
    unknown = [name for name in weights if name not in channels]
    if unknown:
        raise ValueError(f"weights name {', '.join(unknown)}; the series has {', '.join(channels)}")
    values = [
        number(f"weights[{name!r}]", weights.get(name, 0.0), "a number, 0 or more")
        for name in channels
    ]
    if min(values) < 0 or not any(values):
        raise ValueError(
            f"weights={dict(weights)} must be numbers from 0 up, of which at least one is above 0"
        )
    return np.array(values)


def _live_times(series) -> np.ndarray:
    """Return live time times beam current, times the gains known from loading, of mean 1."""
    times, currents = recall(series, "live_time"), recall(series, "beam_current")
    if times is None:
        raise ValueError(
            "no live times are recorded per tilt in these files; set them by hand, series.gains = "
            "live_times / live_times.mean()"
        )
    values = np.asarray(times, dtype=np.float64) * (
        1.0 if currents is None else np.asarray(currents, dtype=np.float64)
    )
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise ValueError(
            f"the recorded live times (or beam currents) {values} are not all positive; set the "
            "gains by hand"
        )
    return _with_known(series, values)


def _from_geometry(series, horizon) -> np.ndarray:
    """Return the visible solid angles, times the gains known from loading, of mean 1."""
    detectors = getattr(series, "detectors", None)
    if detectors is None:
        raise ValueError(
            'the X-ray detectors are not known: set eds.detectors = "super-x", or (azimuth, '
            "elevation) of each"
        )
    values = shadowing_gains(detectors, series.tilts, 0.0 if horizon is None else horizon)
    if values.min() <= 0:
        hidden = ", ".join(f"{tilt:g}" for tilt in series.tilts[values <= 0])
        raise ValueError(
            f"all detectors are hidden at the tilts {hidden}: correct the horizon, or leave these "
            "tilts out"
        )
    return _with_known(series, values)


def _with_known(series, values: np.ndarray) -> np.ndarray:
    """Return values (tilt,) times the gains known from loading, of mean 1."""
    known = known_gains(series)
    if known is not None:
        values = values * known if known.ndim == 1 else values[:, None] * known
    return values / values.mean(axis=0)

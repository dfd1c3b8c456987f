# SPDX-License-Identifier: GPL-3.0-or-later
"""Estimating the gains of a series and attaching them; which gains were known before is not forgotten."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hyperspy_multitomo.acquisition.preprocessing.field_of_view import wholly_in_view
from hyperspy_multitomo.acquisition.preprocessing.gains import (
    GainEstimate,
    expected_means,
    fit_gains,
)
from hyperspy_multitomo.acquisition.preprocessing.shadowing import weighted_sum
from hyperspy_multitomo.acquisition.same_tilt import match_tilts
from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.composition.xrays.detectors import shadowing_gains
from hyperspy_multitomo.parameters import number
from hyperspy_multitomo.signals.arrays import check_pair, in_one_frame, pixel_ratio
from hyperspy_multitomo.signals.gate import plain
from hyperspy_multitomo.signals.metadata.history import add_step
from hyperspy_multitomo.signals.metadata.recorded_arrays import axis_named, forget, recall, record
from hyperspy_multitomo.signals.metadata.recorded_counts import check_counts_beside

_MODELS = ("auto", "constant", "lamella")


class HAADFGains:
    """Mixin of the HAADF series: `estimate_gains` from the means of the images."""

    @checked
    def estimate_gains(self, model: str = "auto", *, smooth: int | None = None) -> GainEstimate:
        """Estimate the gain of every image from its mean, and attach the gains. The data stay as they are.

        Parameters
        ----------
        model : {"auto", "constant", "lamella"}, default "auto"
            What the mean should be: ``"constant"``, for an object that is wholly in view across the
            tilt axis; or proportional to 1/cos t (``"lamella"``), for a specimen that fills the
            view. ``"auto"`` decides by the rim of the images.
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
        >>> images = np.zeros((3, 40, 40)); images[:, 10:30, 10:30] = np.array([1.0, 2.0, 3.0])[:, None, None]
        >>> haadf = mt.TiltSeriesHAADF.from_images(images, tilts=[-10, 0, 10])
        >>> haadf.estimate_gains().model, haadf.gains
        ('constant', array([0.5, 1. , 1.5]))
        """
        model = chosen_model(self, model)
        values, _ = fit_gains(
            tilt_sums(self)[0],
            expected_means(self.tilts, model),
            self.tilts,
            known=known_gains(self),
            smooth=smooth,
        )
        return _attach(self, GainEstimate(values, None, self.tilts, model), smooth=smooth)


class ElementalGains:
    """Mixin of the series of elemental maps: `estimate_gains` from the HAADF, the means of the maps, or the live times."""

    @checked
    def estimate_gains(
        self,
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
            with a constant mean (object wholly in view) or 1/cos t (it fills the view), whichever
            the rim of the images suggests. ``"live_time"`` compares nothing: the gains are the
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
        if model not in (*_MODELS, "haadf", "live_time", "geometry"):
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
            raise ValueError(
                f"model={model!r} does not use the HAADF series; leave out one of the two"
            )
        settings = {"per_element": per_element, "smooth": smooth, "weights": weights}
        if model in ("live_time", "geometry"):
            if per_element or any(option is not None for option in (smooth, weights, mask)):
                raise ValueError(
                    f"model={model!r} does not look at the counts; leave out all other options"
                )
            values = _live_times(self) if model == "live_time" else _from_geometry(self, horizon)
            elements = self.channels if values.ndim == 2 else ()
            return _attach(self, GainEstimate(values, None, self.tilts, model, elements))
        series, partner = (self, None) if haadf is None else _pair(self, haadf)
        mask = None if mask is None else _checked_mask(mask, series)
        if partner is None:
            model = chosen_model(self, model)
            expected = expected_means(self.tilts, model)
        else:
            model = "haadf"
            expected = _at_tilts(self.tilts, partner, mask)
        counts, variances = tilt_sums(series, mask), count_variances(series, mask)
        known = known_gains(self)
        if not per_element:
            chosen = None if weights is None else _weight_array(weights, self.channels)
            counts, variances = (
                weighted_sum(counts, chosen),
                weighted_sum(variances, chosen, power=2),
            )
            known = known.mean(axis=1) if known is not None and known.ndim == 2 else known
        elif weights is not None:
            raise ValueError(
                "weights sum the elements up, and per_element=True keeps them apart; leave out one "
                "of the two"
            )
        known = known.T if known is not None and known.ndim == 2 else known
        values, errors = fit_gains(
            counts, expected, self.tilts, variances=variances, known=known, smooth=smooth
        )
        elements = self.channels if per_element else ()
        return _attach(
            self, GainEstimate(values.T, errors.T, self.tilts, model, elements), **settings
        )


def known_gains(series) -> np.ndarray | None:
    """Return the gains of a series that no estimate attached: those of merged exposures, or set by hand."""
    present, estimated = series.gains, recall(series, "estimated_gains")
    if (
        present is None
        or estimated is None
        or present.shape != estimated.shape
        or not np.allclose(present, estimated)
    ):
        return present
    return recall(series, "known_gains")


def chosen_model(series, model: str = "auto") -> str:
    """Return what the mean of a series should be, by the rim of its images where `model` is ``"auto"``."""
    if model not in _MODELS:
        raise ValueError(f"model={model!r} must be one of {', '.join(map(repr, _MODELS))}")
    if model != "auto":
        return model
    data = as_channels(series)
    # Tilt by tilt, since the maps of all elements may be more than the memory holds.
    images = np.stack(
        [np.asarray(data[:, t], dtype=np.float32).sum(axis=0) for t in range(data.shape[1])]
    )
    return "constant" if wholly_in_view(images, sides="across") else "lamella"


def as_channels(series):
    """Return the data of a series, NumPy or dask, as (channel, tilt, x, y): one channel for the HAADF, one for each element."""
    if axis_named(series, "element") or series.channels:
        return series.array("element", "tilt", "x", "y")
    return series.array("tilt", "x", "y")[None]


def tilt_sums(series, mask: np.ndarray | None = None) -> np.ndarray:
    """Return the sums over the pixels of each image, (channel, tilt), read tilt by tilt; `mask` is (tilt, x, y).

    A known transmission of the X-rays is divided out: absorption is no gain.
    """
    data, sums, transmission = as_channels(series), [], getattr(series, "transmission", None)
    for t in range(data.shape[1]):
        images = np.asarray(data[:, t])
        if transmission is not None:
            images = images / np.asarray(transmission[t]).swapaxes(1, 2)
        where = True if mask is None else mask[t]
        sums.append(images.sum(axis=(1, 2), dtype=np.float64, where=where))
    return np.stack(sums, axis=1)


def count_variances(series, mask: np.ndarray | None = None) -> np.ndarray:
    """Return the variances of `tilt_sums` of maps, (channel, tilt): the gross counts, or the maps themselves without those."""
    check_counts_beside(series)
    gross, share = series.gross, series.window_share
    if gross is None:
        return np.maximum(tilt_sums(series, mask), 1.0)
    where = [True] * len(gross) if mask is None else mask.swapaxes(1, 2)
    variances = [
        np.sum(np.asarray(images), (1, 2), np.float64, where=w)
        for images, w in zip(gross, where, strict=True)
    ]
    variances = np.stack(variances)
    return (variances if share is None else variances / share**2).T


def haadf_at(tilts: np.ndarray, haadf) -> np.ndarray:
    """Return the place of each tilt in the HAADF series, -1 where that has no such tilt."""
    return match_tilts(tilts, haadf.tilts)


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


def _checked_mask(mask, series) -> np.ndarray:
    """Return a mask (tilt, y, x), array or signal, as bool (tilt, x, y)."""
    mask = np.asarray(plain(mask, ("tilt", "y", "x"), "the mask"))
    expected = tuple(axis_named(series, name).size for name in ("tilt", "y", "x"))
    if mask.shape != expected:
        raise ValueError(
            f"the mask has the shape {mask.shape} but the images are {expected} (tilt, y, x)"
        )
    return mask.astype(bool).swapaxes(1, 2)


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
    """Return live time times beam current of each tilt, times the gains known from loading, of mean 1."""
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
    known = known_gains(series)
    if known is not None:
        values = values * known if known.ndim == 1 else values[:, None] * known
    return values / values.mean(axis=0)


def _from_geometry(series, horizon) -> np.ndarray:
    """Return the visible solid angle at each tilt, times the gains known from loading, of mean 1."""
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
    known = known_gains(series)
    if known is not None:
        values = values * known if known.ndim == 1 else values[:, None] * known
    return values / values.mean(axis=0)


def _attach(series, estimate: GainEstimate, **settings) -> GainEstimate:
    """Attach estimated gains, and note which gains were known before them."""
    known = known_gains(series)
    if known is None:
        forget(series, "known_gains")
    else:
        record(series, "known_gains", known, ("tilt", "element")[: known.ndim])
    series.gains = estimate.values
    record(series, "estimated_gains", estimate.values, ("tilt", "element")[: estimate.values.ndim])
    errors = estimate.standard_errors
    add_step(
        series,
        "estimate_gains",
        model=estimate.model,
        **settings,
        gains=estimate.values,
        standard_errors=errors,
    )
    return estimate

# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tilts to trust: bad ones ranked and dropped, signal against acquisition order."""

from __future__ import annotations

import numpy as np

from hyperspy_multitomo.acquisition.preprocessing import bad_tilts
from hyperspy_multitomo.acquisition.preprocessing.bad_tilts import TiltRanking, image_measures
from hyperspy_multitomo.acquisition.preprocessing.dose_drift import DoseDrift, fit_dose_drift
from hyperspy_multitomo.acquisition.preprocessing.gains import expected_means
from hyperspy_multitomo.acquisition.same_tilt import ROUNDED_TILT, match_tilts
from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.parameters import positive_number
from hyperspy_multitomo.signals.arrays import as_recorded, check_pair
from hyperspy_multitomo.signals.metadata.history import add_step
from hyperspy_multitomo.signals.metadata.recorded_arrays import axis_named, keep_present
from hyperspy_multitomo.signals.methods.tilt_gains import (
    chosen_model,
    count_variances,
    haadf_at,
    known_gains,
    tilt_sums,
)

# Maps of few counts are smoothed further than images before they are compared with each other.
_MAP_BLUR, _IMAGE_BLUR = 3.0, 1.0


@checked
def rank_tilts(series, threshold: float = 5.0, *, model: str = "auto") -> TiltRanking:
    """Rank the tilts by how far they lie from the smooth course of the series, the worst first.

    Nothing is dropped: look at the suspicious images, then call `drop_tilts`.

    Parameters
    ----------
    threshold : float, default 5.0
        Score, in robust standard deviations, beyond which a tilt is suspicious.
    model : {"auto", "constant", "lamella"}, default "auto"
        What the mean should be at each tilt, as in `estimate_gains`.

    Returns
    -------
    TiltRanking
        ``scores`` for signal, sharpness, likeness to the neighbours and, where an alignment is
        attached, shift; ``suspicious`` tilts and ``reasons``. ``print`` shows a table.

    Raises
    ------
    ValueError
        For fewer than three tilts, images without signal, an unknown model, or a lamella that
        stands on edge.

    Notes
    -----
    Gains that were known before are allowed for; gains estimated from the means are not, for
    they would hide what is wrong. Elemental maps are summed over the elements and smoothed. A
    bad tilt disturbs the likeness of its neighbours little, since each is compared with the
    more similar one of its two.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> x = np.arange(32); particle = np.exp(-((x - 16) ** 2 + (x[:, None] - 16) ** 2) / 40)
    >>> images = np.repeat(particle[None], 9, axis=0); images[3] *= 0.5
    >>> haadf = mt.TiltSeriesHAADF.from_images(images, tilts=np.arange(-40, 41, 10))
    >>> haadf.rank_tilts().suspicious
    array([-10.])
    """
    threshold = positive_number("threshold", threshold)
    data = as_recorded(series)
    images = data[0] if len(data) == 1 else data.sum(axis=0)
    tilts, known = series.tilts, known_gains(series)
    expected = expected_means(tilts, chosen_model(series, model))
    if known is not None:
        expected = expected * (known if known.ndim == 1 else known.mean(axis=1))
    alignment = series.alignment
    moved = {} if alignment is None else {"across": alignment.across, "along": alignment.along}
    measures = image_measures(images, tilts, blur=_MAP_BLUR if series.channels else _IMAGE_BLUR)
    return bad_tilts.rank_tilts(measures, tilts, expected=expected, threshold=threshold, **moved)


@checked
def drop_tilts(series, tilts):
    """Return the series without some of its tilts.

    Parameters
    ----------
    tilts : float or sequence of float
        Degrees, to a hundredth.

    Returns
    -------
    TiltSeriesHAADF, TiltSeriesEDS or TiltSeriesEELS
        A new series; what is known per tilt (gains, alignment, order of acquisition, gross
        counts ...) goes with it.

    Raises
    ------
    ValueError
        For a tilt that the series does not have, or fewer than two tilts left.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> haadf = mt.TiltSeriesHAADF.from_images(np.ones((4, 8, 8)), tilts=[-40, -10, 0, 40])
    >>> haadf.drop_tilts([-10]).tilts
    array([-40.,   0.,  40.])
    """
    present, wanted = series.tilts, np.atleast_1d(tilts)
    if wanted.dtype.kind not in "iuf":
        raise ValueError(f"tilts={tilts!r} must be a number of degrees, or several")
    wanted = wanted.astype(float)
    missing = wanted[match_tilts(wanted, present, ROUNDED_TILT) < 0]
    if missing.size:
        raise ValueError(f"the series has no tilts {missing}; it has {present}")
    keep = np.flatnonzero(match_tilts(present, wanted, ROUNDED_TILT) < 0)
    if keep.size < 2:
        raise ValueError(
            f"{keep.size} tilts would be left of {present.size}; a tilt series needs two or more"
        )
    axis = axis_named(series, "tilt")
    selected = (slice(None),) * axis.index_in_array + (keep,)
    copy = series._deepcopy_with_new_data(series.data[selected])
    shortened = axis_named(copy, "tilt")
    shortened.axis = present[keep]
    shortened.update_axis()
    keep_present(copy)
    add_step(copy, "drop_tilts", tilts=wanted)
    return copy


@checked
def check_dose_drift(
    series, haadf=None, *, model: str = "auto", threshold: float = 0.05
) -> DoseDrift:
    """Look at the signal against the order of acquisition.

    It shows loss of mass, contamination, and drift of the beam current.

    Parameters
    ----------
    haadf : TiltSeriesHAADF, optional
        For elemental maps: compare with the HAADF at the same tilts instead of a model. Then
        changes of the beam current cancel, and what is left is the loss of one element, or
        shadowing.
    model : {"auto", "constant", "lamella"}, default "auto"
        What the signal should be without a drift, as in `estimate_gains`.
    threshold : float, default 0.05
        Smallest change over the series, as a part of the signal, that matters.

    Returns
    -------
    DoseDrift
        ``change`` over the series and ``change_error`` of the HAADF or of each element;
        ``confounded`` where order and tilt go together. ``print`` shows it,
        `hyperspy_multitomo.inspection.plot_dose_drift` draws it.

    Raises
    ------
    ValueError
        Where the order of acquisition is not known, or for fewer than four tilts.

    Warns
    -----
    UserWarning
        Where a change exceeds both three standard errors and `threshold`.

    Notes
    -----
    Gains known before (live times, merged exposures) are allowed for. Gains that were estimated
    from the signal are not, since they hold the drift itself. In a series taken from one end to
    the other, order and tilt are the same, and shadowing, a specimen that leaves the view, or a
    wrong model look like a drift: the result and the warning say so.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> images = np.zeros((6, 40, 40))
    >>> images[:, 10:30, 10:30] = (1 - 0.005 * np.arange(6))[:, None, None]
    >>> haadf = mt.TiltSeriesHAADF.from_images(images, tilts=[0, 20, -20, 10, -10, 30])
    >>> print(haadf.check_dose_drift())
     HAADF: -2.5 ± 0.0 % from the first image to the last
    """
    threshold = positive_number("threshold", threshold)
    tilts, order, known = series.tilts, series.acquisition_order, known_gains(series)
    if order is None:
        raise ValueError("the order of acquisition is not known; load the images in that order")
    sums, named = tilt_sums(series), bool(series.channels)
    used = np.arange(len(tilts))
    if haadf is None:
        expected = expected_means(tilts, chosen_model(series, model))
    else:
        check_pair(series, haadf)
        places, other = haadf_at(tilts, haadf), known_gains(haadf)
        used = np.flatnonzero(places >= 0)
        expected = (tilt_sums(haadf)[0] / (1.0 if other is None else other))[places]
    if known is not None:
        expected = expected * known.T
    drift = fit_dose_drift(
        sums[:, used],
        expected[..., used],
        tilts[used],
        order[used],
        series.channels or ("HAADF",),
        variances=count_variances(series)[:, used] if named else None,
        threshold=threshold,
    )
    if drift.significant.any():
        changes = zip(drift.names, drift.change, drift.change_error, drift.significant, strict=True)
        found = [
            f"{name} {100 * value:+.0f} ± {100 * error:.0f} %"
            for name, value, error, flag in changes
            if flag
        ]
        caveat = (
            "; order and tilt went together, so that this may be shadowing or a wrong model"
            if drift.confounded
            else ""
        )
        warn(f"the signal changes from the first image to the last: {', '.join(found)}{caveat}")
    return drift

# SPDX-License-Identifier: GPL-3.0-or-later
"""Response ratios of elemental maps: fitted against the HAADF, attached, read again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_multitomo.acquisition.counts import are_whole
from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.composition import cross_sections
from hyperspy_multitomo.composition.particle.threshold import specimen_mask
from hyperspy_multitomo.composition.response import fit as response_fit
from hyperspy_multitomo.composition.response.fit import ResponseRatios
from hyperspy_multitomo.parameters import positive_number, whole_number
from hyperspy_multitomo.signals.masks import image_mask
from hyperspy_multitomo.signals.metadata.acquisition_settings import (
    beam_energy_of,
    efficiencies,
    lines_of,
)
from hyperspy_multitomo.signals.metadata.history import add_step
from hyperspy_multitomo.signals.metadata.recorded_arrays import NODE, grid, recall, record
from hyperspy_multitomo.signals.metadata.recorded_counts import check_counts_beside, why_no_counts
from hyperspy_multitomo.signals.methods.common_tilts import paired
from hyperspy_multitomo.signals.methods.panels import open_panel
from hyperspy_multitomo.signals.methods.ratio_slices import SomeSlices, some_slices

if TYPE_CHECKING:
    from hyperspy_multitomo.signals.haadf import TiltSeriesHAADF

# The parts of a fit of response ratios that are recorded per element and per tilt.
_PER_ELEMENT, _PER_TILT = ("standard_errors", "block_counts"), ("residual_per_tilt", "residual_map")


def get_response_ratios(series) -> ResponseRatios | None:
    """Return the attached response ratios, for the elements as they are now, or None."""
    values = recall(series, "ratios")
    if values is None:
        return None
    stored = series.metadata.get_item(f"{NODE}.ratio_fit").as_dictionary()
    # HAADF signal per count: counts of binned pixels are summed, the HAADF is averaged. Older
    # records do not say of which.
    binned = stored.pop("pixel_area", None)
    factor = 1.0 if binned is None else binned / _pixel_area(series)
    kept = {name: recall(series, f"ratios_{name}") for name in (*_PER_ELEMENT, *_PER_TILT)}
    values, kept["standard_errors"] = factor * values, factor * kept["standard_errors"]
    return ResponseRatios.from_dict(
        {**stored, **kept, "elements": series.channels, "values": values}
    )


@checked
def model_ratios(
    series,
    haadf_angles: tuple[float, float] | None = None,
    *,
    beam_energy: float | None = None,
    xray_lines: Sequence[str] | Mapping[str, str] | None = None,
    model: str = "cascade",
    efficiency=None,
) -> dict[str, float]:
    """Calculate the response ratios from cross sections, z_e / f_e, up to a common factor.

    Parameters
    ----------
    haadf_angles : (float, float), optional
        Inner and outer angle of the HAADF detector, mrad; without them all elastic scattering
        counts, which is rough.
    beam_energy, xray_lines, model, efficiency
        As in `TomographicVolume.quantify`.

    Returns
    -------
    dict of str to float
        By element. Only their relations mean something.

    Raises
    ------
    ValueError
        For a beam energy or lines that are not known, and energies or angles outside the
        tables.

    References
    ----------
    .. [1] Y. Yuan et al., Ultramicroscopy 220 (2021) 113166, eqs 15 and 16.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> maps = {"Au": np.ones((2, 4, 4)), "Ag": np.ones((2, 4, 4))}
    >>> eds = mt.TiltSeriesEDS.from_maps(maps, tilts=[0, 5])
    >>> ratios = eds.model_ratios((60, 200), beam_energy=100, xray_lines=["Au_Ma", "Ag_La"])
    >>> round(ratios["Au"] / ratios["Ag"], 2)
    0.97
    """
    lines, energy = (
        lines_of(series, series.channels, xray_lines),
        beam_energy_of(series, beam_energy),
    )
    return cross_sections.model_ratios(
        lines, energy, haadf_angles, model, efficiencies(lines, efficiency)
    )


@checked
def fit_response_ratios(
    series,
    haadf: TiltSeriesHAADF,
    *,
    method: str = "blocks",
    mask=None,
    block_size: int | None = None,
    min_counts: float = 50.0,
    rest: bool = False,
    prior: Mapping[str, float] | str | None = None,
    prior_strength: float = 1.0,
    haadf_angles: tuple[float, float] | None = None,
    slices: int | None = None,
    interactive: bool = False,
    display: bool = True,
    toolkit: str | None = None,
) -> ResponseRatios:
    """Fit the response ratios r_e of ``HAADF = sum_e r_e p_e`` and attach them.

    Parameters
    ----------
    haadf : TiltSeriesHAADF
        The HAADF series, of the same images; the tilts that both series have are used, one at
        least.
    method : {"blocks", "poisson"}, default "blocks"
        ``"blocks"`` sums pixels to blocks and takes the measured noise off; for maps of any
        scale, EELS maps included. ``"poisson"`` stays at the pixels and predicts each from its
        neighbours; for counts: better where phases are small or mixed, where counts are few,
        and beside one very weak element, for which blocks would be large.
    mask : array-like of bool, shape (tilt, y, x), optional
        Pixels to use; by default those where the HAADF stands out from its background.
    block_size : int, optional
        Side of the blocks of pixels (px); by default so large that the weakest element has
        `min_counts` in a block. R2 and the residuals are those of the blocks with either
        method.
    min_counts : float, default 50
        Counts of the weakest element in the mean block.
    rest : bool, default False
        Explain HAADF that no map explains by one more, non-negative channel, instead of letting
        it pull the ratios.
    prior : dict of str to float or "model", optional
        Relative ratios of two elements or more, for maps that are nearly dependent; ``"model"``
        takes those calculated from cross sections, `model_ratios`.
    prior_strength : float, default 1
        Weight of the prior against the data.
    haadf_angles : (float, float), optional
        For ``prior="model"``: inner and outer angle of the HAADF detector, mrad.
    slices : int, optional
        Fit to so many slices (pixels along y), in groups of 32 that are spread evenly over the
        series, and read no others. By default all of a series in memory, and 128 of a lazy one,
        or fewer where these would not fit in the memory.
    interactive : bool, default False
        Open a panel for these settings instead, which shows the fit and attaches it on demand.
    display : bool, default True
        With ``interactive``: show the panel, or return its widgets.
    toolkit : str, optional
        With ``interactive``: the GUI toolkit, by default as HyperSpy's preferences say.

    Returns
    -------
    ResponseRatios
        ``values``, ``standard_errors`` (from a bootstrap over the tilts, or parts of the views
        where there are fewer than eight), ``r2``, ``residual_per_tilt``, ``residual_map``,
        ``method``. With ``interactive`` None, or the widgets. Fitted to some slices, all are of
        these, and ``residual_map`` is NaN elsewhere; the history names them, (start, stop) of
        each group.

    Raises
    ------
    ValueError
        For series that do not fit together, all-zero or exactly dependent maps, data that are
        not finite, and for ``"poisson"`` on maps that are neither counts nor made from counts
        by `elemental_maps`.
    MemoryError
        Where not even 32 slices of a lazy series fit in the memory.

    Warns
    -----
    UserWarning
        Where R2 is below 0.9 (an element is missing), the ratio of an element comes out zero,
        or the maps have been smoothed or resampled.

    Notes
    -----
    Either method keeps the ratios from sagging at low counts, see
    `hyperspy_multitomo.composition.fit_response_ratios`. One very weak element makes the blocks
    so large that grains blur into each other; then pass ``block_size=8``, say, or
    ``method="poisson"``. Where both methods differ by more than their standard errors, the maps
    do not explain the HAADF. Fit before the maps are smoothed. Series that share their
    alignment are fitted as recorded, not resampled.

    References
    ----------
    .. [1] Z. Zhong et al., Ultramicroscopy 174 (2017) 35,
       https://doi.org/10.1016/j.ultramic.2016.12.008.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> expected = np.zeros((2, 5, 32, 32))
    >>> expected[0, :, 4:20, 4:28], expected[1, :, 12:28, 4:28] = 5.0, 8.0
    >>> counts = np.random.default_rng(0).poisson(expected)
    >>> eds = mt.TiltSeriesEDS.from_maps({"Au": counts[0], "Ag": counts[1]}, tilts=np.arange(5))
    >>> images = 40 * expected[0] + 10 * expected[1]
    >>> haadf = mt.TiltSeriesHAADF.from_images(images, tilts=np.arange(5))
    >>> eds.fit_response_ratios(haadf).values.round(-1)
    array([40., 10.])
    >>> eds.fit_response_ratios(haadf, method="poisson").values.round(-1)
    array([40., 10.])
    """
    if interactive:
        settings = {
            "method": method,
            "mask": mask,
            "block_size": block_size,
            "min_counts": min_counts,
            "rest": rest,
        }
        settings |= {
            "prior": prior,
            "prior_strength": prior_strength,
            "haadf_angles": haadf_angles,
        }
        return open_panel(
            "response_ratios", series, haadf, display=display, toolkit=toolkit, **settings
        )
    block_size = (
        None if block_size is None else whole_number("block_size", block_size, 1, "of pixels")
    )
    min_counts = positive_number("min_counts", min_counts, "of counts")
    prior_strength = positive_number("prior_strength", prior_strength)
    some = some_slices(series, slices)
    rows = slice(None) if some is None else some.rows
    if isinstance(prior, str):
        if prior != "model":
            raise ValueError(f"prior={prior!r} must be 'model' or a dict of element to number")
        present = (
            np.asarray(series.array("element", "tilt", "x", "y")[..., rows].sum(axis=(1, 2, 3))) > 0
        )
        prior = series.model_ratios(haadf_angles)
        prior = {
            name: prior[name]
            for name, counted in zip(series.channels, present, strict=True)
            if counted
        }
    elif haadf_angles is not None:
        raise ValueError(
            "haadf_angles= serves to calculate the prior: pass prior='model' with it, or leave "
            "it out"
        )
    fit = _fit(
        series,
        haadf,
        some,
        method=method,
        mask=mask,
        block_size=block_size,
        min_counts=min_counts,
        rest=rest,
        prior=prior,
        prior_strength=prior_strength,
    )
    attach_ratios(series, fit, prior, prior_strength, some)
    return fit


def _pixel_area(series) -> float:
    """Return how many pixels as they were loaded make one of the present ones."""
    return grid(series, "x")[1] * grid(series, "y")[1]


def attach_ratios(
    eds,
    fit: ResponseRatios,
    prior: Mapping[str, float] | None,
    prior_strength: float,
    some: SomeSlices | None = None,
) -> None:
    """Attach the response ratios of a fit to their series, and note the fit's settings."""
    record(eds, "ratios", fit.values, ("element",))
    stored = fit.as_dict()
    for name in _PER_ELEMENT:
        record(eds, f"ratios_{name}", stored[name], ("element",))
    for name in _PER_TILT:
        record(eds, f"ratios_{name}", stored[name], ("tilt",))
    kept = {name: stored[name] for name in ("r2", "block_size", "rest", "method")}
    eds.metadata.set_item(f"{NODE}.ratio_fit", kept | {"pixel_area": _pixel_area(eds)})
    add_step(
        eds,
        "fit_response_ratios",
        method=fit.method,
        ratios=dict(zip(eds.channels, fit.values, strict=True)),
        r2=fit.r2,
        block_size=fit.block_size,
        rest=fit.rest,
        prior=prior,
        prior_strength=prior_strength,
        **({} if some is None else {"slices": some.groups}),
    )


def _fit(eds, haadf, some: SomeSlices | None, *, mask, method, **options) -> ResponseRatios:
    """Fit over the tilts that both series have, to all slices or some."""
    # In one frame pixels correspond: no need to resample, which would correlate the noise of
    # neighbours.
    rows = None if some is None else some.rows
    pair = paired(eds, haadf, rows)
    if mask is not None:
        shape = eds.array("element", "tilt", "y", "x").shape[1:]
        mask = image_mask(mask, shape, "maps")[pair.tilts]
        mask = mask if rows is None else mask[..., rows]
    counts = _recorded_counts(pair.eds, pair.tilts, rows) if method == "poisson" else {}
    arrays = {"maps": pair.maps, "haadf": pair.haadf, "mask": mask}
    if some is not None:
        _check_counted(pair, len(rows))
        used = arrays["mask"] = specimen_mask(pair.haadf_without_gains) if mask is None else mask
        arrays = {name: some.with_gaps(array) for name, array in arrays.items()}
        counts = {
            name: some.with_gaps(array) if name == "gross" else array
            for name, array in counts.items()
        }
    fit = response_fit.fit_response_ratios(
        elements=eds.channels,
        method=method,
        gains=pair.gains,
        haadf_gains=pair.haadf_gains,
        **arrays,
        **counts,
        **options,
    )
    # One entry for each tilt of the maps; NaN where the HAADF has no such tilt.
    per_tilt = {"residual_per_tilt": fit.residual_per_tilt, "residual_map": fit.residual_map}
    if some is not None:
        whole, side = eds.array("element", "tilt", "x", "y").shape[3], fit.block_size
        images = pair.maps_without_gains, pair.haadf_without_gains, used
        per_tilt["residual_map"] = some.residual_map(*images, fit.values, side, whole)
    for name, values in per_tilt.items():
        per_tilt[name] = np.full((len(eds.tilts), *values.shape[1:]), np.nan, values.dtype)
        per_tilt[name][pair.tilts] = values
    return dataclasses.replace(fit, **per_tilt)


def _check_counted(pair, slices: int) -> None:
    """Raise an error where the slices that are looked at hold nothing of an element."""
    empty = [
        name for name, maps in zip(pair.eds.channels, pair.maps, strict=True) if not maps.any()
    ]
    if empty:
        raise ValueError(
            f"there is nothing of {', '.join(empty)} in the {slices} slices that were looked at; "
            "pass slices= with more of them, "
            "or leave these elements out"
        )


def _recorded_counts(eds, tilts: np.ndarray, rows: np.ndarray | None) -> dict[str, np.ndarray]:
    """Return gross counts and window shares of some tilts in the numerics' axis order.

    Nothing where none were recorded.
    """
    if (why := why_no_counts(eds)) is not None:
        raise ValueError(
            f"method='poisson' needs counts, but these maps are none ({why}); use method='blocks'"
        )
    check_counts_beside(eds)
    rows, gross = slice(None) if rows is None else rows, eds.gross
    if gross is None:
        if getattr(eds, "transmission", None) is None:
            return {}
        # Evened maps are no whole numbers any more, but those that were counted are.
        recorded = np.asarray(eds.array("element", "tilt", "x", "y")[:, tilts][..., rows])
        return {"gross": recorded.astype(np.float32, copy=False)} if are_whole(recorded) else {}
    counts = {"gross": np.asarray(gross.transpose(1, 0, 3, 2)[:, tilts][..., rows])}
    if eds.window_share is not None:
        counts["window_share"] = eds.window_share.T[:, tilts]
    return counts

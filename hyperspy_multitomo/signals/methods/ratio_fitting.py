# SPDX-License-Identifier: GPL-3.0-or-later
"""Response ratios of elemental maps: fitted against the HAADF, attached, read again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_multitomo.acquisition.counts import are_whole
from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.composition import cross_sections
from hyperspy_multitomo.composition.particle.threshold import specimen_mask
from hyperspy_multitomo.composition.response import fit as response_fit
from hyperspy_multitomo.composition.response.fit import ResponseRatios
from hyperspy_multitomo.composition.response.ratio_prior import WIDTH
from hyperspy_multitomo.deprecation import deprecated_keyword
from hyperspy_multitomo.machine.notices import warn
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
from hyperspy_multitomo.signals.methods.ratio_priors import calculated_prior
from hyperspy_multitomo.signals.methods.ratio_slices import SomeSlices, some_slices

if TYPE_CHECKING:
    from hyperspy_multitomo.signals.haadf import TiltSeriesHAADF

# The parts of a fit of response ratios that are recorded per element and per tilt.
_PER_ELEMENT = ("standard_errors", "block_counts", "calculated", "prior_values")
_PER_TILT = ("residual_per_tilt", "residual_map")
# Those that are HAADF signal per count.
_PER_COUNT = ("standard_errors", "prior_values")


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
    # Records of older versions have no prior.
    kept |= {name: factor * kept[name] for name in _PER_COUNT if kept[name] is not None}
    return ResponseRatios.from_dict(
        {**stored, **kept, "elements": series.channels, "values": factor * values}
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
    prior: Mapping[str, float] | str | None = "auto",
    prior_width: float | Mapping[str, float] | None = None,
    prior_strength: float | None = None,
    haadf_angles: tuple[float, float] | None = None,
    efficiency=None,
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
        `min_counts` in a block, with a prior the weakest of those that it expects to make 0.5 %
        of the HAADF. R2 and the residuals are those of the blocks with either method.
    min_counts : float, default 50
        Counts of the weakest element in the mean block.
    rest : bool, default False
        Explain HAADF that no map explains by one more, non-negative channel, instead of letting
        it pull the ratios.
    prior : {"auto", "model"}, dict of str to float or None, default "auto"
        What to expect of the ratios, relative to each other, where the HAADF does not decide
        them. ``"auto"`` calculates it from cross sections where beam energy and X-ray lines are
        known (`model_ratios`), and fits without it elsewhere; with ``"model"`` that is an error.
        A dict has ratios of your own, of two elements or more. None is least squares alone: a
        ratio below twice its standard error is then set to 0.
    prior_width : float or dict of str to float, optional
        Standard deviation of the logarithm of each expected ratio: 0.3 is 30 %. By default that
        of cross sections, 30 %; a factor of three, log(3), for lines below 1 keV without
        `efficiency`, and for all where the angles of the HAADF detector are not known.
    prior_strength : float, optional
        Deprecated: the weight of an expected ratio against all data of its element, which pulls
        ratios that the data decide, too.
    haadf_angles : (float, float), optional
        For a calculated prior: inner and outer angle of the HAADF detector, mrad. By default
        those of the HAADF's metadata; 60 to 200 mrad where there are none.
    efficiency : float, dict of str to float or callable, optional
        For a calculated prior: the fraction of the photons that the X-ray detector counts, one
        for all lines, by element or line, or a function of the energies in keV such as
        ``functools.partial(mt.composition.efficiency, window="AP3.3")``. By default 1.
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
        ``values``, ``standard_errors`` (from the scatter between tilts, or parts of the views
        where there are fewer than eight, and the prior's width), ``sources`` (whether each is
        measured or calculated), ``prior_values``, ``r2``, ``residual_per_tilt``,
        ``residual_map``, ``method``. Printed, it is a table. With ``interactive`` None, or the
        widgets. Fitted to some slices, all are of these, and ``residual_map`` is NaN elsewhere;
        the history names them, (start, stop) of each group.

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
        Where R2 is below 0.9 (an element is missing), ratios are calculated rather than
        measured, the ratio of an element comes out zero, the HAADF does not decide the ratios and
        no prior could be calculated, or the maps have been smoothed or resampled.

    Notes
    -----
    Either method keeps the ratios from sagging at low counts, see
    `hyperspy_multitomo.composition.fit_response_ratios`. One very weak element makes the blocks
    so large that grains blur into each other; then pass ``block_size=8``, say, or
    ``method="poisson"``. Where both methods differ by more than their standard errors, the maps
    do not explain the HAADF. Fit before the maps are smoothed. Series that share their
    alignment are fitted as recorded, not resampled.

    The prior is a Gaussian on the logarithms of the ratios, against the covariance of the fit. A
    ratio that the data determine to 10 % is moved by less than 0.3 of its standard errors by a
    prior that is wrong by a factor of four (simulated, ``benchmarks/ratio_prior.py``); where two
    maps depend on one another, only what they leave open follows the prior. The common factor, in
    which the gain of the HAADF is, comes from the ratios that the data decide. An element whose
    ratio is calculated is in the HAADF as much as theory says: look at its standard error.

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
            "prior_width": prior_width,
            "prior_strength": prior_strength,
            "haadf_angles": haadf_angles,
            "efficiency": efficiency,
        }
        return open_panel(
            "response_ratios", series, haadf, display=display, toolkit=toolkit, **settings
        )
    block_size = (
        None if block_size is None else whole_number("block_size", block_size, 1, "of pixels")
    )
    min_counts = positive_number("min_counts", min_counts, "of counts")
    some = some_slices(series, slices)
    expected, why_not = _expected(
        series, haadf, prior, prior_width, prior_strength, haadf_angles, efficiency
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
        **expected,
    )
    attach_ratios(series, fit, expected, some)
    if why_not and len(series.channels) > 1 and _undecided(fit):
        warn(
            f"no response ratio could be calculated, because {why_not}; those that the HAADF does "
            "not decide are left to least squares. Pass prior={element: relative ratio}, or None "
            "to go without"
        )
    return fit


def _expected(
    series, haadf, prior, width, strength, angles, efficiency
) -> tuple[dict[str, Any], str]:
    """Return the keywords of the prior for the numerics, and why there is none, or ""."""
    if strength is not None and prior in (None, "auto"):
        deprecated_keyword("prior_strength=", "0.2", "prior_width=")
        positive_number("prior_strength", strength)
    if not isinstance(prior, str):
        for name, value in (("haadf_angles", angles), ("efficiency", efficiency)):
            if value is not None:
                raise ValueError(
                    f"{name}= serves to calculate the prior: pass prior='auto' or 'model' with it, "
                    "or leave it out"
                )
        return _keywords(prior, width, strength), ""
    if prior not in ("auto", "model"):
        raise ValueError(
            f"prior={prior!r} must be 'auto', 'model', a dict of element to number, or None"
        )
    if strength is not None and prior == "model":
        # As before the widths, all elastic scattering where no angles are given.
        return _keywords(series.model_ratios(angles, efficiency=efficiency), None, strength), ""
    found = calculated_prior(series, haadf, angles, efficiency)
    if prior == "model" and found.ratios is None:
        raise ValueError(
            f"no response ratio could be calculated, because {found.why_not}; set what is missing "
            "in the metadata, pass prior={element: relative ratio}, or leave prior= out"
        )
    # One element alone has nothing to be relative to.
    ratios = found.ratios if len(series.channels) > 1 else None
    return _keywords(ratios, found.widths if width is None else width, None), found.why_not


def _keywords(ratios, width, strength) -> dict[str, Any]:
    """Return the keywords of a prior, those that are not given left out."""
    keywords = {"prior": ratios}
    if ratios is not None and width is not None:
        keywords["prior_width"] = width
    if ratios is not None and strength is not None:
        keywords["prior_strength"] = strength
    return keywords


def _undecided(fit: ResponseRatios) -> bool:
    """Return whether the errors of a ratio are as large as those of a calculated one."""
    return bool(
        (fit.standard_errors[fit.block_counts > 0] > WIDTH * fit.values[fit.block_counts > 0]).any()
    )


def _pixel_area(series) -> float:
    """Return how many pixels as they were loaded make one of the present ones."""
    return grid(series, "x")[1] * grid(series, "y")[1]


def attach_ratios(
    eds, fit: ResponseRatios, prior: Mapping[str, Any], some: SomeSlices | None = None
) -> None:
    """Attach the response ratios of a fit to their series, and note the keywords of its prior."""
    record(eds, "ratios", fit.values, ("element",))
    for name in _PER_ELEMENT:
        record(eds, f"ratios_{name}", getattr(fit, name), ("element",))
    for name in _PER_TILT:
        record(eds, f"ratios_{name}", getattr(fit, name), ("tilt",))
    kept = {name: getattr(fit, name) for name in ("r2", "block_size", "rest", "method")}
    eds.metadata.set_item(f"{NODE}.ratio_fit", kept | {"pixel_area": _pixel_area(eds)})
    add_step(
        eds,
        "fit_response_ratios",
        method=fit.method,
        ratios=dict(zip(eds.channels, fit.values, strict=True)),
        r2=fit.r2,
        block_size=fit.block_size,
        rest=fit.rest,
        calculated=[name for name, source in fit.sources.items() if source == "calculated"],
        **prior,
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

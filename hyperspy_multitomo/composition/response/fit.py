# SPDX-License-Identifier: GPL-3.0-or-later
"""Fit of response ratios: HAADF signal per count of each element."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.composition.particle.threshold import specimen_mask
from hyperspy_multitomo.composition.response.block_equations import (
    block_equations,
    explained_blocks,
)
from hyperspy_multitomo.composition.response.blocks import (
    block_side,
    bootstrap_tile,
    noise_correlation,
    noise_covariance,
    sum_blocks,
)
from hyperspy_multitomo.composition.response.fit_quality import assess, deviation, fit_warnings
from hyperspy_multitomo.composition.response.neighbours import instrument_equations
from hyperspy_multitomo.composition.response.ratio_prior import (
    FEWEST_GROUPS,
    WIDTH,
    LogPrior,
    NoPositiveFactor,
    PriorFit,
    checked_prior,
    fit_with_prior,
)
from hyperspy_multitomo.composition.response.ratios import ResponseRatios
from hyperspy_multitomo.composition.response.regression import (
    ErrorsInVariables,
    check_independent,
    prior_terms,
    significant_ratios,
)
from hyperspy_multitomo.deprecation import deprecated_keyword
from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.parameters import positive_number, whole_number
from hyperspy_multitomo.tomography.scaling import roomy

__all__ = ["ResponseRatios", "fit_response_ratios"]

METHODS = ("blocks", "poisson")
# Part of the HAADF that the prior expects of an element below which its ratio is left to the prior,
# and the size of the blocks is not set by its few counts. On the dust particle idp_l2083 the parts
# are either above 1 % or below 0.2 %.
FAINT = 0.005


def fit_response_ratios(
    maps: ArrayLike,
    haadf: ArrayLike,
    elements: Sequence[str],
    *,
    method: str = "blocks",
    gross: ArrayLike | None = None,
    window_share: ArrayLike | None = None,
    gains: ArrayLike | None = None,
    haadf_gains: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    block_size: int | None = None,
    min_counts: float = 50.0,
    rest: bool = False,
    prior: Mapping[str, float] | None = None,
    prior_width: float | Mapping[str, float] = WIDTH,
    prior_strength: float | None = None,
    n_bootstrap: int = 200,
    seed: int | None = 0,
) -> ResponseRatios:
    """Fit h = sum_e r_e p_e, r_e >= 0, to the pixels of all tilts, or of a single view.

    Counts are noisy regressors, which biases ordinary least squares towards 0. Both methods are
    unbiased as long as the noise is independent from pixel to pixel: fit before the maps are
    smoothed or resampled.

    ``"blocks"`` sums the pixels to blocks with enough counts and subtracts the noise covariance of
    the counts, measured from differences between neighbouring pixels, from the normal equations:
    (P'P - N) r = P'h - c, with c the same differences of the HAADF, so that edges and grains are
    not taken for noise. Maps may have any scale. Grains smaller than the blocks are averaged. All
    blocks have the same weight.

    ``"poisson"`` uses single pixels: h - r'p is multiplied by counts predicted from the
    neighbouring pixels, so that the noise drops out whatever its distribution, and pixels are
    weighted by the Poisson variance of the gross counts. It is better for counts: for small or
    mixed phases, for few counts, and with one very weak element.

    Parameters
    ----------
    maps : array_like (channel, tilt, x, y)
        Net counts; single pixels may be negative.
    haadf : array_like (tilt, x, y)
        HAADF at the same tilts and pixels, zero in vacuum.
    elements : sequence of str
        Names of the channels.
    method : {"blocks", "poisson"}, default "blocks"
        See above and Notes.
    gross : array_like (channel, tilt, x, y), optional
        For ``"poisson"``: recorded counts with the background, of which `maps` are the net counts.
        By default the maps themselves, which then have to be counts.
    window_share : array_like (channel, tilt), optional
        For ``"poisson"``: gross = window_share * maps + background on average; 1 by default.
    gains : array_like (tilt,) or (channel, tilt), optional
        Factors on the recorded maps (live time, shadowing): counts = gain x model. 1 by default.
    haadf_gains : array_like (tilt,), optional
        The same for the HAADF.
    mask : array_like of bool (tilt, x, y) or (x, y), optional
        Pixels to use. By default all but the background, see `specimen_mask`. It must not be
        selected by the counts, which would bias the ratios.
    block_size : int, optional
        Side of the blocks, px. By default the smallest for which the mean block has `min_counts` of
        the weakest element, with a prior of the weakest of which it expects 0.5 % of the HAADF. R2
        and the residuals are those of the blocks with either method.
    min_counts : float, default 50
        Counts of the weakest element in the mean block.
    rest : bool, default False
        Allow HAADF signal >= 0 that no map explains: blocks that are much brighter than the model
        are ignored.
    prior : mapping of str to float, optional
        Expected relative ratios {element: q_e} of two elements or more, up to a common factor s > 0
        that is fitted, such as those of `model_ratios`. Where the data decide they have no effect;
        where two maps depend on one another, only what these leave open follows them. See Notes.
    prior_width : float or mapping of str to float, default 0.3
        Standard deviation of log r_e about log(s q_e), of each element: 0.3 is 30 %, log(3) a
        factor of three.
    prior_strength : float, optional
        Deprecated: adds the rows prior_strength * sqrt(sum p_e^2) * (r_e - s q_e) = 0 instead,
        which with 1 have the weight of all data of an element and pull decisive data, too.
    n_bootstrap : int, default 200
        Resamplings for the standard errors without a prior; 0 gives NaN. Tilts are resampled, or
        parts of the views if there are fewer than eight tilts.
    seed : int or None, default 0
        Of the bootstrap.

    Returns
    -------
    ResponseRatios

    Raises
    ------
    ValueError
        For arrays that do not fit together, values that are not finite, maps without counts, maps
        of which one is a sum of the others, a bad prior, an unknown method, or ``"poisson"``
        without counts.

    Warns
    -----
    UserWarning
        If R2 < 0.9, if a ratio is 0 or calculated, if two elements cannot be distinguished within
        the noise and have no prior, if the view is too small for blocks of `min_counts` or for a
        prior, or if the noise of neighbouring pixels is correlated (smoothed or resampled maps;
        never for maps of whole numbers).

    Notes
    -----
    The model of ``"poisson"`` is gross ~ Poisson(share gain lambda + background) and h = r'lambda +
    noise. Maximum likelihood over r and the unknown lambda of every pixel is not consistent with
    two or more elements (Neyman and Scott, 1948), because the number of unknowns grows with the
    data. The estimating equations sum_i w_i z_i (h_i - r'p_i) = 0 are consistent if z_i and w_i do
    not contain the noise of pixel i: z_i is the best linear prediction of p_i from means over its
    neighbours, and w_i the inverse of the variance of h_i - r'p_i plus its mean. The noise that the
    first stage fits is subtracted with the measured covariance. The variance of the maps affects
    only the efficiency; it may be wrong, e.g. for maps from a fit of overlapping lines.

    A prior is a Gaussian on the logarithms of the ratios, set against the likelihood that the
    scatter of the equations between the groups of the bootstrap gives the data. The factor s is the
    mean of log r_e/q_e over the elements that the data determine better than the prior does; where
    these scatter by more than their widths, all widths are increased. An element that the data
    determine to a relative error d has a width of w sqrt(1 + (w/d)^2). The standard errors are then
    those of data and prior together, and include the error of s.

    Where the maps explain the HAADF, both methods estimate the same ratios. Where they do not
    (diffraction, a missing element), the two compromises may differ by more than the standard
    errors. Bias and scatter on simulated series are tabulated in the documentation (response
    ratios).

    References
    ----------
    Z. Zhong, B. Goris, R. Schoenmakers, S. Bals, K.J. Batenburg, Ultramicroscopy 174 (2017) 35,
    sec. 2.2, doi:10.1016/j.ultramic.2016.12.008. W.A. Fuller, Measurement Error Models (Wiley,
    1987), ch. 2. J. Neyman, E.L. Scott, Econometrica 16 (1948) 1, doi:10.2307/1914288.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> expected = np.zeros((2, 3, 32, 32))
    >>> expected[0, :, 4:20, 4:28] = 5.0; expected[1, :, 12:28, 4:28] = 8.0
    >>> haadf = 40.0 * expected[0] + 10.0 * expected[1]
    >>> ratios = fit_response_ratios(rng.poisson(expected), haadf, ["Au", "Ag"])
    >>> ratios.elements, ratios.values.round(-1)
    (('Au', 'Ag'), array([40., 10.]))
    >>> counts = rng.poisson(expected)
    >>> fit_response_ratios(counts, haadf, ["Au", "Ag"], method="poisson").values.round(-1)
    array([40., 10.])
    """
    if method not in METHODS:
        raise ValueError(f"method={method!r} must be one of {', '.join(map(repr, METHODS))}")
    block_size = (
        None if block_size is None else whole_number("block_size", block_size, 1, "of pixels")
    )
    min_counts = positive_number("min_counts", min_counts, "of counts")
    if prior_strength is not None:
        deprecated_keyword("prior_strength=", "0.2", "prior_width=")
        prior_strength = positive_number("prior_strength", prior_strength)
    n_bootstrap = whole_number("n_bootstrap", n_bootstrap, 0, "of resamplings")
    recorded = np.asarray(maps)
    maps, haadf = _checked_series(maps, haadf, elements, gains, haadf_gains)
    unit = float(roomy(max(haadf.max(), -haadf.min())))
    haadf = haadf if unit == 1 else haadf / np.float32(unit)
    elements = tuple(elements)
    variance = (
        _poisson_variance(recorded, gross, window_share, gains, elements)
        if method == "poisson"
        else None
    )
    mask = _checked_mask(mask, haadf)
    present = np.array([channel[mask].sum(dtype=np.float64) for channel in maps])
    used = _used_channels(maps, present, elements)
    names = [elements[i] for i in used]
    relative = checked_prior(elements, prior, prior_width, names)
    log_prior = None
    if relative is not None and prior_strength is None:
        log_prior = LogPrior.of(names, relative, prior_width)
    side, capped = (
        block_side(_weakest(present[used], log_prior), mask, min_counts)
        if block_size is None
        else (block_size, False)
    )
    chosen = maps[used] if len(used) < len(maps) else maps
    blocks = sum_blocks(chosen, haadf, mask, side)
    rows = None if log_prior is not None else relative
    prior_matrix = prior_terms(names, rows, prior_strength, (blocks.counts**2).sum(axis=0))
    known = np.zeros(len(names), bool) if log_prior is None else log_prior.known
    check_independent(blocks.counts, prior_matrix, names, known)

    weights = explained_blocks(chosen, haadf, mask, blocks, prior_matrix) if rest else None
    tile = bootstrap_tile(mask, side)
    equations: ErrorsInVariables
    if variance is None:
        equations = block_equations(chosen, haadf, mask, blocks, weights, tile)
    else:
        fitted = (
            mask
            if weights is None
            else mask & _pixels_of(blocks.as_map(weights) > 0, side, mask.shape)
        )
        equations = instrument_equations(chosen, variance[used], haadf, fitted, tile)
        prior_matrix = prior_terms(names, rows, prior_strength, np.diag(equations.sums()[0]))
    found = _solved(equations, log_prior, prior_matrix, n_bootstrap, seed)
    solution = found.values
    values, errors, block_counts = np.zeros((3, len(elements)))
    values[used], errors[used] = unit * solution, unit * found.errors
    block_counts[used] = blocks.counts.mean(axis=0)
    calculated, expected = np.zeros(len(elements), bool), np.full(len(elements), np.nan)
    calculated[used], expected[used] = found.calculated, unit * found.expected
    fit = assess(blocks, solution, weights)
    fit["residual_map"] *= np.float32(unit)
    ratios = ResponseRatios(
        elements=elements,
        values=values,
        standard_errors=errors,
        **fit,
        block_size=side,
        block_counts=block_counts,
        rest=bool(rest),
        method=method,
        calculated=calculated,
        prior_values=expected,
    )
    correlation = (
        0.0 if any(_is_count(recorded[i]) for i in used) else noise_correlation(chosen, mask)
    )
    alike = [names[i] for i in equations.indistinct(prior_matrix) if not known[i]]
    kept = None if weights is None else np.nan_to_num(blocks.as_map(weights))
    noise = float(solution @ noise_covariance(chosen, mask, side, kept).sum(axis=0) @ solution)
    noise_part = noise / (deviation(blocks, weights) ** 2).sum()
    for message in fit_warnings(
        ratios, alike, noise_part, min_counts if capped else None, correlation
    ):
        warn(message)
    return ratios


def _weakest(counts: np.ndarray, prior: LogPrior | None) -> float:
    """Return the counts of the weakest channel of those that are bright enough to be measured."""
    if prior is None:
        return counts.min()
    signal = counts * prior.expected
    return counts[~(signal < FAINT * np.nansum(signal))].min()


def _solved(
    equations: ErrorsInVariables,
    log_prior: LogPrior | None,
    prior_matrix: np.ndarray | None,
    n_bootstrap: int,
    seed: int | None,
) -> PriorFit:
    """Return the ratios, with the prior or without one."""
    if log_prior is not None and equations.groups >= FEWEST_GROUPS:
        try:
            return fit_with_prior(equations, log_prior)
        except NoPositiveFactor as error:
            warn(f"the prior is left out: {error}")
    elif log_prior is not None:
        warn(
            f"the prior is left out: there are {equations.groups} tilts or parts of views to "
            f"measure the errors of the fit, fewer than {FEWEST_GROUPS}"
        )
    values, errors = significant_ratios(equations, prior_matrix, n_bootstrap, seed)
    return PriorFit(values, errors, np.full(len(values), np.nan), np.zeros(len(values), bool))


def _pixels_of(blocks: np.ndarray, side: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return values of blocks (tilt, block x, block y) for each pixel (tilt, x, y)."""
    return blocks.repeat(side, axis=1).repeat(side, axis=2)[:, : shape[1], : shape[2]]


def _is_count(channel: np.ndarray) -> bool:
    """Return whether a map has only whole numbers from 0 up: not smoothed, resampled or scaled."""
    return bool((channel >= 0).all() and (channel == np.rint(channel)).all())


def _poisson_variance(
    maps: np.ndarray,
    gross: ArrayLike | None,
    window_share: ArrayLike | None,
    gains: ArrayLike | None,
    elements: tuple[str, ...],
) -> np.ndarray:
    """Return an unbiased estimate of the variance of maps/gains from the recorded counts.

    It is (channel, tilt, x, y).
    """
    if gross is None:
        counts = [_is_count(channel) for channel in maps]
        if not all(counts):
            others = ", ".join(
                element for element, is_count in zip(elements, counts, strict=True) if not is_count
            )
            raise ValueError(
                f"method='poisson' needs counts, but the maps of {others} are not whole numbers "
                "from 0 up (scaled, smoothed, "
                "resampled, or net of a background) and come without gross counts; pass gross= and "
                "window_share=, or take "
                "method='blocks'"
            )
        gross = maps
    gross = np.asarray(gross)
    if gross.shape != maps.shape or not np.isfinite(gross).all() or gross.min() < 0:
        raise ValueError(
            f"gross has shape {gross.shape}; expected recorded counts, finite and from 0 up, of "
            f"shape {maps.shape}"
        )
    factor = np.ones(maps.shape[:2])
    if window_share is not None:
        window_share = np.asarray(window_share, dtype=np.float64)
        if window_share.shape != factor.shape or not (
            np.isfinite(window_share).all() and (window_share > 0).all()
        ):
            raise ValueError(
                f"window_share has shape {window_share.shape}; expected positive shares of shape "
                f"{factor.shape} (channel, tilt)"
            )
        factor = factor * window_share
    if gains is not None:
        factor = factor * _checked_gains("gains", gains, factor.shape)
    return (gross / (factor**2)[..., None, None]).astype(np.float32)


def _checked_series(
    maps: ArrayLike,
    haadf: ArrayLike,
    elements: Sequence[str],
    gains: ArrayLike | None,
    haadf_gains: ArrayLike | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Check the series and divide by the gains, so that both are proportional to the mass."""
    maps, haadf = np.asarray(maps), np.asarray(haadf)
    if maps.ndim != 4 or haadf.ndim != 3 or maps.shape[1:] != haadf.shape:
        raise ValueError(
            f"the maps have shape {maps.shape} and the HAADF {haadf.shape}; expected (channel, "
            "tilt, x, y) and (tilt, x, y) of "
            "equal tilts and pixels: crop or rebin one to the other"
        )
    if isinstance(elements, str) or len(elements) != len(maps) or len(set(elements)) != len(maps):
        raise ValueError(
            f"there are {len(maps)} maps but the elements are {elements!r}; give each map one name "
            "of its own"
        )
    if haadf.size == 0:
        raise ValueError(f"the HAADF has shape {haadf.shape}: there is no view to fit")
    if not (np.isfinite(maps).all() and np.isfinite(haadf).all()):
        raise ValueError(
            "the maps or the HAADF hold NaN or infinite values; repair or leave out those tilts"
        )
    if haadf.min() == haadf.max():
        raise ValueError(f"the HAADF is {haadf.min()} everywhere; there is nothing to fit")
    if gains is not None:
        maps = maps / _checked_gains("gains", gains, maps.shape[:2])[..., None, None].astype(
            np.float32
        )
    if haadf_gains is not None:
        haadf = haadf / _checked_gains("haadf_gains", haadf_gains, haadf.shape[:1])[
            :, None, None
        ].astype(np.float32)
    return maps, haadf


def _checked_gains(name: str, gains: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    gains = np.asarray(gains, dtype=np.float64)
    if gains.shape not in (shape, shape[-1:]):
        raise ValueError(
            f"{name} has shape {gains.shape}; expected one gain per tilt, {shape[-1:]}, or {shape}"
        )
    if not (np.isfinite(gains).all() and (gains > 0).all()):
        raise ValueError(
            f"{name} has to be positive and finite; leave tilts without signal out instead"
        )
    return np.broadcast_to(gains, shape)


def _checked_mask(mask: ArrayLike | None, haadf: np.ndarray) -> np.ndarray:
    if mask is None:
        return specimen_mask(haadf)
    mask = np.asarray(mask)
    if mask.dtype != bool or mask.shape not in (haadf.shape, haadf.shape[1:]):
        raise ValueError(
            f"the mask is {mask.dtype} of shape {mask.shape}; expected bool of shape {haadf.shape} "
            f"or {haadf.shape[1:]}"
        )
    if not mask.any():
        raise ValueError("the mask leaves no pixel to fit")
    return np.broadcast_to(mask, haadf.shape)


def _used_channels(maps: np.ndarray, present: np.ndarray, elements: tuple[str, ...]) -> list[int]:
    """Return the channels with counts; a net map with a sum below 0 is left out, with ratio 0."""
    empty = [element for element, channel in zip(elements, maps, strict=True) if not channel.any()]
    if empty:
        raise ValueError(f"the map(s) of {', '.join(empty)} are all zero; leave these elements out")
    used = [i for i, counts in enumerate(present) if counts > 0]
    if not used:
        raise ValueError(
            "no map has a positive sum over the specimen; were the maps background-subtracted too "
            "far?"
        )
    return used

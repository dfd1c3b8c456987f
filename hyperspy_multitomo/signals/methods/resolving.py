# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolution of a volume: widths of its edges, and agreement of volumes of halves of its data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_multitomo.arguments import checked, real
from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.machine.progress import progress_bar
from hyperspy_multitomo.reconstruction.cgls import CGLS
from hyperspy_multitomo.reconstruction.em import EM
from hyperspy_multitomo.reconstruction.fbp import FBP
from hyperspy_multitomo.reconstruction.hebt import HEBT
from hyperspy_multitomo.reconstruction.recipe import Recipe
from hyperspy_multitomo.reconstruction.recipes import recipe_of_step
from hyperspy_multitomo.reconstruction.run import solve
from hyperspy_multitomo.reconstruction.sirt import SIRT
from hyperspy_multitomo.signals.masks import mask_array
from hyperspy_multitomo.signals.metadata.length_axes import in_nm
from hyperspy_multitomo.signals.metadata.recorded_arrays import axis_named
from hyperspy_multitomo.signals.methods.exporting import channel_arrays
from hyperspy_multitomo.signals.methods.halves import parts_by_counts, parts_by_tilts
from hyperspy_multitomo.signals.methods.reconstruct import Call
from hyperspy_multitomo.signals.methods.rerun import last_reconstruction, verified_call

if TYPE_CHECKING:
    from hyperspy_multitomo.evidence.edge_width import EdgeWidths
    from hyperspy_multitomo.evidence.resolution import Resolution

# Methods without a prior that halves would share.
_PLAIN = (FBP, SIRT, EM, CGLS, HEBT)
_HALVES = ("both", "counts", "tilts")


@checked
def edge_width(volume, channels: str | Sequence[str] | None = None, *, mask=None) -> EdgeWidths:
    """Measure how wide the edges of each channel are along x, y and z.

    Error functions are fitted to profiles across its outline: the blur by the probe, alignment,
    method and missing wedge, whatever the regulariser. It is the resolution as far as the edges
    of the object itself are sharp.

    Parameters
    ----------
    channels : str or sequence of str, optional
        Which to measure; by default all.
    mask : array-like of bool or signal, shape (z, y, x), optional
        Where the outline counts, such as one particle of several.

    Returns
    -------
    EdgeWidths
        From 10 to 90 % of the edge in nm (px without calibration), with standard errors and the
        number of profiles; prints as a table, and has ``widths`` and ``plot()``.

    Raises
    ------
    ValueError
        For channels that are not there, a composition (its edges are those of the mask), a mask of
        another shape, or where no channel has an outline.

    Warns
    -----
    UserWarning
        Of channels without an outline: empty or even ones, and those that noise breaks up.

    Notes
    -----
    See `hyperspy_multitomo.evidence.edge_widths` for the fit. Simulated balls, cubes and rough
    balls that were blurred by 1 to 6 px come out within 10 %, along axes that their faces cross at
    right angles; also with white noise of a fifth of the contrast. With noise of a third of the
    contrast those blurred by 1 or 2 px come out up to a quarter too narrow; with noise of more than
    half of it, or a standard error of more than a third, the width is NaN. A blur with a standard
    deviation of 1 px has 2.56 px from 10 to 90 %. Edges of layers thinner than the blur have no
    plateaus and are left out, or come out too narrow.

    Of a lazy volume one channel is computed at a time.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> from scipy.ndimage import gaussian_filter
    >>> cube = np.zeros((40, 40, 40)); cube[10:30, 10:30, 10:30] = 1.0
    >>> gold = {"Au": gaussian_filter(cube, 2.0)}
    >>> volume = mt.TomographicVolume.from_arrays(gold, pixel_size=0.5)
    >>> round(volume.edge_width().widths["Au"]["x"], 1)
    2.5
    """
    from hyperspy_multitomo.evidence.edge_width import (
        NO_EDGES,
        EdgeWidths,
        NoOutlineError,
        edge_widths,
    )

    if volume.quantity.endswith("percent"):
        raise ValueError(
            f"this volume holds {volume.quantity}, whose edges are those of the mask: measure the "
            "volume that quantify() was called of"
        )
    names, volumes, _ = channel_arrays(volume, channels)
    spacing, unit = _voxels(volume)
    region = None if mask is None else mask_array(mask, volumes.shape[1:])
    fits, reasons = {}, {}
    for name, one in zip(names, volumes, strict=True):
        try:
            fits[name] = edge_widths(np.asarray(one), spacing, region)
        except NoOutlineError as error:
            reasons[name] = str(error)
            fits[name] = dict.fromkeys(("x", "y", "z"), NO_EDGES)
    if len(reasons) == len(names):
        raise ValueError(
            "no channel has an outline whose edges could be measured: "
            + "; ".join(f"{name}: {why}" for name, why in reasons.items())
        )
    if reasons:
        warn("; ".join(f"{name} has no edges: {why}" for name, why in reasons.items()))
    return EdgeWidths(tuple(names), fits, unit, reasons)


@checked(threshold=real)
def resolution_of_maps(
    series,
    volume,
    haadf=None,
    *,
    halves: str = "both",
    threshold: float = 1 / 7,
    mask=None,
    background=None,
    show_progressbar: bool | None = None,
) -> Resolution:
    """Measure to which detail two halves of the data agree on a volume: Fourier shell correlation.

    It compares signal with noise. It says nothing of blur, which both halves share: without noise
    it is 1 at any blur. For that see `TomographicVolume.edge_width`.

    Parameters
    ----------
    volume : TomographicVolume
        Made of this series by FBP, SIRT, EM, CGLS or HEBT without a regulariser.
    haadf : TiltSeriesHAADF, optional
        The HAADF series that it was made of, for HEBT.
    halves : {"both", "counts", "tilts"}, default "both"
        How the data are halved. ``"counts"``: each count goes to one of two series by chance
        (binomial thinning), and noise of their own size makes two series of the images.
        ``"tilts"``: even and odd tilts, which also disagree by what too few tilts leave open.
    threshold : float, default 1/7
        Correlation of the halves at which the resolution is read.
    mask, background : array or signal, optional
        As they were given to the method.
    show_progressbar : bool, optional
        HyperSpy's preference by default.

    Returns
    -------
    Resolution
        Curves and resolutions of each channel, in all directions and along x, y and z, beside the
        elongation factor and Crowther's limit; prints as a table, and has ``periods`` and
        ``plot()``.

    Raises
    ------
    ValueError
        For a volume with a regulariser or a start volume, which both halves would share; one
        without history, of another series, cropped or changed since; maps that are no counts as
        recorded; fewer than four tilts; and a lazy series.

    Warns
    -----
    UserWarning
        Of a mask, whose edges both halves share.

    Notes
    -----
    Each half is reconstructed as the volume was: same recipe, same number of iterations, no
    stopping rule, the same response ratios. The curves F are those of halves, of half of the dose.
    Two volumes of the whole dose would correlate by 2 F / (1 + F), and the volume itself with one
    without noise by the square root of that: one half at F = 1/7, hence the default, as in
    single-particle microscopy [1]_. In shells with few coefficients the threshold is higher, by
    what chance makes of them [2]_. Lengths are periods; half of a period is the half-pitch.

    Along x, y and z cones of 30 degrees are compared. The one along z is the missing wedge for the
    most part, where halves agree on what the object's compact support and non-negativity make up.

    The elongation factor holds for a point and filtered back projection. Edges of a sharp disc by
    SIRT are 2.4 to 5.9 times wider along z than along x at +-60 and +-70 degrees, of one that is
    blurred by 3 px 1.2 to 1.8 times (simulated): `edge_width` measures those of this volume.

    References
    ----------
    .. [1] P.B. Rosenthal, R. Henderson, J. Mol. Biol. 333 (2003) 721,
       doi:10.1016/j.jmb.2003.07.013.
    .. [2] M. van Heel, M. Schatz, J. Struct. Biol. 151 (2005) 250, doi:10.1016/j.jsb.2005.05.009.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> counts = np.random.default_rng(0).poisson(5 * np.ones((7, 16, 16)))
    >>> eds = mt.TiltSeriesEDS.from_maps({"Au": counts}, tilts=range(-60, 61, 20))
    >>> volume = eds.reconstruct_sirt(10, depth=None, show_progressbar=False)
    >>> found = eds.resolution(volume, show_progressbar=False)
    >>> list(found.curves), round(found.elongation, 2)
    (['counts', 'tilts'], 1.55)
    """
    how = (halves, threshold, show_progressbar)
    return _resolution(series, volume, {"haadf": haadf, "eds": series}, mask, background, *how)


@checked(threshold=real)
def resolution_of_images(
    series,
    volume,
    *,
    halves: str = "both",
    threshold: float = 1 / 7,
    mask=None,
    background=None,
    show_progressbar: bool | None = None,
) -> Resolution:
    """Measure to which detail two halves of the images agree on a volume.

    It is the Fourier shell correlation, which compares signal with noise and says nothing of blur.

    Parameters
    ----------
    volume : TomographicVolume
        Made of this series by FBP, SIRT, EM or CGLS.
    halves : {"both", "counts", "tilts"}, default "both"
        ``"counts"``: noise of the size of their own, measured in the images, makes two series of
        them that are independent. ``"tilts"``: even and odd tilts.
    threshold, mask, background, show_progressbar
        As in `TiltSeriesEDS.resolution`, which also says what the curves mean.

    Returns
    -------
    Resolution

    Raises
    ------
    ValueError
        As in `TiltSeriesEDS.resolution`, and for images that were smoothed.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> images = np.random.default_rng(0).poisson(50.0, (7, 16, 16))
    >>> haadf = mt.TiltSeriesHAADF.from_images(images, tilts=range(-60, 61, 20), pixel_size=2.0)
    >>> volume = haadf.reconstruct_sirt(10, depth=None, show_progressbar=False)
    >>> haadf.resolution(volume, halves="tilts", show_progressbar=False).finest
    4.0
    """
    how = (halves, threshold, show_progressbar)
    return _resolution(series, volume, {"haadf": series}, mask, background, *how)


def _resolution(series, volume, made_of, mask, background, halves, threshold, show) -> Resolution:
    from hyperspy_multitomo.evidence.resolution import Resolution
    from hyperspy_multitomo.evidence.shell_correlation import shell_correlation

    if halves not in _HALVES:
        raise ValueError(f"halves={halves!r} must be one of {', '.join(map(repr, _HALVES))}")
    if not 0 < threshold < 1:
        raise ValueError(f"threshold={threshold} must be a number between 0 and 1")
    _check_not_lazy(made_of)
    step = last_reconstruction(volume)
    check_independent(recipe_of_step(step), step)
    call, prepared = verified_call(volume, **made_of, mask=mask, background=background)
    _check_whole(volume, step, prepared.problem)
    if mask is not None:
        warn(
            "the volume was made with a mask, whose edges both halves share: their correlation is "
            "too high, at fine detail above all"
        )
    spacing, unit = _voxels(volume)
    names, places = _channels(volume, prepared.problem)
    curves = {}
    kinds = ("counts", "tilts") if halves == "both" else (halves,)
    parted = {kind: _halved(call, kind, step) for kind in kinds}
    with progress_bar(show, "reconstructing halves", 2 * len(kinds)) as bar:
        for kind, calls in parted.items():
            volumes = []
            for one in calls:
                volumes.append(np.asarray(solve(one.prepare(), one.run).volume)[places])
                if bar is not None:
                    bar(None)
            curves[kind] = {
                name: shell_correlation(first, second, spacing)
                for name, first, second in zip(names, *volumes, strict=True)
            }
    elongation, crowther, diameter = _geometric(volume, prepared.problem.geometry.tilts, spacing)
    return Resolution(
        step["step"], curves, threshold, unit, 2 * max(spacing), elongation, crowther, diameter
    )


def _check_not_lazy(made_of) -> None:
    for name, series in made_of.items():
        if series is not None and getattr(series, "_lazy", False):
            raise ValueError(
                f"{name} is a lazy series, and its halves would all be in memory: call compute() "
                "first, or take a part of the series and a volume of it"
            )


def check_independent(recipe: Recipe, step: Mapping[str, Any]) -> None:
    """Raise an error for a volume whose halves would not be independent.

    Parameters
    ----------
    recipe : Recipe
    step : mapping
        Of the history of the volume.
    """
    if not isinstance(recipe, _PLAIN):
        raise ValueError(
            f"{step['step']} with its regulariser holds a prior that both halves would share, so "
            "that they agree on what no data tell: measure edge_width(), or the resolution of a "
            "volume by SIRT, EM, CGLS, FBP or HEBT without a regulariser"
        )
    if step.get("initial") is not None:
        raise ValueError(
            "the volume was started from another one, which both halves would share: reconstruct "
            "it without initial="
        )


def _check_whole(volume, step, problem) -> None:
    """Raise an error for a volume that is not as it was reconstructed."""
    if volume.history[-1]["step"] != step["step"]:
        raise ValueError(
            f"after its reconstruction the volume was changed by {volume.history[-1]['step']}: "
            "pass it as it was reconstructed"
        )
    sizes = tuple(axis_named(volume, name).size for name in ("z", "x", "y"))
    if sizes != problem.shape[1:]:
        raise ValueError(
            f"the volume has {sizes} voxels (z, x, y) and was reconstructed with "
            f"{problem.shape[1:]}: pass all of it"
        )


def _channels(volume, problem) -> tuple[tuple[str, ...], list[int]]:
    """Return the names of the channels of a volume, and their places in its reconstruction."""
    if not problem.channels:
        return channel_arrays(volume)[0], [0]
    return volume.channels, [problem.channels.index(name) for name in volume.channels]


def _halved(call: Call, kind: str, step) -> list[Call]:
    """Return a call as it was made, of each half of its data."""
    recipe = call.recipe
    unstopped = {"iterations": step.get("iterations"), "stopping": None, "noise": None}
    recipe = replace(
        recipe, **{name: value for name, value in unstopped.items() if name in recipe.fields()}
    )
    run = dict(call.run) | {"tolerance": None, "show_progressbar": False}
    parts = parts_by_counts if kind == "counts" else parts_by_tilts
    pairs = zip(
        parts(call.series), (None, None) if call.haadf is None else parts(call.haadf), strict=True
    )
    return [
        Call(series, haadf, _half_of(recipe, kind, number), run)
        for number, (series, haadf) in enumerate(pairs)
    ]


def _half_of(recipe: Recipe, kind: str, number: int) -> Recipe:
    """Return a recipe whose background is that of a half."""
    background = getattr(recipe, "background", None)
    if background is None or kind == "counts":
        return recipe
    values = np.asarray(background, np.float32)
    return replace(recipe, background=values[number::2] if values.ndim else values)


def _geometric(volume, tilts, spacing) -> tuple[float, float, float]:
    """Return the elongation factor, Crowther's limit and the width of the object."""
    from hyperspy_multitomo.evidence.edge_width import NoOutlineError, half_outline
    from hyperspy_multitomo.inspection.metrics import crowther_resolution, elongation_factor

    tilts = np.asarray(tilts, float)
    elongation = elongation_factor(min(float(np.ptp(tilts)) / 2, 90.0))
    try:
        inside = half_outline(np.asarray(channel_arrays(volume)[1].sum(axis=0)))
    except NoOutlineError:
        return elongation, float("nan"), float("nan")
    across = np.flatnonzero(inside.any(axis=(0, 2)))
    diameter = float(spacing[1] * (across[-1] - across[0] + 1))
    return elongation, crowther_resolution(diameter, tilts), diameter


def _voxels(volume) -> tuple[tuple[float, float, float], str]:
    """Return the sides of a voxel along z, x and y, and their unit."""
    axes = [axis_named(volume, name) for name in ("z", "x", "y")]
    sides, _, units = zip(*map(in_nm, axes), strict=True)
    if len(set(units)) > 1:
        raise ValueError(
            f"the axes z, x and y are in {', '.join(units)}: calibrate all of them, or none"
        )
    return sides, units[0]

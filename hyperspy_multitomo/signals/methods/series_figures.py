# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures of the tilt series: projections, sinograms, the HAADF that the maps explain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.composition.particle.threshold import specimen_mask
from hyperspy_multitomo.composition.response.blocks import sum_blocks
from hyperspy_multitomo.signals.arrays import as_recorded
from hyperspy_multitomo.signals.methods.common_tilts import paired


@checked
def plot_projections(series, tilt: float = 0.0, channels: str | Sequence[str] | None = None):
    """Draw the images, as recorded, at the tilt nearest the one asked for.

    Parameters
    ----------
    tilt : float, default 0
        Degrees; the title says which one it is.
    channels : str or sequence of str, optional
        Of elemental maps, which to draw; by default all.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        For channels that are not there.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> images = np.ones((3, 8, 10))
    >>> haadf = mt.TiltSeriesHAADF.from_images(images, tilts=[-40, 0, 40], pixel_size=0.5)
    >>> haadf.plot_projections(tilt=30).get_suptitle()
    'Projections at 40°'
    """
    from hyperspy_multitomo.inspection import plot_projections

    names, images, unit = _pictures(series, channels)
    nearest = int(np.argmin(np.abs(series.tilts - tilt)))
    chosen = slice(nearest, nearest + 1)
    return plot_projections(
        np.asarray(images[:, chosen]),
        series.tilts[chosen],
        names,
        pixel_size=series.pixel_size,
        unit=unit,
    )


@checked
def plot_sinogram(series, y: int | None = None, channel: str | Sequence[str] | None = None):
    """Draw the sinograms of a slice as recorded: smooth curves where the series is aligned.

    Parameters
    ----------
    y : int, optional
        Number of the slice; by default the middle one.
    channel : str or sequence of str, optional
        Of elemental maps, which to draw; by default all.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        For a slice or channels that are not there.

    See Also
    --------
    plot_alignment_sinograms : The same as recorded and as an attached alignment puts it.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> images = np.ones((3, 8, 10))
    >>> haadf = mt.TiltSeriesHAADF.from_images(images, tilts=[-40, 0, 40], pixel_size=0.5)
    >>> haadf.plot_sinogram(y=2).get_suptitle()
    'Sinograms of slice y = 2'
    """
    from hyperspy_multitomo.inspection import plot_sinogram

    names, images, unit = _pictures(series, channel)
    count = images.shape[3]
    y = count // 2 if y is None else y
    if not 0 <= y < count:
        raise ValueError(f"y is {y}; expected a slice from 0 to {count - 1}")
    sinograms = np.asarray(images[..., y : y + 1])
    figure = plot_sinogram(
        sinograms, series.tilts, names, y=0, pixel_size=series.pixel_size, unit=unit
    )
    figure.suptitle(f"Sinograms of slice y = {y}", fontsize=12)
    return figure


def _pictures(series, channels):
    """Return names, images (channel, tilt, x, y), NumPy or dask, and their unit."""
    images = as_recorded(series)
    if not series.channels:
        if channels is not None:
            raise ValueError(
                f"this series has no named channels, so that {channels!r} is not among them; "
                "leave it out"
            )
        return ("HAADF",), images, "HAADF signal"
    names = (
        series.channels
        if channels is None
        else (channels,)
        if isinstance(channels, str)
        else tuple(channels)
    )
    missing = [str(name) for name in names if name not in series.channels]
    if missing or not names:
        raise ValueError(f"no channel {', '.join(missing)}; there are {', '.join(series.channels)}")
    return names, images[[series.channels.index(name) for name in names]], "counts"


@checked
def plot_response(series, haadf):
    """Draw the HAADF that the maps explain against the one measured, with R2.

    By the attached response ratios.

    Parameters
    ----------
    haadf : TiltSeriesHAADF
        The HAADF series that the ratios were fitted to, or another of the same object.

    Returns
    -------
    matplotlib.figure.Figure
        Left, sums over blocks of pixels as large as those of the fit, measured against
        modelled, with their centred R2; in the middle, the misfit of each tilt, gains divided out;
        right, the ratios and their standard errors, those that are calculated with open markers.

    Raises
    ------
    ValueError
        Where no response ratios are attached, or the series do not fit together.

    Notes
    -----
    The pixels are those where the HAADF stands out from its background, as in
    `fit_response_ratios` without a mask: then R2 is that of the fit, unless it was made with
    ``rest=True``. Points far above the line are bright in the HAADF and missing among the
    elements.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> expected = np.zeros((5, 32, 32)); expected[:, 4:20, 4:28] = 5.0
    >>> counts = np.random.default_rng(0).poisson(expected)
    >>> eds = mt.TiltSeriesEDS.from_maps({"Au": counts}, tilts=np.arange(5))
    >>> haadf = mt.TiltSeriesHAADF.from_images(40 * expected, tilts=np.arange(5))
    >>> fit = eds.fit_response_ratios(haadf)
    >>> eds.plot_response(haadf).axes[0].get_title() == f"R² = {fit.r2:.3f}"
    True
    """
    from hyperspy_multitomo.inspection import plot_response

    ratios = series.response_ratios
    if ratios is None:
        raise ValueError(
            "no response ratios are attached to this series; fit them by fit_response_ratios(haadf)"
        )
    pair = paired(series, haadf)
    maps, images = pair.maps_without_gains, pair.haadf_without_gains
    blocks = sum_blocks(maps, images, specimen_mask(images), ratios.block_size)
    measured, modelled = (
        blocks.as_map(values) for values in (blocks.haadf, blocks.counts @ ratios.values)
    )
    return plot_response(measured, modelled, series.tilts[pair.tilts], ratios=ratios)

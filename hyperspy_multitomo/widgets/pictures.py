# SPDX-License-Identifier: GPL-3.0-or-later
"""PNG pictures for the panels, from arrays and from matplotlib figures."""

from __future__ import annotations

import io

import numpy as np

#: Shortest side of a picture on the screen, px.
SIDE = 256


def png(
    image: np.ndarray,
    limits: tuple[float, float] | None = None,
    colours: str = "gray",
    side: int = SIDE,
    *,
    upward: bool = False,
) -> bytes:
    """Return an image as a PNG.

    Parameters
    ----------
    image : ndarray (row, column) or (row, column, 3)
        The first row is drawn at the top, so that y goes down as in the figures. Three numbers from
        0 to 1 are a colour.
    limits : (float, float), optional
        Values drawn darkest and brightest; by default the 0.5th and 99.5th percentiles.
    colours : str, default "gray"
        Name of a colour map of matplotlib, for images (row, column).
    side : int, default 256
        Pixels are repeated until the shorter side is about that long, px; the longer one is at most
        three times `SIDE`.
    upward : bool, default False
        Draw the first row at the bottom: for rows along z or the tilts.

    Returns
    -------
    bytes
    """
    from matplotlib import colormaps
    from PIL import Image

    image = np.asarray(image, dtype=np.float32)
    image = image[::-1] if upward else image
    if image.ndim == 2:
        low, high = robust(image) if limits is None else limits
        span = high - low if high > low else 1.0
        image = colormaps[colours](np.clip((np.nan_to_num(image) - low) / span, 0, 1))[..., :3]
    pixels = (np.clip(image, 0, 1) * 255).astype(np.uint8)
    # A picture of a single row stays a strip: it is not enlarged to the full side.
    shorter, longer = sorted(pixels.shape[:2])
    factor = max(1, min(round(side / shorter), round(3 * SIDE / longer)))
    pixels = pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def robust(image: np.ndarray) -> tuple[float, float]:
    """Return the 0.5th and 99.5th percentiles of an image, NaN excluded."""
    values = image[np.isfinite(image)]
    if values.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(values, (0.5, 99.5))
    return float(low), float(high)


def figure_png(figure, dpi: int = 80) -> bytes:
    """Return a matplotlib figure as a PNG."""
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    plt.close(figure)
    return buffer.getvalue()

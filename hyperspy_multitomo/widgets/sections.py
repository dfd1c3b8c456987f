# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of the volume panel: sections with cursor and scale bar, and line profiles."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from hyperspy_multitomo.inspection.picture import round_length
from hyperspy_multitomo.widgets.pictures import figure_png

#: Longest side of a volume on the screen, px.
SIDE = 320
# Least thickness of a section, px: that of a single slice would be a line.
_THIN = 24
_HEADING = 20
# As regions are outlined in figures of evidence.
_CIRCLE = "#56B4E9"
# Least width of a picture, px, so that the heading fits.
_NARROWEST = 190


def section_png(
    image: np.ndarray,
    steps: tuple[float, float],
    scale: float,
    cursor: tuple[float, float],
    heading: str,
    unit: str = "nm",
    *,
    upward: bool = False,
    radius: float | None = None,
) -> bytes:
    """Return a section as a PNG with cross hairs at the cursor and a scale bar.

    Parameters
    ----------
    image : ndarray (row, column, 3)
        Colours from 0 to 1; the first row is drawn at the top.
    steps : (float, float)
        Length of a voxel along rows and columns, `unit`.
    scale : float
        Screen pixels per `unit`.
    cursor : (float, float)
        Row and column, whole numbers in the middle of a voxel.
    heading : str
        Written above the section.
    unit : str, default "nm"
        Unit of the scale bar.
    upward : bool, default False
        Draw the first row at the bottom: for rows along z.
    radius : float, optional
        Of a circle about the cursor, `unit`.

    Returns
    -------
    bytes
    """
    from PIL import Image, ImageDraw

    shape = image.shape[:2]
    height, width = (
        max(round(n * step * scale), _THIN) for n, step in zip(shape, steps, strict=True)
    )
    pixels = (np.clip(np.nan_to_num(image), 0, 1) * 255).astype(np.uint8)
    pixels = pixels[::-1] if upward else pixels
    # Average where there are more voxels than pixels, so that thin features are not skipped.
    how = (
        Image.Resampling.BOX
        if min(height / shape[0], width / shape[1]) < 1
        else Image.Resampling.NEAREST
    )
    section = Image.fromarray(np.ascontiguousarray(pixels)).resize((width, height), how)
    row, column = ((i + 0.5) / n for i, n in zip(cursor, shape, strict=True))
    middle = round((1 - row if upward else row) * height), round(column * width)
    _draw_cursor(section, *middle)
    if radius is not None:
        # A single slice is drawn thicker than it is, and so is the circle.
        sizes = zip((height, width), shape, steps, strict=True)
        _draw_circle(section, middle, [radius / (n * step) * size for size, n, step in sizes])
    if width >= 3 * _THIN:
        _draw_bar(section, scale, unit)
    picture = Image.new("RGB", (max(width, _NARROWEST), height + _HEADING), "white")
    picture.paste(section, (0, _HEADING))
    ImageDraw.Draw(picture).text((1, 2), heading, fill="black", font=_font())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def profile_png(positions: np.ndarray, lines, position: float, along: str, quantity: str) -> bytes:
    """Return the profile of some channels along an axis as a PNG of about the size of a section.

    Parameters
    ----------
    positions : ndarray (n,)
        Positions of the voxels along the axis.
    lines : sequence of (name, colour, ndarray (n,))
        Channels.
    position : float
        Position of the cursor.
    along : str
        Label of the axis, with its unit.
    quantity : str
        Label of the values.

    Returns
    -------
    bytes
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(SIDE / 80, (SIDE + _HEADING) / 80))
    # Fixed margins take half the time of a layout engine.
    axes = figure.add_axes((0.18, 0.13, 0.79, 0.81))
    # Black as the sections are, so that each element has the same colour in both.
    axes.set_facecolor("black")
    for name, colour, values in lines:
        axes.plot(
            positions,
            values,
            color=colour,
            label=name,
            linewidth=1.6,
            marker="o" if len(values) == 1 else None,
        )
    axes.axvline(position, color="white", linewidth=0.8, linestyle=":")
    axes.set_xlabel(along, fontsize=9)
    axes.set_ylabel(quantity, fontsize=9)
    axes.tick_params(labelsize=8)
    if lines:
        axes.legend(
            fontsize=8,
            facecolor="black",
            labelcolor="white",
            edgecolor="0.4",
            ncols=2 if len(lines) > 4 else 1,
        )
    return figure_png(figure)


def _draw_cursor(section, row: int, column: int) -> None:
    from PIL import Image, ImageDraw

    lines = Image.new("L", section.size, 0)
    draw = ImageDraw.Draw(lines)
    # Half transparent, with a gap in the middle that leaves the voxel visible.
    for start, end in ((0, column - 8), (column + 8, section.width)):
        draw.line((start, row, end, row), fill=110)
    for start, end in ((0, row - 8), (row + 8, section.height)):
        draw.line((column, start, column, end), fill=110)
    section.paste("white", (0, 0), lines)


def _draw_circle(section, middle: tuple[int, int], radii: Sequence[float]) -> None:
    """Draw a circle about a row and a column, with its radii along both."""
    from PIL import ImageDraw

    (row, column), (high, wide) = middle, radii
    box = (column - wide, row - high, column + wide, row + high)
    ImageDraw.Draw(section).ellipse(box, outline=_CIRCLE, width=2)


def _draw_bar(section, scale: float, unit: str) -> None:
    from PIL import ImageDraw

    length = round_length(section.width / scale / 4)
    left, bottom = 8, section.height - 8
    right = left + max(round(length * scale), 1) - 1
    draw = ImageDraw.Draw(section)
    draw.rectangle((left, bottom - 3, right, bottom), fill="white", outline="black")
    text = {
        "fill": "white",
        "font": _font(),
        "anchor": "lm",
        "stroke_width": 1,
        "stroke_fill": "black",
    }
    draw.text((right + 6, bottom - 1.5), f"{length:g} {unit}", **text)


def _font():
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", 12)

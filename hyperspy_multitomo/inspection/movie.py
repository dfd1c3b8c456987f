# SPDX-License-Identifier: GPL-3.0-or-later
"""Moving pictures of a volume: a view that turns, and sections that run through."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.inspection.maximum_projection import brightest
from hyperspy_multitomo.inspection.orthoslices import checked_volumes, full_scale, per_channel
from hyperspy_multitomo.inspection.picture import colour_mix, round_length

#: What may be seen: turning about the tilt axis, or sections along an axis.
VIEWS = ("turn", "z", "x", "y")
#: Suffixes of files.
SUFFIXES = (".gif", ".mp4")


def frames(
    volumes: ArrayLike,
    names: Sequence[str],
    view: str = "turn",
    *,
    step: float = 5.0,
    depth_cue: float = 0.5,
    limits: Sequence[tuple[float, float]] | None = None,
    colours: Sequence[str] | None = None,
    progress: Callable[[], object] | None = None,
) -> np.ndarray:
    """
    Return the pictures of a movie, all channels mixed.

    Parameters
    ----------
    volumes : array_like (channel, z, x, y)
        Any unit.
    names : sequence of str (channel,)
    view : {"turn", "z", "x", "y"}, default "turn"
        The brightest voxels in a view that turns about the tilt axis once, or the sections along an
        axis, one after the other.
    step : float, default 5.0
        Degrees between two pictures of a turn.
    depth_cue, limits, colours
        As in `plot_volume`.
    progress : callable, optional
        Called after each picture.

    Returns
    -------
    numpy.ndarray (picture, row, column, 3), float32
        From 0 to 1, y downwards and z upwards.

    Examples
    --------
    >>> frames(np.ones((1, 4, 6, 5)), ["Au"], step=90.0).shape
    (4, 5, 8, 3)
    >>> frames(np.ones((1, 4, 6, 5)), ["Au"], "z").shape
    (4, 5, 6, 3)
    """
    check_view(view, step)
    volumes, names = checked_volumes(volumes, names)
    volumes = np.asarray(volumes)
    given = [full_scale(channel) for channel in volumes] if limits is None else limits
    limits, colours, _ = per_channel(names, given, colours, "")
    made = []
    for picture in _pictures(volumes, view, step, depth_cue):
        mixed = colour_mix(picture, limits=limits, colours=colours)
        # Sections along z and turning views are (x, y), along x (z, y), along y (z, x).
        made.append(mixed[::-1] if view == "y" else mixed.swapaxes(0, 1))
        if progress is not None:
            progress()
    return np.stack(made)


def with_scale_bar(pictures: np.ndarray, pixel_size: float | None) -> np.ndarray:
    """Return pictures (picture, row, column, 3) enlarged to 480 px and more, with a scale bar."""
    from PIL import Image, ImageDraw, ImageFont

    rows, columns = pictures.shape[1:3]
    enlarged = max(1, -(-480 // max(rows, columns)))
    pictures = pictures.repeat(enlarged, 1).repeat(enlarged, 2)
    size, unit = (1.0, "px") if pixel_size is None else (pixel_size, "nm")
    length = round_length(columns * size / 4)
    rows, columns = pictures.shape[1:3]
    bar, edge = round(length / size * enlarged), max(6, columns // 30)
    drawn = Image.new("L", (columns, rows))
    pen, font = ImageDraw.Draw(drawn), ImageFont.load_default(max(10, columns // 32))
    low = rows - edge
    pen.rectangle((edge, low - max(2, columns // 120), edge + bar - 1, low), fill=255)
    pen.text((edge + bar + edge // 2, low), f"{length:g} {unit}", fill=255, font=font, anchor="ls")
    mark = np.asarray(drawn, np.float32)[..., None] / 255
    return pictures * (1 - mark) + mark


def write(path: Path, pictures: np.ndarray, seconds: float) -> None:
    """Write pictures (picture, row, column, 3) from 0 to 1 to a .gif or .mp4 file.

    Raises
    ------
    ValueError
        For another suffix.
    FileNotFoundError
        For .mp4 without ffmpeg.
    """
    check_suffix(path)
    bytes_ = (np.clip(pictures, 0, 1) * 255).round().astype(np.uint8)
    if path.suffix.lower() == ".gif":
        from PIL import Image

        first, *others = [Image.fromarray(one) for one in bytes_]
        first.save(
            path,
            "GIF",
            save_all=True,
            append_images=others,
            duration=max(20, round(1000 * seconds / len(bytes_))),
            loop=0,
        )
        return
    from matplotlib.animation import FFMpegWriter
    from matplotlib.figure import Figure

    rows, columns = (2 * (size // 2) for size in bytes_.shape[1:3])  # as the codec wants them
    figure = Figure(figsize=(columns / 100, rows / 100), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    shown = axes.imshow(bytes_[0, :rows, :columns])
    writer = FFMpegWriter(fps=len(bytes_) / seconds)
    with writer.saving(figure, path, 100):
        for picture in bytes_:
            shown.set_data(picture[:rows, :columns])
            writer.grab_frame()


def check_view(view: str, step: float) -> None:
    """Raise an error for a view that there is not, or a step that is none; see `frames`."""
    if view not in VIEWS:
        raise ValueError(f"view={view!r} must be one of {', '.join(map(repr, VIEWS))}")
    if not 0.1 <= step <= 120:
        raise ValueError(f"step={step:g} must be from 0.1 to 120 degrees")


def check_suffix(path: Path) -> None:
    """Raise an error for a file that cannot be written; see `write`."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(
            f"{path.name!r} has the suffix {path.suffix!r}; expected one of {', '.join(SUFFIXES)}"
        )
    if suffix == ".mp4" and shutil.which("ffmpeg") is None:
        raise FileNotFoundError(
            f"{path.name} needs the program ffmpeg, which is not installed: install it, or write "
            f"{path.with_suffix('.gif').name}"
        )


def _pictures(
    volumes: np.ndarray, view: str, step: float, depth_cue: float
) -> Iterator[np.ndarray]:
    """Yield the pictures (channel, horizontal, vertical) of a view."""
    if view != "turn":
        yield from np.moveaxis(volumes, 1 + "zxy".index(view), 0)
        return
    side = int(np.ceil(np.hypot(*volumes.shape[1:3])))
    for angle in np.arange(0, 360, step):
        seen = np.stack([brightest(one, angle, depth_cue=depth_cue) for one in volumes])
        more = max(0, side - seen.shape[1])
        yield np.pad(seen, ((0, 0), (more // 2, more - more // 2), (0, 0)))[:, :side]

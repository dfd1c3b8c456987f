# SPDX-License-Identifier: GPL-3.0-or-later
"""A volume as a moving picture: a view that turns, or sections that run through."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hyperspy_multitomo.arguments import checked, real, text
from hyperspy_multitomo.machine.progress import progress_bar
from hyperspy_multitomo.machine.writing import save_atomically
from hyperspy_multitomo.signals.methods.exporting import channel_arrays
from hyperspy_multitomo.signals.methods.volume_figures import cube_side, limits_of


@checked(view=text, step=real, seconds=real)
def movie(
    volume,
    filename: str | os.PathLike,
    channels: str | Sequence[str] | None = None,
    view: str = "turn",
    *,
    step: float = 5.0,
    seconds: float = 8.0,
    depth_cue: float = 0.5,
    limits: Sequence[tuple[float, float]] | None = None,
    colours: Sequence[str] | None = None,
    overwrite: bool | None = None,
    show_progressbar: bool | None = None,
) -> Path:
    """Write a movie of the volume: it turns about the tilt axis, or sections run through it.

    Parameters
    ----------
    filename : str or path-like
        ``.gif``, or ``.mp4`` where ffmpeg is installed.
    channels : str or sequence of str, optional
        Which to show, added up in their colours; by default all.
    view : {"turn", "z", "x", "y"}, default "turn"
        One turn of the brightest voxels along each line of sight, as in `plot_volume`; or the
        sections along an axis, from the first to the last voxel.
    step : float, default 5.0
        Degrees between two pictures of the turn.
    seconds : float, default 8.0
        How long it takes. It is shown again and again.
    depth_cue, limits, colours
        As in `plot_volume`.
    overwrite : bool, optional
        True replaces an existing file once the new one is complete.
    show_progressbar : bool, optional
        HyperSpy's preference by default.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        For another suffix, channels that are not there, and voxels that are no cubes.
    FileNotFoundError
        For ``.mp4`` without ffmpeg.
    FileExistsError
        If the file exists and `overwrite` is not True.

    Notes
    -----
    The scale bar is at the lower left, a round length of about a quarter of the width.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> volume = mt.TomographicVolume.from_arrays({"Au": np.ones((6, 5, 6))}, pixel_size=2.0)
    >>> volume.movie(tempfile.mkdtemp() + "/turn.gif", step=60, show_progressbar=False).name
    'turn.gif'
    """
    from hyperspy_multitomo.inspection import movie as movies

    path = Path(filename)
    movies.check_suffix(path)
    movies.check_view(view, step)
    if not 0.1 <= seconds <= 3600:
        raise ValueError(f"seconds={seconds:g} must be from 0.1 to 3600")
    names, volumes, _ = channel_arrays(volume, channels)
    size = cube_side(volume)
    how = {"depth_cue": depth_cue, "limits": limits_of(volume, names, limits), "colours": colours}
    sections = dict(zip("zxy", volumes.shape[1:], strict=True))
    count = int(-(-360 // step)) if view == "turn" else sections[view]
    with progress_bar(show_progressbar, "drawing", count) as bar:
        pictures = movies.frames(volumes, names, view, step=step, progress=bar, **how)
    pictures = movies.with_scale_bar(pictures, size)
    return save_atomically(
        lambda temporary: movies.write(temporary, pictures, seconds), path, overwrite
    )

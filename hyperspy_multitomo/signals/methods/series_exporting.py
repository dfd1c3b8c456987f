# SPDX-License-Identifier: GPL-3.0-or-later
"""Tilt series for other programs: a stack with its tilts and transforms, as IMOD has them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.machine.writing import file_part, save_atomically
from hyperspy_multitomo.signals.arrays import as_recorded

_SUFFIXES = (".mrc", ".st")


@checked
def export(
    series,
    filename: str | os.PathLike,
    channels: str | Sequence[str] | None = None,
    overwrite: bool | None = None,
) -> tuple[Path, ...]:
    """Write the series as stacks with their tilts, for IMOD, tomviz, AreTomo and others.

    Parameters
    ----------
    filename : str or path-like
        Ends in ``.mrc`` or ``.st``. Of maps each element has a stack of its own,
        ``maps_Au.mrc``.
    channels : str or sequence of str, optional
        Elements to write; by default all.
    overwrite : bool, optional
        True replaces existing files once the new ones are complete. Otherwise an existing file is
        an error, and nothing is written.

    Returns
    -------
    tuple of Path
        All files: for each stack ``.rawtlt``, the tilts in degrees, one a line, and ``.xf``, IMOD's
        transforms, where an alignment is attached.

    Raises
    ------
    ValueError
        For another suffix, and elements that are not there.
    FileExistsError
        If a file exists and `overwrite` is not True.

    Warns
    -----
    UserWarning
        Where the alignment has a drift during the scan, which an .xf cannot hold.

    Notes
    -----
    Images are as recorded, float32, in the order of the tilts of the series, net counts of maps;
    x runs fastest, y from the first row. The cell is in Å. ``mt.load_tilt_series`` reads such a
    stack back with its tilts, and ``series.align(mt.Alignment.load("stack.xf"))`` the alignment.
    Programs that need ascending tilts want a series that was sorted.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> haadf = mt.TiltSeriesHAADF.from_images(np.ones((3, 8, 8)), tilts=[-40, 0, 40])
    >>> [path.name for path in haadf.export(tempfile.mkdtemp() + "/stack.mrc")]
    ['stack.mrc', 'stack.rawtlt']
    """
    path = Path(filename)
    if path.suffix.lower() not in _SUFFIXES:
        raise ValueError(
            f"{path.name!r} has the suffix {path.suffix!r}; expected one of {', '.join(_SUFFIXES)}"
        )
    images, known = as_recorded(series), series.channels
    names = (channels,) if isinstance(channels, str) else tuple(channels or known)
    if wrong := [str(name) for name in names if name not in known]:
        raise ValueError(
            f"channels={channels!r}: {', '.join(wrong)} is not among {', '.join(known) or 'none'}"
        )
    alignment = series.alignment
    if alignment is not None and alignment.drift is not None:
        warn("an .xf cannot hold the drift during the scan: no transforms are written")
        alignment = None
    stacks = (
        {path.with_stem(f"{path.stem}_{file_part(name)}"): known.index(name) for name in names}
        if known
        else {path: 0}
    )
    beside = (".rawtlt",) if alignment is None else (".rawtlt", ".xf")
    made = [one.with_suffix(suffix) for one in stacks for suffix in (one.suffix, *beside)]
    if overwrite is not True and (present := [one.name for one in made if one.exists()]):
        raise FileExistsError(
            f"{', '.join(present)} exist already; pass overwrite=True to replace them, or another "
            "name"
        )
    lines = "".join(f"{tilt:.4f}\n" for tilt in series.tilts)
    for stack, place in stacks.items():
        write = partial(
            _write_stack,
            images=np.asarray(images[place], np.float32).transpose(0, 2, 1),
            pixel_size=series.pixel_size,
            label=f"{known[place] if known else 'HAADF'} tilt series",
        )
        save_atomically(write, stack, overwrite)
        listed = stack.with_suffix(".rawtlt")
        save_atomically(lambda to: to.write_text(lines), listed, overwrite)
        if alignment is not None:
            alignment.save(stack.with_suffix(".xf"), overwrite=overwrite)
    return tuple(made)


def _write_stack(path: Path, images: np.ndarray, pixel_size: float | None, label: str) -> None:
    """Write images (tilt, y, x) as a stack of 32-bit floats."""
    import mrcfile

    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(np.ascontiguousarray(images))
        file.set_image_stack()
        file.voxel_size = 10.0 * pixel_size if pixel_size else 1.0  # ångström
        file.add_label(label)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes for other programs: ImageJ hyperstacks, VTK images and MRC files."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.machine.writing import file_part, save_atomically
from hyperspy_multitomo.signals.metadata.length_axes import in_nm
from hyperspy_multitomo.signals.metadata.recorded_arrays import axis_named

# Largest classic TIFF file, the only kind that ImageJ opens as a hyperstack: its offsets have 32
# bits. 32 MB are left for the header.
_TIFF_BYTES = 2**32 - 2**25
_AXES = ("z", "y", "x")


@checked
def export(
    volume,
    filename: str | os.PathLike,
    channels: str | Sequence[str] | None = None,
    overwrite: bool | None = None,
) -> Path | tuple[Path, ...]:
    """Write the volume to a file for another program; `save` is for coming back here.

    Parameters
    ----------
    filename : str or path-like
        The suffix selects the format: ``.tif`` or ``.tiff``, an ImageJ hyperstack; ``.vti``, a
        VTK image for ParaView and PyVista; ``.mrc``, for Chimera, IMOD and others, which holds
        one channel: of several, each gets a file of its own, ``particle_Au.mrc``. What a file
        name cannot hold of a channel's name becomes ``_``.
    channels : str or sequence of str, optional
        Which, in this order; by default all.
    overwrite : bool, optional
        True replaces an existing file once the new one is complete. Otherwise an existing file
        is an error, and stays.

    Returns
    -------
    Path or tuple of Path
        The file, or with ``.mrc`` and several channels the files.

    Raises
    ------
    ValueError
        For an unknown suffix, channels that are not there, a missing axis, or more than the 4
        GB that a TIFF file can hold.
    FileExistsError
        If the file exists and `overwrite` is not True.

    Notes
    -----
    Values are float32 in the unit of `quantity`, lengths in nm (or px without calibration), the
    axes those of the signal.

    TIFF: ImageJ axes ZCYX, one plane (y, x) for each z and channel, labelled; the voxel size,
    the origin (the pixel whose coordinate is 0 along each axis), and the colours of the plots.

    VTI: one float32 array of point data for each channel, named as that, x running fastest;
    Spacing is the voxel size and Origin the centre of the first voxel, x, y and z. The arrays
    carry their unit.

    MRC: cell lengths in Å (px without calibration), the origin in the header; the label holds
    the channel and its unit.

    References
    ----------
    .. [1] ImageJ user guide, https://imagej.net/ij/docs/guide/.
    .. [2] VTK XML file formats,
       https://docs.vtk.org/en/latest/vtk_file_formats/vtkxml_file_format.html.
    .. [3] A. Cheng et al., J. Struct. Biol. 192 (2015) 146,
       https://doi.org/10.1016/j.jsb.2015.04.002 (MRC2014).

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> counts = {"Au": np.ones((4, 5, 6)), "Ag": np.ones((4, 5, 6))}
    >>> volume = mt.TomographicVolume.from_arrays(counts, pixel_size=0.5)
    >>> volume.export(tempfile.mkdtemp() + "/particle.vti", channels="Au").name
    'particle.vti'
    """
    path = Path(filename)
    writer = _WRITERS.get(path.suffix.lower())
    if writer is None:
        raise ValueError(
            f"{path.name!r} has the suffix {path.suffix!r}; expected one of {', '.join(_WRITERS)}"
        )
    names, volumes, units = channel_arrays(volume, channels)
    found = [in_nm(axis_named(volume, name)) for name in _AXES]
    lengths = {units for *_, units in found}
    if len(lengths) > 1:
        named = ", ".join(str(axis_named(volume, name).units) for name in ("z", "y", "x"))
        raise ValueError(f"the axes z, y and x have the units {named}; calibrate all or none")
    scales, (length,) = [(scale, offset) for scale, offset, _ in found], lengths
    volumes = volumes.swapaxes(2, 3)
    if writer is not _write_mrc or len(names) == 1:
        return save_atomically(
            lambda temporary: writer(temporary, names, volumes, scales, length, units),
            path,
            overwrite,
        )
    paths = _paths(path, names)
    if overwrite is not True and (present := [one.name for one in paths if one.exists()]):
        raise FileExistsError(
            f"{', '.join(present)} exist already; pass overwrite=True to replace them, or "
            "another name"
        )
    return tuple(
        volume.export(one, channels=name, overwrite=overwrite)
        for one, name in zip(paths, names, strict=True)
    )


def channel_arrays(volume, channels: str | Sequence[str] | None = None):
    """Return (names, array (channel, z, x, y), units) of some channels, NumPy or dask.

    A volume without channels counts as one.

    Raises
    ------
    ValueError
        For channels that are not there, none, or the same twice, and for a missing axis.
    """
    quantity = volume.quantity
    if not volume.channels:
        title = "HAADF" if "HAADF" in quantity else volume.metadata.General.title or "volume"
        present, array = (title,), volume.array("z", "x", "y")[None]
    else:
        present, array = volume.channels, volume.array("element", "z", "x", "y")
    names = (
        present
        if channels is None
        else (channels,)
        if isinstance(channels, str)
        else tuple(channels)
    )
    missing = [str(name) for name in names if name not in present]
    if missing or not names or len(set(names)) != len(names):
        raise ValueError(
            f"channels={channels!r} must be one or more of {', '.join(present)}, each once"
        )
    if names != present:
        array = array[[present.index(name) for name in names]]
    signal = quantity.replace("counts", "HAADF signal")
    return names, array, [signal if name == "HAADF" else quantity for name in names]


def _paths(path: Path, names: Sequence[str]) -> list[Path]:
    """Return a file for each channel; equal names, whatever their case, are numbered."""
    paths, taken = [], set()
    for name in names:
        part = file_part(name)
        numbered = (f"{part}_{number}" if number > 1 else part for number in count(1))
        chosen = next(one for one in numbered if one.casefold() not in taken)
        taken.add(chosen.casefold())
        paths.append(path.with_stem(f"{path.stem}_{chosen}"))
    return paths


def _write_tiff(path: Path, names, volumes, scales, length: str, units) -> None:
    """Write volumes (channel, z, y, x) as an ImageJ hyperstack."""
    import tifffile
    from matplotlib.colors import to_rgb

    from hyperspy_multitomo.inspection.orthoslices import full_scale
    from hyperspy_multitomo.inspection.picture import channel_colours

    size = 4 * math.prod(volumes.shape)
    if size > _TIFF_BYTES:
        raise ValueError(
            f"the volume takes {size / 1e9:.3g} GB and a TIFF file for ImageJ can hold 4 GB; "
            "export fewer channels, or to .vti"
        )
    data = np.ascontiguousarray(np.asarray(volumes).swapaxes(0, 1), dtype=np.float32)
    (step_z, from_z), (step_y, from_y), (step_x, from_x) = scales
    ramp = (
        np.arange(256)[None]
        * np.array([to_rgb(colour) for colour in channel_colours(names)])[..., None]
    )
    tifffile.imwrite(
        path,
        data,
        imagej=True,
        resolution=(1 / step_x, 1 / step_y),
        metadata={
            "axes": "ZCYX",
            "spacing": step_z,
            "unit": "nm" if length == "nm" else "pixel",
            "xorigin": -from_x / step_x,
            "yorigin": -from_y / step_y,
            "zorigin": -from_z / step_z,
            "mode": "composite" if len(names) > 1 else "grayscale",
            "Labels": [
                f"{name} ({unit}) z = {from_z + i * step_z:g} {length}"
                for i in range(len(data))
                for name, unit in zip(names, units, strict=True)
            ],
            "LUTs": [table.round().astype(np.uint8) for table in ramp],
            "Ranges": [limit for channel in data.swapaxes(0, 1) for limit in full_scale(channel)],
        },
    )


def _write_vti(path: Path, names, volumes, scales, length: str, units) -> None:
    """Write volumes (channel, z, y, x) as XML with raw values, one channel in memory at a time."""
    names = [_printable(name) for name in names]  # XML has no control characters
    extent = " ".join(f"0 {size - 1}" for size in reversed(volumes.shape[1:]))
    spacing, origin = (
        " ".join(repr(float(scale[i])) for scale in reversed(scales)) for i in (0, 1)
    )
    size = 4 * math.prod(volumes.shape[1:])
    # Each block of values begins with its size, in eight bytes.
    arrays = "\n".join(
        f'        <DataArray type="Float32" Name={quoteattr(name)} format="appended" '
        f'offset="{i * (size + 8)}">\n'
        '          <InformationKey name="UNITS_LABEL" '
        f'location="vtkDataArray">{escape(unit)}</InformationKey>\n'
        f"        </DataArray>"
        for i, (name, unit) in enumerate(zip(names, units, strict=True))
    )
    head = f"""<?xml version="1.0" encoding="UTF-8"?>
<!-- lengths in {length} -->
<VTKFile type="ImageData" version="1.0" byte_order="LittleEndian" header_type="UInt64">
  <ImageData WholeExtent="{extent}" Origin="{origin}" Spacing="{spacing}">
    <Piece Extent="{extent}">
      <PointData Scalars={quoteattr(names[0])}>
{arrays}
      </PointData>
      <CellData/>
    </Piece>
  </ImageData>
  <AppendedData encoding="raw">
_"""
    with open(path, "wb") as file:
        file.write(head.encode())
        for channel in volumes:
            file.write(size.to_bytes(8, "little"))
            file.write(np.ascontiguousarray(channel, dtype="<f4").data)
        file.write(b"\n  </AppendedData>\n</VTKFile>\n")


def _printable(text: str) -> str:
    """Return text with ``_`` for control characters."""
    return "".join(char if char.isprintable() else "_" for char in text)


def _write_mrc(path: Path, names, volumes, scales, length: str, units) -> None:
    """Write one volume (1, z, y, x) as an MRC file of 32-bit floats, section by section along z."""
    import mrcfile

    per_unit = 10.0 if length == "nm" else 1.0  # the format's lengths are in ångström
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(np.ascontiguousarray(volumes[0], dtype=np.float32))
        file.voxel_size = tuple(per_unit * step for step, _ in reversed(scales))
        file.header.origin = tuple(per_unit * offset for _, offset in reversed(scales))
        label = _printable(f"{names[0]} ({units[0]})")
        file.add_label(
            label.encode("ascii", "replace").decode()[:80]
        )  # the format has no other characters


_WRITERS = {".tif": _write_tiff, ".tiff": _write_tiff, ".vti": _write_vti, ".mrc": _write_mrc}

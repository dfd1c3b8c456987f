# SPDX-License-Identifier: GPL-3.0-or-later
"""State of the volume panel: sections through a cursor, a line profile, isosurfaces on demand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import traits.api as t
from hyperspy.ui_registry import add_gui_method

from hyperspy_multitomo.inspection.picture import channel_colours, colour_mix, robust_limits
from hyperspy_multitomo.machine.writing import save_atomically
from hyperspy_multitomo.signals.metadata.recorded_arrays import axis_named
from hyperspy_multitomo.widgets.panel import Panel
from hyperspy_multitomo.widgets.sections import SIDE, profile_png, section_png
from hyperspy_multitomo.widgets.surfaces import Surfaces

#: For each plane its axes along columns and rows, and its normal.
PLANES = {"xz": ("x", "z", "y"), "yz": ("y", "z", "x"), "xy": ("x", "y", "z")}
# Voxels that are sampled for the brightness range of a channel.
_SAMPLE = 2_000_000


class Colour(t.BaseStr):
    """A colour that matplotlib knows, such as "#d55e00" or "red"."""

    info_text = 'a colour, such as "#d55e00" or "red"'

    def validate(self, obj, name, value):
        """Return the colour, or raise a TraitError."""
        from matplotlib.colors import is_color_like

        if isinstance(value, str) and is_color_like(value):
            return value
        self.error(obj, name, value)


class Channel(t.HasTraits):
    """Display settings of one channel."""

    name = t.Str
    shown = t.Bool(True, desc="Show this element in the sections, the profile and the 3-D view.")
    colour = Colour(
        "#ffffff", desc="The element's colour; where elements overlap their colours are added."
    )
    brightness = t.Range(
        0.1,
        10.0,
        1.0,
        desc="How many times brighter than usual the element is drawn in the sections.",
    )
    level = t.Range(
        "lowest",
        "highest",
        "usual",
        desc="Value at which the element's surface is drawn in the 3-D view.",
    )
    opacity = t.Range(
        0.05, 1.0, 0.7, desc="How opaque the surface is: 1 hides everything behind it."
    )
    lowest, highest, usual = t.Float, t.Float, t.Float
    limits = t.Tuple(t.Float, t.Float)


@add_gui_method(toolkey="hyperspy_multitomo.volume")
class VolumePanel(Panel):
    """State of the panel that `TomographicVolume.explore` opens.

    Parameters
    ----------
    volume : TomographicVolume
        Unchanged.
    """

    x = t.Range(
        "low_x",
        "high_x",
        "middle_x",
        desc="Where the sections and the profile are, across the tilt axis.",
    )
    y = t.Range(
        "low_y",
        "high_y",
        "middle_y",
        desc="Where the sections and the profile are, along the tilt axis.",
    )
    z = t.Range(
        "low_z",
        "high_z",
        "middle_z",
        desc="Where the sections and the profile are, along the beam at tilt 0.",
    )
    along = t.Enum(
        "x", "y", "z", desc="Direction of the line profile, which runs through the cursor."
    )
    cut = t.Enum(
        "nothing",
        "z",
        "x",
        desc="Hide what lies beyond the cursor along this axis, to look inside.",
    )
    file_name = t.Str(
        "volume.html",
        desc="File to which the 3-D view is saved; it opens in any browser, without this package.",
    )
    overwrite = t.Bool(False, desc="Whether an existing file may be replaced.")

    low_x, high_x, middle_x = t.Float, t.Float, t.Float
    low_y, high_y, middle_y = t.Float, t.Float, t.Float
    low_z, high_z, middle_z = t.Float, t.Float, t.Float
    channels = t.List(t.Instance(Channel))
    unit = t.Str
    quantity = t.Str
    values = t.Str(desc="Values of the voxel at the cursor.")
    xz, yz, xy, profile = t.Bytes, t.Bytes, t.Bytes, t.Bytes
    surfaces = t.Instance(Surfaces)

    _data = t.Any
    _axes = t.Dict

    def __init__(self, volume, **kwds):
        super().__init__(**kwds)
        names = volume.channels
        # The volume of a HAADF series has no channel names, but is one channel.
        self._data = (
            volume.array("element", "z", "x", "y") if names else volume.array("z", "x", "y")[None]
        )
        pixel_size = volume.pixel_size
        to_nm = 1.0 if pixel_size is None else pixel_size / axis_named(volume, "x").scale
        self.unit = "px" if pixel_size is None else "nm"
        self.quantity = volume.quantity or "arbitrary units"
        for name in "xyz":
            axis = axis_named(volume, name)
            first, step = axis.offset * to_nm, axis.scale * to_nm
            self._axes[name] = (first, step, axis.size)
            ends = sorted((first, first + step * (axis.size - 1)))
            self.trait_set(**{f"low_{name}": ends[0], f"high_{name}": ends[1]})
            self.trait_set(**{f"middle_{name}": first + step * (axis.size // 2)})
        names = names or ("volume",)
        for name, data, colour in zip(names, self._data, channel_colours(names), strict=True):
            self.channels.append(self._channel(name, data, colour))
        self._draw()
        self.observe(self._redraw, "x,y,z,along,channels:items:[shown,colour,brightness]")
        self.observe(self._restyle, "x,z,cut,channels:items:[shown,colour,level,opacity]")

    def position(self, axis: str) -> int:
        """Return the index of the voxel at the cursor along an axis."""
        first, step, size = self._axes[axis]
        return int(np.clip(round((getattr(self, axis) - first) / step), 0, size - 1))

    def step(self, axis: str) -> float:
        """Return the length of a voxel along an axis."""
        return abs(self._axes[axis][1])

    def build(self) -> None:
        """Make the 3-D view: a surface for each element, at its level."""

        def work(task):
            surfaces = Surfaces({name: axis[:2] for name, axis in self._axes.items()})
            for i, channel in enumerate(self.channels):
                task.step(i / len(self.channels), f"Making the surface of {channel.name}")
                surfaces.add(channel.name, self._data[i], channel.level)
            surfaces.look()
            return surfaces

        def show(surfaces):
            before, self.surfaces = self.surfaces, surfaces
            if before is not None:
                before.close()
            self._restyle()
            self.message = "The 3-D view is ready."

        self.start(work, show)

    def snapshot(self) -> None:
        """Save the 3-D view as an HTML page; an existing file is replaced only with `overwrite`."""

        def work(task):
            if self.surfaces is None:
                raise ValueError("there is no 3-D view yet: make it first")
            path = self._path()
            task.step(0.1, "Packing the 3-D view")
            page = self.surfaces.html()
            task.step(0.9, f"Writing {path}")
            return path, page

        def save(packed):
            # Written here and not in `work`: a cancelled task writes no file.
            path, page = packed
            save_atomically(
                lambda temporary: temporary.write_text(page, encoding="utf-8"), path, self.overwrite
            )
            self.message = f"Saved {path.resolve()}"

        self.start(work, save)

    def _path(self) -> Path:
        name = self.file_name.strip()
        if not name:
            raise ValueError("there is no file name: enter one, such as volume.html")
        path = Path(name).expanduser()
        path = path if path.suffix else path.with_suffix(".html")
        if path.suffix.lower() not in (".html", ".htm"):
            raise ValueError(
                f"the file name ends in {path.suffix}, but what is saved is a web page: let it end "
                "in .html"
            )
        if path.is_dir():
            raise ValueError(f"the path {path} is a folder: enter the name of a file")
        if path.exists() and not self.overwrite:
            raise ValueError(
                f"the file {path} exists already: choose another name, or allow to replace it"
            )
        return path

    def _channel(self, name: str, data, colour: str) -> Channel:
        thin = tuple(
            slice(None, None, max(1, int((data.size / _SAMPLE) ** (1 / 3)))) for _ in range(3)
        )
        sample = np.asarray(data[thin])
        finite = sample[np.isfinite(sample)]
        highest = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
        bright = min(robust_limits(sample)[1], highest)
        bright = bright if bright > 0 else highest
        # Values below 0 are noise or artefacts, and drawn black.
        limits = (0.0, 100.0) if "percent" in self.quantity else (0.0, bright)
        return Channel(
            name=name,
            colour=colour,
            limits=limits,
            lowest=highest / 100,
            highest=highest,
            usual=bright / 2,
        )

    def _redraw(self, event=None) -> None:
        self.refresh(self._draw)

    def _draw(self) -> None:
        at = {name: self.position(name) for name in "xyz"}
        shown = [(i, channel) for i, channel in enumerate(self.channels) if channel.shown]
        self.trait_set(**{plane: self._section(plane, at, shown) for plane in PLANES})
        line = tuple(slice(None) if name == self.along else at[name] for name in "zxy")
        lines = [
            (channel.name, channel.colour, np.asarray(self._data[(i, *line)]))
            for i, channel in shown
        ]
        first, step, size = self._axes[self.along]
        positions, label = first + step * np.arange(size), f"{self.along} ({self.unit})"
        self.profile = profile_png(
            positions, lines, getattr(self, self.along), label, self.quantity
        )
        voxel = ", ".join(f"{name} {values[at[self.along]]:.4g}" for name, _, values in lines)
        self.values = (
            f"At the cursor ({self.quantity}): {voxel}" if lines else "No element is shown."
        )

    def _section(self, plane: str, at: dict[str, int], shown: list) -> bytes:
        column, row, across = PLANES[plane]
        index = tuple(at[name] if name == across else slice(None) for name in "zxy")
        cuts = [np.nan_to_num(np.asarray(self._data[(i, *index)])) for i, _ in shown]
        if cuts:
            limits = [
                (low, low + (high - low) / c.brightness)
                for _, c in shown
                for low, high in [c.limits]
            ]
            # Data are (z, x, y): only xy has rows and columns exchanged.
            cuts = np.stack(cuts).swapaxes(1, 2) if plane == "xy" else np.stack(cuts)
            image = colour_mix(
                cuts, limits=limits, colours=[channel.colour for _, channel in shown]
            )
        else:
            image = np.zeros((self._axes[row][2], self._axes[column][2], 3), np.float32)
        scale = SIDE / max(self.step(name) * self._axes[name][2] for name in "xyz")
        upward = row == "z"
        place = f"{across} = {self._position_text(across)}"
        heading = f"{column} →  {row} {'↑' if upward else '↓'}   at {place}"
        steps, cursor = (self.step(row), self.step(column)), (at[row], at[column])
        return section_png(image, steps, scale, cursor, heading, self.unit, upward=upward)

    def _position_text(self, axis: str) -> str:
        first, step, _ = self._axes[axis]
        return f"{first + step * self.position(axis):.4g} {self.unit}"

    def _restyle(self, event=None) -> None:
        if self.surfaces is None:
            return
        for channel in self.channels:
            self.surfaces.style(
                channel.name, channel.shown, channel.colour, channel.level, channel.opacity
            )
        axis = None if self.cut == "nothing" else self.cut
        self.surfaces.clip(axis, getattr(self, axis) if axis else 0.0)

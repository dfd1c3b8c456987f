# SPDX-License-Identifier: GPL-3.0-or-later
"""State of the evidence panel: a ball in a volume, and what the counts say of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count

import numpy as np
import traits.api as t
from hyperspy.ui_registry import add_gui_method

from hyperspy_multitomo.evidence import Ellipsoid
from hyperspy_multitomo.inspection.picture import COLOUR_MAP, robust_limits
from hyperspy_multitomo.signals.methods.evidence import check_factors
from hyperspy_multitomo.signals.methods.evidence_data import coordinates_of
from hyperspy_multitomo.signals.methods.rerun import last_reconstruction
from hyperspy_multitomo.widgets.display import colour_mapped, sentences, with_warnings
from hyperspy_multitomo.widgets.panel import COMPUTING, Panel, TaskControl, signal_trait
from hyperspy_multitomo.widgets.pictures import figure_png
from hyperspy_multitomo.widgets.sections import SIDE, section_png
from hyperspy_multitomo.widgets.volume_panel import PLANES

# Diameter of the ball at first, and the smallest one, voxels.
_USUAL, _SMALLEST = 5.0, 3.0
# Reconstructions with the ball in the counts.
_REPETITIONS = 3
# Voxels that are sampled for the brightness of an element.
_SAMPLE = 2_000_000


@add_gui_method(toolkey="hyperspy_multitomo.evidence")
class EvidencePanel(Panel):
    """State of the panel that `explore_evidence` opens.

    Parameters
    ----------
    series : TiltSeriesEDS or TiltSeriesEELS
        The maps that the volume was made of.
    volume : TomographicVolume
    haadf : TiltSeriesHAADF, optional
        Used where the volume was made of one.
    outline, factors, mask, initial, background
        As in `evidence`.
    """

    element = t.Enum(values="elements", desc="Element whose counts are asked.")
    x = t.Range(
        "low_x", "high_x", "middle_x", desc="Where the ball and the sections are, across the axis."
    )
    y = t.Range(
        "low_y", "high_y", "middle_y", desc="Where the ball and the sections are, along the axis."
    )
    z = t.Range(
        "low_z", "high_z", "middle_z", desc="Where the ball and the sections are, in depth."
    )
    diameter = t.Range("smallest", "largest", "usual", desc="Diameter of the ball.")
    found_here = t.Bool(
        True,
        desc="A place that was chosen for its looks in this volume was chosen for its noise as "
        "well: the probability is then that of the most conspicuous of all places. Switch this "
        "off only for a place that was known before, from the HAADF or another data set.",
    )
    contrast = t.Range(
        -1.0,
        5.0,
        1.0,
        desc="Signal that 'What arrives' adds in the ball, over the typical signal of the element.",
    )

    elements = t.List(t.Str)
    low_x, high_x, middle_x = t.Float, t.Float, t.Float
    low_y, high_y, middle_y = t.Float, t.Float, t.Float
    low_z, high_z, middle_z = t.Float, t.Float, t.Float
    smallest, largest, usual = t.Float, t.Float, t.Float
    unit = t.Str
    quantity = t.Str
    values = t.Str(desc="The voxel in the middle of the ball, and how bright the sections are.")
    xz, yz, xy = t.Bytes, t.Bytes, t.Bytes
    table = t.Str(desc="The last result as a table.")
    plot = t.Bytes(desc="The figure of the last result.")
    notes = t.Str(desc="Warnings of the last result.")
    python = t.Str(desc="The call that made the last result, to be copied.")
    result = signal_trait("The last Evidence.")
    transfer = signal_trait("The last TransferTest.")

    _coordinates = t.Dict
    _data, _limits = t.Any, t.Dict

    def __init__(
        self,
        series,
        volume,
        haadf=None,
        *,
        outline=None,
        factors: Mapping[str, float] | None = None,
        mask=None,
        initial=None,
        background=None,
        threaded: bool = True,
    ):
        super().__init__(threaded=threaded)
        elements = _elements_of(series, volume)
        check_factors(factors, series.channels)
        self._haadf = _needed_haadf(volume, haadf)
        self._series, self._volume = series, volume
        self._asked = {"outline": outline, "factors": factors}
        self._given = {"mask": mask, "initial": initial, "background": background}
        self._data = volume.array("element", "z", "x", "y")
        self._coordinates = coordinates_of(volume)
        self.unit = "px" if volume.pixel_size is None else "nm"
        self.quantity = volume.quantity or "counts / length"
        self.elements = elements
        self._set_ranges()
        self._draw()
        self.observe(lambda event: self.refresh(self._draw), "element, x, y, z, diameter")

    def step(self, axis: str = "x") -> float:
        """Return the length of a voxel along an axis."""
        places = self._coordinates[axis]
        if len(places) > 1:
            return float(abs(places[1] - places[0]))
        return self._volume.pixel_size or 1.0

    def ball(self) -> Ellipsoid:
        """Return the ball of the sliders."""
        return Ellipsoid((self.x, self.y, self.z), self.diameter / 2)

    def ask(self) -> None:
        """Ask the counts for the evidence of the ball, into `result`."""
        region, found_in = {"ball": self.ball()}, self._volume if self.found_here else None
        element, place = self.element, self._place()
        centre = _rounded((self.x, self.y, self.z))
        ball = f"mt.Ellipsoid({centre}, {_rounded(self.diameter / 2)})"
        python = self._call("evidence", f"{{'ball': {ball}}}", f"{element!r}")
        python += ", found_in=volume)" if self.found_here else ")"

        def work(task: TaskControl):
            task.step(0.1, "Asking the counts ...")
            return self._evidence(region, element, found_in=found_in)

        def then(found):
            row = found[0][0]
            self._show(found, python, f"{element}, {place}")
            self.message = f"{element} in the ball: z = {row.z:.1f}, p = {row.p_corrected:.2g}."

        self._begin(work, then)

    def search(self) -> None:
        """Look for features as large as the ball on half of the counts, and test them, `result`."""
        element, size = self.element, self.diameter
        python = self._call("evidence", "'features'", f"{element!r}") + f", size={_rounded(size)})"

        def work(task: TaskControl):
            task.step(0.1, "Reconstructing half of the counts, and testing on the other half ...")
            return self._evidence("features", element, size=size)

        def then(found):
            rows = found[0].rows
            places = [f"{row.region} at {self._words(row.centre)}" for row in rows]
            heading = f"{element}, features of {size:.4g} {self.unit}"
            self._show(found, python, "\n".join([heading, *places]))
            if not rows:
                self.message = "No place stands out on half of the counts."
                return
            largest = max(rows, key=lambda row: abs(row.z))
            self._move(largest.centre)
            number = sum(row.significant for row in rows)
            self.message = (
                f"Beyond chance: {number} of {len(rows)} places. The sliders are at "
                f"{largest.region}, z = {largest.z:.1f}."
            )

        self._begin(work, then)

    def test_transfer(self) -> None:
        """Add the ball to the counts of the element alone; what arrives goes into `transfer`."""
        element, contrast = self.element, self.contrast
        feature = {"position": (self.x, self.y, self.z), "size": self.diameter}
        place = self._place()
        python = self._call(
            "transfer_test",
            *(f"{name}={_rounded(value)}" for name, value in feature.items()),
            f"contrast={_rounded(contrast)}",
            f"into={element!r}",
        )

        def work(task: TaskControl):
            done = count(1)
            task.step(0.0, "Reconstructing with the ball in the counts ...")
            return self._quietly(
                self._series.transfer_test,
                contrast=contrast,
                into=element,
                count=_REPETITIONS,
                **feature,
                **self._given,
                show_progressbar=lambda *_: task.step(next(done) / _REPETITIONS),
            )

        def then(made):
            test, warned = made
            self.plot = figure_png(test.plot())
            self.notes, self.python = sentences(warned), f"{python})"
            self.table = f"{element}, {place}\n{test}"
            self.transfer = test
            part = 100 * (1 - test.suppression(element))
            self.message = f"Of the contrast {part:.0f} % arrives in {element}."

        self._begin(work, then)

    def _begin(self, work: Callable, then: Callable) -> None:
        if words := self.hindrance():
            self.message = words
            return
        self.start(work, then)

    def _evidence(self, region, element: str, **more):
        return self._quietly(
            self._series.evidence, region, element, **self._asked, **self._given, **more
        )

    def _quietly(self, method: Callable, *args, **keywords):
        """Return what a method makes of the volume, and the texts of its warnings."""
        with COMPUTING:
            return with_warnings(
                lambda: method(
                    self._volume,
                    *args,
                    **({} if self._haadf is None else {"haadf": self._haadf}),
                    **keywords,
                )
            )

    def _show(self, found, python: str, heading: str) -> None:
        """Show the evidence that was found, with the warnings on the way."""
        evidence, warned = found
        # Drawn first, so that all parts change together.
        self.plot = figure_png(evidence.plot()) if len(evidence) else b""
        self.notes, self.python = sentences(warned), python
        self.table = f"{heading}\n{evidence}"
        self.result = evidence

    def _call(self, method: str, *arguments: str) -> str:
        """Return the beginning of a call in Python, without its last bracket."""
        given = [name for name, one in (self._given | self._asked).items() if one is not None]
        if method != "evidence":
            given = [name for name in given if name in self._given]
        named = ["haadf=haadf"] if self._haadf is not None else []
        every = ["volume", *arguments, *named, *(f"{name}={name}" for name in given)]
        return f"found = eds.{method}({', '.join(every)}"

    def _move(self, centre: tuple[float, float, float]) -> None:
        """Move the sliders to a place."""
        for name, place in zip("xyz", centre, strict=True):
            low, high = getattr(self, f"low_{name}"), getattr(self, f"high_{name}")
            setattr(self, name, float(np.clip(place, low, high)))

    def _place(self) -> str:
        return f"ball of {self.diameter:.4g} {self.unit} at {self._words((self.x, self.y, self.z))}"

    def _words(self, centre: tuple[float, float, float]) -> str:
        named = zip("xyz", centre, strict=True)
        return ", ".join(f"{name} = {place:.4g}" for name, place in named) + f" {self.unit}"

    def _set_ranges(self) -> None:
        """Set the ranges of the sliders to the volume's."""
        extents = []
        for name, places in self._coordinates.items():
            low, high, middle = places.min(), places.max(), places[len(places) // 2]
            self.trait_set(**{f"low_{name}": float(low), f"high_{name}": float(high)})
            self.trait_set(**{f"middle_{name}": float(middle)})
            if len(places) > 1:
                extents.append(len(places) * self.step(name))
        step = self.step()
        self.smallest = _SMALLEST * step
        self.largest = max(self.smallest, min(extents, default=0.0))
        self.usual = min(_USUAL * step, self.largest)

    def _index(self, axis: str) -> int:
        return int(np.abs(self._coordinates[axis] - getattr(self, axis)).argmin())

    def _voxel(self, axis: str) -> float:
        """Return where the middle of the ball is along an axis, in voxels from the first one."""
        places = self._coordinates[axis]
        if len(places) == 1:
            return 0.0
        return float((getattr(self, axis) - places[0]) / (places[1] - places[0]))

    def _draw(self) -> None:
        channel = self._volume.channels.index(self.element)
        data, limits = self._data[channel], self._brightness(channel)
        at = {name: self._index(name) for name in "xyz"}
        self.trait_set(**{plane: self._section(plane, data, limits, at) for plane in PLANES})
        value = float(np.asarray(data[at["z"], at["x"], at["y"]]))
        self.values = (
            f"{self.element} in the middle of the ball: {value:.3g} {self.quantity}; the sections "
            f"go from {limits[0]:.3g}, black, to {limits[1]:.3g}"
        )

    def _brightness(self, channel: int) -> tuple[float, float]:
        """Return the values of an element that are drawn darkest and brightest."""
        if channel not in self._limits:
            data = self._data[channel]
            thin = slice(None, None, max(1, int((data.size / _SAMPLE) ** (1 / 3))))
            self._limits[channel] = robust_limits(np.asarray(data[thin, thin, thin]))
        return self._limits[channel]

    def _section(self, plane: str, data, limits: tuple[float, float], at: dict) -> bytes:
        column, row, across = PLANES[plane]
        cut = np.asarray(data[tuple(at[n] if n == across else slice(None) for n in "zxy")])
        # Data are (z, x, y): only xy has rows and columns exchanged.
        image = colour_mapped(cut.T if plane == "xy" else cut, limits, COLOUR_MAP)
        place = self._coordinates[across][at[across]]
        upward = row == "z"
        heading = f"{column} →  {row} {'↑' if upward else '↓'}   at {across} = {place:.4g}"
        largest = max(self.step(name) * len(self._coordinates[name]) for name in "xyz")
        return section_png(
            image,
            (self.step(row), self.step(column)),
            SIDE / largest,
            (self._voxel(row), self._voxel(column)),
            f"{heading} {self.unit}",
            self.unit,
            upward=upward,
            radius=self.diameter / 2,
        )


def _elements_of(series, volume) -> list[str]:
    """Return the elements of the maps that a volume holds, or raise an error if it was not made so.

    Raises
    ------
    ValueError
        For a volume that was not reconstructed from maps of these elements.
    """
    needed = last_reconstruction(volume)["made_of"]
    elements = [name for name in series.channels if name in volume.channels]
    if "maps" not in needed or len(elements) < len(series.channels):
        raise ValueError(
            f"the volume holds {', '.join(volume.channels) or 'no elements'}, and was not made of "
            f"the maps of {', '.join(series.channels)}: pass one that was reconstructed from them"
        )
    return elements


def _needed_haadf(volume, haadf):
    """Return the HAADF series where the volume was made of one, else None."""
    if "haadf" not in last_reconstruction(volume)["made_of"]:
        return None
    if haadf is None:
        raise ValueError(
            "the volume was made of the maps and a HAADF series: pass it too, as haadf="
        )
    return haadf


def _rounded(value) -> str:
    """Return a number, or some of them, as they are typed: without errors of rounding."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_rounded, value))})"
    return f"{value:.8g}"

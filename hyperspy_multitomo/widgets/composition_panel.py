# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel of the composition: factors and threshold of the particle, with what they make of a volume of counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import traits.api as t
from hyperspy.ui_registry import add_gui_method
from traits.observation.api import trait as named

from hyperspy_multitomo.composition.particle.edge_spread import table_of
from hyperspy_multitomo.composition.particle.threshold import otsu_level, particle_mask
from hyperspy_multitomo.composition.quantification import (
    mean_composition,
    ordered_factors,
    quantify,
    weighted_sum,
)
from hyperspy_multitomo.inspection.picture import line_styles
from hyperspy_multitomo.inspection.threshold_plot import CURVE, FLAT, THRESHOLD
from hyperspy_multitomo.inspection.volume_plots import PLANES, section
from hyperspy_multitomo.signals.masks import mask_array
from hyperspy_multitomo.signals.methods import thresholds
from hyperspy_multitomo.signals.methods.quantifying import counts_in_memory, factors_for
from hyperspy_multitomo.widgets.display import EMPTY, heard, sentences, shaded, small_figure, table
from hyperspy_multitomo.widgets.panel import Job, Panel, held, said
from hyperspy_multitomo.widgets.pictures import figure_png, png

_BINS = np.linspace(0, 100, 51)


@add_gui_method(toolkey="hyperspy_multitomo.composition")
class CompositionPanel(Panel):
    """Settings, pictures and result of `TomographicVolume.quantify`.

    Parameters
    ----------
    volume : TomographicVolume
        Of counts; it stays as it is.
    method, factors, composition_units, mask, threshold
        As in `TomographicVolume.quantify`. Without factors the calculated ones are the first
        choice.
    threaded : bool, default True
        Whether the kernel stays free while pictures are made.
    **options
        Further keywords of `quantify`.
    """

    method = t.Enum(
        "CL", "zeta", "cross_section", "model", desc="What turns counts into composition."
    )
    composition_units = t.Enum("weight", "atomic", desc="Percent of the mass or of the atoms.")
    automatic = t.Bool(
        True,
        desc="Find the particle as quantify does by itself; moving the threshold switches this off.",
    )
    highest = t.Float(1.0)
    threshold = t.Range(
        low=0.0,
        high="highest",
        value=0.0,
        desc="Voxels whose weighted sum is above are the particle.",
    )
    plane = t.Enum(
        "xy", "xz", "yz", desc="Plane of the section; the profile along x crosses its middle."
    )
    last = t.Int(0)
    position = t.Range(
        low=0,
        high="last",
        value=0,
        desc="Where the section lies along the axis that the plane lacks.",
    )

    looking = t.Bool(
        True,
        desc="Whether the particle is still looked for, so that the threshold means nothing yet.",
    )
    lacking = t.Property(t.Str, observe="looking")

    curve = t.Bytes(desc="Volume above every threshold.")
    histogram = t.Bytes(desc="How often which percentage occurs inside the particle.")
    profile = t.Bytes(desc="Composition along x through the middle of the section.")
    statistics = t.Str(desc="Mean and standard deviation of each element inside the particle.")
    notes = t.Str(desc="What the search for the particle warned of.")
    result = held("The composition that was made last, a TomographicVolume.")

    def __init__(
        self,
        volume,
        method: str = "CL",
        factors: Mapping[str, float] | Sequence[float] | None = None,
        composition_units: str = "weight",
        *,
        mask=None,
        threshold: str | float | None = None,
        threaded: bool = True,
        **options,
    ):
        super().__init__(threaded=threaded)
        if mask is not None and threshold is not None:
            raise ValueError(
                "mask= says which voxels are the particle, threshold= how to find it; pass one of "
                "them"
            )
        self.volume, self.mask = volume, mask
        self._through, self._angles = (
            options.pop("through", "counts"),
            options.pop("haadf_angles", None),
        )
        self._options = {
            "beam_energy": None,
            "xray_lines": None,
            "model": "cascade",
            "efficiency": None,
            **options,
        }
        self.elements, self._volumes = counts_in_memory(volume)
        self._given = None if mask is None else mask_array(mask, self._volumes.shape[1:])
        self._how = threshold if isinstance(threshold, str) else "auto"
        self._calculated = factors if method == "model" else None
        self.method = "model" if factors is None and method == "CL" else method
        self.composition_units = composition_units
        values = np.zeros(len(self.elements))
        if factors is not None and method != "model":
            values = ordered_factors(
                list(self.elements),
                factors_for(volume, method, factors, self.elements, "counts", None, {})[0],
            )
        for name, value in zip(self.elements, values, strict=True):
            self.add_trait(
                f"factor_{name}",
                t.Range(0.0, 1e12, float(value), desc=f"Factor of {name}; 0: not known."),
            )
            self.add_trait(f"section_{name}", t.Bytes(desc=f"Percent of {name} in the section."))
            self.add_trait(f"caption_{name}", t.Str(desc=f"What the colours of {name} mean."))
        self.plane = "xz" if self._volumes.shape[3] == 1 else "xy"
        self._inside = self._total = self._found = None
        self._said, self._warned = [], []
        self._begun, self._kept = False, None
        self._stale, self._presetting, self._placing = set(), False, False
        self._place()
        if threshold is not None and not isinstance(threshold, str):
            self._kept = float(threshold)
            self._preset(highest=max(1.0, self._kept))
            self._preset(threshold=self._kept, automatic=False)
        self._blank()
        self.message = "Looking for the particle ..."
        for name in ("method", *(f"factor_{name}" for name in self.elements)):
            self.observe(lambda event: self._reweighted(), named(name))
        self.observe(lambda event: self._moved(), "threshold")
        self.observe(lambda event: None if self._presetting else self._later("mask"), "automatic")
        self.observe(lambda event: self._later("units"), "composition_units")
        self.observe(lambda event: self._turned(), "plane")
        self.observe(lambda event: None if self._placing else self._later("section"), "position")

        if not threaded:
            self.begin()

    def begin(self) -> None:
        """Look for the particle and draw, once; with threads not before there are widgets to see it."""
        if not self._begun:
            self._begun = True
            self._later("sum")

    def keywords(self) -> dict:
        """Return the keywords of `quantify` that the settings stand for."""
        chosen = {
            "method": self.method,
            "factors": self.factors(),
            "composition_units": self.composition_units,
        }
        options = {**self._used_options(), "through": self._way(), "haadf_angles": self._angles}
        if self.mask is not None:
            return {**options, **chosen, "mask": self.mask}
        return {**options, **chosen, "threshold": self._how if self.automatic else self.threshold}

    def _used_options(self) -> dict:
        """Return the options of calculated factors, where factors are calculated."""
        return self._options if self.method == "model" and self._calculated is None else {}

    def factors(self) -> dict[str, float] | None:
        """Return the factors of the elements as `quantify` takes them, None where it calculates them."""
        if self.method == "model":
            return self._calculated
        given = {name: getattr(self, f"factor_{name}") for name in self.elements}
        missing = [name for name, value in given.items() if value == 0]
        if missing:
            raise ValueError(
                f"no factor of {', '.join(missing)} yet: type one for each element, or choose "
                "calculated factors"
            )
        return given

    def apply(self) -> None:
        """Make `result` of what `quantify` gives with the present settings, for the whole volume."""
        self.begin()
        if words := self.hindrance():
            self.message = words
            return
        try:
            keywords = self.keywords()
        except ValueError as error:
            self.message = said(error)
            return

        def work(job: Job):
            job.step(0.1, "Quantifying the volume ...")
            composition, _ = heard(lambda: self.volume.quantify(**keywords))
            job.step(0.9)
            return composition

        def then(composition):
            self.result = composition
            voxels = composition.history[-1]["voxels"]
            where = "" if voxels is None else f" in {voxels} voxels"
            self.message = f"Done: {composition.quantity}{where}; it is the panel's result."

        self.start(work, then)

    def _get_lacking(self) -> str:
        return "The particle is still being looked for: wait for it." if self.looking else ""

    def _way(self) -> str:
        """Return through what factors are calculated: those that are given are for the counts."""
        return self._through if self.method == "model" and self._calculated is None else "counts"

    def _later(self, what: str) -> None:
        """Bring up to date what depends on a setting, and what depends on that."""
        self._stale.add(what)

        def work():
            stale, self._stale = self._stale, set()
            for each in ("sum", "mask", "units", "section"):
                if each in stale:
                    self._update(each)
                    return

        self.refresh(work)

    def _reweighted(self) -> None:
        """Find the threshold anew at once: the one before is in another unit, whatever is pressed meanwhile."""
        self._kept = None
        self._preset(automatic=True)
        self.looking = True
        self._later("sum")

    def _moved(self) -> None:
        if not self._presetting:
            self._preset(automatic=False)
            self._later("mask")

    def _turned(self) -> None:
        self._place()
        self._later("section")

    def _preset(self, **values) -> None:
        """Set traits without the consequences of a user's doing so."""
        self._presetting = True
        try:
            self.trait_set(**values)
        finally:
            self._presetting = False

    def _place(self) -> None:
        """Put the section in the middle of the axis that the plane lacks."""
        last = self._volumes.shape[1 + PLANES[self.plane]] - 1
        self._placing = True
        try:
            self.position = min(self.position, last)
            self.last = last
            self.position = (last + 1) // 2
        finally:
            self._placing = False

    def _update(self, what: str) -> None:
        """Calculate and draw; `what` is the first of sum, mask, units and section to be done, each entails those after it."""
        try:
            if what == "sum":
                self._sum()
            if self._total is None:
                return
            if what in ("sum", "mask"):
                self._choose()
            if what != "section":
                self._measure()
            self._cut()
            self.message = f"The particle has {np.count_nonzero(self._inside)} voxels. Apply quantifies the whole volume."
        except ValueError as error:
            if self._total is None:
                self._blank()
            self.message = said(error)
        finally:
            # A factor may have changed meanwhile: then it is looked for once more.
            self.looking = "sum" in self._stale

    def _blank(self) -> None:
        """Take away pictures that are not those of the settings."""
        grey = png(np.full((32, 32, 3), EMPTY))
        for name in self.elements:
            self.trait_set(**{f"section_{name}": grey, f"caption_{name}": ""})
        self.trait_set(curve=grey, histogram=grey, profile=grey, statistics="", notes="")

    def _sum(self) -> None:
        """Weight the elements, and find the threshold in their sum."""
        self._total = None
        given = (
            self.method,
            self.factors(),
            self.elements,
            self._way(),
            self._angles,
            self._used_options(),
        )
        (self._used, _), warned = heard(lambda: factors_for(self.volume, *given))
        total = np.asarray(weighted_sum(self._volumes, self.elements, self.method, self._used))
        if self._given is None:
            self._found = thresholds.threshold_curve(self.volume, self._used, self.method)
            self._found_inside, more = heard(lambda: particle_mask(total, self._how))
            warned += more
            top = float(total.max())
            by_level = (
                self._found.value
                if not (self._found.ambiguous or self._how == "otsu")
                else otsu_level(table_of(total))[0]
            )
            self._preset(highest=max(self.highest, top))
            self._level = float(np.clip(by_level, 0, top))
            kept, self._kept = self._kept, None
            self._preset(threshold=self._level if kept is None else min(max(kept, 0.0), top))
            self._preset(highest=top, automatic=kept is None)
        self._said = warned
        self._total = total

    def _choose(self) -> None:
        """Tell the particle from what is around it."""
        if self._given is not None:
            self._inside = self._given
            return
        if self.automatic:
            self._preset(threshold=self._level)
        self._inside = (
            self._found_inside if self.automatic else particle_mask(self._total, self.threshold)
        )
        figure, axes = small_figure()
        axes.plot(self._found.levels, 100 * self._found.volumes, color=CURVE)
        if np.isfinite(self._found.value):
            axes.axvspan(*self._found.flat, color=FLAT, alpha=0.3, linewidth=0, label="flat run")
        axes.axvline(
            self.threshold, color=THRESHOLD, linewidth=1.5, label=f"threshold {self.threshold:.3g}"
        )
        share = 100 * np.count_nonzero(self._inside) / self._inside.size
        axes.axhline(
            share,
            color=THRESHOLD,
            linewidth=0.8,
            linestyle=":",
            label=f"particle, {share:.3g} % of voxels",
        )
        axes.set(
            xlabel=f"level t ({self.unit()})", ylabel="voxels above t, V(t) (%)", ylim=(0, None)
        )
        axes.legend(frameon=False, fontsize=8)
        self.curve = figure_png(figure)

    def unit(self) -> str:
        """Return the unit of the sum over the elements."""
        counts = self.volume.quantity.replace(" / ", "/") or "counts"
        return {
            "CL": f"k · {counts}",
            "zeta": f"ζ · {counts}",
            "cross_section": f"{counts}/σ",
            "model": f"{counts}/f",
        }[self.method]

    def _percent(self, volumes: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """Return the percentages of some voxels, NaN outside."""
        if not inside.any():
            return np.full(volumes.shape, np.nan, np.float32)
        call = (volumes, self.elements, self.method, self._used, self.composition_units)
        (parts, _), self._warned = heard(lambda: quantify(*call, mask=inside))
        return np.where(inside, parts, np.nan)

    def _measure(self) -> None:
        """Draw and tabulate what the particle has as a whole."""
        chosen = self._volumes[:, self._inside]
        parts = self._percent(chosen, np.ones(chosen.shape[1], bool))
        self.notes = sentences([*self._said, *self._warned])
        self._scales = [float(np.percentile(one, 99.7)) or 1.0 for one in parts]
        unit = f"{self.composition_units} %"
        # Of the sums, where negative voxels count as they are.
        means = mean_composition(
            chosen, self.elements, self.method, self._used, self.composition_units
        )
        named = zip(self.elements, means, parts, strict=True)
        rows = [[name, f"{mean:.2f}", f"{one.std():.2f}"] for name, mean, one in named]
        self.statistics = table(["Element", f"mean ({unit})", f"standard deviation ({unit})"], rows)
        figure, axes = small_figure()
        for name, one, (colour, _) in zip(
            self.elements, parts, line_styles(len(parts)), strict=True
        ):
            axes.stairs(
                100 * np.histogram(one, _BINS)[0] / one.size, _BINS, color=colour, label=name
            )
        axes.set(xlabel=f"composition ({unit})", ylabel="voxels of the particle (%)", xlim=(0, 100))
        axes.legend(frameon=False, fontsize=8)
        self.histogram = figure_png(figure)

    def _cut(self) -> None:
        """Draw the section, and the profile through it."""
        plane, at = self.plane, self.position
        volumes = np.stack([section(volume, plane, at) for volume in self._volumes])
        parts = self._percent(volumes, section(self._inside, plane, at))
        for name, part, top in zip(self.elements, parts, self._scales, strict=True):
            setattr(
                self,
                f"section_{name}",
                png(shaded(part, (0, top), "viridis"), upward=plane[1] == "z"),
            )
            setattr(
                self,
                f"caption_{name}",
                f"{name}: dark 0, bright {top:.3g} {self.composition_units} %",
            )
        _, depth, width, slices = self._volumes.shape
        z, y = at if plane == "xy" else depth // 2, at if plane == "xz" else slices // 2
        parts = self._percent(
            np.ascontiguousarray(self._volumes[:, z, :, y]), self._inside[z, :, y]
        )
        size = self.volume.pixel_size
        places = (np.arange(width) - (width - 1) / 2) * (size or 1.0)
        figure, axes = small_figure()
        for name, part, (colour, _) in zip(
            self.elements, parts, line_styles(len(parts)), strict=True
        ):
            axes.plot(places, part, color=colour, label=name)
        axes.set(
            xlabel=f"x from the middle ({'nm' if size else 'px'})",
            ylabel=f"composition ({self.composition_units} %)",
        )
        axes.set(ylim=(0, 102), xlim=(places[0] - 0.5, places[-1] + 0.5))
        axes.legend(frameon=False, fontsize=8)
        self.profile = figure_png(figure)

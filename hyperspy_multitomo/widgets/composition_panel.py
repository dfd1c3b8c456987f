# SPDX-License-Identifier: GPL-3.0-or-later
"""State of the composition panel: factors, threshold of the particle, and their composition."""

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
from hyperspy_multitomo.widgets.display import (
    EMPTY,
    colour_mapped,
    html_table,
    sentences,
    small_figure,
    with_warnings,
)
from hyperspy_multitomo.widgets.panel import Panel, TaskControl, error_text, signal_trait
from hyperspy_multitomo.widgets.pictures import figure_png, png

_BINS = np.linspace(0, 100, 51)


@add_gui_method(toolkey="hyperspy_multitomo.composition")
class CompositionPanel(Panel):
    """Settings, pictures and result of `TomographicVolume.quantify`.

    Parameters
    ----------
    volume : TomographicVolume
        Volume of counts, unchanged.
    method, factors, composition_units, mask, threshold
        As in `TomographicVolume.quantify`. Without factors the method is "model", with calculated
        factors.
    threaded : bool, default True
        Whether the kernel stays free while pictures are made.
    **options
        Further keywords of `quantify`.
    """

    method = t.Enum(
        "CL", "zeta", "cross_section", "model", desc="Factors that turn counts into composition."
    )
    composition_units = t.Enum("weight", "atomic", desc="Percent of the mass or of the atoms.")
    automatic = t.Bool(
        True,
        desc="Find the particle as quantify does by default; moving the threshold turns this off.",
    )
    highest = t.Float(1.0)
    threshold = t.Range(
        low=0.0,
        high="highest",
        value=0.0,
        desc="Voxels whose weighted sum exceeds this are the particle.",
    )
    plane = t.Enum(
        "xy", "xz", "yz", desc="Plane of the section; the profile along x crosses its middle."
    )
    last = t.Int(0)
    position = t.Range(
        low=0,
        high="last",
        value=0,
        desc="Position of the section along its normal.",
    )

    searching = t.Bool(
        True,
        desc="Whether the particle is still being looked for; until then there is no threshold.",
    )
    lacking = t.Property(t.Str, observe="searching")

    curve = t.Bytes(desc="Volume above every threshold.")
    histogram = t.Bytes(desc="Histogram of the percentages inside the particle.")
    profile = t.Bytes(desc="Composition along x through the middle of the section.")
    statistics = t.Str(desc="Mean and standard deviation of each element inside the particle.")
    notes = t.Str(desc="Warnings of the search for the particle.")
    result = signal_trait("The composition that was made last, a TomographicVolume.")

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
        self._mask_array = None if mask is None else mask_array(mask, self._volumes.shape[1:])
        self._threshold_method = threshold if isinstance(threshold, str) else "auto"
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
        self._inside = self._total = self._threshold_curve = None
        self._sum_warnings, self._percent_warnings = [], []
        self._begun, self._preset_threshold = False, None
        self._stale, self._programmatic, self._centring = set(), False, False
        self._centre_section()
        if threshold is not None and not isinstance(threshold, str):
            self._preset_threshold = float(threshold)
            self._set_silently(highest=max(1.0, self._preset_threshold))
            self._set_silently(threshold=self._preset_threshold, automatic=False)
        self._clear_pictures()
        self.message = "Looking for the particle ..."
        for name in ("method", *(f"factor_{name}" for name in self.elements)):
            self.observe(lambda event: self._on_factors(), named(name))
        self.observe(lambda event: self._on_threshold(), "threshold")
        self.observe(
            lambda event: None if self._programmatic else self._request("mask"), "automatic"
        )
        self.observe(lambda event: self._request("units"), "composition_units")
        self.observe(lambda event: self._on_plane(), "plane")
        self.observe(lambda event: None if self._centring else self._request("section"), "position")

        if not threaded:
            self.begin()

    def begin(self) -> None:
        """Look for the particle and draw, once; with threads the view calls this."""
        if not self._begun:
            self._begun = True
            self._request("sum")

    def keywords(self) -> dict:
        """Return the keywords of `quantify` for the present settings."""
        chosen = {
            "method": self.method,
            "factors": self.factors(),
            "composition_units": self.composition_units,
        }
        options = {
            **self._used_options(),
            "through": self._factor_route(),
            "haadf_angles": self._angles,
        }
        if self.mask is not None:
            return {**options, **chosen, "mask": self.mask}
        return {
            **options,
            **chosen,
            "threshold": self._threshold_method if self.automatic else self.threshold,
        }

    def _used_options(self) -> dict:
        """Return the options of calculated factors, empty if factors are not calculated."""
        return self._options if self.method == "model" and self._calculated is None else {}

    def factors(self) -> dict[str, float] | None:
        """Return the factors as `quantify` takes them; None if it calculates them."""
        if self.method == "model":
            return self._calculated
        factors = {name: getattr(self, f"factor_{name}") for name in self.elements}
        missing = [name for name, value in factors.items() if value == 0]
        if missing:
            raise ValueError(
                f"no factor of {', '.join(missing)} yet: type one for each element, or choose "
                "calculated factors"
            )
        return factors

    def apply(self) -> None:
        """Run `quantify` on the whole volume with the present settings, into `result`."""
        self.begin()
        if words := self.hindrance():
            self.message = words
            return
        try:
            keywords = self.keywords()
        except ValueError as error:
            self.message = error_text(error)
            return

        def work(task: TaskControl):
            task.step(0.1, "Quantifying the volume ...")
            composition, _ = with_warnings(lambda: self.volume.quantify(**keywords))
            task.step(0.9)
            return composition

        def then(composition):
            self.result = composition
            voxels = composition.history[-1]["voxels"]
            where = "" if voxels is None else f" in {voxels} voxels"
            self.message = f"Done: {composition.quantity}{where}; it is the panel's result."

        self.start(work, then)

    def _get_lacking(self) -> str:
        return "The particle is still being looked for: wait for it." if self.searching else ""

    def _factor_route(self) -> str:
        """Return the keyword `through` of `quantify`; factors of the user are for the counts."""
        return self._through if self.method == "model" and self._calculated is None else "counts"

    def _request(self, what: str) -> None:
        """Request an update of one stage ("sum", "mask", "units", "section") and those after it."""
        self._stale.add(what)

        def work():
            stale, self._stale = self._stale, set()
            for each in ("sum", "mask", "units", "section"):
                if each in stale:
                    self._update(each)
                    return

        self.refresh(work)

    def _on_factors(self) -> None:
        """Discard the threshold, which is in the unit of the old factors, and find a new one."""
        self._preset_threshold = None
        self._set_silently(automatic=True)
        self.searching = True
        self._request("sum")

    def _on_threshold(self) -> None:
        if not self._programmatic:
            self._set_silently(automatic=False)
            self._request("mask")

    def _on_plane(self) -> None:
        self._centre_section()
        self._request("section")

    def _set_silently(self, **values) -> None:
        """Set traits without the reaction to a change by the user."""
        self._programmatic = True
        try:
            self.trait_set(**values)
        finally:
            self._programmatic = False

    def _centre_section(self) -> None:
        """Put the section in the middle of the volume."""
        last = self._volumes.shape[1 + PLANES[self.plane]] - 1
        self._centring = True
        try:
            self.position = min(self.position, last)
            self.last = last
            self.position = (last + 1) // 2
        finally:
            self._centring = False

    def _update(self, what: str) -> None:
        """Calculate and draw, from the stage `what` on: sum, mask, units, section."""
        try:
            if what == "sum":
                self._weight_elements()
            if self._total is None:
                return
            if what in ("sum", "mask"):
                self._select_particle()
            if what != "section":
                self._draw_statistics()
            self._draw_section()
            self.message = (
                f"The particle has {np.count_nonzero(self._inside)} voxels. Apply quantifies the "
                "whole volume."
            )
        except ValueError as error:
            if self._total is None:
                self._clear_pictures()
            self.message = error_text(error)
        finally:
            # A factor may have changed meanwhile; then another search is waiting.
            self.searching = "sum" in self._stale

    def _clear_pictures(self) -> None:
        """Replace the pictures of other settings by grey ones."""
        grey = png(np.full((32, 32, 3), EMPTY))
        for name in self.elements:
            self.trait_set(**{f"section_{name}": grey, f"caption_{name}": ""})
        self.trait_set(curve=grey, histogram=grey, profile=grey, statistics="", notes="")

    def _weight_elements(self) -> None:
        """Sum the weighted elements, and find the threshold of the sum."""
        self._total = None
        arguments = (
            self.method,
            self.factors(),
            self.elements,
            self._factor_route(),
            self._angles,
            self._used_options(),
        )
        (self._used, _), warned = with_warnings(lambda: factors_for(self.volume, *arguments))
        total = np.asarray(weighted_sum(self._volumes, self.elements, self.method, self._used))
        if self._mask_array is None:
            self._threshold_curve = thresholds.threshold_curve(self.volume, self._used, self.method)
            self._automatic_mask, more = with_warnings(
                lambda: particle_mask(total, self._threshold_method)
            )
            warned += more
            top = float(total.max())
            by_level = (
                self._threshold_curve.value
                if not (self._threshold_curve.ambiguous or self._threshold_method == "otsu")
                else otsu_level(table_of(total))[0]
            )
            self._set_silently(highest=max(self.highest, top))
            self._level = float(np.clip(by_level, 0, top))
            preset, self._preset_threshold = self._preset_threshold, None
            self._set_silently(
                threshold=self._level if preset is None else min(max(preset, 0.0), top)
            )
            self._set_silently(highest=top, automatic=preset is None)
        self._sum_warnings = warned
        self._total = total

    def _select_particle(self) -> None:
        """Select the voxels of the particle, and draw the threshold curve."""
        if self._mask_array is not None:
            self._inside = self._mask_array
            return
        if self.automatic:
            self._set_silently(threshold=self._level)
        self._inside = (
            self._automatic_mask if self.automatic else particle_mask(self._total, self.threshold)
        )
        figure, axes = small_figure()
        axes.plot(self._threshold_curve.levels, 100 * self._threshold_curve.volumes, color=CURVE)
        if np.isfinite(self._threshold_curve.value):
            axes.axvspan(
                *self._threshold_curve.flat, color=FLAT, alpha=0.3, linewidth=0, label="flat run"
            )
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
        """Return the percentages of some voxels, NaN outside the particle."""
        if not inside.any():
            return np.full(volumes.shape, np.nan, np.float32)
        call = (volumes, self.elements, self.method, self._used, self.composition_units)
        (parts, _), self._percent_warnings = with_warnings(lambda: quantify(*call, mask=inside))
        return np.where(inside, parts, np.nan)

    def _draw_statistics(self) -> None:
        """Draw the histogram and tabulate the mean composition of the particle."""
        chosen = self._volumes[:, self._inside]
        parts = self._percent(chosen, np.ones(chosen.shape[1], bool))
        self.notes = sentences([*self._sum_warnings, *self._percent_warnings])
        self._scales = [float(np.percentile(one, 99.7)) or 1.0 for one in parts]
        unit = f"{self.composition_units} %"
        # From the sums over the particle, so that noise below 0 averages out.
        means = mean_composition(
            chosen, self.elements, self.method, self._used, self.composition_units
        )
        named = zip(self.elements, means, parts, strict=True)
        rows = [[name, f"{mean:.2f}", f"{one.std():.2f}"] for name, mean, one in named]
        self.statistics = html_table(
            ["Element", f"mean ({unit})", f"standard deviation ({unit})"], rows
        )
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

    def _draw_section(self) -> None:
        """Draw the section, and the profile through it."""
        plane, at = self.plane, self.position
        volumes = np.stack([section(volume, plane, at) for volume in self._volumes])
        parts = self._percent(volumes, section(self._inside, plane, at))
        for name, part, top in zip(self.elements, parts, self._scales, strict=True):
            setattr(
                self,
                f"section_{name}",
                png(colour_mapped(part, (0, top), "viridis"), upward=plane[1] == "z"),
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

# SPDX-License-Identifier: GPL-3.0-or-later
"""State of the response-ratios panel: fit on a copy of the series, check residuals, attach."""

from __future__ import annotations

import numpy as np
import traits.api as t
from hyperspy.ui_registry import add_gui_method

from hyperspy_multitomo.composition.particle.threshold import specimen_mask
from hyperspy_multitomo.composition.response.blocks import sum_blocks
from hyperspy_multitomo.composition.response.ratios import ResponseRatios
from hyperspy_multitomo.signals.methods.common_tilts import paired
from hyperspy_multitomo.signals.methods.ratio_fitting import attach_ratios
from hyperspy_multitomo.widgets.display import (
    colour_mapped,
    html_table,
    sentences,
    series_description,
    small_figure,
    with_warnings,
)
from hyperspy_multitomo.widgets.panel import Panel, TaskControl
from hyperspy_multitomo.widgets.pictures import figure_png, png, robust

#: Mask level of `fit_response_ratios` without a mask: a fraction of the HAADF's 99th percentile.
LEVEL = 0.05
OUTLINE = (1.0, 0.55, 0.0)  # colour of the mask's outline: red, green, blue
_SETTINGS = ("method", "block_size", "min_counts", "rest", "mask_level")


@add_gui_method(toolkey="hyperspy_multitomo.response_ratios")
class ResponseRatiosPanel(Panel):
    """Settings, result and pictures of `TiltSeriesEDS.fit_response_ratios`.

    Parameters
    ----------
    eds : TiltSeriesEDS or TiltSeriesEELS
        Its ratios are unchanged until `apply`.
    haadf : TiltSeriesHAADF
    threaded : bool, default True
        Whether the kernel stays free during a fit.
    **settings
        Further keywords of `fit_response_ratios`.
    """

    method = t.Enum(
        "blocks",
        "poisson",
        desc="Sums over blocks of pixels, or the counts of the pixels themselves.",
    )
    block_size = t.Range(
        0, 128, 0, desc="Side of the blocks of pixels; 0 takes the smallest with enough counts."
    )
    min_counts = t.Range(
        1.0,
        1e6,
        50.0,
        desc="Counts of the weakest element in the mean block, for the automatic size.",
    )
    rest = t.Bool(
        False,
        desc="Add a channel for HAADF signal that no map explains, so that it does not bias the "
        "ratios.",
    )
    mask_level = t.Range(
        0.01,
        0.95,
        LEVEL,
        desc="Pixels above this fraction of the HAADF's 99th percentile are fitted as specimen.",
    )
    last_tilt = t.Int(0)
    tilt = t.Range(
        low=0,
        high="last_tilt",
        value=0,
        desc="The tilt that the pictures show; the fit uses all tilts.",
    )

    measured = t.Bytes(desc="HAADF image with the outline of the mask.")
    residual = t.Bytes(desc="Measured minus modelled HAADF of each block.")
    scatter = t.Bytes(desc="Measured against modelled HAADF of each block.")
    figures = t.Str(desc="Ratios, standard errors and quality of the fit.")
    notes = t.Str(desc="Warnings of the fit.")
    result = t.Instance(ResponseRatios, desc="The ratios that were attached last.")

    def __init__(self, eds, haadf, threaded: bool = True, **settings):
        super().__init__(threaded=threaded)
        self.eds, self.haadf = eds, haadf
        settings["block_size"] = settings.get("block_size") or 0
        self.trait_set(**{name: settings.pop(name) for name in _SETTINGS if name in settings})
        self.mask = settings.pop("mask", None)
        self._others = settings
        self._read()
        self.tilts = eds.tilts[self._common]
        self.last_tilt, self.tilt = len(self.tilts) - 1, len(self.tilts) // 2
        self._fit = self._fitted_with = self._blocks = self._limit = None
        attached = eds.response_ratios
        self.message = (
            "Press Fit."
            if attached is None
            else f"Attached now: {attached.in_words()}. Press Fit for others."
        )
        self._mask_pixels()
        self._draw()
        self.observe(lambda event: self.refresh(self._draw), "tilt")
        self.observe(lambda event: self.refresh(self._move_mask), "mask_level")
        for name in _SETTINGS:
            self.observe(self._changed, name)

    def fit(self) -> None:
        """Fit a copy of the series with the present settings, and show the result."""
        self._begin(self._show)

    def apply(self) -> None:
        """Attach the ratios of the present settings to the series, fitting them first if needed."""
        if words := self.hindrance():
            self.message = words
            return
        if self._fit is not None and self._fitted_with == self._settings():
            self._safely(self._attach)
            return

        def then(fitted):
            self._show(fitted)
            self._attach()

        self._begin(then)

    def keywords(self) -> dict:
        """Return the keywords of `fit_response_ratios` for the present settings."""
        mask = self.mask
        if mask is None and self.mask_level != LEVEL:
            mask = np.zeros((len(self.eds.tilts), *self._images.shape[:0:-1]), bool)
            mask[self._common] = specimen_mask(self._images, self.mask_level).transpose(0, 2, 1)
        chosen = {"method": self.method, "min_counts": self.min_counts, "rest": self.rest}
        # The panel has read all slices anyway, so a lazy series is fitted on all of them too.
        all_slices = {"slices": self._images.shape[-1]} if self.eds._lazy else {}
        return {
            **self._others,
            **chosen,
            **all_slices,
            "block_size": self.block_size or None,
            "mask": mask,
        }

    def _settings(self) -> tuple:
        """Return the settings and the alignments, either of which may change the fit."""
        return *(getattr(self, name) for name in _SETTINGS), *self._alignments()

    def _alignments(self) -> tuple:
        return self.eds.alignment, self.haadf.alignment

    def _read(self) -> None:
        """Read the images at the tilts and with the alignment of the maps."""
        pair = paired(self.eds, self.haadf)
        self._common, self._images, self._read_with = (
            pair.tilts,
            pair.haadf_without_gains,
            self._alignments(),
        )

    def _begin(self, then) -> None:
        if not self.running and self._read_with != self._alignments():
            self._safely(self._read)
        settings, keywords = self._settings(), self.keywords()
        # The copy shares the data; its metadata, to which the fit is attached, are its own.
        copy = self.eds._deepcopy_with_new_data(self.eds.data)

        def work(task: TaskControl):
            task.step(0.1, "Fitting the response ratios ...")
            fit, warned = with_warnings(lambda: copy.fit_response_ratios(self.haadf, **keywords))
            task.step(0.9)
            return fit, settings, copy.history[-1], warned

        self.start(work, then)

    def _show(self, fitted) -> None:
        self._fit, self._fitted_with, self._step, warned = fitted
        fit = self._fit
        rows = [
            [name, f"{value:.4g}", f"{error:.2g}", source, f"{counts:.3g}"]
            for (name, source), value, error, counts in zip(
                fit.sources.items(),
                fit.values,
                fit.standard_errors,
                fit.block_counts,
                strict=True,
            )
        ]
        blocks = f"blocks of {fit.block_size} px"
        self.figures = (
            html_table(
                ["Element", "ratio (signal/count)", "standard error", "", "counts per block"],
                rows,
            )
            + f"R² = {fit.r2:.4f} on {blocks}"
        )
        self.notes = sentences(warned)
        self._mask_pixels()
        sums = sum_blocks(self._images[None], self._images, self._pixels, fit.block_size)
        self._blocks = sums.as_map(sums.haadf)
        self._limit = float(np.nanpercentile(np.abs(fit.residual_map), 99)) or 1.0
        self._draw()
        self.message = f"Fitted on a copy: {fit.in_words()}. Apply attaches it to the series."

    def _attach(self) -> None:
        if (
            len(self.eds.tilts) != len(self._fit.residual_per_tilt)
            or self.eds.channels != self._fit.elements
        ):
            raise ValueError(
                "the series has other tilts or elements than when the panel was opened; open the "
                "panel again"
            )
        prior = {name: value for name, value in self._step.items() if name.startswith("prior")}
        attach_ratios(self.eds, self._fit, prior)
        self.result = self._fit
        self.message = f"Attached to {series_description(self.eds)}: {self._fit.in_words()}."

    def _changed(self, event) -> None:
        if self._fit is not None and not self.running:
            same = self._fitted_with == self._settings()
            self.message = (
                "These are the settings of the fit."
                if same
                else "The settings differ from the fit's: press Fit."
            )

    def _move_mask(self) -> None:
        self._mask_pixels()
        self._draw()

    def _mask_pixels(self) -> None:
        if self.mask is None:
            self._pixels = specimen_mask(self._images, self.mask_level)
            return
        mask = np.asarray(getattr(self.mask, "data", self.mask))
        expected = (len(self.eds.tilts), *self._images.shape[:0:-1])
        if mask.shape != expected:
            raise ValueError(
                f"the mask has the shape {mask.shape} but the maps are {expected} (tilt, y, x)"
            )
        self._pixels = mask.astype(bool).transpose(0, 2, 1)[self._common]

    def _draw(self) -> None:
        """Draw the pictures of the selected tilt."""
        from scipy.ndimage import binary_erosion

        at = self.tilt
        image, inside = self._images[at], self._pixels[at]
        picture = colour_mapped(image, robust(image), "gray")
        picture[inside & ~binary_erosion(inside, border_value=1)] = OUTLINE
        self.measured = png(picture.transpose(1, 0, 2))
        unexplained = np.full(image.shape, np.nan, np.float32)
        if self._fit is not None:
            blocks = self._fit.residual_map[self._common[at]]
            side = self._fit.block_size
            unexplained = blocks.repeat(side, axis=0).repeat(side, axis=1)[
                : image.shape[0], : image.shape[1]
            ]
        limit = self._limit or 1.0
        self.residual = png(
            colour_mapped(unexplained, (-limit, limit), "RdBu_r").transpose(1, 0, 2)
        )
        self.scatter = figure_png(self._scatter(at))

    def _scatter(self, at: int):
        figure, axes = small_figure()
        axes.set(xlabel="modelled HAADF per block", ylabel="measured HAADF per block")
        axes.ticklabel_format(style="sci", scilimits=(-3, 4))
        if self._fit is None:
            axes.text(0.5, 0.5, "no fit yet", transform=axes.transAxes, ha="center")
            return figure
        every, unexplained = self._blocks, self._fit.residual_map[self._common]
        axes.plot(
            (every - unexplained).ravel(),
            every.ravel(),
            ".",
            color="#bbbbbb",
            markersize=2,
            label="all tilts",
        )
        axes.plot(
            (every - unexplained)[at].ravel(),
            every[at].ravel(),
            ".",
            color="#0072B2",
            markersize=4,
            label="this tilt",
        )
        top = float(np.nanmax(every))
        axes.plot([0, top], [0, top], color="#D55E00", linewidth=1)
        axes.legend(frameon=False, fontsize=8)
        return figure

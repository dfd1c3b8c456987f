# SPDX-License-Identifier: GPL-3.0-or-later
"""EDS spectrum images to a series of elemental maps, one tilt in memory at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_multitomo.acquisition.counts import are_whole
from hyperspy_multitomo.acquisition.eds.elemental import prepare_fit
from hyperspy_multitomo.acquisition.eds.line_calibration import region_spectra
from hyperspy_multitomo.acquisition.eds.windows import prepare_windows
from hyperspy_multitomo.acquisition.sparse_counts import SparseSpectra, TiltSpectra
from hyperspy_multitomo.acquisition.units import unit_of
from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.machine.memory import OF_SPECTRA, available_memory
from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.machine.progress import progress_bar
from hyperspy_multitomo.parameters import shown
from hyperspy_multitomo.signals.build import build_series
from hyperspy_multitomo.signals.gate import SpectrumImages, spectra_of
from hyperspy_multitomo.signals.metadata.acquisition_settings import SCANNED, scanned_pixels
from hyperspy_multitomo.signals.metadata.history import add_step
from hyperspy_multitomo.signals.metadata.recorded_arrays import (
    NODE,
    axis_named,
    recall,
    record,
    recorded,
    set_keys,
)
from hyperspy_multitomo.signals.metadata.recorded_counts import mark_as_no_counts
from hyperspy_multitomo.signals.methods.aligning import AXIS, axis_position
from hyperspy_multitomo.signals.registry import class_of

if TYPE_CHECKING:
    from hyperspy_multitomo.signals.eds import TiltSeriesEDS

_METHODS = {"fit": prepare_fit, "windows": prepare_windows}


@checked
def elemental_maps(
    spectra,
    elements: Sequence[str] | None = None,
    lines: Sequence[str] | None = None,
    *,
    also: Sequence[str] | str = "auto",
    method: str = "fit",
    energy_range: tuple[float, float] | None = None,
    show_progressbar: bool | None = None,
) -> TiltSeriesEDS:
    """Make a series of elemental maps from the spectrum images of a tilt series.

    Parameters
    ----------
    spectra : EDSTEMSpectrum
        From `load_tilt_series`, or any EDS_TEM signal with axes called x, y, tilt and Energy (or
        width, angle ...) in any order, lazy or not, in raw counts.
    elements : sequence of str, optional
        Elements to map, each by its strongest line in range.
    lines : sequence of str, optional
        Lines to map instead, e.g. ``["Pt_Ma"]``.
    also : sequence of str or "auto", default "auto"
        Other elements in the spectra (grid, holder, column): they are fitted, or their lines
        avoided, but not mapped. With ``"auto"`` those that show strong peaks; a warning names them.
    method : {"fit", "windows"}, default "fit"
        ``"fit"``: weighted linear least squares of all line families and the background, which
        tells overlapping lines apart and is unbiased at any number of counts. ``"windows"``: a
        window on the line less one on each side.
    energy_range : (float, float), optional
        In keV; by default from 0.2 keV, above the strobe, to the end of the spectra.
    show_progressbar : bool, optional
        HyperSpy's preference by default.

    Returns
    -------
    TiltSeriesEDS
        Net counts of each element's main line, array order (tilt, element, y, x), float32, negative
        where noise makes them so. `TiltSeriesEDS.gross`, `background`, `window_share`, `lines` and
        `spectrum_fit` go with them.

    Raises
    ------
    ValueError
        For axes other than these, energies without a unit, negative or not finite counts, and
        elements without a line in range.
    TypeError
        For EELS spectra, whose maps `edge_maps` makes.

    Warns
    -----
    UserWarning
        Of elements in the spectra that are not listed, and of spectra that are no whole counts:
        their maps are marked as such.

    Notes
    -----
    Whole counts of which most channels are empty are read once, tilt by tilt, and kept (3 to 4
    bytes for each that is not 0) until the maps are made; others, and what is more than a quarter
    of the available memory, are read twice. Memory besides: the spectrum image of one tilt, of
    sparse ones a few rows of it, and the maps.

    Examples
    --------
    >>> import numpy as np, hyperspy.api as hs
    >>> import hyperspy_multitomo as mt
    >>> energy = 0.01 * np.arange(1, 1024)
    >>> iron = np.exp(-(((energy - 6.4039) / 0.057) ** 2) / 2) + 0.05
    >>> counts = np.random.default_rng(0).poisson(iron, (3, 8, 8, energy.size))
    >>> axes = [{"name": "tilt", "axis": [-20.0, 0.0, 20.0]}]
    >>> axes += [{"name": "y", "size": 8}, {"name": "x", "size": 8}]
    >>> calibration = {"offset": 0.01, "scale": 0.01, "units": "keV"}
    >>> axes += [{"name": "Energy", "size": energy.size} | calibration]
    >>> spectra = hs.signals.Signal1D(counts, axes=axes)
    >>> spectra.set_signal_type("EDS_TEM")
    >>> spectra.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200)
    >>> maps = mt.elemental_maps(spectra, elements=["Fe"], also=[], show_progressbar=False)
    >>> maps, maps.lines
    (<TiltSeriesEDS, title: EDS, dimensions: (1, 3|8, 8)>, ('Fe_Ka',))
    """
    if method not in _METHODS:
        raise ValueError(f"method={method!r} must be one of {', '.join(map(repr, _METHODS))}")
    if not hasattr(spectra, "axes_manager"):
        raise TypeError(
            f"spectra={shown(spectra)} must be an EDS signal with the axes (x, y, tilt | Energy)"
        )
    if str(spectra.metadata.get_item("Signal.signal_type", default="")) == "EELS":
        raise TypeError(
            "elemental_maps makes maps of X-ray lines, but these are EELS spectra; use edge_maps"
        )
    found = spectra_of(spectra)
    available, whole = available_memory(), []
    cubes = TiltSpectra(found.data, available and int(available * OF_SPECTRA))
    with progress_bar(show_progressbar, "reading spectra", len(cubes)) as step:
        regions = np.stack([stepped(_region_sums(cube, whole), step) for cube in cubes])
    microscope = "Acquisition_instrument.TEM."
    settings = {
        "elements": elements,
        "lines": lines,
        "also": () if also is None else also,
        "beam_energy": spectra.metadata.get_item(microscope + "beam_energy", default=None),
        "resolution": spectra.metadata.get_item(
            microscope + "Detector.EDS.energy_resolution_MnKa", default=None
        ),
        "energy_range": energy_range,
    }
    model = _METHODS[method](regions, found.energy, **settings)
    with progress_bar(
        False if cubes.all_cached else show_progressbar, "mapping elements", len(cubes)
    ) as step:
        made = [stepped(model.maps(cube, tilt), step) for tilt, cube in enumerate(cubes)]
    maps = series_of_counts(class_of("TiltSeriesEDS"), spectra, found, made)
    maps.metadata.set_item(
        f"{NODE}.spectrum_fit", _spectrum_fit(model if method == "fit" else model.fit)
    )
    add_step(maps, "elemental_maps", after=spectra, method=method, **settings)
    if not all(whole):
        warn(
            "the spectra are no whole counts (smoothed, scaled, clipped, or rebuilt from "
            "components?): what is cut off at 0 or "
            "rounded biases the maps, and their noise is not known; the maps are marked as no "
            "counts. Pass spectra as recorded"
        )
        mark_as_no_counts(maps, "spectra that are no whole counts")
    return maps


def _region_sums(cube: np.ndarray | SparseSpectra, whole: list[bool]) -> np.ndarray:
    """Return the sums of the spectra of a tilt by region; note whether they are whole counts."""
    whole.append(isinstance(cube, SparseSpectra) or are_whole(cube))
    return region_spectra(cube)


def stepped(result, step):
    """Move the progress bar on, and return the result."""
    if step is not None:
        step()
    return result


def series_of_counts(cls, spectra, images: SpectrumImages, counts_per_tilt):
    """Return the series of maps (one `ElementalCounts` per tilt) with all known of the spectra."""
    first = counts_per_tilt[0]
    net = np.stack([counts.net for counts in counts_per_tilt])
    maps = build_series(
        cls,
        net,
        images.tilts,
        images.sides,
        offsets=images.offsets,
        channels=first.elements,
        title=cls._TITLE,
    )
    if spectra.metadata.has_item("Acquisition_instrument"):
        maps.metadata.set_item(
            "Acquisition_instrument", spectra.metadata.Acquisition_instrument.as_dictionary()
        )
    if spectra.metadata.has_item(f"{NODE}.recorded_axes.x"):
        # Cropped spectra keep the position of the tilt axis; what was measured of the whole scan
        # needs the number of its pixels.
        for name in ("x", "y"):
            axis, of_spectra = axis_named(maps, name), axis_named(spectra, name)
            if unit_of(of_spectra.units).kind == "none":
                # Without calibration, positions in px say what was cropped and binned.
                axis.offset, axis.scale = of_spectra.offset, of_spectra.scale
        set_keys(maps)
        maps.metadata.set_item(AXIS, axis_position(spectra))
        maps.metadata.set_item(SCANNED, scanned_pixels(spectra))
    maps.metadata.set_item(
        f"{NODE}.tilt_axis", spectra.metadata.get_item(f"{NODE}.tilt_axis", default="y")
    )
    record(maps, "acquisition_order", images.acquisition_order, ("tilt",))
    for name in (
        "acquisition_order",
        "gains",
        "files",
        "acquired",
        "real_time",
        "live_time",
        "beam_current",
        "frame_drift",
    ):
        if recorded(spectra, name):
            record(maps, name, recall(spectra, name), ("tilt",))
    record(maps, cls._COUNTED, list(first.lines), ("element",))
    for name in ("gross", "background"):
        record(
            maps,
            name,
            np.stack([getattr(counts, name) for counts in counts_per_tilt]),
            ("tilt", "element", "y", "x"),
        )
    record(
        maps,
        "window_share",
        np.stack([counts.window_share for counts in counts_per_tilt]),
        ("tilt", "element"),
    )
    return maps


def _spectrum_fit(model) -> dict:
    """Return the spectrum of the series with its fit: energy (keV), counts, fit, background."""
    return {
        "energy": model.energy[model.fitted],
        "counts": model.spectra.sum(axis=0),
        "fit": np.sum([model.modelled(tilt) for tilt in range(len(model.spectra))], axis=0),
        "background": model.background.sum(axis=0),
    }

# SPDX-License-Identifier: GPL-3.0-or-later
"""EELS spectrum images to a series of edge maps, one tilt in memory at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_multitomo.acquisition.eds.line_calibration import region_spectra
from hyperspy_multitomo.acquisition.eels.edge_fit import prepare_edge_fit
from hyperspy_multitomo.acquisition.eels.edge_windows import prepare_edge_windows
from hyperspy_multitomo.acquisition.eels.edges import integration_ranges, resolve_edges
from hyperspy_multitomo.acquisition.eels.loss_spectra import check_losses
from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.machine.progress import progress_bar
from hyperspy_multitomo.parameters import shown, text
from hyperspy_multitomo.signals.eds_maps import series_of_counts, stepped
from hyperspy_multitomo.signals.gate import SpectrumImages, spectra_of
from hyperspy_multitomo.signals.metadata.history import add_step
from hyperspy_multitomo.signals.metadata.recorded_arrays import NODE, record
from hyperspy_multitomo.signals.registry import class_of

if TYPE_CHECKING:
    from hyperspy_multitomo.signals.eels import TiltSeriesEELS

_METHODS = ("fit", "windows")
_REGIONS = 8
# Standard errors that the counts of an edge must exceed in the sum of all tilts for it to be there.
_SIGNIFICANCE = 5.0


@checked(background=text, width=None)
def edge_maps(
    spectra,
    edges: Sequence[str],
    *,
    also: Sequence[str] = (),
    method: str = "fit",
    width: float = 50.0,
    integration_windows: Mapping[str, tuple[float, float]] | None = None,
    background_windows: Mapping[str, tuple[float, float]] | None = None,
    background: str = "PowerLaw",
    energy_range: tuple[float, float] | None = None,
    show_progressbar: bool | None = None,
) -> TiltSeriesEELS:
    """Make a series of edge maps from the EELS spectrum images of a tilt series.

    Parameters
    ----------
    spectra : EELSSpectrum
        From `load_tilt_series`, or any EELS signal with the axes ``(x, y, tilt | energy loss)``,
        lazy or not, in counts from which nothing was subtracted, with the energy scale right in all
        pixels.
    edges : sequence of str
        One edge of each element, e.g. ``["O_K", "Mn_L3", "Co_L3"]``.
    also : sequence of str, optional
        Other edges in the spectra: they are fitted, or kept out of the windows, but not mapped.
    method : {"fit", "windows"}, default "fit"
        ``"fit"``: weighted linear least squares of all edges (K and L3) and the background, which
        tells overlapping edges apart and has the lower noise. ``"windows"``: the counts above each
        onset less the background extrapolated from before it.
    width : float, default 50
        Width in eV of the windows from the onsets on, in which the counts of the edges are taken by
        both methods.
    integration_windows : dict of str to (float, float), optional
        Windows in eV for some edges, instead.
    background_windows : dict of str to (float, float), optional
        With ``"windows"``, where before the edges the background is fitted, in eV; by default a
        tenth of the onset wide, clear of the fine structure of the other edges.
    background : {"PowerLaw", "Exponential"}, default "PowerLaw"
        The background below the edges.
    energy_range : (float, float), optional
        With ``"fit"``, the energy losses in eV that are fitted; by default from 0.8 of the first
        onset to 1.25 of the last.
    show_progressbar : bool, optional
        HyperSpy's preference by default.

    Returns
    -------
    TiltSeriesEELS
        Net counts of each edge in its window, array order (tilt, element, y, x), float32, negative
        where noise makes them so. `TiltSeriesEELS.gross`, `background`, `window_share` (1), `edges`
        and `integration_windows` go with them, and with ``"fit"`` `spectrum_fit`, energies in keV.

    Raises
    ------
    ValueError
        For axes other than these, an axis without energies in eV or keV, unknown edges, ranges
        outside the data, windows that hold another listed edge or too few channels, counts that are
        not finite, and sums of spectra that are negative.
    TypeError
        For what is no EELS signal; `elemental_maps` makes maps of EDS spectra.

    Warns
    -----
    UserWarning
        Where an edge does not stand out of the background in the sum of all tilts, and where single
        values are negative: noise of a camera, with which the maps stay unbiased, but gross counts
        are not Poisson.

    Notes
    -----
    Exponents, and in the fit the shapes of the edges, are taken from summed spectra; in a pixel
    only amounts are estimated, which are linear in its counts. So the maps are not biased at few
    counts per pixel, as power laws fitted pixel by pixel are. Shapes are eXSpy's hydrogenic cross
    sections, bent within 45 eV of the onset into what the spectra of the whole series show (white
    lines, fine structure, the first plasmon). The spectra are read twice, tilt by tilt. Memory: the
    spectrum image of one tilt and the maps.

    References
    ----------
    R. F. Egerton, Electron Energy-Loss Spectroscopy in the Electron Microscope, 3rd ed., Springer
    (2011), ch. 4, doi:10.1007/978-1-4419-9583-4.

    Examples
    --------
    >>> import numpy as np, hyperspy.api as hs
    >>> import hyperspy_multitomo as mt
    >>> loss = np.arange(440.0, 640.0)
    >>> expected = 20 * (loss / 500) ** -3 + np.where(loss >= 532, 8 * (loss / 532) ** -4, 0)
    >>> counts = np.random.default_rng(0).poisson(expected, (3, 8, 8, loss.size))
    >>> axes = [{"name": "tilt", "axis": [-20.0, 0.0, 20.0]}]
    >>> axes += [{"name": "y", "size": 8}, {"name": "x", "size": 8}]
    >>> calibration = {"offset": 440.0, "scale": 1.0, "units": "eV"}
    >>> axes += [{"name": "Energy loss", "size": loss.size} | calibration]
    >>> spectra = hs.signals.Signal1D(counts, axes=axes)
    >>> spectra.set_signal_type("EELS")
    >>> maps = mt.edge_maps(spectra, ["O_K"], show_progressbar=False)
    >>> maps, maps.edges
    (<TiltSeriesEELS, title: EELS, dimensions: (1, 3|8, 8)>, ('O_K',))
    """
    if method not in _METHODS:
        raise ValueError(f"method={method!r} must be one of {', '.join(map(repr, _METHODS))}")
    if method == "fit" and background_windows is not None:
        raise ValueError(
            "background_windows go with method='windows'; the fit takes energy_range=(low, high) "
            "in eV"
        )
    if method == "windows" and energy_range is not None:
        raise ValueError(
            "energy_range goes with method='fit'; windows take background_windows={'O_K': (low, "
            "high)} in eV"
        )
    found = _checked_spectra(spectra)
    data, energy = found.data, 1e3 * found.energy
    listed = resolve_edges(edges, (energy[0], energy[-1]))
    others = _others(also, listed, (energy[0], energy[-1]))
    with progress_bar(show_progressbar, "summing spectra", len(data)) as step:
        summed = [stepped(_summed(cube, tilt, energy.size), step) for tilt, cube in enumerate(data)]
    regions, lowest = np.stack([sums for sums, _ in summed]), min(low for _, low in summed)
    if lowest < 0:
        warn(
            f"the spectra hold negative values (lowest {lowest:g}), the noise of a camera less its "
            "offset: the maps stay "
            "unbiased, but the gross counts are not Poisson, as reconstruct_em takes them to be"
        )
    settings = {
        "width": width,
        "integration_windows": integration_windows,
        "background": background,
    }
    if method == "fit":
        own = {"also": others, "energy_range": energy_range, **_microscope(spectra)}
        model = prepare_edge_fit(regions, energy, listed, **settings, **own)
    else:
        own = {"also": others, "background_windows": background_windows, "regions": _REGIONS}
        model = prepare_edge_windows(regions, energy, listed, **settings, **own)
    _warn_of_absent(model)
    with progress_bar(show_progressbar, "mapping edges", len(data)) as step:
        made = [stepped(model.maps(np.asarray(cube), tilt), step) for tilt, cube in enumerate(data)]
    maps = series_of_counts(class_of("TiltSeriesEELS"), spectra, found, made)
    windows = integration_ranges(listed, width, integration_windows)
    record(maps, "integration_windows", [windows[edge.name] for edge in listed], ("element",))
    if method == "fit":
        maps.metadata.set_item(f"{NODE}.spectrum_fit", _edge_spectrum(model))
    said = {
        "edges": list(edges),
        "background_windows": background_windows,
        **settings,
        **own,
        "also": list(also),
    }
    add_step(maps, "edge_maps", after=spectra, method=method, **said)
    return maps


def _others(also, listed, energy_range):
    """Return the edges that are in the spectra but not mapped; an error for one that is both."""
    if isinstance(also, str):
        raise ValueError(f'also={also!r} must be a list of edges such as ["{also}"]')
    twice = [name for name in also if name in {edge.name for edge in listed}]
    if twice:
        raise ValueError(
            f"also={list(also)} names {', '.join(twice)}, which is mapped; leave it out of one of "
            "the two"
        )
    return resolve_edges(also, energy_range, once=False) if len(also) else ()


def _checked_spectra(spectra) -> SpectrumImages:
    """Return the spectra in order, after checks of what the signal is."""
    if not hasattr(spectra, "axes_manager"):
        raise TypeError(
            f"spectra={shown(spectra)}: edge_maps needs an EELS signal with the axes (x, y, tilt | "
            "Energy loss), "
            f"got {type(spectra).__name__}"
        )
    kind = str(spectra.metadata.get_item("Signal.signal_type", default=""))
    if kind.startswith("EDS"):
        raise TypeError(
            f"edge_maps makes maps of EELS edges, but these are {kind} spectra; use elemental_maps"
        )
    if kind != "EELS":
        raise TypeError(
            f"edge_maps needs EELS spectra, got {spectra!r}; if they are, call "
            "spectra.set_signal_type('EELS') first"
        )
    found = spectra_of(spectra)
    if found.energy.size < 4:
        raise ValueError(
            f"the axis of the energies has {found.energy.size} channels; four or more are needed"
        )
    return found


def _summed(cube, tilt: int, channels: int) -> tuple[np.ndarray, float]:
    """Return the sums (region, energy) of the spectra of a tilt, and the lowest of its values."""
    cube = check_losses(np.asarray(cube), channels, f"the spectra of tilt number {tilt}")
    return region_spectra(cube, _REGIONS), float(cube.min())


def _microscope(spectra) -> dict[str, float]:
    """Return beam energy (keV) and semi-angles (mrad) as far as the metadata know them."""
    places = {
        "beam_energy": "beam_energy",
        "convergence_angle": "convergence_angle",
        "collection_angle": "Detector.EELS.collection_angle",
    }
    found = {
        name: spectra.metadata.get_item(f"Acquisition_instrument.TEM.{place}", default=None)
        for name, place in places.items()
    }
    return {name: float(value) for name, value in found.items() if value is not None}


def _warn_of_absent(model) -> None:
    net, errors = model.totals()
    net, errors = net.sum(axis=0), np.sqrt(np.sum(errors**2, axis=0))
    absent = [
        f"{edge.name} ({counts:.3g} ± {error:.2g} counts)"
        for edge, counts, error in zip(model.edges, net, errors, strict=True)
        if not counts > _SIGNIFICANCE * error
    ]
    if absent:
        warn(
            f"no edge stands out of the background in the sum of all tilts at {', '.join(absent)}; "
            "such maps hold noise alone: "
            "leave the edge out, or check the energy axis"
        )


def _edge_spectrum(model) -> dict:
    """Return the spectrum of the series with its fit: energy (keV), counts, fit, background."""
    fits = [model.modelled(tilt) for tilt in range(len(model.spectra))]
    return {
        "energy": model.energy * 1e-3,
        "counts": model.spectra.sum(axis=0),
        "fit": np.sum([fit for fit, _ in fits], axis=0),
        "background": np.sum([below for _, below in fits], axis=0),
    }

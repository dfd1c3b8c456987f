# SPDX-License-Identifier: GPL-3.0-or-later
"""A tilt series while it is acquired: files as they come, volumes, and evidence for a region."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_multitomo import parameters
from hyperspy_multitomo.acquisition.eds.xray_lines import families_of
from hyperspy_multitomo.acquisition.same_tilt import match_tilts
from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.reconstruction.recipes import RECIPES, methods_of
from hyperspy_multitomo.signals.arrays import pixel_ratio
from hyperspy_multitomo.signals.eds_maps import elemental_maps
from hyperspy_multitomo.signals.load import load_tilt_series
from hyperspy_multitomo.signals.methods.panels import open_panel
from hyperspy_multitomo.signals.methods.reconstruct import Call
from hyperspy_multitomo.signals.methods.volume_extent import EXTENT
from hyperspy_multitomo.signals.new_files import NewFiles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hyperspy_multitomo.alignment.transform import Alignment
    from hyperspy_multitomo.evidence import Evidence
    from hyperspy_multitomo.signals.eds import TiltSeriesEDS
    from hyperspy_multitomo.signals.haadf import TiltSeriesHAADF
    from hyperspy_multitomo.signals.volume import TomographicVolume

# Tilts from which a series can be aligned and reconstructed.
_FEWEST = 5


@dataclass(frozen=True, eq=False)
class Look:
    """What the files that were there showed.

    Attributes
    ----------
    tilts : array (tilt,)
        Degrees.
    volume : TomographicVolume
    haadf, eds : TiltSeriesHAADF, TiltSeriesEDS or None
        As the volume was made of them.
    evidence : Evidence or None
        For the region, where one is watched.
    seconds : float
        Since the watch began.
    notes : tuple of str
        Warnings of this look, each once.
    """

    tilts: np.ndarray
    volume: TomographicVolume
    haadf: TiltSeriesHAADF | None
    eds: TiltSeriesEDS | None
    evidence: Evidence | None
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(eq=False)
class Watch:
    """A folder that is being written to; iterate over it for a `Look` whenever files have come.

    It ends where the evidence reaches `stop_at`, where no file has come for `patience`, after
    `stop`, and at an interrupt; what was found stays in `last`.

    Attributes
    ----------
    last : Look or None
        The last one, which has all tilts so far.
    history : list of dict
        ``"tilts"`` (number), ``"seconds"``, and ``"z"``, ``"contrast"`` and ``"sd"`` of the row of
        the evidence with the largest z.
    reason : str
        Why it ended; empty while it goes on.
    """

    files: NewFiles
    elements: Sequence[str] | None
    region: Any
    element: str | Sequence[str] | None
    stop_at: float
    method: str
    keywords: Mapping[str, Any]
    loading: Mapping[str, Any]
    also: Sequence[str] | str
    poll: float
    patience: float | None
    last: Look | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    reason: str = ""
    _stopped: threading.Event = field(default_factory=threading.Event, repr=False)

    def __iter__(self) -> Iterator[Look]:
        began = heard = time.monotonic()
        done: set[tuple[Path, tuple[int, int]]] = set()
        try:
            while not self.reason:
                files = self.files.complete()
                if files.items() - done:
                    done = set(files.items())
                    look = self._look(list(files), began)
                    if look is not None:
                        self._keep(look)
                        yield look
                    heard = time.monotonic()
                    continue
                if self.patience is not None and time.monotonic() - heard > self.patience:
                    self.reason = f"no new file for {self.patience:g} s"
                elif self._stopped.wait(self.poll):
                    self.reason = "stopped"
        except KeyboardInterrupt:
            self.reason = "interrupted"

    def stop(self) -> None:
        """End the watch after the present look; from another thread, too."""
        self._stopped.set()

    def plot(self) -> Figure:
        """Draw z of the region against the number of tilts, with the z at which to stop."""
        from hyperspy_multitomo.inspection.watch_plot import plot_watch

        return plot_watch(self.history, self.stop_at)

    def _keep(self, look: Look) -> None:
        self.last = look
        row: dict[str, float] = {"tilts": len(look.tilts), "seconds": look.seconds}
        if look.evidence is not None:
            best = max(look.evidence, key=lambda one: abs(one.z))
            row |= {"z": best.z, "contrast": best.contrast, "sd": best.sd}
            if abs(best.z) >= self.stop_at:
                self.reason = f"z = {best.z:.1f} after {len(look.tilts)} tilts"
        if look.volume.history[-1].get("interrupted"):
            self.reason = "interrupted"
        self.history.append(row)

    def _look(self, files: list[Path], began: float) -> Look | None:
        """Return what the files show; None where they are too few, or show no new tilt."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            haadf, eds = self._series(files)
            source = eds if haadf is None else haadf
            if source is None or len(source.tilts) < _FEWEST or self._known(haadf, eds):
                return None
            self._align(haadf, eds)
            volume, initial = self._volume(haadf, eds)
            evidence = self._evidence(volume, initial, haadf, eds)
        notes = tuple(dict.fromkeys(str(one.message) for one in caught))
        seconds = time.monotonic() - began
        return Look(source.tilts, volume, haadf, eds, evidence, seconds, notes)

    def _series(self, files: list[Path]):
        """Return the HAADF series and the maps of files, None for what they do not have."""
        if len(files) < _FEWEST:
            return None, None
        try:
            found = load_tilt_series(files, on_error="skip", **self.loading)
        except (ValueError, OSError) as error:
            # Such as images whose spectra are still to come; the next files may mend it.
            warn(f"the {len(files)} files cannot be read together yet: {error}")
            return None, None
        haadf = eds = None
        for signal in found if isinstance(found, tuple) else (found,):
            if signal._signal_type == "TiltSeriesHAADF":
                haadf = signal
            elif signal._signal_type in ("TiltSeriesEDS", "TiltSeriesEELS"):
                eds = signal
            elif self.elements is not None:
                eds = elemental_maps(signal, self.elements, also=self.also, show_progressbar=False)
        return haadf, eds

    def _known(self, haadf, eds) -> bool:
        """Say whether the last look had these tilts already."""
        return self.last is not None and all(
            now is None or (before is not None and np.array_equal(now.tilts, before.tilts))
            for now, before in ((haadf, self.last.haadf), (eds, self.last.eds))
        )

    def _align(self, haadf, eds) -> None:
        """Align the series, the object staying where it was at the last look."""
        source = eds if haadf is None else haadf
        alignment = source.align(show_progressbar=False)
        before = None if self.last is None else (self.last.haadf or self.last.eds).alignment
        if before is not None:
            alignment = in_the_place_of(alignment, before)
            source.align(alignment)
        if haadf is not None and eds is not None:
            eds.align(alignment)

    def _volume(self, haadf, eds):
        """Return the volume, and the last one on its voxels, with which it was begun, or None."""
        series, beside = (haadf, None) if eds is None else (eds, haadf)
        if RECIPES[self.method].haadf == "none":
            beside = None
        keywords = {"show_progressbar": False} | self.keywords
        call = Call.of(series, self.method, beside, keywords).in_its_volume()
        start = None
        if self.last is not None:
            binning = 1 if beside is None else pixel_ratio(series, beside)
            extent = {name: call.run[name] for name in EXTENT}
            shape = series.geometry(**extent, binning=binning).volume_shape
            start = _on_voxels(self.last.volume, shape, call.recipe.channels(series, beside))
            call = Call.of_recipe(series, beside, call.recipe, {**call.run, "initial": start})
        return call.volume(call.prepare()), start

    def _evidence(self, volume, initial, haadf, eds):
        if self.region is None or eds is None:
            return None
        used = "haadf" in volume.history[-1]["made_of"]
        beside, tried = {"haadf": haadf} if used else {}, len(self.history) + 1
        return eds.evidence(
            volume, self.region, self.element, tried=tried, initial=initial, **beside
        )


@checked(
    folder=parameters.path,
    stop_at=parameters.positive_number,
    poll=parameters.positive_number,
    patience=parameters.positive_number,
    method=parameters.text,
)
def watch(
    folder,
    elements: Sequence[str] | None = None,
    *,
    region=None,
    element: str | Sequence[str] | None = None,
    stop_at: float = 5.0,
    method: str | None = None,
    also: Sequence[str] | str = "auto",
    tilts=None,
    tilt_axis: str = "y",
    reverse_tilts: bool = False,
    poll: float = 5.0,
    patience: float | None = None,
    interactive: bool = False,
    **keywords,
) -> Watch:
    """Watch a tilt series while it is acquired, up to enough evidence for a region.

    Parameters
    ----------
    folder : path-like
        That the microscope writes to, one file per tilt (and detector), or a pattern in it such as
        ``"run/*.bcf"``. It may be empty.
    elements : sequence of str, optional
        To map, where the files hold spectra. Without it, the HAADF images alone.
    region : Ellipsoid, Box, mask, list or dict of them, optional
        For which `TiltSeriesEDS.evidence` is asked at each look, in the coordinates of the volume.
        Fix it before the series begins, such as from an earlier one: what was found on the first
        tilts may not be tested on them.
    element : str or sequence of str, optional
        Element of the evidence, by default all that are mapped.
    stop_at : float, default 5.0
        z at which the watch ends.
    method : str, optional
        Of the reconstruction, as in ``reconstruct_tnv``: by default "tnv" of elements, "tv" of
        images alone.
    also, tilts, tilt_axis, reverse_tilts
        As in `elemental_maps` and `load_tilt_series`.
    poll : float, default 5.0
        Seconds between two looks at the folder. A file is read when it has not changed from one to
        the next, so that half-written ones wait; one that cannot be read is left out, with a note,
        and tried again when others come.
    patience : float, optional
        Seconds without a new file after which the watch ends; by default it goes on.
    interactive : bool, default False
        Open a panel that watches in the background, draws each look and has a button to stop.
    **keywords
        Of the reconstruction.

    Returns
    -------
    Watch
        Iterate over it: it gives a `Look`, with the volume and the evidence, whenever new tilts
        have come. `Watch.plot` draws the evidence so far. With `interactive` the panel.

    Raises
    ------
    FileNotFoundError
        Where there is no such folder, and during the watch where it disappears; the last look
        stays in ``Watch.last``.
    ValueError, TypeError
        For a method that does not exist, and what it refuses.

    Notes
    -----
    Every look loads all complete files, maps the elements, aligns, and reconstructs, begun with the
    last volume. The object keeps its place: what a new alignment moves it by is taken off. From
    five tilts on there is a volume.

    Looking again and again finds more by chance: probabilities are corrected for the looks so far.
    At z = 5 a hundred looks leave the chance of a false end below 10⁻⁴.

    Examples
    --------
    >>> import tempfile
    >>> import hyperspy.api as hs
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> folder = tempfile.mkdtemp()
    >>> image = np.zeros((16, 32))
    >>> image[4:12, 10:22] = 1
    >>> for tilt in range(-60, 61, 30):
    ...     hs.signals.Signal2D(image).save(f"{folder}/{tilt}.hspy")
    >>> series = mt.watch(folder, method="sirt", iterations=5, poll=0.1, patience=0.5)
    >>> [len(look.tilts) for look in series], series.reason
    ([5], 'no new file for 0.5 s')
    """
    _check_elements(elements, also, element, region)
    if tilt_axis not in ("x", "y"):
        raise ValueError(f"tilt_axis={tilt_axis!r} must be 'x' or 'y'")
    if method is None:
        method = "tv" if elements is None else "tnv"
    known = methods_of(() if elements is None else elements)
    if method not in known:
        raise ValueError(f"method={method!r} must be one of {', '.join(known)}")
    loading = {"tilts": tilts, "tilt_axis": tilt_axis, "reverse_tilts": reverse_tilts}
    made = Watch(
        NewFiles(folder),
        elements,
        region,
        element,
        stop_at,
        method,
        keywords,
        loading,
        also,
        poll,
        patience,
    )
    return open_panel("watch", made) if interactive else made


def _check_elements(elements, also, element, region) -> None:
    """Raise an error for what the first look would refuse: it may be hours away."""
    elements = [elements] if isinstance(elements, str) else elements
    if elements is not None and not len(elements):
        raise ValueError("elements is empty: name some, or leave it out for images alone")
    for one in [*(elements or ()), *(() if also == "auto" else also or ())]:
        families_of(one)
    if region is None:
        if element is not None:
            raise ValueError(f"element={element!r} is that of a region: pass region= too")
        return
    if elements is None:
        raise ValueError(
            "evidence is that of counts: a region needs elements= to map, or leave region= out"
        )
    asked = [element] if isinstance(element, str) else list(element or elements)
    if wrong := [str(one) for one in asked if one not in elements]:
        raise ValueError(
            f"element={element!r}: {', '.join(wrong)} is not among elements={elements}"
        )
    some = region.values() if isinstance(region, dict) else region
    for one in some if isinstance(some, list | tuple) or some is not region else [region]:
        if not (hasattr(one, "contains") or np.ndim(getattr(one, "data", one)) == 3):
            raise TypeError(
                f"region={parameters.shown(region)} must be an Ellipsoid, a Box, a mask (z, y, x), "
                "or some of them"
            )


def _on_voxels(volume, shape: tuple[int, int], channels: Sequence[str]) -> np.ndarray:
    """Return a volume about the same middle in another number of voxels along z and x."""
    roles = ("z", "element", "y", "x") if channels else ("z", "y", "x")
    values = volume.array(*roles)
    if channels:
        values = values[:, [volume.channels.index(name) for name in channels]]
    for axis, size in zip((0, -1), shape, strict=True):
        more = size - values.shape[axis]
        if more < 0:
            first = -more // 2
            values = np.take(values, range(first, first + size), axis=axis)
        elif more > 0:
            around = [(0, 0)] * values.ndim
            around[axis] = (more // 2, more - more // 2)
            values = np.pad(values, around)
    return values


def in_the_place_of(alignment: Alignment, before: Alignment) -> Alignment:
    """Return an alignment that leaves the object where an earlier one of some tilts had it.

    An alignment is known but for a displacement of the object, (x, z) across the axis and y along
    it: the one that fits the common tilts best is taken off.
    """
    places = match_tilts(np.asarray(before.tilts), np.asarray(alignment.tilts))
    common = places >= 0
    if common.sum() < 2:
        return alignment
    angles = np.deg2rad(np.asarray(alignment.tilts, float))
    moves = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    across = alignment.across - alignment.axis_offset
    differ = across[places[common]] - (before.across - before.axis_offset)[common]
    moved = np.linalg.lstsq(moves[places[common]], differ, rcond=None)[0]
    along = float(np.mean(alignment.along[places[common]] - before.along[common]))
    specimen = alignment.specimen
    if specimen is not None:
        specimen = replace(specimen, depth=specimen.depth + 2 * abs(float(moved[1])))
    return replace(
        alignment,
        across=alignment.across - moves @ moved,
        along=alignment.along - along,
        specimen=specimen,
    )

# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tilt series of elemental maps share, whatever spectra they come from: axes ``(element, tilt | x, y)``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np
from hyperspy.signals import Signal2D

from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.parameters import check_finite
from hyperspy_multitomo.signals.build import build_series, stack_channels
from hyperspy_multitomo.signals.gate import images_of
from hyperspy_multitomo.signals.metadata.acquisition_settings import DOSE, recorded_dose
from hyperspy_multitomo.signals.metadata.recorded_arrays import NODE, grid, recall, settle_stack
from hyperspy_multitomo.signals.metadata.recorded_counts import forget_counts
from hyperspy_multitomo.signals.methods import reconstruct_maps
from hyperspy_multitomo.signals.methods.preprocess import ElementalPreprocessing
from hyperspy_multitomo.signals.methods.response_ratios import Ratios
from hyperspy_multitomo.signals.methods.series_figures import ResponsePlot
from hyperspy_multitomo.signals.tilt_series import TiltSeries


class ElementalTiltSeries(
    ResponsePlot,
    ElementalPreprocessing,
    Ratios,
    TiltSeries,
    Signal2D,
):
    """Base of the tilt series of elemental maps: axes ``(element, tilt | x, y)``, array order (tilt, element, y, x)."""

    # Reconstructions, alone or with the HAADF.
    reconstruct_tv = reconstruct_maps.reconstruct_tv
    reconstruct_tgv = reconstruct_maps.reconstruct_tgv
    reconstruct_tnv = reconstruct_maps.reconstruct_tnv
    reconstruct_hebt = reconstruct_maps.reconstruct_hebt
    reconstruct_fused = reconstruct_maps.reconstruct_fused

    _TITLE = ""
    # What the counts of each element are those of: "lines" or "edges".
    _COUNTED = ""

    @classmethod
    @checked(maps=None, tilts=None, pixel_size=None)
    def from_maps(
        cls,
        maps: Mapping,
        tilts=None,
        pixel_size: float | Sequence[float] | None = None,
        *,
        tilt_axis: str = "y",
        reverse_tilts: bool = False,
        duplicates: str = "error",
    ) -> ElementalTiltSeries:
        """Make a series from the maps of each element and their tilts.

        Parameters
        ----------
        maps : dict of str to array-like, dask array, Signal2D or path-like
            For each element its maps, shape (tilt, y, x), in counts; a path is read through
            RosettaSciIO. Axes of signals go by their names, as in `TiltSeriesHAADF.from_images`.
        tilts : array-like of float or path-like, optional
            Tilt of each map in degrees, or the file that lists them; by default from the signals or
            files.
        pixel_size : float or (float, float), optional
            In nm, of both sides or (y, x); by default that of the signals or files.
        tilt_axis, reverse_tilts, duplicates
            As in `TiltSeriesHAADF.from_images`; merging sums maps of equal tilts and sets their
            gain to their number.

        Returns
        -------
        TiltSeriesEDS or TiltSeriesEELS
            Of the class that it is called on.

        Raises
        ------
        ValueError
            For maps of different shape or calibration, data that are not finite, or tilts that do
            not fit.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_multitomo as mt
        >>> maps = {"Yb": np.ones((3, 8, 10)), "Al": np.ones((3, 8, 10))}
        >>> eds = mt.TiltSeriesEDS.from_maps(maps, tilts=[-40, 0, 40], pixel_size=0.76)
        >>> eds.elements, eds
        (('Yb', 'Al'), <TiltSeriesEDS, title: EDS, dimensions: (2, 3|10, 8)>)
        """
        if not isinstance(maps, Mapping) or not maps:
            raise ValueError(
                'maps must be a dict with the maps of each element, e.g. {"Yb": yb, "Al": al}'
            )
        read = {
            name: images_of(item, tilts, pixel_size, f"the maps of {name}")
            for name, item in maps.items()
        }
        first, one = next(iter(read.items()))
        for name, other in read.items():
            if other.data.shape != one.data.shape:
                raise ValueError(
                    f"the maps of {name} have the shape {other.data.shape} but those of {first} "
                    f"have {one.data.shape}"
                )
            if not np.array_equal(other.tilts, one.tilts):
                raise ValueError(
                    f"the maps of {name} have other tilts than those of {first}; give maps of the "
                    "same tilts"
                )
            if not np.allclose(other.scan, one.scan, rtol=1e-4, equal_nan=True):
                raise ValueError(
                    f"the maps of {name} have another pixel size or position, {other.sides} nm "
                    f"from {other.offsets} nm, than "
                    f"those of {first}, {one.sides} nm from {one.offsets} nm (y, x); calibrate all "
                    "alike, or pass pixel_size="
                )
        stacked = stack_channels([item.data for item in read.values()], axis=1)
        return build_series(
            cls,
            stacked,
            one.tilts,
            one.sides,
            offsets=one.offsets,
            channels=tuple(maps),
            tilt_axis=tilt_axis,
            reverse_tilts=reverse_tilts,
            duplicates=duplicates,
            metadata=one.metadata,
            title=cls._TITLE,
        )

    @property
    def gross(self) -> np.ndarray | None:
        """Counts as recorded in the window of each line or edge, shape (tilt, element, y, x), binned as the data, or None.

        ``series.gross = None`` takes them off, with `background` and `window_share`.
        """
        return recall(self, "gross")

    @gross.setter
    def gross(self, values: None) -> None:
        if values is not None:
            raise ValueError(
                "gross counts are recorded by elemental_maps and edge_maps; set them to None to "
                "take them off"
            )
        forget_counts(self)

    @property
    def background(self) -> np.ndarray | None:
        """What of `gross` is expected not to be the element's own: background and overlaps, shape as `gross`, or None."""
        return recall(self, "background")

    @property
    def window_share(self) -> np.ndarray | None:
        """Counts of its own that each net count leaves in the window, shape (tilt, element): gross = share net + background."""
        return recall(self, "window_share")

    @property
    def dose(self) -> float | None:
        """Electrons per pixel and tilt at a gain of 1, for absolute numbers; None where it is not known.

        By default from the beam current and the live time in the metadata, which is that of the
        whole map, over the pixels of the map as it was scanned. Set it where the files have it
        wrong or not at all.
        """
        settle_stack(self)
        held = self.metadata.get_item(DOSE, default=None)
        if held is None:
            return recorded_dose(self)
        return float(held) * grid(self, "x")[1] * grid(self, "y")[1]

    @dose.setter
    def dose(self, electrons: float | None) -> None:
        if electrons is None:
            self.metadata.set_item(DOSE, None)
            return
        if not isinstance(electrons, Real) or not (np.isfinite(electrons) and electrons > 0):
            raise ValueError(
                f"the dose is {electrons!r}; expected one positive number of electrons per pixel "
                "and tilt (what differs from "
                "tilt to tilt belongs into the gains)"
            )
        self.metadata.set_item(DOSE, float(electrons) / (grid(self, "x")[1] * grid(self, "y")[1]))

    @property
    def spectrum_fit(self) -> dict[str, np.ndarray] | None:
        """Spectrum of the whole series behind the maps: ``energy`` (keV), ``counts``, ``fit`` and ``background``; or None."""
        settle_stack(self)
        if not self.metadata.has_item(f"{NODE}.spectrum_fit"):
            return None
        held = self.metadata.get_item(f"{NODE}.spectrum_fit").as_dictionary()
        return {name: np.asarray(values) for name, values in held.items()}

    def _alignment_images(self) -> np.ndarray:
        images = np.asarray(self.array("element", "tilt", "x", "y"), dtype=np.float32).sum(axis=0)
        check_finite(images, "the sum of the elemental maps")
        return images

# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tilt series of elemental maps share, whatever spectra they come from: axes ``(element, tilt | x, y)``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from hyperspy.signals import Signal2D

from .base import check_finite
from .bimodal import BimodalReconstructions
from .build import build_series, images_and_axes, stack_channels
from .conditions import DOSE, recorded_dose
from .keyed import NODE, grid, recall
from .preprocess import ElementalPreprocessing
from .ratios import Ratios
from .regularised import RegularisedMaps
from .series_plots import ResponsePlot
from .tilt_series import TiltSeries


class ElementalTiltSeries(
    ResponsePlot, ElementalPreprocessing, Ratios, BimodalReconstructions, RegularisedMaps, TiltSeries, Signal2D
):
    """Base of the tilt series of elemental maps: axes ``(element, tilt | x, y)``, array order (tilt, element, y, x)."""

    _ITERATIONS = 20
    _TITLE = ""
    # What the counts of each element are those of: "lines" or "edges".
    _COUNTED = ""

    @classmethod
    def from_maps(
        cls,
        maps: Mapping,
        tilts=None,
        pixel_size: float | None = None,
        *,
        tilt_axis: str = "y",
        reverse_tilts: bool = False,
        duplicates: str = "error",
    ) -> ElementalTiltSeries:
        """Make a series from the maps of each element and their tilts.

        Parameters
        ----------
        maps : dict of str to array-like, dask array, Signal2D or path-like
            For each element its maps, shape (tilt, y, x), in counts; a path is read through RosettaSciIO.
        tilts : array-like of float or path-like, optional
            Tilt of each map in degrees, or the file that lists them; by default from the signals or files.
        pixel_size : float, optional
            In nm; by default that of the signals or files.
        tilt_axis, reverse_tilts, duplicates
            As in `TiltSeriesHAADF.from_images`; merging sums maps of equal tilts and sets their gain to their number.

        Returns
        -------
        TiltSeriesEDS or TiltSeriesEELS
            Of the class that it is called on.

        Raises
        ------
        ValueError
            For maps of different shape or calibration, data that are not finite, or tilts that do not fit.

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
            raise ValueError('maps must be a dict with the maps of each element, e.g. {"Yb": yb, "Al": al}')
        read = {name: images_and_axes(item, tilts, pixel_size) for name, item in maps.items()}
        (first, (data, tilts, pixel_size, metadata)) = next(iter(read.items()))
        for name, (other, other_tilts, other_size, _) in read.items():
            if other.shape != data.shape:
                raise ValueError(f"the maps of {name} have the shape {other.shape} but those of {first} have {data.shape}")
            if not np.array_equal(other_tilts, tilts) or other_size != pixel_size:
                raise ValueError(
                    f"the maps of {name} have other tilts or another pixel size ({other_size} nm) than those of {first}"
                )
        stacked = stack_channels([item[0] for item in read.values()], axis=1)
        return build_series(
            cls,
            stacked,
            tilts,
            pixel_size,
            channels=tuple(maps),
            tilt_axis=tilt_axis,
            reverse_tilts=reverse_tilts,
            duplicates=duplicates,
            metadata=metadata,
            title=cls._TITLE,
        )

    @property
    def gross(self) -> np.ndarray | None:
        """Counts as recorded in the window of each line or edge, shape (tilt, element, y, x), binned as the data, or None."""
        return recall(self, "gross")

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

        By default from the beam current and the live time in the metadata, which is that of the whole map, over the pixels of the
        map as it was scanned. Set it where the files have it wrong or not at all.
        """
        held = self.metadata.get_item(DOSE, default=None)
        if held is None:
            return recorded_dose(self)
        return float(held) * grid(self, "x")[1] * grid(self, "y")[1]

    @dose.setter
    def dose(self, electrons: float | None) -> None:
        if electrons is None:
            self.metadata.set_item(DOSE, None)
            return
        if not (np.ndim(electrons) == 0 and np.isfinite(electrons) and electrons > 0):
            raise ValueError(
                f"the dose is {electrons!r}; expected one positive number of electrons per pixel and tilt (what differs from "
                "tilt to tilt belongs into the gains)"
            )
        self.metadata.set_item(DOSE, float(electrons) / (grid(self, "x")[1] * grid(self, "y")[1]))

    @property
    def spectrum_fit(self) -> dict[str, np.ndarray] | None:
        """Spectrum of the whole series behind the maps: ``energy`` (keV), ``counts``, ``fit`` and ``background``; or None."""
        if not self.metadata.has_item(f"{NODE}.spectrum_fit"):
            return None
        held = self.metadata.get_item(f"{NODE}.spectrum_fit").as_dictionary()
        return {name: np.asarray(values) for name, values in held.items()}

    def _alignment_images(self) -> np.ndarray:
        images = np.asarray(self.array("element", "tilt", "x", "y"), dtype=np.float32).sum(axis=0)
        check_finite(images, "the sum of the elemental maps")
        return images

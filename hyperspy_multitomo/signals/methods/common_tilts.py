# SPDX-License-Identifier: GPL-3.0-or-later
"""Maps and HAADF images of the same pixels, at the tilts that both series have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyperspy_multitomo.signals.arrays import check_pair, even, gains_of, in_one_frame
from hyperspy_multitomo.signals.methods.tilt_gains import haadf_at


@dataclass(frozen=True)
class Pair:
    """Two series as arrays that correspond pixel by pixel.

    They are not resampled where they share their alignment.

    Attributes
    ----------
    eds : ElementalTiltSeries
        The series of the maps, as it corresponds to the images.
    tilts : numpy.ndarray of int (tilt,)
        Places of the shared tilts in the series of the maps.
    partners : numpy.ndarray of int (tilt,)
        Their places in the HAADF series.
    binning : int
        Pixels of the HAADF series that make one of the maps, along each edge; `haadf` is averaged
        over them.
    maps : numpy.ndarray (element, tilt, x, y), float32
        Net counts, divided by the contrast of the X-ray transmission within each image.
    haadf : numpy.ndarray (tilt, x, y), float32
    gains : numpy.ndarray (tilt,) or (element, tilt), or None
    haadf_gains : numpy.ndarray (tilt,) or None
    """

    eds: object
    tilts: np.ndarray
    partners: np.ndarray
    binning: int
    maps: np.ndarray
    haadf: np.ndarray
    gains: np.ndarray | None
    haadf_gains: np.ndarray | None

    @property
    def maps_without_gains(self) -> np.ndarray:
        """The maps over their gains, (element, tilt, x, y)."""
        if self.gains is None:
            return self.maps
        return self.maps / np.broadcast_to(self.gains, self.maps.shape[:2])[..., None, None].astype(
            np.float32
        )

    @property
    def haadf_without_gains(self) -> np.ndarray:
        """The HAADF images over their gains, (tilt, x, y)."""
        return (
            self.haadf
            if self.haadf_gains is None
            else self.haadf / self.haadf_gains[:, None, None].astype(np.float32)
        )


def paired(eds, haadf, rows: np.ndarray | None = None) -> Pair:
    """Return both series at the tilts that they share; an error where there are none.

    With `rows`, pixels along y of the maps, these alone are taken, of lazy series without reading
    the others.
    """
    binning = check_pair(eds, haadf)
    partners = haadf_at(eds.tilts, haadf)
    common = np.flatnonzero(partners >= 0)
    if not common.size:
        raise ValueError(
            f"the {eds._TITLE} tilts {eds.tilts} and HAADF tilts {haadf.tilts} have none in "
            "common; pass images at the "
            "tilts of the maps, or give response ratios by hand"
        )
    partners = partners[common]
    framed, images = in_one_frame(eds, haadf)
    gains, haadf_gains = gains_of(framed), gains_of(haadf)
    maps, images = (
        even(framed, framed.array("element", "tilt", "x", "y")),
        images.array("tilt", "x", "y"),
    )
    if rows is not None:
        maps, images = maps[..., rows], images[..., rows]
    return Pair(
        eds=framed,
        tilts=common,
        partners=partners,
        binning=binning,
        maps=np.asarray(maps[:, common], dtype=np.float32),
        haadf=np.asarray(images[partners], dtype=np.float32),
        gains=None if gains is None else gains[..., common],
        haadf_gains=None if haadf_gains is None else haadf_gains[partners],
    )

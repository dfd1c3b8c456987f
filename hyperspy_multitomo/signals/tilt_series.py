# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tilt series share: tilts, gains, the tilt axis, the alignment and the projection geometry."""

from __future__ import annotations

import math

import numpy as np

from ..alignment.transform import Alignment
from ..tomography.geometry import TiltGeometry
from .base import TomographySignal
from .frames import aligned_copy
from .history import add_step
from .keyed import NODE, axis_named, forget, grid, recall, record, recorded, to_present, to_recorded
from .preprocess import Preprocessing
from .reconstructions import Reconstructions

AXIS = f"{NODE}.axis_position"
_ROTATION = f"{NODE}.rotation"


class TiltSeries(Preprocessing, Reconstructions, TomographySignal):
    """Mixin of the tilt series: images (or maps) of one object, one per tilt, the tilt axis along y."""

    @property
    def tilts(self) -> np.ndarray:
        """Tilts in degrees, ascending, shape (tilt,)."""
        axis = axis_named(self, "tilt")
        if axis is None:
            raise ValueError("this series has no axis 'tilt' any more (one tilt sliced out, or summed)")
        return np.array(axis.axis, dtype=float)

    @property
    def acquisition_order(self) -> np.ndarray | None:
        """Place of each tilt in the order of acquisition, 0 first, shape (tilt,); None where it is not known."""
        return recall(self, "acquisition_order")

    @property
    def tilt_axis(self) -> str:
        """The direction, ``"x"`` or ``"y"``, that the tilt axis had in the images as they were loaded; here it is y."""
        return self.metadata.get_item(f"{NODE}.tilt_axis", default="y")

    @property
    def gains(self) -> np.ndarray | None:
        """Gain of each tilt, shape (tilt,), or of each tilt and element, (tilt, element); None where none are set.

        The forward model is ``data = gain * projection``: live time, dose and shadowing go here, and the data stay as counted.
        """
        return recall(self, "gains")

    @gains.setter
    def gains(self, values) -> None:
        if values is None:
            forget(self, "gains")
            return
        values = np.asarray(values, dtype=float)
        shapes = {(len(self.tilts),): ("tilt",)}
        if self.channels:
            shapes[(len(self.tilts), len(self.channels))] = ("tilt", "element")
        if values.shape not in shapes or not np.all(np.isfinite(values)) or np.any(values <= 0):
            expected = " or ".join(map(str, shapes))
            raise ValueError(
                f"gains must be positive and of the shape {expected} (tilt[, element]); got the shape {values.shape}"
            )
        record(self, "gains", values, shapes[values.shape])

    @property
    def axis_offset(self) -> float:
        """Position of the tilt axis across the images, in px from their centre (n - 1)/2, positive towards larger x."""
        return axis_position(self) - (axis_named(self, "x").size - 1) / 2

    @property
    def alignment(self) -> Alignment | None:
        """The attached alignment in px of the images as they are now, or None.

        It is kept in pixels of the series as it was loaded, so that slicing by tilt, cropping and rebinning keep it true.
        """
        if not recorded(self, "across"):
            return None
        across, along = recall(self, "across"), recall(self, "along")
        rotation = self.metadata.get_item(_ROTATION, default=0.0)
        if rotation:
            across, along = self._about_present_centre(across, along, rotation)
        return Alignment(
            across=across / grid(self, "x")[1], along=along / grid(self, "y")[1], axis_offset=self.axis_offset, rotation=rotation
        )

    @alignment.setter
    def alignment(self, alignment: Alignment | None) -> None:
        if alignment is None:
            for name in ("across", "along"):
                forget(self, name)
            return
        if len(alignment.across) != len(self.tilts):
            raise ValueError(f"the alignment has shifts for {len(alignment.across)} tilts but the series has {len(self.tilts)}")
        across, along = alignment.across * grid(self, "x")[1], alignment.along * grid(self, "y")[1]
        if alignment.rotation:
            across, along = self._about_present_centre(across, along, alignment.rotation, inverse=True)
        record(self, "across", across, ("tilt",))
        record(self, "along", along, ("tilt",))
        centre = (axis_named(self, "x").size - 1) / 2
        self.metadata.set_item(AXIS, to_recorded(self, "x", centre + alignment.axis_offset))
        self.metadata.set_item(_ROTATION, float(alignment.rotation))

    def _about_present_centre(self, across, along, rotation: float, inverse: bool = False):
        """Re-express shifts (recorded px) that go before a rotation about the recorded centre for the present centre.

        R (v + s - c) + c = R (v + s' - c') + c'  gives  s' = s + (R^-1 - 1)(c - c').
        """
        difference = []
        for name in ("x", "y"):
            size = np.asarray(self.metadata.get_item(f"{NODE}.recorded_axes.{name}"))[2]
            difference.append((size - 1) / 2 - to_recorded(self, name, (axis_named(self, name).size - 1) / 2))
        turn = math.radians(-rotation)
        dx, dy = difference
        shift_x = (math.cos(turn) - 1) * dx - math.sin(turn) * dy
        shift_y = math.sin(turn) * dx + (math.cos(turn) - 1) * dy
        sign = -1 if inverse else 1
        return across + sign * shift_x, along + sign * shift_y

    def align(self, alignment: Alignment | None = None, *, method: str = "auto") -> Alignment:
        """Measure the alignment, or take one that was measured on the other modality, and attach it.

        Nothing is resampled: a reconstruction puts the shifts across the tilt axis into its geometry and resamples
        once for those along it. `aligned` gives aligned images to look at.

        Parameters
        ----------
        alignment : Alignment, optional
            Shifts (px of this series) of the same tilts, e.g. ``eds.align(haadf.alignment)``. Measured where it is None.
        method : {"auto", "cross_correlation", "centre_of_mass"}, default "auto"
            How to measure. ``"auto"`` decides for each direction: the centre of mass where the object lies wholly in view,
            else the cross-correlation of neighbouring tilts.

        Returns
        -------
        Alignment
            ``across`` and ``along`` (px per tilt, to be added to the object's position), ``axis_offset`` (px) and
            ``rotation`` (degrees).

        Raises
        ------
        ValueError
            If the number of tilts does not match, or images have no features to align by.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_multitomo as mt
        >>> images = np.zeros((3, 16, 16)); images[:, 6:10, 5:9] = 1
        >>> haadf = mt.TiltSeriesHAADF.from_images(images, tilts=[-10, 0, 10])
        >>> haadf.align(method="centre_of_mass").across.shape
        (3,)
        """
        if alignment is None:
            from ..alignment.shifts import align

            alignment = align(self._alignment_images(), self.tilts, method=method)
        else:
            method = "given"
        self.alignment = alignment
        add_step(self, "align", method=method, **alignment.as_dict())
        return self.alignment

    def aligned(self) -> TiltSeries:
        """Return the series with the attached alignment applied (linear interpolation), to look at.

        The copy has its tilt axis in the middle and no alignment attached. Elemental maps lose their `gross` and `background`
        counts, which belong to the images as recorded.
        """
        return aligned_copy(self)

    def geometry(self, depth: float | None = None, width: float | None = None, *, binning: int = 1) -> TiltGeometry:
        """Return the projection geometry of this series.

        Parameters
        ----------
        depth, width : float, optional
            Extent of the volume along z and x in nm (px where the series has no calibration); as wide as the detector by default.
        binning : int, default 1
            Voxels along the edge of a pixel of this series, for a volume on the finer grid of another one.

        Returns
        -------
        TiltGeometry

        Raises
        ------
        ValueError
            For an extent that is not positive, or axes that have been summed or sliced away.
        """
        tilts, axis = self.tilts, axis_named(self, "x")
        if axis is None:
            raise ValueError("this series has no axis 'x' any more (summed or sliced away), so that it has no projections")
        pixel = (self.pixel_size or 1.0) / binning
        shape = tuple(
            axis.size * binning if extent is None else _pixels(extent, pixel, name)
            for extent, name in ((depth, "depth"), (width, "width"))
        )
        alignment = self.alignment
        shifts = None if alignment is None else alignment.geometry_shifts
        return TiltGeometry(
            tilts=tilts,
            detector_width=axis.size,
            volume_shape=shape,
            pixel_size=pixel,
            axis_offset=self.axis_offset,
            shifts=shifts,
            binning=binning,
        )


def axis_position(signal) -> float:
    """Return where the tilt axis is on the present axis x of a series or of its spectra (px, 0 = centre of the first pixel)."""
    recorded_size = np.asarray(signal.metadata.get_item(f"{NODE}.recorded_axes.x"))[2]
    return to_present(signal, "x", signal.metadata.get_item(AXIS, default=(recorded_size - 1) / 2))


def _pixels(extent: float, pixel: float, name: str) -> int:
    if not (math.isfinite(extent) and extent > 0):
        raise ValueError(f"{name}={extent!r} must be a positive length in nm (px without calibration)")
    return max(1, round(extent / pixel))

# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tilt series share: tilts, gains, the tilt axis and the projection geometry."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.acquisition.axes import calibrated, checked_values, pixel_sides
from hyperspy_multitomo.acquisition.tilts import check_order
from hyperspy_multitomo.acquisition.units import unit_of
from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.parameters import numbers
from hyperspy_multitomo.signals.base import TomographySignal
from hyperspy_multitomo.signals.gate import axes_of
from hyperspy_multitomo.signals.metadata.recorded_arrays import (
    NODE,
    axis_named,
    forget,
    recall,
    record,
)
from hyperspy_multitomo.signals.methods import reconstruct, reconstruct_series
from hyperspy_multitomo.signals.methods.aligning import Aligning
from hyperspy_multitomo.signals.methods.browsing import Browsing
from hyperspy_multitomo.signals.methods.indexing import remedy
from hyperspy_multitomo.signals.methods.preprocess import Preprocessing
from hyperspy_multitomo.signals.methods.series_figures import SeriesPlots
from hyperspy_multitomo.tomography.geometry import TiltGeometry

# Voxels along each edge of a section.
_FEWEST = 2


class TiltSeries(SeriesPlots, Aligning, Browsing, Preprocessing, TomographySignal):
    """Mixin of the tilt series: images (or maps) of one object, one per tilt, the tilt axis along y."""

    # The noise (`data_terms.Noise`) of the series that this one was cut out of to be looked at.
    noise_of_whole = None

    # Reconstructions from the series alone.
    plan_reconstruction = reconstruct.plan_reconstruction
    reconstruct_fbp = reconstruct_series.reconstruct_fbp
    reconstruct_sirt = reconstruct_series.reconstruct_sirt
    reconstruct_em = reconstruct_series.reconstruct_em
    reconstruct_cgls = reconstruct_series.reconstruct_cgls

    @property
    def tilts(self) -> np.ndarray:
        """Tilts in degrees, ascending, shape (tilt,)."""
        axis = axis_named(self, "tilt")
        if axis is None:
            raise ValueError(f"this series has no axis 'tilt' any more: {remedy('tilt')}")
        unit = unit_of(axis.units)
        if unit.kind not in ("angle", "none") or not np.isclose(unit.factor, 1.0):
            raise ValueError(
                f"the axis 'tilt' is in {axis.units}, expected degrees: make the series with "
                f"{type(self).__name__}.from_"
                f"{'maps' if self.channels else 'images'}, which converts them"
            )
        return np.array(axis.axis, dtype=float)

    @property
    def acquisition_order(self) -> np.ndarray | None:
        """Place of each tilt in the order of acquisition, 0 first, shape (tilt,); None where it is not known.

        Raises
        ------
        ValueError
            Where what is recorded is no order, as in a damaged file.
        """
        return check_order(recall(self, "acquisition_order"))

    @property
    def tilt_axis(self) -> str:
        """The direction, ``"x"`` or ``"y"``, that the tilt axis had in the images as they were loaded; here it is y."""
        return self.metadata.get_item(f"{NODE}.tilt_axis", default="y")

    @property
    def gains(self) -> np.ndarray | None:
        """Gain of each tilt, shape (tilt,), or of each tilt and element, (tilt, element); None where none are set.

        The forward model is ``data = gain * projection``: live time, dose and shadowing go here,
        and the data stay as counted.
        """
        return recall(self, "gains")

    @gains.setter
    @checked(gains=numbers)
    def gains(self, gains: ArrayLike | None) -> None:
        if gains is None:
            forget(self, "gains")
            return
        values = np.asarray(checked_values(gains, "gains"), dtype=float)
        shapes = {(len(self.tilts),): ("tilt",)}
        if self.channels:
            shapes[(len(self.tilts), len(self.channels))] = ("tilt", "element")
        if values.shape not in shapes or not np.all(np.isfinite(values)) or np.any(values <= 0):
            expected = " or ".join(map(str, shapes))
            raise ValueError(
                f"gains must be positive and of the shape {expected} (tilt[, element]); got the "
                f"shape {values.shape}"
            )
        record(self, "gains", values, shapes[values.shape])

    @checked
    def geometry(
        self, depth: float | None = None, width: float | None = None, *, binning: int = 1
    ) -> TiltGeometry:
        """Return the projection geometry of this series.

        Parameters
        ----------
        depth, width : float, optional
            Extent of the volume along z and x in nm (px where the series has no calibration); as
            wide as the detector by default.
        binning : int, default 1
            Voxels along the edge of a pixel of this series, for a volume on the finer grid of
            another one.

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
            raise ValueError(
                "this series has no axis 'x' any more, so that it has no projections: "
                f"{remedy('x')}"
            )
        self._check_units()
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

    def _check_units(self) -> None:
        """Warn of axes that are calibrated in part, or in a unit that is none; an error for one that is no length."""
        axes = {axis["name"]: axis for axis in axes_of(self) if axis["name"] in ("x", "y")}
        what = f"the {self.metadata.General.title} series"
        pixel_sides(
            {name: calibrated(name, axis, what) for name, axis in axes.items()}, what, tuple(axes)
        )


def _pixels(extent: float, pixel: float, name: str) -> int:
    if not (math.isfinite(extent) and extent > 0):
        raise ValueError(
            f"{name}={extent!r} must be a positive length in nm (px without calibration)"
        )
    voxels = max(1, round(extent / pixel))
    if voxels < _FEWEST:
        raise ValueError(
            f"{name}={extent!r} is {voxels} voxel of {pixel:g}; expected {_FEWEST} voxels or more"
        )
    return voxels

# SPDX-License-Identifier: GPL-3.0-or-later
"""Slices of a stacked system in lanes of one width, for the compiled iteration of SIRT and HEBT.

Few slices leave most lanes empty. So all channels lie side by side in the lanes where they fit:
lane c S + y holds slice y of S of channel c, the arrays have one channel, and one set of weights
serves all elements.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np

from hyperspy_multitomo.tomography.cpu.kernels import RUN
from hyperspy_multitomo.tomography.cpu.lane_rays import LaneRays
from hyperspy_multitomo.tomography.cpu.lanes import empty_lanes, pack, unpack
from hyperspy_multitomo.tomography.cpu.residuals import average_pixels, mix_residuals, sum_channels
from hyperspy_multitomo.tomography.projectors import Projector, spread
from hyperspy_multitomo.tomography.system import System


class LaneLayout:
    """How slices and channels of arrays (channel, a, b, y) are laid into lanes.

    Parameters
    ----------
    count : int
        Lanes of a group.
    slices, channels : int
        Of the volume.
    abreast : bool
        Whether all channels lie side by side in one group, which has to hold channels times slices.
    """

    def __init__(self, count: int, slices: int, channels: int, abreast: bool):
        self.count, self.slices, self.channels, self.abreast = count, slices, channels, abreast
        self.of_arrays = 1 if abreast else channels
        self.sides = (slices, channels) if abreast else (0, 1)

    def pack(self, array: np.ndarray) -> np.ndarray:
        """Return the lanes of an array; missing channels are 0 where channels lie side by side."""
        if not self.abreast:
            return pack(array, self.count)
        channels, a, b, slices = array.shape
        wide = np.zeros((1, a, b, self.channels * slices), np.float32)
        wide[..., : channels * slices] = array.transpose(1, 2, 0, 3).reshape(1, a, b, -1)
        return pack(wide, self.count)

    def pack_shared(self, array: np.ndarray) -> np.ndarray:
        """Return the lanes of an array (1, a, b, y) that all channels share."""
        return self.pack(
            np.broadcast_to(array, (self.channels if self.abreast else 1, *array.shape[1:]))
        )

    def factors(self, values: np.ndarray) -> np.ndarray:
        """Return lanes (group, channel, a) of values (channel, a), or (channel, a, y) per slice."""
        if values.ndim == 2:
            values = np.broadcast_to(values[..., None], (*values.shape, self.slices))
        return self.pack(values[:, :, None, :])

    def unpack(self, lanes: np.ndarray, a: int, b: int) -> np.ndarray:
        """Return the array (channel, a, b, y) of lanes."""
        if not self.abreast:
            return unpack(lanes, (self.channels, a, b, self.slices))
        wide = unpack(lanes, (1, a, b, self.channels * self.slices))[0]
        return np.ascontiguousarray(
            wide.reshape(a, b, self.channels, self.slices).transpose(2, 0, 1, 3)
        )

    def sums(self, lanes: np.ndarray, channels: int) -> np.ndarray:
        """Return the float64 sums over the slices, (channel,), of lanes (.., channel, lane)."""
        if self.abreast:
            lanes = lanes[..., 0, : self.channels * self.slices].reshape(
                -1, self.channels, self.slices
            )[:, :channels]
        return lanes.sum(axis=(0, 2), dtype=np.float64)


class DataRays(LaneRays):
    """Rays with the data that they are compared to, and the weights of the comparison.

    `haadf_weights` are those of the HAADF that is mixed in, None where none is. Coefficients are
    (channel,) or (channel, y).
    """

    def __init__(
        self,
        A: Projector,
        data,
        gains,
        weights,
        haadf_weights,
        coefficients,
        lanes: LaneLayout,
    ):
        binning = self._binning = A.geometry.binning
        super().__init__(A, lanes.of_arrays, lanes.slices, lanes.count)
        weights = np.repeat(weights, binning, axis=1)
        self.weights = weights, weights if haadf_weights is None else haadf_weights
        self.lanes, self._with_data = lanes, len(data)
        self._rows = 1 if lanes.abreast else len(data)
        self.gains = lanes.factors(np.asarray(gains, np.float32))
        self.coefficients = tuple(
            lanes.factors(np.asarray(values, np.float32)[:, None]) for values in coefficients
        )
        self.data = lanes.pack(spread(data, binning))
        self._seen = self.rays if binning == 1 else self.empty()
        self._squares = empty_lanes(len(self.tasks) * (self._rows + 1), self.count)

    @property
    def squares(self) -> np.ndarray:
        """Sums of squares of the residuals over pixels, (channel with data, last the HAADF sum)."""
        squares = self._squares["lanes"].reshape(len(self.tasks), self._rows + 1, self.count)
        own = self.lanes.sums(squares[:, : self._rows], self._with_data) / self._binning**2
        haadf = squares[:, self._rows, : self.lanes.slices if self.lanes.abreast else None].sum(
            dtype=np.float64
        )
        return np.append(own, haadf)

    def forward(self, volume, haadf, haadf_gains, number, group, start, stop):
        """Project the volume at some tilts and turn the projections into weighted residuals."""
        self.project(volume, group, start, stop)
        if self._binning > 1:
            lanes = (array["lanes"] for array in (self.rays, self._seen))
            average_pixels(*lanes, self._binning, self.shape, group, start, stop)
        scratch = empty_lanes(RUN, self.count)
        mix_residuals(
            self.rays, self._seen, self.data, haadf, self.weights, self.gains, haadf_gains,
            self.coefficients, self._rows, self.lanes.sides, self.shape, group, start, stop,
            self._squares, number, scratch, scratch["lanes"],
        )  # fmt: skip


class _HaadfRays(NamedTuple):
    """A HAADF with rays of its own: those rays, the sum that they see, and their back projection.

    The latter two are lanes (group, z, x).
    """

    rays: DataRays
    sum: np.ndarray
    extra: np.ndarray


class StackedBlock:
    """The slices from `start` to before `stop` of a system, with all that its iterations need.

    Where HAADF and elements share their rays, the projections of the elements serve the HAADF too.
    Otherwise the sum of the elements is projected, its residual is back projected, and the result
    is added to the update of each element.
    """

    def __init__(self, system: System, volume: np.ndarray, start: int, stop: int, count: int):
        s, c, channels = system, system.coefficients, system.channels
        abreast = channels > 1 and channels * (stop - start) <= count
        self._system, self._slices = system, slice(start, stop)
        self._lanes = lanes = LaneLayout(count, stop - start, channels, abreast)
        self.put(volume)
        self.renew_steps(s.steps)
        self._mask = None
        if s.mask is not None and s.mask.ndim == 3:
            self._mask = lanes.pack_shared(s.mask[None, ..., self._slices])
        coefficients = [
            values if values.ndim == 1 else values[:, self._slices]
            for values in (c.direct, c.mix, c.ratios)
        ]
        weights = s.ray_weights, s.haadf_ray_weights if s.shared else None
        self._eds = DataRays(
            s.A, self._seen_by(s.A, s.projections), s.gains, *weights, coefficients, lanes
        )
        self._haadf: _HaadfRays | None = None
        self._haadf_data = None
        if (rows := s.haadf_rows) is not None and s.shared:
            self._haadf_data = lanes.pack_shared(rows.data[None, ..., self._slices])
        elif rows is not None:
            layout = LaneLayout(count, stop - start, channels if abreast else 1, abreast)
            data = self._seen_by(
                rows.projector, np.broadcast_to(rows.data, (layout.channels, *rows.data.shape))
            )
            gains = np.broadcast_to(rows.gains, data.shape[:2])
            one, zero = np.ones(layout.channels), np.zeros(layout.channels)
            rays = DataRays(
                rows.projector, data, gains, s.haadf_ray_weights, None, (one, zero, zero), layout
            )
            voxels = self._x.size // lanes.of_arrays
            self._haadf = _HaadfRays(rays, empty_lanes(voxels, count), empty_lanes(voxels, count))
        self._rows = self._eds.A.row_tasks(self._eds.groups)

    def _seen_by(self, A: Projector, projections: np.ndarray) -> np.ndarray:
        """Return the part of the projections that shows these slices."""
        binning = A.geometry.binning
        return projections[..., self._slices.start // binning : self._slices.stop // binning]

    @property
    def volume(self) -> np.ndarray:
        """The slices of the volume, (channel, z, x, y)."""
        return self._lanes.unpack(self._x, *self._system.A.domain_shape)

    def put(self, volume: np.ndarray) -> None:
        """Take these slices from a volume of all."""
        self._x = self._lanes.pack(volume[..., self._slices])

    def renew_steps(self, steps: np.ndarray) -> None:
        """Take step sizes (channel, z, x), or (channel, z, x, y) with one for every slice."""
        if steps.ndim == 4:
            steps = steps[..., self._slices]
        elif self._lanes.abreast:
            steps = np.broadcast_to(steps[..., None], (*steps.shape, self._lanes.slices))
        self._step = self._lanes.pack(steps) if steps.ndim == 4 else np.array(steps)

    # Tasks of an iteration, pairs of a call and its arguments; those of one list may run in any
    # order.

    def sum_tasks(self) -> list:
        """Sum the elements for the HAADF that has rays of its own."""
        if self._haadf is None:
            return []
        total, ratios, eds = self._haadf.sum, self._eds.coefficients[2], self._eds
        more = total, ratios, self._lanes.sides, total["lanes"], eds.shape
        return [(sum_channels, (self._x, *more, *task)) for task in self._rows]

    def haadf_forward_tasks(self) -> list:
        """Project the sum with the HAADF's geometry and compare it."""
        if self._haadf is None:
            return []
        rays, total = self._haadf.rays, self._haadf.sum
        return [(rays.forward, (total, None, None, *task)) for task in rays.tasks]

    def haadf_back_tasks(self) -> list:
        """Project the HAADF's residual back."""
        if self._haadf is None:
            return []
        rays, extra = self._haadf.rays, self._haadf.extra
        return [(rays.back, (extra, *task)) for task in self._rows]

    def forward_tasks(self) -> list:
        """Project the elements and compare them."""
        haadf_gains = self._system.haadf_gains if self._system.shared else None
        return [
            (self._eds.forward, (self._x, self._haadf_data, haadf_gains, *task))
            for task in self._eds.tasks
        ]

    def update_tasks(self) -> list:
        """Project the residuals back into the next volume."""
        extra = None if self._haadf is None else self._haadf.extra
        update = partial(
            self._eds.back, step=self._step, extra=extra, shares=self._eds.coefficients[1],
            mask=self._mask, nonnegative=self._system.nonnegative,
        )  # fmt: skip
        return [(update, (self._x, *task)) for task in self._rows]

    @property
    def squares(self) -> np.ndarray:
        """Sums of squares of the residuals before the iteration, (channel with data, HAADF)."""
        squares = self._eds.squares
        if self._haadf is not None:
            squares[-1] = self._haadf.rays.squares[0]
        return squares

# SPDX-License-Identifier: GPL-3.0-or-later
"""EM: the maximum-likelihood reconstruction of Poisson counts, with the background in the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from hyperspy_multitomo.tomography.cpu.lane_rays import LaneRays
from hyperspy_multitomo.tomography.cpu.lanes import empty_lanes, lane_count, pack, unpack
from hyperspy_multitomo.tomography.cpu.residuals import count_residuals
from hyperspy_multitomo.tomography.forms import fits_lanes, on_device
from hyperspy_multitomo.tomography.functionals import LEAST
from hyperspy_multitomo.tomography.input_checks import (
    checked_background,
    checked_counts,
    checked_gains,
    checked_initial,
    checked_mask,
    checked_projections,
    without_dead_tilts,
)
from hyperspy_multitomo.tomography.iterates import Iterate, iterates_of
from hyperspy_multitomo.tomography.projectors import Projector
from hyperspy_multitomo.tomography.steps import Steps, VolumeSteps, sums_of_squares
from hyperspy_multitomo.tomography.system import Counted, sirt_coefficients


def em(
    A: Projector,
    counts,
    *,
    background=None,
    gains=None,
    mask=None,
    initial=None,
) -> Iterator[Iterate]:
    """Reconstruct by EM: x <- x/(A^T 1) A^T (y/(A x + b)), every channel on its own.

    Parameters
    ----------
    A : Projector
        Of the tilt geometry of the counts.
    counts : array_like
        y, (channel, tilt, x, y) or (tilt, x, y): gross counts as recorded, background included, not
        negative.
    background : float or array_like, optional
        b, the counts expected in each pixel from anything but the specimen, not negative: of the
        shape of the counts, or broadcast to it. The default is 0.
    gains : array_like, optional
        (tilt,) or (channel, tilt), not negative: counts are expected to be gain times the
        projections of the volume, plus the background. A line's share of counts that fall into its
        window belongs in here. The default is 1; a tilt of gain 0 is left out.
    mask : array_like of bool, optional
        (z, x) or (z, x, y), False where the volume is to stay 0.
    initial : array_like, optional
        Start, shape of the volume, not negative; a voxel that starts at 0 stays there. By default
        the same value everywhere in a slice, such that its projections hold the counts that are
        recorded beyond the background.

    Yields
    ------
    Iterate
        The start first (`iteration` 0), then one after every iteration, without end. `residuals`
        have "deviance" too.

    Raises
    ------
    ValueError, TypeError
        If shapes do not fit, or values are negative or not finite, at the call.

    Notes
    -----
    A is diag(gains) W. Every iteration raises the likelihood of the counts, y ~ Poisson(A x + b),
    and keeps the volume positive. The deviance is twice the Kullback-Leibler divergence, 2 sum [y
    log(y/m) - y + m] with m = A x + b, divided by the number of rays. Of counts and their true
    expectations it is about 1, less at well below one count; iterations go on below that by fitting
    the noise: as with SIRT, when to stop decides how smooth the volume is. L. A. Shepp and Y.
    Vardi, IEEE Trans. Med. Imaging 1 (1982) 113, doi:10.1109/TMI.1982.4307558; K. Lange and R.
    Carson, J. Comput. Assist. Tomogr. 8 (1984) 306.

    Examples
    --------
    >>> from hyperspy_multitomo.tomography import TiltGeometry, em, projector, run
    >>> A = projector(TiltGeometry(range(-80, 81, 20), detector_width=24))
    >>> truth = np.zeros((24, 24, 2))
    >>> truth[8:16, 8:16] = 2.0
    >>> result = run(em(A, A(truth) + 5, background=5), iterations=40)
    >>> result.volume.shape, bool(abs(result.volume[10:14, 10:14].mean() - 2) < 0.1)
    ((24, 24, 2), True)
    """
    counts, has_channels = checked_projections("counts", counts, A)
    counts = checked_counts("counts", counts)
    gains = checked_gains("gains", gains, counts.shape[:2])
    background = checked_background(background, counts.shape)
    channels, slices = counts.shape[0], counts.shape[-1] * A.geometry.binning
    counts = _without_blind_rays(without_dead_tilts(counts, gains), background, A)
    system = Counted(
        A=A,
        projections=counts,
        gains=gains,
        coefficients=sirt_coefficients(channels),
        initial=checked_initial(initial, channels, A, slices, has_channels),
        mask=checked_mask(mask, A, slices),
        background=background,
    )
    if initial is None:
        system = replace(system, initial=_uniform(system))
    elif system.initial.min() < 0:
        raise ValueError(
            "`initial` has negative values; expected a start from 0 up, above 0 wherever something "
            "may be"
        )
    return iterates_of(_steps_of(system.in_units()), has_channels)


def _steps_of(system: Counted) -> Steps:
    """Return the form for the projector: on the device, fused, or the textbook's."""
    if on_device(system.A):
        from hyperspy_multitomo.tomography.cuda.em import CudaEM

        return CudaEM(system)
    return (
        FusedEM(system)
        if system.A.geometry.binning == 1 and fits_lanes(system.A)
        else TextbookEM(system)
    )


def _without_blind_rays(
    counts: np.ndarray, background: np.ndarray | None, A: Projector
) -> np.ndarray:
    """Return the counts with the background in place of those of rays that miss the volume.

    Nothing but the background can explain these.

    A ray along the edge of the volume may be just outside for the projection and just inside for
    its adjoint, by rounding: its counts over an expectation of nothing would then go to the voxels
    there.
    """
    blind = A.row_sums() <= 1e-6 * A.geometry.pixel_size
    if not blind.any():
        return counts
    return np.where(blind[..., None], np.float32(0) if background is None else background, counts)


def _uniform(system: Counted) -> np.ndarray:
    """Return a uniform volume whose projections hold the counts beyond the background.

    They hold at least the noise of all counts.

    A signal below 1 per pixel is no count; its noise is taken to be sqrt(sum y^2), which is less.
    The value is that of each slice alone, so that slabs of slices start alike, however they are
    cut.
    """
    s, binning = system, system.A.geometry.binning
    gross = s.projections.sum(axis=(1, 2), dtype=np.float64)
    net = gross
    if s.background is not None:
        live = np.broadcast_to(s.gains[:, :, None, None] > 0, s.background.shape)
        net = gross - np.einsum("ctxy,ctxy->cy", s.background, live, dtype=np.float64)
    lengths = s.gains.astype(np.float64) @ s.A.row_sums().sum(axis=1)
    squares = np.einsum("ctxy,ctxy->cy", s.projections, s.projections, dtype=np.float64)
    values = (
        np.maximum(net, np.sqrt(np.minimum(gross, squares)))
        / np.where(lengths > 0, lengths, np.inf)[:, None]
    )
    return np.broadcast_to(
        np.repeat(values, binning, axis=1)[:, None, None].astype(np.float32), s.initial.shape
    )


class TextbookEM(VolumeSteps[Counted]):
    """x <- x C A^T (y/(A x + b)) in NumPy, for any projector: the reference for the fused form."""

    def advance(self):
        """Do one iteration."""
        s, x, y = self.system, self._volume, self.system.projections
        gains = s.gains[:, :, None, None]
        m = gains * s.A(x) + (0 if s.background is None else s.background)
        ratio = y / np.maximum(m, LEAST)
        # The column sums in `steps` count a pixel of several voxels once for each of them, and so
        # does its row here.
        new = x * s.steps[..., None] * s.A.T(gains * ratio) * np.float32(s.A.geometry.binning**2)
        if s.mask is not None and s.mask.ndim == 3:
            new *= s.mask
        e = (y - m) * (gains > 0)
        divergence = y * np.log(ratio, where=ratio > 0, out=np.zeros_like(ratio)) - e
        if self._cancelled.is_set():
            return
        with self._lock:
            self._volume = np.where(self.stopped[:, None, None, None], x, new)
            self._count(
                s.measures(sums_of_squares(e), divergence.sum(axis=(1, 2, 3), dtype=np.float64))
            )


class FusedEM(Steps[Counted]):
    """The same iteration by the compiled kernels, as x + x C A^T (y/(A x + b) - 1)."""

    def __init__(self, system: Counted):
        super().__init__(system)
        s = system
        channels, self._slices = s.projections.shape[0], s.projections.shape[-1]
        count = lane_count(self._slices)
        self._x, self._data = pack(s.start(), count), pack(s.projections, count)
        self._background = None if s.background is None else pack(s.background, count)
        self._rays = LaneRays(s.A, channels, self._slices, count)
        self._sums = np.zeros((len(self._rays.tasks), channels, 2))
        self._step = np.array(s.steps)

    def _read(self):
        return unpack(self._x, (len(self.stopped), *self.system.A.domain_shape, self._slices))

    def _arrays(self):
        return {"volume": self._read()}

    def _put(self, arrays):
        self._x, self._step = (
            pack(arrays["volume"], lane_count(self._slices)),
            np.array(self.system.steps),
        )

    def hold(self, channels):
        """Let the channels stand still: a step of 0 leaves the volume as it is."""
        super().hold(channels)
        self._step[self.stopped] = 0

    def _forward(self, number, *task):
        if self._cancelled.is_set():
            return
        rays = self._rays
        rays.project(self._x, *task)
        count_residuals(
            rays.rays, self._data, self._background, self.system.gains, LEAST, rays.shape, *task,
            empty_lanes(2, rays.count), self._sums[number],
        )  # fmt: skip

    def advance(self):
        """Do one iteration."""
        rays = self._rays
        self._workers.run(self._forward, rays.tasks)
        if self._cancelled.is_set():
            return
        update = dict(step=self._step, multiply=True, nonnegative=True)
        with self._lock:  # no cancelling from here on: the iterate is completed
            self._workers.run(
                lambda *task: rays.back(self._x, *task, **update),
                self.system.A.row_tasks(rays.groups),
            )
            self._count(self.system.measures(*self._sums.sum(axis=0).T))

# SPDX-License-Identifier: GPL-3.0-or-later
"""The primal-dual iteration of TV, TGV and nuclear TV on the device.

Only measured values come back to the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from hyperspy_multitomo.tomography.cuda import device
from hyperspy_multitomo.tomography.cuda.device import (
    BLOCK,
    BlockSums,
    Kernels,
    grid_of,
    to_device,
    to_host,
)
from hyperspy_multitomo.tomography.cuda.projector import device_projector
from hyperspy_multitomo.tomography.cuda.term_rays import TermRays, rays_bytes
from hyperspy_multitomo.tomography.differences import stored_elements
from hyperspy_multitomo.tomography.geometry import TiltGeometry, volume_grid
from hyperspy_multitomo.tomography.primal_dual import MEASURED_EVERY, PrimalDual
from hyperspy_multitomo.tomography.projectors import matched
from hyperspy_multitomo.tomography.variational_system import VariationalSystem

_COUPLINGS = {"uncoupled": "PER_CHANNEL", "frobenius": "TOGETHER", "nuclear": "NUCLEAR"}

_mixing = Kernels("common.cu", "ray_duals.cu")


class VariationKernels(Kernels):
    """The kernels of variation.cu for one number of channels and dimensions and one coupling.

    Parameters
    ----------
    channels, dimensions : int
    coupling : {"uncoupled", "frobenius", "nuclear"}
    """

    def __init__(self, channels: int, dimensions: int, coupling: str):
        super().__init__("common.cu", "variation.cu")
        self._constants = {
            "CHANNELS": channels,
            "DIMENSIONS": dimensions,
            "COUPLING": _COUPLINGS[coupling],
        }

    @cached_property
    def code(self) -> str:
        """The source."""
        return (
            "".join(f"#define {name} {value}\n" for name, value in self._constants.items())
            + super().code
        )


class CudaPrimalDual(PrimalDual):
    """The iteration of `TextbookPrimalDual` on the device, in the passes of the fused form.

    The passes are the back projection of the data, the volume and TGV's field, their dual
    variables, and those of the rays. As in the fused form the over-relaxed volume is not stored.
    There are 6 (TV) or 18 (TGV) numbers per voxel and channel in three dimensions, 5 or 12 in two.
    Every projector of the system has to be a `DeviceProjector` whose pair is adjoint.
    """

    def __init__(self, system: VariationalSystem):
        super().__init__(system)
        self._shape = (system.channels, *system.A.domain_shape, system.initial.shape[-1])
        slices, (nz, nx) = self._shape[-1], system.A.domain_shape
        self._grid = (*grid_of(nx * slices), nz)
        self._sizes = nz, nx, slices
        self._kernels = VariationKernels(system.channels, system.dimensions, system.coupling)
        size = f"{system.channels} channels of {nz} x {nx} x {slices} voxels (z, x, y)"
        what = f"{system.kind.upper()} of {size}"
        with self._device, device.reserved(system_bytes(system), what):
            self._allocate()

    @property
    def _device(self):
        """The device of the projectors, as a context."""
        return device_projector(self.system.A).device

    def _allocate(self):
        s, cupy = self.system, device.cupy()
        self._best = to_device(s.start())
        self._ahead = self._best.copy()
        self._back = cupy.zeros(self._shape, np.float32)
        self._p = self._zeros(s.dimensions)
        self._field = self._field_ahead = self._q = self._linear = None
        if s.kind == "tgv":
            self._field, self._field_ahead = self._zeros(s.dimensions), self._zeros(s.dimensions)
            self._q = self._zeros(stored_elements(s.dimensions))
        self._mask = to_device(s.mask) if s.mask is not None and s.mask.ndim == 3 else None
        self._values = BlockSums(4, int(np.prod(self._grid)))
        self._sum = self._extra = self._shares = self._mix = None
        self._rays = []
        for term in s.terms:
            scales = (
                np.ones(1)
                if term.mix is not None
                else s.scales[term.first : term.first + term.rows]
            )
            self._rays.append(TermRays(term, scales, self._shape[-1]))
            if term.mix is not None:
                self._sum, self._extra = (
                    cupy.zeros((1, *self._shape[1:]), np.float32) for _ in range(2)
                )
        self._renew()

    def _zeros(self, components: int):
        return device.cupy().zeros((self._shape[0], components, *self._shape[1:]), np.float32)

    def _renew(self):
        """Take steps and factors from the system."""
        s = self.system
        flat = s.mask is not None and s.mask.ndim == 2
        # A volume that starts at 0 outside the mask stays there.
        self._volume_steps = to_device(s.volume_steps * s.mask if flat else s.volume_steps)
        for term, steps, rays in zip(s.terms, s.data_steps, self._rays, strict=True):
            rays.renew(term, steps)
            if term.mix is not None:
                self._mix = None  # first, to give its memory back
                self._shares = to_device(s.scales if term.mix.ndim == 4 else s.scales * term.mix)
                self._mix = to_device(term.mix) if term.mix.ndim == 4 else None

    def continue_with(self, system, u=None, w=None):
        """See `PrimalDual`."""
        with (
            self._lock,
            self._device,
            device.reserved(0, "the HAADF's factors, anew, of TV or TGV with a power"),
        ):
            # The projectors stay: they may be the matched ones that took the place of others.
            terms = (
                replace(new, A=old.A)
                for new, old in zip(system.terms, self.system.terms, strict=True)
            )
            self.system = replace(system, terms=tuple(terms))
            self._renew()
            if u is not None:
                self._start(u, w)

    def _start(self, u, w):
        self._best = self._ahead = None
        self._best = to_device(u)
        self._ahead = self._best.copy()
        if w is not None:
            self._field = self._field_ahead = None
            self._field = to_device(w)
            self._field_ahead = self._field.copy()

    def _read(self):
        with self._device:
            return to_host(self._best)

    def feasible(self):
        """Return (u, w)."""
        with self._device:
            return to_host(self._best), None if self._field is None else to_host(self._field)

    def state(self):
        """Return (u, w, p, q, s)."""
        with self._device:
            q = None if self._q is None else to_host(self._q)
            return (
                *self.feasible(),
                to_host(self._p),
                q,
                [to_host(rays.duals) for rays in self._rays],
            )

    @property
    def linear(self):
        """See `PrimalDual`."""
        with self._device:
            return None if self._linear is None else to_host(self._linear)

    def _linearise(self):
        # As in the compiled form for the CPU: with these arguments the two kernels of an iteration
        # project p, and find grad^T p.
        cupy = device.cupy()
        with device.reserved(self._back.nbytes, "the linear term of a refit"):
            linear = cupy.zeros(self._shape, np.float32)
            back_by_one = cupy.full(self._shape[:-1], -1, np.float32)
        self._step_duals(0.0, 0.0, 1.0)
        self._back[...] = 0
        self._call(
            "step_primal", linear, self._back, None, None, self._p, None, linear, None, None, None,
            None, back_by_one, 0.0, 1.0, False, None,
        )  # fmt: skip
        self._back[...] = 0
        self._linear = linear

    def _step_duals(self, gradient_step: float, matrix_step: float, rho: float):
        radii = float(self.system.strength), float(self.system.alpha0 * self.system.strength)
        self._call(
            "step_duals", self._ahead, self._field_ahead, self._p, self._q, gradient_step,
            matrix_step, *radii, rho,
        )  # fmt: skip

    def _names(self):
        """Return the names of the arrays that going on needs, and the attributes that hold them."""
        fields = (
            {"field": "_field", "field ahead": "_field_ahead", "q": "_q"}
            if self.system.kind == "tgv"
            else {}
        )
        return {"best": "_best", "ahead": "_ahead", "p": "_p"} | fields

    def _arrays(self):
        with self._device:
            for name, attribute in self._names().items():
                yield name, to_host(getattr(self, attribute))
            for number, rays in enumerate(self._rays):
                yield f"s {number}", to_host(rays.duals)

    def _put(self, arrays):
        with self._device:
            for name, attribute in self._names().items():
                setattr(self, attribute, None)
                setattr(self, attribute, to_device(arrays[name]))
            for number, rays in enumerate(self._rays):
                rays.duals = None
                rays.duals = to_device(arrays[f"s {number}"])
                rays.weigh()
            linear = arrays.get("linear")
            self._linear = None if linear is None else to_device(linear)

    def _call(self, function, *arguments):
        self._kernels.call(function, self._grid, (BLOCK,), *arguments, *self._sizes)

    def _project_back(self):
        for term, rays in zip(self.system.terms, self._rays, strict=True):
            seen = (
                self._extra
                if term.mix is not None
                else self._back[term.first : term.first + term.rows]
            )
            term.A.back_device(rays.rays, seen)

    def _seen(self, volume):
        """Yield the rays of each term with what they see of the volume."""
        for term, rays in zip(self.system.terms, self._rays, strict=True):
            if term.mix is None:
                yield rays, volume[term.first : term.first + term.rows]
            else:
                voxels = self._sum.size
                factors = self._shares, self._mix, self.system.channels, np.int64(voxels)
                _mixing.call("sum_mixed", grid_of(voxels), (BLOCK,), volume, self._sum, *factors)
                yield rays, self._sum

    def advance(self):
        """Do one iteration."""
        s = self.system
        with self._lock, self._device:
            self._begin()
            self._project_back()
            if self._cancelled.is_set():
                return
            # No cancelling from here on: the iterate is completed.
            rho = float(s.relaxation)
            self._call(
                "step_primal", self._best, self._ahead, self._field, self._field_ahead, self._p,
                self._q, self._back, self._linear, self._extra, self._shares, self._mix,
                self._volume_steps, float(s.field_step), rho, s.nonnegative, self._mask,
            )  # fmt: skip
            self._step_duals(float(s.gradient_step), float(s.matrix_step), rho)
            for rays, seen in self._seen(self._ahead):
                rays.step(seen, rho)
            self.measured = (self.iteration + 1) % MEASURED_EVERY == 0
            self._count(self._measure() if self.measured else self.residuals)

    def _measure(self):
        """Return the objective and the relative residuals of the volume."""
        s = self.system
        self._call("variation", self._best, self._field, self._linear, self._values.partial)
        found = s.of_variation(*self._values.total())
        for term, (rays, seen) in zip(s.terms, self._seen(self._best), strict=True):
            squares, discrepancies = rays.measure(seen)
            found["objective"] += float(discrepancies.sum())
            found[term.name] = term.relative(squares)
        found["objective"] *= s.energy
        return found

    def objective(self):
        """Return the objective of the volume, now."""
        with self._lock, self._device:
            return self._measure()["objective"]


def numbers_per_voxel(kind: str, dimensions: int) -> int:
    """Return how many numbers are held on the device for each voxel of each channel.

    Examples
    --------
    >>> numbers_per_voxel("tv", 3), numbers_per_voxel("tgv", 3), numbers_per_voxel("tgv", 2)
    (6, 18, 12)
    """
    field = 2 * dimensions + stored_elements(dimensions) if kind == "tgv" else 0
    return 3 + dimensions + field


def regularised_bytes(
    kind: str,
    dimensions: int,
    channels: int,
    slices: int,
    series: Sequence[tuple[TiltGeometry, int, bool]],
    *,
    mixed: bool = False,
    mask: bool = False,
    refit: bool = False,
) -> int:
    """Return the device memory of a run in bytes, from sizes alone.

    Parameters
    ----------
    kind : {"tv", "tgv"}
    dimensions : {3, 2}
    channels, slices : int
        Of the volume.
    series : sequence of (TiltGeometry, int, bool)
        Geometry of each data term, its rows of data, and whether a background is expected in them.
    mixed : bool, default False
        Whether one of them sees a sum of all channels; counted as if the factors were those of a
        power law, one in every voxel.
    mask : bool, default False
        Whether there is a mask (z, x, y).
    refit : bool, default False
        Whether there is the linear term of a second solve.

    Examples
    --------
    >>> series = [(TiltGeometry(range(0, 180, 5), 433), 4, False)]
    >>> round(regularised_bytes("tgv", 3, 4, 60, series) / 1e9, 2)
    3.29
    """
    nz, nx = volume_grid(series[0][0])
    voxels = nz * nx * slices
    numbers = channels * ((numbers_per_voxel(kind, dimensions) + refit) * voxels + nz * nx)
    numbers += ((2 + channels) * mixed + bool(mask)) * voxels
    sums = BlockSums.device_bytes(4, nz * grid_of(nx * slices)[0])
    return (
        4 * numbers
        + sums
        + sum(
            rays_bytes(geometry, rows, slices, background) for geometry, rows, background in series
        )
    )


def system_bytes(system: VariationalSystem, *, refit: bool = False) -> int:
    """Return the device memory of a run in bytes, with those that `continue_with` may need."""
    series = [
        (t.A.geometry, t.rows, t.background is not None or t.mix is not None) for t in system.terms
    ]
    mixed = any(term.mix is not None for term in system.terms)
    mask = system.mask is not None and system.mask.ndim == 3
    sizes = system.channels, system.initial.shape[-1]
    more = {"mixed": mixed, "mask": mask, "refit": refit}
    return regularised_bytes(system.kind, system.dimensions, *sizes, series, **more)


def adjoint(system: VariationalSystem) -> VariationalSystem:
    """Return the system with projectors whose pairs are adjoint; see `matched`."""
    pairs = matched([term.A for term in system.terms])
    return replace(
        system, terms=tuple(replace(term, A=A) for term, A in zip(system.terms, pairs, strict=True))
    )

# SPDX-License-Identifier: GPL-3.0-or-later
r"""The stacked system of SIRT and HEBT: data, coefficients, row and column sums.

Each element e has its own data, p_e = g_e W x_e, and the HAADF sees their sum, h = g_h sum_e r_e W
x_e (g: gains per tilt). In the quantities X_e = r_e x_e of Zhong et al., Ultramicroscopy 174 (2017)
35, doi:10.1016/j.ultramic.2016.12.008, the k elements with r_e > 0 and the HAADF make the stacked
system of their eqs. 9-11::

    (1 - alpha) r_e p_e = (1 - alpha) g_e W X_e     for every e
    alpha h = alpha g_h W sum_e X_e

**weighting "sirt"** (the default) is SIRT on these rows as they stand, X <- X + C A^T R (b - A X).
R divides by the row sums, (1 - alpha) g_e W1 and alpha k g_h W1, so that one factor 1 - alpha,
alpha of the two in A^T .. A cancels; C divides by the column sums (1 - alpha) W^T g_e + alpha W^T
g_h. Written in x_e = X_e/r_e, with R = 1/(W1)::

    x_e <- x_e + C_e [ (1 - alpha) W^T R (p_e - g_e W x_e)
                       + alpha/(k r_e) W^T R (h - g_h sum_e r_e W x_e) ]

The effective pulls of the two residuals are 1 - alpha and alpha/k; no square root of k enters.

**weighting "squared"** reads eq. 9 as least squares, min (1 - alpha)^2 sum_e |r_e p_e - g_e W
X_e|^2 + alpha^2 |h - ..|^2. The preconditioner is that of the rows without alpha, whose squared
weights go into R: (1 - alpha)^2/(g_e W1) and alpha^2/(k g_h W1). C divides by what then stands in
the columns, sum_i R_i (row sum)_i a_ij = (1 - alpha)^2 W^T g_e + alpha^2 W^T g_h. The step is the
one above with (1 - alpha)^2 for 1 - alpha and alpha^2 for alpha. Either way C^(1/2) A^T R A C^(1/2)
has no eigenvalue above 1, which makes the step stable, and any relaxation between 0 and 2 on top of
it too.

**Pixels of b x b voxels** (`TiltGeometry.binning`): W is then the mean over the voxel columns of a
pixel, and such a row counts b^2 times, once for each of them. Its pull and its part in the column
sums are then those of b^2 rows at full resolution.

An element with r_e = 0 takes no part in the sum and is solved by plain SIRT from its own data
(direct 1, mix 0). The channel "rest" stands for the HAADF signal that no map explains: it has no
data, r = 1, direct 0, mix alpha/k, and column sums alpha W^T g_h. Plain SIRT is direct 1, mix 0 for
all channels. So four numbers per channel describe every case, and one kernel serves them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np

from hyperspy_multitomo.tomography.projectors import Projector
from hyperspy_multitomo.tomography.scaling import divided, largest, roomy


@dataclass(frozen=True)
class Coefficients:
    """Weights of a channel's own residual and of the HAADF's in its update, arrays (channel,).

    `direct` and `mix` multiply the two residuals, `ratios` the channel in the HAADF sum. In the
    channel's column sums `direct` is the weight of its own rows and `haadf` that of the HAADF's.
    """

    direct: np.ndarray
    mix: np.ndarray
    ratios: np.ndarray
    haadf: np.ndarray


def sirt_coefficients(channels: int) -> Coefficients:
    """Return the coefficients of `channels` independent channels."""
    none = np.zeros(channels)
    return Coefficients(np.ones(channels), none, none, none)


def hebt_coefficients(ratios: np.ndarray, alpha: float, weighting: str, rest: bool) -> Coefficients:
    """Return the coefficients of HEBT for response ratios (channel,).

    `rest` adds a last channel without data.
    """
    power = {"sirt": 1, "squared": 2}[weighting]
    direct_weight, haadf_weight = (1 - alpha) ** power, alpha**power
    ratios = np.append(ratios, 1.0) if rest else np.asarray(ratios, float)
    takes_part = ratios > 0
    direct = np.where(takes_part, direct_weight, 1.0)
    if rest:
        direct[-1] = 0.0
    haadf = np.where(takes_part, haadf_weight, 0.0)
    mix = np.divide(haadf, takes_part.sum() * ratios, out=np.zeros_like(haadf), where=takes_part)
    return Coefficients(direct, mix, ratios, haadf)


def _inverse(sums: np.ndarray) -> np.ndarray:
    """Return 1/sums (.., a, b), and 0 where a sum is only rounding.

    Such a ray meets no voxel, such a voxel no ray.
    """
    # Against the largest, not the voxel size: gains may be live times or beam currents, in any
    # unit.
    return np.divide(
        1.0,
        sums,
        out=np.zeros_like(sums),
        where=sums > 1e-6 * sums.max(axis=(-2, -1), keepdims=True),
    )


def _column_sums(A: Projector, gains: np.ndarray) -> np.ndarray:
    """Return W^T g (z, x) with the rows of a pixel of b x b voxels counted b^2 times."""
    return A.column_sums(gains) * np.float32(A.geometry.binning**2)


class HaadfRows(NamedTuple):
    """The HAADF in a system: its projector, images (tilt, x, y) and gains (tilt,)."""

    projector: Projector
    data: np.ndarray
    gains: np.ndarray


@dataclass(frozen=True)
class System:
    """Data, projectors and coefficients of one reconstruction, validated, float32.

    `projections` (channel with data, tilt, x, y), `gains` (channel with data, tilt), `haadf` (tilt,
    x, y) or None with `haadf_gains` (tilt,), `initial` (channel, z, x, y), `mask` (z, x), (z, x, y)
    or None. Tilts whose gain is 0 have zero data. `relaxation` is a factor on C, and `units`
    (channel,) are those of the volume, None for 1.
    """

    A: Projector
    projections: np.ndarray
    gains: np.ndarray
    coefficients: Coefficients
    initial: np.ndarray
    haadf_projector: Projector | None = None
    haadf: np.ndarray | None = None
    haadf_gains: np.ndarray | None = None
    mask: np.ndarray | None = None
    nonnegative: bool = True
    relaxation: float = 1.0
    units: np.ndarray | None = None

    def in_units(self) -> Self:
        """Return the system in units in which single precision holds the squares."""
        of_data, of_haadf = roomy(largest(self.projections)), np.ones(1)
        if self.haadf is not None:
            of_haadf = roomy(largest(self.haadf[None]))
        units = np.append(of_data, np.repeat(of_haadf, self.channels - len(of_data)))
        relative, c = units / of_haadf, self.coefficients
        return replace(
            self,
            projections=divided(self.projections, of_data),
            haadf=None if self.haadf is None else divided(self.haadf[None], of_haadf)[0],
            initial=divided(self.initial, units) if self.initial.any() else self.initial,
            coefficients=replace(c, mix=c.mix / relative, ratios=c.ratios * relative),
            units=units,
        )

    def in_signal(self, volume: np.ndarray) -> np.ndarray:
        """Return a volume (channel, z, x, y) in signal per unit length."""
        return volume if self.units is None else divided(volume, 1 / self.units)

    @property
    def channels(self) -> int:
        """Number of channels of the volume."""
        return len(self.coefficients.direct)

    @property
    def threads(self) -> int:
        """Threads to use."""
        return self.A.threads

    @property
    def separate(self) -> bool:
        """Whether the channels are independent of each other."""
        return self.haadf is None

    @property
    def haadf_rows(self) -> HaadfRows | None:
        """The HAADF's rows of the system, None where there are none."""
        if self.haadf is None or self.haadf_projector is None or self.haadf_gains is None:
            return None
        return HaadfRows(self.haadf_projector, self.haadf, self.haadf_gains)

    @property
    def shared(self) -> bool:
        """Whether the HAADF has the rays of the elements: one projection then serves both."""
        if (rows := self.haadf_rows) is None:
            return False
        return rows.projector.geometry.binning == 1 and rows.projector.geometry == self.A.rays

    @cached_property
    def ray_weights(self) -> np.ndarray:
        """R = 1/(W 1), (tilt, x), 0 for rays that miss the volume."""
        return _inverse(self.A.row_sums())

    @cached_property
    def haadf_ray_weights(self) -> np.ndarray:
        """R of the HAADF's rays, (tilt, x)."""
        if (rows := self.haadf_rows) is None:
            raise ValueError("the system has no HAADF")
        return _inverse(rows.projector.row_sums())

    @cached_property
    def column_sums(self) -> tuple[np.ndarray, np.ndarray | float]:
        """W^T g of each channel's own rows, (channel, z, x), and of the HAADF's, (z, x) or 0.

        It is 0 for channels without data.
        """
        rows = self.haadf_rows
        haadf = 0.0 if rows is None else _column_sums(rows.projector, rows.gains)
        own = np.zeros((self.channels, *self.A.domain_shape), np.float32)
        known: dict[bytes, np.ndarray] = {}
        for channel, gains in enumerate(self.gains):
            if gains.tobytes() not in known:
                known[gains.tobytes()] = _column_sums(self.A, gains)
            own[channel] = known[gains.tobytes()]
        return own, haadf

    def steps_with(self, coefficients: Coefficients, relaxation: float) -> np.ndarray:
        """Return C, the relaxation over the column sums, (channel, z, x).

        It is 0 for voxels without rays or outside a mask (z, x).
        """
        own, haadf = self.column_sums
        sums = coefficients.direct[:, None, None] * own + coefficients.haadf[:, None, None] * haadf
        steps = _inverse(sums.astype(np.float32)) * np.float32(relaxation)
        if self.mask is not None and self.mask.ndim == 2:
            steps *= self.mask
        return steps

    @cached_property
    def steps(self) -> np.ndarray:
        """C of this system: see `steps_with`."""
        return self.steps_with(self.coefficients, self.relaxation)

    @cached_property
    def data_norms(self) -> dict[str, np.ndarray]:
        """|b| of the elements, (channel,), and of the HAADF."""
        squares = {
            "eds": np.einsum("ctxy,ctxy->c", self.projections, self.projections, dtype=np.float64)
        }
        if self.haadf is not None:
            squares["haadf"] = np.einsum("txy,txy->", self.haadf, self.haadf, dtype=np.float64)
        return {name: np.sqrt(square) for name, square in squares.items()}

    def relative_residuals(self, squares: np.ndarray) -> dict[str, np.ndarray | float]:
        """Return |b - A x|/|b| from the sums of squares of the residuals; 0 where b is 0.

        The HAADF's sum is the last.
        """
        residuals = {}
        for name, norm in self.data_norms.items():
            part = np.sqrt(squares[:-1] if name == "eds" else squares[-1])
            residuals[name] = part / np.where(norm > 0, norm, np.inf)
        return residuals

    def start(self) -> np.ndarray:
        """Return the start (channel, z, x, y), made to obey the constraints."""
        if not self.initial.any():
            return self.initial
        volume = np.maximum(self.initial, 0) if self.nonnegative else self.initial.copy()
        if self.mask is not None:
            volume *= self.mask if self.mask.ndim == 3 else self.mask[..., None]
        return volume


@dataclass(frozen=True)
class Counted(System):
    """A system of gross counts, with their `background` (channel, tilt, x, y), None for 0."""

    background: np.ndarray | None = None

    def in_units(self) -> Self:
        """See `System`."""
        system = super().in_units()
        if self.background is None or system.units is None:
            return system
        return replace(system, background=divided(self.background, system.units))

    def start(self) -> np.ndarray:
        """Return the start, 0 where no ray passes, as the iterations would leave it there."""
        return super().start() * (self.steps > 0)[..., None]

    def measures(self, squares: np.ndarray, divergence: np.ndarray) -> dict[str, np.ndarray]:
        """Return the relative residuals and the deviance per ray, (channel,), from sums."""
        norms = self.data_norms["eds"]
        rays = (self.gains > 0).sum(axis=1) * np.prod(self.projections.shape[2:])
        units = 1.0 if self.units is None else self.units
        return {
            "eds": np.sqrt(squares) / np.where(norms > 0, norms, np.inf),
            "deviance": 2 * units * divergence / rays,
        }


@dataclass(frozen=True)
class SideBySide(System):
    """Systems of the same data as one, the slices of each after those of the one before.

    The `parts` differ in coefficients, relaxation and start alone. Coefficients are (channel, y),
    steps (channel, z, x, y) here.
    """

    parts: tuple[System, ...] = ()

    @cached_property
    def steps(self) -> np.ndarray:
        """C of each slice, (channel, z, x, y)."""
        first = self.parts[0]
        steps = [first.steps_with(part.coefficients, part.relaxation) for part in self.parts]
        return np.stack(steps, axis=-1).repeat(first.initial.shape[-1], axis=-1)


def side_by_side(parts: Sequence[System]) -> System:
    """Return systems that differ in coefficients, relaxation and start alone, as one."""
    first, slices, mask = parts[0], parts[0].initial.shape[-1], parts[0].mask

    def repeated(array):
        return None if array is None else np.tile(array, len(parts))

    coefficients = [
        np.stack([getattr(part.coefficients, field.name) for part in parts], axis=-1).repeat(
            slices, axis=-1
        )
        for field in fields(Coefficients)
    ]
    shared = {field.name: getattr(first, field.name) for field in fields(System)}
    changed = dict(
        projections=repeated(first.projections),
        haadf=repeated(first.haadf),
        coefficients=Coefficients(*coefficients),
        initial=np.concatenate([part.initial for part in parts], axis=-1),
        mask=repeated(mask) if mask is not None and mask.ndim == 3 else mask,
    )
    return SideBySide(**shared | changed, parts=tuple(parts))

# SPDX-License-Identifier: GPL-3.0-or-later
"""Reconstruction with a regulariser: data terms and TV, TGV or nuclear TV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.tomography.forms import primal_dual_of
from hyperspy_multitomo.tomography.functionals import COUPLINGS, DISCREPANCIES
from hyperspy_multitomo.tomography.input_checks import (
    checked_background,
    checked_counts,
    checked_gains,
    checked_initial,
    checked_mask,
    checked_positive,
    checked_projections,
    checked_relaxation,
    without_dead_tilts,
)
from hyperspy_multitomo.tomography.iterates import Iterate, iterates_of
from hyperspy_multitomo.tomography.primal_dual import VariationalIterate
from hyperspy_multitomo.tomography.projectors import Projector
from hyperspy_multitomo.tomography.scaling import roomy
from hyperspy_multitomo.tomography.support import supported
from hyperspy_multitomo.tomography.variational_system import Term, VariationalSystem

# Strength of the regulariser at which a refitted volume has the least error over that at which a
# plain one has: 2.6 for volumes and 2.4 for compositions, geometric means of 60 simulated cases
# (2.2 to 3.5 and 2.0 to 3.0; seven phantoms, 0.3 to 10 counts per pixel, TV, TGV and nuclear TV,
# the HAADF as a channel, as a sum and left out), benchmarks/refit.py. Flat: the error is 1.2 %
# above its least with this factor, 3 to 6 % with 2 or 3.2.
REFIT = 2.5


@dataclass(frozen=True)
class DataTerm:
    """A data term D(g W x_c + b, f) for rows of data, or D(g W sum_c m_c x_c + b, f) for one.

    Parameters
    ----------
    A : Projector
        W, of the tilt geometry of these data. All terms share the volume grid.
    data : array_like
        f, (row, tilt, x, y), or (tilt, x, y) for one row: gross counts as recorded for "kl".
    first : int, default 0
        Row i is of channel `first` + i of the volume.
    mix : array_like, optional
        m, (channel,) or (channel, z, x, y): the data, one row, see this sum of all channels, as the
        HAADF does with the response ratios.
    gains : array_like, optional
        g, (tilt,) or (row, tilt), not negative; the default is 1. A tilt of gain 0 is left out.
    background : float or array_like, optional
        b, expected of anything but the specimen: of the shape of the data or broadcast to it. The
        default is 0.
    discrepancy : {"kl", "ls"}, default "kl"
        The Kullback-Leibler divergence sum a - f + f log(f/a) of Poisson counts, or 1/2 sum (a -
        f)^2.
    weight : float or array_like (row,), default 1.0
        Factor d of the discrepancy: 1 for counts; for "ls" the inverse variance of a pixel; for
        "kl" of a signal that is no count the noise-equivalent counts per unit of signal.
    profile : array_like (row, tilt, x), optional
        Mean of the data, in their unit, over all slices where these are but some of them: the steps
        of the iteration are then those of the whole. By default the mean over the slices that are
        here.
    count : float or array_like (row,), optional
        Signal of one count, or of one noise-equivalent electron, for "kl". By default 1/`weight`,
        which `calibrate` keeps when it sets other weights. The problem is solved in counts,
        whatever the unit of the data.
    """

    A: Projector
    data: ArrayLike
    first: int = 0
    mix: ArrayLike | None = None
    gains: ArrayLike | None = None
    background: ArrayLike | None = None
    discrepancy: str = "kl"
    weight: float | ArrayLike = 1.0
    profile: ArrayLike | None = None
    count: float | ArrayLike | None = None

    def checked(self, channels: int, name: str) -> Term:
        """Return the term with its arrays validated, float32, for a volume of so many channels."""
        if self.discrepancy not in DISCREPANCIES:
            raise ValueError(f"`discrepancy` is {self.discrepancy!r}; expected 'kl' or 'ls'")
        data, _ = checked_projections("data", self.data, self.A)
        if self.discrepancy == "kl":
            checked_counts("data", data)
        mix = None if self.mix is None else np.asarray(self.mix, np.float32)
        rows = len(data)
        if mix is not None:
            slices = data.shape[-1] * self.A.geometry.binning
            shapes = (channels,), (channels, *self.A.domain_shape, slices)
            if rows != 1 or mix.shape not in shapes:
                raise ValueError(
                    f"`mix` has the shape {mix.shape} and the data {rows} rows; expected "
                    f"{shapes[0]} (channel,) or {shapes[1]} "
                    "(channel, z, x, y), for one row of data"
                )
            if not np.isfinite(mix).all() or mix.min() < 0 or not mix.any():
                raise ValueError("`mix` must be finite and not negative, with some channel above 0")
        elif not 0 <= self.first <= channels - rows:
            raise ValueError(
                f"the data have {rows} rows from channel {self.first} on, but the volume has "
                f"{channels} channels"
            )
        weights = _of_rows("weight", self.weight, rows)
        counts = 1 / weights if self.count is None else _of_rows("count", self.count, rows)
        gains = checked_gains("gains", self.gains, data.shape[:2])
        profile = (
            None
            if self.profile is None
            else np.asarray(self.profile, float) * (gains > 0)[..., None]
        )
        if profile is not None and (
            profile.shape != data.shape[:3] or not np.isfinite(profile).all()
        ):
            raise ValueError(
                f"`profile` has the shape {profile.shape}; expected finite numbers "
                f"{data.shape[:3]} (row, tilt, x)"
            )
        return Term(
            A=self.A,
            data=without_dead_tilts(data, gains),
            gains=gains,
            weights=weights,
            discrepancy=self.discrepancy,
            background=checked_background(self.background, data.shape),
            first=int(self.first),
            mix=mix,
            name=name,
            profile=profile,
            counts=counts,
        )


def _of_rows(name: str, values, rows: int) -> np.ndarray:
    """Return a positive number, or one for each row of data, as float64 (row,)."""
    values = np.asarray(checked_positive(name, values), np.float64)
    if values.shape not in ((), (1,), (rows,)):
        raise ValueError(
            f"`{name}` has the shape {values.shape}; expected a number, or {rows}, one per row of "
            "data"
        )
    return np.ascontiguousarray(np.broadcast_to(values, (rows,)))


@dataclass(frozen=True)
class Regulariser:
    """TV or TGV of the volume u = x/scale, times `weight`.

    Parameters
    ----------
    weight : float
        lambda, above 0, in units of the discrepancies, for gradients per voxel; see
        `default_weight`.
    kind : {"tv", "tgv"}, default "tv"
        Total variation, |grad u|, or total generalised variation of second order, min_w |grad u -
        w| + alpha_0 |E w|.
    coupling : {"frobenius", "nuclear", "uncoupled"}, default "frobenius"
        Norm over channels and directions at each voxel: it favours edges of all channels at one
        place, at one place with one direction, or wherever each channel has them.
    dimensions : {3, 2}, default 3
        2 leaves out the derivative along the tilt axis.
    alpha0 : float, default 4.0
        For "tgv", in voxels: how far linear slopes are preferred to steps.
    """

    weight: float
    kind: str = "tv"
    coupling: str = "frobenius"
    dimensions: int = 3
    alpha0: float = 4.0

    def __post_init__(self):
        checked_positive("weight", self.weight)
        checked_positive("alpha0", self.alpha0)
        for name, choices in (
            ("kind", ("tv", "tgv")),
            ("coupling", tuple(COUPLINGS)),
            ("dimensions", (3, 2)),
        ):
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(
                    f"`{name}` is {value!r}; expected one of {', '.join(map(repr, choices))}"
                )

    def for_refit(self) -> Regulariser:
        """Return the regulariser that smooths a refitted volume as much as this one a plain one.

        It is 2.5 times as strong: the second solve of `run` with ``refit=True`` gives back what the
        first has taken too much.
        """
        return replace(self, weight=REFIT * self.weight)


def variational(
    terms: Sequence[DataTerm],
    regulariser: Regulariser,
    scales,
    *,
    mask=None,
    initial=None,
    nonnegative: bool = True,
    relaxation: float = 1.8,
    support: bool = False,
) -> Iterator[Iterate]:
    """Minimise sum_k D_k(K_k x + b_k, f_k) + lambda R(x/S) over x >= 0 by the primal-dual method.

    Parameters
    ----------
    terms : sequence of DataTerm
        The first is that of the maps. One of them at most has a `mix`.
    regulariser : Regulariser
        Kind and weight of R.
    scales : array_like (channel,)
        S: divisor of each channel before the channels are coupled, about its range, in signal per
        unit length.
    mask : array_like of bool, optional
        (z, x) or (z, x, y), False where the volume is to stay 0.
    initial : array_like, optional
        Start x, shape of the volume; the default is 0.
    nonnegative : bool, default True
        Whether x >= 0 is asked for; False for least squares alone.
    relaxation : float, default 1.8
        Over-relaxation, between 0 and 2.
    support : bool, default False
        Whether to work only on the box of voxels that holds all that a coarse solution shows, with
        the rays that meet it; the volume is 0 around it. For volumes from 2^18 voxels, of which the
        box is 80 % at most, see `Iterate.box`. Objective and residuals are then those of these
        rays.

    Yields
    ------
    Iterate
        The start first (`iteration` 0), then one after every iteration, without end, with
        `objective` and `gap` on request. Every tenth one measures `residuals`: "objective", and
        |f - K x - b|/|f| as "eds" (row,) for the first term and as "haadf" for the second; with TGV
        "slopes", the part of the gradient that its field holds, see `slopes`.

    Raises
    ------
    ValueError, TypeError
        If shapes do not fit, counts are negative or values are not finite, at the call.

    Notes
    -----
    Terms as in R. Huber et al., Nanoscale 11 (2019) 5617, doi:10.1039/C8NR09058K (TV and TGV with
    Frobenius coupling), and Z. Zhong et al., Ultramicroscopy 191 (2018) 34 (nuclear). Steps:
    diagonal preconditioning and over-relaxation, see `variational_system` and `primal_dual`. The
    problem is convex: the iterates converge to a minimiser from any start.

    Examples
    --------
    >>> from hyperspy_multitomo.tomography import (
    ...     DataTerm, Regulariser, TiltGeometry, projector, run, variational
    ... )
    >>> A = projector(TiltGeometry(range(-80, 81, 20), detector_width=24))
    >>> truth = np.zeros((1, 24, 24, 2))
    >>> truth[:, 8:16, 8:16] = 2.0
    >>> counts = np.random.default_rng(0).poisson(A(truth))
    >>> result = run(variational([DataTerm(A, counts)], Regulariser(3.0), [2.0]), 200)
    >>> bool(abs(result.volume[0, 10:14, 10:14].mean() - 2) < 0.2)
    True
    """
    system = checked_problem(
        terms,
        regulariser,
        scales,
        mask=mask,
        initial=initial,
        nonnegative=nonnegative,
        relaxation=relaxation,
    )
    system = supported(system) if support else system
    return iterates_of(primal_dual_of(system), True, VariationalIterate)


def checked_problem(
    terms: Sequence[DataTerm],
    regulariser: Regulariser,
    scales,
    *,
    mask,
    initial,
    nonnegative=True,
    relaxation,
) -> VariationalSystem:
    """Return the problem that `variational` solves, validated."""
    scales = np.atleast_1d(checked_positive("scales", scales)).astype(np.float32)
    if not terms:
        raise ValueError("`terms` is empty; expected at least one DataTerm")
    checked = tuple(
        term.checked(scales.size, name)
        for term, name in zip(terms, ("eds", "haadf", *["more"] * len(terms)), strict=False)
    )
    check_terms(checked)
    if not nonnegative and any(term.discrepancy == "kl" for term in checked):
        raise ValueError(
            "`nonnegative` is False, but counts (discrepancy 'kl') have no negative expectations; "
            "take 'ls' for it"
        )
    A, slices = checked[0].A, checked[0].data.shape[-1] * checked[0].A.geometry.binning
    mask = checked_mask(mask, A, slices)
    energy = float(roomy(regulariser.weight))
    return VariationalSystem(
        terms=tuple(
            _without_blind_rays(term, mask).in_units(_typical(term, scales), energy)
            for term in checked
        ),
        scales=scales,
        initial=checked_initial(initial, scales.size, A, slices, True),
        kind=regulariser.kind,
        coupling=regulariser.coupling,
        dimensions=regulariser.dimensions,
        strength=float(regulariser.weight) / energy,
        alpha0=float(regulariser.alpha0),
        mask=mask,
        nonnegative=bool(nonnegative),
        relaxation=checked_relaxation(relaxation),
        energy=energy,
    )


def _typical(term: Term, scales: np.ndarray) -> np.ndarray:
    """Return the expectation of a ray through a volume of about its range, (row,).

    It is that of the whole for any slab of it.
    """
    signal = scales[term.first : term.first + term.rows].astype(float)
    if term.mix is not None:
        mix = term.mix if term.mix.ndim == 1 else term.mix.max(axis=(1, 2, 3))
        signal = (scales.astype(float) * mix).max(keepdims=True)
    return signal * term.gains.max(axis=1) * float(term.A.row_sums().mean())


def _without_blind_rays(term: Term, mask: np.ndarray | None) -> Term:
    """Return the term with the background in place of data whose ray meets no voxel of the mask.

    Nothing but the background can explain these.
    """
    inside = (
        np.ones((*term.A.domain_shape, term.A.geometry.binning), np.float32)
        if mask is None
        else mask
    )
    lengths = term.A(
        inside if inside.ndim == 3 else inside[..., None].repeat(term.A.geometry.binning, axis=-1)
    )
    blind = lengths <= 1e-6 * term.A.geometry.pixel_size
    if not blind.any():
        return term
    data = np.where(blind, np.float32(0) if term.background is None else term.background, term.data)
    # The steps leave out rays that miss the volume, but not those that a mask hides, which a slab
    # knows for itself alone.
    profile = term.data.mean(axis=-1, dtype=np.float64) if term.profile is None else term.profile
    profile = np.where(term.A.row_sums() > 1e-6 * term.A.geometry.pixel_size, profile, 0)
    return replace(term, data=data, profile=profile)


def check_terms(terms: Sequence[Term]) -> None:
    """Raise an error unless the terms share a volume grid and see each channel at most once.

    One sum of channels is allowed besides.
    """
    if len(terms) > 2:
        raise ValueError(
            f"there are {len(terms)} terms; expected one of maps and at most one of the HAADF"
        )
    grids = {
        (t.A.domain_shape, t.A.geometry.pixel_size, t.data.shape[-1] * t.A.geometry.binning)
        for t in terms
    }
    if len(grids) > 1:
        raise ValueError(
            f"the terms have different volume grids ((z, x), voxel size, y): {sorted(grids)}; make "
            "them alike"
        )
    seen = [channel for t in terms if t.mix is None for channel in range(t.first, t.first + t.rows)]
    if len(set(seen)) < len(seen):
        raise ValueError(
            "two terms have data of the same channel; give each channel its data in one term"
        )
    if sum(t.mix is not None for t in terms) > 1:
        raise ValueError("two terms have a `mix`; expected one at most")

# SPDX-License-Identifier: GPL-3.0-or-later
"""One small problem for every solver and kind of option,
in the fused form and in the textbook one."""

from importlib import import_module

import numpy as np
import pytest

from hyperspy_multitomo.tomography import (
    DataTerm,
    Regulariser,
    TiltGeometry,
    cgls,
    em,
    fused,
    hebt,
    projector,
    sirt,
    variational,
)
from hyperspy_multitomo.tomography.cgls import FusedCGLS, TextbookCGLS
from hyperspy_multitomo.tomography.cpu.primal_dual_fused import FusedPrimalDual
from hyperspy_multitomo.tomography.cpu.stacked import FusedSteps
from hyperspy_multitomo.tomography.em import FusedEM, TextbookEM
from hyperspy_multitomo.tomography.iterates import iterates_of
from hyperspy_multitomo.tomography.primal_dual import TextbookPrimalDual
from hyperspy_multitomo.tomography.steps import TextbookSteps

# The name in the package is that of the function.
FUSED = import_module("hyperspy_multitomo.tomography.fused")
TILTS = np.linspace(-70, 70, 9)
SHAPE = (18, 20)
GAINS = np.where(np.arange(9) == 3, 0, np.linspace(2, 4, 9))
A = projector(TiltGeometry(TILTS, 20, SHAPE, 0.5, 0.3, np.linspace(-1, 1, 9)), "numba")
B = projector(TiltGeometry(np.arange(-75, 76, 15), 24, SHAPE, 0.5), "numba")
FEW = projector(
    TiltGeometry([-90.0, 0.0], 20, SHAPE), "numba"
)  # its Krylov spaces are exhausted after some iterations
COARSE = projector(TiltGeometry(TILTS, 12, SHAPE, 0.5, binning=2), "numba")
TEXTBOOK = {
    FusedSteps: TextbookSteps,
    FusedEM: TextbookEM,
    FusedCGLS: TextbookCGLS,
    FusedPrimalDual: TextbookPrimalDual,
}


def truth(slices=5):
    """Two overlapping boxes that grow brighter along y, (channel, z, x, y)."""
    volume = np.zeros((2, *SHAPE, slices), np.float32)
    volume[0, 5:13, 5:11] = 2
    volume[1, 7:14, 9:16] = 0.7
    return volume * np.linspace(0.5, 1.5, slices, dtype=np.float32)


def counts(projector=A, slices=5, gains=1.0, background=0.0):
    means = (
        np.broadcast_to(gains, projector.range_shape[0])[:, None, None] * projector(truth(slices))
        + background
    )
    return np.random.default_rng(0).poisson(means).astype(np.float32)


def haadf(projector=A, slices=5):
    return projector(np.tensordot(np.float32([3.0, 50.0]), truth(slices), 1))


inside = np.indices((*SHAPE, 5)).sum(axis=0) < 30


def penalised(*terms, kind="tgv", coupling="frobenius", dimensions=3, **more):
    return variational(terms, Regulariser(1.0, kind, coupling, dimensions), [2.0, 0.7], **more)


def maps(projector=A, slices=5, background=0.1):
    return DataTerm(
        projector, counts(projector, slices, GAINS, background), gains=GAINS, background=background
    )


def powered(kind, dimensions):
    terms = DataTerm(A, counts()), DataTerm(B, haadf(B), mix=[3.0, 50.0])
    return fused(terms, Regulariser(0.5, kind, dimensions=dimensions), [2.0, 0.7], power=1.6)


SOLVERS = {
    "sirt": lambda: sirt(A, counts(slices=70)),
    "sirt, masked": lambda: sirt(A, counts(gains=GAINS), gains=GAINS, mask=inside, relaxation=1.2),
    "hebt": lambda: hebt(A, counts(), haadf(), [3.0, 50.0]),
    "hebt, own tilts": lambda: hebt(
        A, counts(), haadf(B), [3.0, 50.0], haadf_projector=B, rest=True
    ),
    "sirt, binned": lambda: sirt(COARSE, counts(COARSE, 10)),
    "em": lambda: em(A, counts(background=0.5), background=0.5, mask=inside),
    "cgls": lambda: cgls(A, counts(gains=GAINS), gains=GAINS, mask=inside),
    "cgls, two groups": lambda: cgls(
        A, counts(slices=70), mask=inside[..., 0], initial=0.5 * truth(70)
    ),
    "cgls, exhausted": lambda: cgls(FEW, counts(FEW)),
    "tv": lambda: penalised(maps(slices=70), kind="tv"),
    "tv, 2-D": lambda: penalised(maps(), kind="tv", dimensions=2, mask=inside),
    "tgv": lambda: penalised(maps(slices=70)),
    "tgv, 2-D": lambda: penalised(maps(), dimensions=2, mask=inside[..., 0], initial=truth()),
    "nuclear": lambda: penalised(maps(), kind="tv", coupling="nuclear"),
    "tgv, sum": lambda: penalised(
        maps(), DataTerm(B, haadf(B), mix=[3.0, 50.0], discrepancy="ls", weight=0.1), relaxation=1.0
    ),
    "tv, binned": lambda: penalised(maps(COARSE, 10), kind="tv", coupling="uncoupled"),
    "power, tv": lambda: powered("tv", 2),
    "power, tgv": lambda: powered("tgv", 3),
}


def textbook(make):
    """Return the same in its textbook form."""

    def made():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FUSED, "primal_dual_of", TextbookPrimalDual)
            iterate = next(make())
        steps = iterate._steps
        if not isinstance(steps, FUSED.Relinearised):
            form = TEXTBOOK.get(type(steps), type(steps))
            steps = form(steps.system)
        return iterates_of(steps, iterate._has_channels, type(iterate))

    return made


def assert_same(found, expected):
    np.testing.assert_array_equal(found.volume, expected.volume)
    assert found.residuals.keys() == expected.residuals.keys()
    for name, residuals in expected.residuals.items():
        np.testing.assert_array_equal(found.residuals[name], residuals)
    np.testing.assert_array_equal(found.measured_at, expected.measured_at)
    np.testing.assert_array_equal(found.channel_iterations, expected.channel_iterations)
    assert (found.iterations, found.stopped_by, found.converged) == (
        expected.iterations, expected.stopped_by, expected.converged
    )  # fmt: skip

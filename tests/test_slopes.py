# SPDX-License-Identifier: GPL-3.0-or-later
"""TGV that comes out as TV says so, in the history and by a warning;
TGV that finds slopes does not."""

import warnings
from functools import cache

import numpy as np
import pytest
from solver_cases import textbook

import hyperspy_multitomo as mt
from hyperspy_multitomo.tomography import (
    DataTerm,
    Regulariser,
    TiltGeometry,
    projector,
    run,
    variational,
)
from hyperspy_multitomo.tomography.slopes import came_out_as_tv

SIZE = 32
A = projector(TiltGeometry(np.arange(-70, 71, 10.0), SIZE), "numba")
RUN = {
    "depth": None,
    "dimensions": 2,
    "iterations": 100,
    "tolerance": None,
    "show_progressbar": False,
}
AS_TV = "TGV came out as TV"


@cache
def disc(slices=2):
    """A disc whose signal rises over 20 px, (z, x, y)."""
    z, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    plane = np.where(np.hypot(z, x) < 0.42 * SIZE, np.clip(0.5 + x / 20, 0, 1) + 0.3, 0)
    return np.repeat(plane[..., None], slices, axis=2).astype(np.float32)


def series(scale=1.0, slices=2):
    counts = np.random.default_rng(0).poisson(0.5 * A(disc(slices)[None])[0])
    return mt.TiltSeriesHAADF.from_images(
        scale * counts.transpose(0, 2, 1), tilts=np.arange(-70, 71, 10.0)
    )


def test_verdict():
    assert came_out_as_tv([0.011, 0.016, 0.017, 0.016, 0.015])
    assert came_out_as_tv([0.0028, 0.0026, 0.0014, 0.0025, 0.0024])  # swings
    assert came_out_as_tv(np.zeros(5))
    assert not came_out_as_tv([0.040, 0.072, 0.093, 0.1, 0.1])
    assert not came_out_as_tv([0.007, 0.010, 0.012, 0.014, 0.017])  # still growing
    assert not came_out_as_tv([0.001, 0.001, 0.001, 0.001])  # too early
    assert not came_out_as_tv([])


@pytest.mark.parametrize("scale", [1.0, 1e-12])
def test_the_default_comes_out_as_tv_where_slopes_are_short(scale):
    haadf = series(scale)
    with pytest.warns(UserWarning, match=AS_TV):
        tgv = haadf.reconstruct_tgv(**RUN)
    tv = haadf.reconstruct_tv(**RUN)
    assert np.linalg.norm(tgv.data / scale - tv.data / scale) < 0.01 * np.linalg.norm(
        tv.data / scale
    )
    step = tgv.history[-1]
    assert step["in_effect"] == "tv"
    assert 0 < step["slopes"] < 0.02
    assert "in_effect" not in tv.history[-1]


def test_a_small_alpha0_gives_slopes():
    haadf = series()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step = haadf.reconstruct_tgv(alpha0=1.0, **RUN).history[-1]
    assert step["in_effect"] == "tgv"
    assert step["slopes"] > 0.05


def test_no_verdict_after_few_iterations():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step = series().reconstruct_tgv(**RUN | {"iterations": 10}).history[-1]
    assert step["in_effect"] == "tgv"


def test_lazy_slabs_warn_when_they_are_computed():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        volume = series().as_lazy().reconstruct_tgv(chunks=1, **RUN)
    with pytest.warns(UserWarning, match=AS_TV):
        volume.compute(show_progressbar=False)


def test_elements_with_the_haadf():
    counts = np.random.default_rng(1).poisson(0.3 * A(disc()[None])[0])
    eds = mt.TiltSeriesEDS.from_maps(
        {"Au": counts.transpose(0, 2, 1)}, tilts=np.arange(-70, 71, 10.0)
    )
    with pytest.warns(UserWarning, match=AS_TV):
        volume = eds.reconstruct_hebt(
            series(), regulariser="tgv", alpha0=50.0, ratios={"Au": 1.0}, **RUN
        )
    assert volume.history[-1]["in_effect"] == "tv"


@pytest.mark.slow
@pytest.mark.parametrize("coupling", ["frobenius", "uncoupled", "nuclear"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_compiled_and_textbook_measure_the_same(coupling, dimensions):
    volume = np.stack([disc(), 0.5 * disc()])
    term = DataTerm(A, np.random.default_rng(0).poisson(5 * A(volume)))

    def make():
        return variational([term], Regulariser(2.0, "tgv", coupling, dimensions, 1.0), [5.0, 2.5])

    fused, reference = (run(form(), 20).residuals["slopes"] for form in (make, textbook(make)))
    assert reference.shape == (2,)
    assert reference.min() > 1e-3
    np.testing.assert_allclose(fused, reference, rtol=1e-3)


def test_tv_has_no_slopes():
    assert (
        "slopes"
        not in run(
            variational([DataTerm(A, A(disc()[None]))], Regulariser(1.0), [1.0]), 10
        ).residuals
    )

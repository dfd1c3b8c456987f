# SPDX-License-Identifier: GPL-3.0-or-later
"""What the regularised methods are said to gain, at the default weight on small phantoms;
benchmarks/regularisers.py has all."""

import importlib.util
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from hyperspy_multitomo.inspection import psnr
from hyperspy_multitomo.simulation import huber, yuan
from hyperspy_multitomo.tomography import em, hebt, sirt

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def figures():
    """The benchmark, as a module."""
    path = Path(__file__).parents[1] / "benchmarks" / "regularisers.py"
    spec = importlib.util.spec_from_file_location("regularisers", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def ytterbium(figures):
    """PSNR (dB) of Yb, the weakest channel of the Huber phantom:
    the best of SIRT, and TV by coupling and dimensions."""
    data = figures.Data.simulated(huber(96, 16), 0)
    found = {
        "SIRT": max(
            psnr(i.volume[0], data.truth[0]) for i in islice(sirt(data.A, data.maps[:1]), 1, 30)
        )
    }
    for coupling in ("uncoupled", "frobenius", "nuclear"):
        for dimensions in (2, 3):
            (volume,) = figures.Method("tv", coupling, dimensions).volumes(data, [1.0])
            found[coupling, dimensions] = psnr(volume[0], data.truth[0])
    return found


@pytest.mark.parametrize(
    ("better", "worse", "gain"),
    [
        (("uncoupled", 2), "SIRT", 2.5),
        (("frobenius", 2), ("uncoupled", 2), 2.5),
        (("frobenius", 3), ("uncoupled", 3), 2.5),
        (("frobenius", 3), ("frobenius", 2), 0.5),
        (("nuclear", 3), ("frobenius", 3), 1.0),
    ],
)
def test_each_step_gains_on_the_weakest_channel(ytterbium, better, worse, gain):
    assert ytterbium[better] - ytterbium[worse] > gain


def test_tgv_beats_tv_where_composition_is_graded(figures):
    data = figures.Data.simulated(figures.graded(64, 1), 0)
    methods = figures.Method("tv", dimensions=2), figures.Method("tgv", dimensions=2)
    tv, tgv = (
        figures.gradient_errors(next(method.volumes(data, [1.0])), data) for method in methods
    )
    errors, composition, slope = np.divide(tgv, tv)[:2], tgv[2] / tv[2], tgv[3] / tv[3]
    assert errors.max() < 1
    assert composition < 0.85
    assert slope < 0.7


@pytest.fixture(scope="module")
def particle(figures):
    """Errors of composition inside, deep inside, and outline of a particle at 30 counts, by method;
    plain ones at their best."""
    data = figures.Data.simulated(yuan(97, 16), 0, fitted=True)

    def best(solver):
        return np.min(
            [figures.composition_errors(i.volume, data) for i in islice(solver, 1, 60)], axis=0
        )

    found = {
        "SIRT": best(sirt(data.A, data.maps)),
        "EM": best(em(data.A, data.maps)),
        "HEBT": best(hebt(data.A, data.maps, data.haadf, data.ratios, alpha=0.7)),
    }
    for haadf in (None, "channel", "mix"):
        (volume,) = figures.Method("tv", "nuclear", haadf=haadf).volumes(data, [1.0])
        found[haadf] = np.array(figures.composition_errors(volume, data))
    return found


def test_plain_hebt_gains_outline_not_composition(particle):
    composition, _, outline = particle["HEBT"] / particle["SIRT"]
    assert composition > 0.9
    assert outline < 0.7


def test_regularisation_halves_the_error_of_the_composition(particle):
    plain = np.min([particle[name] for name in ("SIRT", "EM", "HEBT")], axis=0)
    inside, deep, _ = particle[None] / plain
    assert inside < 0.5
    assert deep < 0.25


@pytest.mark.parametrize("haadf", ["channel", "mix"])
def test_the_haadf_gains_where_the_interfaces_are(particle, haadf):
    inside, deep, outline = particle[haadf] / particle[None]
    assert inside < 0.9
    assert outline < 0.7
    assert deep == pytest.approx(1, abs=0.15)

# SPDX-License-Identifier: GPL-3.0-or-later
"""The signals' reconstructions on a device:
chosen by itself, the numbers of the cores, slabs where its memory is short."""

import gc

import numpy as np
import pytest
from series_pairs import QUIET, RATIOS, wire

from hyperspy_multitomo.tomography import projector
from hyperspy_multitomo.tomography.cuda.memory import device_bytes


@pytest.fixture(scope="module")
def series():
    return wire(slices=32, size=24)


def volume(pair, method, **options):
    haadf, eds = pair
    options = {"iterations": 5, **options} if method != "fbp" else options
    options |= {"ratios": RATIOS} if method == "hebt" else {}
    options |= {"tolerance": None, "alpha0": 4.0} if method == "tgv" else {}
    given = [haadf] if method in ("hebt", "tgv") else []
    return getattr(eds, f"reconstruct_{method}")(*given, **options, **QUIET)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sirt", "em", "hebt", "fbp", "tgv", "cgls"])
def test_equal_to_the_cores(series, cuda, method):
    on_device = volume(series[0], method)
    on_cores = volume(series[0], method, backend="numba")
    assert (on_device.history[-1]["backend"], on_cores.history[-1]["backend"]) == ("cuda", "numba")
    difference = np.linalg.norm(on_device.data - on_cores.data)
    assert difference <= 1e-4 * np.linalg.norm(on_cores.data)


@pytest.mark.slow
def test_lazily(series, cuda):
    lazy = volume(series[1], "tgv", chunks=16, overlap=4)
    lazy.compute(**QUIET)
    on_cores = volume(series[1], "tgv", chunks=16, overlap=4, backend="numba")
    on_cores.compute(**QUIET)
    assert np.linalg.norm(lazy.data - on_cores.data) <= 1e-4 * np.linalg.norm(on_cores.data)


def test_a_plan_names_it(series, machine):
    haadf, eds = series[0]
    plan = eds.plan_reconstruction("hebt", haadf, iterations=2)
    assert plan.backend == projector(haadf.geometry()).backend == "cuda"
    assert plan.device in str(plan)
    assert "CPU" not in plan.device


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sirt", "hebt", "em"])
def test_what_does_not_fit_goes_slab_by_slab(series, machine, method):
    """The volume in memory is that of the cores, and the device never held more than it has."""
    whole = volume(series[0], method, backend="numba")
    needed = [device_bytes(method, series[0][0].geometry(), 2, slices) for slices in (16, 32)]
    gc.collect()
    machine.memory.total = machine.memory.used + sum(needed) // 2 * 10 // 9
    found = volume(series[0], method)
    assert found.history[-1]["slabs"] == {"count": 2, "thickness": 16, "overlap": 0}
    assert not found._lazy
    assert machine.memory.peak <= machine.memory.total
    assert np.linalg.norm(found.data - whole.data) <= 1e-4 * np.linalg.norm(whole.data)


def test_what_cannot_be_cut_says_so(series, machine):
    machine.memory.total = 1_000_000
    with pytest.raises(MemoryError, match=r"on the device .* pass a lazy series.*backend='numba'"):
        volume(series[0], "tgv")
    machine.memory.total = 20_000
    with pytest.raises(
        MemoryError, match=r"16 slices need about .* of the device.*backend='numba'"
    ):
        volume(series[0], "sirt")

# SPDX-License-Identifier: GPL-3.0-or-later
"""Sweeps: every volume is that of a run of its own, whichever settings are solved side by side."""

import numpy as np
import pytest

from hyperspy_multitomo.tomography import (
    DataTerm,
    Regulariser,
    TiltGeometry,
    cgls,
    em,
    hebt,
    projector,
    run,
    sirt,
    sweep,
    variational,
)
from hyperspy_multitomo.tomography.cpu.stacked import FusedSteps

A = projector(TiltGeometry(np.linspace(-70, 70, 9), 16, (14, 16), 0.5, 0.3), "numba")
B = projector(TiltGeometry(np.linspace(-75, 75, 11), 18, (14, 16), 0.5), "numba")
RATIOS = [3.0, 50.0]


def truth(slices=1):
    volume = np.zeros((2, 14, 16, slices), np.float32)
    volume[0, 4:9, 3:9], volume[1, 6:11, 7:13] = 2.0, 0.7
    return volume * np.linspace(1, 1.5, slices, dtype=np.float32)


def maps(slices=1):
    return np.random.default_rng(0).poisson(9 * A(truth(slices))).astype(np.float32) / 9


def haadf(H=A, slices=1):
    return H(np.tensordot(np.float32(RATIOS), truth(slices), 1))


@pytest.fixture
def solved(monkeypatch):
    """Slices of the systems that were solved, in order."""
    found = []
    made = FusedSteps.__init__

    def init(self, system):
        found.append(system.initial.shape[-1])
        made(self, system)

    monkeypatch.setattr(FusedSteps, "__init__", init)
    return found


def assert_as_alone(volumes, solver, data, settings, iterations=None, **common):
    assert len(volumes) == len(settings)
    for volume, setting in zip(volumes, settings, strict=True):
        options = dict(setting)
        count = options.pop("iterations", iterations)
        expected = run(solver(*data, **common | options), count).volume
        np.testing.assert_allclose(volume, expected, atol=3e-6 * np.abs(expected).max())


@pytest.mark.parametrize("slices", [1, 3])
@pytest.mark.parametrize("own_tilts", [False, True])
@pytest.mark.parametrize("weighting", ["sirt", "squared"])
def test_forty_weights_of_the_haadf(slices, own_tilts, weighting):
    H = B if own_tilts else A
    data = A, maps(slices), haadf(H, slices), RATIOS
    settings = [{"alpha": alpha} for alpha in np.linspace(0.05, 0.95, 40)]
    common = dict(
        haadf_projector=H, weighting=weighting, gains=np.linspace(1, 2, 9), rest=own_tilts
    )
    volumes = sweep(hebt, *data, settings=settings, iterations=5, **common)
    assert volumes.shape == (40, 3 if own_tilts else 2, 14, 16, slices)
    picked = [0, 17, 39]
    assert_as_alone(volumes[picked], hebt, data, [settings[k] for k in picked], 5, **common)
    assert len({volume.tobytes() for volume in volumes}) == 40


def test_few_systems_are_solved(solved):
    sweep(
        hebt,
        A,
        maps(),
        haadf(),
        RATIOS,
        settings=[{"alpha": a} for a in np.linspace(0.1, 0.9, 40)],
        iterations=1,
    )
    assert sum(solved) == 40
    assert len(solved) <= 2


def test_snapshots_of_one_run(solved):
    settings = [
        {"alpha": alpha, "iterations": count} for count in (7, 0, 3) for alpha in (0.2, 0.8)
    ]
    data = A, maps(), haadf(), RATIOS
    volumes = sweep(hebt, *data, settings=settings)
    assert solved == [2]
    assert not volumes[2:4].any()
    assert_as_alone(volumes, hebt, data, settings)


def test_relaxation_start_and_ratios():
    start = np.random.default_rng(1).random((2, 14, 16, 1)).astype(np.float32)
    settings = [
        {"relaxation": 0.5},
        {"relaxation": 1.9},
        {"initial": start},
        {"ratios": [1.0, 1.0]},
        {},
    ]
    data = A, maps(), haadf()
    settings = [{"ratios": RATIOS} | setting for setting in settings]
    volumes = sweep(hebt, *data, settings=settings, iterations=4)
    assert_as_alone(volumes, hebt, data, settings, 4)


@pytest.mark.parametrize(
    "mask",
    [np.arange(16) % 5 > 0, np.arange(16)[:, None] % 5 + np.arange(2) > 0],
    ids=["2-D", "3-D"],
)
def test_masks_and_signs(mask):
    mask = np.broadcast_to(mask, (14, *mask.shape))
    settings = [
        {"relaxation": 1.0},
        {"relaxation": 1.5},
        {"nonnegative": False},
        {"relaxation": 1.5, "nonnegative": False},
    ]
    data = A, maps(2) - 0.5
    volumes = sweep(sirt, *data, settings=settings, iterations=6, mask=mask)
    assert_as_alone(volumes, sirt, data, settings, 6, mask=mask)
    assert volumes[2:].min() < 0 == volumes[:2].min()


def test_without_a_channel_axis():
    settings = [{"relaxation": 1.0}, {"relaxation": 0.3}]
    volumes = sweep(sirt, A, maps()[0], settings=settings, iterations=3)
    assert volumes.shape == (2, 14, 16, 1)
    assert_as_alone(volumes, sirt, (A, maps()[0]), settings, 3)


@pytest.mark.parametrize("scale", [1e-9, 1e12])
def test_data_of_any_scale(scale):
    data = A, maps() * np.float32(scale)
    settings = [{"relaxation": 1.0}, {"relaxation": 0.3}]
    assert_as_alone(sweep(sirt, *data, settings=settings, iterations=3), sirt, data, settings, 3)


def test_detector_pixels_of_several_voxels():
    coarse = projector(TiltGeometry(np.linspace(-70, 70, 9), 8, (14, 16), 0.5, binning=2), "numba")
    data = coarse, coarse(truth(4)), haadf(B, 4), RATIOS
    settings = [{"alpha": 0.2}, {"alpha": 0.7}, {"alpha": 0.9}]
    volumes = sweep(hebt, *data, settings=settings, iterations=4, haadf_projector=B)
    assert_as_alone(volumes, hebt, data, settings, 4, haadf_projector=B)


def test_solvers_whose_settings_are_run_one_after_the_other():
    counts = np.round(9 * maps())
    settings = [{"iterations": 5}, {"iterations": 2}, {"iterations": 5, "background": 0.5}]
    assert_as_alone(sweep(em, A, counts, settings=settings), em, (A, counts), settings)
    assert_as_alone(sweep(cgls, A, counts, settings=settings[:2]), cgls, (A, counts), settings[:2])
    settings = [{"regulariser": Regulariser(weight)} for weight in (0.5, 5.0)]
    volumes = sweep(
        variational, [DataTerm(A, counts)], settings=settings, iterations=20, scales=[18.0, 6.0]
    )
    assert abs(np.diff(volumes[1], axis=1)).sum() < abs(np.diff(volumes[0], axis=1)).sum()


def test_another_backend():
    pytest.importorskip("astra", reason="astra-toolbox is not installed")
    data, settings = (
        (projector(A.geometry, "astra_cpu"), maps()),
        [{"relaxation": 1.0}, {"relaxation": 0.5}],
    )
    assert_as_alone(sweep(sirt, *data, settings=settings, iterations=2), sirt, data, settings, 2)


@pytest.mark.parametrize(
    ("settings", "iterations", "message"),
    [
        ([], 3, "`settings` is empty"),
        ([{"relaxation": 1.0}, {"iterations": 2}], None, "setting 0 has None iterations"),
        ([{"iterations": -1}], 3, "setting 0 has -1 iterations"),
        ([{}, {"iterations": 2.5}], 3, "setting 1 has 2.5 iterations"),
        ([{"relaxation": 0.5}, {"relaxation": 2.5}], 3, "relaxation"),
        ([{"initial": np.zeros((2, 14, 16, 2))}], 3, "initial"),
    ],
)
def test_bad_settings(settings, iterations, message):
    with pytest.raises(ValueError, match=message):
        sweep(sirt, A, maps(), settings=settings, iterations=iterations)


def test_volumes_of_other_shapes():
    with pytest.raises(ValueError, match="different shapes"):
        sweep(
            hebt,
            A,
            maps(),
            haadf(),
            RATIOS,
            settings=[{"rest": True}, {"rest": False}],
            iterations=1,
        )


def test_settings_with_a_projector_of_their_own_that_does_not_fit_the_lanes():
    """Pixels of three voxels do not divide the lanes: such settings are run one after the other."""
    tilts = np.linspace(-70, 70, 9)
    A = projector(TiltGeometry(tilts, 24), "numba")
    B = projector(TiltGeometry(tilts, 8, (24, 24), binning=3), "numba")
    maps = np.random.default_rng(0).random((2, 9, 24, 6), np.float32)
    haadf = np.random.default_rng(1).random((9, 8, 2), np.float32)
    settings = [{"alpha": alpha, "haadf_projector": B} for alpha in (0.3, 0.6)]
    found = sweep(hebt, A, maps, haadf, [5, 7], settings=settings, iterations=3)
    for volume, setting in zip(found, settings, strict=True):
        np.testing.assert_array_equal(
            volume, run(hebt(A, maps, haadf, [5, 7], **setting), 3).volume
        )

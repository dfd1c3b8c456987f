# SPDX-License-Identifier: GPL-3.0-or-later
"""Filtered back projection: against ASTRA's, absolute scale, filters,
weights of the tilts, gains."""

from dataclasses import replace

import numpy as np
import pytest

from hyperspy_multitomo.tomography import TiltGeometry, fbp, projector
from hyperspy_multitomo.tomography.fbp import FILTERS, _coverage, ramp, tilt_weights

N = 96
FULL, LIMITED = np.arange(-90, 90, 3.0), np.arange(-75, 76, 5.0)


def disc(radius=30.0, centre=(5.0, -3.0)):
    z, x = np.indices((N, N)) - (N - 1) / 2
    return (
        2.0
        * np.clip(radius + 0.5 - np.hypot(x - centre[0], z - centre[1]), 0, 1).astype(np.float32)[
            ..., None
        ]
    )


def by_astra(geometry, sinogram, name):
    """ASTRA's FBP of a sinogram (tilt, x) with the projector 'linear';
    its vertical axis runs against z."""
    astra = pytest.importorskip("astra", reason="astra-toolbox is not installed")
    volume = astra.create_vol_geom(*geometry.volume_shape)
    rays = astra.create_proj_geom(
        "parallel", 1.0, geometry.detector_width, -np.deg2rad(geometry.tilts)
    )
    config = astra.astra_dict("FBP")
    config["ProjectorId"] = astra.create_projector("linear", rays, volume)
    config["ProjectionDataId"] = astra.data2d.create("-sino", rays, sinogram)
    config["ReconstructionDataId"] = astra.data2d.create("-vol", volume)
    config["option"] = {"FilterType": name}
    algorithm = astra.algorithm.create(config)
    astra.algorithm.run(algorithm)
    return astra.data2d.get(config["ReconstructionDataId"]) / geometry.pixel_size


def relative(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


@pytest.mark.parametrize("tilts", [FULL, LIMITED], ids=["full range", "limited range"])
@pytest.mark.parametrize(
    ("name", "theirs"), [("ramp", "ram-lak"), *[(name, name) for name in FILTERS[1:]]]
)
def test_agrees_with_astra(tilts, name, theirs):
    """But for the share of the rays that a voxel gets, which ASTRA does not divide out."""
    geometry = TiltGeometry(tilts, N, pixel_size=0.5)
    A = projector(geometry)
    sinogram = A(disc())
    ours = fbp(A, sinogram, filter=name)[..., 0] * _coverage(A, np.ones(len(tilts), bool))
    assert relative(ours, by_astra(geometry, sinogram[..., 0], theirs)) < 1e-3


@pytest.mark.parametrize("width", [64, 65])
@pytest.mark.parametrize("tilts", [FULL, LIMITED], ids=["full range", "limited range"])
def test_the_tilt_axis_is_as_bright_as_beside_it(width, tilts):
    """Voxels on it lie on a ray at every tilt, or between two: by A.T alone 1.12 and 0.95."""
    z, x = np.mgrid[:width, :width] - (width - 1) / 2
    blob = np.exp(-(x**2 + z**2) / 128)
    A = projector(TiltGeometry(tilts, width))
    for binned in (A, projector(replace(A.geometry, detector_width=width // 2, binning=2))):
        found = fbp(binned, binned(np.repeat(blob[..., None], 2, axis=2).astype(np.float32)))
        middle = width // 2
        assert found[middle, middle, 0] == pytest.approx(blob[middle, middle], abs=0.04)


def test_coverage_is_one_on_average_and_smooth_off_the_axis():
    A = projector(TiltGeometry(FULL, 65))
    covered = _coverage(A, np.ones(len(FULL), bool))
    assert covered.mean() == pytest.approx(1)
    assert covered[32, 32] > 1.1
    assert abs(covered[:20] - 1).max() < 0.05


@pytest.mark.parametrize("backend", ["numba", "astra_cpu"])
@pytest.mark.parametrize("pixel_size", [1.0, 0.25])
def test_signal_per_length(backend, pixel_size):
    if backend == "astra_cpu":
        pytest.importorskip("astra", reason="astra-toolbox is not installed")
    A = projector(TiltGeometry(np.arange(-90, 90, 1.0), N, pixel_size=pixel_size), backend)
    volume = fbp(A, A(disc()))[..., 0]
    truth = disc()[..., 0]
    assert volume[truth == 2].mean() == pytest.approx(2, rel=5e-3)
    radius = np.hypot(*(np.indices((N, N)) - (N - 1) / 2))
    assert abs(volume[(truth == 0) & (radius < N / 2)].mean()) < 0.02


def test_limited_range_keeps_the_scale_of_a_disc():
    A = projector(TiltGeometry(LIMITED, N))
    volume = fbp(A, A(disc(25.0, (0.0, 0.0))))[..., 0]
    assert volume[disc(20.0, (0.0, 0.0))[..., 0] == 2].mean() == pytest.approx(2, rel=0.03)


def test_irregular_tilts_are_weighted():
    """Tilts that are crowded on one side must not count more."""
    tilts = np.sort(np.concatenate([np.arange(-90, 0, 1.0), np.arange(0, 90, 6.0)]))
    A = projector(TiltGeometry(tilts, N))
    sinogram = A(disc())
    regular = fbp(projector(TiltGeometry(FULL, N)), projector(TiltGeometry(FULL, N))(disc()))
    truth = disc()
    weighted = fbp(A, sinogram)
    assert relative(weighted, truth) < 1.6 * relative(regular, truth)
    assert weighted[truth == 2].mean() == pytest.approx(2, rel=0.02)


class TestWeights:
    def test_sum_is_pi(self):
        for tilts in (
            FULL,
            LIMITED,
            [-60, 10, 11, 50],
            [0, 90],
            np.random.default_rng(0).uniform(-80, 80, 20),
        ):
            assert tilt_weights(np.asarray(tilts)).sum() == pytest.approx(np.pi)

    def test_equal_steps_weigh_alike(self):
        for tilts in (FULL, LIMITED):
            np.testing.assert_allclose(tilt_weights(tilts), np.pi / len(tilts))

    def test_half_the_gaps_to_the_neighbours(self):
        np.testing.assert_allclose(np.rad2deg(tilt_weights([0, 30, 90, 140])), [35, 45, 55, 45])

    def test_the_same_direction_twice_shares_its_weight(self):
        np.testing.assert_allclose(
            np.rad2deg(tilt_weights([-90, -45, 0, 45, 90])), [22.5, 45, 45, 45, 22.5]
        )

    @pytest.mark.parametrize(
        "tilts", [[-90, -86.25, 0, 45, 90], [-60, -50, 0, 50, 60], [-70, -10, 0, 20, 180]]
    )
    def test_mirrored_tilts_weigh_alike(self, tilts):
        np.testing.assert_allclose(
            tilt_weights(-np.array(tilts)), tilt_weights(np.array(tilts)), rtol=1e-6
        )

    def test_order_does_not_matter(self):
        tilts = np.random.default_rng(1).permutation(LIMITED)
        np.testing.assert_allclose(tilt_weights(tilts), np.pi / len(tilts))


class TestFilters:
    def test_ramp_is_half_the_frequency(self):
        response = ramp(128, 0.5)
        frequency = np.linspace(0, 1, response.size)  # of 1/(2 x 0.5) per nm
        np.testing.assert_allclose(response, frequency, atol=5e-3)
        assert response[0] > 0  # the mean is kept by the samples that were cut off

    def test_windows(self):
        rows = {name: ramp(64, 1.0, name) / ramp(64, 1.0) for name in FILTERS}
        for name, end in {
            "ramp": 1,
            "shepp-logan": 2 / np.pi,
            "cosine": 0,
            "hamming": 0.08,
            "hann": 0,
        }.items():
            assert rows[name][0] == 1
            assert rows[name][-1] == pytest.approx(end, abs=1e-6)
            assert np.all(np.diff(rows[name]) <= 1e-6)

    def test_cutoff(self):
        response = ramp(64, 1.0, "hann", 0.5)
        assert not response[33:].any()
        assert response[1:31].min() > 0

    def test_smoother_filters_leave_less_noise(self):
        A = projector(TiltGeometry(LIMITED, N))
        noise = np.random.default_rng(2).normal(size=(len(LIMITED), N, 3))
        spread = [
            fbp(A, noise, filter=name).std() for name in ("ramp", "shepp-logan", "cosine", "hann")
        ]
        assert np.all(np.diff(spread) < 0)
        assert fbp(A, noise, filter="hann", cutoff=0.5).std() < 0.6 * spread[-1]


class TestArguments:
    def test_gains_undo_what_they_did(self):
        A = projector(TiltGeometry(LIMITED, N))
        gains = np.linspace(0.5, 2, len(LIMITED))
        sinogram = np.stack([A(disc()), 3 * A(disc())])
        scaled = sinogram * gains[:, None, None].astype(np.float32)
        assert relative(fbp(A, scaled, gains=gains), fbp(A, sinogram)) < 1e-5
        assert (
            relative(fbp(A, scaled, gains=np.stack([gains, 3 * gains]))[1], fbp(A, sinogram)[0])
            < 1e-5
        )

    def test_a_gain_of_0_leaves_the_tilt_out(self):
        A = projector(TiltGeometry(LIMITED, N))
        sinogram, gains = A(disc()), np.ones(len(LIMITED))
        gains[4] = 0
        kept = np.arange(len(LIMITED)) != 4
        spoilt = sinogram.copy()
        spoilt[4] = 1e6
        fewer = projector(TiltGeometry(LIMITED[kept], N))
        assert relative(fbp(A, spoilt, gains=gains), fbp(fewer, sinogram[kept])) < 1e-5

    def test_pixels_of_several_voxels(self):
        coarse = projector(TiltGeometry(FULL, N // 2, (N, N), binning=2))
        truth = disc().repeat(2, axis=-1)
        volume = fbp(coarse, coarse(truth))
        assert volume.shape == truth.shape
        assert volume[truth == 2].mean() == pytest.approx(2, rel=0.02)

    def test_channels_and_slices(self):
        A = projector(TiltGeometry(LIMITED, N))
        data = np.random.default_rng(3).random((2, len(LIMITED), N, 5), np.float32)
        kept = data.copy()
        whole = fbp(A, data)
        assert whole.shape == (2, N, N, 5)
        assert whole.dtype == np.float32
        np.testing.assert_allclose(fbp(A, data[1, ..., 3:4]), whole[1, ..., 3:4], atol=1e-5)
        np.testing.assert_array_equal(data, kept)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (dict(filter="none"), "'ramp', 'shepp-logan'"),
            (dict(cutoff=0), "up to 1"),
            (dict(cutoff=1.5), "up to 1"),
            (dict(gains=[1, 0, 0]), "two tilts"),
            (dict(projections=np.full((3, 8, 1), np.nan)), "NaN"),
            (dict(projections=np.zeros((3, 9, 1))), "8 detector pixels"),
        ],
    )
    def test_bad_input(self, change, message):
        A = projector(TiltGeometry([-10, 0, 10], 8))
        with pytest.raises(ValueError, match=message):
            fbp(A, **{"projections": np.zeros((3, 8, 1)), **change})

# SPDX-License-Identifier: GPL-3.0-or-later
"""What every projector back-end is checked by, and the geometries of the checks."""

import numpy as np
import pytest

from hyperspy_multitomo.tomography import TiltGeometry, dot_test, projector

FULL_CIRCLE = [
    -180,
    -135,
    -90,
    -67.3,
    -45,
    -12,
    0,
    30,
    44.999,
    45,
    60,
    90,
    101.5,
    135,
    180,
    225,
    270,
    359,
]

GEOMETRIES = {
    "full circle, even": TiltGeometry(FULL_CIRCLE, 32),
    "full circle, odd": TiltGeometry(FULL_CIRCLE, 33),
    "flat volume, shifted": TiltGeometry(
        [-70, -20, 3, 55, 90], 41, (12, 57), 0.7, 1.3, [0.4, -2.5, 7.0, -0.1, 3.3]
    ),
    "deep volume, off axis": TiltGeometry(np.linspace(-75, 75, 9), 50, (75, 38), 2.0, -4.6),
    "smallest": TiltGeometry([0, 30], 2, (2, 3)),
    "one tilt, wide volume": TiltGeometry([17.0], 20, (64, 130)),
    "unordered tilts": TiltGeometry([80, -80, 10, 50, -45, 0], 24, (40, 24)),
}


def weights_of(geometry):
    """Joseph's weights (tilt, ray, z, x) in double precision, straight from the formula."""
    t = np.deg2rad(np.asarray(geometry.tilts))[:, None, None]
    z, x = (
        i - (n - 1) / 2
        for i, n in zip(np.indices(geometry.volume_shape), geometry.volume_shape, strict=True)
    )
    nu = geometry.detector_width
    p = (
        (nu - 1) / 2
        + geometry.axis_offset
        + np.asarray(geometry.shifts)[:, None, None]
        + x * np.cos(t)
        + z * np.sin(t)
    )
    c = np.maximum(np.abs(np.cos(t)), np.abs(np.sin(t)))[:, None]
    return (
        geometry.pixel_size
        / c
        * np.maximum(0, 1 - np.abs(np.arange(nu)[:, None, None] - p[:, None]) / c)
    )


def asymmetric(shape, slices=1):
    """A volume that no rotation or mirror maps onto itself: off centre and irregular."""
    volume = np.zeros((*shape, slices), np.float32)
    nz, nx = shape
    volume[nz // 4 : nz // 2, nx // 2 : nx // 2 + nx // 3] = 1
    volume[nz // 2 + 1 : nz // 2 + 3, nx // 4 : nx // 3] = 4
    return volume


class ProjectorChecks:
    """Adjointness, closed forms, handedness, equivariance;
    the fixture `backend` names the one that is checked."""

    @pytest.mark.parametrize("name", GEOMETRIES)
    def test_adjoint(self, backend, name):
        assert dot_test(projector(GEOMETRIES[name], backend), rng=1) <= 1e-6

    @pytest.mark.slow
    @pytest.mark.parametrize("slices", [1, 15, 16, 17, 63, 64, 65, 130])
    def test_adjoint_for_any_number_of_slices(self, backend, slices):
        assert (
            dot_test(
                projector(TiltGeometry([-50, 0, 20, 70], 19, (21, 18)), backend),
                rng=2,
                slices=slices,
            )
            <= 1e-6
        )

    @pytest.mark.parametrize("name", GEOMETRIES)
    def test_every_weight_is_that_of_the_formula(self, backend, name):
        W = weights_of(GEOMETRIES[name])
        A = projector(GEOMETRIES[name], backend)
        rays = int(np.prod(A.range_shape))
        rows = A.T(np.eye(rays, dtype=np.float32).reshape(*A.range_shape, rays))
        tolerance = {"cuda": 3e-6, "numba": 3e-6, "astra_cpu": 2e-4}[
            backend
        ]  # ASTRA adds up positions in single precision
        assert (
            np.abs(rows - np.moveaxis(W.reshape(rays, *A.domain_shape), 0, -1)).max()
            <= tolerance * W.max()
        )

    @pytest.mark.parametrize("name", GEOMETRIES)
    def test_backends_agree(self, backend, name):
        rng = np.random.default_rng(3)
        A, reference = projector(GEOMETRIES[name], backend), projector(GEOMETRIES[name], "numba")
        volume, rays = rng.random((2, *A.domain_shape, 3)), rng.random((2, *A.range_shape, 3))
        for result, expected in ((A(volume), reference(volume)), (A.T(rays), reference.T(rays))):
            assert np.linalg.norm(result - expected) <= 5e-5 * np.linalg.norm(expected)

    def test_slices_and_channels_are_independent(self, backend):
        rng = np.random.default_rng(4)
        A = projector(TiltGeometry([-33, 12, 80], 16), backend)
        volume = rng.random((2, 3, *A.domain_shape, 70), np.float32)
        projections = A(volume)
        assert projections.shape == (2, 3, *A.range_shape, 70)
        assert projections.dtype == np.float32
        alone = A(volume[1, 2, :, :, 66:67])
        np.testing.assert_allclose(projections[1, 2, :, :, 66:67], alone, rtol=1e-5)

    def test_axis_aligned_projections_are_sums(self, backend):
        volume = np.random.default_rng(5).random((20, 26, 5), np.float32)
        A = projector(TiltGeometry([0, 180, -180, 360], 26, (20, 26), pixel_size=0.5), backend)
        columns = volume.sum(axis=0) * 0.5
        for tilt, expected in enumerate([columns, columns[::-1], columns[::-1], columns]):
            np.testing.assert_allclose(A(volume)[tilt], expected, rtol=2e-6)
        A = projector(TiltGeometry([90, -90], 20, (20, 26)), backend)
        rows = volume.sum(axis=1)
        np.testing.assert_allclose(A(volume)[0], rows, rtol=2e-6)
        np.testing.assert_allclose(A(volume)[1], rows[::-1], rtol=2e-6)

    def test_sign_of_the_tilt(self, backend):
        """A voxel (x, z) falls on x cos t + z sin t, counted from the centres:
        two projectors can be adjoint and disagree."""
        nz, nx, nu = 21, 33, 61
        z, x = 16, 20
        geometry = TiltGeometry(np.arange(-180, 181, 15), nu, (nz, nx))
        volume = np.zeros((nz, nx, 1), np.float32)
        volume[z, x] = 1
        projections = projector(geometry, backend)(volume)[..., 0]
        t = np.deg2rad(geometry.tilts)
        expected = (nu - 1) / 2 + (x - (nx - 1) / 2) * np.cos(t) + (z - (nz - 1) / 2) * np.sin(t)
        centre_of_mass = projections @ np.arange(nu) / projections.sum(axis=1)
        np.testing.assert_allclose(
            centre_of_mass, expected, atol=0.21
        )  # Joseph's triangle is sampled, at most so far off
        np.testing.assert_allclose(centre_of_mass[::6], expected[::6], atol=1e-4)

    def test_handedness_of_an_asymmetric_phantom(self, backend):
        shape = (40, 40)
        geometry = TiltGeometry([-60, -35, 20, 50], 60, shape)
        volume = asymmetric(shape)
        zz, xx = np.indices(shape) - 19.5
        mass = volume[..., 0] / volume.sum()
        t = np.deg2rad(geometry.tilts)
        expected = 29.5 + (mass * xx).sum() * np.cos(t) + (mass * zz).sum() * np.sin(t)
        projections = projector(geometry, backend)(volume)[..., 0]
        centre_of_mass = projections @ np.arange(60) / projections.sum(axis=1)
        np.testing.assert_allclose(centre_of_mass, expected, atol=0.05)
        mirrored = projector(TiltGeometry([60, 35, -20, -50], 60, shape), backend)(volume)[..., 0]
        assert np.abs(mirrored - projections).max() > 1

    def test_counts_are_conserved(self, backend):
        """All of a smooth object arrives at every tilt:
        the sum over rays is the sum over voxels, times the area of a voxel."""
        zz, xx = np.indices((64, 64)) - 31.5
        volume = np.exp(-((xx - 5) ** 2 + (zz + 7) ** 2) / (2 * 6.0**2))[..., None]
        A = projector(TiltGeometry(FULL_CIRCLE, 100, (64, 64), pixel_size=1.5), backend)
        np.testing.assert_allclose(A(volume)[..., 0].sum(axis=1), 1.5 * volume.sum(), rtol=1e-4)

    def test_a_disc_has_its_chords(self, backend):
        zz, xx = np.indices((128, 128)) - 63.5
        fine = np.hypot(xx, zz)
        disc = np.clip(40.5 - fine, 0, 1)[..., None]
        A = projector(TiltGeometry([0, 22, 45, 71], 128, pixel_size=0.25), backend)
        u = np.arange(128) - 63.5
        chord = 0.25 * 2 * np.sqrt(np.clip(40.0**2 - u**2, 0, None))
        inside = np.abs(u) < 38
        np.testing.assert_allclose(A(disc)[:, inside, 0], np.tile(chord[inside], (4, 1)), atol=0.25)

    @pytest.mark.parametrize("tilts", [[0, 25, -60], [90, 45, 300]])
    def test_shifts_and_axis_offset_move_the_projections(self, backend, tilts):
        volume = np.random.default_rng(6).random((16, 16, 2))
        still = projector(TiltGeometry(tilts, 48, (16, 16)), backend)(volume)
        moved = projector(
            TiltGeometry(tilts, 48, (16, 16), axis_offset=3, shifts=[1, -6, 2]), backend
        )(volume)
        for tilt, pixels in enumerate([4, -3, 5]):
            np.testing.assert_allclose(
                moved[tilt], np.roll(still[tilt], pixels, axis=0), rtol=1e-4, atol=1e-5
            )

    def test_a_projection_shifted_off_the_detector_is_empty(self, backend):
        A = projector(TiltGeometry([0, 30], 16, shifts=[0, 500]), backend)
        projections = A(np.ones((16, 16, 1)))
        assert projections[0].min() > 0
        assert not projections[1].any()
        assert not A.T(np.stack([np.zeros((16, 1)), np.ones((16, 1))])).any()

    def test_moving_the_object_moves_the_projections(self, backend):
        volume = np.zeros((40, 40, 1), np.float32)
        volume[10:16, 12:20] = np.random.default_rng(7).random((6, 8, 1))
        A = projector(TiltGeometry([0, 90], 40), backend)
        before, after = A(volume), A(np.roll(volume, (5, -3), axis=(0, 1)))
        np.testing.assert_allclose(after[0], np.roll(before[0], -3, axis=0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(after[1], np.roll(before[1], 5, axis=0), rtol=1e-5, atol=1e-6)

    def test_row_and_column_sums(self, backend):
        A = projector(TiltGeometry([0, 30, 77], 24, (20, 30), pixel_size=0.8), backend)
        np.testing.assert_allclose(A.row_sums()[0], 20 * 0.8, rtol=1e-6)
        weights = [1.0, 0.0, 2.5]
        rays = np.ones((*A.range_shape, 1), np.float32) * np.float32(weights)[:, None, None]
        np.testing.assert_allclose(A.column_sums(weights), A.T(rays)[..., 0], rtol=1e-6)
        np.testing.assert_allclose(A.column_sums(), A.column_sums([1, 1, 1]), rtol=1e-6)

    def test_norm_is_the_largest_singular_value(self, backend):
        A = projector(TiltGeometry([-50, -10, 40], 9, (7, 8)), backend)
        basis = np.eye(56, dtype=np.float32).reshape(7, 8, 56)
        W = A(basis).reshape(27, 56)
        assert A.norm() == pytest.approx(np.linalg.norm(W, 2), rel=1e-4)

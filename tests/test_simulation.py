# SPDX-License-Identifier: GPL-3.0-or-later
"""Phantoms have the shapes, counts and compositions they are described with;
the microscope adds what it is asked to."""

import pickle

import numpy as np
import pytest

from hyperspy_multitomo.acquisition.eds.xray_lines import families_of
from hyperspy_multitomo.inspection import r_squared
from hyperspy_multitomo.simulation import (
    count,
    huber,
    line_integrals,
    schwartz,
    simulate,
    spectra,
    yuan,
    zhong,
)
from hyperspy_multitomo.simulation.shapes import cap, inside_ellipse, inside_polygon, inside_ripple

PHANTOMS = {"zhong": zhong, "yuan": yuan, "huber": huber, "schwartz": schwartz}


def moments(image):
    """Sum and centre (x, y) of a projection (x, y), about the middle."""
    x, y = (np.arange(n) - (n - 1) / 2 for n in image.shape)
    total = image.sum(dtype=np.float64)
    return total, (x @ image.sum(axis=1)) / total, (image.sum(axis=0) @ y) / total


def grid(n=800):
    points = ((np.arange(n) + 0.5) / n * 2 - 1).astype(np.float32)
    return points[None, :], points[:, None], (2 / n) ** 2


@pytest.mark.parametrize(("sides", "corner"), [(8, 0.0), (8, 0.15), (4, 0.0), (4, 0.2)])
def test_area_of_a_rounded_polygon(sides, corner):
    x, z, pixel = grid()
    radius, half = 0.8, np.pi / sides
    inner = radius - corner
    # Steiner: area of the inner polygon, its circumference times the radius of the corners, and a
    # disc.
    expected = (
        sides * np.sin(2 * half) / 2 * inner**2
        + 2 * sides * np.sin(half) * inner * corner
        + np.pi * corner**2
    )
    assert inside_polygon(x, z, sides, radius, corner).sum() * pixel == pytest.approx(
        expected, rel=3e-3
    )


def test_polygon_with_corners_as_large_as_itself_is_a_disc():
    x, z, pixel = grid()
    assert inside_polygon(x, z, 5, 0.5, 0.5).sum() * pixel == pytest.approx(np.pi / 4, rel=3e-3)


@pytest.mark.parametrize(
    ("radius", "amplitude", "fold"), [(0.7, 0.04, 3), (0.2, -0.3, 4), (0.5, 0.0, 5), (0.0, 0.1, 2)]
)
def test_ripple_is_the_curve_in_polar_coordinates(radius, amplitude, fold):
    across = np.linspace(-1, 1, 301, dtype=np.float32)
    x, z = across[None, :], across[:, None]
    expected = np.hypot(x, z) < radius * (1 + amplitude * np.cos(fold * np.arctan2(z, x)))
    np.testing.assert_array_equal(inside_ripple(x, z, radius, amplitude, fold), expected)


def test_ellipse_and_caps():
    x, z, pixel = grid()
    assert inside_ellipse(x, z, (0.5, 0.3)).sum() * pixel == pytest.approx(np.pi * 0.15, rel=3e-3)
    assert cap(0.3, 0.5) == pytest.approx(0.8)
    assert cap(0.6, 0.5) == 0


@pytest.mark.slow
def test_zhong_areas():
    gold, silver = zhong().truth.sum(axis=(1, 2, 3))
    assert gold == pytest.approx(31484, rel=2e-3)
    assert silver == pytest.approx(66748, rel=2e-3)


def test_yuan_composition_and_counts():
    phantom = yuan()
    density = phantom.truth.sum(axis=0)[..., 0]
    fraction = phantom.truth[0, ..., 0] / np.maximum(density, 1e-6)
    core, shell = (48, 48), (48, 80)
    assert fraction[core] == pytest.approx(0.8)
    assert fraction[shell] == pytest.approx(0.2)
    assert density[core] == pytest.approx(1 / (0.8 / 19.3 + 0.2 / 10.49), rel=1e-4)
    series = simulate(phantom, oversampling=5, seed=0)
    peaks = series.expected_maps.max(axis=(1, 2, 3))
    assert ((peaks > 27) & (peaks < 34)).all()
    counts = series.maps.reshape(2, -1).T.astype(float)
    fitted = counts @ np.linalg.lstsq(counts, series.haadf.ravel(), rcond=None)[0]
    assert r_squared(fitted, series.haadf.ravel()) == pytest.approx(0.982, abs=0.01)


@pytest.mark.parametrize("size", [64, 129])
def test_huber_peaks_at_any_size(size):
    series = simulate(huber(size=size, slices=1), seed=0)
    np.testing.assert_allclose(series.expected_maps.max(axis=(1, 2, 3)), [0.97, 31, 2.3], rtol=0.08)
    assert series.expected_haadf.max() == pytest.approx(1.7e5, rel=0.05)
    assert series.maps.shape == (3, 36, size, 1)


@pytest.mark.slow
def test_huber_turns_from_slice_to_slice():
    ytterbium = huber(size=96, slices=21).truth[0]
    points = np.arange(96) - 47.5
    angle = np.unwrap(
        [
            np.arctan2(points @ s.sum(axis=1), points @ s.sum(axis=0))
            for s in np.moveaxis(ytterbium, -1, 0)
        ]
    )
    np.testing.assert_allclose(np.rad2deg(np.diff(angle)), 1.5, atol=0.3)


def test_schwartz_has_more_haadf_than_eds():
    series = simulate(schwartz(size=64), seed=0)
    assert series.maps.shape == (4, 9, 64, 1)
    assert series.haadf.shape == (47, 64, 1)
    np.testing.assert_allclose(series.expected_maps.max(axis=(1, 2, 3)), 5, rtol=0.06)
    cobalt, copper, oxygen, gold = series.phantom.truth
    np.testing.assert_allclose(cobalt + copper, oxygen, atol=1e-6)
    assert (gold + oxygen).max() <= 1 + 1e-6


@pytest.mark.parametrize("make", PHANTOMS.values(), ids=PHANTOMS)
def test_every_phantom_in_two_and_three_dimensions(make):
    flat, deep = make(size=33, slices=1), make(size=32, slices=9)
    assert flat.truth.shape == (len(flat.elements), 33, 33, 1)
    assert deep.truth.shape == (len(deep.elements), 32, 32, 9)
    assert deep.truth.dtype == np.float32
    assert np.abs(deep.truth[..., 4] - deep.truth[..., 1]).max() > 0.1
    assert (deep.truth.sum(axis=(1, 2, 3)) > 0).all()
    # The rim of the field stays empty, so that nothing is cut off at any tilt.
    assert deep.truth[:, 0].max() == deep.truth[:, :, -1].max() == 0
    copy = pickle.loads(pickle.dumps(deep))
    np.testing.assert_array_equal(copy.truth, deep.truth)


@pytest.mark.parametrize("make", PHANTOMS.values(), ids=PHANTOMS)
def test_projections_agree_with_rays_through_the_body(make):
    # Independent of any projector, and the phantoms are asymmetric: a wrong sign of the tilt would
    # fail.
    series = simulate(make(size=64, slices=1), tilts=[-60, -20, 0, 35, 70], seed=0)
    phantom = series.phantom
    half_width = 32 * phantom.pixel_size
    rays = (
        line_integrals(phantom.body, series.tilts, 256)
        .reshape(len(phantom.elements), 5, 64, 4)
        .mean(axis=-1)
        * half_width
    )
    expected = rays * phantom.counts_per_unit[:, None, None]
    for got, wanted in zip(series.expected_maps[..., 0], expected, strict=True):
        assert np.linalg.norm(got - wanted) < 0.06 * np.linalg.norm(wanted)
    mirrored = series.expected_maps[0, ::-1, :, 0][[0, 1]]
    assert np.linalg.norm(mirrored - expected[0, :2]) > 0.1 * np.linalg.norm(expected[0, :2])


def test_counts_are_conserved_and_the_haadf_is_the_sum_of_the_maps():
    series = simulate(
        yuan(size=48, slices=6), tilts=[-70, -33, 0, 45], dose=0.2, oversampling=4, seed=0
    )
    mass = series.truth.sum(axis=(1, 2, 3), dtype=np.float64) * series.pixel_size
    np.testing.assert_allclose(
        series.expected_maps.sum(axis=(2, 3), dtype=np.float64),
        mass[:, None].repeat(4, 1),
        rtol=1e-3,
    )
    np.testing.assert_allclose(
        np.tensordot(series.true_ratios, series.expected_maps, 1),
        series.expected_haadf,
        rtol=1e-4,
        atol=0.01,
    )


def test_dose_scales_counts_and_ratios_but_not_the_haadf():
    one, two = (simulate(zhong(size=32), tilts=[0, 30], dose=dose, seed=0) for dose in (1, 2))
    np.testing.assert_allclose(two.expected_maps, 2 * one.expected_maps, rtol=1e-6)
    np.testing.assert_allclose(two.expected_haadf, one.expected_haadf)
    np.testing.assert_allclose(two.true_ratios, one.true_ratios / 2)
    np.testing.assert_allclose(two.truth, 2 * one.truth, rtol=1e-6)


def test_same_object_at_any_size():
    small, large = (
        simulate(zhong(size=n), tilts=[0, 40], seed=0).expected_maps[..., 0] for n in (48, 96)
    )
    np.testing.assert_allclose(
        large.reshape(2, 2, 48, 2).mean(axis=-1), small, atol=0.02 * small.max()
    )


def test_oversampling_converges():
    coarse, fine, finest = (
        simulate(zhong(size=48), tilts=[10, 50], oversampling=f, seed=0).expected_maps.astype(float)
        for f in (1, 3, 8)
    )
    assert np.linalg.norm(fine - finest) < 0.4 * np.linalg.norm(coarse - finest)


def test_counts_are_poisson():
    expected = np.full((50, 40, 20), 4.0)
    counts = count(expected, seed=3)
    np.testing.assert_array_equal(counts, counts.round())
    assert counts.mean() == pytest.approx(4, abs=0.05)
    assert counts.var() == pytest.approx(4, rel=0.03)
    np.testing.assert_array_equal(counts, count(expected, seed=3))
    assert not np.array_equal(counts, count(expected, seed=4))


def test_blur_comes_after_the_counting_and_along_x_alone():
    expected = np.zeros((1, 61, 5))
    expected[:, 20:41] = 50.0
    sharp, smooth = count(expected, seed=0), count(expected, blur=2.0, seed=0)
    np.testing.assert_allclose(smooth.sum(axis=1), sharp.sum(axis=1), rtol=1e-5)
    flat = count(np.full((200, 41, 1), 9.0), blur=3.0, seed=0)[:, 20]
    # White noise through a Gaussian of sigma s keeps 1 / (2 s sqrt(pi)) of its variance.
    assert flat.var() == pytest.approx(9 / (2 * 3.0 * np.sqrt(np.pi)), rel=0.25)
    series = simulate(zhong(size=64), tilts=[0], seed=0)
    assert not np.array_equal(series.maps, series.maps.round())


def test_displacements_move_the_object():
    still = simulate(yuan(size=48, slices=24), tilts=[-40, 0, 40], seed=0)
    moved = simulate(
        still.phantom, tilts=[-40, 0, 40], across=[1.5, 0, -2.25], along=[0.5, -1, 0], seed=0
    )
    for t, (across, along) in enumerate([(1.5, 0.5), (0, -1), (-2.25, 0)]):
        for before, after in (
            (still.expected_haadf[t], moved.expected_haadf[t]),
            (still.expected_maps[1, t], moved.expected_maps[1, t]),
        ):
            (total, x, y), (total_moved, x_moved, y_moved) = moments(before), moments(after)
            assert total_moved == pytest.approx(total, rel=2e-3)
            assert x_moved - x == pytest.approx(across, abs=0.02)
            assert y_moved - y == pytest.approx(along, abs=0.02)


def test_axis_offset_moves_every_projection():
    tilts = [-60, 0, 30]
    still, moved = (
        simulate(zhong(size=48), tilts, axis_offset=offset, seed=0).expected_haadf
        for offset in (0, 2.5)
    )
    for before, after in zip(still, moved, strict=True):
        assert moments(after)[1] - moments(before)[1] == pytest.approx(2.5, abs=0.02)


def test_gains_and_background():
    plain = simulate(zhong(size=32), tilts=[0, 30], seed=0)
    changed = simulate(
        zhong(size=32), tilts=[0, 30], gains=[1.0, 0.5], background=[0.0, 0.3], seed=0
    )
    np.testing.assert_allclose(changed.expected_maps[0, 1], 0.5 * plain.expected_maps[0, 1])
    np.testing.assert_allclose(
        changed.expected_maps[1, 0], plain.expected_maps[1, 0] + 0.3, rtol=1e-6
    )
    np.testing.assert_allclose(changed.expected_haadf, plain.expected_haadf)


def test_haadf_noise():
    phantom = zhong(size=32)
    plain = simulate(phantom, seed=0)
    np.testing.assert_array_equal(plain.haadf, plain.expected_haadf)
    counted = simulate(phantom, haadf_noise="poisson", seed=0)
    np.testing.assert_array_equal(counted.haadf, counted.haadf.round())
    noisy = simulate(phantom, haadf_noise=500.0, seed=0)
    assert (noisy.haadf - noisy.expected_haadf).std() == pytest.approx(500, rel=0.1)


def test_fine_grid_averages_to_the_truth():
    phantom = huber(size=32, slices=3)
    fine = phantom.fine(4, 1, 2)
    assert fine.shape == (3, 128, 128, 1)
    np.testing.assert_allclose(
        fine.reshape(3, 32, 4, 32, 4).mean(axis=(2, 4)), phantom.truth[..., 1], atol=1e-5
    )
    with pytest.raises(ValueError, match="read-only"):
        phantom.truth[:] = 0


def test_spectra_hold_the_counts_of_the_maps():
    expected = np.zeros((2, 2, 12, 10))
    expected[0, :, :6], expected[1, :, 4:] = 20.0, 8.0
    energies = 0.005 + np.arange(1000) * 0.01
    images = spectra(expected, ["Fe", "S"], energies, continuum=0.5, seed=0)
    assert images.shape == (2, 12, 10, 1000)
    iron, sulphur = (
        next(f for f in families_of(e, 200, (0.1, 10)) if f.shell == "K") for e in ("Fe", "S")
    )
    for family, mean, region in ((iron, 20.0, np.s_[:, :4]), (sulphur, 8.0, np.s_[:, 6:])):
        near = np.abs(energies - family.energy) < 0.15
        lines = (np.abs(family.energies - family.energy) < 0.15) @ family.weights
        background = (
            images[region][..., np.roll(near, 40 if family is iron else 60)].sum()
            / images[region][..., 0].size
        )
        got = images[region][..., near].sum() / images[region][..., 0].size - background
        assert got == pytest.approx(mean * lines, rel=0.06)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tilts": [0, np.nan]}, "finite"),
        ({"tilts": []}, "shape"),
        ({"dose": 0}, "dose"),
        ({"across": [1.0]}, "one per tilt"),
        ({"gains": [1.0, -1.0, 1.0]}, "positive"),
        ({"gains": [1.0]}, "gains"),
        ({"background": [1, 2, 3]}, "background"),
        ({"background": -1}, "background"),
        ({"blur": -1}, "blur"),
        ({"haadf_noise": "gauss"}, "haadf_noise"),
        ({"oversampling": 1.5}, "whole number"),
        ({"haadf_tilts": [0, 1], "across": [0, 0, 0]}, "share"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        simulate(zhong(size=16), **{"tilts": [-10, 0, 10], "seed": 0} | options)


def test_bad_sizes_and_counts():
    with pytest.raises(ValueError, match="size"):
        zhong(size=4)
    with pytest.raises(ValueError, match="slices"):
        yuan(slices=0)
    with pytest.raises(ValueError, match="negative"):
        count([-1.0, 2.0])
    with pytest.raises(ValueError, match="evenly"):
        spectra(np.ones((1, 1, 2, 2)), ["Fe"], [1.0, 2.0, 4.0])
    with pytest.raises(ValueError, match="one name each"):
        spectra(np.ones((1, 1, 2, 2)), ["Fe", "S"])

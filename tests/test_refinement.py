# SPDX-License-Identifier: GPL-3.0-or-later
"""The most likely alignment is near the truth, says how near, and moves with the images."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from hyperspy_multitomo.alignment import (
    Alignment,
    Modality,
    align,
    axis_by_centre_of_mass,
    common_line_shifts,
    projection_matching_shifts,
    refine,
)
from hyperspy_multitomo.alignment.binned_images import (
    MovingImages,
    Placement,
    common_view,
    positions,
)
from hyperspy_multitomo.alignment.likelihood import NOISES, View
from hyperspy_multitomo.inspection import alignment_errors
from hyperspy_multitomo.simulation import misaligned
from hyperspy_multitomo.tomography import TiltGeometry, projector
from hyperspy_multitomo.tomography.folding import fold, unfold
from hyperspy_multitomo.tomography.rays import Support, ray_covariance
from hyperspy_multitomo.tomography.specimen_extent import in_view

TILTS = np.arange(-65.0, 66.0, 5.0)


def series_of(specimen, seed=0, size=80, **given):
    return misaligned(
        specimen, size=size, tilts=TILTS, shift=6.0, axis_offset=2.5, seed=seed, **given
    )


@pytest.fixture(scope="module")
def needle():
    return series_of("needle")


@pytest.fixture(scope="module")
def aligned_needle(needle):
    return align(needle.haadf, needle.tilts)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("specimen", "shift", "axis", "rotation"),
    [("needle", 0.1, 0.2, 0.2), ("particle", 0.1, 0.3, 0.5), ("lamella", 0.3, 1.0, 0.5)],
)
def test_the_chain_finds_shifts_axis_and_rotation(specimen, shift, axis, rotation):
    # The figures at 128 px, three seeds and two ranges of tilts, are those of
    # benchmarks/alignment.py.
    series = series_of(specimen, size=96)
    found = align(series.haadf, series.tilts)
    errors = alignment_errors(found, series.alignment)
    assert errors.across_rms < shift
    assert errors.along_rms < shift
    assert abs(errors.axis_offset) < axis
    assert abs(errors.rotation) < rotation
    # What is said of the errors holds them, and is not just large.
    quality = found.quality
    assert abs(errors.axis_offset) < 3 * quality.axis_offset_error < 3.0
    assert abs(errors.rotation) < 3 * quality.rotation_error < 4.5
    assert errors.across_rms < 3 * np.sqrt(np.mean(quality.across_error**2)) < 0.5
    assert quality.report[0].startswith("rough shifts")


@pytest.mark.slow
def test_shifting_the_images_shifts_the_result(needle, aligned_needle):
    steps = np.random.default_rng(3).integers(-2, 3, (len(TILTS), 2))
    moved = Alignment(*steps.T.astype(float)).apply(needle.haadf, fill="edge")
    again = align(moved, needle.tilts)
    truth = replace(
        needle.alignment,
        across=needle.alignment.across - steps[:, 0],
        along=needle.alignment.along - steps[:, 1],
    )
    errors = alignment_errors(again, truth)
    assert errors.across_rms < 0.1
    assert errors.along_rms < 0.1
    difference = again.across + steps[:, 0] - aligned_needle.across
    angles = np.deg2rad(TILTS)
    free = np.stack([np.ones_like(angles), np.cos(angles), np.sin(angles)], axis=1)
    left = difference - free @ np.linalg.lstsq(free, difference, rcond=None)[0]
    assert np.sqrt(np.mean(left**2)) < 0.06


@pytest.mark.slow
def test_aligning_twice_changes_nothing(needle, aligned_needle):
    axis_to_middle = replace(
        aligned_needle, across=aligned_needle.across - aligned_needle.axis_offset, axis_offset=0.0
    )
    placed = axis_to_middle.apply(needle.haadf, fill="edge")
    again = align(placed, needle.tilts)
    errors = alignment_errors(again, replace(Alignment.identity(len(TILTS)), tilts=TILTS))
    assert errors.across_rms < 0.1
    assert errors.along_rms < 0.1
    assert abs(errors.rotation) < 0.2
    assert abs(errors.axis_offset) < 0.2


def test_refinement_keeps_a_good_start(needle):
    errors = alignment_errors(refine(needle.haadf, TILTS, needle.alignment), needle.alignment)
    assert errors.across_rms < 0.1
    assert errors.along_rms < 0.1


def test_axis_alone_leaves_the_shifts(needle):
    start = replace(needle.alignment, axis_offset=0.0, rotation=0.0)
    found = align(needle.haadf, TILTS, "tilt_axis", start=start)
    np.testing.assert_array_equal(found.across, start.across)
    assert found.axis_offset == pytest.approx(2.5, abs=0.3)
    assert found.rotation == pytest.approx(2.0, abs=0.3)
    assert "centres of mass" in found.quality.report[0]


def test_a_rotation_that_may_be_none_is_left_out():
    series = misaligned(
        "needle", size=64, tilts=TILTS, shift=2.0, axis_offset=1.0, rotation=0.0, seed=5
    )
    found = align(series.haadf, TILTS)
    assert abs(found.rotation) < 0.2
    if found.rotation == 0:
        assert any("not significant" in line for line in found.quality.report)


@pytest.mark.slow
def test_maps_decide_where_the_images_are_poor():
    # Images with the noise of a third of their maximum: the maps know better, and both together
    # know best.
    series = misaligned(
        "particle",
        size=64,
        tilts=np.arange(-60.0, 61.0, 8.0),
        shift=1.0,
        counts=20.0,
        noise=0.35,
        seed=1,
    )
    start = Alignment.identity(len(series.tilts))
    maps = [
        Modality(images, series.tilts, 1.0, name)
        for name, images in zip(series.elements, series.maps, strict=True)
    ]
    alone = alignment_errors(refine(series.haadf, series.tilts, start), series.alignment)
    joint = alignment_errors(
        refine(series.haadf, series.tilts, start, others=maps), series.alignment
    )
    assert joint.across_rms < 0.75 * alone.across_rms
    assert joint.along_rms < 0.75 * alone.along_rms


def test_maps_without_counts_have_no_say(needle):
    empty = Modality(np.zeros_like(needle.haadf), TILTS, 1.0, "Au")
    found = refine(needle.haadf, TILTS, needle.alignment, others=[empty])
    assert "Au: 0 counts per tilt are too few to help" in found.quality.report


def test_a_tilt_out_of_place_is_suspicious(needle):
    images = needle.haadf.copy()
    images[6] = np.roll(images[9][:, ::-1], 3, axis=0)
    found = refine(images, TILTS, needle.alignment)
    assert list(found.suspicious) == [TILTS[6]]


@pytest.mark.slow
@pytest.mark.parametrize("specimen", ["needle", "particle", "lamella"])
def test_projection_matching_improves_rough_shifts(specimen):
    series = series_of(specimen, size=64)
    rng = np.random.default_rng(1)
    truth = series.alignment
    across, along = rng.normal(0, 0.7, (2, len(TILTS)))
    start = replace(truth, across=truth.across + across, along=truth.along + along)
    before = alignment_errors(start, truth)
    after = alignment_errors(projection_matching_shifts(series.haadf, TILTS, start), truth)
    assert after.across_rms < 0.5 * before.across_rms
    assert after.along_rms < 0.4 * before.along_rms


def test_common_line_finds_shifts_along_a_needle(needle):
    found = common_line_shifts(needle.haadf, TILTS)
    assert np.std(found - needle.alignment.along) < 0.35  # Two degrees of rotation are not in it.
    upright = series_of("needle", rotation=0.0)
    assert np.std(common_line_shifts(upright.haadf, TILTS) - upright.alignment.along) < 0.1


def test_axis_by_centre_of_mass_is_within_its_errors(needle):
    placed = replace(needle.alignment, rotation=0.0).apply(needle.haadf, fill="edge")
    axis = axis_by_centre_of_mass(placed, TILTS)
    assert abs(axis.offset - 2.5) < 4 * axis.offset_error < 0.4
    assert abs(axis.rotation - 2.0) < 4 * axis.rotation_error < 0.4


@pytest.mark.slow
def test_gradient_is_that_of_the_likelihood(needle):
    """Against finite differences: the value of the model-based gradient agrees up to its own
    scatter."""
    angle = np.deg2rad(2)
    truth = needle.alignment
    placement = Placement(
        truth.across - 2.5 * np.cos(angle), truth.along + 2.5 * np.sin(angle), angle
    )
    images, places = MovingImages(needle.expected_haadf, 2), np.arange(len(TILTS))
    view = View(images, TILTS, places, positions(-18, 18, 2), positions(-30, 30, 2), cut=True)
    view.fit(Support("rod", 14.0), placement)
    far = placement.moved(
        np.sin(np.arange(len(TILTS))), np.cos(2 * np.arange(len(TILTS))), np.deg2rad(1)
    )
    found = view.derivatives(far, len(TILTS))
    for parameter in (3, 20, len(TILTS) + 5, 2 * len(TILTS)):
        step = np.zeros(2 * len(TILTS) + 1)
        step[parameter] = 1e-3 if parameter == 2 * len(TILTS) else 0.02
        pair = [far.moved(s[: len(TILTS)], s[len(TILTS) : -1], s[-1]) for s in (step, -step)]
        slope = (view.value(pair[0]) - view.value(pair[1])) / (2 * step[parameter])
        assert found.gradient[parameter] == pytest.approx(
            slope, rel=0.25, abs=0.02 * np.abs(found.gradient[:-1]).max()
        )


def covariance_of_rays(tilts, u, support):
    """Return the covariance of all rays (tilt * u, tilt * u) from its even and odd parts."""
    rays = np.eye(len(tilts) * len(u)).reshape(len(tilts), len(u), -1)
    parts = zip(fold(rays), ray_covariance(np.asarray(tilts), u, support), strict=True)
    return sum(
        basis.T @ (np.tril(part) + np.tril(part, -1).T).astype(float) @ basis
        for basis, part in parts
    )


def blobs_one_by_one(support, reach, scale, across):
    """Return places x, z of blobs all over a support, so close that they are a continuum,
    and their weights, in steps."""
    full = support.size / (2 if support.shape == "slab" else 1) - 0.75 * scale
    edge = max(full, 0.1 * scale)
    density, spacing = max(full, scale / 2) / edge, min(scale, 2 * edge) / 5
    nodes, weights = np.polynomial.legendre.leggauss(2 * int(np.ceil(edge / spacing)) + 6)
    if support.shape == "slab":
        x = np.arange(-across, across + spacing, spacing)
        z, (a, b) = nodes * edge, np.deg2rad((support.inclination, support.inclination))
        x, z, weights = (
            np.repeat(x, len(z)),
            np.tile(z, len(x)),
            np.tile(weights * edge * spacing, len(x)),
        )
        return np.cos(a) * x - np.sin(a) * z, np.sin(b) * x + np.cos(b) * z, density * weights
    # The radius is edge sin(p): the ball's square root at the edge is smooth in p.
    p, turns = (nodes + 1) * np.pi / 4, 2 * np.pi * np.arange(int(2 * np.pi * edge / spacing) + 24)
    turns = turns / len(turns)
    radius, weights = (
        edge * np.sin(p),
        weights * np.pi / 4 * edge**2 * np.sin(p) * np.cos(p) * 2 * np.pi / len(turns),
    )
    if support.shape == "ball":
        weights = weights * np.cos(p)
    return (
        np.outer(radius, np.cos(turns)).ravel(),
        np.outer(radius, np.sin(turns)).ravel(),
        density**2 * np.repeat(weights, len(turns)),
    )


@pytest.mark.parametrize(
    "support",
    [
        Support("rod", 5.0),
        Support("ball", 5.0),
        Support("rod", 0.5),
        Support("slab", 0.5, -4.0),
        Support("slab", 9.0, 9.0),
    ],
    ids=str,
)
@pytest.mark.parametrize("count", [6, 7])
def test_covariance_is_that_of_blobs_one_by_one(support, count):
    """Uneven tilts, two of them all but the same, and a ray through the axis or none;
    in steps of 2 px."""
    tilts, u = np.array([-60.0, -20.0, 3.0, 3.01]), np.arange(count) - (count - 1) / 2
    angles, expected = np.deg2rad(tilts), 0.0
    across = (u[-1] + 10 + 6 * 4.9) / np.cos(np.deg2rad(69))
    for scale in (1.0, 2.0, 4.0, 8.0):
        sigma = np.sqrt((0.6 * scale) ** 2 + 1 / 12)
        x, z, weights = blobs_one_by_one(support, u[-1], scale, across)
        centres = np.outer(np.cos(angles), x) + np.outer(np.sin(angles), z)
        seen = np.exp(-0.5 * ((u[None, :, None] - centres[:, None]) / sigma) ** 2).reshape(
            len(tilts) * count, -1
        )
        expected = expected + scale**2.5 / sigma**2 * (seen * weights) @ seen.T
    expected /= np.diag(expected).mean()
    found = covariance_of_rays(tilts, 2 * u, replace(support, size=2 * support.size))
    assert np.abs(found - expected).max() < 1e-5 * expected.max()


@pytest.mark.slow
@pytest.mark.parametrize(
    "support", [Support("rod", 18.0), Support("ball", 19.0), Support("slab", 14.0, 3.0)], ids=str
)
def test_covariance_with_the_least_noise_is_positive_definite_and_holds_no_denormals(support):
    tilts, u = np.arange(-75.0, 76.0, 10.0), positions(-22, 22, 1)
    for part in ray_covariance(tilts, u, support):
        part[np.diag_indices(len(part))] += np.float32(NOISES[0])
        below = np.tril(part)
        assert np.linalg.eigvalsh(below.astype(float)).min() > 0
        for values in (below, np.linalg.cholesky(below)):
            assert not ((values != 0) & (np.abs(values) < np.finfo(np.float32).tiny)).any()


def test_rays_are_even_and_odd_parts():
    for count in (4, 5):
        rays = np.random.default_rng(0).normal(size=(3, count, 2)).astype(np.float32)
        even, odd = fold(rays)
        assert len(even) - len(odd) == (3 if count % 2 else 0)
        np.testing.assert_allclose(unfold(even, odd, 3), rays, atol=1e-6)
        assert (even**2).sum() + (odd**2).sum() == pytest.approx((rays**2).sum(), rel=1e-5)
        mirrored = fold(rays[:, ::-1])
        np.testing.assert_allclose(mirrored[0], even, atol=1e-6)
        np.testing.assert_allclose(mirrored[1], -odd, atol=1e-6)


def test_covariance_knows_that_mass_is_the_same_at_all_tilts():
    u = positions(-45, 45, 1)
    for support in (Support("rod", 14.0), Support("ball", 14.0)):
        covariance = covariance_of_rays([-60.0, 0.0, 50.0], u, support).reshape(3, 90, 3, 90)
        masses = covariance.sum(axis=(1, 3))
        np.testing.assert_allclose(masses, masses[0, 0], rtol=2e-3)
        # And that the centre of mass moves as x cos t + z sin t.
        first = np.einsum("aubv,u,v->ab", covariance, u, u)
        angles = np.deg2rad([-60.0, 0.0, 50.0])
        np.testing.assert_allclose(
            first / first[1, 1], np.cos(angles[:, None] - angles[None]), atol=2e-3
        )


def test_covariance_predicts_projections():
    """The rays of a blob are explained by the prior; noise is not."""
    tilts = np.arange(-60.0, 61.0, 20.0)
    x = np.arange(32) - 15.5
    body = np.exp(-((x[:, None] - 3) ** 2 + (x - 2) ** 2) / 18)[..., None]
    data = projector(TiltGeometry(tilts, 32))(body)[..., 0].ravel()
    covariance = covariance_of_rays(tilts, x, Support("rod", 14.0)) + 1e-3 * np.eye(7 * 32)
    noise = (
        np.random.default_rng(0).normal(size=data.size) * np.linalg.norm(data) / np.sqrt(data.size)
    )
    assert data @ np.linalg.solve(covariance, data) < 0.05 * noise @ np.linalg.solve(
        covariance, noise
    )


@pytest.mark.slow
def test_what_is_in_view():
    particle, needle, lamella = (
        series_of(name, size=64).haadf for name in ("particle", "needle", "lamella")
    )
    all_sides = (
        (images, side) for images in (particle, needle, lamella) for side in ("across", "along")
    )
    assert [in_view(images, side) for images, side in all_sides] == [
        True, True, True, False, False, False,
    ]  # fmt: skip


def test_common_view_of_moved_and_turned_images():
    upright = common_view(Placement(np.array([3.0, -2.0]), np.array([0.0, 1.0])), (40, 30))
    assert upright == ((-17.0, 18.0), (-14.0, 15.0))
    turned = common_view(Placement(np.zeros(2), np.zeros(2), np.deg2rad(10)), (40, 30))
    assert turned[0][0] == pytest.approx(-20 + np.sin(np.deg2rad(10)) * 15)


@pytest.mark.parametrize(
    "method", ["auto", "refine", "projection_matching", "common_line", "tilt_axis"]
)
def test_bad_series_are_named(needle, method):
    images = needle.haadf.copy()
    images[[3, 8]] = 5.0
    with pytest.raises(ValueError, match="at -50 and -25 degrees has no features"):
        align(images, TILTS, method)
    images[3, 2, 2] = np.nan
    with pytest.raises(ValueError, match="at -50 degrees holds NaN"):
        align(images, TILTS, method)
    with pytest.raises(ValueError, match="2 tilts, and 3 or more are needed"):
        align(needle.haadf[:2], TILTS[:2], method)
    with pytest.raises(ValueError, match="no features"):
        align(np.zeros_like(needle.haadf), TILTS, method)


@pytest.mark.slow
def test_a_jump_beyond_the_view_is_named():
    lamella = series_of("lamella", size=64)
    images = lamella.haadf.copy()
    # Another place on the specimen altogether.
    images[4] = series_of("lamella", seed=9, size=64).haadf[4]
    with pytest.raises(
        ValueError,
        match="no features in common .* at -45 degrees|at -45 degrees has no features in common",
    ):
        align(images, TILTS)
    far = replace(lamella.alignment, across=np.where(np.arange(len(TILTS)) == 4, 50.0, 0.0))
    with pytest.raises(ValueError, match="recorded at -45 degrees"):
        refine(lamella.haadf, TILTS, far)


def test_bad_arguments(needle):
    with pytest.raises(ValueError, match="start has shifts for 3 tilts"):
        refine(needle.haadf, TILTS, Alignment.identity(3))
    with pytest.raises(ValueError, match="must name some of"):
        refine(needle.haadf, TILTS, needle.alignment, free=("scale",))
    with pytest.raises(ValueError, match="drift during the scan"):
        refine(needle.haadf, TILTS, replace(needle.alignment, drift=np.full((len(TILTS), 2), 0.01)))
    with pytest.raises(ValueError, match="looks at the images alone"):
        align(needle.haadf, TILTS, "cross_correlation", others=[Modality(needle.haadf, TILTS)])
    with pytest.raises(ValueError, match="that the images lack"):
        refine(
            needle.haadf,
            TILTS,
            needle.alignment,
            others=[Modality(needle.haadf[:1] * 100, np.array([3.0]))],
        )


def blobs(x, slices, tilts):
    """Three wires along the axis, uneven along it,
    each moved by up to a pixel from tilt to tilt: counts."""
    rng, angles = np.random.default_rng(0), np.deg2rad(tilts)
    across, y = np.arange(x) - (x - 1) / 2, np.arange(slices)
    images = np.zeros((len(tilts), x, slices))
    for number, (place, height, width) in enumerate(
        ((0.15, 0.1, 0.05), (-0.2, -0.1, 0.06), (0.0, 0.1, 0.04))
    ):
        middle = x * (place * np.cos(angles) + height * np.sin(angles)) + rng.normal(
            0, 0.5, len(tilts)
        )
        row = np.exp(-0.5 * ((across - middle[:, None]) / (width * x + 1)) ** 2)
        images += row[:, :, None] * (1 + 0.5 * np.sin(y * (number + 1) / 3))
    return rng.poisson(300 * images)


class TestFewSlices:
    @pytest.mark.slow
    @pytest.mark.parametrize("method", ["auto", "tilt_axis"])
    @pytest.mark.parametrize(
        ("x", "slices", "count"),
        [
            (64, 6, 7),
            (64, 8, 5),
            (128, 6, 5),
            (128, 16, 5),
            (256, 8, 3),
            (256, 24, 3),
            (256, 32, 3),
        ],
    )
    def test_they_are_aligned(self, x, slices, count, method):
        tilts = np.linspace(-60, 60, count)
        found = align(blobs(x, slices, tilts), tilts, method)
        assert np.isfinite([found.across, found.along]).all()
        assert np.abs(found.across).max() < 4
        assert np.abs(found.axis_offset) < 0.05 * x

    @pytest.mark.parametrize(
        ("shape", "method"),
        [((16, 4), "auto"), ((16, 6), "auto"), ((32, 3), "auto"), ((64, 1), "tilt_axis")],
    )
    def test_or_what_is_too_small_is_said(self, shape, method):
        tilts = np.linspace(-60, 60, 5)
        with pytest.raises(ValueError, match="give .*(more slices|a larger view)"):
            align(blobs(*shape, tilts), tilts, method)

    def test_slices_are_binned_less_than_pixels_across(self, needle):
        images = MovingImages(needle.expected_haadf, 4, bins_along=2)
        whole = needle.expected_haadf.mean(axis=0)
        assert (images.step, images.step_along) == (4, 2)
        place = Placement(np.zeros(len(TILTS)), np.zeros(len(TILTS)))
        u, y = positions(-16, 16, 4), positions(-20, 20, 2)
        smooth = MovingImages(needle.expected_haadf, 2).sample(place, u, y).mean(axis=0)
        assert np.abs(images.sample(place, u, y).mean(axis=0) - smooth).max() < 0.1 * whole.max()


@pytest.mark.slow
def test_residual_of_the_model_itself_is_one():
    """What the others do not predict of each image,
    of a Gaussian random field with the covariance of the model."""
    tilts, u, y = np.linspace(-60, 60, 13), positions(-10, 10, 1), positions(-20, 20, 1)
    support = Support("rod", 8.0)
    covariance = covariance_of_rays(tilts, u, support) + 1e-2 * np.eye(13 * 20)
    field = np.linalg.cholesky(covariance) @ np.random.default_rng(0).normal(size=(13 * 20, 40))
    images = SimpleNamespace(
        sample=lambda placement, u, y: field.reshape(13, 20, 40).astype(np.float32)
    )
    placement = Placement(np.zeros(13), np.zeros(13))
    for cut in (False, True):
        view = View(images, tilts, np.arange(13), u, y, cut=cut)
        view.fit(support, placement)
        np.testing.assert_allclose(view.leave_one_out_residual(placement), 1, atol=0.1)
        assert view.leave_one_out_residual(placement).mean() == pytest.approx(1, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("offset", [-24.0, 20.0, 24.0])
def test_a_cut_specimen_whose_axis_is_off_the_middle_is_seen_as_a_whole(offset):
    """What is seen on one side of the axis alone has no even and odd part;
    the object is moved until little is."""
    tilts = np.linspace(-70, 70, 15)
    series = misaligned("lamella", size=64, tilts=tilts, shift=1.0, axis_offset=offset)
    found = refine(series.haadf, tilts, Alignment(np.zeros(15), np.zeros(15), offset, 0.0, tilts))
    errors = alignment_errors(found, series.alignment)
    assert errors.across_rms < 0.1
    assert errors.along_rms < 0.15
    assert abs(errors.axis_offset) < 3 * found.quality.axis_offset_error < 1.5

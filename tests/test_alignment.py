# SPDX-License-Identifier: GPL-3.0-or-later
"""Shifts are found where the object allows it, and applied once with the right sign."""

import json
from pathlib import Path

import numpy as np
import pytest
from ellipsoids import ellipsoid

from hyperspy_multitomo.alignment import (
    Alignment,
    align,
    centre_of_mass_shifts,
    cross_correlation_shifts,
)

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "idp_l2083"
TILTS = np.arange(-70.0, 71.0, 5.0)


def knowable(across, tilts):
    """What is left of shifts across the axis without a + b cos t + c sin t,
    the position of the axis and of the object."""
    angles = np.deg2rad(tilts)
    design = np.stack([np.ones_like(angles), np.cos(angles), np.sin(angles)], axis=1)
    return across - design @ np.linalg.lstsq(design, across, rcond=None)[0]


def particle(moved, noise=0.03, seed=0):
    """Projections of a body with an off-centre bright grain."""
    images = ellipsoid(TILTS, 96, 64, (4, -6, 3), (24, 18, 15), moved)
    images += 3 * ellipsoid(TILTS, 96, 64, (-6, 5, -4), (7, 9, 6), moved)
    return images + np.random.default_rng(seed).normal(size=images.shape) * noise * images.max()


@pytest.fixture(scope="module")
def moved():
    return np.random.default_rng(7).normal(0, 3, (len(TILTS), 2))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "accuracy"), [("auto", 0.1), ("centre_of_mass", 0.1), ("cross_correlation", 0.3)]
)
def test_shifts_of_a_particle_are_recovered(moved, method, accuracy):
    images = particle(moved)
    # In a shuffled order: the neighbours are those in angle.
    order = np.random.default_rng(1).permutation(len(TILTS))
    found = align(images[order], TILTS[order], method)
    across = knowable(found.across + moved[order, 0], TILTS[order])
    along = found.along + moved[order, 1]
    assert across.std() < accuracy
    assert along.std() < accuracy
    assert max(np.abs(across).max(), np.abs(along - along.mean()).max()) < 0.75
    assert found.rotation == 0


def test_applying_what_was_found_puts_the_images_in_place(moved):
    images = particle(moved, noise=0.0)
    found = align(images, TILTS)
    aligned = found.apply(images)
    y = np.arange(64) - 31.5
    x = np.arange(96) - 47.5
    mass = aligned.sum(axis=(1, 2))
    rows = (aligned.sum(axis=1) @ y) / mass
    columns = (aligned.sum(axis=2) @ x) / mass
    assert np.ptp(rows) < 0.1
    angles = np.deg2rad(TILTS)
    # The aligned particle moves like a point about an axis at axis_offset.
    point = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    path = columns - found.axis_offset
    assert np.abs(path - point @ np.linalg.lstsq(point, path, rcond=None)[0]).max() < 0.1


def test_axis_off_centre_is_found_without_shifts():
    images = particle(np.tile([5.0, 0.0], (len(TILTS), 1)), noise=0.0)
    found = centre_of_mass_shifts(images, TILTS)
    assert found.axis_offset == pytest.approx(5.0, abs=0.1)
    assert np.abs(found.across).max() < 0.05


def test_small_tilt_range_keeps_the_object_near():
    # Shifts of +-3 px over +-20 degrees say nothing on the axis, which must not run away with the
    # noise.
    tilts = np.arange(-20.0, 21.0, 2.0)
    for seed in range(5):
        shifts = np.random.default_rng(seed).normal(0, 3, (len(tilts), 2))
        images = ellipsoid(tilts, 96, 64, (2, 3, 0), (20, 16, 14), shifts)
        assert abs(centre_of_mass_shifts(images, tilts).axis_offset) < 5


def test_truncated_lamella_is_followed_by_its_features():
    tilts = np.arange(-40.0, 41.0, 5.0)
    shifts = np.random.default_rng(2).normal(0, 2, (len(tilts), 2))
    rng = np.random.default_rng(3)
    grains = zip(
        rng.uniform(-80, 80, 60), rng.uniform(-50, 50, 60), rng.uniform(3, 8, 60), strict=True
    )
    images = 20 + sum(
        ellipsoid(tilts, 96, 64, (x, 0, y), (r, 3, r), shifts, 1) for x, y, r in grains
    )
    found = align(images, tilts, "cross_correlation")
    assert found.axis_offset == 0
    across, along = knowable(found.across + shifts[:, 0], tilts), found.along + shifts[:, 1]
    assert np.abs(across).max() < 0.5
    assert np.abs(along - along.mean()).max() < 0.5
    # The centre of mass of what happens to be in view does not know.
    fooled = centre_of_mass_shifts(images, tilts)
    assert np.abs(knowable(fooled.across + shifts[:, 0], tilts)).max() > 1


def test_needle_is_centred_across_and_correlated_along(moved):
    images = ellipsoid(TILTS, 96, 64, (0, 0, 0), (16, 14, 200), moved)
    images += 2 * ellipsoid(TILTS, 96, 64, (3, 2, 6), (8, 6, 7), moved)
    found = align(images, TILTS)
    along = found.along + moved[:, 1]
    assert np.abs(knowable(found.across + moved[:, 0], TILTS)).max() < 0.3
    assert np.abs(along - along.mean()).max() < 0.5


@pytest.mark.slow
def test_image_without_features_is_named(moved):
    images = particle(moved)
    images[5] = 7.0
    with pytest.raises(ValueError, match="at -45 degrees has no features"):
        cross_correlation_shifts(images, TILTS)
    images[5] = np.random.default_rng(0).normal(size=images[5].shape)
    with pytest.raises(
        ValueError, match="at -45 degrees has no features in common with that at -40"
    ):
        cross_correlation_shifts(images, TILTS)
    images[5] = 0.0
    with pytest.raises(ValueError, match="at -45 degrees has no mass"):
        centre_of_mass_shifts(images, TILTS)
    images[5, 3, 3] = np.nan
    with pytest.raises(ValueError, match="at -45 degrees holds NaN"):
        align(images, TILTS)


def test_bad_series():
    images = np.random.default_rng(0).normal(size=(3, 8, 8))
    with pytest.raises(ValueError, match="one finite angle per image"):
        align(images, [0, 1])
    with pytest.raises(ValueError, match="two tilts or more"):
        align(images[:1], [0])
    with pytest.raises(ValueError, match="unknown method 'magic'"):
        align(images, [0, 1, 2], "magic")
    with pytest.raises(ValueError, match="4 pixels or more"):
        align(images[:, :2], [0, 1, 2])
    with pytest.raises(ValueError, match="upsampling is 0"):
        cross_correlation_shifts(images, [0, 1, 2], upsampling=0)


def blob(x, y, size=41):
    grid = np.arange(size) - (size - 1) / 2
    return np.exp(-((grid[:, None] - x) ** 2 + (grid - y) ** 2) / 18)[None]


def test_shift_adds_to_the_position_and_conserves_counts():
    moved = Alignment([3.3], [-2.6]).apply(blob(1.0, 2.0))
    np.testing.assert_allclose(moved, blob(4.3, -0.6), atol=0.03)
    assert moved.sum() == pytest.approx(blob(1.0, 2.0).sum(), rel=1e-4)
    # Twice half a pixel is not a whole one, but whole pixels are exact, channels or not.
    exact = Alignment([3.0], [-2.0]).apply(np.stack([blob(1, 2), 2 * blob(1, 2)]))
    np.testing.assert_allclose(exact[1], 2 * blob(4, 0).astype(np.float32), atol=1e-6)


def test_rotation_turns_x_towards_y_after_the_shift():
    turned = Alignment([2.0], [1.0], rotation=90.0).apply(blob(6.0, 3.0))
    # (6, 3) + (2, 1) = (8, 4), turned by 90 degrees: (-4, 8).
    np.testing.assert_allclose(turned, blob(-4.0, 8.0), atol=0.01)
    there = Alignment([0.0], [0.0], rotation=12.0).apply(blob(9.0, 4.0))
    angle = np.deg2rad(12)
    expected = blob(9 * np.cos(angle) - 4 * np.sin(angle), 9 * np.sin(angle) + 4 * np.cos(angle))
    np.testing.assert_allclose(there, expected, atol=0.02)


def test_geometry_takes_the_shifts_across_the_axis():
    alignment = Alignment([2.5, -1.0], [0.0, 0.0], axis_offset=4.0)
    images = np.concatenate([blob(0, 0), blob(1, 1)]).astype(np.float32)
    assert alignment.geometry_shifts.tolist() == [-2.5, 1.0]
    assert alignment.apply(images, for_geometry=True) is images
    along = Alignment([2.5, -1.0], [1.0, -3.0])
    np.testing.assert_array_equal(
        along.apply(images, for_geometry=True), Alignment([0, 0], [1.0, -3.0]).apply(images)
    )
    turned = Alignment([2.5, -1.0], [0.0, 0.0], rotation=5.0)
    angle = np.deg2rad(5)
    # What is left to the geometry is the part across the turned axis; the rest of the shift turns
    # into one along it.
    np.testing.assert_allclose(turned.geometry_shifts, [-2.5 * np.cos(angle), np.cos(angle)])
    rest = turned.apply(images, for_geometry=True)[0]
    np.testing.assert_allclose(rest, blob(0.0, 2.5 * np.sin(angle))[0], atol=0.02)


def test_alignment_is_a_value():
    alignment = Alignment([1.0, 2.0, 3.0], [0.0, -1.0, 0.5], axis_offset=1.5, rotation=-2.0)
    assert Alignment.from_dict(json.loads(json.dumps(alignment.as_dict()))) == alignment
    assert len({alignment, Alignment.from_dict(alignment.as_dict())}) == 1
    assert alignment != Alignment.identity(3)
    part = alignment.subset([True, False, True])
    assert part.across.tolist() == [1.0, 3.0]
    assert (part.axis_offset, part.rotation, len(part)) == (1.5, -2.0, 2)
    assert alignment.subset(slice(1, None)).along.tolist() == [-1.0, 0.5]
    image = blob(0, 0).astype(np.float32)
    assert Alignment.identity(1).apply(image) is image
    with pytest.raises(ValueError, match="read-only"):
        alignment.across[0] = 0


def test_everything_leaves_the_view():
    assert Alignment([50.0], [0.0]).apply(blob(0, 0)).sum() == 0
    assert Alignment([0.0], [-60.5]).apply(blob(0, 0)).sum() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0], [1.0, 2.0]), "give one of each per tilt"),
        (([np.nan], [1.0]), "finite shift in px"),
        (([1.0], [1.0], np.inf), "`axis_offset` is inf"),
    ],
)
def test_bad_alignment(arguments, message):
    with pytest.raises(ValueError, match=message):
        Alignment(*arguments)


def test_images_of_another_number():
    with pytest.raises(ValueError, match="with 2 tilts"):
        Alignment.identity(2).apply(np.zeros((3, 8, 8)))


@pytest.mark.slow
def test_real_lamella_agrees_with_its_manual_alignment():
    if not DATA.exists():
        pytest.skip(f"the tilt series {DATA.name} is not here")
    from rsciio.bruker import file_reader

    tilts = np.arange(-40, 36, 5)
    haadf = []
    for tilt in tilts:
        image = next(
            item for item in file_reader(DATA / f"{tilt}.bcf", lazy=True) if item["data"].ndim == 2
        )
        haadf.append(np.asarray(image["data"], dtype=np.float32).T)
    # Whole pixels by hand for -50..50 degrees, y counted from the bottom of the image.
    manual = np.array(json.loads((DATA / "TomVizAlignments.json").read_text()), dtype=float)[2:-3]
    found = align(haadf, tilts)
    across, along = knowable(found.across - manual[:, 0], tilts), found.along + manual[:, 1]
    assert across.std() < 0.4
    assert along.std() < 0.6
    assert knowable(manual[:, 0], tilts).std() > 3

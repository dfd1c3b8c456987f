# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks of the particle and of the specimen."""

import numpy as np
import pytest
from ellipsoids import ellipsoid

from hyperspy_multitomo.composition import particle_mask, specimen_mask
from hyperspy_multitomo.composition.particle.edge_spread import edge_spread


def test_otsu_finds_a_noisy_ball():
    z, x, y = np.mgrid[:32, :32, :32] - 15.5
    ball = z**2 + x**2 + y**2 < 100
    volume = 10.0 * ball + np.random.default_rng(0).normal(size=ball.shape)
    found = particle_mask(volume, "otsu")
    assert 2 * (found & ball).sum() / (found.sum() + ball.sum()) > 0.99


def test_number_and_mask_as_given():
    volume = np.array([0.0, 1.0, 2.0, 3.0])
    assert particle_mask(volume, 1.0).tolist() == [False, False, True, True]
    given = np.array([True, False, False, True])
    assert particle_mask(volume, given) is given
    assert particle_mask(np.full(3, 2.0), "otsu").all()


@pytest.mark.parametrize(
    ("volume", "method", "message"),
    [
        (np.zeros((2, 2)), "auto", "nothing in the volume is positive"),
        (np.zeros((2, 2)), "otsu", "nothing in the volume is positive"),
        (np.full((2, 2), np.nan), "otsu", "NaN"),
        (np.ones((2, 2)), "li", "unknown threshold method 'li'"),
        (np.ones((2, 2)), 3.0, "no voxel inside"),
        (np.ones((2, 2)), np.ones((2, 2)), "has to be bool"),
        (np.ones((2, 2)), np.ones(3, bool), r"shape \(2, 2\)"),
    ],
)
def test_bad_input(volume, method, message):
    with pytest.raises(ValueError, match=message):
        particle_mask(volume, method)


def test_specimen_keeps_the_thin_rim_and_leaves_the_vacuum():
    tilts = np.arange(-60, 61, 20)
    path = ellipsoid(tilts, 96, 64, axes=(30, 25, 20))
    noisy = 100 * path + np.random.default_rng(0).normal(size=path.shape) * 20
    mask = specimen_mask(noisy)
    assert mask[path > 6].mean() > 0.999
    far = ellipsoid(tilts, 96, 64, axes=(34, 29, 24)) == 0
    assert mask[far].mean() < 0.001


def test_specimen_keeps_all_of_a_lamella_that_fills_the_view():
    x = np.linspace(0, 1, 64)
    # Four times brighter on one side than on the other: Otsu would cut it in two.
    lamella = np.broadcast_to(1 + 3 * (x > 0.5), (5, 32, 64))
    assert specimen_mask(lamella).all()
    assert not particle_mask(lamella, "otsu").all()


def test_specimen_of_a_tiny_particle_and_of_nothing():
    image = np.zeros((2, 100, 100))
    image[:, 50:54, 50:54] = 1.0
    assert specimen_mask(image)[:, 50:54, 50:54].all()
    with pytest.raises(ValueError, match="no pixel of the HAADF series is positive"):
        specimen_mask(np.zeros((2, 8, 8)))
    with pytest.raises(ValueError, match="fraction=1 must be"):
        specimen_mask(image, fraction=1)


class TestNegativeVoxels:
    """Volumes such as FBP's: the vacuum is 0, and no threshold is below it."""

    def volume(self, seed=0):
        rng = np.random.default_rng(seed)
        volume = rng.normal(0, 1, (24, 24, 24))
        volume[:6] -= 60.0  # strong negative streaks
        volume[10:20, 6:18, 6:18] += 20.0
        return volume

    def test_otsu(self):
        volume = self.volume()
        with pytest.warns(
            UserWarning,
            match=r"not above the vacuum's 0, so that negative voxels count as 0.*pass a number",
        ):
            found = particle_mask(volume, "otsu")
        assert (
            np.count_nonzero(found ^ (volume > 10)) < 5
        )  # of 1440, noise of 1 under a threshold of 4
        da = pytest.importorskip("dask.array")
        with pytest.warns(UserWarning, match="negative voxels count as 0"):
            lazy = particle_mask(da.from_array(volume, chunks=8), "otsu")
        np.testing.assert_array_equal(lazy.compute(), found)

    def test_edge_spread_is_above_zero_or_ambiguous(self):
        curve = edge_spread(self.volume())
        assert curve.ambiguous or curve.value > 0

    def test_equal_values_are_remarked_upon(self):
        for volume in (np.full((3, 3), 2.0), np.ones((1, 1, 1))):
            with pytest.warns(UserWarning, match="all voxels are"):
                assert particle_mask(volume, "otsu").all()


@pytest.mark.parametrize("number", [np.nan, np.inf, -1.0, None])
def test_thresholds_that_are_none(number):
    with pytest.raises(ValueError, match="threshold"):
        particle_mask(np.ones((2, 2)), number)


def test_matter_beside_a_much_heavier_strap_is_the_specimen():
    from hyperspy_multitomo.composition.particle.threshold import _lowest_otsu_level
    from hyperspy_multitomo.composition.particle.value_table import ValueTable

    rng = np.random.default_rng(0)
    vacuum, light = np.abs(rng.normal(0, 0.3, 4000)), rng.normal(2, 0.4, 3000)
    heavy = rng.normal(7, 1.0, 2000)
    level, remark = _lowest_otsu_level(ValueTable.of(np.concatenate([vacuum, light, heavy])))
    assert 0.5 < level < 1.5
    assert "much heavier" in remark
    # Without the strap, and with a tail in place of a second peak, it is Otsu's own.
    for values in (np.concatenate([vacuum, light]), rng.exponential(1.0, 9000)):
        table = ValueTable.of(values)
        assert _lowest_otsu_level(table) == (table.otsu(), "")

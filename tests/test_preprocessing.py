# SPDX-License-Identifier: GPL-3.0-or-later
"""Gains per tilt and the test for an object that is wholly in view."""

import numpy as np
import pytest
from ellipsoids import core_shell, ellipsoid

from hyperspy_multitomo.acquisition.preprocessing import eds_gains, gain_from_means, wholly_in_view

TILTS = np.arange(-60.0, 61.0, 10.0)
GAINS = np.random.default_rng(0).uniform(0.6, 1.4, len(TILTS))
GAINS /= GAINS.mean()


def test_constant_model_recovers_the_gains_of_a_particle():
    images = ellipsoid(TILTS, 64, 32, axes=(20, 14, 10), oversampling=4)
    before = images.copy()
    np.testing.assert_allclose(gain_from_means(images * GAINS[:, None, None], TILTS), GAINS, rtol=1e-2)
    np.testing.assert_array_equal(images, before)


def test_lamella_model_recovers_the_gains_of_a_full_view():
    images = np.ones((len(TILTS), 8, 8)) * (GAINS / np.cos(np.deg2rad(TILTS)))[:, None, None]
    np.testing.assert_allclose(gain_from_means(images, TILTS, "lamella"), GAINS, rtol=1e-12)
    both = gain_from_means(np.stack([images, 3 * images]), TILTS, "lamella")
    assert both.shape == (2, len(TILTS))
    np.testing.assert_allclose(both[1], GAINS)


def test_eds_gains_hold_where_the_composition_in_view_changes():
    maps = core_shell(64, 16, TILTS)
    # Only half the particle is in view, so that the share of the core changes with the tilt.
    maps = maps[:, :, :32]
    ratios = np.array([9.0, 2.0])
    haadf = np.tensordot(ratios, maps, 1)
    shadowed = maps * GAINS[:, None, None]
    np.testing.assert_allclose(eds_gains(shadowed, haadf, weights=ratios), GAINS, rtol=1e-9)
    haadf_gains = GAINS[::-1]
    found = eds_gains(shadowed, haadf * haadf_gains[:, None, None], weights=ratios, haadf_gains=haadf_gains)
    np.testing.assert_allclose(found, GAINS, rtol=1e-9)
    assert np.abs(eds_gains(shadowed, haadf) / GAINS - 1).max() > 0.01


def test_eds_gains_leave_out_the_holder_and_mind_the_mask():
    haadf = np.full((3, 4, 4), 10.0)
    specimen, holder = np.full((3, 4, 4), 5.0), np.ones((3, 4, 4)) * np.array([1.0, 5.0, 9.0])[:, None, None]
    np.testing.assert_allclose(eds_gains([specimen, holder], haadf, weights=[1, 0]), 1)
    mask = np.zeros((3, 4, 4), bool)
    mask[:, :2] = True
    specimen[2, 2:] = 100.0
    np.testing.assert_allclose(eds_gains([specimen], haadf, mask=mask), 1)


def test_particle_is_in_view_until_it_leaves():
    noise = np.random.default_rng(1).normal(size=(len(TILTS), 80, 60))
    particle = ellipsoid(TILTS, 80, 60, axes=(24, 18, 16)) + noise
    assert wholly_in_view(particle)
    moved = np.zeros((len(TILTS), 2))
    moved[3] = 30, 0
    leaving = ellipsoid(TILTS, 80, 60, axes=(24, 18, 16), moved=moved) + noise
    assert not wholly_in_view(leaving)
    assert wholly_in_view(leaving, sides="along")


def test_lamella_and_empty_view_are_not_in_view():
    rng = np.random.default_rng(2)
    assert not wholly_in_view(10 + rng.normal(size=(3, 40, 40)))
    assert not wholly_in_view(np.zeros((3, 40, 40)))


def test_bad_input():
    images = np.ones((3, 8, 8))
    with pytest.raises(ValueError, match="expected"):
        gain_from_means(np.ones((8, 8)), [0])
    with pytest.raises(ValueError, match="one finite angle per projection"):
        gain_from_means(images, [0, 1])
    with pytest.raises(ValueError, match="unknown model 'slab'"):
        gain_from_means(images, [0, 1, 2], "slab")
    with pytest.raises(ValueError, match="beyond 85 degrees"):
        gain_from_means(images, [0, 45, 90], "lamella")
    with pytest.raises(ValueError, match="not positive"):
        gain_from_means(0 * images, [0, 1, 2])
    with pytest.raises(ValueError, match="alike"):
        eds_gains(np.ones((2, 3, 8, 7)), images)
    with pytest.raises(ValueError, match="expected 2 that are >= 0"):
        eds_gains(np.ones((2, 3, 8, 8)), images, weights=[0, 0])
    with pytest.raises(ValueError, match="no positive sum"):
        eds_gains(np.zeros((2, 3, 8, 8)), images)
    with pytest.raises(ValueError, match="unknown sides"):
        wholly_in_view(images, sides="top")
    with pytest.raises(ValueError, match="NaN"):
        wholly_in_view(images * np.nan)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures of merit against closed forms and brute force."""

import numpy as np
import pytest

from hyperspy_multitomo.inspection import (
    crowther_resolution,
    dice,
    elongation_factor,
    largest_gap,
    nrmse,
    psnr,
    r_squared,
    scaled_mse,
    ssim_structure,
    wrong_pixels,
)

RNG = np.random.default_rng(5)
TRUTH = RNG.uniform(0, 3, (12, 9))
NOISE = RNG.normal(0, 0.5, TRUTH.shape)


def test_structure_ignores_scale_and_offset_and_knows_the_sign():
    assert ssim_structure(4 * TRUTH - 7, TRUTH) == pytest.approx(1)
    assert ssim_structure(-TRUTH, TRUTH) == pytest.approx(-1)
    assert ssim_structure(TRUTH + NOISE, TRUTH) == pytest.approx(
        np.corrcoef((TRUTH + NOISE).ravel(), TRUTH.ravel())[0, 1]
    )
    assert np.isnan(ssim_structure(np.ones(5), np.arange(5)))


def test_scaled_mse_is_the_minimum_over_the_scale():
    image = 0.2 * TRUTH + 0.1 * NOISE
    brute = min(np.mean((TRUTH - c * image) ** 2) for c in np.linspace(3, 6, 3001))
    assert scaled_mse(image, TRUTH) == pytest.approx(brute, rel=1e-4)
    assert scaled_mse(1000 * image, TRUTH) == pytest.approx(scaled_mse(image, TRUTH))
    assert scaled_mse(np.zeros_like(TRUTH), TRUTH) == pytest.approx(np.mean(TRUTH**2))


def test_wrong_pixels_is_the_minimum_over_the_threshold():
    truth = (TRUTH > 1.5).astype(float)
    # Few distinct values: thresholds between equal ones do not exist.
    image = np.round(truth + NOISE, 1)
    thresholds = np.concatenate([[-np.inf], np.unique(image)])
    brute = min(int(((image > t) != (truth > 0.5)).sum()) for t in thresholds)
    assert wrong_pixels(image, truth) == brute > 0
    assert wrong_pixels(5 * truth, truth) == 0
    assert wrong_pixels(np.ones_like(truth), truth) == min(truth.sum(), truth.size - truth.sum())


def test_psnr_and_nrmse():
    assert psnr(TRUTH + 0.1, TRUTH, peak=1.0) == pytest.approx(20)
    assert psnr(TRUTH + 0.1, TRUTH) == pytest.approx(20 * np.log10(TRUTH.max() / 0.1))
    assert psnr(TRUTH, TRUTH) == np.inf
    assert nrmse(np.full_like(TRUTH, TRUTH.mean()), TRUTH) == pytest.approx(1)
    assert nrmse(TRUTH + NOISE, TRUTH) == pytest.approx(np.sqrt(np.mean(NOISE**2)) / TRUTH.std())


def test_r_squared_is_centred():
    assert r_squared(np.full_like(TRUTH, TRUTH.mean()), TRUTH) == pytest.approx(0)
    assert r_squared(np.zeros_like(TRUTH), TRUTH) < 0
    assert r_squared(TRUTH + 0.1, TRUTH) == pytest.approx(1 - 0.01 / TRUTH.var())


def test_dice():
    first = np.zeros((10, 10), bool)
    second = first.copy()
    first[:, :6], second[:, 4:] = True, True
    assert dice(first, second) == pytest.approx(2 * 20 / 120)
    assert dice(first, first) == 1
    assert dice(first, ~first) == 0
    assert dice(first & ~first, first & ~first) == 1


def test_elongation_of_the_usual_tilt_ranges():
    # Published by Midgley & Weyland (2003): 1.55 at 60 degrees, 1.42 at 65, 1.31 at 70.
    assert elongation_factor(60) == pytest.approx(1.55, abs=0.01)
    assert elongation_factor(70) == pytest.approx(1.31, abs=0.01)
    assert elongation_factor(90) == pytest.approx(1)
    assert np.all(np.diff([elongation_factor(a) for a in range(5, 91, 5)]) < 0)


def test_crowther_and_gaps():
    assert crowther_resolution(50, np.arange(0, 180, 5)) == pytest.approx(np.pi * 50 / 36)
    assert crowther_resolution(50, [10, -10, 0]) == pytest.approx(50 * np.deg2rad(10))
    assert largest_gap([30, -75, -70, 0, -65]) == 65


@pytest.mark.parametrize(
    "metric", [ssim_structure, scaled_mse, wrong_pixels, psnr, nrmse, r_squared]
)
def test_shapes_have_to_be_equal(metric):
    with pytest.raises(ValueError, match="equal"):
        metric(np.ones(3), np.ones(4))


def test_bad_input():
    with pytest.raises(ValueError, match="everywhere"):
        nrmse(np.arange(3), np.ones(3))
    with pytest.raises(ValueError, match="peak"):
        psnr(np.ones(3), np.zeros(3))
    with pytest.raises(ValueError, match="bool"):
        dice(np.ones(3), np.ones(3))
    with pytest.raises(ValueError, match="90"):
        elongation_factor(0)
    with pytest.raises(ValueError, match="two different"):
        largest_gap([10, 10])
    with pytest.raises(ValueError, match="diameter"):
        crowther_resolution(0, [0, 1])

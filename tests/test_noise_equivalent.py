# SPDX-License-Identifier: GPL-3.0-or-later
"""The signal per noise-equivalent electron:
found from the noise of images, and never below the floor."""

import warnings

import numpy as np
import pytest

from hyperspy_multitomo.simulation import (
    gold_shell,
    heavy_oxide,
    huber,
    schwartz,
    simulate,
    yuan,
    zhong,
)
from hyperspy_multitomo.tomography import TiltGeometry, image_variance, projector
from hyperspy_multitomo.tomography.noise_equivalent import noise_equivalent_gain, typical_signal


@pytest.fixture(scope="module")
def images():
    """Mean electrons (tilt, x, y) of a particle in vacuum, 500 at the most."""
    volume = np.zeros((64, 64, 48), np.float32)
    volume[14:50, 12:48, 6:40] = 1.0
    volume[24:40, 20:36, 12:30] = 2.5
    projections = projector(TiltGeometry(np.arange(-60, 61, 20.0), 64))(volume)
    return 500 * projections / projections.max()


class TestGain:
    @pytest.mark.parametrize("gain", [0.01, 1.0, 400.0])
    @pytest.mark.parametrize("electrons", [20.0, 500.0])
    def test_counted_electrons(self, images, gain, electrons):
        counted = np.random.default_rng(0).poisson(images * electrons / 500)
        assert noise_equivalent_gain(gain * counted) == pytest.approx(gain, rel=0.15)

    def test_noise_of_another_kind(self, images):
        """Gaussian noise of the detector: that of so many electrons at a typical pixel."""
        noisy = 30 * (images + np.random.default_rng(0).normal(0, 40, images.shape))
        assert noise_equivalent_gain(noisy) == pytest.approx(
            30 * 40**2 / typical_signal(images), rel=0.3
        )

    def test_vacuum_and_its_noise_have_no_say(self, images):
        rng = np.random.default_rng(0)
        wide = np.pad(rng.poisson(images).astype(float), [(0, 0), (64, 64), (0, 0)])
        wide += rng.normal(0, 1, wide.shape)
        assert noise_equivalent_gain(wide) == pytest.approx(1.0, rel=0.15)

    def test_the_floor(self, images):
        """Images without noise, and with less of it than the model is good for."""
        typical = typical_signal(images)
        for clean in (
            images,
            np.random.default_rng(0).poisson(images * 1e4) / 1e4,
            np.full((2, 32, 32), typical),
        ):
            assert noise_equivalent_gain(clean) == pytest.approx(1e-4 * typical, rel=1e-3)
        assert noise_equivalent_gain(images, floor=0.1) == pytest.approx(1e-2 * typical, rel=1e-3)

    @pytest.mark.parametrize("shape", [(9, 1, 200), (9, 200, 1)])
    def test_a_single_slice(self, shape):
        """Blocks are of two pixels there: an even image of one slice has its noise."""
        one = np.random.default_rng(0).poisson(400.0, shape)
        assert noise_equivalent_gain(25.0 * one) == pytest.approx(25.0, rel=0.15)

    def test_a_background_that_is_known(self, images):
        """Its counts are noise too, and it is no signal that the floor could be a part of."""
        counted = np.random.default_rng(0).poisson(images + 300.0)
        assert noise_equivalent_gain(7.0 * counted, 7.0 * 300.0) == pytest.approx(7.0, rel=0.15)
        typical, offset = typical_signal(images), np.full(images.shape, 1e6)
        assert noise_equivalent_gain(images + offset, offset) == pytest.approx(
            (0.01 * typical) ** 2 / (typical + 1e6), rel=0.05
        )

    @pytest.mark.parametrize("shape", [(3, 1, 40), (3, 40, 1), (3, 5, 7)])
    def test_any_shape(self, shape):
        assert noise_equivalent_gain(np.ones(shape)) >= 1e-4 * 0.999


class TestTypicalSignal:
    def test_vacuum_has_no_weight(self, images):
        assert typical_signal(images) == pytest.approx(
            typical_signal(np.pad(images, [(0, 0), (30, 30), (0, 0)]))
        )
        assert images.mean() < typical_signal(images) < images.max()

    @pytest.mark.parametrize("images", [np.zeros((2, 4, 4)), -np.ones((2, 4, 4))])
    def test_nothing_there(self, images):
        with pytest.raises(ValueError, match="expected signal above 0"):
            noise_equivalent_gain(images)


@pytest.mark.parametrize("floor", [0, -1.0, np.nan])
def test_floor_that_is_none(floor):
    with pytest.raises(ValueError, match="`floor` is"):
        noise_equivalent_gain(np.ones((2, 4, 4)), floor=floor)


def crops(series):
    """Yield few neighbouring slices of images, from the middle and beside it."""
    slices = series.shape[2]
    for count in (1, 2, 3, 4, 8):
        for first in ((slices - count) // 2, slices // 4):
            yield series[..., first : first + count]


def told(estimate, images):
    """Return an estimate, and whether it was warned that these slices do not tell it."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        value = float(np.mean(estimate(images)))
    assert all("cannot be measured" in str(w.message) and "pass" in str(w.message) for w in found)
    return value, bool(found)


@pytest.fixture(
    scope="module",
    params=[yuan, huber, schwartz, zhong, gold_shell, heavy_oxide],
    ids=lambda made: made.__name__,
)
def simulated(request):
    size = {gold_shell: 48, heavy_oxide: 48}.get(request.param, 64)
    return simulate(request.param(size=size, slices=16), seed=0)


class TestFewSlices:
    """The noise of 1 to 8 slices is that of 16 to a factor of 1.5,
    or a warning says that they do not tell it."""

    @pytest.mark.slow
    @pytest.mark.parametrize("noise", ["own", 20, 1000])
    def test_counted_electrons(self, simulated, noise):
        images = simulated.haadf
        if noise == "own" and simulated.phantom.haadf_noise == "none":
            pytest.skip("this phantom has no noise of its own")
        if noise != "own":
            expected = simulated.expected_haadf
            images = np.random.default_rng(1).poisson(expected * noise / typical_signal(expected))
        reference, _ = told(noise_equivalent_gain, images)
        silent = [
            found / reference
            for found, warned in (told(noise_equivalent_gain, few) for few in crops(images))
            if not warned
        ]
        assert all(1 / 1.5 < ratio < 1.5 for ratio in silent)
        assert len(silent) == 10 or noise != 20, "what is noisy is measured without a warning"

    @pytest.mark.slow
    @pytest.mark.parametrize("sigma", [0.05, 0.3])
    def test_even_noise(self, simulated, sigma):
        images = simulated.expected_haadf / typical_signal(simulated.expected_haadf)
        images = images + np.random.default_rng(1).normal(0, sigma, images.shape)
        for few in crops(images):
            variance, warned = told(image_variance, few)
            assert warned or 1 / 1.5 < variance / sigma**2 < 1.5
            assert not (warned and sigma == 0.3)

    def test_mean_variance_of_counted_electrons(self, simulated):
        """Dim pixels are less noisy, and vacuum not at all."""
        expected = simulated.expected_haadf * 20 / typical_signal(simulated.expected_haadf)
        images = np.random.default_rng(1).poisson(expected)
        for few, means in zip(crops(images), crops(expected), strict=True):
            assert 1 / 1.5 < told(image_variance, few)[0] / means.mean() < 2

    def test_large_series_are_measured_in_blocks(self):
        images = np.random.default_rng(0).normal(100, 3, (3, 40, 32)).astype(np.float32)
        blocks = images.reshape(3, 20, 2, 16, 2)
        detail = (
            blocks[:, :, 0, :, 0]
            - blocks[:, :, 1, :, 0]
            - blocks[:, :, 0, :, 1]
            + blocks[:, :, 1, :, 1]
        ) / 2
        np.testing.assert_allclose(
            image_variance(images), np.median(detail**2, axis=(1, 2)) / 0.4549, rtol=1e-4
        )

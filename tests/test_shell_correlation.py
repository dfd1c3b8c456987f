# SPDX-License-Identifier: GPL-3.0-or-later
"""Fourier shell correlation against its expectation, cones, rims, and where it falls."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.optimize import lsq_linear
from scipy.signal.windows import tukey

from hyperspy_multitomo.evidence import ShellCorrelation, shell_correlation
from hyperspy_multitomo.evidence.shell_correlation import _falling


def noisy(ratio, shape=(40, 40, 40), seed=0):
    """Two volumes of the same white signal and their own white noise."""
    rng = np.random.default_rng(seed)
    signal = np.sqrt(ratio) * rng.normal(size=shape)
    return [signal + rng.normal(size=shape) for _ in range(2)]


@pytest.mark.parametrize("ratio", [0.2, 1.0, 5.0])
def test_it_is_that_of_signal_and_noise(ratio):
    found = shell_correlation(*noisy(ratio)).correlation["all"]
    assert found[5:].mean() == pytest.approx(ratio / (1 + ratio), abs=0.02)


def test_scale_and_offset_do_not_matter():
    first, second = noisy(1.0)
    found = shell_correlation(first, 3 - 2e3 * second).correlation["all"]
    np.testing.assert_allclose(
        found, -shell_correlation(first, second).correlation["all"], atol=1e-3
    )


def test_it_agrees_with_a_plain_loop_over_all_coefficients():
    """Odd and even sides."""
    shape = (11, 16, 13)
    first, second = noisy(1.0, shape)
    window = [tukey(n, 0.2) for n in shape]
    fade = np.einsum("i,j,k->ijk", *window)
    F, G = (np.fft.fftn((one - one.mean()) * fade) for one in (first, second))
    k = np.stack(np.meshgrid(*(np.fft.fftfreq(n) for n in shape), indexing="ij"))
    shells = np.rint(np.sqrt(np.square(k).sum(axis=0)) * max(shape)).astype(int)
    curves = shell_correlation(first, second)
    for number, found in enumerate(curves.correlation["all"], start=1):
        one = shells == number
        product = (F[one] * G[one].conj()).real.sum()
        norm = np.sqrt(np.square(np.abs(F[one])).sum() * np.square(np.abs(G[one])).sum())
        if one.sum() < 8:
            assert np.isnan(found)
            continue
        assert found == pytest.approx(product / norm, abs=1e-4)
        assert curves.coefficients["all"][number - 1] == pytest.approx(one.sum() / 2)


def test_cones_look_along_their_axes():
    """Noise of finer detail along x than along z."""
    rng = np.random.default_rng(0)
    signal = gaussian_filter(rng.normal(size=(48, 48, 48)), (4, 1, 2))
    signal /= signal.std()
    first, second = (signal + 0.3 * rng.normal(size=signal.shape) for _ in range(2))
    found = shell_correlation(first, second)
    along = {axis: found.resolution(1 / 7, axis) for axis in "xyz"}
    assert along["x"] < along["y"] < along["z"]


def test_spacing_is_in_the_frequencies():
    first, second = (gaussian_filter(one, 1.0) for one in noisy(1.0))
    plain = shell_correlation(first, second)
    scaled = shell_correlation(first, second, (2.0, 2.0, 2.0))
    np.testing.assert_allclose(scaled.frequency, plain.frequency / 2)
    np.testing.assert_allclose(scaled.correlation["all"], plain.correlation["all"])


def test_a_wall_that_touches_the_rim_is_no_fine_detail():
    """A slope through the volume jumps at its rim; both halves would share the jump."""
    slope = np.broadcast_to(np.linspace(0, 30, 48)[:, None, None], (48, 48, 48))
    first, second = (
        slope + np.random.default_rng(seed).normal(0, 1, slope.shape) for seed in (0, 1)
    )
    assert np.abs(shell_correlation(first, second).correlation["z"][13:]).max() < 0.3


def test_one_slice_makes_rings():
    first, second = noisy(1.0, (64, 64, 1))
    found = shell_correlation(first, second).correlation["all"]
    assert found[8:].mean() == pytest.approx(0.5, abs=0.05)


def curve(values, count=1e9):
    values = np.asarray(values, float)
    frequency = 0.1 * np.arange(1, len(values) + 1)
    full = dict.fromkeys(("all", "x", "y", "z"), values)
    return ShellCorrelation(frequency, full, dict.fromkeys(full, np.full(len(values), count)))


def test_where_it_falls_is_interpolated():
    assert curve([0.9, 0.5, 0.1, 0.0]).resolution(0.3) == pytest.approx(1 / 0.25, rel=1e-3)
    # A single shell below is chance: it is pooled with those after it, to 0.4.
    found = curve([0.9, 0.1, 0.7, 0.4, 0.0, 0.0]).resolution(0.2)
    assert found == pytest.approx(1 / 0.45, rel=1e-3)
    assert curve([0.9, 0.8, 0.7]).resolution(0.3) == pytest.approx(1 / 0.3)
    assert np.isnan(curve([0.1, 0.0, 0.0]).resolution(0.3))
    assert np.isnan(curve([np.nan, np.nan]).resolution(0.3))


def test_the_falling_curve_is_that_of_least_squares():
    """Against SciPy's bounded least squares in the steps of the curve."""
    rng = np.random.default_rng(0)
    values, weights = np.linspace(1, 0, 12) + rng.normal(0, 0.3, 12), rng.uniform(1, 9, 12)
    root = np.sqrt(weights)[:, None]
    steps = np.tril(np.ones((12, 12)))
    bounds = ([-np.inf] + 11 * [-np.inf], [np.inf] + 11 * [0])
    best = lsq_linear(root * steps, root[:, 0] * values, bounds, tol=1e-13)
    np.testing.assert_allclose(_falling(values, weights), steps @ best.x, atol=1e-5)


def test_few_coefficients_need_more_correlation():
    assert curve([0.5], count=1e12).limit(1 / 7) == pytest.approx([1 / 7], rel=1e-4)
    assert curve([0.5], count=50).limit(1 / 7)[0] > 0.25


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (np.ones((8, 8, 8)), np.ones((8, 8, 9)), "one shape"),
        (np.ones((8, 8)), np.ones((8, 8)), "one shape"),
        (np.full((8, 8, 8), np.nan), np.ones((8, 8, 8)), "finite"),
        (np.ones((1, 1, 8)), np.ones((1, 1, 8)), "8 voxels"),
        (np.ones((4, 8, 8)), np.ones((4, 8, 8)), "8 voxels"),
    ],
)
def test_bad_input_is_refused(first, second, message):
    with pytest.raises(ValueError, match=message):
        shell_correlation(first, second)


def test_empty_volumes_say_nothing():
    found = shell_correlation(np.zeros((16, 16, 16)), np.zeros((16, 16, 16)))
    assert np.isnan(found.correlation["all"]).all()
    assert np.isnan(found.resolution(1 / 7))

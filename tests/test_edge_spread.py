# SPDX-License-Identifier: GPL-3.0-or-later
"""The edge-spread function's threshold: right on known particles,
and silent on none that it cannot know."""

import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter

from hyperspy_multitomo.composition import particle_mask
from hyperspy_multitomo.composition.particle.edge_spread import edge_spread
from hyperspy_multitomo.inspection import dice
from hyperspy_multitomo.inspection.threshold_plot import plot_threshold
from hyperspy_multitomo.simulation import simulate, yuan
from hyperspy_multitomo.tomography import TiltGeometry, hebt, projector, run, sirt

SIZE = 48
Z, X, Y = np.mgrid[:SIZE, :SIZE, :SIZE] - (SIZE - 1) / 2
R = np.sqrt(Z**2 + X**2 + Y**2)


def ball(radius, centre=(0, 0, 0)):
    return np.sqrt((Z - centre[0]) ** 2 + (X - centre[1]) ** 2 + (Y - centre[2]) ** 2) < radius


def measured(truth, noise=0.15, blur=0.8, seed=0):
    """Blurred, with noise of the background and of the counts, not negative:
    what SIRT makes of a particle."""
    volume = (
        gaussian_filter(np.asarray(truth, dtype=np.float64), blur)
        if blur
        else np.asarray(truth, dtype=np.float64)
    )
    errors = noise * np.sqrt(0.1 + volume) * np.random.default_rng(seed).normal(size=volume.shape)
    return np.maximum(volume + errors, 0).astype(np.float32)


PARTICLES = {
    "1 % of the volume": ball(6.4),
    "half of the volume": ball(23.5),
    "90 % of the volume": SIZE * 0.4 > Z + 0 * R,
    "cut by two borders": ball(20, (-18, -15, 0)),
    "hollow": ball(20) & ~ball(15),
    "several": ball(8, (-12, -12, 0)) | ball(10, (12, 8, -6)) | ball(6, (10, -14, 12)),
}


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.05, 0.15])
@pytest.mark.parametrize("name", PARTICLES)
def test_particles_of_any_size_and_form(name, noise):
    truth = PARTICLES[name]
    volume = measured(truth, noise)
    curve = edge_spread(volume)
    assert curve.ambiguous == ""
    assert dice(particle_mask(volume, "esf"), truth) > (0.96 if truth.mean() < 0.1 else 0.975)
    assert 0.25 < curve.value < 0.75
    assert curve.flat[0] < curve.value < curve.flat[1]
    np.testing.assert_allclose(curve.value, np.mean(curve.flat), rtol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint16])
def test_noise_free_particle_comes_back_exactly(dtype):
    truth = PARTICLES["several"] | ball(1.0)
    volume = (7 * truth).astype(dtype)
    curve = edge_spread(volume)
    assert not curve.ambiguous
    assert not curve.smoothed
    np.testing.assert_allclose(curve.value, 3.5, atol=0.2)
    np.testing.assert_array_equal(particle_mask(volume, "esf"), truth)
    inside = np.interp([1.0, 6.0], curve.levels, curve.volumes)
    np.testing.assert_allclose(inside, truth.mean(), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("bright", ["core", "shell"])
@pytest.mark.parametrize("ratio", [1.5, 2.0])
def test_both_phases_are_particle(bright, ratio):
    core, whole = ball(15), ball(21)
    truth = whole + (ratio - 1) * (core if bright == "core" else whole & ~core)
    volume = measured(truth)
    curve = edge_spread(volume)
    assert curve.ambiguous == ""
    assert dice(particle_mask(volume, "esf"), whole) > 0.975


@pytest.mark.slow
@pytest.mark.parametrize("blur", [0.0, 1.5])
@pytest.mark.parametrize("ratio", [3.0, 4.0])
@pytest.mark.parametrize("bright", ["core", "shell"])
def test_a_phase_far_brighter_than_the_other_does_not_hide_it_silently(ratio, bright, blur):
    core, whole = ball(14), ball(21)
    truth = whole + (ratio - 1) * (core if bright == "core" else whole & ~core)
    for noise in (0.0, 0.1):
        volume = measured(truth, noise, blur)
        curve = edge_spread(volume)
        assert curve.ambiguous or dice(volume > curve.value, whole) > 0.97


def test_a_support_film_is_named():
    film = (np.abs(Z) < 4) & ~ball(15)
    curve = edge_spread(measured(ball(15) + 0.3 * film, 0.05))
    assert "support film" in curve.ambiguous


def test_unit_and_scale_do_not_matter():
    volume = measured(PARTICLES["several"])
    one, other = edge_spread(volume), edge_spread(1000 * volume)
    np.testing.assert_allclose(other.value, 1000 * one.value, rtol=1e-3)
    np.testing.assert_allclose(other.interior, 1000 * one.interior, rtol=1e-3)


def test_noise_below_zero_is_background_too():
    truth = PARTICLES["cut by two borders"]
    volume = truth + 0.15 * np.random.default_rng(1).normal(size=truth.shape)
    assert volume.min() < -0.5
    assert dice(particle_mask(volume, "esf"), truth) > 0.985


def test_a_hot_voxel_changes_nothing():
    volume = measured(PARTICLES["half of the volume"])
    hot = volume.copy()
    hot[3, 3, ::5] = 500.0
    np.testing.assert_allclose(edge_spread(hot).value, edge_spread(volume).value, rtol=0.02)


def test_neighbours_vote_in_noise_only_and_when_told():
    wall = np.abs(Z) < 1  # two voxels
    assert not edge_spread(wall.astype(float)).smoothed
    told = edge_spread(wall.astype(float), smooth=True)
    assert told.smoothed
    np.testing.assert_allclose(
        told.volumes[np.searchsorted(told.levels, 0.5)], wall.mean(), rtol=1e-6
    )
    noisy = measured(ball(18), 0.3)
    assert edge_spread(noisy).smoothed
    plain = edge_spread(noisy, smooth=False)
    assert not plain.smoothed
    assert (
        dice(particle_mask(noisy, "esf"), ball(18))
        > dice(noisy > plain.interior / 2, ball(18)) + 0.03
    )


NO_PARTICLE = {
    "constant": (np.full((8, 8, 8), 2.0), "no flat run"),
    "ramp": (np.broadcast_to(np.linspace(0, 1, 32)[:, None, None], (32, 32, 32)), "gradient"),
    "noise": (np.abs(np.random.default_rng(0).normal(size=(32, 32, 32))), "no flat run"),
    "blob": (np.exp(-(R**2) / 2 / 9**2), "no flat run"),
    "filled": (1 + 0.1 * np.random.default_rng(0).normal(size=(32, 32, 32)), "no flat run"),
    "two phases without background": (
        1 + (Z > 3) + 0.05 * np.random.default_rng(0).normal(size=R.shape),
        "background",
    ),
    "offset": (0.5 + measured(ball(18), 0.05), "offset"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NO_PARTICLE)
def test_no_answer_where_there_is_none(name):
    volume, reason = NO_PARTICLE[name]
    assert reason in edge_spread(volume).ambiguous
    with pytest.raises(ValueError, match="ambiguous: .*pass a number, 'otsu' or a mask"):
        particle_mask(volume, "esf")
    with pytest.warns(UserWarning, match=f"Otsu's.*{reason}") as warned:
        found = particle_mask(volume)
    assert warned[0].filename == __file__
    np.testing.assert_array_equal(found, particle_mask(volume, "otsu"))


def test_auto_is_the_edge_spread_where_it_is_sure():
    volume = measured(PARTICLES["hollow"])
    np.testing.assert_array_equal(particle_mask(volume), particle_mask(volume, "esf"))
    assert (particle_mask(volume) != particle_mask(volume, "otsu")).any()


@pytest.mark.parametrize(
    ("volume", "message"),
    [(np.full(4, np.nan), "NaN"), (np.zeros(4), "nothing"), (np.ones(0), "nothing")],
)
def test_bad_volumes(volume, message):
    with pytest.raises(ValueError, match=message):
        edge_spread(volume)


@pytest.fixture(scope="module")
def yuan_series():
    phantom = yuan()
    series = simulate(phantom, seed=0)
    return (
        phantom,
        series,
        projector(TiltGeometry(series.tilts, phantom.size, pixel_size=series.pixel_size)),
    )


@pytest.mark.slow
@pytest.mark.parametrize("setting", [20, 200, 500, "0.3", "0.9"])
def test_yuan_particle(yuan_series, setting):
    """The figures of benchmarks/threshold.py, on one section:
    the mask overlaps the truth by 0.97 whatever the noise."""
    phantom, series, A = yuan_series
    if isinstance(setting, int):
        volume = run(sirt(A, series.maps), setting).volume
    else:
        volume = run(
            hebt(A, series.maps, series.haadf, series.true_ratios, alpha=float(setting)), 100
        ).volume
    density = np.tensordot(1 / phantom.counts_per_unit, volume, 1)
    particle = phantom.truth.sum(axis=0) > 5.7
    assert dice(particle_mask(density, "esf"), particle) > 0.97


def test_figure_shows_the_threshold_or_the_reason():
    curve = edge_spread(measured(ball(18)))
    figure = plot_threshold(curve, unit="g/cm³")
    assert isinstance(figure, Figure)
    left, right = figure.axes
    np.testing.assert_allclose(
        left.lines[0].get_xydata(), np.column_stack([curve.levels, 100 * curve.volumes])
    )
    assert left.get_xlabel() == "level t (g/cm³)"
    for axes in (left, right):
        assert list(axes.lines[1].get_xdata()) == [curve.value] * 2
        shaded = axes.patches[0].get_extents().transformed(axes.transData.inverted())
        np.testing.assert_allclose([shaded.x0, shaded.x1], curve.flat, rtol=1e-3)
    assert right.get_yscale() == "log"
    assert "Ambiguous" not in str(figure.get_suptitle())
    unclear = plot_threshold(edge_spread(NO_PARTICLE["ramp"][0]))
    assert "gradient" in unclear.get_suptitle().replace("\n", " ")
    assert not unclear.axes[0].patches
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()

# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures show the right data the right way up, with honest scales, and leave no state behind."""

import io
import sys

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

import hyperspy_multitomo as mt
from hyperspy_multitomo.acquisition import fit_dose_drift
from hyperspy_multitomo.acquisition.preprocessing.bad_tilts import TiltRanking
from hyperspy_multitomo.inspection.picture import PALETTE, colour_mix, robust_limits, round_length
from hyperspy_multitomo.inspection.plotting import (
    plot_comparison,
    plot_composition,
    plot_dose_drift,
    plot_projections,
    plot_residuals,
    plot_response,
    plot_sinogram,
    plot_slices,
    plot_tilt_ranking,
)

RNG = np.random.default_rng(2)
MAPS = RNG.poisson(3.0, (2, 5, 24, 16)).astype(np.float32)
TILTS = np.array([-40.0, -21.0, 1.0, 19.0, 42.0])
VOLUMES = RNG.uniform(0, 1, (2, 10, 24, 16)).astype(np.float32)


def images(figure):
    return [axes.images[0] for axes in figure.axes if axes.images]


def drawn(figure):
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=40)
    assert picture.getbuffer().nbytes > 2000
    return figure


@pytest.mark.slow
def test_every_figure_draws():
    composition = 100 * VOLUMES / VOLUMES.sum(axis=0)
    for figure in (
        plot_projections(MAPS, TILTS, ["Au", "Ag"], pixel_size=1.5),
        plot_sinogram(MAPS, TILTS, ["Au", "Ag"], pixel_size=1.5),
        plot_slices(VOLUMES, ["Au", "Ag"], pixel_size=1.5),
        plot_comparison({"SIRT": VOLUMES, "HEBT": 2 * VOLUMES}, ["Au", "Ag"], pixel_size=1.5),
        plot_composition(composition, ["Au", "Ag"], pixel_size=1.5),
        plot_response(MAPS[0], MAPS[1], TILTS),
        plot_residuals({"Au": [1, 0.5], "HAADF": [1, 0.2]}),
    ):
        assert isinstance(drawn(figure), Figure)


def test_no_figure_enters_the_state_of_pyplot():
    plot_slices(VOLUMES, ["Au", "Ag"])
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


@pytest.mark.slow
def test_projections_are_those_nearest_zero_with_the_tilt_axis_upright():
    figure = plot_projections(MAPS, TILTS, ["Au", "Ag"])
    np.testing.assert_array_equal(images(figure)[1].get_array(), MAPS[1, 2].T)
    assert images(figure)[0].origin == "upper"
    assert figure.get_suptitle().endswith("1°")


def test_many_channels_fill_a_grid_and_empty_cells_are_hidden():
    figure = plot_projections(np.repeat(MAPS, 5, axis=0)[:9], TILTS, list("abcdefghi"))
    visible = [axes for axes in figure.axes if axes.axison]
    assert len(images(figure)) == 9
    assert len(visible) == 18


def test_sections_through_a_marked_voxel():
    volume = np.zeros((1, 10, 24, 16), np.float32)
    volume[0, 7, 20, 3] = 1.0
    figure = plot_slices(volume, ["Au"], position=(7, 20, 3))
    xy, xz, yz = (np.asarray(image.get_array()) for image in images(figure))
    assert (xy.shape, xz.shape, yz.shape) == ((16, 24), (10, 24), (10, 16))
    assert xy[3, 20] == xz[7, 20] == yz[7, 3] == 1
    # The source of the electrons is at the top of sections with z; y runs down as in the images.
    assert [image.origin for image in images(figure)] == ["upper", "lower", "lower"]


def test_comparison_shares_its_colours_between_columns():
    figure = plot_comparison(
        {"SIRT": VOLUMES, "HEBT": 3 * VOLUMES}, ["Au", "Ag"], plane="xy", position=4
    )
    first, second = images(figure)[:2]
    assert first.get_clim() == second.get_clim()
    np.testing.assert_array_equal(second.get_array(), 3 * VOLUMES[0, 4].T)


def test_sinogram_is_in_the_order_of_the_tilts():
    shuffled = [3, 0, 4, 1, 2]
    straight = plot_sinogram(MAPS, TILTS, ["Au", "Ag"], y=5)
    mixed = plot_sinogram(MAPS[:, shuffled], TILTS[shuffled], ["Au", "Ag"], y=5)
    mesh, other = (figure.axes[0].collections[0].get_array() for figure in (straight, mixed))
    np.testing.assert_array_equal(mesh, other)
    np.testing.assert_array_equal(np.asarray(mesh).reshape(5, 24), MAPS[0, :, :, 5])


def test_composition_is_grey_outside_and_from_0_to_100_everywhere():
    composition = np.zeros((2, 8, 12, 10), np.float32)
    composition[0, 2:6, 3:9, 2:8], composition[1, 2:6, 3:9, 2:8] = 80, 20
    figure = plot_composition(composition, ["Au", "Ag"])
    shown = images(figure)[1]
    assert shown.get_clim() == (0, 100)
    assert np.isnan(np.ma.filled(shown.get_array(), np.nan)[0, 0])
    assert shown.get_array()[4, 6] == 80
    assert len(figure.axes[-1].patches) == 2


def test_response_states_r2_and_the_misfit():
    modelled = MAPS[0].astype(float)
    figure = plot_response(1.1 * modelled, modelled, TILTS)
    assert "R² = 0." in figure.axes[0].get_title()
    np.testing.assert_allclose(figure.axes[1].lines[0].get_ydata(), 100 * 0.1 / 1.1)
    holes = np.where(modelled > 5, np.nan, modelled)
    drawn(plot_response(holes, modelled, TILTS, r2=0.42))


@pytest.mark.parametrize("worst", [3.0, 7.4, 30.0, -400.0])
def test_ranking_has_plain_numbers_however_far_off_a_tilt_is(worst):
    scores = {"signal": np.array([0.0, 1.0, worst, -1.0, 0.5]), "shift": np.ones(5)}
    axes = drawn(plot_tilt_ranking(TiltRanking(TILTS, scores, 5.0))).axes[0]
    low, high = axes.get_ylim()
    assert low < -5 < 5 < high
    assert sum(low <= tick <= high for tick in axes.get_yticks()) >= 3
    assert not any("$" in text.get_text() for text in axes.get_yticklabels())


def test_drift_is_drawn_without_the_dependence_on_the_tilt():
    order, tilts = np.array([5, 2, 0, 3, 1, 4, 7, 6]), np.linspace(-60, 60, 8)
    drift = fit_dose_drift([1 - 0.02 * order + 0.005 * tilts], np.ones(8), tilts, order, ["Na"])
    assert not drift.confounded
    points, line = drawn(plot_dose_drift(drift)).axes[0].lines
    np.testing.assert_allclose(points.get_ydata(), line.get_ydata(), atol=1e-6)
    np.testing.assert_allclose(np.diff(line.get_ydata()), drift.slope[0], atol=1e-6)


def test_limits_ignore_hot_pixels_and_survive_anything():
    image = RNG.uniform(0, 10, (100, 100))
    image[3, 3] = 1e9
    assert robust_limits(image)[1] < 10
    assert robust_limits(-image)[0] < -9
    sparse = np.zeros(10000)
    sparse[5] = 7.0
    assert robust_limits(sparse) == (0, 7)
    for nothing in (np.zeros(4), np.full(4, np.nan), -np.ones(4)):
        low, high = robust_limits(nothing)
        assert high > low


@pytest.mark.parametrize(
    ("length", "expected"), [(37.5, 20), (50, 50), (99, 50), (0.7, 0.5), (100, 100), (2.0, 2)]
)
def test_scale_bars_have_round_lengths(length, expected):
    assert round_length(length) == pytest.approx(expected)


def test_scale_bar_is_in_nanometres():
    figure = plot_slices(np.ones((1, 8, 40, 40)), ["Au"], pixel_size=2.0)
    bar = figure.axes[0].patches[0]
    assert figure.axes[0].texts[0].get_text() == "20 nm"
    assert bar.get_width() == pytest.approx(10)
    assert plot_slices(np.ones((1, 8, 40, 40)), ["Au"]).axes[0].texts[0].get_text() == "10 px"


def test_colours_add_up_and_differ():
    channels = np.array([[[0.0, 1.0, 1.0]], [[1.0, 0.0, 1.0]]])
    mixed = colour_mix(channels, limits=[(0, 1)] * 2)[0]
    np.testing.assert_allclose(mixed[2], np.clip(mixed[0] + mixed[1], 0, 1))
    assert len(set(PALETTE)) == len(PALETTE)


def test_colours_differ_for_those_who_do_not_tell_red_from_green():
    """Against the matrices of Machado et al. for deuteranopia and protanopia, in CIELAB."""
    from skimage.color import rgb2lab

    kinds = {
        "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
        "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
        "none": np.eye(3),
    }
    colours = np.array([[int(one[i : i + 2], 16) / 255 for i in (1, 3, 5)] for one in PALETTE])
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    for matrix in kinds.values():
        seen = np.clip(linear @ np.array(matrix).T, 0, 1)
        seen = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
        lab = rgb2lab(seen[None])[0]
        apart = np.linalg.norm(lab[:, None] - lab, axis=-1)
        assert apart[np.triu_indices(len(PALETTE), 1)].min() > 15


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot_projections(MAPS, TILTS[:3], ["Au", "Ag"]), "one angle per projection"),
        (lambda: plot_projections(MAPS, TILTS, ["Au"]), "one name"),
        (lambda: plot_projections(MAPS[0], TILTS, ["Au"]), "channel, tilt, x, y"),
        (lambda: plot_sinogram(MAPS, TILTS, ["Au", "Ag"], y=16), "slice"),
        (lambda: plot_slices(VOLUMES, ["Au", "Ag"], position=(10, 0, 0)), "position"),
        (lambda: plot_slices(VOLUMES, ["Au", "Ag"], limits=[(0, 1)]), "limits"),
        (lambda: plot_comparison({"a": VOLUMES, "b": VOLUMES[:, 1:]}, ["Au", "Ag"]), "equal shape"),
        (lambda: plot_comparison({"a": VOLUMES}, ["Au", "Ag"], plane="zx"), "plane"),
        (lambda: plot_composition(VOLUMES, ["Au", "Ag"], mask=np.ones(3, bool)), "mask"),
        (lambda: plot_response(MAPS[0], MAPS[0, :2], TILTS), "alike"),
        (lambda: plot_residuals({}), "iterations"),
        (lambda: colour_mix(np.ones((11, 2, 2))), "colours"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


class TestNavigator:
    """HyperSpy's viewer opens where something is, and stays where it was moved to."""

    @pytest.fixture(autouse=True)
    def _closed(self):
        yield
        pyplot.close("all")

    def test_of_a_volume_opens_in_the_middle(self):
        volume = mt.TomographicVolume.from_arrays({"Au": np.ones((7, 4, 4))}, pixel_size=1.0)
        volume.plot()
        assert volume.axes_manager["z"].index == 3
        volume.axes_manager["z"].index = 5
        volume.plot()
        assert volume.axes_manager["z"].index == 5

    def test_of_a_series_opens_at_the_tilt_nearest_0(self):
        haadf = mt.TiltSeriesHAADF.from_images(np.ones((4, 4, 4)), tilts=[-40, -20, 5, 30])
        haadf.plot()
        assert haadf.axes_manager["tilt"].index == 2

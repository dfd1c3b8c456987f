# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures of alignments show the shifts, errors and residuals they were given,
in the order of the tilts."""

import io
import sys
from dataclasses import replace

import numpy as np
import pytest

from hyperspy_multitomo.alignment import Alignment, AlignmentQuality
from hyperspy_multitomo.inspection.plotting import plot_alignment, plot_alignment_sinograms

TILTS = np.array([40.0, -40.0, -20.0, 0.0, 20.0, 60.0])
ACROSS = np.array([1.0, 2.0, -3.0, 0.5, -1.5, 4.0])
ALONG = np.array([0.0, -2.0, 1.0, 3.0, -1.0, 2.5])
PLAIN = Alignment(ACROSS, ALONG, axis_offset=-2.5, rotation=1.25, tilts=TILTS)
QUALITY = AlignmentQuality(
    across_error=[0.1, 0.2, np.nan, 0.4, np.inf, 0.6],
    along_error=np.full(6, 0.3),
    axis_offset_error=0.17,
    rotation_error=0.38,
    residual=[0.10, 0.11, 0.12, 0.10, 0.50, np.nan],
)
MEASURED = replace(PLAIN, quality=QUALITY)
IMAGES = np.random.default_rng(3).uniform(0, 100, (6, 20, 12))


def drawn(figure):
    """Return the figure after drawing it, which fills the labels of the ticks."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=40)
    assert picture.getbuffer().nbytes > 2000
    return figure


def panel(figure, title):
    return next(axes for axes in figure.axes if axes.get_title().startswith(title))


def lines_of(axes):
    """Return the points of each line that has a name."""
    return {
        line.get_label().split(" ")[0]: line.get_xydata()
        for line in axes.lines
        if not line.get_label().startswith("_")
    }


@pytest.mark.slow
def test_shifts_are_drawn_in_the_order_of_the_tilts():
    figure = drawn(plot_alignment(PLAIN))
    axes, order = panel(figure, "Shifts"), np.argsort(TILTS)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("tilt (°)", "shift (px)")
    shown = lines_of(axes)
    np.testing.assert_array_equal(shown["across"], np.stack([TILTS, ACROSS], 1)[order])
    np.testing.assert_array_equal(shown["along"], np.stack([TILTS, ALONG], 1)[order])


def test_without_quality_there_are_neither_errors_nor_residuals():
    figure = drawn(plot_alignment(PLAIN))
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == [
        "Shifts",
        "Path of the image centre",
    ]
    assert not panel(figure, "Shifts").collections
    assert "±" not in figure.get_suptitle()
    assert figure.get_suptitle() == "Tilt axis at x = (n-1)/2 - 2.50 px, rotation 1.25°"


def test_axis_and_rotation_are_stated_with_their_errors():
    assert (
        plot_alignment(MEASURED).get_suptitle()
        == "Tilt axis at x = (n-1)/2 - 2.50 ± 0.17 px, rotation 1.25 ± 0.38°"
    )
    unknown = replace(QUALITY, axis_offset_error=np.nan, rotation_error=np.inf)
    assert "±" not in plot_alignment(replace(PLAIN, quality=unknown)).get_suptitle()


def test_only_finite_errors_have_bars():
    axes = panel(drawn(plot_alignment(MEASURED)), "Shifts")
    across, along = (np.array(bars.get_segments()) for bars in axes.collections)
    np.testing.assert_allclose(across[:, 0, 0], TILTS[[0, 1, 3, 5]])
    np.testing.assert_allclose((across[:, 1, 1] - across[:, 0, 1]) / 2, [0.1, 0.2, 0.4, 0.6])
    np.testing.assert_allclose(along.mean(axis=1), np.stack([TILTS, ALONG], 1))
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["across (median error 0.3 px)", "along (median error 0.3 px)"]


def test_wobble_is_the_path_in_the_order_of_the_tilts_with_y_downwards():
    figure = drawn(plot_alignment(PLAIN))
    axes, order = panel(figure, "Path"), np.argsort(TILTS)
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), np.stack([ACROSS, ALONG], 1)[order])
    np.testing.assert_array_equal(axes.collections[0].get_array(), TILTS[order])
    assert axes.get_aspect() == 1
    assert axes.yaxis_inverted()
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("across (px)", "along (px)")
    assert figure.axes[-1].get_xlabel() == "tilt (°)"


def test_suspicious_tilt_is_marked_and_named():
    axes = panel(drawn(plot_alignment(MEASURED)), "Residual")
    others, suspicious = axes.lines
    np.testing.assert_allclose(others.get_xydata(), np.stack([TILTS, QUALITY.residual], 1)[:4])
    np.testing.assert_allclose(suspicious.get_xydata(), [[20, 0.5]])
    assert others.get_color() != suspicious.get_color()
    assert others.get_marker() != suspicious.get_marker()
    assert [text.get_text() for text in axes.texts] == ["20°"]
    assert axes.get_ylabel() == "residual"


def test_labels_of_suspicious_tilts_stay_inside_and_clear_of_the_points():
    figure = drawn(plot_alignment(replace(MEASURED, tilts=TILTS - 150)))
    axes = panel(figure, "Residual")
    box, inside = axes.texts[0].get_window_extent(), axes.get_window_extent()
    assert box.y1 < inside.y1
    assert box.y0 > axes.transData.transform((0, 0.5))[1]


def test_residuals_that_are_all_unknown_have_no_panel():
    figure = drawn(
        plot_alignment(replace(PLAIN, quality=replace(QUALITY, residual=np.full(6, np.nan))))
    )
    assert not any(axes.get_title().startswith("Residual") for axes in figure.axes)


def test_without_tilts_images_are_numbered():
    figure = drawn(plot_alignment(replace(MEASURED, tilts=None)))
    shifts, residual = panel(figure, "Shifts"), panel(figure, "Residual")
    np.testing.assert_array_equal(lines_of(shifts)["across"], np.stack([np.arange(6), ACROSS], 1))
    assert {axes.get_xlabel() for axes in (shifts, residual, figure.axes[-1])} == {
        "number of the image"
    }
    assert [text.get_text() for text in residual.texts] == ["4"]


def test_drift_is_stated():
    drift = np.zeros((6, 2))
    drift[2] = 0.03, -0.04
    assert (
        drawn(plot_alignment(replace(PLAIN, drift=drift)))
        .get_suptitle()
        .endswith("up to 0.05 px per line")
    )
    assert "drift" not in plot_alignment(PLAIN).get_suptitle()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("own", "given", "expected"),
    [(0.5, None, 0.5), (None, 0.25, 0.25), (0.5, 2.0, 2.0), (None, None, None)],
)
def test_pixel_size_gives_a_scale_in_nanometres(own, given, expected):
    axes = panel(drawn(plot_alignment(replace(PLAIN, pixel_size=own), pixel_size=given)), "Shifts")
    if expected is None:
        assert not axes.child_axes
        return
    (second,) = axes.child_axes
    assert second.get_ylabel() == "shift (nm)"
    np.testing.assert_allclose(second.get_ylim(), expected * np.array(axes.get_ylim()))


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_few_tilts_that_are_in_place(count):
    figure = drawn(
        plot_alignment(replace(Alignment.identity(count), tilts=np.arange(count), pixel_size=1.0))
    )
    assert len(panel(figure, "Shifts").lines[0].get_xdata()) == count


def test_sinograms_of_one_slice_share_tilts_and_colours():
    figure = drawn(plot_alignment_sinograms(IMAGES, 2 * IMAGES, TILTS, y=5))
    before, after = (axes.collections[0] for axes in figure.axes[:2])
    order = np.argsort(TILTS)
    np.testing.assert_array_equal(
        np.asarray(before.get_array()).reshape(6, 20), IMAGES[order, :, 5]
    )
    np.testing.assert_array_equal(
        np.asarray(after.get_array()).reshape(6, 20), 2 * IMAGES[order, :, 5]
    )
    assert before.get_clim() == after.get_clim()
    assert before.get_clim()[1] > 150
    corners = before.get_coordinates()
    np.testing.assert_allclose(corners[:, 0, 1], [-50, -30, -10, 10, 30, 50, 70])
    np.testing.assert_allclose(corners[0, [0, -1], 0], [-10, 10])
    assert [axes.get_title() for axes in figure.axes[:2]] == ["before", "after"]
    assert figure.axes[2].get_ylabel() == "HAADF signal"
    assert figure.get_suptitle() == "Sinograms of slice y = 5"
    assert not figure.axes[1].lines


def test_sinograms_show_the_tilt_axis_after_the_alignment():
    figure = drawn(
        plot_alignment_sinograms(
            IMAGES, IMAGES, TILTS, axis_offset=-3.0, pixel_size=0.5, unit="counts"
        )
    )
    assert not figure.axes[0].lines
    (line,) = figure.axes[1].lines
    np.testing.assert_allclose(line.get_xdata(), -1.5)
    assert line.get_linestyle() == "--"
    assert figure.axes[1].get_title() == "after; dashed: tilt axis at -1.50 nm"
    assert figure.axes[1].get_xlabel() == "x (nm)"
    assert figure.axes[2].get_ylabel() == "counts"
    assert figure.get_suptitle() == "Sinograms of slice y = 6"


def test_no_figure_enters_the_state_of_pyplot():
    plot_alignment(MEASURED)
    plot_alignment_sinograms(IMAGES, IMAGES, TILTS)
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot_alignment(Alignment.identity(0)), "no tilts"),
        (lambda: plot_alignment(PLAIN, pixel_size=0), "positive length"),
        (lambda: plot_alignment_sinograms(IMAGES, IMAGES[:, 1:], TILTS), "both alike"),
        (lambda: plot_alignment_sinograms(IMAGES[0], IMAGES[0], TILTS), "tilt, x, y"),
        (lambda: plot_alignment_sinograms(IMAGES[:0], IMAGES[:0], []), "not empty"),
        (lambda: plot_alignment_sinograms(IMAGES, IMAGES, TILTS[1:]), "one angle per projection"),
        (lambda: plot_alignment_sinograms(IMAGES, IMAGES, TILTS, y=12), "slice from 0 to 11"),
        (
            lambda: plot_alignment_sinograms(IMAGES, IMAGES, TILTS, pixel_size=-1.0),
            "positive length",
        ),
        (lambda: plot_alignment_sinograms(IMAGES, IMAGES, TILTS, axis_offset=np.nan), "finite"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()

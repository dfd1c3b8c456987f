# SPDX-License-Identifier: GPL-3.0-or-later
"""Which way is up: panels, figures and pages draw y downwards and z upwards, so that none is the mirror image of another."""

import base64
import io
import re

import numpy as np
import pytest

import hyperspy_multitomo as mt
from hyperspy_multitomo.inspection.maximum_projection import plot_volume
from hyperspy_multitomo.inspection.orthoslices import plot_orthoslices
from hyperspy_multitomo.inspection.report import Page
from hyperspy_multitomo.inspection.series_plots import plot_projections
from hyperspy_multitomo.inspection.volume_plots import (
    plot_comparison,
    plot_composition,
    plot_slices,
)

pytest.importorskip("link_traits", reason="the packages for panels are in the extra gui")

from hyperspy_multitomo.widgets.alignment_panel import AlignmentPanel
from hyperspy_multitomo.widgets.composition_panel import CompositionPanel
from hyperspy_multitomo.widgets.pictures import png
from hyperspy_multitomo.widgets.reconstruction_panel import ReconstructionPanel
from hyperspy_multitomo.widgets.response_ratios_panel import ResponseRatiosPanel
from hyperspy_multitomo.widgets.tilt_series_panel import TiltSeriesPanel

TILTS = np.arange(-60.0, 61.0, 15.0)
DEPTH, WIDTH, HEIGHT = 20, 24, 16  # z, x, y
# The object is a ball at large z, large x and small y.
Z, X, Y = 15, 18, 4


def ball(z=Z, x=X, y=Y, radius=2.5):
    """Return the volume (z, x, y)."""
    grid = np.indices((DEPTH, WIDTH, HEIGHT))
    return (
        sum((axis - at) ** 2 for axis, at in zip(grid, (z, x, y), strict=True)) < radius**2
    ).astype(np.float32)


def images():
    """Return projections (tilt, y, x) of the ball."""
    turn = np.deg2rad(TILTS)
    u = (
        (X - (WIDTH - 1) / 2) * np.cos(turn)
        + (Z - (DEPTH - 1) / 2) * np.sin(turn)
        + (WIDTH - 1) / 2
    )
    y, x = np.indices((HEIGHT, WIDTH))
    return 100 * np.sqrt(np.maximum(2.5**2 - (x - u[:, None, None]) ** 2 - (y - Y) ** 2, 0))


def series():
    haadf = mt.TiltSeriesHAADF.from_images(images(), tilts=TILTS, pixel_size=1.0)
    return haadf, mt.TiltSeriesEDS.from_maps({"Au": images().round()}, tilts=TILTS, pixel_size=1.0)


def volume(quantity="counts / nm"):
    return mt.TomographicVolume.from_arrays(
        {"Au": ball().transpose(0, 2, 1)}, 1.0, quantity=quantity
    )


def place(picture: bytes) -> tuple[float, float]:
    """Return how far down and to the right the brightest part of a picture is, 0 to 1."""
    from PIL import Image

    grey = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"), dtype=float).max(axis=2)
    rows, columns = np.nonzero(grey > 0.9 * grey.max())
    return (rows.mean() + 0.5) / grey.shape[0], (columns.mean() + 0.5) / grey.shape[1]


# Where the middle of the ball is from the top and from the left, in pictures with y and with z.
AT_Y, AT_Z, AT_X = (Y + 0.5) / HEIGHT, 1 - (Z + 0.5) / DEPTH, (X + 0.5) / WIDTH


def assert_placed(picture: bytes, down: float, right: float, within=0.06):
    assert place(picture) == pytest.approx((down, right), abs=within)


def test_first_row_is_at_the_top():
    rows = np.arange(12.0).reshape(4, 3)
    assert place(png(rows, (0, 11)))[0] > 0.5
    assert place(png(rows, (0, 11), upward=True))[0] < 0.5


def test_panel_of_the_alignment():
    panel = AlignmentPanel(series()[0], threaded=False, y=Y, iterations=10)
    panel.trait_set(y=Y, iterations=10, tilt=len(TILTS) // 2)
    assert_placed(panel.overlay_picture, AT_Y, place(panel.overlay_picture)[1])
    # The volume of the panel is as deep as the images are wide.
    assert_placed(panel.slice_picture, 1 - (Z - (DEPTH - 1) / 2 + WIDTH / 2) / WIDTH, AT_X)
    # Tilts go up, and the ball, which lies high, goes right with them.
    panel.tilt = 0
    marks = mark_rows(panel.recorded_picture)
    assert marks.min() > 0.9
    panel.tilt = len(TILTS) - 1
    assert mark_rows(panel.recorded_picture).max() < 0.1


def mark_rows(picture: bytes) -> np.ndarray:
    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
    yellow = (pixels[..., 0] == 255) & (pixels[..., 2] == 0)
    return np.flatnonzero(yellow.any(axis=1)) / len(pixels)


def test_panel_of_the_reconstruction():
    panel = ReconstructionPanel(series()[1], threaded=False, iterations=10)
    panel.y = Y
    for name in ("alone_element", "shown_element", "shown_mix"):
        assert_placed(getattr(panel, name), 1 - (Z - (DEPTH - 1) / 2 + WIDTH / 2) / WIDTH, AT_X)


def test_panel_of_the_response_ratios():
    haadf, eds = series()
    panel = ResponseRatiosPanel(eds, haadf, threaded=False, mask_level=0.9)
    panel.tilt = len(TILTS) // 2
    assert_placed(panel.measured, AT_Y, AT_X)
    eds.data[:, :, HEIGHT // 2 :] = 0
    haadf.data[:, Y + 1 :] *= 0.2
    panel = ResponseRatiosPanel(eds, haadf, threaded=False, block_size=2)
    panel.fit()
    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(panel.residual)).convert("RGB"), dtype=float)
    red = pixels[..., 0] - pixels[..., 2]
    # The HAADF is brighter than the maps say at small y.
    assert np.nonzero(red > 0.5 * red.max())[0].mean() < np.nonzero(red < 0.5 * red.min())[0].mean()


def test_panel_of_the_tilt_series():
    panel = TiltSeriesPanel(series()[0], threaded=False)
    panel.begin()
    assert_placed(panel.image_picture, AT_Y, AT_X)
    panel.counts, panel.energy, panel.spectra_tilts = (
        images()[..., None].repeat(3, axis=3),
        np.array([1.0, 1.1, 1.2]),
        TILTS,
    )
    panel.draw_map(0.0)
    assert_placed(panel.map_picture, AT_Y, AT_X)


def test_panel_of_the_composition():
    two = {"Au": ball(), "Ag": ball(z=4, x=5, y=12)}
    both = mt.TomographicVolume.from_arrays(
        {name: array.transpose(0, 2, 1) for name, array in two.items()}, 1.0, quantity="counts / nm"
    )
    panel = CompositionPanel(both, factors={"Au": 1.0, "Ag": 1.0}, threaded=False)
    for plane, position, down, right in (
        ("xy", Z, AT_Y, AT_X),
        ("xz", Y, AT_Z, AT_X),
        ("yz", X, AT_Z, AT_Y),
    ):
        panel.plane = plane
        panel.position = position
        # Grey lies outside; what is in the particle is 100 % gold.
        assert particle_place(panel.section_Au) == pytest.approx((down, right), abs=0.02), plane


def particle_place(picture: bytes) -> tuple[float, float]:
    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"), dtype=int)
    rows, columns = np.nonzero(np.ptp(pixels, axis=2) > 50)
    return (rows.mean() + 0.5) / len(pixels), (columns.mean() + 0.5) / pixels.shape[1]


def figures():
    one, names = ball()[None], ["Au"]
    yield plot_projections(images().transpose(0, 2, 1)[None], TILTS, names), [("y", AT_Y, AT_X)]
    sections = [("y", AT_Y, AT_X), ("z", AT_Z, AT_X), ("z", AT_Z, AT_Y)]
    yield plot_slices(one, names, position=(Z, X, Y)), sections
    unfolded = [("y", AT_Y, AT_X), ("z", AT_Z, AT_X), ("y", AT_Y, 1 - AT_Z)]
    yield plot_orthoslices(one, names, position=(Z, X, Y)), unfolded
    for plane, at, section in zip(("xy", "xz", "yz"), (Z, Y, X), sections, strict=True):
        yield plot_comparison({"truth": one}, names, plane=plane, position=at), [section]
    middle = np.roll(one, [6 - Z + 4, 0, 0], axis=(1, 2, 3))
    yield plot_composition(100 * middle, names, mask=middle[0] >= 0), [("y", AT_Y, AT_X)]
    for direction, section in (
        ("z", sections[0]),
        ("y", sections[1]),
        ("x", unfolded[2]),
        (0.0, sections[0]),
    ):
        yield plot_volume(one, names, direction=direction, depth_cue=0.0), [section]


def test_figures():
    for figure, expected in figures():
        figure.draw_without_rendering()
        shown = [axes for axes in figure.axes if axes.images and axes.get_label() != "<colorbar>"]
        for axes, (vertical, down, right) in zip(shown, expected, strict=False):
            array = np.asarray(axes.images[0].get_array(), dtype=float)
            array = array.max(axis=2) if array.ndim == 3 else array
            rows, columns = np.nonzero(array > 0.9 * np.nanmax(array))
            at = axes.transAxes.inverted().transform(
                axes.transData.transform((columns.mean(), rows.mean()))
            )
            assert (1 - at[1], at[0]) == pytest.approx((down, right), abs=0.03), (
                figure.get_suptitle()
            )
            # The turned label reads upwards: its arrow points the way the axis grows.
            assert axes.get_ylabel() == {"y": "← y", "z": "z →"}[vertical]


def test_pages_hold_figures_as_they_are():
    page = Page("A particle")
    page.figure(plot_projections(images().transpose(0, 2, 1)[None], TILTS, ["Au"]), "At 0°.")
    drawn = base64.b64decode(re.search(r"base64,([^\"]+)", page.html())[1])
    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(drawn)).convert("RGB"), dtype=int)
    # The picture is black where nothing is, its colour scale beside it is a narrow strip.
    dark = (pixels < 20).all(axis=2)
    rows, columns = (np.flatnonzero(dark.sum(axis=axis) > 100) for axis in (1, 0))
    inside = pixels[rows[0] : rows[-1], columns[0] : columns[-1], 0]
    assert np.nonzero(inside[: int(0.8 * len(inside))] > 200)[0].mean() / len(
        inside
    ) == pytest.approx(AT_Y, abs=0.06)

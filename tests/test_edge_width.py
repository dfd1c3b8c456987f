# SPDX-License-Identifier: GPL-3.0-or-later
"""Widths of edges: known blurs, anisotropic ones, noise, and volumes without edges."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import hyperspy_multitomo as mt
from hyperspy_multitomo.evidence import edge_widths
from hyperspy_multitomo.evidence.edge_width import TEN_TO_NINETY, NoOutlineError
from hyperspy_multitomo.inspection import elongation_factor
from hyperspy_multitomo.tomography import TiltGeometry, fbp, projector, run, sirt


def ball(radius=22.0, size=64, shape=None):
    z, x, y = np.meshgrid(
        *(np.arange(n) - (n - 1) / 2 for n in shape or 3 * (size,)), indexing="ij"
    )
    return np.clip(radius - np.sqrt(z * z + x * x + y * y) + 0.5, 0, 1)


def cube(half=18, size=64):
    inside = np.abs(np.arange(size) - (size - 1) / 2) < half
    return np.einsum("i,j,k->ijk", inside, inside, inside).astype(float)


def sigmas(volume, **options):
    return {axis: fit.width / TEN_TO_NINETY for axis, fit in edge_widths(volume, **options).items()}


@pytest.mark.slow
@pytest.mark.parametrize("body", [ball, cube])
@pytest.mark.parametrize("blur", [1.0, 2.0, 4.0, 6.0])
def test_known_blurs_come_out_within_a_tenth(body, blur):
    assert list(sigmas(gaussian_filter(body(), blur)).values()) == pytest.approx(
        3 * [blur], rel=0.1
    )


@pytest.mark.slow
@pytest.mark.parametrize("blur", [1.0, 3.0, 6.0])
def test_they_do_with_noise_of_a_fifth_of_the_contrast(blur):
    noise = np.random.default_rng(0).normal(0, 0.2, 3 * (64,))
    fits = edge_widths(gaussian_filter(ball(), blur) + noise)
    for fit in fits.values():
        width = TEN_TO_NINETY * blur
        assert fit.width == pytest.approx(width, rel=0.1)
        assert abs(fit.width - width) < 4 * fit.error + 0.05 * width
        assert fit.noise == pytest.approx(0.2, rel=0.15)


def test_each_axis_has_its_own_width_and_spacing():
    blurred = gaussian_filter(cube(), (4.0, 2.0, 1.0))
    found = sigmas(blurred, spacing=(0.5, 1.0, 2.0))
    assert found == pytest.approx({"z": 2.0, "x": 2.0, "y": 2.0}, rel=0.1)


def test_neither_scale_nor_offset_matters():
    blurred = gaussian_filter(cube(10, 40), 1.5)
    assert sigmas(7 - 1e3 * blurred) == pytest.approx(sigmas(blurred), rel=1e-3)


def test_one_slice_has_edges_along_x_and_z_alone():
    disc = gaussian_filter(ball(shape=(64, 64, 1)), (2, 2, 0))
    fits = edge_widths(disc)
    assert fits["y"].profiles == 0
    assert np.isnan(fits["y"].width)
    assert [fits[axis].width / TEN_TO_NINETY for axis in "xz"] == pytest.approx([2, 2], rel=0.1)


def test_what_touches_the_rim_has_edges_inside_only():
    """A rod through all slices, and a film through all of x."""
    rod = gaussian_filter(np.broadcast_to(ball(14, shape=(48, 48, 1)), (48, 48, 24)), (2, 2, 0))
    fits = edge_widths(rod)
    assert fits["y"].profiles == 0
    assert fits["x"].width / TEN_TO_NINETY == pytest.approx(2, rel=0.1)
    film = np.zeros((48, 32, 16))
    film[16:32] = 1.0
    fits = edge_widths(gaussian_filter(film, (1.5, 0, 0)))
    assert fits["x"].profiles == fits["y"].profiles == 0
    assert fits["z"].width / TEN_TO_NINETY == pytest.approx(1.5, rel=0.1)


def test_a_mask_picks_one_of_two_bodies():
    two = np.concatenate(
        [gaussian_filter(cube(10, 40), 1.0), gaussian_filter(cube(10, 40), 3.0)], axis=1
    )
    second = np.zeros(two.shape, bool)
    second[:, 40:] = True
    assert sigmas(two, mask=second)["x"] == pytest.approx(3, rel=0.1)
    assert sigmas(two, mask=~second)["x"] == pytest.approx(1, rel=0.1)


def test_noise_that_hides_edges_gives_no_width():
    noisy = gaussian_filter(cube(10, 40), 1.0) + np.random.default_rng(0).normal(0, 1.5, 3 * (40,))
    assert all(np.isnan(fit.width) for fit in edge_widths(noisy).values())


def test_speckle_has_no_outline():
    """Bright voxels here and there, as in volumes of very few counts."""
    speckle = (np.random.default_rng(0).random((40, 40, 40)) > 0.995).astype(float)
    with pytest.raises(NoOutlineError, match="outline is broken"):
        edge_widths(speckle)


def test_bad_input_is_refused():
    with pytest.raises(NoOutlineError, match="3 everywhere"):
        edge_widths(np.full((16, 16, 16), 3.0))
    with pytest.raises(ValueError, match=r"\(z, x, y\)"):
        edge_widths(np.ones((16, 16)))
    with pytest.raises(ValueError, match="finite"):
        edge_widths(np.full((16, 16, 16), np.nan))
    with pytest.raises(ValueError, match="mask has the shape"):
        edge_widths(cube(5, 16), mask=np.ones((2, 2, 2)))


def volume(pixel_size=0.5, lazy=False, **more):
    """A volume with z, y and x of different lengths."""
    body = gaussian_filter(cube(10, 40), (1.0, 2.0, 1.5))[2:-3]
    arrays = {"Au": body.transpose(0, 2, 1), **more}
    made = mt.TomographicVolume.from_arrays(arrays, pixel_size=pixel_size)
    return made.as_lazy() if lazy else made


@pytest.mark.parametrize("lazy", [False, True])
def test_of_a_volume_in_nm_and_px(lazy):
    found = volume(lazy=lazy).edge_width()
    expected = {"x": 2.0, "y": 1.5, "z": 1.0}
    for axis, blur in expected.items():
        assert found.widths["Au"][axis] == pytest.approx(0.5 * TEN_TO_NINETY * blur, rel=0.1)
    assert found.unit == "nm"
    in_px = volume(pixel_size=None).edge_width()
    assert in_px.unit == "px"
    assert in_px.widths["Au"]["x"] == pytest.approx(2 * found.widths["Au"]["x"], rel=1e-3)


def test_of_a_volume_it_is_printed_and_drawn():
    found = volume().edge_width()
    first, head, row = str(found).splitlines()
    assert "nm" in first
    assert head.split() == ["channel", "along", "x", "along", "y", "along", "z"]
    assert row.startswith("Au")
    assert row.count("±") == 3
    (axes,) = found.plot().axes
    assert axes.get_title() == "Au"
    assert "2.5" in axes.get_legend().get_texts()[0].get_text()


def test_an_empty_channel_has_no_edges_and_a_warning():
    with pytest.warns(UserWarning, match="Ag has no edges: it is 0 everywhere"):
        found = volume(Ag=np.zeros((35, 40, 40))).edge_width()
    assert np.isnan(found.widths["Ag"]["x"])
    assert "Ag: it is 0 everywhere" in str(found)
    assert found.plot().axes[0].get_title() == "Au"
    with pytest.raises(ValueError, match="no channel has an outline"):
        volume(Ag=np.zeros((35, 40, 40)))["Ag"].edge_width()


def test_of_a_volume_bad_calls_are_refused():
    with pytest.raises(ValueError, match="channels='Pt'"):
        volume().edge_width("Pt")
    with pytest.raises(ValueError, match="mask"):
        volume().edge_width(mask=np.ones((3, 3, 3), bool))
    percent = volume().quantify("CL", factors={"Au": 1.0}, threshold=0.5)
    with pytest.raises(ValueError, match="edges are those of the mask"):
        percent.edge_width()


@pytest.mark.slow
@pytest.mark.parametrize("tilt", [60.0, 70.0])
def test_the_elongation_factor_is_that_of_a_point_and_not_of_a_disc(tilt):
    """A point by filtered back projection, off the axis; a disc by SIRT."""
    size = 97
    z, x = np.mgrid[:size, :size] - (size - 1) / 2
    A = projector(TiltGeometry(np.arange(-tilt, tilt + 0.1, 2.0), size))
    point = np.exp(-((z - 5) ** 2 + (x - 10) ** 2) / (2 * 2.0**2))
    found = fbp(A, A(point[None, ..., None].astype(np.float32)))[0, ..., 0]
    middle = (size - 1) // 2
    ratio = full_width(found[:, middle + 10]) / full_width(found[middle + 5])
    assert ratio == pytest.approx(elongation_factor(tilt), rel=0.1)
    disc = np.clip(27 - np.hypot(z, x) + 0.5, 0, 1)[None, ..., None].astype(np.float32)
    fits = edge_widths(run(sirt(A, A(disc)), 100).volume[0])
    assert fits["z"].width / fits["x"].width > 1.5 * elongation_factor(tilt)


def full_width(line):
    """Full width at half maximum, interpolated."""
    line = line / line.max()
    first, *_, last = np.flatnonzero(line >= 0.5)
    before = (line[first] - 0.5) / (line[first] - line[first - 1])
    return last - first + before + (line[last] - 0.5) / (line[last] - line[last + 1])

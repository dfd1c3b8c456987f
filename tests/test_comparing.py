# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes side by side: what is drawn, on which grid, and what cannot be compared."""

import numpy as np
import pytest

import hyperspy_multitomo as mt
from hyperspy_multitomo.inspection import plot_side_by_side


def volume(scale=1.0, shape=(10, 6, 12), pixel_size=2.0, channels=("Au", "Ag"), lazy=False):
    """A block off the centre, in each channel of another brightness."""
    data = np.zeros(shape, np.float32)
    data[2:6, 1:4, 5:10] = scale
    arrays = {name: (1 + number) * data for number, name in enumerate(channels)}
    made = mt.TomographicVolume.from_arrays(arrays, pixel_size=pixel_size)
    return made.as_lazy() if lazy else made


def panels(figure):
    """Images of the panels, by row; colour scales left out."""
    return [axes.get_images()[0] for axes in figure.axes if axes.get_images()]


def test_columns_are_volumes_and_their_differences():
    figure = mt.compare({"A": volume(), "B": volume(2.0), "C": volume(0.5)}, planes=["xz"])
    titles = [axes.get_title() for axes in figure.axes[:5]]
    assert titles == ["A", "B", "C", "B − A", "C − A"]
    shown = panels(figure)
    assert len(shown) == 10  # five columns for each of two channels
    np.testing.assert_allclose(shown[3].get_array(), shown[1].get_array() - shown[0].get_array())
    # One scale for a channel, and one that is even about 0 for its differences.
    assert len({image.get_clim() for image in shown[:3]}) == 1
    low, high = shown[3].get_clim()
    assert low == -high
    assert shown[8].get_clim() == (2 * low, 2 * high)


def test_sections_go_through_the_position_and_are_linked():
    data = np.random.default_rng(0).random((10, 6, 12)).astype(np.float32)
    one = mt.TomographicVolume.from_arrays({"Au": data}, pixel_size=2.0)
    axes = {axis.name: axis for axis in one.axes_manager._axes}
    x, y, z = (
        axes[name].offset + 2.0 * place for name, place in zip("xyz", (7, 3, 4), strict=True)
    )
    figure = mt.compare({"A": one, "B": one}, position=(x, y, z), difference=False)
    above, _, below, _ = panels(figure)
    np.testing.assert_array_equal(above.get_array(), data[4])  # (y, x)
    np.testing.assert_array_equal(below.get_array(), data[:, 3])  # (z, x)
    first, second, third = figure.axes[:3]
    second.set_xlim(1, 5)
    assert first.get_xlim() == (1, 5)
    assert third.get_xlim() != (1, 5)


def test_what_all_hold_is_drawn():
    """A volume that is less deep, and one that was cropped along x."""
    whole = volume()
    part = whole.inav[:, 1:-2]
    cropped = whole.isig[3:, :]
    figure = mt.compare({"A": whole, "B": part, "C": cropped}, planes=["xz"])
    shown = panels(figure)
    assert {image.get_array().shape for image in shown} == {(7, 9)}
    for image in shown[3:5]:
        assert np.abs(image.get_array()).max() == 0
    away = whole.isig[:3, :]
    with pytest.raises(ValueError, match="no place that all volumes hold"):
        mt.compare({"A": away, "C": cropped})
    with pytest.raises(ValueError, match="outside of what all"):
        mt.compare({"A": whole, "B": part}, position=(0.0, 4.0, whole.axes_manager[1].offset))


def test_lazy_volumes_and_single_channels():
    eager, lazy = (mt.compare({"A": volume(lazy=one), "B": volume()}) for one in (False, True))
    for first, second in zip(panels(eager), panels(lazy), strict=True):
        np.testing.assert_allclose(first.get_array(), second.get_array())
    single = mt.compare({"A": volume(), "B": volume(channels=("Ag",))}, planes=["xz"])
    assert len(panels(single)) == 3


def test_of_volumes_without_calibration_and_of_one_slice():
    thin = volume(shape=(10, 4, 12), pixel_size=None).isig[:, 1:2]
    figure = mt.compare({"A": thin, "B": thin * 2})
    assert figure.get_suptitle().endswith("px")


@pytest.mark.parametrize(
    ("volumes", "keywords", "error", "message"),
    [
        ({}, {}, ValueError, "empty"),
        ([1, 2], {}, TypeError, "dict of title to volume"),
        ({"A": np.ones((3, 3, 3))}, {}, TypeError, "TomographicVolume"),
        ({"A": volume(), "B": volume(pixel_size=1.0)}, {}, ValueError, "voxels of one size"),
        ({"A": volume(), "B": volume(pixel_size=None)}, {}, ValueError, "voxels of one size"),
        ({"A": volume(), "B": volume(channels=("Pt",))}, {}, ValueError, "no channel in common"),
        ({"A": volume()}, {"channels": "Pt"}, ValueError, "Pt"),
        ({"A": volume()}, {"planes": ["ab"]}, ValueError, "planes"),
        ({"A": volume()}, {"planes": "xz"}, TypeError, "list"),
        ({"A": volume()}, {"position": (0.0, 0.0)}, ValueError, "three numbers"),
        ({"A": volume()}, {"difference": "no"}, TypeError, "difference"),
    ],
)
def test_bad_calls_are_refused(volumes, keywords, error, message):
    with pytest.raises(error, match=message):
        mt.compare(volumes, **keywords)


def test_other_units_and_shifted_grids_are_refused():
    whole = volume()
    percent = whole.quantify("CL", factors={"Au": 1.0, "Ag": 1.0}, threshold=0.5)
    with pytest.raises(ValueError, match="one unit"):
        mt.compare({"A": whole, "B": percent})
    shifted = whole.deepcopy()
    next(axis for axis in shifted.axes_manager._axes if axis.name == "x").offset += 0.8
    with pytest.raises(ValueError, match=r"shifted by 0\.40"):
        mt.compare({"A": whole, "B": shifted})


def test_plain_arrays_that_do_not_fit_are_refused():
    one = np.ones((1, 4, 4, 4))
    with pytest.raises(ValueError, match="one shape"):
        plot_side_by_side({"A": one, "B": one[..., :2]}, ["Au"])
    with pytest.raises(ValueError, match="names"):
        plot_side_by_side({"A": one}, ["Au", "Ag"])
    with pytest.raises(ValueError, match="position"):
        plot_side_by_side({"A": one}, ["Au"], position=(0, 9, 0))

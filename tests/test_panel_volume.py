# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel of a volume shows the voxels it says, its controls and its state agree, and it changes nothing."""

import io
import sys
import threading

import numpy as np
import pytest
import traits.api as t

from hyperspy_multitomo import TomographicVolume

pytest.importorskip("link_traits", reason="the packages for panels are in the extra gui")
pytest.importorskip("k3d", reason="the packages for panels are in the extra gui")

from hyperspy_multitomo.signals.metadata.saving import save_atomically
from hyperspy_multitomo.widgets.surfaces import MOST, Surfaces, binned_and_padded
from hyperspy_multitomo.widgets.volume_panel import VolumePanel

SHAPE = (32, 20, 40)  # z, y, x
PICTURES = ("xz", "yz", "xy", "profile")


def make_volume(shape=SHAPE, pixel_size=0.5, quantity="counts / nm"):
    """Gold fills the half with high x, silver one voxel-wide block near a corner."""
    gold, silver = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    gold[:, :, shape[2] // 2 :] = 4.0
    silver[-6:-2, : max(shape[1] // 4, 1), 3:9] = 2.0
    return TomographicVolume.from_arrays({"Au": gold, "Ag": silver}, pixel_size, quantity=quantity)


def opened(volume=None, **kwds):
    panel = VolumePanel(volume if volume is not None else make_volume(), threaded=False, **kwds)
    return panel, panel.gui(display=False)["ipywidgets"]["wdict"]


def pixels(picture):
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))


def pictures(panel):
    return {name: getattr(panel, name) for name in PICTURES}


CONTROLS = {
    "x": 3.25,
    "y": 2.0,
    "z": -1.75,
    "along": "z",
    "cut": "x",
    "file_name": "other.html",
    "overwrite": True,
}
OF_A_CHANNEL = {
    "shown": False,
    "colour": "#00ff00",
    "brightness": 2.5,
    "level": 1.25,
    "opacity": 0.4,
}


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_and_its_trait_follow_each_other(name):
    panel, widgets = opened()
    before = getattr(panel, name)
    widgets[name].value = CONTROLS[name]
    assert getattr(panel, name) == CONTROLS[name] != before
    setattr(panel, name, before)
    assert widgets[name].value == before
    assert panel.message == ""


@pytest.mark.parametrize("name", OF_A_CHANNEL)
def test_a_control_of_an_element_changes_that_element_only(name):
    panel, widgets = opened()
    gold, silver = panel.channels
    before = getattr(gold, name)
    widgets[f"{name}_Ag"].value = OF_A_CHANNEL[name]
    assert getattr(silver, name) == OF_A_CHANNEL[name]
    assert getattr(gold, name) == before == widgets[f"{name}_Au"].value
    setattr(silver, name, before)
    assert widgets[f"{name}_Ag"].value == before


def test_labels_are_unique_and_have_units():
    _, widgets = opened()
    labels = [w.description for w in widgets.values() if getattr(w, "description", "")]
    assert len(labels) == len(set(labels)) == 3 + 1 + 2 * 5 + 1 + 2 + 2 + 2
    assert {
        "x (nm)",
        "y (nm)",
        "z (nm)",
        "Level of Au (counts / nm)",
        "Brightness of Ag (×)",
    } <= set(labels)
    _, widgets = opened(make_volume(pixel_size=None))
    assert widgets["x"].description == "x (px)"
    names = [
        name
        for name in widgets
        if name not in (*PICTURES, "values", "plot", "tabs", "progress", "message")
    ]
    assert all(widgets[name].tooltip.endswith(".") for name in names)


def test_sliders_go_from_the_first_voxel_to_the_last():
    volume = make_volume()
    panel, widgets = opened(volume)
    for axis in volume.axes_manager._axes:
        if axis.name in "xyz":
            assert (widgets[axis.name].min, widgets[axis.name].max) == pytest.approx(
                (axis.axis[0], axis.axis[-1])
            )
            assert widgets[axis.name].step == pytest.approx(axis.scale)
            for index in (7, axis.size - 1):
                setattr(
                    panel,
                    axis.name,
                    float(
                        np.clip(axis.axis[index], widgets[axis.name].min, widgets[axis.name].max)
                    ),
                )
                assert panel.position(axis.name) == index


def test_micrometres_are_shown_as_nanometres():
    volume = make_volume()
    for axis in volume.axes_manager._axes:
        if axis.name in "xyz":
            axis.scale, axis.offset, axis.units = axis.scale / 1000, axis.offset / 1000, "µm"
    panel, _ = opened(volume)
    assert panel.step("z") == pytest.approx(0.5)
    assert (panel.low_x, panel.high_x) == pytest.approx((-9.75, 9.75))


def test_sections_show_the_voxels_with_y_down_and_z_up():
    panel, _ = opened()
    panel.y = 0.5
    gold, silver = (
        (np.array([int(c.colour[i : i + 2], 16) for i in (1, 3, 5)])) for c in panel.channels
    )
    xz = pixels(panel.xz)[20:]
    assert xz.shape == (256, 320, 3)  # 8 px a voxel
    # Away from the cursor and the bar: gold at high x, silver at high z (up) and low x.
    np.testing.assert_allclose(xz[100, 300], gold, atol=1)
    np.testing.assert_array_equal(xz[100, 100], 0)
    np.testing.assert_allclose(xz[4 * 8, 6 * 8], silver, atol=1)
    np.testing.assert_array_equal(xz[-4 * 8 - 30, 6 * 8], 0)
    panel.z = panel.high_z - 1.5
    xy = pixels(panel.xy)[20:]
    assert xy.shape == (160, 320, 3)
    # Silver has low y: it is at the top.
    np.testing.assert_allclose(xy[3 * 8 + 4, 4 * 8 + 4], silver, atol=1)
    np.testing.assert_array_equal(xy[-20, 6 * 8], 0)
    panel.x = panel.low_x + 4 * 0.5
    yz = pixels(panel.yz)[20:]
    assert yz.shape[:2] == (256, 190)  # 160 px of section
    np.testing.assert_allclose(yz[4 * 8 + 4, 3 * 8 - 4], silver, atol=1)
    np.testing.assert_array_equal(yz[-4 * 8, 3 * 8 - 4], 0)


def test_the_cursor_lies_on_its_voxel():
    panel, _ = opened()
    for channel in panel.channels:
        channel.shown = False
    panel.trait_set(x=panel.low_x + 3 * 0.5, y=panel.low_y + 4 * 0.5, z=panel.low_z + 5 * 0.5)
    # The lines go through the middle of voxel 4 of y from the top, 5 of z from the bottom; without
    # elements all else is black.
    x, y, z = 3 * 8 + 4, 4 * 8 + 4, 256 - 5 * 8 - 4
    for name, row, column in (("xy", y, x), ("xz", z, x), ("yz", z, y)):
        lines = pixels(getattr(panel, name))[20:, :160, 0] == 110
        assert np.flatnonzero(lines.sum(axis=1) > 40).tolist() == [row], name
        assert np.flatnonzero(lines.sum(axis=0) > 40).tolist() == [column], name


def test_the_bar_is_as_long_as_it_says():
    panel, _ = opened(make_volume(pixel_size=0.5))
    xz = pixels(panel.xz)[20:]
    row = (xz[-10] == 255).all(axis=1)
    # 5 nm at 16 px per nm, less the black edge at either end.
    assert row[:100].sum() == 5 * 16 - 2


def test_pictures_change_with_the_controls_that_they_depend_on():
    panel, widgets = opened()
    panel.y = 1.0
    for name, value, changed in (
        ("x", -8.0, PICTURES),
        ("z", 6.75, PICTURES),
        ("along", "y", ("profile",)),
        ("brightness_Au", 0.5, ("xz", "xy")),
        ("colour_Ag", "#ff00ff", PICTURES),
        ("shown_Ag", False, PICTURES),
        ("level_Au", 1.0, ()),
    ):
        before = pictures(panel)
        widgets[name].value = value
        after = pictures(panel)
        assert {n for n in PICTURES if before[n] != after[n]} == set(changed), name
        assert all(widgets[n].value == after[n] for n in PICTURES)
    widgets["shown_Au"].value = False
    assert panel.values == "No element is shown."
    assert pixels(panel.xz)[20 + 100, 300].max() == 0


def test_the_voxel_at_the_cursor_is_told():
    panel, widgets = opened()
    assert panel.values == widgets["values"].value == "At the cursor (counts / nm): Au 4, Ag 0"
    panel.trait_set(x=-8.0, y=0.0, z=6.25)
    assert panel.values == "At the cursor (counts / nm): Au 0, Ag 2"


def test_percent_is_shown_from_0_to_100():
    panel, _ = opened(make_volume(quantity="weight percent"))
    assert panel.channels[0].limits == (0.0, 100.0)


def test_what_is_out_of_range_is_refused():
    panel, widgets = opened()
    for name in ("x", "y", "z"):
        with pytest.raises(t.TraitError):
            setattr(panel, name, 1000.0)
    with pytest.raises(t.TraitError):
        panel.channels[0].level = -1.0
    with pytest.raises(t.TraitError, match="a colour"):
        panel.channels[0].colour = "goldish"
    widgets["x"].value = 1000.0
    assert widgets["x"].value == panel.x == panel.high_x


@pytest.mark.parametrize("shape", [(32, 1, 32), (1, 20, 32)])
def test_single_slices_and_single_channels(shape):
    volume = make_volume(shape)["Au"]
    panel, widgets = opened(volume)
    assert [channel.name for channel in panel.channels] == ["Au"]
    flat = "y" if shape[1] == 1 else "z"
    assert widgets[flat].disabled
    assert widgets[flat].min < widgets[flat].max
    assert all(min(pixels(picture).shape[:2]) >= 24 for picture in pictures(panel).values())
    panel.build()
    assert panel.message == "The 3-D view is ready."
    assert panel.surfaces.meshes["Au"].scalar_field.shape == tuple(np.array(shape) + 2)


def test_volumes_without_names_lazy_ones_and_empty_ones():
    plain = TomographicVolume.from_arrays(np.zeros((8, 9, 10)), 1.0)
    panel, _ = opened(plain)
    assert panel.values == "At the cursor (arbitrary units): volume 0"
    whole, lazy = opened()[0], opened(make_volume().as_lazy())[0]
    assert pictures(whole) == pictures(lazy)
    broken = make_volume()
    broken.data[...] = np.nan
    assert pixels(opened(broken)[0].xz)[20 + 100, 300].max() == 0
    with pytest.raises(ValueError, match="no axis z"):
        VolumePanel(make_volume().inav[:, 3])


def test_surfaces_lie_where_the_voxels_are():
    panel, widgets = opened()
    assert widgets["snapshot_button"].disabled
    widgets["level_Ag"].value = 1.25
    widgets["build_button"].click()
    mesh = panel.surfaces.meshes["Ag"]
    # k3d is right-handed, the pictures are not: its second axis is -y.
    np.testing.assert_array_equal(
        mesh.scalar_field[1:-1, 1:-1, 1:-1], make_volume()["Ag"].data[:, ::-1]
    )
    assert panel.surfaces.plot.axes == ["x", "-y", "z"]
    assert mesh.level == 1.25
    # The zeros around the volume are one voxel outside of it.
    matrix = mesh.model_matrix
    low, high = matrix[:3, 3] - np.diag(matrix)[:3] / 2, matrix[:3, 3] + np.diag(matrix)[:3] / 2
    np.testing.assert_allclose(
        low, [panel.low_x - 0.5, -panel.high_y - 0.5, panel.low_z - 0.5], atol=1e-5
    )
    np.testing.assert_allclose(
        high, [panel.high_x + 0.5, -panel.low_y + 0.5, panel.high_z + 0.5], atol=1e-5
    )
    assert widgets["plot"].children == (panel.surfaces.plot,)
    assert not widgets["snapshot_button"].disabled


def test_surfaces_follow_the_controls():
    panel, widgets = opened()
    widgets["build_button"].click()
    first = panel.surfaces.meshes["Au"]
    widgets["build_button"].click()
    assert first.comm is None
    for name, value in OF_A_CHANNEL.items():
        widgets[f"{name}_Ag"].value = value
    mesh, other = panel.surfaces.meshes["Ag"], panel.surfaces.meshes["Au"]
    assert (mesh.visible, mesh.color, mesh.level, mesh.opacity) == (False, 0x00FF00, 1.25, 0.4)
    assert (other.visible, other.opacity) == (True, 0.7)
    widgets["cut"].value = "z"
    widgets["z"].value = 1.25
    assert list(panel.surfaces.plot.clipping_planes) == [[0.0, 0.0, -1.0, 1.25]]
    widgets["cut"].value = "x"
    assert list(panel.surfaces.plot.clipping_planes) == [[-1.0, 0.0, 0.0, panel.x]]
    widgets["cut"].value = "nothing"
    assert list(panel.surfaces.plot.clipping_planes) == []


def test_large_volumes_are_averaged_where_they_are():
    ramp = np.arange(2 * MOST + 1, dtype=np.float32)[None, :, None] * np.ones((2, 1, 3), np.float32)
    field, sides = binned_and_padded(ramp)
    assert sides == (1, 3, 1)
    np.testing.assert_allclose(field[1, 1:4, 1], [1.0, 4.0, 7.0])
    surfaces = Surfaces({"x": (10.0, 0.5), "y": (0.0, 1.0), "z": (0.0, 1.0)})
    surfaces.add("Au", ramp, 3.0)
    matrix = surfaces.meshes["Au"].model_matrix
    low = matrix[0, 3] - matrix[0, 0] / 2
    step = matrix[0, 0] / (field.shape[1] - 1)
    # The first three voxels are at 10, 10.5 and 11.
    assert (low + step, step) == pytest.approx((10.5, 1.5))


def test_snapshots_are_whole_pages_and_overwrite_only_when_allowed(tmp_path):
    panel, widgets = opened()
    path = tmp_path / "view"
    panel.file_name = str(path)
    panel.snapshot()
    assert panel.message == "There is no 3-D view yet: make it first"
    panel.build()
    widgets["snapshot_button"].click()
    page = path.with_suffix(".html")
    assert panel.message == f"Saved {page}"
    text = page.read_text()
    assert text.lstrip().lower().startswith("<!doctype html>")
    assert 'src="http' not in text
    assert len(text) > 1e6
    page.write_text("precious")
    widgets["snapshot_button"].click()
    assert "exists already" in panel.message
    assert page.read_text() == "precious"
    panel.surfaces.plot.get_snapshot = lambda: 1 / 0
    widgets["overwrite"].value = True
    widgets["snapshot_button"].click()
    assert panel.message == "Division by zero"
    assert page.read_text() == "precious"
    del panel.surfaces.plot.get_snapshot
    widgets["snapshot_button"].click()
    assert page.read_text() != "precious"
    assert [p.name for p in tmp_path.iterdir()] == ["view.html"]
    assert panel.surfaces.plot.menu_visibility is False


def test_saved_is_said_where_the_file_is_there_and_cancelled_where_it_is_not(tmp_path, monkeypatch):
    panel, widgets = opened()
    panel.build()
    pack = panel.surfaces.html

    def cancelled_while_packing():
        widgets["cancel_button"].click()
        return pack()

    panel.file_name = str(tmp_path / "first.html")
    with monkeypatch.context() as patched:
        patched.setattr(Surfaces, "html", lambda self: cancelled_while_packing())
        panel.snapshot()
    assert panel.message.startswith("Cancelled")
    assert not list(tmp_path.iterdir())

    def cancelled_while_writing(write, path, overwrite):
        widgets["cancel_button"].click()
        return save_atomically(write, path, overwrite)

    monkeypatch.setattr(
        "hyperspy_multitomo.widgets.volume_panel.save_atomically", cancelled_while_writing
    )
    panel.snapshot()
    assert panel.message == f"Saved {tmp_path / 'first.html'}"
    assert (tmp_path / "first.html").exists()


@pytest.mark.parametrize(
    ("name", "said"), [("", "no file name"), ("a.png", "ends in .png"), ("{}", "is a folder")]
)
def test_wrong_file_names_are_told(tmp_path, name, said):
    panel, _ = opened()
    panel.build()
    folder = tmp_path / "folder.html"
    folder.mkdir()
    panel.file_name = name.format(folder)
    panel.snapshot()
    assert said in panel.message
    assert not panel.running


def test_without_k3d_the_message_says_how_to_install_it(monkeypatch):
    panel, _ = opened()
    monkeypatch.setitem(sys.modules, "k3d", None)
    panel.build()
    assert "pip install k3d" in panel.message
    assert panel.surfaces is None


@pytest.mark.parametrize("end", ["cancel", "close"])
def test_a_cancelled_view_is_not_shown_and_the_volume_stays(monkeypatch, end):
    volume = make_volume()
    before = volume.deepcopy()
    panel = VolumePanel(volume)
    begun, go_on = threading.Event(), threading.Event()

    def slow(self, name, data, level):
        begun.set()
        assert go_on.wait(10)

    monkeypatch.setattr(Surfaces, "add", slow)
    panel.build()
    assert begun.wait(10)
    assert panel.running
    getattr(panel, end)()
    go_on.set()
    assert panel.wait(10)
    assert panel.message.startswith("Cancelled")
    assert panel.surfaces is None
    assert not panel.running
    np.testing.assert_array_equal(volume.data, before.data)
    assert str(volume.metadata) == str(before.metadata)


def test_pictures_follow_in_a_thread():
    panel, calm = VolumePanel(make_volume()), opened()[0]
    for x in (-3.25, 0.25, 2.75):
        panel.x = calm.x = x
    assert panel.wait(10)
    assert pictures(panel) == pictures(calm)


def test_explore_returns_the_widgets():
    out = make_volume().explore(display=False)["ipywidgets"]
    assert out["wdict"]["x"].description == "x (nm)"
    out["wdict"]["close_button"].click()
    assert out["widget"].comm is None

# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes in napari: with napari where it is installed, with a stand-in for it elsewhere."""

import sys
import types

import numpy as np
import pytest

import hyperspy_multitomo as mt


class StandIn:
    """The part of a viewer's model that is used."""

    def __init__(self):
        self.layers = []

    def add_image(self, data, **keywords):
        self.layers.append(types.SimpleNamespace(data=data, **keywords))


@pytest.fixture
def viewer(monkeypatch):
    try:
        from napari.components import ViewerModel
    except ImportError:
        colormaps = types.ModuleType("napari.utils.colormaps")
        colormaps.Colormap = lambda colours, name: types.SimpleNamespace(colors=colours, name=name)
        for name in ("napari", "napari.utils"):
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        monkeypatch.setitem(sys.modules, "napari.utils.colormaps", colormaps)
        return StandIn()
    return ViewerModel()


def test_layers_lie_at_the_coordinates_of_the_volume(viewer):
    counts = {"Au": np.random.default_rng(0).random((4, 5, 6)), "Ag": np.ones((4, 5, 6))}
    volume = mt.TomographicVolume.from_arrays(counts, pixel_size=2.0)
    assert volume.to_napari(["Ag", "Au"], viewer) is viewer
    silver, gold = viewer.layers
    assert (silver.name, gold.name) == ("Ag", "Au")
    np.testing.assert_array_equal(gold.data, volume.array("element", "z", "y", "x")[0])
    np.testing.assert_allclose(gold.scale, (2, 2, 2))
    axes = volume.axes_manager
    np.testing.assert_allclose(gold.translate, [axes[name].offset for name in ("z", "y", "x")])
    assert tuple(silver.contrast_limits) == (0, 1)
    assert {str(unit) for unit in gold.units} <= {"nm", "nanometer"}


def test_channels_that_are_not_there(viewer):
    volume = mt.TomographicVolume.from_arrays({"Au": np.ones((4, 5, 6))}, pixel_size=2.0)
    with pytest.raises(ValueError, match="must be one or more of Au"):
        volume.to_napari("Cu", viewer)


def test_without_napari_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "napari", None)
    monkeypatch.setitem(sys.modules, "napari.utils.colormaps", None)
    volume = mt.TomographicVolume.from_arrays({"Au": np.ones((4, 5, 6))}, pixel_size=2.0)
    with pytest.raises(ImportError, match=r"pip install .napari\[all\]"):
        volume.to_napari()

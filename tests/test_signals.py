# SPDX-License-Identifier: GPL-3.0-or-later
"""The signals: construction, round trips, and metadata that never lie."""

import copy

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_multitomo as mt
from hyperspy_multitomo.alignment import Alignment

TILTS = np.array([-40.0, -20.0, 0.0, 15.0, 50.0])


def haadf_series(**kwds):
    images = np.random.default_rng(1).random((5, 12, 16)).astype(np.float32)
    return mt.TiltSeriesHAADF.from_images(images, tilts=TILTS, pixel_size=0.5, **kwds)


def eds_series(lazy=False):
    rng = np.random.default_rng(2)
    y, x = np.mgrid[:12, :16]
    expected = {"Au": 60.0 * (x < 8), "Ag": 5.0 * x, "Cu": 6.0 * y}
    maps = {
        name: rng.poisson(counts, (5, 12, 16)).astype(np.float32)
        for name, counts in expected.items()
    }
    if lazy:
        maps = {name: da.from_array(data) for name, data in maps.items()}
    eds = mt.TiltSeriesEDS.from_maps(maps, tilts=TILTS, pixel_size=0.5)
    eds.gains = 1 + np.arange(15.0).reshape(5, 3) / 10
    eds.alignment = Alignment(
        across=np.arange(5.0), along=-np.arange(5.0), axis_offset=1.5, rotation=0.0
    )
    return eds


class TestConstruction:
    def test_sorted_by_tilt_with_the_order_of_acquisition(self):
        images = np.arange(3.0)[:, None, None] * np.ones((3, 4, 5))
        series = mt.TiltSeriesHAADF.from_images(images, tilts=[10, -30, 0])
        np.testing.assert_array_equal(series.tilts, [-30, 0, 10])
        np.testing.assert_array_equal(series.data[:, 0, 0], [1, 2, 0])
        np.testing.assert_array_equal(series.acquisition_order, [1, 2, 0])

    def test_reverse_tilts(self):
        series = mt.TiltSeriesHAADF.from_images(
            np.arange(3.0)[:, None, None] * np.ones((3, 4, 5)),
            tilts=[-30, 0, 10],
            reverse_tilts=True,
        )
        np.testing.assert_array_equal(series.tilts, [-10, 0, 30])
        np.testing.assert_array_equal(series.data[:, 0, 0], [2, 1, 0])

    def test_tilt_axis_x_is_turned_and_remembered(self):
        images = np.random.default_rng(0).random((5, 12, 16))
        series = mt.TiltSeriesHAADF.from_images(images, tilts=TILTS, tilt_axis="x")
        np.testing.assert_allclose(series.data, images.swapaxes(1, 2), rtol=1e-6)
        assert series.tilt_axis == "x"
        assert haadf_series().tilt_axis == "y"

    def test_axes_and_units(self):
        eds = eds_series()
        assert [axis.name for axis in eds.axes_manager.navigation_axes] == ["element", "tilt"]
        assert [axis.name for axis in eds.axes_manager.signal_axes] == ["x", "y"]
        assert eds.data.shape == (5, 3, 12, 16)
        assert eds.axes_manager["x"].units == "nm"
        assert eds.pixel_size == 0.5
        assert mt.TiltSeriesHAADF.from_images(np.ones((2, 4, 5)), tilts=[0, 1]).pixel_size is None

    def test_from_signals_takes_their_calibration(self):
        plain = hs.signals.Signal2D(haadf_series().data)
        plain.axes_manager[-2].name, plain.axes_manager[-2].scale, plain.axes_manager[-2].units = (
            "x",
            2e-3,
            "µm",
        )
        assert mt.TiltSeriesHAADF.from_images(plain, tilts=TILTS).pixel_size == pytest.approx(2.0)
        assert mt.TiltSeriesHAADF.from_images(haadf_series()).pixel_size == 0.5

    @pytest.mark.parametrize(
        ("kwds", "message"),
        [
            ({"tilts": [0, 1]}, "2 angles but there are 5 projections"),
            ({"tilts": [0, 1, 2, 2, 3]}, "duplicate|more than once|same tilt"),
            ({"tilts": [0, 1, 2, np.nan, 3]}, "NaN|finite"),
            ({"tilts": [7, 7, 7, 7, 7]}, "equal|same"),
            ({"tilts": None}, "no tilts"),
            ({"tilts": TILTS, "tilt_axis": "z"}, "tilt_axis"),
        ],
    )
    def test_bad_tilts(self, kwds, message):
        with pytest.raises(ValueError, match=message):
            mt.TiltSeriesHAADF.from_images(np.ones((5, 4, 6)), **kwds)

    def test_duplicates_merge_on_request(self):
        """Images are averaged; counts are summed,
        and the gain says that there are twice as many."""
        stack = np.arange(3.0)[:, None, None] * np.ones((3, 4, 5))
        haadf = mt.TiltSeriesHAADF.from_images(stack, tilts=[10, -5, -5], duplicates="merge")
        np.testing.assert_allclose(haadf.data[:, 0, 0], [1.5, 0])
        assert haadf.gains is None
        eds = mt.TiltSeriesEDS.from_maps({"Au": stack}, tilts=[10, -5, -5], duplicates="merge")
        np.testing.assert_allclose(eds["Au"].data[:, 0, 0], [3, 0])
        np.testing.assert_allclose(eds.gains, [2, 1])

    def test_values_that_are_not_finite(self):
        images = np.ones((3, 4, 5))
        images[1, 2, 3] = np.inf
        with pytest.raises(ValueError, match="1 NaN or infinite"):
            mt.TiltSeriesHAADF.from_images(images, tilts=[0, 1, 2])

    def test_maps_of_different_shape(self):
        with pytest.raises(ValueError, match="Ag"):
            mt.TiltSeriesEDS.from_maps(
                {"Au": np.ones((3, 4, 5)), "Ag": np.ones((3, 4, 6))}, tilts=[0, 1, 2]
            )


class TestChannels:
    def test_picking_by_name(self):
        eds = eds_series()
        assert eds.elements == ("Au", "Ag", "Cu")
        silver = eds["Ag"]
        np.testing.assert_array_equal(silver.data, eds.data[:, 1])
        assert type(silver) is mt.TiltSeriesEDS
        assert silver.elements == ("Ag",)
        assert "Ag" in eds
        assert "Pt" not in eds
        with pytest.raises(KeyError, match="Pt"):
            eds["Pt"]

    def test_slicing_elements(self):
        part = eds_series().inav[1:, :]
        assert part.elements == ("Ag", "Cu")
        np.testing.assert_array_equal(part["Cu"].data, eds_series().data[:, 2])

    def test_volume(self):
        volume = mt.TomographicVolume.from_arrays(
            {"Au": np.ones((4, 5, 6)), "rest": np.zeros((4, 5, 6))}, pixel_size=2.0
        )
        assert volume.channels == ("Au", "rest")
        assert volume.elements == ("Au",)
        assert volume["Au"].data.shape == (4, 5, 6)
        assert volume.axes_manager["z"].offset == -3.0
        assert [axis.name for axis in volume.axes_manager.navigation_axes] == ["element", "z"]


class TestMetadataStayTrue:
    @pytest.mark.slow
    def test_slicing_by_degrees(self):
        part = eds_series().inav[:, -20.0:50.0]
        np.testing.assert_array_equal(part.tilts, [-20, 0, 15])
        np.testing.assert_allclose(part.gains, eds_series().gains[1:4])
        np.testing.assert_allclose(part.alignment.across, [1, 2, 3])
        np.testing.assert_array_equal(part.acquisition_order, [1, 2, 3])

    def test_recording_after_slicing_keeps_the_rest(self):
        part = eds_series().inav[1:, 1:4]
        part.gains = [1.0, 2.0, 3.0]
        np.testing.assert_allclose(part.inav[:, 1:].gains, [2.0, 3.0])
        np.testing.assert_allclose(part.inav[:, 1:].alignment.across, [2, 3])
        assert part.elements == ("Ag", "Cu")

    def test_recording_on_reversed_elements(self):
        part = eds_series().inav[::-1, :]
        part.gains = np.ones((5, 3)) * [3.0, 2.0, 1.0]
        assert part.elements == ("Cu", "Ag", "Au")
        np.testing.assert_allclose(part["Au"].gains, np.ones((5, 1)))

    def test_cropping_moves_the_tilt_axis_with_the_object(self):
        part = eds_series().isig[4:10, 2:]
        # The axis stood at pixel 7.5 + 1.5 = 9 of 16, that is pixel 5 of the six from 4 to 9, whose
        # centre is 2.5.
        assert part.alignment.axis_offset == pytest.approx(2.5)
        assert part.geometry().axis_offset == pytest.approx(2.5)
        np.testing.assert_allclose(part.alignment.across, np.arange(5))
        assert haadf_series().isig[6:, :].axis_offset == pytest.approx(7.5 - 6 - 4.5)

    def test_rebinning(self):
        part = eds_series().rebin(scale=(1, 1, 2, 2))
        np.testing.assert_allclose(part.alignment.across, np.arange(5) / 2)
        # Pixel 9 (centre at 9.5 px from the edge) is 4.75 binned pixels from the edge.
        assert part.alignment.axis_offset == pytest.approx(4.75 - 0.5 - 3.5)
        cropped = eds_series().isig[4:, :].rebin(scale=(1, 1, 2, 2))
        assert cropped.alignment.axis_offset == pytest.approx((9.5 - 4) / 2 - 0.5 - 2.5)

    def test_new_calibration_of_the_whole_series(self):
        eds = eds_series()
        eds.axes_manager["x"].scale = 0.7
        assert eds.pixel_size == pytest.approx(0.7)
        assert eds.alignment.axis_offset == pytest.approx(1.5)

    def test_calibrating_a_crop_is_refused_when_read(self):
        part = eds_series().isig[4:10, :]
        part.axes_manager["x"].scale = 5.0
        with pytest.raises(LookupError, match="calibrate the whole series"):
            part.alignment  # noqa: B018

    def test_changed_tilts_are_not_believed(self):
        eds = eds_series()
        eds.axes_manager["tilt"].axis = TILTS + 3
        with pytest.raises(LookupError, match="not among the recorded"):
            eds.gains  # noqa: B018

    def test_summing_over_tilts_or_elements(self):
        eds = eds_series()
        with pytest.raises(LookupError, match="no axis 'tilt'"):
            eds.sum("tilt").acquisition_order  # noqa: B018
        with pytest.raises(ValueError, match="no axis 'tilt'"):
            eds.sum("tilt").reconstruct_sirt()
        total = eds.sum("element")
        with pytest.raises(LookupError, match="element"):
            total.elements  # noqa: B018

    def test_transposing(self):
        eds = eds_series()
        turned = eds.transpose(signal_axes=["tilt", "x"], navigation_axes=["element", "y"])
        np.testing.assert_array_equal(turned.tilts, TILTS)
        np.testing.assert_allclose(turned.alignment.across, np.arange(5))
        np.testing.assert_array_equal(turned.array("tilt", "element", "y", "x"), eds.data)

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda s: s.deepcopy(), lambda s: s * 1.0])
    def test_copies_are_independent(self, copied):
        eds = eds_series()
        other = copied(eds)
        other.gains = None
        other.alignment = Alignment.identity(5)
        assert eds.gains.shape == (5, 3)
        assert eds.alignment.across[4] == 4

    def test_gross_follows_crop_and_binning(self):
        from hyperspy_multitomo.signals.metadata.recorded_arrays import record

        eds = eds_series()
        gross = np.random.default_rng(0).poisson(5, eds.data.shape).astype(np.float32)
        record(eds, "gross", gross, ("tilt", "element", "y", "x"))
        part = eds.inav[1:, 2:].isig[2:10, 4:]
        np.testing.assert_array_equal(part.gross, gross[2:, 1:, 4:, 2:10])
        binned = part.rebin(scale=(1, 1, 2, 4))
        expected = gross[2:, 1:, 4:, 2:10].reshape(3, 2, 2, 4, 4, 2).sum(axis=(3, 5))
        np.testing.assert_array_equal(binned.gross, expected)

    def test_rotated_alignment_of_a_crop(self):
        rng = np.random.default_rng(3)
        images = rng.random((3, 40, 40)).astype(np.float32)
        haadf = mt.TiltSeriesHAADF.from_images(images, tilts=[-10, 0, 10])
        haadf.alignment = Alignment(
            across=np.array([1.0, 0, -1]),
            along=np.array([0.0, 2, 1]),
            axis_offset=0.0,
            rotation=3.0,
        )
        whole = haadf.aligned()
        cropped = haadf.isig[6:36, 4:30]
        assert cropped.alignment.rotation == 3.0
        # Cropping and then aligning shows the same object as aligning and then cropping, away from
        # the borders.
        offset = cropped.alignment.axis_offset
        plain = Alignment(cropped.alignment.across, cropped.alignment.along, 0.0, 3.0)
        again = plain.apply(np.ascontiguousarray(cropped.data.transpose(0, 2, 1))).transpose(
            0, 2, 1
        )
        np.testing.assert_allclose(
            again[:, 7:-7, 7:-7], whole.isig[6:36, 4:30].data[:, 7:-7, 7:-7], atol=1e-4
        )
        assert offset == pytest.approx(19.5 - 6 - 14.5)


@pytest.mark.parametrize("lazy", [False, True])
def test_slicing_never_takes_the_data_away(lazy, monkeypatch):
    """Threads of panels slice and read the same series."""
    eds, seen = eds_series(lazy), []
    data = eds.data
    deepcopy = type(eds).deepcopy
    monkeypatch.setattr(type(eds), "deepcopy", lambda self: seen.append(eds.data) or deepcopy(self))
    part = eds.isig[:4, :].inav[1:]
    assert part.data.shape[-1] == 4
    assert part.channels == eds.channels[1:]
    assert seen[0] is data
    assert eds.data is data


class TestRoundTrip:
    @pytest.mark.slow
    @pytest.mark.parametrize("suffix", ["hspy", "zspy"])
    @pytest.mark.parametrize("lazy", [False, True])
    def test_tilt_series(self, tmp_path, suffix, lazy):
        eds = eds_series()
        brightness = np.array([3.0, 2.0, 1.0])[:, None, None] / eds.gains[:, :, None, None]
        haadf = mt.TiltSeriesHAADF.from_images(
            (eds.data * brightness).sum(axis=1), tilts=TILTS, pixel_size=0.5
        )
        haadf.alignment = eds.alignment
        eds.fit_response_ratios(haadf, block_size=2, mask=np.ones(haadf.data.shape, bool))
        eds.save(tmp_path / f"eds.{suffix}")
        again = hs.load(tmp_path / f"eds.{suffix}", lazy=lazy)
        assert type(again) is (mt.LazyTiltSeriesEDS if lazy else mt.TiltSeriesEDS)
        np.testing.assert_array_equal(np.asarray(again.data), eds.data)
        np.testing.assert_allclose(again.tilts, TILTS)
        assert again.elements == eds.elements
        assert again.alignment.axis_offset == eds.alignment.axis_offset
        np.testing.assert_allclose(again.alignment.along, eds.alignment.along)
        np.testing.assert_allclose(again.gains, eds.gains)
        np.testing.assert_allclose(again.response_ratios.values, eds.response_ratios.values)
        np.testing.assert_allclose(
            again.response_ratios.residual_map, eds.response_ratios.residual_map
        )
        assert again.history == eds.history
        assert again.inav[:, -20.0:20.0].elements == eds.elements

    @pytest.mark.slow
    @pytest.mark.parametrize("suffix", ["hspy", "zspy"])
    @pytest.mark.parametrize("lazy", [False, True])
    def test_volume(self, tmp_path, suffix, lazy):
        volume = eds_series().reconstruct_hebt(
            haadf_series(),
            iterations=3,
            ratios={"Au": 2.0, "Ag": 1.0, "Cu": 0.5},
            show_progressbar=False,
        )
        volume.save(tmp_path / f"volume.{suffix}")
        again = hs.load(tmp_path / f"volume.{suffix}", lazy=lazy)
        assert type(again) is (mt.LazyTomographicVolume if lazy else mt.TomographicVolume)
        assert again.elements == volume.elements
        assert again.history == volume.history
        assert again.response_ratios == {"Au": 2.0, "Ag": 1.0, "Cu": 0.5}
        assert again.residuals["eds"].shape == (3, 3)
        np.testing.assert_array_equal(np.asarray(again["Ag"].data), volume["Ag"].data)

    def test_lazy_series_of_dask_arrays(self, tmp_path):
        eds = eds_series(lazy=True)
        assert type(eds) is mt.LazyTiltSeriesEDS
        np.testing.assert_array_equal(eds.data.compute(), eds_series().data)
        eds.save(tmp_path / "eds.zspy")
        assert type(hs.load(tmp_path / "eds.zspy")) is mt.TiltSeriesEDS

    def test_set_signal_type(self):
        plain = hs.signals.Signal2D(np.ones((3, 4, 5)))
        plain.set_signal_type("HAADF tilt series")
        assert type(plain) is mt.TiltSeriesHAADF
        assert type(plain.as_lazy()) is mt.LazyTiltSeriesHAADF

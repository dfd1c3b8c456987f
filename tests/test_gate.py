# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate: axes by name in any order, any unit of length and angle, both pixel sides,
steps downwards, masks, other numbers."""

from itertools import permutations

import dask.array as da
import h5py
import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_multitomo as mt
from hyperspy_multitomo.acquisition.axes import in_order, split_name
from hyperspy_multitomo.acquisition.tilts import read_tilt_file
from hyperspy_multitomo.acquisition.units import unit_of

TILTS = np.array([-40.0, -10.0, 25.0])
#: Array (tilt, y, x) of which every entry is its own.
IMAGES = np.arange(3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5)
ROLES = ("tilt", "y", "x")
AXES = {
    "tilt": {"name": "tilt", "axis": TILTS, "units": "°"},
    "y": {"name": "y", "size": 4, "scale": 2.0, "offset": 6.0, "units": "nm"},
    "x": {"name": "x", "size": 5, "scale": 0.5, "offset": -1.0, "units": "nm"},
}


def stored(order=ROLES, data=IMAGES, **changed):
    """A HyperSpy signal whose array has the axes in this order, some described otherwise."""
    axes = [AXES[role] | changed.get(role, {}) for role in order]
    for axis in axes:
        uneven = axis.get("axis") is not None
        axis["navigate"] = uneven
        for name in ("scale", "offset") if uneven else ("axis",):
            axis.pop(name, None)
    return hs.signals.BaseSignal(data.transpose([ROLES.index(role) for role in order]), axes=axes)


def uniform(**given):
    """Description of the axis of the tilts in even steps,
    which takes the place of the uneven one."""
    return {"axis": None} | given


def check(series, images=IMAGES, tilts=TILTS, sides=(2.0, 0.5), offsets=(6.0, -1.0)):
    np.testing.assert_allclose(series.tilts, tilts, rtol=1e-12)
    np.testing.assert_array_equal(series.data.reshape(images.shape), images)
    for name, side, offset in zip("yx", sides, offsets, strict=True):
        axis = series.axes_manager[name]
        assert (axis.scale, axis.offset) == (pytest.approx(side), pytest.approx(offset))
        assert axis.units == ("nm" if side else "px")


class TestNamesBeforePlaces:
    @pytest.mark.parametrize("order", permutations(ROLES))
    def test_signals(self, order):
        check(mt.TiltSeriesHAADF.from_images(stored(order)))
        check(mt.TiltSeriesEDS.from_maps({"Au": stored(order)}))
        check(mt.TiltSeriesHAADF.from_images(stored(order), tilts=[-30, 0, 30]), tilts=[-30, 0, 30])

    @pytest.mark.slow
    @pytest.mark.parametrize("order", permutations(ROLES))
    @pytest.mark.parametrize("suffix", ["hspy", "zspy"])
    def test_files(self, tmp_path, order, suffix):
        stored(order).save(tmp_path / f"a.{suffix}")
        check(mt.load_tilt_series(tmp_path / f"a.{suffix}"), offsets=(0, 0))
        check(mt.TiltSeriesHAADF.from_images(tmp_path / f"a.{suffix}"), offsets=(0, 0))

    @pytest.mark.slow
    @pytest.mark.parametrize("order", permutations(ROLES))
    @pytest.mark.parametrize(
        "tilts", [TILTS, np.array([-40.0, -20.0, 0.0])], ids=["uneven", "even"]
    )
    def test_emd(self, tmp_path, order, tilts):
        write_emd(tmp_path / "a.emd", order, tilts)
        check(mt.load_tilt_series(tmp_path / "a.emd"), tilts=tilts, offsets=(0, 0))
        check(
            mt.load_tilt_series(tmp_path / "a.emd", tilts=[5, 6, 8]),
            tilts=[5, 6, 8],
            offsets=(0, 0),
        )

    @pytest.mark.parametrize(
        "name",
        [
            "angles",
            "Angle",
            "alpha",
            "Stage Alpha",
            "stage_alpha",
            "tilt_angle",
            "Tilt angle (deg)",
            "",
        ],
    )
    def test_names_of_the_tilts(self, name):
        check(mt.TiltSeriesHAADF.from_images(stored(("x", "tilt", "y"), tilt={"name": name})))

    @pytest.mark.parametrize(
        ("y", "x"), [("height", "width"), ("row", "col"), ("Rows", "Columns"), ("y-axis", "X axis")]
    )
    def test_names_of_the_images(self, y, x):
        series = mt.TiltSeriesHAADF.from_images(
            stored(("x", "y", "tilt"), y={"name": y}, x={"name": x})
        )
        check(series)

    def test_unnamed_axes_go_by_their_places(self):
        none = {"name": "", "units": "", "scale": 1.0, "offset": 0.0}
        plain = hs.signals.Signal2D(IMAGES)
        series = mt.TiltSeriesHAADF.from_images(plain, tilts=TILTS, pixel_size=(2.0, 0.5))
        check(series, offsets=(0, 0))
        only_x = stored(("x", "tilt", "y"), tilt=uniform(size=3, **none), y=none)
        np.testing.assert_array_equal(
            mt.TiltSeriesHAADF.from_images(only_x, tilts=TILTS).data, IMAGES
        )

    def test_single_images_and_spectra_of_a_tilt_each(self, tmp_path):
        for tilt, image in zip(TILTS, IMAGES, strict=True):
            signal = hs.signals.Signal2D(image.T)
            for axis, name in zip(signal.axes_manager._axes, "xy", strict=True):
                axis.name, axis.scale, axis.units = name, AXES[name]["scale"], "nm"
            signal.save(tmp_path / f"{tilt}.hspy")
        check(mt.load_tilt_series(tmp_path), offsets=(0, 0))

    def test_foreign_and_equal_names_are_refused(self):
        with pytest.raises(ValueError, match="element cannot be one of these"):
            mt.TiltSeriesHAADF.from_images(
                stored(tilt=uniform(name="element", size=3, units="")), tilts=TILTS
            )
        with pytest.raises(ValueError, match="several of which could be tilt"):
            mt.TiltSeriesHAADF.from_images(stored(y={"name": "angle"}), tilts=TILTS)

    @pytest.mark.slow
    def test_volumes_and_masks(self):
        data = np.arange(24.0).reshape(2, 3, 4)
        sizes = zip("zyx", (2, 3, 4), strict=True)
        axes = [
            {"name": name, "size": size, "scale": 5.0, "offset": 1.0, "units": "Å"}
            for name, size in sizes
        ]
        turned = hs.signals.BaseSignal(data.transpose(2, 0, 1), axes=[axes[2], axes[0], axes[1]])
        volume = mt.TomographicVolume.from_arrays({"Au": turned})
        np.testing.assert_array_equal(volume["Au"].data, data)
        assert [(a.name, a.scale, a.offset, a.units) for a in volume["Au"].axes_manager._axes] == [
            (name, 0.5, pytest.approx(0.1), "nm") for name in "zyx"
        ]
        haadf = mt.TiltSeriesHAADF.from_images(np.ones((3, 4, 4)), tilts=TILTS)
        inside = np.zeros((4, 4, 4), bool)
        inside[:2, 1:, 3] = True
        mask = hs.signals.BaseSignal(inside.T, axes=[{"name": name, "size": 4} for name in "xyz"])
        found = haadf.reconstruct_sirt(1, mask=mask, show_progressbar=False)
        np.testing.assert_array_equal(found.data > 0, inside)


class TestSpectra:
    @staticmethod
    def spectra(
        order=(0, 1, 2, 3), names=("tilt", "y", "x", "Energy"), tilts=TILTS, units="keV", **changed
    ):
        """Counts of an iron line that grows along x and with the tilt's number,
        as EDS_TEM spectra."""
        energy = 0.01 * np.arange(1, 1024)
        shape = np.exp(-(((energy - 6.4039) / 0.057) ** 2) / 2) + 0.05
        amounts = (
            np.arange(1, 4)[:, None, None, None]
            * (1 + np.arange(6))[None, None, :, None]
            * np.ones((1, 8, 1, 1))
        )
        counts = np.random.default_rng(0).poisson(amounts * shape)
        factor = {"keV": 1.0, "eV": 1e3, "MeV": 1e-3}[units]
        axes = [
            {"name": names[0], "axis": tilts, "navigate": True},
            {
                "name": names[1],
                "size": 8,
                "scale": 2.0,
                "offset": 4.0,
                "units": "nm",
                "navigate": True,
            },
            {
                "name": names[2],
                "size": 6,
                "scale": 0.5,
                "offset": 1.0,
                "units": "nm",
                "navigate": True,
            },
            {
                "name": names[3],
                "size": energy.size,
                "offset": 0.01 * factor,
                "scale": 0.01 * factor,
                "units": units,
            },
        ]
        for place, change in changed.items():
            axes["tyxE".index(place)].update(change)
        signal = hs.signals.Signal1D(counts.transpose(order), axes=[axes[i] for i in order])
        signal.set_signal_type("EDS_TEM")
        signal.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200)
        return signal

    @staticmethod
    def maps(spectra):
        return mt.elemental_maps(spectra, elements=["Fe"], also=[], show_progressbar=False)

    @pytest.fixture(scope="class")
    def expected(self):
        return self.maps(self.spectra())

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("how", "change"),
        [
            ("order", {"order": (2, 1, 0, 3)}),
            ("names", {"names": ("Stage Alpha", "height", "width", "Energy")}),
            ("eV", {"units": "eV"}),
            ("MeV", {"units": "MeV"}),
            ("radians", {"tilts": np.deg2rad(TILTS), "t": {"units": "rad"}}),
            (
                "um",
                {
                    "x": {"units": "µm", "scale": 5e-4, "offset": 1e-3},
                    "y": {"units": "um", "scale": 2e-3, "offset": 4e-3},
                },
            ),
            (
                "A",
                {
                    "x": {"units": "A", "scale": 5.0, "offset": 10.0},
                    "y": {"units": "\u212b", "scale": 20.0, "offset": 40.0},
                },
            ),
        ],
    )
    def test_in_any_order_names_and_units(self, expected, how, change):
        maps = self.maps(self.spectra(**change))
        np.testing.assert_allclose(maps.data, expected.data, atol=1e-4)
        np.testing.assert_allclose(maps.tilts, TILTS)
        for name, side, offset in (("y", 2.0, 4.0), ("x", 0.5, 1.0)):
            axis = maps.axes_manager[name]
            assert (axis.scale, axis.offset, axis.units) == (
                pytest.approx(side),
                pytest.approx(offset),
                "nm",
            )

    @pytest.mark.slow
    def test_steps_downwards(self, expected):
        spectra = self.spectra()
        turned = self.spectra(
            tilts=TILTS[::-1], x={"scale": -0.5, "offset": 3.5}, E={"scale": -0.01, "offset": 10.23}
        )
        turned.data = spectra.data[::-1, :, ::-1, ::-1]
        maps = self.maps(turned)
        np.testing.assert_allclose(maps.data, expected.data, rtol=1e-3, atol=0.01)
        np.testing.assert_array_equal(maps.gross, expected.gross)
        np.testing.assert_array_equal(maps.acquisition_order, [2, 1, 0])
        assert maps.axes_manager["x"].offset == 1.0

    def test_refused(self):
        with pytest.raises(ValueError, match="expected eV or keV"):
            self.maps(self.spectra(E={"units": "nm"}))
        with pytest.raises(ValueError, match="expected nm or another length"):
            self.maps(self.spectra(x={"units": "1/nm"}))
        masked = self.spectra()
        masked.data = np.ma.array(masked.data, mask=masked.data > 5)
        with pytest.raises(ValueError, match=r"spectra is a masked array.*filled"):
            self.maps(masked)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "how", [lambda d: d * 0.5, lambda d: np.clip(d - 0.3, 0, None), lambda d: d + 0.25]
    )
    def test_spectra_that_are_no_counts(self, how):
        spectra = self.spectra()
        spectra.data = how(spectra.data.astype(np.float32))
        with pytest.warns(UserWarning, match="no whole counts"):
            maps = self.maps(spectra)
        with pytest.raises(
            ValueError, match=r"no counts as recorded \(spectra that are no whole counts\)"
        ):
            maps.reconstruct_sirt(2, stopping="discrepancy", show_progressbar=False)
        with pytest.warns(UserWarning, match="no counts as recorded"):
            maps.reconstruct_tv(iterations=2, show_progressbar=False)

    def test_floats_that_are_whole_are_counts(self, recwarn):
        spectra = self.spectra()
        spectra.data = spectra.data.astype(np.float32)
        self.maps(spectra)
        assert not [w for w in recwarn if "whole" in str(w.message)]

    @pytest.mark.slow
    def test_cropped_spectra_know_the_size_of_the_scan(self, tmp_path):
        """The live time is that of the whole scan:
        the dose of a pixel does not depend on what was cropped, before or after."""
        images = np.random.default_rng(0).poisson(0.3, (3, 12, 16, 256)).astype(np.uint8)
        for tilt, cube in zip(TILTS, images, strict=True):
            signal = hs.signals.Signal1D(cube)
            for axis, name in zip(signal.axes_manager._axes, ("y", "x", "Energy"), strict=True):
                axis.name, axis.scale, axis.units = (
                    name,
                    0.08 if name == "Energy" else 2.0,
                    "keV" if name == "Energy" else "nm",
                )
            signal.set_signal_type("EDS_TEM")
            signal.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200)
            signal.metadata.set_item("Acquisition_instrument.TEM.beam_current", 0.5)
            signal.metadata.set_item("Acquisition_instrument.TEM.Detector.EDS.live_time", 100.0)
            signal.save(tmp_path / f"{tilt}.hspy")
        spectra = mt.load_tilt_series(tmp_path)
        dose = 0.5e-9 * 100 / 1.602176634e-19 / (12 * 16)
        whole = self.maps(spectra)
        assert whole.dose == pytest.approx(dose)
        assert self.maps(spectra.inav[2:10, 3:9]).dose == pytest.approx(dose)
        assert self.maps(spectra.inav[2:10, 3:9]).isig[1:, :].dose == pytest.approx(dose)
        assert self.maps(spectra.inav[2:10, 3:9]).bin(2).dose == pytest.approx(4 * dose)


class TestUnits:
    @pytest.mark.parametrize(
        ("text", "nm"),
        [
            *((text, 0.1) for text in ("Å", "\u212b", "A", "angstrom", "Angstrom")),
            *((text, 1e3) for text in ("micron", "micrometer", "µm", "μm", "um")),
            *(("nanometer", 1), ("nm", 1), ("pm", 1e-3), ("cm", 1e7), ("m", 1e9)),
            ("n_m", 1),
        ],
    )
    def test_lengths(self, text, nm):
        assert unit_of(text) == ("length", pytest.approx(nm))
        changed = {
            name: {
                "units": text,
                "scale": AXES[name]["scale"] / nm,
                "offset": AXES[name]["offset"] / nm,
            }
            for name in "yx"
        }
        check(mt.TiltSeriesHAADF.from_images(stored(**changed)))

    @pytest.mark.parametrize(
        "text", ["deg", "Degrees", "degree", "°", "º", "[deg]", "DEG", "", "undefined"]
    )
    def test_degrees_in_any_spelling(self, text):
        check(mt.TiltSeriesHAADF.from_images(stored(tilt={"units": text})))

    @pytest.mark.parametrize(
        ("text", "factor"), [("rad", 1.0), ("radians", 1.0), ("mrad", 1e3), ("[rad]", 1.0)]
    )
    def test_radians(self, tmp_path, text, factor):
        signal = stored(
            ("x", "y", "tilt"), tilt={"units": text, "axis": factor * np.deg2rad(TILTS)}
        )
        check(mt.TiltSeriesHAADF.from_images(signal))
        signal.save(tmp_path / "a.hspy")
        check(mt.load_tilt_series(tmp_path / "a.hspy"), offsets=(0, 0))

    @pytest.mark.parametrize(
        ("text", "column"),
        [
            ("angle_rad\n", "{}"),
            ("tilt (mrad)\n", "{}e3"),
            ("image,Tilt Angle [rad]\n", "1,{}"),
            ("name;alpha_rad\n", "a;{}"),
        ],
    )
    def test_columns_in_radians(self, tmp_path, text, column):
        (tmp_path / "a.csv").write_text(
            text + "\n".join(column.format(np.deg2rad(tilt)) for tilt in TILTS)
        )
        np.testing.assert_allclose(read_tilt_file(tmp_path / "a.csv"), TILTS)
        check(
            mt.TiltSeriesHAADF.from_images(IMAGES, tilts=tmp_path / "a.csv", pixel_size=(2.0, 0.5)),
            offsets=(0, 0),
        )

    @pytest.mark.parametrize("unit", ["nm", "s", "1/nm", "keV", "bogus"])
    def test_other_units_of_the_tilts_are_refused(self, tmp_path, unit):
        with pytest.raises(ValueError, match="expected degrees or radians"):
            mt.TiltSeriesHAADF.from_images(stored(tilt={"units": unit}))
        (tmp_path / "a.csv").write_text("tilt (nm)\n1\n2\n3")
        with pytest.raises(ValueError, match=r"unit 'nm'; expected degrees or radians"):
            read_tilt_file(tmp_path / "a.csv")

    @pytest.mark.parametrize("unit", ["1/nm", "s", "mrad", "nm^-1", "keV"])
    def test_other_units_of_the_pixels_are_refused(self, tmp_path, unit):
        expected = "expected nm or another length|cannot be one of these|several of which"
        for name in "xy":
            with pytest.raises(ValueError, match=expected):
                mt.TiltSeriesHAADF.from_images(stored(**{name: {"units": unit}}))
            stored(**{name: {"units": unit}}).save(tmp_path / f"{name}.hspy")
            with pytest.raises(ValueError, match=expected + "|energies|spectra"):
                mt.load_tilt_series(tmp_path / f"{name}.hspy")

    @pytest.mark.parametrize("unit", ["px", "pixel", "", "<undefined>", "Undefined"])
    def test_no_calibration_without_a_word(self, unit, recwarn):
        series = mt.TiltSeriesHAADF.from_images(stored(x={"units": unit}, y={"units": unit}))
        assert series.pixel_size is None
        assert series.axes_manager["x"].units == "px"
        assert not list(recwarn)

    def test_what_is_no_unit_is_named(self):
        with pytest.warns(UserWarning, match="'nanomtr', which is none that is known"):
            series = mt.TiltSeriesHAADF.from_images(
                stored(x={"units": "nanomtr"}, y={"units": "nanomtr"})
            )
        assert series.pixel_size is None

    @pytest.mark.parametrize("unit", ["µm", "A", "pm"])
    def test_volumes_are_in_nm(self, unit):
        series = mt.TiltSeriesHAADF.from_images(stored())
        factor = unit_of(unit).factor
        for name in "xy":
            axis = series.axes_manager[name]
            axis.scale, axis.offset, axis.units = axis.scale / factor, axis.offset / factor, unit
        self.check_volume(series)
        converted = mt.TiltSeriesHAADF.from_images(stored())
        converted.axes_manager.convert_units("signal", units=[unit.replace("A", "angstrom")] * 2)
        self.check_volume(converted)

    @staticmethod
    def check_volume(series):
        volume = series.reconstruct_fbp(show_progressbar=False)
        expected = mt.TiltSeriesHAADF.from_images(stored()).reconstruct_fbp(show_progressbar=False)
        for name in "zyx":
            mine, other = volume.axes_manager[name], expected.axes_manager[name]
            assert (mine.units, mine.scale, mine.offset) == (
                "nm",
                pytest.approx(other.scale),
                pytest.approx(other.offset),
            )
        np.testing.assert_allclose(volume.data, expected.data, rtol=1e-5)
        assert expected.axes_manager["y"].offset == 6.0

    def test_names_with_units(self):
        assert split_name("Tilt_Angle (rad)") == ("tilt angle", "rad")
        assert split_name("angle_mrad") == ("angle", "mrad")
        _, axes = in_order(
            IMAGES,
            [{"name": "tilt"}, {"name": "y (µm)", "scale": 1e-3}, {"name": "x_nm", "scale": 2.0}],
            ROLES,
            what="a",
        )
        assert (axes["y"]["scale"], axes["x"]["scale"]) == (pytest.approx(1.0), 2.0)


class TestRadiansForDegrees:
    RADIANS = np.deg2rad(np.arange(-60.0, 61.0, 10.0))

    def test_bare_numbers_are_warned_of(self, tmp_path):
        images = np.ones((13, 4, 5))
        np.savetxt(tmp_path / "a.rawtlt", self.RADIANS, fmt="%.4f")
        signal = hs.signals.BaseSignal(
            images, axes=[{"name": "tilt", "axis": self.RADIANS}, {"name": "y"}, {"name": "x"}]
        )
        for given in (
            {"images": images, "tilts": self.RADIANS},
            {"images": images, "tilts": tmp_path / "a.rawtlt"},
            {"images": signal},
        ):
            with pytest.warns(UserWarning, match=r"look like radians \(-60 to 60 degrees\)"):
                mt.TiltSeriesHAADF.from_images(**given)

    @pytest.mark.parametrize(
        "tilts",
        [
            np.arange(-60, 61, 10.0),
            np.arange(-0.9, 1, 0.3),
            np.deg2rad([-60, -20, 20, 60]),
            np.deg2rad(np.linspace(-20, 20, 9)),
            [0.1] * 5,
            np.random.default_rng(0).uniform(-70, 70, 15),
        ],
        ids=["degrees", "fine steps", "four", "small", "equal", "any"],
    )
    def test_others_are_not(self, tilts, recwarn):
        tilts = np.unique(tilts) if len(set(tilts)) > 1 else np.array([0.1, 0.2, 0.3, 0.4, 0.45])
        mt.TiltSeriesHAADF.from_images(np.ones((len(tilts), 4, 5)), tilts=tilts)
        assert not [w for w in recwarn if "radians" in str(w.message)]


class TestStepsDownwards:
    @pytest.mark.parametrize("name", ["x", "y"])
    def test_images(self, tmp_path, name):
        axis = AXES[name]
        last = axis["offset"] + (axis["size"] - 1) * axis["scale"]
        data = np.flip(IMAGES, ROLES.index(name))
        signal = stored(data=data, **{name: {"scale": -axis["scale"], "offset": last}})
        check(mt.TiltSeriesHAADF.from_images(signal))
        check(mt.TiltSeriesEDS.from_maps({"Au": signal}))
        signal.save(tmp_path / "a.hspy")
        check(mt.load_tilt_series(tmp_path / "a.hspy"), offsets=(0, 0))

    def test_tilts(self, tmp_path):
        even = np.array([-10.0, 0.0, 10.0])
        signal = stored(data=IMAGES[::-1], tilt=uniform(size=3, scale=-10.0, offset=10.0))
        for series in (
            mt.TiltSeriesHAADF.from_images(signal),
            mt.TiltSeriesEDS.from_maps({"Au": signal}),
        ):
            check(series, tilts=even)
            np.testing.assert_array_equal(series.acquisition_order, [2, 1, 0])
        signal.save(tmp_path / "a.hspy")
        check(mt.load_tilt_series(tmp_path / "a.hspy"), tilts=even, offsets=(0, 0))

    def test_uneven_pixels_are_refused(self):
        with pytest.raises(ValueError, match="uneven steps"):
            mt.TiltSeriesHAADF.from_images(stored(x={"axis": np.array([0.0, 1.0, 2.0, 4.0, 8.0])}))


class TestNumbers:
    @pytest.mark.parametrize("wrap", [np.asarray, da.from_array], ids=["eager", "lazy"])
    def test_masked_arrays(self, wrap):
        masked = np.ma.array(np.ones((3, 4, 5)), mask=np.zeros((3, 4, 5), bool))
        masked[1, 2, 3] = np.ma.masked
        masked.data[1, 2, 3] = 1e6
        masked = masked if wrap is np.asarray else da.from_array(masked, chunks=(1, 4, 5))
        for call in (
            lambda: mt.TiltSeriesHAADF.from_images(masked, tilts=TILTS),
            lambda: mt.TiltSeriesEDS.from_maps({"Au": masked}, tilts=TILTS),
            lambda: mt.TomographicVolume.from_arrays({"Au": masked}),
            lambda: mt.TiltSeriesHAADF.from_images(
                hs.signals.Signal2D(masked) if wrap is np.asarray else masked, tilts=TILTS
            ),
        ):
            with pytest.raises(ValueError, match="is a masked array .*pass array.filled"):
                call()
        with pytest.raises(ValueError, match="masked"):
            mt.TiltSeriesHAADF.from_images(
                np.ones((3, 4, 5)), tilts=np.ma.array(TILTS, mask=[0, 1, 0])
            )

    def test_nothing_masked_is_plain(self):
        plain = np.ma.array(IMAGES)
        check(
            mt.TiltSeriesHAADF.from_images(plain, tilts=TILTS, pixel_size=(2.0, 0.5)),
            offsets=(0, 0),
        )

    @pytest.mark.parametrize("dtype", ["u1", "i2", ">u2", ">f4", "f2", "f8", "i8", "?"])
    def test_types(self, dtype):
        data = (IMAGES % 2 if dtype == "?" else IMAGES).astype(dtype)
        series = mt.TiltSeriesHAADF.from_images(data, tilts=TILTS)
        assert series.data.dtype == np.float32
        np.testing.assert_array_equal(series.data, data.astype(np.float32))

    @pytest.mark.parametrize(
        "data", [IMAGES.astype(complex), IMAGES.astype(str), IMAGES.astype(object)]
    )
    def test_no_real_numbers(self, data):
        with pytest.raises(ValueError, match="expected real numbers"):
            mt.TiltSeriesHAADF.from_images(data, tilts=TILTS)

    def test_beyond_float32(self):
        with pytest.raises(ValueError, match="NaN or infinite"):
            mt.TiltSeriesHAADF.from_images(np.full((3, 4, 5), 1e300), tilts=TILTS)

    @pytest.mark.parametrize("size", [0, -1.0, np.nan, "2 nm", (1.0, -2.0), (1, 2, 3)])
    def test_pixel_sizes(self, size):
        with pytest.raises(ValueError, match="pixel_size=.* must be a positive length"):
            mt.TiltSeriesHAADF.from_images(IMAGES, tilts=TILTS, pixel_size=size)

    def test_both_sides_of_the_pixels(self):
        check(
            mt.TiltSeriesHAADF.from_images(IMAGES, tilts=TILTS, pixel_size=(2.0, 0.5)),
            offsets=(0, 0),
        )
        turned = mt.TiltSeriesHAADF.from_images(stored(), tilt_axis="x")
        check(turned, images=IMAGES.swapaxes(1, 2), sides=(0.5, 2.0), offsets=(-1.0, 6.0))
        with pytest.warns(UserWarning, match="no calibration along y"):
            series = mt.TiltSeriesHAADF.from_images(
                stored(y={"units": "", "scale": 1.0, "offset": 0.0})
            )
        check(series, sides=(0.5, 0.5), offsets=(0.0, -1.0))

    @pytest.mark.parametrize(
        ("sides", "problem"),
        [
            ((1e-9, 1e-9), "0.001 nm to 100 um"),
            ((2e5, 2e5), "0.001 nm to 100 um"),
            ((1, 12), "a factor of 10"),
            ((30, 2), "of 10"),
        ],
    )
    def test_sides_that_no_pixel_has_are_warned_of(self, tmp_path, sides, problem):
        """Metres for nanometres, or two axes of different units."""
        y, x = (
            {"name": name, "size": size, "scale": side, "units": "nm"}
            for name, size, side in zip("yx", (4, 5), sides, strict=True)
        )
        signal = hs.signals.Signal2D(
            np.ones((3, 4, 5)), axes=[{"name": "tilt", "axis": [-10.0, 0.0, 10.0]}, y, x]
        )
        signal.save(tmp_path / "a.hspy")
        for make in (
            lambda: mt.TiltSeriesHAADF.from_images(
                np.ones((3, 4, 5)), tilts=[-10, 0, 10], pixel_size=sides
            ),
            lambda: mt.TiltSeriesHAADF.from_images(signal),
            lambda: mt.load_tilt_series(tmp_path / "a.hspy", tilts=[-10, 0, 10]),
        ):
            with pytest.warns(
                UserWarning,
                match=rf"the pixels of .* have {sides[0]:g} nm along y, {sides[1]:g} nm.*{problem}",
            ):
                series = make()
            assert [series.axes_manager[name].scale for name in "yx"] == list(sides)

    @pytest.mark.parametrize("sides", [(1e-3, 1e-3), (1e5, 1e5), (1, 10), (0.05, 0.01)])
    def test_sides_of_unusual_pixels(self, sides, recwarn):
        mt.TiltSeriesHAADF.from_images(np.ones((3, 4, 5)), tilts=[-10, 0, 10], pixel_size=sides)
        assert not recwarn.list

    def test_maps_of_other_pixels_or_places(self):
        for change in ({"scale": 0.6}, {"offset": 3.0}, {"units": "µm"}):
            with pytest.raises(ValueError, match="another pixel size or position"):
                mt.TiltSeriesEDS.from_maps({"Au": stored(), "Ag": stored(x=change)})


def write_emd(path, order, tilts):
    """Write an EMD file of the NCEM kind, whose axes are in this order for RosettaSciIO,
    which turns the array round."""
    values = {"tilt": tilts, "y": 6 + 2 * np.arange(4.0), "x": -1 + 0.5 * np.arange(5.0)}
    described = {"tilt": ("angles", "[deg]"), "y": ("y", "[n_m]"), "x": ("x", "[n_m]")}
    with h5py.File(path, "w") as file:
        file.attrs["version_major"], file.attrs["version_minor"] = 0, 2
        group = file.create_group("data/tomography")
        group.attrs["emd_group_type"] = 1
        group.create_dataset("data", data=IMAGES.transpose([ROLES.index(role) for role in order]).T)
        for i, role in enumerate(order[::-1], 1):
            dim = group.create_dataset(f"dim{i}", data=values[role])
            dim.attrs["name"], dim.attrs["units"] = described[role]

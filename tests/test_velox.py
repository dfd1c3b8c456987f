# SPDX-License-Identifier: GPL-3.0-or-later
"""Velox files: real ones against RosettaSciIO, and written ones with several frames,
detectors and known drift."""

import zipfile
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy import ndimage
from velox_file import TIME, write_velox

import hyperspy_multitomo as mt
from hyperspy_multitomo.acquisition import read_records
from hyperspy_multitomo.acquisition.files import velox, velox_events
from hyperspy_multitomo.acquisition.files.frame_sums import (
    average_frames,
    count_events,
    register_frames,
    sum_frames,
)
from hyperspy_multitomo.acquisition.files.velox import is_velox, read_velox
from hyperspy_multitomo.acquisition.sparse_counts import dense_blocks

SAMPLES = Path(__file__).resolve().parents[2] / "shared" / "data" / "velox_samples"
needs_samples = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason="the Velox example files are not beside the repository"
)

SHAPE, CHANNELS = (24, 28), 6
DRIFT = np.array([[0, 0], [2, -1], [-3, 2], [1, 3]])


def scene(noise=0.0, drift=DRIFT, seed=0):
    """Return drifting frames of an image (frame, y, x),
    and of events (frame, y, x, energy) that sit on its features."""
    rng = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(rng.random(SHAPE), 1.5)
    image = 1000 * np.clip(image - np.median(image), 0, None) / np.ptp(image)
    spots = rng.poisson(np.where(image > 300, 2.0, 0.0)[..., None] * np.ones(CHANNELS))
    margin = 4
    spots[:margin] = spots[-margin:] = 0
    spots[:, :margin] = spots[:, -margin:] = 0
    images = np.stack([ndimage.shift(image, step, order=1, mode="nearest") for step in drift]) + 100
    events = np.stack([np.roll(spots, step, axis=(0, 1)) for step in drift])
    return rng.poisson(images + noise).astype(np.uint16), events


@pytest.fixture
def unpacked(tmp_path):
    for name in ("velox_EELS_EDS.zip", "velox_emd_version11.zip"):
        zipfile.ZipFile(SAMPLES / name).extractall(tmp_path)
    return tmp_path


class TestFrames:
    def test_known_shifts_are_found(self):
        images, _ = scene()
        np.testing.assert_allclose(register_frames(images), -DRIFT, atol=0.2)

    def test_shifts_of_parts_of_a_pixel(self):
        drift = np.array([[0, 0], [0.6, -0.4], [-1.3, 0.7]])
        images, _ = scene(drift=drift)
        np.testing.assert_allclose(register_frames(images), -drift, atol=0.25)

    def test_shifts_of_noisy_frames(self):
        """A random walk of 12 frames with 3 counts per pixel on a particle:
        to a third of a pixel."""
        rng = np.random.default_rng(3)
        y, x = np.mgrid[:96, :96]
        particle = 3.0 * (((y - 48) / 20) ** 2 + ((x - 45) / 13) ** 2 < 1)
        drift = np.cumsum(rng.normal(0, 0.7, (12, 2)), axis=0)
        drift -= drift[0]
        frames = [rng.poisson(ndimage.shift(particle, step, order=1)) for step in drift]
        error = register_frames(frames) + drift
        assert np.sqrt((error**2).mean()) < 0.33

    def test_frames_that_cannot_be_registered(self):
        images, _ = scene()
        with pytest.raises(ValueError, match="frame 1 is the same everywhere"):
            register_frames([images[0], np.zeros(SHAPE)])
        with pytest.raises(ValueError, match=r"frame 1 has the shape \(3, 3\)"):
            register_frames([images[0], np.zeros((3, 3))])

    def test_events_are_moved_whole(self):
        _, events = scene()
        summed = sum_frames(events, -DRIFT)
        assert summed.dtype.kind == "i"
        np.testing.assert_array_equal(summed, len(events) * events[0])
        np.testing.assert_array_equal(sum_frames(events, -DRIFT + 0.3), summed)
        assert summed.sum() == events.sum()

    def test_events_moved_out_are_lost(self):
        counts = np.arange(12).reshape(1, 3, 4)
        np.testing.assert_array_equal(
            sum_frames(counts, [[1, -2]]), [[0, 0, 0, 0], [2, 3, 0, 0], [6, 7, 0, 0]]
        )
        assert sum_frames(counts, [[5, 0]]).sum() == 0

    def test_average_is_the_mean_of_the_frames_that_saw_a_pixel(self):
        images = np.ones((2, 4, 5)) * np.array([1.0, 3.0])[:, None, None]
        averaged = average_frames(images, [[0, 0], [0, 2]])
        np.testing.assert_allclose(averaged, [[1, 1, 2, 2, 2]] * 4)

    @pytest.mark.parametrize("piece", [1, 7, 1000])
    def test_stream_in_pieces(self, piece):
        stream = np.array(
            [0, 0, 1, 65535, 65535, 5, 65535, 2, 65535, 0, 65535, 65535, 1, 65535, 9, 65535],
            dtype=np.uint16,
        )
        pieces = [stream[i : i + piece] for i in range(0, len(stream), piece)]
        # Two frames of 2 x 2 px; the last event is beyond the 6 channels.
        expected = np.zeros((2, 4, 6), dtype=int)
        expected[0, 0, :2] = 2, 1
        expected[0, 2, 5] = expected[0, 3, 2] = expected[1, 0, 0] = expected[1, 2, 1] = 1
        for frames, truth in (
            (None, expected.sum(0)),
            ((0, 1), expected[0]),
            ((1, 2), expected[1]),
        ):
            np.testing.assert_array_equal(count_events(pieces, (2, 2), 6, frames).toarray(), truth)


class TestWritten:
    def test_images_and_events_of_all_frames(self, tmp_path):
        images, events = scene()
        path = write_velox(
            tmp_path / "a.emd",
            {"HAADF": images, "DF4": 2 * images},
            [events, events],
            maps=["Fe", "O"],
        )
        assert is_velox(path)
        records = read_velox(path)
        assert sorted(record.kind for record in records) == [
            "image",
            "image",
            "map",
            "map",
            "spectrum_image",
        ]
        haadf = next(record for record in records if record.title == "HAADF")
        np.testing.assert_allclose(haadf.data, images.mean(axis=0), rtol=1e-6)
        np.testing.assert_array_equal(records[-1].data, 2 * events.sum(axis=0))
        assert records[-1].data.dtype == np.uint16

    @pytest.mark.parametrize("frames", [(0, 2), (1, 2), (2, 4)])
    def test_range_of_frames(self, tmp_path, frames):
        images, events = scene()
        path = write_velox(tmp_path / "a.emd", {"HAADF": images}, [events], frame_live=2.0)
        haadf, eds = read_velox(path, frames=frames)
        np.testing.assert_allclose(haadf.data, images[slice(*frames)].mean(axis=0), rtol=1e-6)
        np.testing.assert_array_equal(eds.data, events[slice(*frames)].sum(axis=0))
        detector = eds.metadata["Acquisition_instrument"]["TEM"]["Detector"]["EDS"]
        assert detector["live_time"] == pytest.approx(2.0 * (frames[1] - frames[0]))
        assert detector["real_time"] == pytest.approx(2.5 * (frames[1] - frames[0]))

    def test_registered_frames(self, tmp_path):
        images, events = scene()
        write_velox(tmp_path / "a.emd", {"HAADF": images, "DF4": images[:, ::-1]}, [events])
        haadf, eds = mt.load_tilt_series(tmp_path / "a.emd", register_frames=True)
        drifting, smeared = mt.load_tilt_series(tmp_path / "a.emd")
        np.testing.assert_array_equal(eds.data[0].compute(), len(events) * events[0])
        assert smeared.data[0].compute().max() < len(events) * events[0].max()
        inner = (slice(5, -5), slice(5, -5))
        error = [np.abs(series.data[0] - images[0])[inner].mean() for series in (haadf, drifting)]
        assert error[0] < 0.5 * error[1]
        drift = eds.metadata.Tomography.arrays.frame_drift.values
        assert drift == pytest.approx([3], abs=0.3)

    def test_metadata_one_by_one(self, tmp_path):
        images, events = scene()
        for number, tilt in enumerate((0.0, 30.0, -30.0)):
            write_velox(
                tmp_path / f"view{number}.emd",
                {"HAADF": images},
                [events, events],
                tilt=tilt,
                seconds=60 * number,
            )
        haadf, eds = mt.load_tilt_series(tmp_path, frames=(0, 2))
        np.testing.assert_allclose(haadf.tilts, [-30, 0, 30], atol=1e-3)
        np.testing.assert_array_equal(haadf.acquisition_order, [2, 0, 1])
        assert haadf.pixel_size == pytest.approx(2.0)
        microscope = eds.metadata.Acquisition_instrument.TEM
        assert microscope.beam_energy == 300
        assert microscope.beam_current == pytest.approx(0.2)
        assert microscope.Detector.EDS.elevation_angle == pytest.approx(18)
        assert not microscope.Detector.EDS.has_item("azimuth_angle")
        assert microscope.Detector.EDS.detectors.azimuth_angles == [45, 135]
        assert microscope.Detector.EDS.detectors.names == ["SuperX1", "SuperX2"]
        assert microscope.Detector.EDS.solid_angle == pytest.approx(0.7)
        assert haadf.metadata.Acquisition_instrument.TEM.Detector.STEM.inner_angle == pytest.approx(
            60
        )
        assert haadf.metadata.Acquisition_instrument.TEM.Detector.STEM.outer_angle == pytest.approx(
            200
        )
        arrays = eds.metadata.Tomography.arrays
        np.testing.assert_allclose(arrays.live_time.values, [2, 2, 2])
        np.testing.assert_allclose(arrays.beam_current.values, 0.2)
        assert arrays.acquired.values[1] == str(np.datetime64(TIME, "s"))
        energy = eds.axes_manager["Energy"]
        assert (energy.offset, energy.scale, energy.units) == (
            pytest.approx(-0.1),
            pytest.approx(0.02),
            "keV",
        )

    def test_choice_among_detectors(self, tmp_path):
        images, events = scene()
        survey = np.arange(64, dtype=np.uint16).reshape(1, 8, 8)
        path = write_velox(
            tmp_path / "a.emd", {"DF4": images, "BF": 3 * images}, [events], maps=["Fe"]
        )
        with pytest.raises(
            ValueError, match=r"a\.emd has several images, \['BF', 'DF4'\]; name one with image="
        ):
            mt.load_tilt_series(path)
        with pytest.raises(
            ValueError, match=r"a\.emd has no image called 'HAADF', only \['BF', 'DF4'\]"
        ):
            mt.load_tilt_series(path, image="HAADF")
        df4, _ = mt.load_tilt_series(path, image="DF4")
        np.testing.assert_allclose(df4.data[0], images.mean(axis=0), rtol=1e-6)
        write_velox(tmp_path / "b.emd", {"HAADF": survey, "DF4": images}, [events])
        np.testing.assert_array_equal(mt.load_tilt_series(tmp_path / "b.emd")[0].data[0], survey[0])

    @pytest.mark.slow
    @pytest.mark.parametrize("register", [False, True])
    @pytest.mark.parametrize(("stream", "frame"), [(1, 0), (1, 1), (2, 0), (2, 1), (2, 2)])
    @pytest.mark.parametrize("change", ["lost", "added"])
    def test_ends_of_pixels_lost_or_added(self, tmp_path, stream, frame, change, register):
        """The events behind would be in other pixels, in that frame only:
        frames begin where the table says."""
        images, events = scene(drift=DRIFT[:3])
        path = write_velox(tmp_path / "a.emd", {"HAADF": images}, [events, events])
        with h5py.File(path, "r+") as file:
            group = file[f"Data/SpectrumStream/stream{stream}"]
            values, starts = group["Data"][:, 0], group["FrameLocationTable"][:, 0].astype(int)
            end = starts[frame] + np.flatnonzero(values[starts[frame] :] == 65535)[300]
            values = np.delete(values, end) if change == "lost" else np.insert(values, end, 65535)
            starts[frame + 1 :] += -1 if change == "lost" else 1
            for name, array in (("Data", values), ("FrameLocationTable", starts)):
                del group[name]
                group[name] = array[:, None]
        found = 671 if change == "lost" else 673
        told = (
            r"a\.emd: not all frames .* the 672 pixels of the map "
            rf"\({found} in frame {frame} of stream{stream}\)"
        )
        if (stream, frame, change) == (1, 0, "added"):
            told = "a frame of its events has 673 pixels"
        with pytest.raises(ValueError, match=told):
            read_velox(path, register=register)
        if not register and frame != 0:
            (_, eds) = read_velox(path, frames=(0, frame))
            np.testing.assert_array_equal(eds.data, 2 * events[:frame].sum(axis=0))
        if not register and frame == 1:
            (_, eds) = read_velox(path, frames=(2, 3))
            np.testing.assert_array_equal(eds.data, 2 * events[2])

    @pytest.mark.parametrize("pixels", [1, 300])
    def test_recording_stopped_within_a_frame(self, tmp_path, pixels):
        """All detectors end at the same pixel: what they saw before is kept, with a warning."""
        images, events = scene(drift=DRIFT[:2])
        path = write_velox(tmp_path / "a.emd", {"HAADF": images}, [events, events])
        with h5py.File(path, "r+") as file:
            for group in file["Data/SpectrumStream"].values():
                values = group["Data"][:, 0]
                values = values[: np.flatnonzero(values == 65535)[-1 - pixels] + 1]
                del group["Data"]
                group["Data"] = values[:, None]
        with pytest.warns(
            UserWarning,
            match=rf"a\.emd: the last frame of its EDS events has {672 - pixels} of 672 pixels",
        ):
            eds = read_velox(path)[-1]
        expected = events.copy()
        expected[1].reshape(672, -1)[672 - pixels :] = 0
        np.testing.assert_array_equal(eds.data, 2 * expected.sum(axis=0))

    def test_end_of_the_last_pixel_may_be_missing(self, tmp_path):
        images, events = scene(drift=DRIFT[:2])
        events[:, -1, -1] = 1
        path = write_velox(tmp_path / "a.emd", {"HAADF": images}, [events])
        with h5py.File(path, "r+") as file:
            group = file["Data/SpectrumStream/stream1"]
            values = group["Data"][:-1]
            del group["Data"]
            group["Data"] = values
        np.testing.assert_array_equal(read_velox(path)[-1].data, events.sum(axis=0))

    def test_frames_without_a_table(self, tmp_path):
        images, events = scene(drift=DRIFT[:3])
        path = write_velox(tmp_path / "a.emd", {"HAADF": images}, [events])
        with h5py.File(path, "r+") as file:
            del file["Data/SpectrumStream/stream1/FrameLocationTable"]
        np.testing.assert_array_equal(read_velox(path)[-1].data, events.sum(axis=0))
        np.testing.assert_array_equal(read_velox(path, frames=(1, 2))[-1].data, events[1])

    @pytest.mark.parametrize("entry", [0, 10**9])
    def test_damaged_table_of_frames(self, tmp_path, entry):
        images, events = scene(drift=DRIFT[:3])
        path = write_velox(tmp_path / "a.emd", {"HAADF": images}, [events])
        with h5py.File(path, "r+") as file:
            file["Data/SpectrumStream/stream1/FrameLocationTable"][2] = entry
        with pytest.raises(
            ValueError,
            match=(
                r"a\.emd: the table of the frames .*stream1 has the entries "
                r"\[0, .*expected rising"
            ),
        ):
            mt.load_tilt_series(path)

    def test_blocks_of_rows(self, tmp_path, monkeypatch):
        images, events = scene()
        path = write_velox(tmp_path / "a.emd", {"HAADF": images}, [events])
        five_rows = partial(dense_blocks, block_bytes=5 * SHAPE[1] * CHANNELS * 2)
        monkeypatch.setattr(velox, "dense_blocks", five_rows)
        monkeypatch.setattr(velox_events, "_pieces", partial(velox_events._pieces, size=100))
        data = read_velox(path, lazy=True)[-1].data
        assert data.chunks[0] == (5, 5, 5, 5, 4)
        np.testing.assert_array_equal(data.compute(), events.sum(axis=0))

    def test_computed_images_of_complex_numbers(self, tmp_path):
        images, events = scene()
        path = write_velox(tmp_path / "a.emd", {"HAADF": images}, [events])
        with h5py.File(path, "a") as file:
            group = file.create_group("Data/Image/dpc")
            group["Data"] = np.zeros(
                (*SHAPE, len(images)), dtype=[("realFloat", "<f4"), ("imagFloat", "<f4")]
            )
            group["Metadata"] = file["Data/Image/haadf/Metadata"][:]
        kinds = [record.kind for record in read_velox(path)]
        assert sorted(kinds) == ["image", "map", "spectrum_image"]
        np.testing.assert_allclose(
            mt.load_tilt_series(path, lazy=False)[0].data[0], images.mean(axis=0), rtol=1e-6
        )

    def test_size_of_the_map_is_that_of_its_frames(self, tmp_path):
        """Where the scan says otherwise, the image with as many pixels as a frame of the events has
        tells the size."""
        images, events = scene()
        path = write_velox(tmp_path / "a.emd", {"HAADF": images}, [events])
        with h5py.File(path, "a") as file:
            for node in ("SpectrumImage/map", "SpectrumStream/stream1"):
                told = file[f"Data/{node}/Metadata"]
                texts = [
                    column.tobytes().replace(b'"width": "128"', b'"width": "256"')
                    for column in told[:].T
                ]
                told[:] = np.array([np.frombuffer(text, np.uint8) for text in texts]).T
        np.testing.assert_array_equal(read_velox(path)[-1].data, events.sum(axis=0))
        with h5py.File(path, "a") as file:
            del file["Data/Image/haadf"]
        with pytest.raises(
            ValueError,
            match=(
                r"a\.emd does not say how large its EDS map is: a frame of "
                r"its events has 672 pixels"
            ),
        ):
            read_velox(path)

    def test_stream_without_a_table_of_frames(self, tmp_path):
        images, events = scene()
        path = write_velox(tmp_path / "a.emd", {"HAADF": images}, [events])
        with h5py.File(path, "a") as file:
            del file["Data/SpectrumStream/stream1/FrameLocationTable"]
        np.testing.assert_array_equal(
            read_velox(path, frames=(1, 3))[-1].data, events[1:3].sum(axis=0)
        )

    def test_hdf5_by_another_name(self, tmp_path):
        images, events = scene()
        path = write_velox(tmp_path / "a.h5", {"HAADF": images}, [events])
        assert mt.load_tilt_series(path)[0].data.shape == (1, *SHAPE)
        with h5py.File(tmp_path / "b.h5", "w") as file:
            file["x"] = np.ones(3)
        with pytest.raises(ValueError, match=r"b\.h5 is no Velox file; .*\.hspy"):
            mt.load_tilt_series(tmp_path / "b.h5")


class TestBadInput:
    @pytest.mark.parametrize("frames", [(0, 5), (2, 2), (-1, 2)])
    def test_frames_outside(self, tmp_path, frames):
        images, events = scene()
        path = write_velox(tmp_path / "a.emd", {"HAADF": images}, [events])
        with pytest.raises(ValueError, match=r"a\.emd has 4 frames; frames="):
            mt.load_tilt_series(path, frames=frames)

    @pytest.mark.parametrize("frames", [3, (1,), (0, 2.5), (0, None), "all"])
    def test_frames_that_are_no_range(self, tmp_path, frames):
        images, events = scene()
        path = write_velox(tmp_path / "a.emd", {"HAADF": images}, [events])
        with pytest.raises(ValueError, match=r"must be \(first, last\): two whole numbers"):
            mt.load_tilt_series(path, frames=frames)

    @pytest.mark.parametrize("with_events", [True, False])
    def test_frames_of_a_file_of_one_frame(self, tmp_path, with_events):
        images, events = scene()
        path = write_velox(
            tmp_path / "a.emd", {"HAADF": images[:1]}, [events[:1]] if with_events else []
        )
        mt.load_tilt_series(path, frames=(0, 1))
        with pytest.raises(ValueError, match=r"a\.emd has 1 frames"):
            mt.load_tilt_series(path, frames=(5, 10))

    def test_energy_loss_without_eels(self, tmp_path):
        images, events = scene()
        path = write_velox(tmp_path / "a.emd", {"HAADF": images}, [events])
        with pytest.raises(ValueError, match="no file has EELS spectra, only EDS"):
            mt.load_tilt_series(path, energy_loss=708)
        with pytest.raises(ValueError, match="energy_loss=708 goes with EELS"):
            mt.load_tilt_series(path, energy_loss=708, spectra="EDS")

    def test_pruned_and_missing_streams(self, tmp_path):
        images, events = scene()
        path = write_velox(tmp_path / "a.emd", {"HAADF": images}, pruned=True)
        with pytest.warns(UserWarning, match=r"a\.emd: its EDS events have been pruned"):
            assert type(mt.load_tilt_series(path)) is mt.TiltSeriesHAADF
        path = write_velox(tmp_path / "b.emd", {"HAADF": images})
        with pytest.raises(ValueError, match=r"no file has EDS spectra: b\.emd"):
            mt.load_tilt_series(path, spectra="EDS")
        path = write_velox(tmp_path / "c.emd", {"HAADF": images}, [events])
        with pytest.raises(ValueError, match=r"no file has EELS spectra, only EDS: c\.emd"):
            mt.load_tilt_series(path, spectra="EELS")
        with pytest.raises(ValueError, match="spectra='XPS' must be"):
            mt.load_tilt_series(path, spectra="XPS")

    def test_without_image(self, tmp_path):
        images, events = scene()
        path = write_velox(tmp_path / "a.emd", {}, [events], maps=["Fe"])
        with pytest.raises(ValueError, match=r"a\.emd has no image to register"):
            mt.load_tilt_series(path, register_frames=True)
        assert mt.load_tilt_series(path).metadata.Signal.signal_type == "EDS_TEM"
        with_image = write_velox(tmp_path / "b.emd", {"HAADF": images}, [events], tilt=10)
        with pytest.raises(
            ValueError, match=r"these files have no image, unlike the others: a\.emd"
        ):
            mt.load_tilt_series([path, with_image])

    def test_image_and_events_of_different_frames(self, tmp_path):
        images, events = scene()
        path = write_velox(tmp_path / "a.emd", {"HAADF": images[:3]}, [events])
        with pytest.raises(
            ValueError, match=r"a\.emd: the image to register by has 3 frames, the EDS map 4"
        ):
            mt.load_tilt_series(path, register_frames=True)

    def test_frames_of_a_file_without(self, tmp_path):
        mt.TiltSeriesHAADF.from_images(np.ones((2, 4, 4)), tilts=[0, 1]).save(tmp_path / "a.hspy")
        with pytest.raises(ValueError, match=r"a\.hspy is no Velox file: it has no frames"):
            read_records(tmp_path / "a.hspy", frames=(0, 1))

    def test_mixed_beam_energies_and_pixel_sizes(self, tmp_path):
        images, events = scene()
        write_velox(tmp_path / "1.emd", {"HAADF": images}, [events], tilt=1)
        write_velox(tmp_path / "2.emd", {"HAADF": images}, [events], tilt=2)
        write_velox(tmp_path / "odd.emd", {"HAADF": images}, [events], tilt=3, beam_energy=200)
        with pytest.raises(
            ValueError, match=r"same beam energy .*300\.0: 1\.emd, 2\.emd; 200\.0: odd\.emd"
        ):
            mt.load_tilt_series(tmp_path)
        write_velox(tmp_path / "odd.emd", {"HAADF": images}, [events], tilt=3, pixel_size=2.5)
        with pytest.raises(ValueError, match=r"same pixel size .*1\.emd, 2\.emd;.*odd\.emd"):
            mt.load_tilt_series(tmp_path)

    def test_truncated_and_foreign(self, tmp_path):
        images, events = scene()
        path = write_velox(tmp_path / "a.emd", {"HAADF": images}, [events])
        path.write_bytes(path.read_bytes()[:5000])
        with pytest.raises(ValueError, match=r"a\.emd cannot be read"):
            mt.load_tilt_series(path)
        with h5py.File(tmp_path / "b.emd", "w") as file:
            file["x"] = np.ones(3)
        with pytest.raises(ValueError, match=r"b\.emd"):
            mt.load_tilt_series(tmp_path / "b.emd")


@needs_samples
class TestReal:
    def test_eds_and_haadf(self, unpacked):
        from rsciio.emd import file_reader

        path = unpacked / "Test SI 16x16 215 kx.emd"
        haadf, eds = mt.load_tilt_series(path)
        theirs = file_reader(str(path))
        np.testing.assert_array_equal(eds.data[0].compute(), theirs[-1]["data"])
        stack = next(
            c["data"]
            for c in file_reader(str(path), load_SI_image_stack=True)
            if c["data"].shape[0] == 2
        )
        np.testing.assert_allclose(haadf.data[0], stack.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(haadf.tilts, [0.0051])
        assert haadf.pixel_size == pytest.approx(3.59925, abs=1e-5)
        microscope = eds.metadata.Acquisition_instrument.TEM
        assert microscope.beam_energy == 300
        assert microscope.Detector.EDS.elevation_angle == pytest.approx(18)
        assert sorted(microscope.Detector.EDS.detectors.azimuth_angles) == [45, 135, 225, 315]
        # Live time of both frames; the file's first frame alone has 0.25 s.
        assert microscope.Detector.EDS.live_time == pytest.approx(0.50166, abs=1e-4)
        assert microscope.Detector.EDS.real_time == pytest.approx(0.512, abs=1e-3)
        assert haadf.metadata.Acquisition_instrument.TEM.Detector.STEM.inner_angle == pytest.approx(
            50.056, abs=1e-3
        )
        assert eds.metadata.Sample.elements == ["C", "Ca", "Cu", "O"]
        assert eds.metadata.Tomography.arrays.acquired.values == ["2024-02-29T06:58:04"]

    def test_frames_add_up(self, unpacked):
        path = unpacked / "Test SI 16x16 215 kx.emd"
        parts = [read_velox(path, frames=frames)[-1] for frames in ((0, 1), (1, 2))]
        whole = read_velox(path)[-1]
        np.testing.assert_array_equal(parts[0].data + parts[1].data, whole.data)
        times = [
            r.metadata["Acquisition_instrument"]["TEM"]["Detector"]["EDS"]["live_time"]
            for r in (*parts, whole)
        ]
        assert times[0] + times[1] == pytest.approx(times[2])

    def test_eds_map_of_a_part_of_the_survey(self, unpacked):
        """The map has 16 x 20 px beside a survey image of 128 x 128:
        so say the scan area and the 319 ends of pixels."""
        path = unpacked / "example_velox_EELS_EDS.emd"
        image, eds = mt.load_tilt_series(path)
        assert image.data.shape == (1, 16, 20)
        assert eds.data.shape == (1, 16, 20, 4096)
        with h5py.File(path) as file:
            streams = [group["Data"][:, 0] for group in file["Data/SpectrumStream"].values()]
        assert int(eds.data.sum().compute()) == sum(
            np.count_nonzero(stream != 65535) for stream in streams
        )
        assert all(np.count_nonzero(stream == 65535) == 16 * 20 - 1 for stream in streams)

    @pytest.mark.slow
    def test_eels(self, unpacked):
        path = unpacked / "example_velox_EELS_EDS.emd"
        with pytest.raises(
            ValueError, match=r"several EELS spectrum images: .*480 to 826.*energy_loss"
        ):
            mt.load_tilt_series(path, spectra="EELS")
        with pytest.raises(ValueError, match="no spectra at an energy loss of 5000 eV, only"):
            mt.load_tilt_series(path, spectra="EELS", energy_loss=5000)
        image, eels = mt.load_tilt_series(path, energy_loss=708)
        assert eels.metadata.Signal.signal_type == "EELS"
        assert eels.data.shape == (1, 16, 20, 2048)
        assert [axis.name for axis in eels.axes_manager._axes] == ["tilt", "y", "x", "Energy loss"]
        energy = eels.axes_manager["Energy loss"]
        assert (energy.offset, energy.scale, energy.units) == (
            pytest.approx(480),
            pytest.approx(0.1692),
            "eV",
        )
        assert (
            eels.axes_manager["x"].scale
            == pytest.approx(image.axes_manager["x"].scale)
            == pytest.approx(158.658, abs=1e-3)
        )
        # The zero of the detector is at 100, where the file says it is.
        assert abs(eels.data.mean().compute()) < 0.1
        assert eels.metadata.Acquisition_instrument.TEM.convergence_angle == pytest.approx(
            21.434, abs=1e-3
        )

    def test_pruned(self, unpacked):
        with pytest.warns(UserWarning, match="pruned"):
            haadf = mt.load_tilt_series(unpacked / "Test SI 16x16 ReducedData 215 kx.emd")
        assert haadf.data.shape == (1, 16, 16)

# SPDX-License-Identifier: GPL-3.0-or-later
"""MRC files: the sign of bytes, files that are too short or too long,
and the sections of the .mdoc beside them."""

import warnings

import numpy as np
import pytest

import hyperspy_multitomo as mt
from hyperspy_multitomo.acquisition import read_records, read_stack
from hyperspy_multitomo.acquisition.files.mdoc import read_mdoc

MODES = {0: "<i1", 1: "<i2", 2: "<f4", 6: "<u2", 12: "<f2"}
STAMP = 1146047817
BYTES = np.arange(-100, -100 + 3 * 5 * 7, dtype=np.int16).reshape(3, 5, 7)


def write_mrc(path, data, mode, *, extended=0, extremes=(0.0, 0.0), flags=None, surplus=0):
    """Write an MRC file; a negative `surplus` cuts it."""
    header = np.zeros(256, np.int32)
    header[:4] = *data.shape[::-1], mode
    header[7:10] = data.shape[::-1]
    header[16:19] = 1, 2, 3
    header[19:21] = np.array(extremes, np.float32).view(np.int32)
    header[23] = extended
    if flags is not None:
        header[38:40] = STAMP, flags
    whole = header.tobytes() + bytes(extended) + data.astype(np.int16).astype(MODES[mode]).tobytes()
    path.write_bytes(whole[:surplus] if surplus < 0 else whole + bytes(surplus))
    return path


def load(path, **options):
    return mt.load_tilt_series(path, tilts=[-20, 0, 20], **options).data


class TestBytes:
    @pytest.mark.parametrize("lazy", [None, True])
    @pytest.mark.parametrize(
        ("header", "signed"),
        [
            ({"flags": 1}, True),
            ({"flags": 5, "extremes": (0, 255)}, True),
            ({"flags": 0}, False),
            ({"flags": 4, "extremes": (-100, 4)}, False),
            ({"extremes": (-100, 4)}, True),
            ({"extremes": (0, 255)}, False),
            ({"extremes": (3, 128)}, False),
        ],
    )
    def test_what_the_header_says(self, tmp_path, header, signed, lazy):
        path = write_mrc(tmp_path / "a.mrc", BYTES, 0, **header)
        np.testing.assert_array_equal(load(path, lazy=lazy), BYTES if signed else BYTES % 256)

    @pytest.mark.parametrize(
        "extremes", [(0, 0), (0, 100), (-100, 200), (np.nan, np.nan), (50, 10)]
    )
    def test_signed_with_a_warning_where_nothing_tells(self, tmp_path, extremes):
        path = write_mrc(tmp_path / "a.st", BYTES, 0, extremes=extremes)
        with pytest.warns(
            UserWarning, match=r"a\.st does not tell .* signed.*pass signed_bytes=True or False"
        ):
            np.testing.assert_array_equal(load(path), BYTES)

    def test_no_warning_where_it_does_not_matter(self, tmp_path):
        path = write_mrc(tmp_path / "a.mrc", np.abs(BYTES), 0)
        np.testing.assert_array_equal(load(path), np.abs(BYTES))

    @pytest.mark.parametrize("header", [{}, {"flags": 1}, {"flags": 0}])
    def test_keyword_goes_first(self, tmp_path, header):
        path = write_mrc(tmp_path / "a.ali", BYTES, 0, **header)
        for signed, expected in ((True, BYTES), (False, BYTES % 256)):
            np.testing.assert_array_equal(load(path, signed_bytes=signed), expected)
            np.testing.assert_array_equal(read_stack(path, signed_bytes=signed).data, expected)
            np.testing.assert_array_equal(read_records(path, signed_bytes=signed)[0].data, expected)
        series = mt.load_tilt_series(path, tilts=[-20, 0, 20], signed_bytes=False)
        assert series.history[0]["signed_bytes"] is False

    def test_images_of_a_path(self, tmp_path):
        path = write_mrc(tmp_path / "a.mrc", BYTES, 0, flags=1)
        np.testing.assert_array_equal(
            mt.TiltSeriesHAADF.from_images(path, tilts=[-20, 0, 20]).data, BYTES
        )


class TestLength:
    @pytest.mark.parametrize("lazy", [None, True])
    @pytest.mark.parametrize("suffix", ["mrc", "st", "ali"])
    @pytest.mark.parametrize("mode", MODES)
    def test_too_short(self, tmp_path, mode, suffix, lazy):
        values = 105 * np.dtype(MODES[mode]).itemsize
        path = write_mrc(tmp_path / f"a.{suffix}", np.abs(BYTES), mode, extended=512, surplus=-1)
        told = (
            rf"a\.{suffix} is cut short.*expected {1536 + values} bytes "
            rf"\(1024 of header, 512 of extended.*found {1535 + values};"
        )
        with pytest.raises(ValueError, match=told):
            load(path, lazy=lazy)

    @pytest.mark.parametrize("lazy", [None, True])
    @pytest.mark.parametrize("mode", MODES)
    def test_too_long(self, tmp_path, mode, lazy):
        path = write_mrc(tmp_path / "a.mrc", np.abs(BYTES), mode, extended=512, surplus=33)
        with pytest.warns(UserWarning, match=r"a\.mrc has 33 bytes more than its header says"):
            np.testing.assert_array_equal(load(path, lazy=lazy), np.abs(BYTES))

    @pytest.mark.parametrize("length", [1, 1000, 1024, 1200])
    def test_cut_in_the_header_or_behind(self, tmp_path, length):
        path = write_mrc(tmp_path / "a.mrc", BYTES, 2, extended=512)
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(ValueError, match=rf"a\.mrc .*expected \d+ bytes.*found {length}\b"):
            read_records(path, lazy=True)

    def test_cut_files_can_be_left_out(self, tmp_path):
        for tilt in (-20, 0, 20):
            write_mrc(tmp_path / f"{tilt}.mrc", BYTES[:1] + tilt, 1, surplus=-7 if tilt == 0 else 0)
        with pytest.warns(UserWarning, match=r"left out: 0\.mrc is cut short"):
            series = mt.load_tilt_series(tmp_path, on_error="skip")
        np.testing.assert_array_equal(series.data, [BYTES[0] - 20, BYTES[0] + 20])

    def test_whole_files_are_not_warned_of(self, tmp_path):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            load(write_mrc(tmp_path / "a.mrc", BYTES, 1, extended=512))


class TestMdoc:
    def test_sections_go_by_their_number(self, tmp_path):
        write_mrc(tmp_path / "a.mrc", BYTES, 1)
        lines = [
            f"[ZValue = {z}]\nTiltAngle = {(-20, 0, 20)[z]}\nDateTime = 05-Nov-24  10:00:{z:02d}"
            for z in (2, 0, 1)
        ]
        (tmp_path / "a.mrc.mdoc").write_text("\n".join(["Voltage = 200", *lines]))
        series = mt.load_tilt_series(tmp_path / "a.mrc")
        np.testing.assert_array_equal(series.tilts, [-20, 0, 20])
        np.testing.assert_array_equal(series.data, BYTES)
        np.testing.assert_array_equal(series.acquisition_order, [0, 1, 2])
        assert [time[-2:] for time in series.metadata.Tomography.arrays.acquired.values] == [
            "00",
            "01",
            "02",
        ]

    @pytest.mark.parametrize(
        ("numbers", "told"),
        [
            ([1, 2, 3], "3 sections .* from 1 to 3, with 0 missing; expected 0 to 2"),
            ([0, 2], "1 missing"),
            ([0, 1, 1], "2 missing and 1 twice"),
            ([-1, 0, 1], "from -1 to 1, with 2 missing"),
        ],
    )
    def test_sections_missing_or_twice(self, tmp_path, numbers, told):
        path = tmp_path / "a.mdoc"
        path.write_text("\n".join(f"[ZValue = {z}]\nTiltAngle = {10 * z}" for z in numbers))
        with pytest.raises(ValueError, match=rf"a\.mdoc has .*{told}"):
            read_mdoc(path)

    def test_other_sections_say_nothing_of_an_image(self, tmp_path):
        path = tmp_path / "a.mdoc"
        path.write_text(
            "[ZValue = 0]\nTiltAngle = 3\n[MontSection = 0]\nTiltAngle = 7\n[ZValue = "
            "1]\nTiltAngle = 5"
        )
        np.testing.assert_array_equal(read_mdoc(path).tilts, [3, 5])

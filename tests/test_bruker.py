# SPDX-License-Identifier: GPL-3.0-or-later
"""Maps of Bruker files: each way of packing counts, every kind of damage, and how often a file is read."""

import struct
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from scipy.sparse import csr_matrix

import hyperspy_multitomo as mt
from hyperspy_multitomo.acquisition.files import bruker
from hyperspy_multitomo.acquisition.files.bruker_records import check_pixels, decode_pixels

IDP = Path(__file__).resolve().parents[2] / "shared" / "data" / "idp_l2083"
SHAPE = (2, 3, 64)


def pixel(column, flag, pulses, data, extra=b""):
    length = len(data) + (4 if flag > 1 else 0)
    tail = struct.pack("<I", len(extra)) + extra if flag > 1 else b""
    return (
        struct.pack("<IHHIHHHI", column, SHAPE[2], SHAPE[2], 0, flag, length, pulses, length)
        + data
        + tail
    )


def words(*values):
    return struct.pack(f"<{len(values)}H", *values)


def twelve_bits(a, b, c, d):
    """Pack four pulses into six bytes, the two of each 16-bit word in exchange."""
    packed = [a >> 4, (a & 15) << 4 | b >> 8, b & 255, c >> 4, (c & 15) << 4 | d >> 8, d & 255]
    return bytes(packed[i] for i in (1, 0, 3, 2, 5, 4))


def stream(*lines):
    head = struct.pack("<II", *SHAPE[:2]).ljust(0x1A0, b"\0")
    return np.frombuffer(
        head + b"".join(struct.pack("<I", len(line)) + b"".join(line) for line in lines), np.uint8
    )


def dense(content):
    counts, channels, starts = decode_pixels(content, SHAPE)
    return csr_matrix((counts, channels, starts), (6, SHAPE[2])).toarray().reshape(SHAPE)


# Runs of channels: (bytes of the offset, channels, offset, counts less the offset).
RUNS = (
    bytes([0, 5])  # five empty channels
    + bytes([1, 3, 1, 0x21, 0x03])  # 1 + (1, 2, 3) in half bytes
    + bytes([2, 2]) + words(200) + bytes([7, 0])  # 200 + (7, 0)
    + bytes([4, 1]) + struct.pack("<I", 70_000) + words(500)
    + bytes([8, 1]) + struct.pack("<Q", 1) + struct.pack("<I", 2)
)  # fmt: skip
WHOLE = stream(
    [pixel(0, 0, 4, words(3, 9, 3, 63)), pixel(2, 1, 4, twelve_bits(1, 2, 2, 60))],
    [pixel(1, 2, 2, RUNS, words(0, 6))],
)

# One pixel has 300 pulses in a channel.
SPOT = stream([], [pixel(1, 0, 300, words(*[0] * 300))])


class TestDecoding:
    def test_each_way_of_packing(self):
        expected = np.zeros(SHAPE, int)
        expected[0, 0, [3, 9, 63]] = 2, 1, 1
        expected[0, 2, [1, 2, 60]] = 1, 2, 1
        expected[1, 1, 5:12] = 2, 3, 4, 207, 200, 70_500, 3
        expected[1, 1, [0, 6]] += 1
        np.testing.assert_array_equal(dense(WHOLE), expected)
        assert check_pixels(WHOLE, SHAPE) == 70_500

    @pytest.mark.parametrize("pulses", [1, 2, 3])
    def test_twelve_bits_that_end_within_a_group(self, pulses):
        data = twelve_bits(5, 6, 7, 8)[: 2 * pulses]
        found = dense(stream([pixel(0, 1, pulses, data)], []))
        assert np.flatnonzero(found[0, 0]).tolist() == [5, 6, 7][:pulses]

    def test_counts_above_the_last_channel_are_left_out(self):
        assert dense(stream([pixel(0, 0, 2, words(64, 5))], [])).sum() == 1

    def test_every_truncation_is_an_error(self):
        for size in range(len(WHOLE)):
            with pytest.raises(
                ValueError, match=r"breaks off or is damaged at byte|has not the 2 x 3 pixels"
            ):
                decode_pixels(WHOLE[:size], SHAPE)

    @pytest.mark.parametrize(
        "line",
        [
            [pixel(3, 0, 1, words(1))],  # a column that is not there
            [pixel(1, 0, 1, words(1)), pixel(1, 0, 1, words(1))],  # twice the same
            [pixel(0, 0, 9, words(1))],  # more pulses than bytes
            [pixel(0, 1, 9, words(1))],
            [pixel(0, 2, 0, bytes([3, 1, 0, 0, 0, 0]), b"")],  # a width that does not exist
            [pixel(0, 2, 0, bytes([2, 200, 0, 0, 1]), b"")],  # a run beyond the pixel
            # Counts that would not go into 32 bits, alone, as an offset, and in sum: each channel
            # is listed once.
            [
                pixel(
                    0, 2, 4, bytes([8, 4]) + struct.pack("<Q", 2**32) + bytes(16), words(0, 1, 2, 3)
                )
            ],
            [pixel(0, 2, 1, bytes([8, 1]) + struct.pack("<Q", 2**63) + bytes(4), words(0))],
            [
                pixel(
                    0,
                    2,
                    1,
                    bytes([8, 1]) + struct.pack("<Q", 0) + struct.pack("<I", 2**31),
                    words(0),
                )
            ],
            [pixel(0, 2, 1, bytes([8, 1]) + struct.pack("<Q", 2**31 - 1) + bytes(4), words(0))],
        ],
    )
    def test_lengths_and_places_that_cannot_be(self, line):
        with pytest.raises(ValueError, match="damaged at byte"):
            check_pixels(stream(line, []), SHAPE)

    def test_random_bytes_end_no_process(self):
        rng = np.random.default_rng(0)
        for _ in range(200):
            content = WHOLE.copy()
            content[0x1A0:] = rng.integers(0, 256, len(content) - 0x1A0)
            with pytest.raises(ValueError, match="damaged at byte"):
                decode_pixels(content, SHAPE)


@pytest.mark.skipif(
    not IDP.is_dir(), reason=f"the example data {IDP.name} are not beside the repository"
)
class TestFiles:
    def test_counts_are_those_of_rosettasciio(self):
        from rsciio.bruker import file_reader

        expected = file_reader(IDP / "-40.bcf")[-1]["data"]
        counts = bruker.read_counts(IDP / "-40.bcf", expected.shape, expected.dtype)
        np.testing.assert_array_equal(counts.toarray().reshape(expected.shape), expected)

    def test_each_file_is_decoded_once(self, monkeypatch):
        decoded = []

        def counting(path, shape, dtype):
            decoded.append(path.name)
            return read(path, shape, dtype)

        read = bruker.read_counts
        monkeypatch.setattr(bruker, "read_counts", counting)
        files = [IDP / f"{tilt}.bcf" for tilt in (-5, 0)]
        _, spectra = mt.load_tilt_series(files)
        assert decoded == []
        mt.elemental_maps(
            spectra,
            ["Si"],
            also=["Pt", "S", "Mg", "Ga"],
            energy_range=(1.0, 3.0),
            show_progressbar=False,
        )
        assert sorted(decoded) == ["-5.bcf", "0.bcf"]

    def test_no_process_is_started(self, monkeypatch):
        monkeypatch.setattr("subprocess.Popen", None)
        assert mt.load_tilt_series(IDP / "0.bcf", tilts=[0])[1].data.shape == (1, 256, 256, 2048)

    def test_a_file_that_changes_after_it_was_loaded_is_named(self, tmp_path):
        path = tmp_path / "0.bcf"
        path.write_bytes((IDP / "0.bcf").read_bytes())
        _, spectra = mt.load_tilt_series(path, tilts=[0])
        path.write_bytes(path.read_bytes()[:200_000])
        with pytest.raises(
            ValueError,
            match=r"0\.bcf cannot be read, it is damaged or was changed since it was loaded",
        ):
            spectra.data.sum().compute()

    def test_damage_within_a_map_is_told_when_it_is_loaded(self, tmp_path):
        content = bytearray((IDP / "0.bcf").read_bytes())
        content[2_000_000:2_000_400] = bytes(400)
        (tmp_path / "0.bcf").write_bytes(content)
        with pytest.raises(
            ValueError,
            match=r"0\.bcf cannot be read, it is damaged or truncated.*at byte \d+ of \d+",
        ):
            mt.load_tilt_series(tmp_path / "0.bcf", tilts=[0])

    def test_the_type_holds_the_largest_count(self, monkeypatch):
        """RosettaSciIO's type is an estimate from the mean, which a bright spot in vacuum exceeds."""
        monkeypatch.setattr(bruker, "_stream", lambda path: SPOT)
        cube = da.zeros(SHAPE, dtype=np.uint8)
        for lazy in (True, False):
            (content,) = bruker.with_checked_spectra(IDP / "0.bcf", [{"data": cube}], lazy)
            assert content["data"].dtype == np.uint16
            assert np.asarray(content["data"])[1, 1, 0] == 300

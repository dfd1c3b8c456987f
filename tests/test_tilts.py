# SPDX-License-Identifier: GPL-3.0-or-later
"""Tilts from arrays, names, files and metadata, and their order."""

import re

import dask.array as da
import numpy as np
import pytest

from hyperspy_multitomo.acquisition.same_tilt import (
    ROUNDED_TILT,
    SAME_TILT,
    SAME_VIEW,
    match_tilts,
)
from hyperspy_multitomo.acquisition.tilts import (
    check_tilts,
    order_tilts,
    read_tilt_file,
    resolve_tilts,
    tilts_from_names,
)

REMEDIES = r'tilts="filename".*array.*\.rawtlt'


class TestNames:
    @pytest.mark.parametrize(
        ("name", "tilt"),
        [
            ("-40.bcf", -40),
            ("0.bcf", 0),
            ("tilt_+12.5deg.bcf", 12.5),
            ("tilt_-7deg_scan003.bcf", -7),
            ("scan003_-20.0.bcf", -20),
            ("tilt-30.emd", -30),
            ("2018-11-29_15.bcf", 15),
            ("2018-11-29.bcf", 29),
            ("a −35 °.dm4", -35),
            ("folder_99/x_5.hspy", 5),
        ],
    )
    def test_last_number_with_its_sign(self, name, tilt):
        np.testing.assert_array_equal(tilts_from_names([name]), [tilt])

    @pytest.mark.parametrize("dash", "-‐‑‒–—―−⁻﹣－➖")
    def test_every_dash_is_a_minus(self, dash):
        names = [
            f"tilt_{dash}40.bcf",
            f"{dash}12,5.bcf",
            f"a {dash}7.5 deg_003.bcf",
            f"2018{dash}11{dash}29_3.bcf",
        ]
        np.testing.assert_array_equal(tilts_from_names(names), [-40, -12.5, -7.5, 3])
        np.testing.assert_array_equal(tilts_from_names([f"A{dash}10_1.bcf"], r"A(-?\d+)"), [-10])
        np.testing.assert_array_equal(
            tilts_from_names([f"A{dash}10_1.bcf"], rf"A({dash}\d+)"), [-10]
        )

    @pytest.mark.parametrize(
        ("name", "tilt"),
        [
            ("12p5", 12.5),
            ("-12p5", -12.5),
            ("-12,5", -12.5),
            ("a_7P25deg_2", 7.25),
            ("+0,5", 0.5),
            ("scan_3p", 3),
            ("1.2.3", 2.3),
        ],
    )
    def test_decimals(self, name, tilt):
        np.testing.assert_array_equal(tilts_from_names([f"{name}.bcf"]), [tilt])

    @pytest.mark.parametrize(
        ("name", "tilt"),
        [
            ("n40", -40),
            ("a_m12p5", -12.5),
            ("a_N7", -7),
            ("tiltn40", -40),
            ("tilt_neg30", -30),
            ("tilt_neg_30", -30),
            ("tiltminus30deg_2", -30),
            ("a_40n", -40),
            ("a_12.5m", -12.5),
            ("a_p40", 40),
            ("tiltp12p5", 12.5),
            ("minus-5", -5),
            ("n0", 0),
        ],
    )
    def test_letters_as_signs_are_warned_of(self, name, tilt):
        with pytest.warns(
            UserWarning,
            match=rf"letters in the file names .* sign of the tilt: {name}\.bcf \({tilt:g}\); if they",
        ):
            found = tilts_from_names([f"{name}.bcf"])
        np.testing.assert_array_equal(found, [tilt])
        assert not np.signbit(found[found == 0]).any()

    @pytest.mark.parametrize(
        ("name", "tilt"),
        [
            ("scan40", 40),
            ("beam12", 12),
            ("step5", 5),
            ("CoMn40", 40),
            ("a_50nm", 50),
            ("a_20mrad", 20),
            ("5n40", 40),
            ("n_4", 4),
        ],
    )
    def test_letters_of_words_are_no_signs(self, name, tilt):
        np.testing.assert_array_equal(tilts_from_names([f"{name}.bcf"]), [tilt])

    @pytest.mark.filterwarnings("ignore:letters in the file names")
    def test_letters_and_commas_in_what_a_pattern_finds(self):
        names = ["A_n12p5_1.bcf", "A_12,5_2.bcf", "A_-3_3.bcf"]
        np.testing.assert_array_equal(tilts_from_names(names, r"A_([^_]+)"), [-12.5, 12.5, -3])

    def test_pattern(self):
        names = ["A-10_scan1.bcf", "A20_scan2.bcf"]
        np.testing.assert_array_equal(tilts_from_names(names, r"A(-?\d+)"), [-10, 20])
        np.testing.assert_array_equal(resolve_tilts(re.compile(r"-?\d+"), names), [-10, 20])
        np.testing.assert_array_equal(resolve_tilts(r"A(-?\d+)", names), [-10, 20])

    def test_names_without_a_number_are_listed(self):
        with pytest.raises(
            ValueError, match=r"no number found in the file names left\.bcf, right\.bcf.*pass tilts"
        ):
            tilts_from_names(["left.bcf", "3.bcf", "right.bcf"])
        with pytest.raises(ValueError, match="neither a file nor a valid regular expression"):
            resolve_tilts("(", ["1.bcf", "2.bcf"])


class TestTiltFiles:
    @pytest.mark.parametrize(
        "text",
        [
            "-40\n0\n40\n",
            "# angles\n-40.0\n0.0\n\n40.0",
            "-40 0 40",
            "-40, 0, 40\n",
            "tilt\n-40\n0\n40",
            "n,tilt (deg)\n1,-40\n2,0\n3,40\n",
        ],
    )
    def test_forms(self, tmp_path, text):
        path = tmp_path / "a.rawtlt"
        path.write_text(text)
        np.testing.assert_array_equal(read_tilt_file(path), [-40, 0, 40])

    @pytest.mark.parametrize("text", ["", "one\ntwo\n", "1 -40\n2 0\n", "-40\nzero\n"])
    def test_not_a_list_of_tilts(self, tmp_path, text):
        path = tmp_path / "a.tlt"
        path.write_text(text)
        with pytest.raises(ValueError, match=r"a\.tlt"):
            read_tilt_file(path)

    def test_missing(self):
        with pytest.raises(FileNotFoundError, match=r"nowhere\.rawtlt"):
            resolve_tilts("nowhere.rawtlt", ["a.mrc"], n=3)


class TestResolve:
    def test_metadata_where_they_differ_else_names(self):
        names = ["-5.bcf", "5.bcf"]
        np.testing.assert_array_equal(resolve_tilts(None, names, [-5.1, 5.2]), [-5.1, 5.2])
        np.testing.assert_array_equal(resolve_tilts(None, names, [0.0, 0.0]), [-5, 5])
        np.testing.assert_array_equal(resolve_tilts(None, names, [np.nan, np.nan]), [-5, 5])
        np.testing.assert_array_equal(resolve_tilts("metadata", names, [1.0, 2.0]), [1, 2])

    def test_file_beside_a_stack(self, tmp_path):
        (tmp_path / "stack.rawtlt").write_text("-60\n0\n60\n")
        np.testing.assert_array_equal(
            resolve_tilts(None, [tmp_path / "stack.mrc"], n=3), [-60, 0, 60]
        )

    def test_jitter_of_the_stage_is_no_tilt(self):
        """A holder that turns on its own leaves the stage where it is, to some thousandths of a degree."""
        names = ["a_-10.dm4", "a_0.dm4", "a_10.dm4"]
        np.testing.assert_array_equal(
            resolve_tilts(None, names, metadata_tilts=[0.004, 0.001, 0.006]), [-10, 0, 10]
        )
        np.testing.assert_array_equal(
            resolve_tilts("metadata", names, metadata_tilts=[0.004, 0.001, 0.006]),
            [0.004, 0.001, 0.006],
        )

    def test_a_count_of_the_files_is_warned_of(self):
        with pytest.warns(
            UserWarning, match=r"the tilts 1, 2, 3 \.\.\. .* may be a count of the files"
        ):
            resolve_tilts(None, ["t-10_001.dm4", "t0_002.dm4", "t10_003.dm4"])
        resolve_tilts("filename", ["t_1.dm4", "t_2.dm4", "t_3.dm4"])

    def test_equal_in_the_metadata_names_the_remedies(self):
        with pytest.raises(ValueError, match=r"all 3 tilts are equal \(0 degrees\).*" + REMEDIES):
            resolve_tilts("metadata", ["a.bcf", "b.bcf", "c.bcf"], [0.0, 0.0, 0.0])
        with pytest.raises(ValueError, match=r"metadata are equal.*" + REMEDIES):
            resolve_tilts(None, ["a.bcf", "b.bcf"], [0.0, 0.0])
        with pytest.raises(ValueError, match=REMEDIES):
            resolve_tilts(None, ["stack.mrc"], n=5)
        with pytest.raises(ValueError, match="contain no tilts"):
            resolve_tilts("metadata", ["a.bcf", "b.bcf"], [np.nan, np.nan])

    @pytest.mark.parametrize(
        ("tilts", "message"),
        [
            ([0, 1], "2 angles but there are 3 projections"),
            ([0, np.nan, 1], r"NaN or infinite at the places \[1\]"),
            ([0, 1, np.inf], "finite"),
            ([-200, 0, 170], "cover at most 360"),
            ([0, 10, 400], "within"),
            (["a", "b", "c"], "not numbers"),
            ([[0, 1, 2]], "one-dimensional"),
        ],
    )
    def test_impossible_tilts(self, tilts, message):
        with pytest.raises(ValueError, match=message):
            resolve_tilts(tilts, ["a", "b", "c"])

    def test_one_tilt_is_a_single_view(self):
        np.testing.assert_array_equal(check_tilts([10]), [10])
        np.testing.assert_array_equal(resolve_tilts(None, ["a.emd"], [10.0]), [10])
        np.testing.assert_array_equal(order_tilts([10]).tilts, [10])
        with pytest.raises(ValueError, match=r"no tilts are known.*a\.emd.*tilts=\[0\]"):
            resolve_tilts(None, ["a.emd"], [np.nan])
        with pytest.raises(ValueError, match="at least one"):
            check_tilts([])

    def test_the_full_circle_is_allowed(self):
        assert check_tilts(np.arange(0, 360, 5)).size == 72


class TestOrder:
    def test_ascending_with_the_order_of_acquisition(self):
        order = order_tilts([10, -30, 0])
        np.testing.assert_array_equal(order.tilts, [-30, 0, 10])
        np.testing.assert_array_equal(order.acquisition_order, [1, 2, 0])
        np.testing.assert_array_equal(order.merge(np.array([10, -30, 0])), order.tilts)

    def test_reversed(self):
        order = order_tilts([0, -30, 10], reverse=True)
        np.testing.assert_array_equal(order.tilts, [-10, 0, 30])
        assert not np.signbit(order.tilts[1])
        np.testing.assert_array_equal(order.acquisition_order, [2, 0, 1])

    def test_duplicates(self):
        with pytest.raises(
            ValueError, match=r"duplicate tilts: -5, 20 degrees occur more than once"
        ):
            order_tilts([20, -5, 0, -5, 20, -5])
        with pytest.raises(ValueError, match="'error', 'sum'"):
            order_tilts([0, 1], duplicates="first")

    @pytest.mark.parametrize("wrap", [np.asarray, da.from_array])
    def test_merging_counts_and_images(self, wrap):
        data = wrap(np.array([[250, 1], [3, 4], [250, 2]], dtype=np.uint8))
        total = order_tilts([5, -5, 5], duplicates="sum").merge(data)
        np.testing.assert_array_equal(total, [[3, 4], [500, 3]])
        mean = order_tilts([5, -5, 5], duplicates="mean").merge(data)
        np.testing.assert_array_equal(mean, [[3, 4], [250, 1.5]])
        assert hasattr(mean, "dask") == hasattr(data, "dask")


class TestSameTilt:
    @pytest.mark.parametrize("within", [SAME_TILT, ROUNDED_TILT, SAME_VIEW])
    def test_nearest_tilt_within_the_tolerance(self, within):
        rng = np.random.default_rng(0)
        among = rng.permutation(np.arange(-60.0, 61.0, 2.0))
        place = rng.integers(among.size, size=40)
        off = rng.uniform(-2, 2, 40) * within
        near = np.abs(off) <= within
        found = match_tilts(among[place] + off, among, within)
        assert 5 < near.sum() < 35
        np.testing.assert_array_equal(found, np.where(near, place, -1))

    def test_no_tilts_on_either_side(self):
        assert match_tilts([1.0, 2.0], []).tolist() == [-1, -1]
        assert match_tilts([], [1.0, 2.0]).tolist() == []

    def test_rounding_needs_its_own_tolerance(self):
        assert SAME_TILT < ROUNDED_TILT < SAME_VIEW
        rounded = np.round([1 / 3, -2 / 3], 2)
        assert match_tilts(rounded, [1 / 3, -2 / 3], ROUNDED_TILT).tolist() == [0, 1]
        assert match_tilts(rounded, [1 / 3, -2 / 3], SAME_TILT).tolist() == [-1, -1]
        single = np.float32([1 / 3, -200 / 3])
        assert match_tilts(single, [1 / 3, -200 / 3], SAME_TILT).tolist() == [0, 1]

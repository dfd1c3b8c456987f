# SPDX-License-Identifier: GPL-3.0-or-later
"""Alignments come back from files as they were saved, and those of tomviz and IMOD mean what they mean there."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from hyperspy_multitomo.alignment.quality import AlignmentQuality
from hyperspy_multitomo.alignment.transform import Alignment

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "idp_l2083"
TILTS = np.array([-30.1, -10.0, 1 / 3, 25.0])
ACROSS, ALONG = np.random.default_rng(0).normal(0, 5, (2, 4))
DRIFT = np.random.default_rng(1).normal(0, 1e-3, (4, 2))
ERRORS = np.random.default_rng(2).uniform(0.01, 0.2, (3, 4))
load, save = Alignment.load, Alignment.save
REPORT = ("centre of mass, 4 tilts", 'axis "by hand" = 2; then refined', "# a third step")


def full(**changed):
    """Return an alignment that knows everything, in numbers with all their digits."""
    quality = AlignmentQuality(ERRORS[0], ERRORS[1], 0.1 + 0.2, 1 / 7, ERRORS[2], REPORT)
    known = dict(
        axis_offset=-np.pi,
        rotation=-1e-17 / 3,
        tilts=TILTS,
        pixel_size=0.1 + 0.2,
        drift=DRIFT,
        slow_axis="x",
        quality=quality,
    )
    return Alignment(ACROSS, ALONG, **(known | changed))


def written(tmp_path, text, name="shifts.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def ours(**changed):
    held = {"format": "hyperspy_multitomo alignment", "version": 1, **full().as_dict()} | changed
    return json.dumps({name: value for name, value in held.items() if value is not ...})


@pytest.mark.parametrize("suffix", [".json", ".csv", ".CSV"])
def test_everything_comes_back_exactly(tmp_path, suffix):
    path = tmp_path / "folder" / f"shifts{suffix}"
    assert save(full(), str(path)) == path
    assert load(path).as_dict() == full().as_dict()
    assert load(str(path)) == full()


@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_what_is_not_known_stays_unknown(tmp_path, suffix):
    bare = Alignment(ACROSS, ALONG)
    found = load(save(bare, tmp_path / f"bare{suffix}"))
    assert found.as_dict() == bare.as_dict()
    assert (found.tilts, found.pixel_size, found.drift, found.quality) == (None, None, None, None)


@pytest.mark.parametrize("suffix", [".json", ".csv", ".xf"])
def test_one_tilt_twice_is_refused(tmp_path, suffix):
    tilts = [-40.0, 25.0, 10.0, 25.0]
    path = save(Alignment(ACROSS, ALONG, tilts=tilts), tmp_path / f"twice{suffix}")
    with pytest.raises(
        ValueError,
        match=rf"twice\{suffix}: the tilts 25 are there more than once; expected one row",
    ):
        load(path, tilts=tilts if suffix == ".xf" else None)


@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_errors_that_are_not_known_stay_so(tmp_path, suffix):
    errors = [np.nan, 0.25, 0.5, np.inf]
    quality = AlignmentQuality(errors, ERRORS[1], np.nan, 0.5, ERRORS[2])
    path = save(full(quality=quality), tmp_path / f"partly{suffix}")
    found = load(path).quality
    np.testing.assert_array_equal(found.across_error, [np.nan, 0.25, 0.5, np.nan])
    np.testing.assert_array_equal(found.along_error, ERRORS[1])
    assert np.isnan(found.axis_offset_error)
    assert found.rotation_error == 0.5
    assert found.report == ()
    # NaN is not a word of JSON.
    assert not any(word in path.read_text() for word in ("NaN", "nan", "Infinity", "inf,"))


def test_json_says_what_it_is(tmp_path):
    held = json.loads(save(full(), tmp_path / "shifts.json").read_text())
    assert (held["format"], held["version"]) == ("hyperspy_multitomo alignment", 1)
    assert held["across"] == ACROSS.tolist()


def test_table_is_one_row_per_tilt(tmp_path):
    simple = Alignment([1.5, -2.0], [0.1, 0.0], axis_offset=3.25, tilts=[-5, 5], pixel_size=0.5)
    lines = save(simple, tmp_path / "shifts.csv").read_text().splitlines()
    assert lines[-3:] == ["tilt,across,along", "-5.0,1.5,0.1", "5.0,-2.0,0.0"]
    assert {
        "# axis_offset = 3.25",
        "# rotation = 0.0",
        "# pixel_size = 0.5",
        "# slow_axis = y",
    } <= set(lines[:-3])
    assert all(line.startswith("#") for line in lines[:-3])


EDITED = {
    "spaces and blank lines": '\n# axis_offset=1.5 \n\n tilt , across,along \n\n -5, "1.5" ,2\n\n 5 ,-1.25,  -3 \n\n',
    "semicolons": "# axis_offset = 1.5\ntilt;across;along\n-5;1.5;2\n5;-1.25;-3\n",
    "decimal commas": "# axis_offset = 1,5;;\ntilt;across;along\n-5;1,5;2\n5;-1,25;-3,0\n",
    "tabs": "# axis_offset = 1.5\ntilt\tacross\talong\n-5\t1.5\t2\n5\t-1.25\t-3\n",
    "reordered": "along,tilt,across\n2,-5,1.5\n-3,5,-1.25\n# axis_offset = 1.5\n",
    "byte order mark": "\ufeff# axis_offset = 1.5\ntilt,across,along\n-5,1.5,2\n5,-1.25,-3\n",
    "line ends of Windows": "# axis_offset = 1.5\r\n\r\ntilt,across,along\r\n-5,1.5,2\r\n5,-1.25,-3\r\n",
    "cells of a spreadsheet": '# a note,,\n# axis_offset = 1.5,,\n,,\nTilt,"Across",Along,,\n"-5",1.5,2,,\n5,-1.25,-3,\n,,,\n',
}


@pytest.mark.parametrize("text", EDITED.values(), ids=EDITED)
def test_edited_table(tmp_path, text):
    found = load(written(tmp_path, text))
    assert (
        found.as_dict()
        == Alignment([1.5, -1.25], [2.0, -3.0], axis_offset=1.5, tilts=[-5.0, 5.0]).as_dict()
    )


def test_columns_may_be_left_out(tmp_path):
    found = load(written(tmp_path, "across,residual,along\n1,0.5,2\n"))
    assert (found.across.tolist(), found.along.tolist(), found.tilts) == ([1.0], [2.0], None)
    assert found.quality.residual.tolist() == [0.5]
    assert np.isnan(
        [*found.quality.across_error, *found.quality.along_error, found.quality.rotation_error]
    ).all()
    assert load(written(tmp_path, "across,along\n1,2\n# report = by hand\n")).quality.report == (
        "by hand",
    )


def test_report_survives_a_spreadsheet(tmp_path):
    # A comment that holds the separator comes back in quotes.
    found = load(
        written(
            tmp_path, '"# report = ""coarse""; then fine";;\n# slow_axis = x\nacross;along;\n1;2;\n'
        )
    )
    assert found.quality.report == ('"coarse"; then fine',)
    assert found.slow_axis == "x"


TABLE = "# axis_offset = 0\n\ntilt,across,along\n-5,1,2\n5,3,4\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the table is empty; expected a row with the names"),
        ("# rotation = 1\n", "the table is empty"),
        ("tilt,across,along\n", "line 1: no shifts follow"),
        (
            TABLE.replace("tilt,across", "tilt,x"),
            "line 3: the columns are tilt, x, along; expected across and along",
        ),
        (TABLE.replace("across,along", "across"), "line 3: the columns are tilt, across;"),
        (
            TABLE.replace("tilt", "along"),
            "line 3: the columns are along, across, along; .*each once",
        ),
        (TABLE.replace("tilt", "tile"), "line 3: the columns are tile"),
        ("-5,1,2\n5,3,4\n", "line 1: the columns are -5, 1, 2"),
        (TABLE.replace("3,4", "three,4"), "line 5: across is 'three'; expected a finite number"),
        (TABLE.replace("5,3,4", "5,nan,4"), "line 5: across is 'nan'; expected a finite number"),
        (TABLE.replace("3,4", "3,inf"), "line 5: along is 'inf'"),
        (TABLE.replace("3,4", "3"), "line 5: along is ''"),
        (TABLE.replace("5,3,4", ",3,4"), "line 5: tilt is ''"),
        (TABLE.replace("3,4", "3,4,7"), "line 5: there are 4 values for the 3 columns"),
        (TABLE.replace("3,4", '"3,5",4'), "line 5: across is '3,5'"),
        (TABLE.replace("offset = 0", "offset = left"), "line 1: axis_offset is 'left'"),
        (TABLE.replace("offset = 0", "offset ="), "line 1: axis_offset is ''"),
        (
            TABLE.replace("axis_offset", "axis"),
            "line 1: 'axis' is not a setting; expected axis_offset, rotation",
        ),
        (TABLE.replace("axis_offset = 0", "slow_axis = z"), "`slow_axis` is 'z'"),
        (
            TABLE.replace("axis_offset = 0", "pixel_size = -1"),
            "`pixel_size` is -1.0; expected a positive length",
        ),
        (TABLE.replace("tilt", "drift_x"), "one of the columns drift_x and drift_y; give both"),
        (b"\xff\xfea\x00c\x00", "is not a text file in UTF-8"),
        ("a" * 200000, "field larger than field limit"),
    ],
)
def test_wrong_table_is_explained(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(ValueError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON: Expecting value"),
        ('{"across": [1]', "not JSON: .*line 1"),
        (
            '{"across": [1], "along": [2]}',
            "expected an object with 'format': .* or tomviz's list of pairs.*; found '{\"across",
        ),
        ("3", "expected an object with 'format'.*found '3'"),
        (ours(version=2), "the version of this format is 2 but 1 is known; update"),
        (ours(version=...), "the version of this format is None"),
        (ours(along=...), "not what was saved: .*along"),
        (ours(shear=1.0), "not what was saved: .*shear"),
        (ours(across=[1, 2, 3, np.nan]), "`across` is .*nan.*; expected one finite shift"),
        (ours(across=[1.0]), "`across` has 1 shifts and `along` 4"),
        (ours(tilts=[1.0]), "`tilts` is .* of the shape"),
        (ours(rotation="left"), "rotation='left' must be a number"),
        (ours(axis_offset=np.inf), "`axis_offset` is inf"),
        (ours(quality=[1]), "not what was saved"),
        (ours(quality={"residual": [1, 2, 3, 4]}), "not what was saved: .*across_error"),
        ("[]", r"expected a list of pairs \[x, y\] of finite numbers, as from tomviz; found \[\]"),
        ("[[1, 2], [1, 2, 3]]", r"list of pairs .*found \[1, 2, 3\]"),
        ("[[1, 2], 3]", "list of pairs .*found 3"),
        ('[[1, "2"]]', "list of pairs .*found .*'2'"),
        ("[[1, 2], [NaN, 2]]", r"finite numbers, as from tomviz; found \[nan, 2\]"),
        (b"\x93NUMPY\xff\x00", "is not a text file in UTF-8"),
    ],
)
def test_wrong_json_is_explained(tmp_path, text, message):
    path = written(tmp_path, text, "shifts.json")
    with pytest.raises(ValueError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_tomviz_counts_y_upwards(tmp_path):
    path = written(tmp_path, "[[3, 2], [0, 0], [-1.5, -4]]", "tomviz.json")
    found = load(path, tilts=[-5, 0, 5], pixel_size=2.0)
    assert (
        found.as_dict()
        == Alignment([3, 0, -1.5], [-2, 0, 4], tilts=[-5, 0, 5], pixel_size=2.0).as_dict()
    )
    assert not np.signbit(found.along[1])
    # Up in the image is towards the first row, y = 0.
    image = np.zeros((3, 9, 9), np.float32)
    image[:, 4, 4] = 1
    assert np.argwhere(found.apply(image))[:2].tolist() == [[0, 7, 2], [1, 4, 4]]


def test_shifts_made_in_tomviz():
    if not DATA.exists():
        pytest.skip(f"the tilt series {DATA.name} is not here")
    tilts = np.arange(-50.0, 51.0, 5.0)
    found = load(DATA / "TomVizAlignments.json", tilts=tilts)
    pairs = json.loads((DATA / "TomVizAlignments.json").read_text())
    assert len(found) == len(pairs) == 21
    assert list(zip(found.across, -found.along, strict=True)) == [tuple(pair) for pair in pairs]
    recorded = found.transfer(np.arange(-40.0, 36.0, 5.0))
    assert recorded.across.tolist() == [x for x, _ in pairs[2:-3]]
    assert recorded.along.tolist() == [-y for _, y in pairs[2:-3]]
    assert load(DATA / "TomVizAlignments.json").tilts is None
    with pytest.raises(
        ValueError,
        match="TomVizAlignments.json: there are 21 shifts but tilts= has 16 angles; give one per",
    ):
        load(DATA / "TomVizAlignments.json", tilts=np.arange(-40, 36, 5))


@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_caller_fills_in_what_the_file_lacks_but_no_more(tmp_path, suffix):
    bare = save(full(tilts=None, pixel_size=None), tmp_path / f"bare{suffix}")
    assert load(bare, tilts=TILTS, pixel_size=0.1 + 0.2).as_dict() == full().as_dict()
    listed = written(tmp_path, "\n".join(map(repr, TILTS.tolist())), "angles.rawtlt")
    assert load(bare, tilts=listed).tilts.tolist() == TILTS.tolist()
    assert load(bare, tilts=str(listed)).tilts.tolist() == TILTS.tolist()
    known = save(full(), tmp_path / f"known{suffix}")
    # Readings of the stage at the same view; those of the file stay.
    assert load(known, tilts=TILTS + 0.3, pixel_size=0.30001).as_dict() == full().as_dict()
    with pytest.raises(
        ValueError,
        match=r"known.*: the file has the tilts \[-30.1 .* but tilts= has .*; leave tilts= out",
    ):
        load(known, tilts=TILTS + 0.6)
    with pytest.raises(
        ValueError, match=r"known.*: the file has pixels of 0.3\d* nm but pixel_size=0.6"
    ):
        load(known, pixel_size=0.6)
    with pytest.raises(ValueError, match="there are 4 shifts but angles.tlt has 2 angles"):
        load(bare, tilts=written(tmp_path, "1\n2\n", "angles.tlt"))
    with pytest.raises(ValueError, match="tilts must be finite"):
        load(bare, tilts=[0, 1, 2, np.nan])
    with pytest.raises(ValueError, match="`pixel_size` is -1.0; expected a positive length"):
        load(bare, pixel_size=-1)


def test_transforms_come_back(tmp_path):
    saved = Alignment(ACROSS, ALONG, axis_offset=2.5, rotation=-84.6)
    path = save(saved, tmp_path / "series.xf")
    found = load(path)
    assert found.rotation == pytest.approx(-84.6, abs=1e-5)
    assert found.axis_offset == 0
    # Both bring a point to the same place, but for the axis, which IMOD wants in the middle.
    angle = np.deg2rad(-84.6)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    expected = turn @ np.stack([ACROSS, ALONG]) - [[2.5], [0]]
    np.testing.assert_allclose(turn @ np.stack([found.across, found.along]), expected, atol=1e-5)
    assert [len(line.split()) for line in path.read_text().splitlines()] == [6] * 4


def test_transforms_that_change_nothing_have_no_minus(tmp_path):
    assert save(Alignment([0.0], [-0.0]), tmp_path / "none.xf").read_text().count("-") == 0
    found = load(tmp_path / "none.xf")
    assert found == Alignment.identity(1)
    assert found.tilts is None


def blob(x, y, shape):
    columns, rows = (np.arange(size) for size in shape)
    return np.exp(-((columns[:, None] - x) ** 2 + (rows - y) ** 2) / 18)


def middle(image):
    total = image.sum()
    return (
        np.array(
            [
                image.sum(axis=1) @ np.arange(image.shape[0]),
                image.sum(axis=0) @ np.arange(image.shape[1]),
            ]
        )
        / total
    )


def imod(row, point, shape):
    """Return where IMOD moves a point, in its coordinates: pixel 0 is from 0 to 1, and the centre at half the size."""
    centre = np.array(shape) / 2
    return row[:4].reshape(2, 2) @ (np.array(point) + 0.5 - centre) + row[4:] + centre - 0.5


@pytest.mark.parametrize(
    ("rotation", "axis_offset"), [(0.0, 0.0), (0.0, 3.0), (12.0, 0.0), (-84.6, -2.5)]
)
def test_imod_moves_a_blob_to_the_same_place(tmp_path, rotation, axis_offset):
    shape, point = (60, 51), (33.0, 22.0)
    alignment = Alignment([4.3, -3.1], [-2.6, 5.2], axis_offset=axis_offset, rotation=rotation)
    rows = np.loadtxt(save(alignment, tmp_path / "series.xf"))
    moved = alignment.apply(np.stack([blob(*point, shape)] * 2))
    again = load(tmp_path / "series.xf").apply(np.stack([blob(*point, shape)] * 2))
    for row, image, image_of_file in zip(rows, moved, again, strict=True):
        expected = imod(row, point, shape)
        np.testing.assert_allclose(middle(image) - (axis_offset, 0), expected, atol=0.02)
        np.testing.assert_allclose(middle(image_of_file), expected, atol=0.02)


def test_transforms_made_in_imod(tmp_path):
    # tiltalign's own digits; x goes to y, y to -x, and then by (10, -20): the shifts before the
    # turn are (-20, -10).
    lines = "   0.0000000  -1.0000000   1.0000000   0.0000000      10.000     -20.000\n" * 2
    found = load(written(tmp_path, "\n" + lines, "series.xf"), tilts=[-3, 3])
    assert found.rotation == pytest.approx(90)
    np.testing.assert_allclose([found.across, found.along], [[-20, -20], [-10, -10]], atol=1e-12)
    assert found.tilts.tolist() == [-3, 3]
    # Views that differ by less than a tenth of a degree or a hundredth in size are one rotation;
    # where each goes is kept.
    c, s = 1.005 * np.cos(np.deg2rad([10.0, 10.1])), 1.005 * np.sin(np.deg2rad([10.0, 10.1]))
    rows = "\n".join(f"{c[i]:.7f} {-s[i]:.7f} {s[i]:.7f} {c[i]:.7f} 6 {i}" for i in range(2))
    found = load(written(tmp_path, rows, "near.xf"))
    assert found.rotation == pytest.approx(10.05, abs=1e-4)
    np.testing.assert_allclose(found.geometry_shifts, [-6, -6])


def test_tilts_beside_the_transforms_are_taken(tmp_path):
    path = written(tmp_path, "1 0 0 1 2 3\n1 0 0 1 4 5\n", "series.xf")
    assert load(path).tilts is None
    written(tmp_path, "-10\n10\n", "series.rawtlt")
    assert load(path).tilts.tolist() == [-10, 10]
    written(tmp_path, "-10.5\n9.5\n", "series.tlt")
    assert load(path).tilts.tolist() == [-10.5, 9.5]
    assert load(path, tilts=[1, 2]).tilts.tolist() == [1, 2]
    written(tmp_path, "-10\n0\n10\n", "series.tlt")
    with pytest.raises(
        ValueError, match="series.xf: there are 2 shifts but series.tlt has 3 angles"
    ):
        load(path)


def turned(degrees):
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return f"{c:.7f} {-s:.7f} {s:.7f} {c:.7f} 0 0\n"


HELD = "magnification, skew or rotation per view cannot be held by an Alignment"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty; expected IMOD's six numbers"),
        (
            "1 0 0 1 2 3\n\n1 0 0 1 2\n",
            "line 3: expected IMOD's six numbers A11 A12 A21 A22 DX DY per view; found '1 0 0 1 2'",
        ),
        ("1 0 0 1 2 3 4\n", "line 1: expected IMOD's six"),
        ("1 0 0 1 2 x\n", "line 1: expected IMOD's six"),
        ("1 0 0 1 nan 3\n", "line 1: expected IMOD's six"),
        ("1 0 0 inf 2 3\n", "line 1: expected IMOD's six"),
        (
            turned(5) * 2 + turned(5.3),
            f"view 3 is turned by 0.20 degrees from the mean of the views: {HELD}",
        ),
        (turned(179.98) * 2 + turned(-179.7) + turned(179.98), f"view 3 is turned by .*{HELD}"),
        (
            "1 0 0 1 0 0\n1.02 0 0 1.02 0 0\n",
            f"view 2 is not just turned and moved, A = .*1.02.*{HELD}",
        ),
        ("1 0.02 0 1 0 0\n", f"view 1 is not just turned .*{HELD}"),
        ("1 0 0 -1 0 0\n", "view 1 is not just turned"),
        ("0 0 0 0 0 0\n", "view 1 is not just turned"),
        (b"\x00\xff\xfe", "is not a text file in UTF-8"),
    ],
)
def test_wrong_transforms_are_explained(tmp_path, text, message):
    path = written(tmp_path, text, "series.xf")
    with pytest.raises(ValueError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_one_rotation_may_be_half_a_turn(tmp_path):
    found = load(written(tmp_path, turned(179.98) + turned(-179.98), "series.xf"))
    assert abs(found.rotation) == pytest.approx(180, abs=1e-4)


def test_drift_does_not_fit_into_transforms(tmp_path):
    with pytest.raises(
        ValueError, match=r"\.xf cannot hold a drift during the scan; save as \.json or \.csv"
    ):
        save(full(), tmp_path / "series.xf")
    assert not list(tmp_path.iterdir())


def test_names_that_say_no_format(tmp_path):
    with pytest.raises(
        ValueError, match=r"shifts.txt ends in '.txt'; expected .json .* .csv .* or .xf"
    ):
        save(full(), tmp_path / "shifts.txt")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="ends in ''; expected"):
        load(written(tmp_path, "1 0 0 1 0 0", "shifts"))


def test_missing_file_is_named(tmp_path):
    for path in (tmp_path / "none.json", tmp_path / "none.txt", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"there is no file of shifts {path}"):
            load(path)
    with pytest.raises(FileNotFoundError, match=r"there is no file of tilts .*none\.tlt"):
        load(save(full(), tmp_path / "shifts.json"), tilts=tmp_path / "none.tlt")


@pytest.mark.parametrize("suffix", [".json", ".csv", ".xf"])
def test_existing_file_is_replaced_only_on_demand(tmp_path, suffix):
    path = written(tmp_path, "mine", f"shifts{suffix}")
    for overwrite in (None, False):
        with pytest.raises(FileExistsError, match=f"{path} exists already; .*overwrite=True"):
            save(Alignment([1.0], [2.0]), path, overwrite)
    assert path.read_text() == "mine"
    assert save(Alignment([1.0], [2.0]), path, overwrite=True) == path
    assert load(path) == Alignment([1.0], [2.0])
    assert list(tmp_path.iterdir()) == [path]


def test_existing_file_survives_a_failure(tmp_path, monkeypatch):
    path = written(tmp_path, "mine", "shifts.json")
    names = []

    def half_written(self, text, **options):
        names.append(self)
        self.write_bytes(text[:10].encode())
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", half_written)
        with pytest.raises(OSError, match="the disk is full"):
            save(full(), path, overwrite=True)
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]
    # Written beside it, so that the renaming is within one disk, and with its suffix.
    assert (names[0].parent, names[0].suffix, names[0] == path) == (tmp_path, ".json", False)

    def interrupted(source, target):
        assert json.loads(Path(source).read_text())["across"] == ACROSS.tolist()
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(full(), path, overwrite=True)
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


def test_alignment_saves_and_loads_itself(tmp_path):
    path = full().save(tmp_path / "shifts.json")
    assert Alignment.load(path, tilts=TILTS).as_dict() == full().as_dict()
    with pytest.raises(FileExistsError, match="exists already"):
        full().save(path)
    assert Alignment.load(full(axis_offset=1.0).save(path, overwrite=True)).axis_offset == 1.0

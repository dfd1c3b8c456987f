# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of an earlier version load as what they were saved.

Runs that were interrupted then go on to the same volume.
tests/saved_before/make.py tells how the files were made.
"""

import json
import shutil
import tarfile
from pathlib import Path

import hyperspy.api as hs
import llvmlite.binding
import numba
import numpy as np
import pytest

import hyperspy_multitomo as mt

# Resumed runs warn of the version that began them, of tiny images, and of a zarr store.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

HERE = Path(__file__).parent / "saved_before"
RECORD = json.loads((HERE / "recorded.json").read_text(encoding="utf-8"))
SIGNALS, RUNS = RECORD["signals"], RECORD["runs"]
METHODS = {
    f"reconstruct_{name}"
    for name in (
        "sirt",
        "em",
        "cgls",
        "fbp",
        "hebt",
        "tv",
        "tgv",
        "tnv",
        "fused",
        "with_absorption",
    )
}
QUIET = {"show_progressbar": False}
# Of the largest value of a volume: other processors round differently.
ROUNDING = 1e-5


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The folder of all files, to read."""
    folder = tmp_path_factory.mktemp("saved_before")
    with tarfile.open(HERE / "files.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def arrays(files):
    with np.load(files / "arrays.npz") as archive:
        return dict(archive)


def same(found, expected, what=""):
    """Numbers to rounding, in whatever they are nested; everything else exactly."""
    if isinstance(expected, dict):
        assert set(found) == set(expected), what
        for name, value in expected.items():
            same(found[name], value, f"{what}.{name}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), what
        for number, (one, value) in enumerate(zip(found, expected, strict=True)):
            same(one, value, f"{what}[{number}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-6, nan_ok=True), what
    else:
        assert found == expected, what


def as_json(values):
    """What was saved as JSON, as it comes back from there."""

    def plain(value):
        return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)

    return json.loads(json.dumps(values, default=plain))


def close(found, expected, what=""):
    found = np.asarray(found)
    assert found.shape == expected.shape, what
    largest = np.nanmax(np.abs(expected), initial=0)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * largest, err_msg=what)


def arrays_of(signal, names):
    """Return the arrays of a signal by name; ``"spectrum_fit/counts"`` is an entry of a dict."""
    found = {}
    for name in names:
        attribute, *entry = name.split("/")
        value = getattr(signal, attribute)
        found[name] = value[entry[0]] if entry else value
    return found


PLAIN = {
    "channels": lambda signal: signal.channels,
    "history": lambda signal: signal.history,
    "pixel_size": lambda signal: signal.pixel_size,
    "title": lambda signal: signal.metadata.General.title,
    "quantity": lambda signal: signal.quantity,
    "response_ratios": lambda signal: signal.response_ratios,
    "dose": lambda signal: signal.dose,
    "axis_offset": lambda signal: signal.axis_offset,
    "tilt_axis": lambda signal: signal.tilt_axis,
    "smoothed": lambda signal: signal.is_smoothed,
    "alignment": lambda signal: None if signal.alignment is None else signal.alignment.as_dict(),
    "lines": lambda signal: signal.lines,
    "edges": lambda signal: signal.edges,
    "detectors": lambda signal: [
        [one.azimuth, one.elevation, one.solid_angle, one.name] for one in signal.detectors
    ],
    "ratios": lambda signal: signal.response_ratios.as_dict(),
    "axes": lambda signal: [axis_of(axis) for axis in signal.axes_manager._axes],
}


def axis_of(axis):
    return [
        axis.name,
        str(axis.units),
        axis.size,
        *([] if axis.name == "tilt" else [axis.offset, axis.scale]),
    ]


class TestSignals:
    @pytest.mark.parametrize("lazy", [False, True])
    @pytest.mark.parametrize("name", SIGNALS)
    def test_it_is_what_it_was(self, files, arrays, name, lazy):
        signal, told = hs.load(files / name, lazy=lazy), dict(SIGNALS[name])
        expected_class = told.pop("class").removeprefix("Lazy")
        assert type(signal) is getattr(mt, f"Lazy{expected_class}" if lazy else expected_class)
        for what, value in told.items():
            same(as_json(PLAIN[what](signal)), value, what)
        expected = {
            what.removeprefix(f"{name}/"): values
            for what, values in arrays.items()
            if what.startswith(f"{name}/")
        }
        np.testing.assert_array_equal(np.asarray(signal.data), expected.pop("data"))
        for what, values in arrays_of(signal, expected).items():
            close(values, expected[what], what)

    def test_all_kinds_are_there(self):
        """Every class, every reconstruction, and everything that is recorded."""
        assert {told["class"] for told in SIGNALS.values()} >= {
            "TiltSeriesHAADF", "TiltSeriesEDS", "TiltSeriesEELS", "TomographicVolume",
        }  # fmt: skip
        steps = {step["step"] for told in SIGNALS.values() for step in told["history"]}
        assert steps >= METHODS - {"reconstruct_with_absorption"}
        assert {
            "quantify",
            "quantify_haadf",
            "estimate_absorption",
            "estimate_gains",
            "fit_response_ratios",
        } <= steps
        assert {run["step"] for run in RUNS.values()} == METHODS - {"reconstruct_fbp"}

    def test_it_is_used_as_it_was(self, files, arrays):
        """Fits take what is recorded beside the data."""
        eds, haadf = hs.load(files / "eds.hspy"), hs.load(files / "haadf.hspy")
        np.testing.assert_allclose(
            eds.estimate_gains(haadf).values, arrays["again/gains"], rtol=1e-5
        )
        np.testing.assert_allclose(
            eds.fit_response_ratios(haadf, block_size=2).values, arrays["again/ratios"], rtol=1e-5
        )

    def test_alignment(self, files):
        found = mt.Alignment.load(files / "alignment.json")
        same(as_json(found.as_dict()), SIGNALS["haadf.hspy"]["alignment"])


def call(files, arrays, name, checkpoint, **other):
    """Go on with a run."""
    run = RUNS[name]
    series = [hs.load(files / one, lazy=run["lazy"]) for one in run["series"]]
    given = {
        keyword: arrays.get(f"given/{value}", value) if isinstance(value, str) else value
        for keyword, value in run["keywords"].items()
    }
    volume = getattr(series[0], run["step"])(
        *series[1:], **(given | QUIET | other), resume=checkpoint
    )
    if run["lazy"]:
        volume.compute(**QUIET)
    return volume


def copied(files, name, folder):
    source, target = files / f"{name}.state", folder / f"{name}.state"
    return shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)


def skip_on_other_processors(name):
    """Skip the later rounds, which divide the counts by a transmission that is computed anew.

    Its last digits depend on the processor.
    """
    here = numba.config.CPU_NAME or llvmlite.binding.get_host_cpu_name()
    if RUNS[name]["round"] and here != RECORD["processor"]:
        pytest.skip(
            "the key of a later round of absorption fits processors of the type "
            f"{RECORD['processor']} alone; this is {here}"
        )


class TestCheckpoints:
    @pytest.mark.parametrize("name", RUNS)
    def test_it_goes_on(self, files, arrays, tmp_path, name):
        skip_on_other_processors(name)
        run = RUNS[name]
        volume = call(files, arrays, name, copied(files, name, tmp_path))
        expected = arrays[f"{run['volume']}/data"]
        assert volume.data.dtype == expected.dtype == np.float32
        assert np.abs(volume.data - expected).max() <= ROUNDING * np.abs(expected).max()
        step, told = volume.history[-1], SIGNALS[run["volume"]]["history"][-1]
        if not run["lazy"] and "absorption" not in name:  # whose last round is a new run
            assert step["resumed_at"] == run["at"]
        assert (step["step"], step["iterations"], step.get("stopped_by")) == (
            told["step"], told["iterations"], told.get("stopped_by"),
        )  # fmt: skip
        for what, values in volume.residuals.items():
            np.testing.assert_allclose(
                values, arrays[f"{run['volume']}/residuals/{what}"], rtol=1e-4, err_msg=what
            )

    def test_rounds_that_were_finished_stay(self, files, arrays, tmp_path):
        skip_on_other_processors("absorption_later")
        path = copied(files, "absorption_later", tmp_path)
        before = {one.name: one.stat().st_mtime_ns for one in path.iterdir()}
        assert sorted(before) == ["round_0", "round_1"]
        call(files, arrays, "absorption_later", path)
        after = {one.name: one.stat().st_mtime_ns for one in path.iterdir()}
        assert sorted(after) == ["round_0", "round_1", "round_2"]
        assert after["round_0"] == before["round_0"]
        assert after["round_1"] > before["round_1"]

    def test_slabs_that_were_finished_stay(self, files, arrays, tmp_path):
        """The finished slab is taken from its file, not reconstructed again.

        The state is gone once its slab is finished.
        """
        path = copied(files, "slabs_sirt", tmp_path)
        (finished,) = path.glob("*.volume")
        before = finished.stat().st_mtime_ns
        call(files, arrays, "slabs_sirt", path)
        assert finished.stat().st_mtime_ns == before
        assert sorted(one.name for one in path.iterdir()) == [
            "slices_00000-00002.volume", "slices_00002-00004.volume", "slices_00004-00006.volume",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("name", "other", "said"),
        [
            ("hebt", {"alpha": 0.5}, "`alpha` is 0.5 and was 0.75"),
            ("cgls", {"depth": 40.0}, "`geometry`"),
            ("tv", {"weight": 2.0}, "`weight` is 2.0 and was 1.0"),
            ("em", {"background": 0.5}, "`data`"),
            ("slabs_sirt", {"relaxation": 1.5}, "`relaxation` is 1.5 and was 1.0"),
            ("absorption_later", {"absorption": {"density": 9.0}}, "`gains"),
        ],
    )
    def test_another_run_is_refused(self, files, arrays, tmp_path, name, other, said):
        if "absorption" in other:
            other = {"absorption": RUNS[name]["keywords"]["absorption"] | other["absorption"]}
        with pytest.raises(ValueError, match=f"the checkpoint of another run: .*{said}"):
            call(files, arrays, name, copied(files, name, tmp_path), **other)

# SPDX-License-Identifier: GPL-3.0-or-later
"""A save that fails, is interrupted or killed leaves the previous file as it was, and nothing else behind."""

import errno
import importlib
import os
import re
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from interrupts import interrupts_heard

import hyperspy_multitomo as mt
from hyperspy_multitomo.machine import writing
from hyperspy_multitomo.signals.metadata.saving import Sink, save_atomically

pytestmark = pytest.mark.filterwarnings("ignore:.*NestedDirectoryStore:FutureWarning")

# Saves under a limit of bytes for any file, which stands for the end of a disk, and tells what
# comes of it.
FULL = """
import resource, sys, warnings
import dask.array as da
import numpy as np
import hyperspy_multitomo as mt
from pathlib import Path

warnings.simplefilter("ignore")
folder = Path(sys.argv[1])
values = np.random.default_rng(0).random((6, 64, 64), np.float32)
eager = mt.TomographicVolume.from_arrays({"Au": values, "Ag": values}, 1.0)
lazy = mt.TomographicVolume.from_arrays({name: da.from_array(values, chunks=(2, 32, 32)) for name in ("Au", "Ag")}, 1.0)
for suffix in ("hspy", "emd", "nxs", "zspy"):
    target = folder / f"volume.{suffix}"
    eager.inav[:, :1].save(target) if suffix == "zspy" else target.write_bytes(b"precious")
    for volume in (eager, lazy):
        # A .zspy is of many small files.
        for size in (0, 3000, 60_000)[: 2 if suffix == "zspy" else 3]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            try:
                volume.save(target, overwrite=True, **({"show_progressbar": False} if suffix in ("hspy", "zspy") else {}))
            except OSError as error:
                said = str(error)
            else:
                said = "no error"
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            print(suffix, said.replace(str(folder), ""), sorted(path.name for path in folder.iterdir()))
    if suffix != "zspy":
        assert target.read_bytes() == b"precious"
        target.unlink()
"""
# Is killed while it writes, at the place that is given.
KILLED = """
import os, sys
from pathlib import Path
from hyperspy_multitomo.machine import writing

where, path = sys.argv[1], Path(sys.argv[2])
if where == "renaming":
    writing._exchange = lambda *names: False
    rename = os.rename
    os.rename = lambda source, target: (rename(source, target), os._exit(9))
with writing.replacing(path) as temporary:
    temporary.mkdir()
    (temporary / "part").write_bytes(b"new")
    if where == "writing":
        os._exit(9)
"""


def killed(where, path):
    assert (
        subprocess.run([sys.executable, "-c", KILLED, where, str(path)], timeout=60).returncode == 9
    )


def images(value=1.0):
    return mt.TiltSeriesHAADF.from_images(value * np.ones((3, 4, 5)), tilts=[-1, 0, 1])


def full_disk(temporary):
    temporary.write_bytes(b"half")
    raise OSError(errno.ENOSPC, "No space left on device")


def interrupted(temporary):
    temporary.mkdir()
    (temporary / "part").write_bytes(b"half")
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("write", "error"), [(full_disk, OSError), (interrupted, KeyboardInterrupt)]
)
def test_failing_writer_keeps_the_previous_file(tmp_path, write, error):
    target = tmp_path / "volume.hspy"
    target.write_bytes(b"precious")
    with pytest.raises(error):
        save_atomically(write, target, overwrite=True)
    assert target.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [target]


def test_existing_output_is_an_error_and_stays(tmp_path):
    target = tmp_path / "volume.hspy"
    target.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        save_atomically(lambda temporary: temporary.write_bytes(b"new"), target)
    assert target.read_bytes() == b"precious"


def test_a_folder_is_replaced_whole(tmp_path):
    target = tmp_path / "volume.zspy"
    target.mkdir()
    (target / "old").write_bytes(b"old")

    def write(temporary):
        temporary.mkdir()
        (temporary / "new").write_bytes(b"new")

    save_atomically(write, target, overwrite=True)
    assert [path.name for path in target.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("suffix", ["hspy", "zspy"])
def test_signal_survives_a_full_disk(tmp_path, monkeypatch, suffix):
    import hyperspy.api as hs

    target = tmp_path / f"haadf.{suffix}"
    first = mt.TiltSeriesHAADF.from_images(np.ones((3, 4, 5)), tilts=[-1, 0, 1])
    first.save(target)

    def fails(*arguments, **kwds):
        original(*arguments, **kwds)
        raise OSError(errno.ENOSPC, "No space left on device")

    writers = importlib.import_module(f"rsciio.{suffix}")
    original = writers.file_writer
    second = mt.TiltSeriesHAADF.from_images(2 * np.ones((3, 4, 5)), tilts=[-1, 0, 1])
    with monkeypatch.context() as patch:
        patch.setattr(writers, "file_writer", fails)
        with pytest.raises(
            OSError,
            match=rf"haadf.{suffix} could not be written \(the disk is full\).*save to another disk",
        ):
            second.save(target, overwrite=True)
    np.testing.assert_array_equal(hs.load(target).data, first.data)
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(FileExistsError):
        second.save(target)
    second.save(target, overwrite=True)
    np.testing.assert_array_equal(hs.load(target).data, second.data)


@pytest.mark.skipif(sys.platform == "win32", reason="sets a limit that Windows does not have")
def test_a_full_disk_ends_no_process(tmp_path):
    """HDF5 ends the process on its own where what it writes fails: not through our file object."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = [line for line in done.stdout.splitlines() if "volume." in line]
    assert len(told) == 2 * (3 * 3 + 2)
    for line in told:
        suffix = line.split()[0]
        assert re.search(
            rf"/volume.{suffix} could not be written \(files may not be that large here\): .*another disk",
            line,
        ), line
        assert line.endswith(f"['volume.{suffix}']")


class Failing:
    """A file on a disk that has room for some bytes."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, data):
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)


@pytest.mark.parametrize("room", [0, 96, 2000, 5000, 40_000, 100_000])
def test_hdf5_never_hears_of_a_failed_write(tmp_path, room):
    import h5py

    def write():
        with Sink(tmp_path / "some.hspy") as sink:
            sink._file = Failing(sink._file, room)
            with h5py.File(sink, "w") as file:
                for number in range(30):
                    values = np.random.default_rng(number).random((16, 16, 16))
                    file.create_dataset(
                        f"group/{number}", data=values, chunks=(4, 4, 4), compression="gzip"
                    )
                file["group/0"][3:9] = 7.0  # reads what may not have been written

    with pytest.raises(OSError, match="No space left") as caught:
        write()
    assert caught.value.errno == errno.ENOSPC


def test_what_goes_through_the_file_object_is_whole(tmp_path):
    import h5py

    values = np.random.default_rng(0).random((30, 17, 5))
    with Sink(tmp_path / "some.hspy") as sink, h5py.File(sink, "w") as file:
        file.create_dataset("values", data=values, chunks=(7, 5, 5), compression="gzip")
    with h5py.File(tmp_path / "some.hspy") as file:
        np.testing.assert_array_equal(file["values"][:], values)


@pytest.mark.parametrize("where", ["within", "entering"])
def test_an_interrupt_while_hdf5_writes(tmp_path, monkeypatch, where):
    """It comes once the file is closed; HDF5 takes it for a failed write otherwise."""
    target = tmp_path / "haadf.hspy"
    images().save(target)
    before, calls, write = target.read_bytes(), [], Sink.write

    def press():
        calls.append(1)
        if len(calls) == 5:
            signal.raise_signal(signal.SIGINT)

    if where == "within":
        opened = Sink.__init__

        class Pressed(Failing):
            def write(self, data):
                press()
                return self.file.write(data)

        def init(sink, path):
            opened(sink, path)
            sink._file = Pressed(sink._file, 0)

        monkeypatch.setattr(Sink, "__init__", init)
    else:
        # Tracing runs where a function begins, before its first line.
        def trace(frame, event, _):
            if frame.f_code is write.__code__:
                press()

        sys.settrace(trace)
    with interrupts_heard():
        try:
            with pytest.raises(KeyboardInterrupt):
                images(2.0).save(target, overwrite=True)
        finally:
            sys.settrace(None)
    assert len(calls) >= 5, "it was pressed"
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


class TestKilled:
    """What a killed save leaves: removed, or given its name back, by the next save; what is being written stays."""

    def test_leftovers_go_with_the_next_save(self, tmp_path):
        target = tmp_path / "haadf.zspy"
        for _ in range(2):
            killed("writing", target)
        assert len(list(tmp_path.iterdir())) == 1, "the second removed what the first left"
        images().save(target)
        assert list(tmp_path.iterdir()) == [target]

    def test_what_others_write_stays(self, tmp_path):
        target = tmp_path / "haadf.zspy"
        here, gone = writing._machine(), 2**22 + 1  # more than the number of a process can be
        kept = [
            tmp_path / f".haadf.{here}{os.getppid():08x}0000.zspy",  # of a living process
            tmp_path
            / f".haadf.{'0000' if here != '0000' else '0001'}{gone:08x}0000.zspy",  # of another machine
            tmp_path / f".other.{here}{gone:08x}0000.zspy",
            tmp_path / ".haadf.old.zspy",
        ]
        for path in kept:
            path.mkdir()
        with writing.replacing(target) as temporary:  # in this process
            temporary.mkdir()
            images().save(target)
            assert temporary.exists()
            (target / "more").write_bytes(b"")
        assert sorted(tmp_path.iterdir()) == sorted([*kept, target])

    @pytest.mark.parametrize("next_one", ["save", "load"])
    def test_the_name_comes_back(self, tmp_path, next_one):
        target = tmp_path / "haadf.zspy"
        images().save(target)
        killed("renaming", target)
        assert not target.exists()
        assert len(list(tmp_path.iterdir())) == 2
        if next_one == "save":
            with pytest.raises(FileExistsError):
                images(2.0).save(target)
        np.testing.assert_array_equal(mt.load_tilt_series(target).data, images().data)
        images(2.0).save(target, overwrite=True)
        np.testing.assert_array_equal(mt.load_tilt_series(target).data, images(2.0).data)
        assert list(tmp_path.iterdir()) == [target]

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux exchanges names")
    def test_folders_are_replaced_in_one_step(self, tmp_path, monkeypatch):
        target = tmp_path / "haadf.zspy"
        images().save(target)
        monkeypatch.setattr(os, "rename", None)
        images(2.0).save(target, overwrite=True)
        np.testing.assert_array_equal(mt.load_tilt_series(target).data, images(2.0).data)
        assert list(tmp_path.iterdir()) == [target]

    def test_two_save_at_once(self, tmp_path):
        """The last one to end is what is there, whole."""
        target, errors = tmp_path / "haadf.zspy", []

        def save(value):
            try:
                for _ in range(6):
                    images(value).save(target, overwrite=True)
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=save, args=[value]) for value in (1.0, 2.0)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        assert len(np.unique(mt.load_tilt_series(target).data)) == 1
        assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("title", ["a\\b", "..", "a/b", "x" * 300, "a:b\n"])
@pytest.mark.parametrize("suffix", ["hspy", "zspy"])
def test_any_title_can_be_loaded(tmp_path, suffix, title):
    import hyperspy.api as hs

    volume = mt.TomographicVolume.from_arrays(
        {title: np.ones((2, 3, 4)), "Ag": np.zeros((2, 3, 4))}, 1.0
    )[title]
    volume.save(tmp_path / f"one.{suffix}")
    found = hs.load(tmp_path / f"one.{suffix}")
    np.testing.assert_array_equal(found.data, volume.data)
    assert found.channels == (title,)

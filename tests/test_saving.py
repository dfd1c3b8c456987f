# SPDX-License-Identifier: GPL-3.0-or-later
"""A save that fails or is interrupted leaves the previous file as it was."""

import errno
import importlib

import numpy as np
import pytest

from hyperspy_multitomo.signals.saving import save_atomically


def full_disk(temporary):
    temporary.write_bytes(b"half")
    raise OSError(errno.ENOSPC, "No space left on device")


def interrupted(temporary):
    temporary.mkdir()
    (temporary / "part").write_bytes(b"half")
    raise KeyboardInterrupt


@pytest.mark.parametrize(("write", "error"), [(full_disk, OSError), (interrupted, KeyboardInterrupt)])
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

    import hyperspy_multitomo as mt

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
        with pytest.raises(OSError, match=rf"haadf.{suffix} could not be written \(the disk is full\).*save to another disk"):
            second.save(target, overwrite=True)
    np.testing.assert_array_equal(hs.load(target).data, first.data)
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(FileExistsError):
        second.save(target)
    second.save(target, overwrite=True)
    np.testing.assert_array_equal(hs.load(target).data, second.data)

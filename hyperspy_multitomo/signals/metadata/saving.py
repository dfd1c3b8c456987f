# SPDX-License-Identifier: GPL-3.0-or-later
"""Saving: whole or not at all, and HDF5 through a file object that outlives a full disk.

HDF5 keeps what it could not write, tries again when its file is closed and when the interpreter
ends, and a failure then ends the process. So no failure reaches it here: the file object remembers
the error, which is raised once HDF5 has closed.
"""

from __future__ import annotations

import gc
import io
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path

from hyperspy_multitomo.machine.writing import file_part, save_atomically

# RosettaSciIO's writers of HDF5, all of whose files go through `Sink`, and of folders.
_HDF5, _FOLDER = ("HSPY", "EMD", "NeXus"), "ZSPY"
_LONGEST = 200  # bytes of a title that names a folder


def save_signal(
    signal, path: Path, overwrite: bool | None, write, file_format: str | None = None, **kwds
) -> None:
    """Save a signal to `path`.

    Parameters
    ----------
    signal : BaseSignal
    path : Path
        The suffix selects the format where `file_format` does not.
    overwrite : bool or None
        As in `save_atomically`.
    write : callable
        HyperSpy's ``signal.save``, for other formats than HDF5 and .zspy.
    file_format : str, optional
        As in HyperSpy's ``save``.
    **kwds
        Passed to the writer.
    """
    from hyperspy.io import _infer_file_reader, _infer_file_writer

    plugin = _infer_file_reader(file_format) if file_format else _infer_file_writer(path.suffix[1:])
    if plugin["name"] in (*_HDF5, _FOLDER) and _can_write(plugin, signal.axes_manager):
        save_atomically(lambda temporary: _write(signal, temporary, plugin, kwds), path, overwrite)
    else:
        save_atomically(
            lambda temporary: write(temporary, overwrite=True, file_format=file_format, **kwds),
            path,
            overwrite,
        )


def _can_write(plugin: dict, axes) -> bool:
    """Return whether a format holds such signals.

    HyperSpy's ``save`` says which do where it does not.
    """
    dimensions = [axes.signal_dimension, axes.navigation_dimension]
    fits = plugin["writes"] is True or dimensions in (plugin["writes"] or [])
    return fits and (plugin["non_uniform_axis"] or axes.all_uniform)


def _write(signal, path: Path, plugin: dict, kwds: dict) -> None:
    """Write a signal as HyperSpy's ``save`` does, which takes no file object."""
    from hyperspy.io import _add_file_load_save_metadata
    from hyperspy.misc import utils

    signal = _add_file_load_save_metadata("save", signal, plugin)
    content = signal._to_dictionary(add_models=True) | {
        "package_info": utils.get_object_package_info(signal)
    }
    # The file is renamed afterwards, so that it has to be closed.
    kwds = {name: value for name, value in kwds.items() if name != "close_file"}
    writer = import_module(plugin["api"]).file_writer
    if plugin["name"] == _FOLDER:
        general = content["metadata"]["General"]
        content["metadata"] |= {"General": general | {"title": _folder_name(general["title"])}}
        writer(str(path), content, **kwds)
    else:
        _write_hdf5(writer, path, content, plugin["name"] == "EMD", kwds)


def _folder_name(title: str) -> str:
    """Return a title as it can name the folder of the data in a .zspy store; most can."""
    fits = title not in (".", "..") and "\\" not in title and "\0" not in title
    return title if fits and len(title.encode(errors="replace")) <= _LONGEST else file_part(title)


def _write_hdf5(writer, path: Path, content: dict, opened: bool, kwds: dict) -> None:
    """Write a signal through a `Sink`; some writers need it `opened` as an HDF5 file."""
    import h5py
    from dask.callbacks import Callback

    here = threading.get_ident()

    def check(*_):
        # Once the disk is full, no more lazy data are computed.
        if threading.get_ident() == here:
            sink.check()

    # A file of HDF5 that is left in a circle of references, as a failed write leaves it, would be
    # collected in one of dask's threads, which then waits for h5py's lock, and we for the thread.
    gc.collect()
    with (
        Sink(path) as sink,
        Callback(posttask=check),
        h5py.File(sink, "w") if opened else nullcontext(sink) as target,
    ):
        writer(target, content, **kwds)


class Sink(io.RawIOBase):
    """A file for HDF5 to write; the first failure is raised at the end of the ``with`` block.

    No failure reaches HDF5 itself.

    Parameters
    ----------
    path : path-like
        The file; an existing one is emptied.
    """

    def __init__(self, path: str | os.PathLike):
        self._path = os.fspath(path)
        self._file = io.FileIO(path, "w+")
        self.error: BaseException | None = None

    def __fspath__(self) -> str:
        return self._path

    def readable(self) -> bool:
        """Return True."""
        return True

    def writable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def write(self, data) -> int:
        """Write all of it, or nothing after a failure, and report success."""
        view = memoryview(data).cast("B")
        left = view if self.error is None else b""
        try:
            while left:
                left = left[self._file.write(left) :]
        except BaseException as error:
            self.error = error
        return len(view)

    def readinto(self, buffer) -> int:
        """Read; beyond the end, which could not be written, are zeros."""
        view = memoryview(buffer).cast("B")
        found = 0
        try:
            found = self._file.readinto(view)
        except BaseException as error:
            self.error = self.error or error
        view[found:] = bytes(len(view) - found)
        return len(view)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a position."""
        try:
            return self._file.seek(offset, whence)
        except BaseException as error:
            self.error = self.error or error
            return offset

    def tell(self) -> int:
        """Return the position."""
        return self.seek(0, os.SEEK_CUR)

    def truncate(self, size: int | None = None) -> int:
        """Set the length of the file."""
        size = self.tell() if size is None else size
        try:
            return self._file.truncate(size)
        except BaseException as error:
            self.error = self.error or error
            return size

    def check(self) -> None:
        """Raise the first error, if there was one."""
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        """Close the file; where that fails, as on some network disks, the error is kept."""
        try:
            self._file.close()
        except OSError as error:
            self.error = self.error or error
        super().close()

    def __enter__(self):
        self._restore = _interrupts_delayed(self)
        self._restore.__enter__()
        return self

    def __exit__(self, kind, value, trace) -> None:
        self._restore.__exit__(None, None, None)
        self.close()
        if (
            self.error is not None
            and (value is None or isinstance(value, Exception))
            and value is not self.error
        ):
            raise self.error from value


@contextmanager
def _interrupts_delayed(sink: Sink) -> Iterator[None]:
    """Delay an interrupt until HDF5 has closed the file: it would be a failed write."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    at_work = {
        getattr(Sink, name).__code__
        for name in ("write", "readinto", "seek", "tell", "truncate", "close")
    }

    def keep(number, frame):
        inner = frame
        while inner is not None and inner.f_code not in at_work:
            inner = inner.f_back
        if inner is None:
            before(number, frame)
        else:
            sink.error = sink.error or KeyboardInterrupt()

    signal.signal(signal.SIGINT, keep)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

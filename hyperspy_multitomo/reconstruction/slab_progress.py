# SPDX-License-Identifier: GPL-3.0-or-later
"""Computing lazy volumes: a bar that counts slabs, and errors that say what is left."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager

from hyperspy_multitomo.machine.cluster import client_in_use
from hyperspy_multitomo.machine.lazy import is_lazy
from hyperspy_multitomo.machine.parallel import available_cores
from hyperspy_multitomo.machine.progress import progress_bar
from hyperspy_multitomo.reconstruction.slots import stopping

# Tasks of slabs are named after the methods that make them.
_SLABS = "reconstruct_"
_LEFT = (
    "Slabs that were finished are kept where the reconstruction was given checkpoint=; resume= "
    "goes on from there"
)


@contextmanager
def counting_slabs(
    data, show: bool | None, scheduler=None, num_workers: int | None = None, **_
) -> Iterator[bool | None]:
    """Show a bar of the slabs in a dask array while they are computed here.

    Yields `show_progressbar` for HyperSpy's own bar. `scheduler` and `num_workers` are those that
    dask is called with. An error or an interrupt stops all slabs and propagates when the last one
    has ended.
    """
    names = [_name(key) for key in data.dask if _SLABS in _name(key)] if is_lazy(data) else []
    try:
        if not names or client_in_use() is not None:
            yield show
            return
        from dask.callbacks import Callback

        with (
            progress_bar(show, "slabs", len(names)) as step,
            _dask_threads(scheduler, num_workers),
            stopping(set(names)),
        ):

            def finished(key, *_):
                if step is not None and _SLABS in _name(key):
                    step()

            with Callback(posttask=finished):
                yield False
    except CancelledError as error:
        said = str(error).partition("\n")[0]
        raise RuntimeError(
            f"the scheduler of the cluster is gone, and the run with it ({said}). {_LEFT}"
        ) from error
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OSError(
            error.errno, f"{error.strerror}; what was there before is whole. {_LEFT}"
        ) from error
    except Exception as error:
        if type(error).__name__ != "KilledWorker":
            raise
        raise RuntimeError(
            f"a slab ended one worker after another, most likely for want of memory ({error}). "
            f"{_LEFT}"
        ) from error


def _name(key) -> str:
    """Return the name of a task; that of one which is fused with others has the names of all."""
    return str(key[0] if isinstance(key, tuple) else key)


@contextmanager
def _dask_threads(scheduler, num_workers: int | None) -> Iterator[None]:
    """Let dask work in threads of its own that are joined: a failed run leaves none behind."""
    import dask

    scheduler = scheduler or dask.config.get("scheduler", None)
    if scheduler not in (None, "threads", "threading") or dask.config.get("pool", None) is not None:
        yield
        return
    count = num_workers or dask.config.get("num_workers", None) or available_cores()
    with ThreadPoolExecutor(count) as pool, dask.config.set(pool=pool):
        yield

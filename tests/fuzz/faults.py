# SPDX-License-Identifier: GPL-3.0-or-later
"""Kills, interrupts and full disks while something is saved, each in a process of its own:
what is there then, what is left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .classify import CRASH, HANG, OK, SILENT
from .runner import LIMIT, TESTS, Result, import_path

FAULTS = ("kill", "interrupt", "full disk")
_OLD, _NEW = 1.0, 2.0
#: Values that one file holds.
_SIZE = 120_000


def write(target: Path, value: float, lazy: bool) -> None:
    """Save, or export, some noise whose first value is `value` over what is there."""
    import dask.array as da

    import hyperspy_multitomo as mt
    from hyperspy_multitomo.alignment.transform import Alignment
    from hyperspy_multitomo.tomography import Checkpoint

    noise = np.random.default_rng(0).random(_SIZE, np.float32).reshape(2, 20, 50, 60)
    noise[0, 0, 0, 0] = value
    if target.suffix == ".state":
        Checkpoint(target).save({"noise": noise})
    elif target.suffix in (".json", ".csv"):
        Alignment(np.full(4000, value), noise.ravel()[:4000].astype(float)).save(
            target, overwrite=True
        )
    else:
        arrays = (da.from_array(one, chunks=(5, 50, 30)) if lazy else one for one in noise)
        volume = mt.TomographicVolume.from_arrays(dict(zip(("Au", "Ag"), arrays, strict=True)), 1.0)
        if target.suffix in (".hspy", ".zspy"):
            volume.save(target, overwrite=True, **({"show_progressbar": False} if lazy else {}))
        else:
            volume.export(
                target, overwrite=True, **({"channels": "Au"} if target.suffix == ".mrc" else {})
            )


def read(target: Path) -> float:
    """Return the first value of a file, all of which has been read."""
    from hyperspy_multitomo.acquisition.files.file_lists import expand_files
    from hyperspy_multitomo.alignment.transform import Alignment
    from hyperspy_multitomo.tomography import Checkpoint

    if target.suffix == ".state":
        return float(Checkpoint(target).load()["noise"].flat[0])
    if target.suffix in (".json", ".csv"):
        return float(Alignment.load(target).across.mean())
    if target.suffix in (".hspy", ".zspy"):
        import hyperspy.api as hs

        # As `load_tilt_series` does: a name that was lost comes back.
        data = hs.load(expand_files(target)[0]).data
    elif target.suffix == ".mrc":
        import mrcfile

        with mrcfile.open(target) as file:
            data = np.array(file.data)
    elif target.suffix == ".tif":
        import tifffile

        data = tifffile.imread(target)
    else:
        data = np.frombuffer(
            target.read_bytes().partition(b'encoding="raw">\n_')[2][8 : 8 + 2 * _SIZE], "<f4"
        )
    assert data.size in (_SIZE, _SIZE // 2), data.size
    assert np.count_nonzero(data) == data.size
    return float(np.max(data))


SUFFIXES = (".hspy", ".zspy", ".state", ".json", ".csv", ".mrc", ".tif", ".vti")


def _child(work: Callable[[], None]) -> int:
    """Run something in a copy of this process; return its number."""
    # No interrupt comes before the copy can deal with it: it would end like this process, and
    # remove its folders.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    child = os.fork()
    if child:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return child
    status = 1
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        work()
        status = 0
    except KeyboardInterrupt:
        status = 3
    except OSError as error:
        # A full disk, and the name in its message.
        status = 4 if "could not be written" in str(error) and "another disk" in str(error) else 5
    finally:
        os._exit(status)


def _wait(child: int) -> int | None:
    """Return the status of a process that ended in time, its signal as a negative number;
    None where it hangs."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _strike(
    fault: str, target: Path, lazy: bool, rng: random.Random, seconds: float
) -> tuple[str, str]:
    """Save over a file with a fault; return the kind and what happened."""

    def save() -> None:
        if fault == "full disk":
            import resource

            room = rng.choice([0, rng.randrange(2000), rng.randrange(100_000)])
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
        write(target, _NEW, lazy)

    child = _child(save)
    if fault != "full disk":
        time.sleep(rng.random() * seconds)
        os.kill(child, signal.SIGKILL if fault == "kill" else signal.SIGINT)
    status = _wait(child)
    if status is None:
        return HANG, "hangs"
    expected = {"kill": (0, -signal.SIGKILL), "interrupt": (0, 3), "full disk": (0, 4)}[fault]
    if status not in expected:
        return (CRASH if status < 0 else SILENT), f"ended with {status}"
    left = sorted(path.name for path in target.parent.iterdir())
    if fault != "kill" and left != [target.name]:
        return SILENT, f"left {left}"
    value = read(target)
    if value not in ((_NEW,) if status == 0 else (_OLD, _NEW)[: 1 if fault == "full disk" else 2]):
        return SILENT, f"the file holds {value} after {status}"
    write(target, _OLD, False)
    left = sorted(path.name for path in target.parent.iterdir())
    if left != [target.name]:
        return SILENT, f"the next save left {left}"
    return OK, f"ended with {status}"


def faults(n: int, seed: int) -> list[Result]:
    """Strike `n` times with each fault, in this process, which has no other threads."""
    results, seconds = [], {}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for suffix in SUFFIXES:
            target = Path(folder) / suffix[1:] / f"file{suffix}"
            for _ in range(2):
                begun = time.perf_counter()
                write(target, _OLD, False)
                seconds[suffix] = 1.5 * (time.perf_counter() - begun)
        for number in range(len(FAULTS) * n):
            case = 1_000_000 * seed + number
            rng = random.Random(case)
            fault, suffix, lazy = (
                FAULTS[number % len(FAULTS)],
                rng.choice(SUFFIXES),
                rng.random() < 0.4,
            )
            target = Path(folder) / suffix[1:] / f"file{suffix}"
            try:
                kind, what = _strike(fault, target, lazy, rng, seconds[suffix])
            except Exception as error:
                kind, what = SILENT, f"{type(error).__name__}: {error}"
            results.append(
                Result(
                    case,
                    f"{fault}, {suffix}",
                    kind,
                    f"{fault} of {suffix}{', lazy' if lazy else ''}",
                    what,
                )
            )
    return results


def run(n: int, seed: int) -> list[Result]:
    """Return what came of `n` faults of each kind, run in a process of its own."""
    code = "import json; from fuzz.faults import faults; "
    code += f"print(json.dumps([vars(one) for one in faults({n}, {seed})]))"
    environment = os.environ | {"PYTHONPATH": import_path(), "DASK_NUM_WORKERS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=TESTS, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        return [Result(seed, "faults", CRASH, done.stderr[-500:])]
    import json

    return [Result(**one) for one in json.loads(done.stdout.splitlines()[-1])]

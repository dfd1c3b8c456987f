# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints of runs, a file or one per slab, and the key that tells a run from others."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hyperspy_multitomo.tomography import TiltGeometry
from hyperspy_multitomo.tomography.checkpoint import Checkpoint, Stored, fingerprint

# Entry of a key for files in which a geometry is a string.
_AS_TEXT = "geometry_as_text"
# Digits of the numbers in a key that count: what is fitted anew may differ in the last ones.
_DIGITS = 6
_NAME_OF_SLAB = re.compile(r"slices_(\d+)-(\d+)\.(?:state|volume)")


@dataclass(frozen=True)
class CheckpointStore:
    """A file with the state of a run, or a folder with files for each of its slabs.

    Attributes
    ----------
    path : Path
    resume : bool
        Whether to go on from what is there.
    key : dict
        What made the run, but for the data; see `run_key`.
    defaults : dict
        Of entries of the key: what those stand for that a file does not have.
    """

    path: Path
    resume: bool
    key: Mapping
    defaults: Mapping

    @classmethod
    def open(
        cls, checkpoint, resume, key: Mapping, folder: bool, defaults: Mapping | None = None
    ) -> CheckpointStore | None:
        """Return what `checkpoint=` and `resume=` ask for; None where neither is given.

        Parameters
        ----------
        checkpoint, resume : path-like or None
        key, defaults : mapping
        folder : bool
            Whether it is a folder of slabs, not a file.

        Raises
        ------
        FileExistsError
            For `checkpoint=` where something is, which would be lost.
        FileNotFoundError
            For `resume=` where nothing is.
        ValueError
            For both, of different places, and for a file where it has to be a folder, or the other
            way round.
        """
        if checkpoint is None and resume is None:
            return None
        paths = [Path(os.fspath(path)) for path in (checkpoint, resume) if path is not None]
        path = paths[0]
        if path != paths[-1]:
            raise ValueError(
                f"checkpoint={str(path)!r} and resume={str(paths[1])!r} are two places; "
                "pass one of them"
            )
        if resume is not None and not path.exists():
            raise FileNotFoundError(
                f"there is no checkpoint {path}; pass checkpoint= to start one there"
            )
        if resume is None and path.exists():
            raise FileExistsError(
                f"{path} exists already: pass resume= to go on from there, or remove it, "
                "or choose another name"
            )
        if path.exists() and path.is_dir() != folder:
            kinds = {
                True: "a folder, as a lazy series leaves it",
                False: "a file, as a series in memory leaves it",
            }
            raise ValueError(
                f"{path} is {kinds[not folder]}, and this run needs {kinds[folder]}: "
                "resume it as it was begun"
            )
        return cls(path, resume is not None, plain(key), plain(defaults or {}))

    def checkpoint(self, arrays: Mapping) -> Checkpoint:
        """Return the checkpoint of a run on these arrays."""
        return self._at(self.path, {"data": fingerprint(arrays)})

    def of_slab(self, slab) -> CheckpointStore:
        """Return that of one slab, in the folder; it goes on wherever there is something."""
        path = self.path / f"slices_{slab.start:05d}-{slab.stop:05d}.state"
        return replace(
            self, path=path, resume=path.exists(), key={**self.key, "slices": vars(slab)}
        )

    def thickness(self, slices: int) -> int | None:
        """Return the slices of a slab of the run that is resumed; None where no file tells."""
        names = [
            _NAME_OF_SLAB.fullmatch(path.name)
            for path in (self.path.glob("slices_*") if self.resume else [])
        ]
        bounds = [tuple(map(int, name.groups())) for name in names if name]
        # The last slab may be thinner.
        return min(
            (stop - start for start, stop in bounds if stop < slices or start == 0), default=None
        )

    def of_round(self, number: int) -> dict:
        """Return the keywords of one of several runs, in the folder; it goes on where it was."""
        path = self.path / f"round_{number}"
        return {"resume" if self.resume and path.exists() else "checkpoint": path}

    @property
    def has_volume(self) -> bool:
        """Whether there is the volume of a slab that was finished."""
        return self._volume_path.exists()

    def finished(self, arrays: Mapping, iterations: int) -> np.ndarray | None:
        """Return the volume of a slab that was finished before, or None."""
        if not self.has_volume:
            return None
        return self._volume(arrays, iterations).load()["volume"]

    def finish(self, arrays: Mapping, iterations: int, volume: np.ndarray) -> None:
        """Keep the volume of a slab, which takes less room than its state."""
        self._volume(arrays, iterations).save({"volume": volume})
        self.path.unlink(missing_ok=True)

    @property
    def _volume_path(self) -> Path:
        return self.path.with_suffix(".volume")

    def _volume(self, arrays: Mapping, iterations: int) -> Checkpoint:
        more = {"iterations": iterations, "data": fingerprint(arrays)}
        return self._at(self._volume_path, more)

    def _at(self, path: Path, more: Mapping) -> Checkpoint:
        """Return the checkpoint at a path, with the key in the form that the file there has."""
        known = Stored(path).header["key"] if path.is_file() else None
        return Checkpoint(path, key={**_in_form_of(known, self.key, self.defaults), **more})


def key_of(path) -> Mapping | None:
    """Return the key of a checkpoint, of a slab of it where it is a folder; None where none is."""
    path = Path(os.fspath(path))
    files = [path] if path.is_file() else sorted(path.glob("slices_*"))
    return Stored(files[0]).header["key"] if files else None


def volume_grid_of(path) -> tuple[int, int] | None:
    """Return the voxels along z and x of the run that a checkpoint is of; None if none tells.

    Parameters
    ----------
    path : path-like
        A file, or a folder of slabs.
    """
    path = Path(os.fspath(path))
    files = sorted(path.glob("slices_*")) if path.is_dir() else [path]
    for file in files:
        if file.is_file():
            try:
                geometry = Stored(file).header["key"].get("geometry")
            except (OSError, ValueError):
                return None  # the run says what is wrong with it
            if isinstance(geometry, str):  # of files from before geometries had fields
                numbers = re.search(r"volume_shape=\((\d+), (\d+)\)", geometry)
                return None if numbers is None else (int(numbers[1]), int(numbers[2]))
            depth, width = geometry["volume_shape"]
            return int(depth), int(width)
    return None


def run_key(step: str, geometry: TiltGeometry, settings: Mapping) -> dict:
    """Return what made a run, field by field, but for its data.

    Parameters
    ----------
    step : str
        Name of the method.
    geometry : TiltGeometry
    settings : mapping
        Of the method.
    """
    fields = {field.name: getattr(geometry, field.name) for field in dataclasses.fields(geometry)}
    return {"step": step, "geometry": fields, _AS_TEXT: repr(geometry), **settings}


def plain(value):
    """Return a key as JSON holds it, its numbers rounded to `_DIGITS`."""

    def plain_one(one):
        if isinstance(one, Mapping):
            return {str(name): plain_one(each) for name, each in one.items()}
        if isinstance(one, np.ndarray):
            return plain_one(one.tolist())
        if isinstance(one, list | tuple):
            return [plain_one(each) for each in one]
        if isinstance(one, float | np.floating):
            return float(f"{one:.{_DIGITS}g}")
        if isinstance(one, np.generic):
            return one.item()
        return one if isinstance(one, int | str | None) else str(one)

    return json.loads(json.dumps(plain_one(value)))


def _in_form_of(known: Mapping | None, key: Mapping, defaults: Mapping) -> dict:
    """Return a key in the form of one in a file, if there is one.

    Entries that the file does not know are left out where they have their default, as they had for
    all runs then. In files from before geometries were written field by field a string is in their
    place.
    """
    key = dict(key)
    text = key.pop(_AS_TEXT, None)
    if known is None:
        return key
    if isinstance(known.get("geometry"), str):
        key["geometry"] = text
    defaults = {**defaults, **dict.fromkeys(("geometry", "haadf_geometry"), _GEOMETRY)}
    return _known_entries(known, key, defaults)


def _known_entries(known: Mapping, key: Mapping, defaults: Mapping) -> dict:
    """Return a key without entries, nested ones too, that are unknown and have their default."""
    entries = {}
    for name, value in key.items():
        if name in known:
            nested = isinstance(value, Mapping) and isinstance(known[name], Mapping)
            inner = defaults.get(name)
            inner = inner if isinstance(inner, Mapping) else {}
            entries[name] = _known_entries(known[name], value, inner) if nested else value
        elif name not in defaults or value != defaults[name]:
            entries[name] = value
    return entries


# What a geometry has where nothing else is given.
_GEOMETRY = plain(
    {
        field.name: field.default
        for field in dataclasses.fields(TiltGeometry)
        if field.default is not dataclasses.MISSING
    }
)

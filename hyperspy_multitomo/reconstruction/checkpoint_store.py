# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a run keeps its state, and what tells it from other runs: a file, or a folder with files for each slab."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hyperspy_multitomo.tomography.checkpoint import Checkpoint, fingerprint

# Digits of the numbers in a key that count: what is fitted anew may differ in the last ones.
_DIGITS = 6
_NAME_OF_SLAB = re.compile(r"slices_(\d+)-(\d+)\.(?:state|volume)")


@dataclass(frozen=True)
class Kept:
    """Where a run keeps its state, and what says that it is the same run: a file, or a folder with files for each slab.

    Attributes
    ----------
    path : Path
    resume : bool
        Whether to go on from what is there.
    key : dict
        What made the run, but for the data.
    """

    path: Path
    resume: bool
    key: Mapping

    @classmethod
    def of(cls, checkpoint, resume, key: Mapping, folder: bool) -> Kept | None:
        """Return what `checkpoint=` and `resume=` ask for, a folder of slabs or a file; None where neither is given.

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
        given = [Path(os.fspath(path)) for path in (checkpoint, resume) if path is not None]
        if given[0] != given[-1]:
            raise ValueError(
                f"checkpoint={str(given[0])!r} and resume={str(given[1])!r} are two places; pass "
                "one of them"
            )
        if resume is not None and not given[0].exists():
            raise FileNotFoundError(
                f"there is no checkpoint {given[0]}; pass checkpoint= to start one there"
            )
        if resume is None and given[0].exists():
            raise FileExistsError(
                f"{given[0]} exists already: pass resume= to go on from there, or remove it, or "
                "choose another name"
            )
        if given[0].exists() and given[0].is_dir() != folder:
            kinds = {
                True: "a folder, as a lazy series leaves it",
                False: "a file, as a series in memory leaves it",
            }
            raise ValueError(
                f"{given[0]} is {kinds[not folder]}, and this run needs {kinds[folder]}: resume it "
                "as it was begun"
            )
        return cls(given[0], resume is not None, _plain(key))

    def checkpoint(self, arrays: Mapping) -> Checkpoint:
        """Return the checkpoint of a run on these arrays."""
        return Checkpoint(self.path, key={**self.key, "data": fingerprint(arrays)})

    def of_slab(self, slab) -> Kept:
        """Return that of one slab, in the folder; it goes on wherever there is something."""
        path = self.path / f"slices_{slab.start:05d}-{slab.stop:05d}.state"
        return replace(
            self, path=path, resume=path.exists(), key={**self.key, "slices": vars(slab)}
        )

    def thickness(self, slices: int) -> int | None:
        """Return the slices of a slab that a run which is resumed was cut into; None where nothing in the folder tells."""
        names = (
            [_NAME_OF_SLAB.fullmatch(path.name) for path in self.path.glob("slices_*")]
            if self.resume
            else []
        )
        bounds = [tuple(map(int, name.groups())) for name in names if name]
        # The last slab may be thinner.
        return min(
            (stop - start for start, stop in bounds if stop < slices or start == 0), default=None
        )

    def of_round(self, number: int) -> dict:
        """Return the keywords of one of several runs, in the folder; it goes on where there is something."""
        path = self.path / f"round_{number}"
        return {"resume" if self.resume and path.exists() else "checkpoint": path}

    @property
    def _path_of_volume(self) -> Path:
        return self.path.with_suffix(".volume")

    @property
    def has_volume(self) -> bool:
        """Whether there is the volume of a slab that was finished, if of the same run."""
        return self._path_of_volume.exists()

    def _volume(self, arrays: Mapping, iterations: int) -> Checkpoint:
        return Checkpoint(
            self._path_of_volume,
            key={**self.key, "iterations": iterations, "data": fingerprint(arrays)},
        )

    def finished(self, arrays: Mapping, iterations: int) -> np.ndarray | None:
        """Return the volume of a slab that was finished before, or None."""
        if not self.has_volume:
            return None
        return self._volume(arrays, iterations).load()["volume"]

    def finish(self, arrays: Mapping, iterations: int, volume: np.ndarray) -> None:
        """Keep the volume of a slab, which takes less room than its state."""
        self._volume(arrays, iterations).save({"volume": volume})
        self.path.unlink(missing_ok=True)


def _plain(value):
    """Return a key as JSON holds it, its numbers rounded."""

    def plain(one):
        """Return one value of it, with what it holds."""
        if isinstance(one, Mapping):
            return {str(name): plain(each) for name, each in one.items()}
        if isinstance(one, np.ndarray):
            return plain(one.tolist())
        if isinstance(one, list | tuple):
            return [plain(each) for each in one]
        if isinstance(one, float | np.floating):
            return float(f"{one:.{_DIGITS}g}")
        return (
            one.item()
            if isinstance(one, np.generic)
            else one
            if isinstance(one, int | str | None)
            else str(one)
        )

    return json.loads(json.dumps(plain(value)))

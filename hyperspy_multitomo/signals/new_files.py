# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a folder that are complete while others are still being written."""

from __future__ import annotations

import glob
from pathlib import Path

from hyperspy_multitomo.acquisition.files.file_lists import expand_files


class NewFiles:
    """The complete files of a folder or pattern: those that did not change between two looks.

    Parameters
    ----------
    where : path-like
        A folder, or a pattern such as ``"tilts/*.bcf"``.

    Raises
    ------
    FileNotFoundError
        Where the folder does not exist.
    """

    def __init__(self, where: str | Path):
        self.where = where
        path = Path(where).expanduser()
        pattern = glob.has_magic(str(path)) and not path.is_dir()
        self._folder = path.parent if pattern else path
        self._seen: dict[Path, tuple[int, int]] = {}
        if not self._folder.is_dir():
            raise FileNotFoundError(
                f"the folder {self._folder} does not exist: pass the one that the microscope "
                "writes to, or a pattern in it"
            )

    def complete(self) -> dict[Path, tuple[int, int]]:
        """Look once more; return the files that are as they were at the last look.

        With each go its size and the time of its last change.

        Raises
        ------
        FileNotFoundError
            Where the folder has gone.
        """
        if not self._folder.is_dir():
            raise FileNotFoundError(
                f"the folder {self._folder} is gone, with {len(self._seen)} files in it at the "
                "last look"
            )
        try:
            present = {path: self._state(path) for path in expand_files(self.where)}
        except FileNotFoundError:
            present = {}  # nothing yet, or one that vanished meanwhile
        before, self._seen = self._seen, present
        return {
            path: state for path, state in present.items() if state[0] and before.get(path) == state
        }

    @staticmethod
    def _state(path: Path) -> tuple[int, int]:
        files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
        stats = [one.stat() for one in files]
        return sum(one.st_size for one in stats), max((one.st_mtime_ns for one in stats), default=0)

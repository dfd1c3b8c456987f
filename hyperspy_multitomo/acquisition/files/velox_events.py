# SPDX-License-Identifier: GPL-3.0-or-later
"""The streams of EDS events of a Velox file, with a check that every frame is complete."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_multitomo.acquisition.files.frame_sums import NEXT_PIXEL, count_events
from hyperspy_multitomo.machine.notices import warn

if TYPE_CHECKING:
    import h5py

__all__ = ["count_pixels", "frame_starts", "read_events"]

# Values of a stream that are decoded at a time.
_PIECE = 2**22


def count_pixels(stream: h5py.Dataset, start: int = 0, stop: int | None = None) -> int:
    """Return how many pixels end among the values `start` to `stop` of a stream (value, 1)."""
    return sum(int(np.count_nonzero(piece == NEXT_PIXEL)) for piece in _pieces(stream, start, stop))


def frame_starts(group: h5py.Group, shape: tuple[int, int] | None) -> np.ndarray:
    """
    Return the index of the first value of each frame in a stream.

    Parameters
    ----------
    group : h5py.Group
        With the stream as ``Data``, (value, 1), and usually with a ``FrameLocationTable``,
        (frame, 1).
    shape : (int, int) or None
        Pixels (y, x) of a frame, which are counted where there is no table; None for one frame.

    Returns
    -------
    ndarray of int (frame,)

    Raises
    ------
    ValueError
        For a table that does not fit the stream.
    """
    stream = group["Data"]
    starts = (
        np.ravel(group["FrameLocationTable"][:, 0]).astype(np.int64)
        if "FrameLocationTable" in group
        else np.array([])
    )
    if starts.size == 0:
        return np.array([0]) if shape is None else _counted_starts(stream, shape[0] * shape[1])
    if starts[0] < 0 or (np.diff(starts) <= 0).any() or starts[-1] >= max(1, stream.shape[0]):
        raise ValueError(
            f"{Path(group.file.filename).name}: the table of the frames of the EDS stream "
            f"{group.name} has the entries "
            f"{starts[:8].tolist()}{' ...' if starts.size > 8 else ''}; expected rising places in "
            f"its {stream.shape[0]} values: the file is damaged or cut; copy it again"
        )
    return starts


def _counted_starts(stream: h5py.Dataset, pixels: int) -> np.ndarray:
    """Return the starts of frames of a fixed number of pixels."""
    starts, passed, ended = [0], 0, 0
    for piece in _pieces(stream):
        ends = np.flatnonzero(piece == NEXT_PIXEL)
        starts += (passed + 1 + ends[pixels - 1 - ended % pixels :: pixels]).tolist()
        passed, ended = passed + len(piece), ended + len(ends)
    # No frame begins at the end of the stream.
    return np.array(starts if starts[-1] < passed or len(starts) == 1 else starts[:-1])


def read_events(
    path: Path,
    streams: Sequence[str],
    shape: tuple[int, int],
    channels: int,
    frames: tuple[int, int],
    shifts=None,
):
    """
    Return the counts of all detectors, summed over a range of frames.

    Parameters
    ----------
    path : Path
    streams : sequence of str
        Their groups in the file.
    shape : (int, int)
        Pixels (y, x) of a frame.
    channels : int
    frames : (int, int)
        First frame and the one after the last.
    shifts : ndarray (frame, 2), optional
        For each of these frames, see `count_events`.

    Returns
    -------
    csr_matrix (y * x, energy)

    Raises
    ------
    ValueError
        Where a frame has not as many pixels as the map: an end-of-pixel mark is lost, and all
        events behind it would be in wrong pixels.

    Warns
    -----
    UserWarning
        Where the last frame of the recording is incomplete.
    """
    import h5py

    counts, counters = [], []
    with h5py.File(path, "r") as file:
        for node in streams:
            stream = file[node]["Data"]
            starts = frame_starts(file[node], shape)
            edges = np.append(starts, stream.shape[0])[frames[0] : frames[1] + 1]
            if len(edges) < 2:
                continue
            counter = _PixelCounter(node, edges[:-1] - edges[0], is_end=frames[1] >= len(starts))
            pieces = counter.count(_pieces(stream, int(edges[0]), int(edges[-1])))
            frame_range = 0, len(counter.starts)
            counts.append(
                count_events(pieces, shape, channels, frame_range, shifts, counter.starts)
            )
            # Pixels behind the last of the map are counted as well, as too many.
            list(pieces)
            counters.append(counter)
    _check_pixels(path.name, counters, shape, frames[0])
    return sum(counts)


def _pieces(stream: h5py.Dataset, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
    stop = stream.shape[0] if stop is None else stop
    for first in range(start, stop, _PIECE):
        yield stream[first : min(first + _PIECE, stop), 0]


@dataclass
class _PixelCounter:
    """Count the pixels that end in each frame of a stream while its values are read."""

    name: str
    starts: np.ndarray
    # Whether the last of the frames is the last of the stream.
    is_end: bool
    passed: int = 0
    # Whether there are events behind the last end-of-pixel mark.
    is_open: bool = False

    def __post_init__(self):
        self.ended = np.zeros(len(self.starts), dtype=np.int64)

    def count(self, pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the pieces of the stream, counted."""
        for piece in pieces:
            ends = np.flatnonzero(piece == NEXT_PIXEL)
            before = np.searchsorted(ends, self.starts - self.passed)
            self.ended += np.diff(before, append=len(ends))
            self.passed += len(piece)
            self.is_open = bool(len(piece)) and piece[-1] != NEXT_PIXEL
            yield piece


def _check_pixels(
    name: str, counters: Sequence[_PixelCounter], shape: tuple[int, int], first: int
) -> None:
    """Compare the number of pixels of each frame with that of the map."""
    pixels = shape[0] * shape[1]
    wrong = []
    # Detectors are read out together, so that all have the same part of an incomplete last frame.
    last = {int(counter.ended[-1]) for counter in counters if counter.is_end}
    for counter in counters:
        frames = np.flatnonzero(counter.ended != pixels)
        if counter.is_end and len(last) == 1 and max(last) < pixels:
            frames = frames[frames < len(counter.ended) - 1]
        wrong += [
            f"{counter.ended[frame]} in frame {first + frame} of {counter.name.rpartition('/')[2]}"
            for frame in frames
        ]
    if wrong:
        more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        raise ValueError(
            f"{name}: not all frames of its EDS events have the {pixels} pixels of the map "
            f"({', '.join(wrong[:4])}{more}): marks of the end of a pixel are lost or added, and "
            "what is behind them would be in wrong pixels; copy or export the file again, or leave "
            "these frames out with frames=(first, last)"
        )
    # The mark of the very last pixel may be missing: then its events follow the last mark.
    if last and max(last) < pixels - any(c.is_open for c in counters if c.is_end):
        warn(
            f"{name}: the last frame of its EDS events has {max(last)} of {pixels} pixels: the "
            "recording was stopped there, or marks of the end of a pixel are lost; to leave the "
            "frame out pass frames=(first, last)"
        )

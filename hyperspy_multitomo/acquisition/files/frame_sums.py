# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames of one view: their drift, measured on the images, and their drift-corrected sum."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import index
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage, sparse

__all__ = ["average_frames", "count_events", "register_frames", "sum_frames"]

#: The value in a stream of events that ends a pixel; other values are the channel of one event.
NEXT_PIXEL = 65535
# The registration resolves 1/10 px; events are moved by whole pixels.
_UPSAMPLING = 10
# Comparisons of each frame: the taper pulls large shifts towards zero in the first.
_STEPS = 2
# Standard deviation (px) of the Gaussian that suppresses the noise of single pixels.
_SMOOTHING = 1.0


class Frames(Protocol):
    """Images (y, x) of equal shape that are read one by one: a list, an array or a file."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> ArrayLike: ...


def check_frames(frames: Sequence[int] | None) -> tuple[int, int] | None:
    """
    Return a range of frames as two integers, or None.

    Raises
    ------
    ValueError
        For anything but two whole numbers.

    Examples
    --------
    >>> check_frames([2, 10])
    (2, 10)
    """
    if frames is None:
        return None
    try:
        first, last = map(index, frames)
    except (TypeError, ValueError):
        raise ValueError(
            f"frames={frames!r} must be (first, last): two whole numbers, the last frame not "
            "included"
        ) from None
    return first, last


def register_frames(images: Frames) -> np.ndarray:
    """
    Measure the rigid drift of frames by cross-correlation with the average of earlier frames.

    Parameters
    ----------
    images : sequence of array_like (y, x), or ndarray (frame, y, x)
        Read one by one.

    Returns
    -------
    ndarray (frame, 2)
        Shift (y, x) in px, to a tenth of a pixel, that moves the object from its position in a
        frame to that in the first: ``aligned = shift(image, shifts[frame])``.

    Raises
    ------
    ValueError
        For frames of different shape or without contrast.

    Notes
    -----
    Each frame is compared with the average of those already registered, starting from the shift of
    the previous frame, and once more with the average of all others, so that errors do not add up.
    Frames are smoothed (Gaussian, 1 px), and tapered towards their borders, as opposite borders do
    not match. The taper pulls large shifts towards zero, so that each comparison is repeated with
    the frame shifted. The peak of the cross-correlation is located as in Guizar-Sicairos, Thurman,
    Fienup, Opt. Lett. 33 (2008) 156, doi:10.1364/OL.33.000156.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((32, 32)); image[10:18, 12:16] = 1
    >>> register_frames([image, np.roll(image, (2, -1), axis=(0, 1))])
    array([[ 0.,  0.],
           [-2.,  1.]])
    """
    shifts = np.zeros((len(images), 2))
    shape = np.shape(images[0])
    total = np.zeros(shape, dtype=np.float64)
    taper = np.outer(*(np.hanning(size + 2)[1:-1] for size in shape)).astype(np.float32)
    for number in range(len(images)):
        image = _frame(images, number, shape)
        if number:
            shifts[number] = shifts[number - 1]
            for _ in range(_STEPS):
                shifts[number] += _residual(total, image, shifts[number], taper)
        total += _moved(image, shifts[number])
    for number in range(len(images) if len(images) > 2 else 0):
        image = _frame(images, number, shape)
        others = total - _moved(image, shifts[number])
        shifts[number] += _residual(others, image, shifts[number], taper)
        total = others + _moved(image, shifts[number])
    # The sum with 0.0 turns -0.0 into 0.
    return np.round(shifts - shifts[:1], 6) + 0.0


def _frame(images: Frames, number: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return a frame, smoothed, after checking that it can be registered."""
    image = np.asarray(images[number], dtype=np.float32)
    if image.shape != shape:
        raise ValueError(
            f"frame {number} has the shape {image.shape}, the first {shape}; frames must be alike"
        )
    if not np.ptp(image) > 0:
        raise ValueError(
            f"frame {number} is the same everywhere ({image.flat[0]:g}): it cannot be registered"
        )
    return ndimage.gaussian_filter(image, _SMOOTHING)


def _residual(
    reference: np.ndarray, image: np.ndarray, shift: np.ndarray, taper: np.ndarray
) -> np.ndarray:
    """Return the correction (y, x) to the shift of an image relative to a reference."""
    from skimage.registration import phase_cross_correlation

    moving = _tapered(_moved(image, shift), taper)
    return phase_cross_correlation(
        _tapered(reference, taper), moving, upsample_factor=_UPSAMPLING, normalization=None
    )[0]


def sum_frames(frames: Iterable[ArrayLike], shifts: ArrayLike | None = None) -> np.ndarray:
    """
    Sum frames of counts, each moved by the whole number of pixels nearest to its shift.

    Parameters
    ----------
    frames : iterable of array_like (y, x, ...)
        Counts, e.g. the spectrum image (y, x, energy) of each frame.
    shifts : array_like (frame, 2), optional
        (y, x) in px, from `register_frames`; none by default.

    Returns
    -------
    ndarray (y, x, ...)
        Integer counts stay integers (64 bit) and none is divided among pixels; those moved out of
        the image are lost.

    Examples
    --------
    >>> import numpy as np
    >>> sum_frames(np.array([[[0, 3, 0]], [[0, 0, 2]]]), shifts=[[0, 0], [0, -1.2]])
    array([[0, 5, 0]])
    """
    total: np.ndarray | None = None
    for number, frame in enumerate(frames):
        frame = np.asarray(frame)
        if total is None:
            total = np.zeros(
                frame.shape, dtype=np.int64 if frame.dtype.kind in "iub" else frame.dtype
            )
        whole = (0, 0) if shifts is None else np.rint(np.asarray(shifts)[number]).astype(int)
        target, source = zip(
            *(_overlap(size, step) for size, step in zip(frame.shape, whole, strict=False)),
            strict=True,
        )
        total[target] += frame[source]
    if total is None:
        raise ValueError("there are no frames to sum")
    return total


def average_frames(images: Frames, shifts: ArrayLike | None = None) -> np.ndarray:
    """
    Average images frame by frame, each moved by its shift with linear interpolation.

    Parameters
    ----------
    images : sequence of array_like (y, x)
        Read one by one.
    shifts : array_like (frame, 2), optional
        (y, x) in px, from `register_frames`; none by default.

    Returns
    -------
    ndarray (y, x), float32
        The mean of the frames that cover each pixel.

    Examples
    --------
    >>> import numpy as np
    >>> frames = [np.array([[0.0, 3.0, 0.0]]), np.array([[0.0, 0.0, 5.0]])]
    >>> average_frames(frames, shifts=[[0, 0], [0, -1]])
    array([[0., 4., 0.]], dtype=float32)
    """
    if len(images) == 0:
        raise ValueError("there are no frames to average")
    total: np.ndarray | float = 0.0
    seen: np.ndarray | float = 0.0
    for number in range(len(images)):
        image = np.asarray(images[number], dtype=np.float32)
        step = np.zeros(2) if shifts is None else np.asarray(shifts, dtype=float)[number]
        total = total + _moved(image, step, mode="constant").astype(np.float64)
        seen = seen + _moved(np.ones_like(image), step, mode="constant")
    return np.divide(total, seen, out=np.zeros_like(total), where=seen > 0).astype(np.float32)


def count_events(
    stream: Iterable[np.ndarray],
    shape: tuple[int, int],
    channels: int,
    frames: tuple[int, int] | None = None,
    shifts: ArrayLike | None = None,
    starts: ArrayLike | None = None,
) -> sparse.csr_matrix:
    """
    Count the events of a stream into a sparse spectrum image.

    Parameters
    ----------
    stream : iterable of ndarray of uint16
        The stream in pieces of any length. The value 65535 ends a pixel, any other is the channel
        of one event. Pixels follow each other along x, then y, then the frames.
    shape : (int, int)
        Size of a frame (y, x) in px.
    channels : int
        Number of channels; events in higher ones are left out.
    frames : (int, int), optional
        First frame (from 0) and the one after the last; all by default.
    shifts : array_like (frame, 2), optional
        (y, x) in px of each of these frames, see `register_frames`; events move by whole pixels.
    starts : array_like of int (frame,), optional
        Index of the first value of each frame in the stream, ascending; by default a frame begins
        where the pixels of the previous one end.

    Returns
    -------
    csr_matrix (y * x, energy)
        Counts of each pixel.

    Examples
    --------
    >>> import numpy as np
    >>> stream = np.array([2, 65535, 0, 1, 65535, 2, 65535], dtype=np.uint16)
    >>> count_events([stream], (1, 2), 3).toarray()
    array([[0, 0, 2],
           [1, 1, 0]], dtype=int32)
    >>> count_events([stream], (1, 2), 3, frames=(0, 1)).nnz
    3
    """
    height, width = shape
    first, last = (0, np.inf) if frames is None else frames
    whole = None if shifts is None else np.rint(np.asarray(shifts)).astype(np.int64)
    counts = sparse.csr_matrix((height * width, channels), dtype=np.int32)
    passed = values = 0
    starts = np.zeros(0, dtype=np.int64) if starts is None else np.asarray(starts)
    for piece in stream:
        ends = piece == NEXT_PIXEL
        place = np.cumsum(ends)
        # Each frame starts at its nominal pixel number, even if pixels of earlier ones are missing.
        begun = np.flatnonzero((starts >= values) & (starts < values + len(piece)))
        at = starts[begun] - values
        before = np.where(at > 0, place[at - 1], 0)
        place += np.repeat(
            np.append(passed, begun * height * width - before),
            np.diff(at, prepend=0, append=len(piece)),
        )
        values += len(piece)
        passed = int(place[-1]) if len(place) else passed
        used = (
            ~ends
            & (piece < channels)
            & (place >= first * height * width)
            & (place < last * height * width)
        )
        frame, pixel = np.divmod(place[used], height * width)
        y, x = np.divmod(pixel, width)
        if whole is not None:
            y, x = y + whole[frame - first, 0], x + whole[frame - first, 1]
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        entries = y[inside] * width + x[inside], piece[used][inside]
        ones = np.ones(len(entries[0]), np.int32)
        counts = counts + sparse.coo_matrix((ones, entries), shape=counts.shape).tocsr()
        if passed >= last * height * width:
            break
    return counts


def _tapered(image: np.ndarray, taper: np.ndarray) -> np.ndarray:
    return (image - (image * taper).sum() / taper.sum()) * taper


def _moved(image: np.ndarray, step: ArrayLike, mode: str = "nearest") -> np.ndarray:
    return image if not np.any(step) else ndimage.shift(image, step, order=1, mode=mode)


def _overlap(size: int, step: int) -> tuple[slice, slice]:
    """Return target and source of the pixels that stay inside when moved by `step`."""
    step = int(np.clip(step, -size, size))
    return slice(max(step, 0), size + min(step, 0)), slice(max(-step, 0), size + min(-step, 0))

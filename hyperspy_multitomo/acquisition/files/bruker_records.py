# SPDX-License-Identifier: GPL-3.0-or-later
"""Decode the pixel stream of a Bruker map into the counts of each pixel, checking every length."""

from __future__ import annotations

import numpy as np

from hyperspy_multitomo.machine.compiling import compiled

__all__ = ["check_pixels", "decode_pixels"]

#: Bytes before the first line of a map, and in the header of each pixel.
_FIRST, _HEADER = 0x1A0, 22
#: Most counts that a channel of a pixel can have.
_MOST = 2**31 - 1


def decode_pixels(
    stream: np.ndarray, shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Decode the stream of a map.

    Parameters
    ----------
    stream : ndarray of uint8
        The file "SpectrumData" inside a .bcf.
    shape : (int, int, int)
        Rows, columns and channels; counts in higher channels are left out.

    Returns
    -------
    counts : ndarray of uint32 (count,)
    channels : ndarray of int32 (count,)
        Each channel of a pixel once, unsorted.
    starts : ndarray of int64 (y * x + 1,)
        First count of each pixel, and the end of the last. The three arrays form a CSR matrix.

    Raises
    ------
    ValueError
        Where the stream ends within a pixel, or states impossible lengths or positions.

    Notes
    -----
    A line begins with the number of its pixels. A pixel is a header (column, packing, number of
    pulses, bytes) and its counts. These are packed as a list of pulses of 16 or 12 bits, or as runs
    of channels, each with the offset and the width of its counts, followed by further pulses.
    """
    number, _, starts = _measured(stream, shape)
    counts, channels = np.empty(number, np.uint32), np.empty(number, np.int32)
    _decode(stream, *shape, counts, channels, starts)
    return counts, channels, starts


def check_pixels(stream: np.ndarray, shape: tuple[int, int, int]) -> int:
    """Raise the errors of `decode_pixels`, in half its time; return the largest count."""
    return _measured(stream, shape)[1]


def _measured(stream: np.ndarray, shape: tuple[int, int, int]) -> tuple[int, int, np.ndarray]:
    """Return the number of counts, the largest of them, and the first count of each pixel."""
    height, width, _ = shape
    if stream.size < _FIRST or tuple(stream[:8].view("<u4")) != (height, width):
        raise ValueError(f"its map has not the {height} x {width} pixels of the header")
    starts = np.empty(height * width + 1, np.int64)
    number, largest = _decode(stream, *shape, np.empty(0, np.uint32), np.empty(0, np.int32), starts)
    if number < 0:
        raise ValueError(f"its map breaks off or is damaged at byte {-number} of {stream.size}")
    return number, largest, starts


@compiled()
def _decode(stream, height, width, depth, counts, channels, starts):
    """Fill the arrays, or only `starts` where `counts` is empty; return the number and the largest.

    In a damaged stream the number is that of the damaged byte, negative.
    """
    size, place, number, largest, writing = stream.size, _FIRST, 0, np.int64(0), counts.size > 0
    pixel, listed = np.zeros(depth, np.uint32), np.zeros(depth + 1, np.int32)
    starts[:] = 0
    for row in range(height):
        if place + 4 > size:
            return -place, largest
        pixels, place, last = _unsigned(stream, place, 4), place + 4, -1
        for _ in range(pixels):
            if place + _HEADER > size:
                return -place, largest
            column, length = _unsigned(stream, place, 4), _unsigned(stream, place + 18, 4)
            if column <= last or column >= width or place + _HEADER + length > size:
                return -place, largest
            filled, place = _decode_pixel(stream, place, length, pixel, listed)
            if filled < 0:
                return -place, largest
            last = column
            for i in range(filled):
                largest = max(largest, np.int64(pixel[listed[i]]))
                if writing:
                    counts[number], channels[number] = pixel[listed[i]], listed[i]
                pixel[listed[i]] = 0
                number += 1
            starts[row * width + column + 1] = filled
    for i in range(1, starts.size):
        starts[i] += starts[i - 1]
    return number, largest


@compiled()
def _decode_pixel(stream, place, length, pixel, listed):
    """Add the counts of a pixel, whose header is at `place`, to its channels.

    Returns how many channels have counts, and the place of the next pixel; or -1 and the place of
    what is damaged.
    """
    flag, pulses = _unsigned(stream, place + 12, 2), _unsigned(stream, place + 16, 2)
    place += _HEADER
    end = place + length
    if flag <= 1:
        if length < (2 * pulses if flag == 0 else pulses // 4 * 6 + pulses % 4 * 2):
            return -1, place
        return _add_pulses(stream, place, pulses, flag == 1, pixel, listed, 0), end
    # The last four bytes are the length of the pulses that follow.
    filled, place = _add_runs(stream, place, end - 4, pixel, listed)
    if filled < 0 or place != end - 4 or end + 2 * pulses > stream.size:
        return -1, place
    filled = _add_pulses(stream, end, pulses, False, pixel, listed, filled)
    return filled, end if filled < 0 else end + 2 * pulses


@compiled()
def _add_runs(stream, place, end, pixel, listed):
    """Add runs of channels; return how many have counts and the place behind them.

    Where a run is damaged, -1 and its place.
    """
    filled = channel = 0
    while place < end:
        bits, run = np.int64(stream[place]), np.int64(stream[place + 1])
        place += 2
        if bits:
            taken = (run + 1) // 2 if bits == 1 else run * bits // 2
            if bits not in (1, 2, 4, 8) or place + bits + taken > end:
                return -1, place
            offset = _unsigned(stream, place, bits)
            if offset < 0 or offset > _MOST:
                return -1, place
            place += bits
            for i in range(run):
                if bits == 1:
                    value = (np.int64(stream[place + i // 2]) >> (4 * (i % 2))) & 15
                else:
                    value = _unsigned(stream, place + i * bits // 2, bits // 2)
                filled = _add(pixel, listed, filled, channel + i, value + offset)
                if filled < 0:
                    return -1, place
            place += taken
        channel += run
    return filled, place


@compiled()
def _add_pulses(stream, place, pulses, of_12_bits, pixel, listed, filled):
    """Add a list of pulses; return how many channels have counts, or -1 for more than possible."""
    for i in range(pulses):
        if of_12_bits:
            channel = _of_12_bits(stream, place, i)
        else:
            channel = _unsigned(stream, place + 2 * i, 2)
        filled = _add(pixel, listed, filled, channel, 1)
        if filled < 0:
            break
    return filled


@compiled()
def _unsigned(stream, place, size):
    """Return an unsigned number of `size` bytes, little-endian."""
    value = 0
    for i in range(size):
        value |= np.int64(stream[place + i]) << (8 * i)
    return value


@compiled()
def _of_12_bits(stream, place, i):
    """Return pulse `i`: four take six bytes, those of each 16-bit word swapped."""
    first, turn = place + (i >> 2) * 6, i & 3
    if turn == 0:
        return (np.int64(stream[first]) >> 4) | (np.int64(stream[first + 1]) << 4)
    if turn == 1:
        return ((np.int64(stream[first]) & 15) << 8) | np.int64(stream[first + 3])
    if turn == 2:
        return (np.int64(stream[first + 2]) << 4) | (np.int64(stream[first + 5]) >> 4)
    return ((np.int64(stream[first + 5]) & 15) << 8) | np.int64(stream[first + 4])


@compiled()
def _add(pixel, listed, filled, channel, value):
    """Add counts to a channel and list it if new; return the number listed, or -1 on overflow."""
    if channel < pixel.size and value > 0:
        before = pixel[channel]
        if value > _MOST - np.int64(before):
            return -1
        pixel[channel] = before + np.uint32(value)
        # Written in any case: the processor would mispredict a branch on the counts half the time.
        listed[filled] = channel
        filled += before == 0
    return filled

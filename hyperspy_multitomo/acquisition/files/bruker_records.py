# SPDX-License-Identifier: GPL-3.0-or-later
"""The stream of pixels in a Bruker map, decoded into the counts of each pixel with a check of every length."""

from __future__ import annotations

import numpy as np

from hyperspy_multitomo.machine.compiling import compiled

__all__ = ["check_pixels", "decode_pixels"]

#: Bytes before the first line of a map, and those of the header of each pixel.
_FIRST, _HEADER = 0x1A0, 22
#: No channel of a pixel has more counts than this.
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
        Rows, columns and channels; counts in channels above are left out.

    Returns
    -------
    counts : ndarray of uint32 (count,)
    channels : ndarray of int32 (count,)
        Each channel of a pixel once, in no order.
    starts : ndarray of int64 (y * x + 1,)
        Where the counts of each pixel begin and end; the three are those of a CSR matrix.

    Raises
    ------
    ValueError
        Where the stream ends within a pixel, or says lengths or places that cannot be.

    Notes
    -----
    A line is the number of its pixels, and a pixel a header (column, how it is packed, pulses,
    bytes) and its counts: a list of pulses of 16 or 12 bits, or runs of channels, each with the
    offset and the width of its counts, and single pulses on top.
    """
    number, _, starts = _counted(stream, shape)
    counts, channels = np.empty(number, np.uint32), np.empty(number, np.int32)
    _decode(stream, *shape, counts, channels, starts)
    return counts, channels, starts


def check_pixels(stream: np.ndarray, shape: tuple[int, int, int]) -> int:
    """Raise the errors of `decode_pixels`, in half of its time; return the largest count of a channel of a pixel."""
    return _counted(stream, shape)[1]


def _counted(stream: np.ndarray, shape: tuple[int, int, int]) -> tuple[int, int, np.ndarray]:
    """Return the number of counts, the largest, and where those of each pixel begin."""
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
    """Fill the arrays, or only count where these are empty; return the number of counts and the largest of them.

    In place of the number comes less the place of what is damaged, of counts too that no channel
    can have.
    """
    size, place, number, largest, writing = stream.size, _FIRST, 0, np.int64(0), counts.size > 0
    pixel, listed = np.zeros(depth, np.uint32), np.zeros(depth + 1, np.int32)
    starts[:] = 0
    for row in range(height):
        if place + 4 > size:
            return -place, largest
        pixels, place, last = _number(stream, place, 4), place + 4, -1
        for _ in range(pixels):
            if place + _HEADER > size:
                return -place, largest
            column, flag = _number(stream, place, 4), _number(stream, place + 12, 2)
            pulses, length = _number(stream, place + 16, 2), _number(stream, place + 18, 4)
            end = place + _HEADER + length
            if column <= last or column >= width or end > size:
                return -place, largest
            place += _HEADER
            filled = 0
            if flag <= 1:
                if length < (2 * pulses if flag == 0 else pulses // 4 * 6 + pulses % 4 * 2):
                    return -place, largest
                for i in range(pulses):
                    channel = (
                        _number(stream, place + 2 * i, 2)
                        if flag == 0
                        else _of_12_bits(stream, place, i)
                    )
                    filled = _add(pixel, listed, filled, channel, 1)
            else:
                end -= 4
                channel = 0
                while place < end:
                    bits, run = np.int64(stream[place]), np.int64(stream[place + 1])
                    place += 2
                    if bits:
                        taken = (run + 1) // 2 if bits == 1 else run * bits // 2
                        if bits not in (1, 2, 4, 8) or place + bits + taken > end:
                            return -place, largest
                        offset = _number(stream, place, bits)
                        if offset < 0 or offset > _MOST:
                            return -place, largest
                        place += bits
                        for i in range(run):
                            if bits == 1:
                                value = (np.int64(stream[place + i // 2]) >> (4 * (i % 2))) & 15
                            else:
                                value = _number(stream, place + i * bits // 2, bits // 2)
                            filled = _add(pixel, listed, filled, channel + i, value + offset)
                            if filled < 0:
                                return -place, largest
                        place += taken
                    channel += run
                if place != end or end + 4 + 2 * pulses > size:
                    return -place, largest
                place = end + 4
                for i in range(pulses):
                    filled = _add(pixel, listed, filled, _number(stream, place + 2 * i, 2), 1)
                    if filled < 0:
                        return -place, largest
                end = place + 2 * pulses
            place, last = end, column
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
def _number(stream, place, size):
    """Return the unsigned number of so many bytes, the least first."""
    value = 0
    for i in range(size):
        value |= np.int64(stream[place + i]) << (8 * i)
    return value


@compiled()
def _of_12_bits(stream, place, i):
    """Return the pulse number `i`: groups of four take six bytes, the two of each 16-bit word in exchange."""
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
    """Add counts to a channel, and list it where it had none; return how many are listed, or -1 for more than there can be."""
    if channel < pixel.size and value > 0:
        before = pixel[channel]
        if value > _MOST - np.int64(before):
            return -1
        pixel[channel] = before + np.uint32(value)
        # Written in any case: a branch that depends on the counts would be foreseen wrongly half of
        # the time.
        listed[filled] = channel
        filled += before == 0
    return filled

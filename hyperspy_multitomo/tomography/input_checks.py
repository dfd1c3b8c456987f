# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the solvers' arguments: each returns its argument in the solvers' layout.

An error says what was given, what was expected and what to do.
"""

from __future__ import annotations

from numbers import Real

import numpy as np

from hyperspy_multitomo.tomography.projectors import Projector


def _real(name: str, values) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind not in "buif":
        raise TypeError(f"`{name}` has the type {array.dtype}; expected real numbers")
    # The extremes are NaN or infinite when anything is, and need no array of flags.
    if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
        raise ValueError(
            f"`{name}` holds NaN or infinite values; replace them, or leave out those tilts by a "
            "gain of 0"
        )
    return array


def checked_projections(name: str, projections, A: Projector) -> tuple[np.ndarray, bool]:
    """Return projections as float32 (channel, tilt, x, y), and whether they had channels."""
    array = _real(name, projections)
    if array.ndim not in (3, 4) or array.shape[-3:-1] != A.range_shape or 0 in array.shape:
        raise ValueError(
            f"`{name}` has the shape {array.shape}; expected (channel, tilt, x, y) or (tilt, x, y) "
            f"with {A.range_shape[0]} tilts "
            f"and {A.range_shape[1]} detector pixels x, as the projector's geometry has"
        )
    has_channels = array.ndim == 4
    return (array if has_channels else array[None]).astype(np.float32, copy=False), has_channels


def checked_gains(name: str, gains, shape: tuple[int, int]) -> np.ndarray:
    """Return gains as float32 (channel, tilt), of that shape."""
    if gains is None:
        return np.ones(shape, np.float32)
    array = _real(name, gains)
    if array.shape not in (shape, shape[1:]):
        raise ValueError(
            f"`{name}` has the shape {array.shape}; expected {shape[1:]}, one per tilt, or "
            f"{shape}, one per channel and tilt"
        )
    if array.min() < 0 or not np.broadcast_to(array, shape).any(axis=1).all():
        raise ValueError(
            f"`{name}` must not be negative, and some tilt of each channel needs a gain above 0; "
            f"got {array.tolist()}"
        )
    return np.ascontiguousarray(np.broadcast_to(array, shape), np.float32)


def checked_relaxation(relaxation) -> float:
    """Return the relaxation as a float between 0 and 2."""
    if not (isinstance(relaxation, Real) and 0 < float(relaxation) < 2):
        raise ValueError(
            f"`relaxation` is {relaxation!r}; expected a number between 0 and 2, by default 1: "
            "beyond, the iteration grows"
        )
    return float(relaxation)


def checked_power(power) -> float:
    """Return the power of the HAADF as a float from 1 to 2."""
    if not (isinstance(power, Real) and 1 <= float(power) <= 2):
        raise ValueError(
            f"`power` is {power!r}; expected a number from 1, for a HAADF that is a sum of the "
            "elements, to 2"
        )
    return float(power)


def checked_positive(name: str, values):
    """Return a number or numbers, all above 0, as they are."""
    if not np.all(_real(name, values) > 0):
        raise ValueError(f"`{name}` is {values!r}; expected a value above 0")
    return values


def checked_counts(name: str, counts: np.ndarray) -> np.ndarray:
    """Return counts (channel, tilt, x, y) as they are, none of them negative."""
    if counts.min() < 0:
        raise ValueError(
            f"`{name}` has negative values, down to {counts.min():g}; expected counts as recorded: "
            "pass gross counts and their "
            "background instead of net counts"
        )
    return counts


def checked_background(background, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the expected background as float32 (channel, tilt, x, y), or None where it is 0."""
    if background is None:
        return None
    array = _real("background", background)
    try:
        array = np.broadcast_to(array.astype(np.float32, copy=False), shape)
    except ValueError:
        raise ValueError(
            f"`background` has the shape {array.shape}; expected a number, or what broadcasts to "
            f"{shape}, (channel, tilt, x, y)"
        ) from None
    if array.min() < 0:
        raise ValueError(
            f"`background` has negative values, down to {array.min():g}; expected counts from 0 up"
        )
    return array if array.any() else None


def without_dead_tilts(projections: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Return the projections with zeros at the tilts of gain 0, which then add no residual."""
    return projections if gains.all() else projections * (gains > 0)[:, :, None, None]


def checked_mask(mask, A: Projector, slices: int) -> np.ndarray | None:
    """Return a mask as float32 (z, x) or (z, x, y)."""
    if mask is None:
        return None
    array = np.asarray(mask)
    if array.dtype != bool:
        raise TypeError(f"`mask` has the type {array.dtype}; expected bool, True inside")
    if array.shape not in (A.domain_shape, (*A.domain_shape, slices)):
        raise ValueError(
            f"`mask` has the shape {array.shape}; expected (z, x) {A.domain_shape} or (z, x, y) "
            f"{(*A.domain_shape, slices)}"
        )
    return array.astype(np.float32)


def checked_initial(
    initial, channels: int, A: Projector, slices: int, has_channels: bool
) -> np.ndarray:
    """Return the start as float32 (channel, z, x, y)."""
    shape = (channels, *A.domain_shape, slices)
    if initial is None:
        return np.broadcast_to(np.float32(0), shape)  # takes no memory
    array = _real("initial", initial)
    wanted = shape if has_channels else shape[1:]
    if array.shape != wanted:
        raise ValueError(
            f"`initial` has the shape {array.shape}; expected that of the volume, {wanted}"
        )
    return array.astype(np.float32).reshape(shape)


def checked_ratios(ratios, channels: int, rest: bool) -> np.ndarray:
    """Return response ratios as float64 (channel,)."""
    array = _real("ratios", ratios).astype(np.float64)
    if array.shape != (channels,):
        raise ValueError(
            f"`ratios` has the shape {array.shape} but there are {channels} channels; pass one "
            "ratio per channel"
        )
    if (array < 0).any() or not (rest or (array > 0).any()):
        raise ValueError(
            f"`ratios` is {array.tolist()}; expected none below 0 and at least one above it (for "
            "maps alone use `sirt`)"
        )
    return array

# SPDX-License-Identifier: GPL-3.0-or-later
"""The finest detail of images, which is noise except at edges.

It is that of blocks of 2 x 2 pixels, or of third differences where there are few slices.
"""

from __future__ import annotations

import numpy as np

from hyperspy_multitomo.machine.notices import warn

# Median of the square of a normal variable of variance 1.
MEDIAN = 0.4549
# Slices, or pixels across, from which blocks of 2 x 2 pixels tell noise from edges; of fewer,
# higher differences do.
FEW = 32
# Orders of these differences: of those that are blind to parabolas (higher ones find no less
# structure in the phantoms), and of those that see more of the structure, to tell whether there is
# much of it.
BLIND, SEEING = 3, 2
# Classes of the level, in each of which the evener half is looked for, and the limits between them.
CLASSES = 4
_LIMITS = np.arange(1, CLASSES) / CLASSES
# How much more detail than in its even half makes images structured: above what chance gives single
# slices of 30 tilts.
_STRUCTURED = 1.3


def of_few(images: np.ndarray) -> bool:
    """Return whether images (..., x, y) are too small for blocks of 2 x 2 pixels."""
    return min(images.shape[-2:]) < FEW


def finest_detail(images: np.ndarray, order: int = BLIND) -> np.ndarray:
    """Return the finest diagonal detail of images (..., x, y), scaled to the noise of a pixel.

    The noise has to be independent from pixel to pixel.

    That of blocks of 2 x 2 pixels. Of fewer than 32 slices, whose single blocks would take slopes
    across the tilt axis for noise, it is the third difference, or that of another order, along x
    and along y, as far as there are pixels for it.
    """
    if not of_few(images):
        return block_detail(images)
    return _convolved(
        images, [np.polynomial.polynomial.polypow([1.0, -1.0], k) for k in _orders(images, order)]
    )


def local_mean(images: np.ndarray, order: int = BLIND) -> np.ndarray:
    """Return the mean over the pixels that each value of `finest_detail` is made of."""
    if not of_few(images):
        return of_pairs(images, 1.0, 0.5)
    ones = [np.ones(k + 1) for k in _orders(images, order)]
    return _convolved(images, ones) / np.float32(np.sqrt(np.prod([len(row) for row in ones])))


def even_places(images: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
    """Return where images of few slices change least, bool, of the shape of `finest_detail`.

    Larger images are even everywhere.

    The evener half, by the slope, of each class of the level, so that dim places have no more say
    than bright ones. The slope over the same pixels is independent of the detail for noise that is
    independent from pixel to pixel.

    Parameters
    ----------
    images : numpy.ndarray (..., x, y)
    among : numpy.ndarray of bool, optional
        Places to choose from, by default all.
    """
    if not of_few(images):
        return np.ones(of_pairs(images, 1.0, 0.5).shape, bool) if among is None else among
    slope, classes = _slopes(images), level_classes(images, among)
    even = np.zeros(slope.shape, bool)
    for alike in (classes == c for c in range(CLASSES)):
        if alike.any():
            even |= alike & (slope <= np.median(slope[alike]))
    return even


def level_classes(
    images: np.ndarray, among: np.ndarray | None = None, order: int = BLIND
) -> np.ndarray:
    """Return the quartile class, 0 (darkest) to 3, of the level of each value; -1 elsewhere."""
    level = local_mean(images, order)
    if among is None:
        return np.digitize(level, np.quantile(level, _LIMITS))
    limits = np.quantile(level[among], _LIMITS) if among.any() else _LIMITS
    return np.where(among, np.digitize(level, limits), -1)


def warn_of_structure(everywhere: float, even: float, pixels: tuple[int, int], remedy: str) -> None:
    """Warn if the detail of few slices is structure: far more of it everywhere than in even places.

    Parameters
    ----------
    everywhere, even : float
        Noise from all places, of second or third differences, and from the third ones in even
        places.
    pixels : tuple of int
        Of the images, (x, y).
    remedy : str
        What to pass instead.
    """
    if not everywhere > _STRUCTURED * even:
        return
    warn(
        f"the noise of images of {pixels[0]} x {pixels[1]} pixels (x, y) cannot be measured and "
        "may be taken too high: their "
        f"finest detail is the specimen's ({everywhere / even:.1f} times as much everywhere as in "
        f"even places); {remedy}"
    )


def block_detail(images: np.ndarray) -> np.ndarray:
    """Return the finest diagonal detail of blocks of 2 x 2 pixels, or of pairs in a single row."""
    return of_pairs(images, -1.0, np.sqrt(0.5))


def of_pairs(images: np.ndarray, sign: float, factor: float) -> np.ndarray:
    """Return factor (a + sign b) of neighbours a, b along x, then along y.

    A single row or column stays as it is.
    """
    for axis in (-2, -1):
        pairs = images.shape[axis] // 2
        if pairs:
            images = np.moveaxis(images, axis, -1)[..., : 2 * pairs]
            images = np.moveaxis(
                np.float32(factor) * (images[..., ::2] + np.float32(sign) * images[..., 1::2]),
                -1,
                axis,
            )
    return images


def _orders(images: np.ndarray, order: int = BLIND) -> list[int]:
    return [min(order, size - 1) for size in images.shape[-2:]]


def _slopes(images: np.ndarray) -> np.ndarray:
    """Return the length of the gradient over the same pixels, up to a factor."""
    squares = np.zeros(local_mean(images).shape, np.float32)
    for axis, order in enumerate(_orders(images)):
        if order:
            kernels: list[np.ndarray] = [np.ones(other + 1) for other in _orders(images)]
            kernels[axis] = np.arange(order + 1) - order / 2
            squares = squares + np.square(_convolved(images, kernels))
    return np.sqrt(squares)


def _convolved(images: np.ndarray, kernels: list[np.ndarray]) -> np.ndarray:
    """Return images filtered by kernels of norm 1 along x and y, wherever the kernels fit in."""
    for axis, kernel in zip((-2, -1), kernels, strict=True):
        images, length = np.moveaxis(images, axis, -1), images.shape[axis] - len(kernel) + 1
        kernel = (kernel / np.linalg.norm(kernel)).astype(np.float32)
        images = np.moveaxis(
            sum(k * images[..., i : i + length] for i, k in enumerate(kernel)), -1, axis
        )
    return images

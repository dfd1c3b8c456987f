# SPDX-License-Identifier: GPL-3.0-or-later
"""A tilt series as plain arrays: what a reconstruction takes of it, in the numerics' order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from hyperspy_multitomo.acquisition.counts import expected_background
from hyperspy_multitomo.alignment.transform import Alignment
from hyperspy_multitomo.machine.cache import Recent
from hyperspy_multitomo.machine.lazy import is_lazy
from hyperspy_multitomo.parameters import check_finite
from hyperspy_multitomo.reconstruction.lazy_images import Smoothing, changed, image_means
from hyperspy_multitomo.tomography import TiltGeometry, fingerprint

# Means of lazy transmissions by the names of their dask arrays: each is read once.
_MEANS = Recent(16)
# Images of which the slice in the middle stands for those of a lazy series, which are not all read
# for it: whatever way they are chunked, that is a small part.
_SAMPLE = 4
# Numbers that are read for that at most, 1 GB: a second or two.
_MOST_READ = 2**28


@dataclass(frozen=True)
class Noise:
    """How noisy a series is.

    Attributes
    ----------
    discrepancy : {"kl", "ls"}
        Of its data term.
    weight : array (channel,) or float
        Of its data term.
    gain : float, optional
        Signal of one noise-equivalent electron, of images.
    """

    discrepancy: str
    weight: np.ndarray | float
    gain: float | None = None


@dataclass(frozen=True, eq=False)
class TiltData:
    """A tilt series without HyperSpy.

    Attributes
    ----------
    title : str
        "EDS", "EELS" or "HAADF", as error messages call it.
    channels : tuple of str
        Names of the channels; empty for images.
    tilts : array (tilt,)
        Degrees.
    recorded : array (channel, tilt, x, y)
        As recorded, NumPy or dask.
    geometry : callable
        ``geometry(depth, width, binning=1)`` returns the `TiltGeometry`; lengths in nm.
    gains : array (tilt,) or (channel, tilt), optional
    alignment : Alignment, optional
    beside : callable, optional
        ``beside(name)`` returns ``"gross"``, ``"background"`` or ``"transmission"``, (channel,
        tilt, x, y), or ``"window_share"``, (channel, tilt), each None where it is not recorded.
        They are read when they are asked for.
    smoothed : bool
        Whether the images were smoothed, which hides their noise.
    no_counts : str, optional
        Why the maps are no counts as recorded.
    noise_of_whole : Noise, optional
        Of the series that this one was cut out of.
    history : sequence of dict
        The steps that made the series.
    """

    title: str
    channels: tuple[str, ...]
    tilts: np.ndarray
    recorded: Any
    geometry: Callable[..., TiltGeometry]
    gains: np.ndarray | None = None
    alignment: Alignment | None = None
    beside: Callable | None = None
    smoothed: bool = False
    no_counts: str | None = None
    noise_of_whole: Noise | None = None
    history: Sequence[Mapping] = ()

    @property
    def lazy(self) -> bool:
        """Whether the images are a dask array."""
        return is_lazy(self.recorded)

    @cached_property
    def transmission(self):
        """Part of the X-rays that reaches the detectors, (channel, tilt, x, y), or None."""
        return self._beside("transmission")

    @cached_property
    def gross(self):
        """Counts as recorded in each window, (channel, tilt, x, y), or None."""
        return self._beside("gross")

    @cached_property
    def background(self):
        """What of `gross` is expected not to be the element's own, pixel by pixel, or None."""
        return self._beside("background")

    @cached_property
    def window_share(self) -> np.ndarray | None:
        """Counts in the window for each net count, (channel, tilt), or None."""
        return self._beside("window_share")

    @property
    def raw(self):
        """What was counted, (channel, tilt, x, y): `gross` where it is complete, else `recorded`.

        It is that which `counts` places.
        """
        beside = self.gross, self.background, self.window_share
        return self.recorded if any(one is None for one in beside) else self.gross

    @property
    def projections(self):
        """Images (channel, tilt, x, y) in the frame of the geometry.

        They are resampled where the alignment moves them along the axis or turns them. The contrast
        that the transmission of X-rays has within an image is divided out; its mean is in
        `model_gains`.
        """
        return self.placed(self.recorded)

    @cached_property
    def model_gains(self) -> np.ndarray | None:
        """Gains, (tilt,) or (channel, tilt), times the mean transmission of each image; or None."""
        if self.transmission is None:
            return self.gains
        means = _means(self.transmission)
        return means if self.gains is None else self.gains * means

    def counts(
        self, background=None, method: str = "EM", instead: str = "use reconstruct_sirt"
    ) -> tuple:
        """Return (counts, background or None, gains): what the windows hold, and their share.

        Parameters
        ----------
        background : array, optional
            As `whole_background` takes it, instead of what is recorded.
        method, instead : str
            What needs counts and the way out, for the error where there are none.

        Returns
        -------
        counts, background : array (channel, tilt, x, y) or None
            Gross counts and their expected background where they are recorded, else the images.
        gains : array (tilt,) or (channel, tilt) or None
            Times the share of the window where counts are gross.
        """
        gross, noisy, share = self.gross, self.background, self.window_share
        if gross is None or noisy is None or share is None:
            counts = self.projections
            if not self.lazy:
                self.check_counts(counts, method, instead)
            return counts, self.whole_background(background, counts.shape), self.model_gains
        counts = self.placed(gross)
        gains = share if self.model_gains is None else share * self.model_gains
        if background is not None:
            return counts, self.whole_background(background, counts.shape), gains
        # Gross counts are share times net counts plus the background, estimated pixel by pixel and
        # as noisy as the counts; a model needs its expectation.
        if is_lazy(noisy):
            return counts, self.placed(noisy, Smoothing.of(noisy)), gains
        return counts, self.placed(expected_background(noisy)), gains

    def check_counts(self, counts, method: str, instead: str) -> None:
        """Raise an error for negative counts; see `counts`."""
        if counts.min() < 0:
            remedy = (
                "make the maps by elemental_maps or edge_maps, which keep them (a copy that is "
                "aligned() has lost them)"
                if self.channels
                else "leave the detector's offset in the images and pass it as background="
            )
            raise ValueError(
                f"the {self.title} series has negative values and no gross counts beside them, but "
                f"{method} needs counts as recorded: {remedy}, or {instead}"
            )

    def check_tilts(self) -> None:
        """Raise an error where there is a single tilt."""
        if len(self.tilts) < 2:
            raise ValueError(
                f"the {self.title} series has a single tilt, which says nothing of depth; "
                "a reconstruction needs at least two tilts"
            )

    def whole_background(self, background, shape: tuple[int, ...]):
        """Return a background for each pixel, (channel, tilt, x, y).

        Parameters
        ----------
        background : array, optional
            (tilt, [element,] y, x), or as leading dimensions of that; None stays None.
        shape : (channel, tilt, x, y)
            Of the images.
        """
        values = self.background_of_pixels(background, shape)
        if values is None:
            return None
        values = self.evened(values)
        imaged = np.ndim(background) == (4 if self.channels else 3)
        return self.resampled(values) if imaged else values

    def background_of_pixels(self, background, shape: tuple[int, ...]):
        """Return a background at each recorded pixel; see `whole_background`."""
        if background is None:
            return None
        values = np.asarray(background, dtype=np.float32)
        check_finite(values, "the background")
        mapped = bool(self.channels)
        whole = (shape[1], shape[0], shape[3], shape[2]) if mapped else (shape[1], *shape[:1:-1])
        if values.shape not in [whole[:n] for n in range(3)] + [whole]:
            expected = "(tilt, element, y, x)" if mapped else "(tilt, y, x)"
            raise ValueError(
                f"the background has the shape {values.shape}; expected a number, {shape[1]} "
                f"numbers (one for each tilt), or {whole} {expected}"
            )
        values = values.reshape(values.shape + (1,) * (len(whole) - values.ndim))
        values = np.broadcast_to(values, whole)
        return values.transpose(1, 0, 3, 2) if mapped else values.transpose(0, 2, 1)[None]

    def evened(self, images):
        """Return images as recorded over the contrast that the transmission has within an image.

        The mean transmission stays in the model, as a gain of the counts, so that the statistics
        are those of what was counted but for this factor.
        """
        transmission = self.transmission
        if transmission is None:
            return images
        if is_lazy(transmission):
            means = _means(transmission)[..., None, None].astype(np.float32)
            return images / (transmission / means)
        return images / (transmission / transmission.mean(axis=(2, 3), keepdims=True))

    def resampled(self, images):
        """Return images (channel, tilt, x, y) as the alignment places them, NumPy or dask."""
        if self.alignment is None and not is_lazy(images):
            return np.asarray(images, dtype=np.float32)
        if not is_lazy(images):
            return self.alignment.apply(images, for_geometry=True, fill="edge")
        return changed(images, alignment=self.alignment, for_geometry=True)

    def fingerprints(self) -> dict[str, Any]:
        """Return digests of what was taken of the series, by which it is known again.

        What has pixels and is lazy has None, since it is not all read for that. The middle slice of
        a few images, ``"sample"``, stands for them, None too where much would have to be read for
        it. Counts and transmission that nothing has asked for have none.
        """
        digests: dict[str, Any] = {"tilts": fingerprint(np.asarray(self.tilts, dtype=float))}
        some = np.unique(np.linspace(0, len(self.tilts) - 1, _SAMPLE).round().astype(int))
        digests |= {"images": None, "sample": None}
        middle = self.recorded.shape[-1] // 2
        sample = self.recorded[..., middle][:, some]
        if not self.lazy:
            digests |= {"images": fingerprint(self.recorded), "sample": fingerprint(sample)}
        elif _read_for(self.recorded, some, middle) <= _MOST_READ:
            # Here, whatever cluster there is: it may have no workers yet.
            digests["sample"] = fingerprint(sample.compute(scheduler="synchronous"))
        if self.channels:
            digests["channels"] = list(self.channels)
        if self.noise_of_whole is not None:
            digests["noise"] = "of a larger series"
        if self.gains is not None:
            digests["gains"] = fingerprint(np.asarray(self.gains, dtype=float))
        if self.alignment is not None:
            digests["alignment"] = _digest_of_placing(self.alignment)
        for name in ("gross", "background", "window_share", "transmission"):
            values = vars(self).get(name)  # in the cache of the property, once it was read
            if values is not None:
                digests[name] = None if is_lazy(values) else fingerprint(values)
        return digests

    def _beside(self, name: str):
        return None if self.beside is None else self.beside(name)

    def placed(self, images, smoothing: Smoothing | None = None):
        """Return images as recorded (channel, tilt, x, y) in the frame of the geometry.

        They are evened and resampled, NumPy or dask; dask ones are smoothed before.
        """
        if not is_lazy(images):
            return self.resampled(self.evened(images))
        transmission = self.transmission
        return changed(
            images,
            transmission=transmission,
            means=None if transmission is None else _means(transmission),
            smoothing=smoothing,
            alignment=self.alignment,
            for_geometry=True,
        )


def _means(transmission) -> np.ndarray:
    """Return the mean of each image, (channel, tilt); those of a lazy transmission are cached."""
    if not is_lazy(transmission):
        return transmission.mean(axis=(2, 3), dtype=np.float64)
    return _MEANS.get(transmission.name, lambda: image_means(transmission))


def _read_for(images, tilts: np.ndarray, row: int) -> int:
    """Return the numbers in the chunks of dask images that hold a row of some of the tilts."""

    def touched(axis: int, places) -> int:
        ends = np.cumsum(images.chunks[axis])
        chunks = np.unique(np.searchsorted(ends, places, side="right"))
        return sum(images.chunks[axis][chunk] for chunk in chunks)

    return images.shape[0] * images.shape[2] * touched(1, tilts) * touched(3, row)


def _digest_of_placing(alignment: Alignment) -> str:
    """Return the digest of what an alignment does to images, however it was found."""
    numbers = {name: getattr(alignment, name) for name in ("across", "along", "drift")}
    numbers |= {name: getattr(alignment, name) for name in ("axis_offset", "rotation")}
    scanned_along_y = None if alignment.drift is None else alignment.slow_axis == "y"
    return fingerprint(numbers | {"slow_axis": scanned_along_y})

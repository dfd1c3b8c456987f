# SPDX-License-Identifier: GPL-3.0-or-later
"""A transfer test: a feature that one channel alone has, put into the counts of a volume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hyperspy_multitomo import parameters
from hyperspy_multitomo.arguments import checked, whole
from hyperspy_multitomo.evidence.redraw import ImageNoise
from hyperspy_multitomo.evidence.transfer import TransferTest, ball, typical, with_more
from hyperspy_multitomo.machine.progress import progress_bar
from hyperspy_multitomo.signals.metadata.length_axes import in_nm
from hyperspy_multitomo.signals.metadata.recorded_arrays import axis_named
from hyperspy_multitomo.signals.methods.other_counts import with_counts
from hyperspy_multitomo.signals.methods.redrawing import Redrawing

_HAADF = "HAADF"


@checked(
    size=parameters.positive_number,
    contrast=parameters.number,
    into=parameters.names,
    count=whole(1, "of repetitions"),
    seed=whole(0),
)
def transfer_test(
    series,
    volume,
    haadf=None,
    *,
    position: Sequence[float],
    size: float,
    contrast: float = 1.0,
    into: str | Sequence[str] | None = None,
    count: int = 3,
    seed: int = 0,
    mask=None,
    initial=None,
    background=None,
    show_progressbar: bool | Callable | None = None,
) -> TransferTest:
    """Put a feature into one channel alone and see what of it arrives, and where.

    A joint reconstruction lets channels share edges, or their sum. What one element alone has may
    get lost in it, and what the HAADF alone has may appear in elements that do not have it. Here a
    ball is added to the recorded counts of one channel, or taken from them, and the volume's own
    recipe is run on these: what differs from the volume is what arrived.

    Parameters
    ----------
    volume : TomographicVolume
        A reconstruction of this series, as the method returned it.
    haadf : TiltSeriesHAADF, optional
        The HAADF series, where the volume was made of maps and HAADF images.
    position : (float, float, float)
        x, y and z of the centre on the axes of the volume, nm (px without calibration).
    size : float
        Diameter, in the same unit.
    contrast : float, default 1.0
        Signal that is added in the ball, over the typical signal of the channel in the volume (its
        mean, weighted by itself); below 0 it is taken away, as far as there is any.
    into : str or sequence of str, optional
        Channels that get the feature, one at a time: elements, or ``"HAADF"``. By default all.
    count : int, default 3
        Repetitions with other random numbers.
    seed : int, default 0
        Of the random numbers.
    mask, initial, background : array or signal, optional
        As they were given to the reconstruction.
    show_progressbar : bool, optional
        HyperSpy's preference by default.

    Returns
    -------
    TransferTest
        Prints as a table, with `TransferTest.plot`. Contrasts that arrive over that which was
        inserted, each relative to the typical signal of its channel.

    Raises
    ------
    ValueError
        For a volume of another series, one that was changed after its reconstruction or is a part
        of one; for smoothed series, and maps that are no counts as recorded; for a feature that
        reaches out of the volume or holds no voxel, channels that are not there or hold nothing,
        and a contrast of 0.
    KeyboardInterrupt
        Where it is interrupted.

    Notes
    -----
    Added counts are Poisson; counts that are taken away are thinned, so that they stay Poisson. The
    HAADF gets the noise of added signal; where signal is taken from it its noise stays. All other
    channels keep the counts that were recorded. Where the HAADF is the sum of the elements (HEBT,
    fused tomography) such a feature contradicts the model: that is what is tested, since response
    ratios that are wrong, an element without a map, and diffraction contrast do the same.

    It is one feature at one place. Repeat it where it matters: small and faint ones get lost first.
    Ratios that were fitted are fitted again; weights that ``"auto"`` chose are not chosen again.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> z, x, y = np.mgrid[-12:12, -12:12, -4:4] + 0.5
    >>> host = 1.0 * (z**2 + x**2 < 100)
    >>> tilts = np.arange(-70, 71, 10)
    >>> images = mt.projector(mt.TiltGeometry(tilts, 24))(host).transpose(0, 2, 1)
    >>> rng = np.random.default_rng(0)
    >>> counts = {"Au": rng.poisson(images), "Ag": rng.poisson(images)}
    >>> eds = mt.TiltSeriesEDS.from_maps(counts, tilts=tilts)
    >>> volume = eds.reconstruct_tnv(iterations=40, depth=None, show_progressbar=False)
    >>> test = eds.transfer_test(
    ...     volume, position=(13, 4, 1), size=6, into="Au", count=1, show_progressbar=False
    ... )
    >>> bool(0.1 < test.suppression("Au") < 0.9)
    True
    >>> list(test.induced("Au"))
    ['Ag']
    """
    if contrast == 0:
        raise ValueError("contrast=0 inserts nothing: pass one above or below 0")
    given = {"mask": mask, "initial": initial, "background": background}
    redrawing = Redrawing.of(volume, series, haadf, given)
    centre = _position(position)
    feature = ball(centre, float(size), _coordinates(volume))
    insertion = Insertion.of(redrawing, feature, contrast)
    chosen = insertion.chosen(into)
    sums = {name: np.zeros(insertion.shown(redrawing.array).shape) for name in chosen}
    changes: dict[str, list] = {name: [] for name in chosen}
    with progress_bar(show_progressbar, "transfer test", count * len(chosen)) as step:
        for name in chosen:
            for number in range(count):
                made, _ = redrawing.maker()(
                    *insertion.series(name, np.random.default_rng([seed, number]))
                )
                shown = insertion.shown(made)
                changes[name].append(insertion.change(shown))
                sums[name] += shown / count
                if step is not None:
                    step()
    every = np.array([changes[name] for name in chosen])
    place = int(np.nonzero(feature.any(axis=(0, 1)))[0].mean())
    return TransferTest(
        tuple(chosen),
        insertion.channels,
        every.mean(axis=1),
        every.std(axis=1, ddof=1) if count > 1 else np.full(every.shape[::2], np.nan),
        float(contrast),
        centre,
        float(size),
        count,
        redrawing.record() | {"seed": seed},
        {
            "without": insertion.before[..., place],
            "with": [sums[name][..., place] for name in chosen],
            "feature": feature[..., place],
            "pixel_size": volume.pixel_size,
        },
    )


@dataclass(frozen=True, eq=False)
class Insertion:
    """A feature that is inserted into one channel of a volume's series.

    Attributes
    ----------
    redrawing : Redrawing
    feature : array of bool (z, x, y)
    contrast : float
    channels : tuple of str
        That are looked at.
    before : array (channel, z, x, y)
        The volume without the feature.
    expected : tuple
        What the volume makes one expect, of the maps and of the HAADF or None.
    """

    redrawing: Redrawing
    feature: np.ndarray
    contrast: float
    channels: tuple[str, ...]
    before: np.ndarray
    expected: tuple

    @classmethod
    def of(cls, redrawing: Redrawing, feature: np.ndarray, contrast: float) -> Insertion:
        """Return the insertion of a feature."""
        channels = redrawing.problem.channels or (_HAADF,)
        if redrawing.haadf is not None and _HAADF not in channels:
            channels = (*channels, _HAADF)
        before = _shown(redrawing, redrawing.array)
        return cls(redrawing, feature, contrast, channels, before, redrawing.expected())

    def chosen(self, into) -> list[str]:
        """Return the channels that get the feature."""
        possible = [name for name in self.channels if name != "rest"]
        wanted = possible if into is None else [into] if isinstance(into, str) else list(into)
        unknown = [name for name in wanted if name not in possible]
        if unknown or not wanted:
            raise ValueError(
                f"into={into!r}: the feature can be inserted into {', '.join(possible)}"
            )
        empty = [name for name in wanted if not self._of(name).max() > 0]
        if empty:
            raise ValueError(
                f"the volume holds nothing of {', '.join(empty)}, so that there is nothing for a "
                "contrast to be relative to: name others by into="
            )
        if self.contrast < 0:
            bare = [name for name in wanted if not self._of(name)[self.feature].max() > 0]
            if bare:
                raise ValueError(
                    f"the volume holds nothing of {', '.join(bare)} there that could be taken "
                    "away: pass a contrast above 0, or another position"
                )
        return wanted

    def series(self, name: str, rng: np.random.Generator) -> tuple:
        """Return maps and HAADF series, or None, of which one has the feature."""
        call, size = self.redrawing.call, self._signal(name)
        if name == _HAADF and self.redrawing.haadf is not None:
            return call.series, self._images(self.redrawing.haadf, size, rng)
        if name == _HAADF:
            return self._images(self.redrawing.maps, size, rng), None
        maps, place = self.redrawing.maps, self.redrawing.elements.index(name)
        sensitivity = np.broadcast_to(maps.model.sensitivity, maps.model.images.shape)[place]
        more = sensitivity * maps.model.rays(size)
        images = maps.model.images.copy()
        images[place] = with_more(images[place], more, self.expected[0][place], rng)
        background = None
        if maps.counts is not None:
            background = np.asarray(self.redrawing.problem.data.background)
        return with_counts(maps.series, images, background), call.haadf

    def _images(self, haadf, size: np.ndarray, rng: np.random.Generator):
        """Return the HAADF series with the signal of the feature, and its noise."""
        more = haadf.model.sensitivity * haadf.model.rays(size[None])
        if more.sum() > 0:
            more = ImageNoise(0.0, haadf.images.per_signal, True).draw(more, rng)
        images = haadf.model.images + more
        if haadf.images.nonnegative:
            images = np.maximum(images, 0)
        return with_counts(haadf.series, images.astype(np.float32))

    def shown(self, array: np.ndarray) -> np.ndarray:
        """Return the channels that are looked at of a volume (channel, z, x, y)."""
        return _shown(self.redrawing, array)

    def change(self, shown: np.ndarray) -> np.ndarray:
        """Return the contrast of each channel that arrived, over that which was inserted."""
        means = (shown - self.before)[:, self.feature].mean(axis=1, dtype=np.float64)
        levels = np.array([typical(one) if one.max() > 0 else np.nan for one in self.before])
        return means / (levels * self.contrast)

    def _signal(self, name: str) -> np.ndarray:
        """Return the signal (z, x, y) of the feature."""
        own = self._of(name)
        signal = self.contrast * typical(own) * self.feature
        # No more than there is can be taken away.
        return np.maximum(signal, -np.maximum(own, 0)).astype(np.float32)

    def _of(self, name: str) -> np.ndarray:
        return self.before[self.channels.index(name)]


def _shown(redrawing: Redrawing, array: np.ndarray) -> np.ndarray:
    """Return a volume with what the HAADF sees of it as a channel, where it was used."""
    if redrawing.haadf is None or _HAADF in redrawing.problem.channels:
        return array
    return np.concatenate([array, redrawing.seen_by_haadf(array)[None]])


def _position(position) -> tuple[float, float, float]:
    """Return x, y and z as numbers."""
    if len(position) != 3:
        raise ValueError(f"position={position!r} must be three numbers: x, y and z")
    x, y, z = map(float, position)
    return x, y, z


def _coordinates(volume) -> dict[str, np.ndarray]:
    """Return the coordinates of the voxels' centres along x, y and z, in nm or px."""
    coordinates = {}
    for name in "xyz":
        axis = axis_named(volume, name)
        scale, offset, _ = in_nm(axis)
        coordinates[name] = offset + scale * np.arange(axis.size)
    return coordinates

# SPDX-License-Identifier: GPL-3.0-or-later
"""What arrives in a volume of a feature that one channel alone has: lost, or false elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_multitomo.tomography.noise_equivalent import typical_signal

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class TransferTest:
    """What of a feature arrives in each channel; prints as a table.

    A row for each channel that has the feature, a column for each channel of the volume.

    Attributes
    ----------
    inserted : tuple of str
        Channels that had the feature, one at a time.
    channels : tuple of str
        Channels that are looked at: those of the volume, and ``"HAADF"`` where it was used.
    arrived : array (inserted, channel)
        Contrast that arrives over the one inserted, both relative to the typical signal of their
        channel. 1 in the channel that has the feature: all of it arrives; 0 in it: it is lost.
        In others any value but 0 is false.
    scatter : array (inserted, channel)
        Standard deviation over the repetitions.
    contrast : float
    position : (float, float, float)
        x, y and z of the centre.
    size : float
        Diameter.
    count : int
        Repetitions.
    made_of : dict
        The step that reconstructed the volume, digests of its series and of the volume, the seed.
    """

    inserted: tuple[str, ...]
    channels: tuple[str, ...]
    arrived: np.ndarray
    scatter: np.ndarray
    contrast: float
    position: tuple[float, float, float]
    size: float
    count: int
    made_of: Mapping[str, Any]
    _pictures: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def suppression(self, channel: str) -> float:
        """Return which part of a feature that a channel has does not arrive in it.

        Raises
        ------
        ValueError
            For a channel into which none was inserted.
        """
        row = self._row(channel)
        return float(1 - self.arrived[row, self.channels.index(channel)])

    def induced(self, channel: str) -> dict[str, float]:
        """Return what of a feature that a channel has arrives in the others, where it is false.

        Raises
        ------
        ValueError
            For a channel into which none was inserted.
        """
        row = self._row(channel)
        named = zip(self.channels, self.arrived[row].tolist(), strict=True)
        return {name: value for name, value in named if name != channel}

    def __str__(self) -> str:
        rows = [["feature in", *self.channels]]
        for name, values, spread in zip(self.inserted, self.arrived, self.scatter, strict=True):
            cells = [
                f"{value:+.2f} ± {sd:.2f}" + (" *" if name == channel else "  ")
                for channel, value, sd in zip(self.channels, values, spread, strict=True)
            ]
            rows.append([name, *cells])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.rjust(width) if place else cell.ljust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        return "\n".join(
            [
                *lines,
                f"part of a contrast of {self.contrast:+g} that arrives, {self.count} repetitions; "
                "* the channel that has the feature (1 is all of it), elsewhere it is false",
            ]
        )

    __repr__ = __str__

    def plot(self, inserted: str | None = None) -> Figure:
        """Draw each channel without and with the feature, and the difference.

        Parameters
        ----------
        inserted : str, optional
            The channel that has the feature; by default the first.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ValueError
            For a channel into which none was inserted.
        """
        from hyperspy_multitomo.inspection.transfer_plot import plot_transfer

        name = self.inserted[0] if inserted is None else inserted
        with_feature = self._pictures["with"][self._row(name)]
        return plot_transfer(
            self._pictures["without"],
            with_feature,
            self.channels,
            inserted=name,
            outline=self._pictures["feature"],
            pixel_size=self._pictures["pixel_size"],
        )

    def _row(self, channel: str) -> int:
        if channel not in self.inserted:
            raise ValueError(
                f"no feature was inserted into {channel!r}, only into {', '.join(self.inserted)}"
            )
        return self.inserted.index(channel)


def ball(
    position: tuple[float, float, float],
    size: float,
    coordinates: Mapping[str, np.ndarray],
) -> np.ndarray:
    """Return the voxels (z, x, y) of a ball.

    Parameters
    ----------
    position : (x, y, z)
    size : float
        Diameter.
    coordinates : dict of arrays
        Of the centres of the voxels along x, y and z.

    Raises
    ------
    ValueError
        Where it reaches out of the volume, or no voxel has its centre in it.

    Examples
    --------
    >>> axes = dict.fromkeys("xyz", np.arange(5.0))
    >>> int(ball((2, 2, 2), 2.1, axes).sum())
    7
    """
    squares = []
    for name, centre in zip("xyz", position, strict=True):
        axis = coordinates[name]
        half = (axis[1] - axis[0]) / 2 if len(axis) > 1 else 0.5
        low, high = centre - size / 2, centre + size / 2
        if low < axis[0] - half - 1e-9 or high > axis[-1] + half + 1e-9:
            raise ValueError(
                f"the feature of size={size:g} reaches out of the volume: along {name} from "
                f"{low:.4g} to {high:.4g}, and the volume is from {axis[0] - half:.4g} to "
                f"{axis[-1] + half:.4g}"
            )
        squares.append((axis - centre) ** 2)
    x, y, z = squares
    inside = z[:, None, None] + x[None, :, None] + y[None, None, :] <= (size / 2) ** 2 * (1 + 1e-9)
    if not inside.any():
        raise ValueError(
            f"no voxel has its centre in a ball of the diameter {size:g}: make it larger"
        )
    return inside


def typical(volume: np.ndarray) -> float:
    """Return the typical signal of a volume (z, x, y): its mean, weighted by itself.

    Raises
    ------
    ValueError
        Where nothing is in it.
    """
    return typical_signal(np.maximum(volume, 0))


def with_more(
    images: np.ndarray, more: np.ndarray, expected: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return counts with those of a feature added, or thinned by those that it takes away.

    Parameters
    ----------
    images : array
        Counts as recorded.
    more : array
        Expected of the feature, of one sign.
    expected : array
        Expected without the feature, background included.
    rng : numpy.random.Generator

    Examples
    --------
    >>> counts, rng = np.full(10_000, 8.0), np.random.default_rng(0)
    >>> with_more(counts, np.full(10_000, 2.0), counts, rng).mean().round(1)
    np.float64(10.0)
    >>> with_more(counts, np.full(10_000, -2.0), counts, rng).mean().round(1)
    np.float64(6.0)
    """
    if more.sum() >= 0:
        return images + rng.poisson(np.maximum(more, 0))
    kept = 1 + np.divide(more, expected, out=np.zeros_like(more), where=expected > 0)
    whole = np.rint(images).astype(np.int64)
    return rng.binomial(whole, np.clip(kept, 0, 1)).astype(images.dtype)

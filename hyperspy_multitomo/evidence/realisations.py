# SPDX-License-Identifier: GPL-3.0-or-later
"""What noise realisations of a reconstruction say: its scatter by noise, and its bias beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_multitomo.composition import quantification
from hyperspy_multitomo.tomography import fingerprint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What these errors leave out, for whatever shows them.
NOT_COVERED = (
    "noise only: errors of alignment, gains, background, absorption and model, what the method "
    "smooths away, and what the missing wedge hides are not in the standard deviation"
)


@dataclass(frozen=True, eq=False)
class RegionMeans:
    """Means over a region of a volume, with their scatter by noise; prints as a table.

    Attributes
    ----------
    names : tuple of str
        Channels, or elements of a composition.
    values : array (name,)
        Means of the volume itself.
    sd : array (name,)
        Standard deviations of the means over the realisations: noise only.
    bias : array (name,)
        Mean over the realisations less `values`.
    each : array (realisation, name)
        Means of each realisation.
    unit : str
    voxels : int
    """

    names: tuple[str, ...]
    values: np.ndarray
    sd: np.ndarray
    bias: np.ndarray
    each: np.ndarray
    unit: str
    voxels: int

    def __str__(self) -> str:
        rows = [
            [name, f"{value:.4g}", f"{sd:.2g}", f"{bias:+.2g}"]
            for name, value, sd, bias in zip(
                self.names, self.values, self.sd, self.bias, strict=True
            )
        ]
        head = f"mean of {self.voxels} voxels ({self.unit})"
        return _table([[head, "value", "sd (noise only)", "bias"], *rows])

    __repr__ = __str__


@dataclass(frozen=True, eq=False)
class Realisations:
    """Reconstructions of counts that were drawn anew, summed up; prints as a table.

    Attributes
    ----------
    volume : TomographicVolume
        From which the counts were drawn.
    mean : TomographicVolume
        Of the realisations.
    sd : TomographicVolume
        Standard deviation of each voxel over the realisations: noise only.
    bias : TomographicVolume
        Mean less the volume that the counts were drawn from.
    count : int
        Realisations that were made.
    made_of : dict
        What they were made of: the step that reconstructed the volume, digests of its series and
        of the volume, the seed, the version, whether response ratios were fitted again.
    ratios : array (realisation, element) or None
        Response ratios of each, where they were fitted again.
    """

    volume: Any
    mean: Any
    sd: Any
    bias: Any
    count: int
    made_of: Mapping[str, Any]
    ratios: np.ndarray | None = None
    _each: Callable[[int], np.ndarray] | None = field(default=None, repr=False)

    def region(self, mask, composition=None) -> RegionMeans:
        """Return means over a region with their scatter.

        Noise of neighbouring voxels is not independent, so that the error of a mean does not follow
        from `sd`: it is the scatter of the means of the realisations.

        Parameters
        ----------
        mask : array or signal of bool, shape (z, y, x)
            The region.
        composition : TomographicVolume, optional
            What `quantify` of the volume returned: means are then the composition of the region in
            percent, from the sums of its counts, as of `TomographicVolume.mean_composition`.

        Returns
        -------
        RegionMeans

        Raises
        ------
        ValueError
            For a region that is empty or has another shape, a composition of other elements, and
            where the realisations themselves were not kept.
        """
        inside = self._mask(mask)
        each = self._volumes()
        if composition is None:
            of_one = self._signal_means(inside)
            names, unit = self._channels, self.volume.quantity or "signal"
        else:
            of_one, names, unit = self._composition_means(inside, composition)
        value = of_one(self._array(self.volume), -1)
        means = np.array([of_one(each(number), number) for number in range(self.count)])
        bias = means.mean(axis=0) - value
        sd = means.std(axis=0, ddof=1)
        return RegionMeans(names, value, sd, bias, means, unit, int(inside.sum()))

    def errors_of(self, volume):
        """Return the standard deviations, after a check that they are those of a volume.

        Raises
        ------
        ValueError
            For another volume than the counts were drawn from.
        """
        if fingerprint(np.asarray(volume.data)) != self.made_of["volume"]:
            raise ValueError(
                "these realisations are of another volume: pass those that were made of this one"
            )
        return self.sd

    def __str__(self) -> str:
        volume, sd, bias = (self._array(one) for one in (self.volume, self.sd, self.bias))
        rows = []
        for place, name in enumerate(self._channels or ("HAADF",)):
            weight = np.maximum(volume[place], 0)
            weight = weight / (weight.sum() or 1.0)
            numbers = [float((weight * one[place]).sum()) for one in (volume, sd, bias)]
            rows.append(
                [name, f"{numbers[0]:.4g}", f"{numbers[1]:.2g}", f"{numbers[2]:+.2g}"],
            )
        head = f"{self.count} realisations, {self.made_of['reconstruction']['step']}"
        table = _table([[head, self.volume.quantity or "signal", "sd (noise only)", "bias"], *rows])
        words = fill(f"voxels of the specimen, weighted by their signal; {NOT_COVERED}", 100)
        return f"{table}\n{words}"

    __repr__ = __str__

    def plot(self) -> Figure:
        """Draw the section across the tilt axis of the volume, its noise, and its bias.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from hyperspy_multitomo.inspection.realisations_plot import plot_realisations

        volume, sd, bias = (self._array(one) for one in (self.volume, self.sd, self.bias))
        return plot_realisations(
            volume,
            sd,
            bias,
            self._channels or ("HAADF",),
            count=self.count,
            unit=self.volume.quantity,
            pixel_size=self.volume.pixel_size,
        )

    @property
    def _channels(self) -> tuple[str, ...]:
        return tuple(self.volume.channels)

    def _array(self, volume) -> np.ndarray:
        """Return a volume as (channel, z, x, y)."""
        if self._channels:
            return np.asarray(volume.array("element", "z", "x", "y"))
        return np.asarray(volume.array("z", "x", "y"))[None]

    def _volumes(self) -> Callable[[int], np.ndarray]:
        if self._each is None:
            raise ValueError(
                "the realisations were too large to be kept in memory, so that there is no scatter "
                "of the mean of a region: pass checkpoint=, a folder in which they are kept"
            )
        return self._each

    def _mask(self, mask) -> np.ndarray:
        """Return a mask (z, y, x) as (z, x, y)."""
        values = np.asarray(getattr(mask, "data", mask))
        z, x, y = self._array(self.volume).shape[1:]
        if values.shape != (z, y, x):
            raise ValueError(
                f"the region has the shape {values.shape}, but the volume is {(z, y, x)} (z, y, x)"
            )
        values = values.astype(bool).swapaxes(1, 2)
        if not values.any():
            raise ValueError("the region is empty: it holds no voxel")
        return values

    def _signal_means(self, inside: np.ndarray) -> Callable[[np.ndarray, int], np.ndarray]:
        return lambda array, _: array[:, inside].mean(axis=1, dtype=np.float64)

    def _composition_means(self, inside: np.ndarray, composition):
        """Return (means of one realisation, elements, unit) of a composition."""
        steps = [step for step in composition.history if step["step"] == "quantify"]
        elements = tuple(composition.elements)
        if not steps or not set(elements) <= set(self._channels) or not elements:
            raise ValueError(
                f"the composition holds {', '.join(elements) or 'no elements'}, the volume "
                f"{', '.join(self._channels)}: pass what quantify() of the volume returned"
            )
        made = steps[-1]
        places = [self._channels.index(name) for name in elements]

        def of_one(array: np.ndarray, number: int) -> np.ndarray:
            factors = made["factors"]
            if made.get("through") == "ratios" and self.ratios is not None and number >= 0:
                used = self.volume.response_ratios
                again = dict(zip(self._channels, self.ratios[number], strict=False))
                factors = {name: factors[name] * used[name] / again[name] for name in elements}
            options = made["method"], factors, made["composition_units"]
            return quantification.mean_composition(array[places], elements, *options, mask=inside)

        return of_one, elements, f"{made['composition_units']} percent"


def _table(rows: list[list[str]]) -> str:
    """Return rows as text in columns, the first to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )

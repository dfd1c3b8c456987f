# SPDX-License-Identifier: GPL-3.0-or-later
"""How far two halves of the data agree on a volume, beside what its tilts can resolve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_multitomo.evidence.shell_correlation import DIRECTIONS, ShellCorrelation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Correlation of halves at which the volume of all data correlates by a half with one without
#: noise (Rosenthal and Henderson 2003).
THRESHOLD = 1 / 7


@dataclass(frozen=True, eq=False)
class Resolution:
    """Fourier shell correlations of halves of the data; prints as a table.

    Attributes
    ----------
    method : str
        The method of the volume, such as ``"reconstruct_sirt"``.
    curves : dict of str to dict of str to ShellCorrelation
        For ``"counts"`` and ``"tilts"``, how the data were halved, and each channel.
    threshold : float
        Correlation of the halves at which the resolution is read.
    unit : str
        Of lengths, "nm" or "px".
    finest : float
        Two voxels: the shortest period that a volume can hold.
    elongation : float
        `inspection.elongation_factor` of the range of tilts, which is that of a point by filtered
        back projection.
    crowther : float
        `inspection.crowther_resolution` of the diameter and the tilts; NaN without a diameter.
    diameter : float
        Of the object across the tilt axis; NaN where it has no outline.
    """

    method: str
    curves: Mapping[str, Mapping[str, ShellCorrelation]]
    threshold: float
    unit: str
    finest: float
    elongation: float
    crowther: float
    diameter: float

    @property
    def periods(self) -> dict[str, dict[str, dict[str, float]]]:
        """Resolutions by halves, channel and direction: periods, half of which is the half-pitch.

        That of two voxels where the correlation stays above the threshold, NaN where it begins
        below.
        """
        return {
            halves: {
                channel: {name: curve.resolution(self.threshold, name) for name in DIRECTIONS}
                for channel, curve in curves.items()
            }
            for halves, curves in self.curves.items()
        }

    def of_all_data(self, halves: str, channel: str, direction: str = "all") -> np.ndarray:
        """Return the correlation of two volumes of as many data as the whole, 2 F / (1 + F).

        Its square root is the correlation of the volume with one without noise.
        """
        curve = np.clip(self.curves[halves][channel].correlation[direction], 0, None)
        return 2 * curve / (1 + curve)

    def plot(self) -> Figure:
        """Draw the correlation of each channel in all directions, one panel for each halving.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from hyperspy_multitomo.inspection.resolution_plots import plot_shell_correlations

        curves = {
            halves: {name: (one.frequency, one.correlation["all"]) for name, one in curves.items()}
            for halves, curves in self.curves.items()
        }
        limits = {}
        for halves, by_channel in self.curves.items():
            one = next(iter(by_channel.values()))
            limits[halves] = one.frequency, one.limit(self.threshold)
        return plot_shell_correlations(curves, limits, self.unit)

    def __str__(self) -> str:
        names = {channel for curves in self.curves.values() for channel in curves}
        size = max(map(len, (*names, "channel")))
        heads = ("all", "along x", "along y", "along z")
        lines = [
            f"{self.method}: period in {self.unit} at which halves correlate by "
            f"{self.threshold:.3g}",
            f"{'halves':<8}{'channel':<{size}}{''.join(f'{head:>10}' for head in heads)}",
        ]
        for halves, channels in self.periods.items():
            for channel, periods in channels.items():
                row = "".join(f"{self._cell(periods[name]):>10}" for name in DIRECTIONS)
                lines.append(f"{halves:<8}{channel:<{size}}{row}")
        lines.append(
            f"two voxels {self.finest:.3g}; elongation of a point {self.elongation:.3g}; "
            + (
                f"Crowther {self.crowther:.3g} for {self.diameter:.3g} across the axis"
                if np.isfinite(self.crowther)
                else "no outline for Crowther's limit"
            )
        )
        lines.append("signal against noise, not blur: see edge_width")
        return "\n".join(lines)

    def _cell(self, period: float) -> str:
        if np.isnan(period):
            return "none"
        if period <= self.finest * 1.001:
            return f"<= {self.finest:.3g}"
        return f"{period:.3g}"

    def __repr__(self) -> str:
        return f"<Resolution\n{self}>"

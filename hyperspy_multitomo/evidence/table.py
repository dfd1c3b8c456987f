# SPDX-License-Identifier: GPL-3.0-or-later
"""The evidence for regions as a table: contrasts, their errors, z and limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# One-sided 3 sigma.
SIGNIFICANT = 0.00135


@dataclass(frozen=True)
class RegionEvidence:
    """The evidence for one element in one region.

    Attributes
    ----------
    region, element : str
    contrast, sd : float
        Of the region against its surroundings, in the unit of the volume (counts per nm), and its
        standard deviation by counting noise.
    z : float
        Contrast over standard deviation, with the outline shrunk by a voxel.
    z_as_given, z_larger : float
        The same with the outline as it is, and a voxel larger.
    limit : (float, float)
        Contrasts that are 3 and 5 of their standard deviations, own counts included.
    surroundings : float
        What the volume holds around the region.
    counts : float
        That the contrast adds to all images together.
    p : float
        Probability of a z as far from 0 by chance, on either side.
    p_corrected : float
        That of one among all that were tried.
    voxels : int
    centre : (float, float, float)
        x, y and z, in the coordinates of the volume.
    percent, percent_sd : float
        Contrast in weight percent, and its standard deviation; NaN without factors.
    percent_limit : (float, float)
        The limits likewise.
    """

    region: str
    element: str
    contrast: float
    sd: float
    z: float
    z_as_given: float
    z_larger: float
    limit: tuple[float, float]
    surroundings: float
    counts: float
    p: float
    p_corrected: float
    voxels: int
    centre: tuple[float, float, float]
    percent: float = np.nan
    percent_sd: float = np.nan
    percent_limit: tuple[float, float] = (np.nan, np.nan)

    @property
    def significant(self) -> bool:
        """Whether the corrected probability is below 0.00135, that of 3 standard deviations."""
        return self.p_corrected < SIGNIFICANT


@dataclass(frozen=True, eq=False)
class Evidence:
    """The evidence for elements in regions of a volume; prints as a table.

    Iterate over it, or index it, for the `RegionEvidence` of each row.

    Attributes
    ----------
    rows : tuple of RegionEvidence
        Empty where features were looked for and none was found.
    unit : str
        Of contrasts, standard deviations and limits.
    tried : int or str
        Over how many regions and elements probabilities are corrected, or how.
    misfit : dict of str to float
        By element: the mean squared residual of the counts over their variance, without the
        regions. Near 1 where the host explains the counts; larger where it does not.
    made_of : dict
        What it was made of: the step that reconstructed the volume, digests of its series, the
        version.
    """

    rows: tuple[RegionEvidence, ...]
    unit: str
    tried: int | str
    misfit: Mapping[str, float]
    made_of: Mapping[str, Any]
    _picture: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[RegionEvidence]:
        return iter(self.rows)

    def __getitem__(self, place: int) -> RegionEvidence:
        return self.rows[place]

    @property
    def contrast(self) -> np.ndarray:
        """Contrasts, (row,)."""
        return self._column("contrast")

    @property
    def sd(self) -> np.ndarray:
        """Standard deviations of the contrasts, (row,)."""
        return self._column("sd")

    @property
    def z(self) -> np.ndarray:
        """Contrasts over standard deviations, (row,)."""
        return self._column("z")

    @property
    def limit(self) -> np.ndarray:
        """Contrasts that are 3 and 5 of their standard deviations, (row, 2)."""
        return np.array([row.limit for row in self.rows], float).reshape(-1, 2)

    @property
    def p(self) -> np.ndarray:
        """Corrected probabilities, (row,)."""
        return self._column("p_corrected")

    def __str__(self) -> str:
        if not self.rows:
            return f"no feature beyond chance; {self._tried()}"
        percent = np.isfinite(self._column("percent")).all()
        unit = "wt%" if percent else self.unit
        head = ["region", "element", f"contrast ({unit})", "sd", "z", "as given", "larger"]
        head += ["limit z=3", "z=5", "p", ""]
        cells = [head, *(_cells(row, bool(percent)) for row in self.rows)]
        widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
        lines = [
            "  ".join(
                cell.ljust(width) if column < 2 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in cells
        ]
        return "\n".join(
            [
                *lines,
                f"contrast against the surroundings, noise of counting alone; {self._tried()}",
                "z with the outline shrunk by a voxel; beside it as given, and a voxel larger",
            ]
        )

    __repr__ = __str__

    def plot(self) -> Figure:
        """Draw the regions on sections of their elements, and their contrasts with the limits.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ValueError
            Where there is no row.
        """
        from hyperspy_multitomo.inspection.evidence_plot import plot_evidence

        return plot_evidence(self.rows, unit=self.unit, **self._picture)

    def _column(self, name: str) -> np.ndarray:
        return np.array([getattr(row, name) for row in self.rows], float)

    def _tried(self) -> str:
        if isinstance(self.tried, str):
            return f"p for {self.tried}"
        return f"p for {self.tried} tried"


def _cells(row: RegionEvidence, percent: bool) -> list[str]:
    kind = (row.percent, row.percent_sd, *row.percent_limit)
    numbers = kind if percent else (row.contrast, row.sd, *row.limit)
    contrast, sd, three, five = (f"{number:.3g}" for number in numbers)
    z = [f"{value:.1f}" for value in (row.z, row.z_as_given, row.z_larger)]
    flag = "*" if row.significant else ""
    return [row.region, row.element, contrast, sd, *z, three, five, f"{row.p_corrected:.2g}", flag]


def two_sided(z: float) -> float:
    """Return the probability of a normal variable as far from 0."""
    from scipy.special import ndtr

    return float(2 * ndtr(-abs(z)))


def of_several(p: float, tried: int) -> float:
    """Return the probability that one of several independent tests has that of `p` or less.

    Examples
    --------
    >>> round(of_several(0.01, 2), 6)
    0.0199
    """
    return float(-np.expm1(tried * np.log1p(-min(p, 1 - 1e-16))))


def in_percent(
    contrasts: Sequence[float], sd: float, place: int, weighted: np.ndarray, factor: float
) -> tuple[list[float], float]:
    """Return contrasts in weight percent, and the standard deviation of the first of them.

    They end where nothing of the element is left, and are NaN where nothing at all is. The standard
    deviation is by the slope half way.

    Parameters
    ----------
    contrasts : sequence of float
        In signal per length.
    sd : float
        Of the first.
    place : int
        Of the element.
    weighted : array (element,)
        Signal times factor of the surroundings.
    factor : float
        Of the element.

    Examples
    --------
    >>> percent, sd = in_percent([1.0], 0.1, 0, np.array([0.0, 3.0]), 1.0)
    >>> percent, round(sd, 3)
    ([25.0], 2.449)
    """
    others = float(weighted.sum() - weighted[place])
    before = _share(float(weighted[place]), others)
    own = [max(float(weighted[place]) + factor * one, 0.0) for one in contrasts]
    changed = [_share(one, others) - before for one in own]
    middle = max(float(weighted[place]) + factor * contrasts[0] / 2, 0.0) + others
    slope = 100 * factor * others / middle**2 if middle > 0 else np.nan
    return changed, float(slope * sd)


def _share(own: float, others: float) -> float:
    """Return a part in percent; NaN of nothing."""
    return 100 * own / (own + others) if own + others > 0 else np.nan

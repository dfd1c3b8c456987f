# SPDX-License-Identifier: GPL-3.0-or-later
"""What an acquisition would show: z of a feature and errors of means, from expected counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_multitomo.evidence.host import MOVES, Host, LocalRays
from hyperspy_multitomo.evidence.poisson_fit import Contrast, solved
from hyperspy_multitomo.evidence.regions import RIM, Neighbourhood, distances, grown
from hyperspy_multitomo.reconstruction.recorded_model import RecordedModel
from hyperspy_multitomo.tomography import TiltGeometry, projector

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# z that a feature is to reach.
SEEN = 5.0
# Coulomb.
ELECTRON = 1.602176634e-19


@dataclass(frozen=True, eq=False)
class Pilot:
    """What is known of a specimen before an acquisition is planned.

    Attributes
    ----------
    elements : tuple of str
    volumes : array (element, z, x, y)
        Counts per unit of length, in each image of the pilot.
    others : array (channel, z, x, y)
        Volumes without maps, such as the HAADF.
    outline : array of bool (z, x, y)
    images : int
        Of the pilot.
    pixel_size : float
        nm, or 1.
    background : float
        Expected counts per pixel in each image of the pilot.
    """

    elements: tuple[str, ...]
    volumes: np.ndarray
    others: np.ndarray
    outline: np.ndarray
    images: int
    pixel_size: float
    background: float = 0.0

    def model(self, place: int, tilts: np.ndarray, dose: float) -> RecordedModel:
        """Return the images of an element that are expected, of some total dose."""
        geometry = TiltGeometry(
            list(tilts), self.outline.shape[1], self.outline.shape[:2], self.pixel_size
        )
        project = projector(geometry)
        share = dose * self.images / len(tilts)
        signal = share * project(self.volumes[place])[None]
        background = np.full(signal.shape, share * self.background, np.float32)
        sensitivity = np.full((1, 1, 1, 1), share, np.float32)
        return RecordedModel(signal + background, background, sensitivity, project, None)

    def host(self, place: int, tilts: np.ndarray, dose: float = 1.0) -> Host:
        """Return the host of an element in images of some total dose."""
        others = np.concatenate([np.delete(self.volumes, place, axis=0), self.others])
        others = others[[bool(one.any()) for one in others]]
        outline = grown(self.outline, MOVES[0])
        own = self.volumes[place]
        return Host.of(self.model(place, tilts, dose), 0, outline, others, own, own_is_term=False)

    def test(self, place: int, region: np.ndarray, tilts: np.ndarray) -> Contrast:
        """Return the test of a region in the expected counts, where it has no contrast."""
        host = self.host(place, tilts)
        around = Neighbourhood.of(region, host.outline)
        return host.contrast(around, LocalRays.of(host, around))

    def errors_of_means(self, region: np.ndarray, tilts: np.ndarray, dose: float) -> np.ndarray:
        """Return relative errors of the content of a region, (element,).

        What each element has in the region, in a rim of a voxel and in the rest of the volume are
        three terms.
        """
        distance = distances(region)
        rim = (distance > 0) & (distance <= RIM)
        parts = [region, rim, ~region & ~rim]
        errors = []
        for place, volume in enumerate(self.volumes):
            model = self.model(place, tilts, dose)
            rays = model.rays(np.stack([volume * part for part in parts]))
            terms = (model.sensitivity[0, 0, 0, 0] * rays.astype(float)).reshape(len(parts), -1)
            expected = model.images[0].ravel().astype(float)
            floor = 1e-3 * expected.mean() if expected.any() else 1.0
            normal = (terms / np.maximum(expected, floor)) @ terms.T
            inverse = solved(normal, np.eye(len(parts))[0])[0]
            errors.append(np.sqrt(inverse) if inverse > 0 else np.inf)
        return np.array(errors)


@dataclass(frozen=True)
class PlannedSeries:
    """One way to acquire a series, and what it would show.

    Attributes
    ----------
    range : float
        Degrees: tilts go from -range to +range.
    tilts : int
    z : float
        Expected of the feature at the dose asked for: its contrast in standard deviations.
    dose : float
        Total, at which z is expected to be 5, in doses of the pilot.
    electrons : float
        The same in electrons per pixel, all tilts together; NaN where the pilot's are not known.
    minutes : float
        For the same, of beam on the field of view; NaN without a current.
    frames : float
        Scans of each tilt, at the dwell time; NaN without one.
    errors : dict of str to float
        Of the mean composition of the region at the dose asked for, by element, in weight percent;
        empty without factors.
    """

    range: float
    tilts: int
    z: float
    dose: float
    electrons: float
    minutes: float
    frames: float
    errors: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class AcquisitionPlan:
    """What series of several ranges and numbers of tilts would show; prints as a table.

    Attributes
    ----------
    rows : tuple of PlannedSeries
    element : str
    contrast : float
        Of the feature, in the unit of the volume.
    dose : float
        That z and errors are of, in doses of the pilot.
    feature : str
        Size and contrast in words.
    gain_of_tilts : float
        z with the most tilts over z with the fewest, at equal dose and the largest range.
    """

    rows: tuple[PlannedSeries, ...]
    element: str
    contrast: float
    dose: float
    feature: str

    @property
    def gain_of_tilts(self) -> float:
        """Ratio of z with the most tilts to that with the fewest, at equal dose, largest range."""
        widest = max(row.range for row in self.rows)
        some = sorted((row for row in self.rows if row.range == widest), key=lambda row: row.tilts)
        return some[-1].z / some[0].z

    def __str__(self) -> str:
        known = {name: any(np.isfinite(getattr(row, name)) for row in self.rows)
                 for name in ("electrons", "minutes", "frames")}  # fmt: skip
        head = ["range", "tilts", f"z at dose {self.dose:g}", "dose for z = 5"]
        head += [f"{title}" for name, title in _TITLES.items() if known[name]]
        head += [f"{name} (wt%)" for name in self.rows[0].errors]
        lines = [head]
        for row in self.rows:
            cells = [f"±{row.range:g}°", f"{row.tilts}", f"{row.z:.1f}", f"{row.dose:.3g}"]
            cells += [f"{getattr(row, name):.3g}" for name in _TITLES if known[name]]
            lines.append(cells + [f"±{error:.2g}" for error in row.errors.values()])
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        text = ["  ".join(map(str.rjust, line, widths)) for line in lines]
        return "\n".join(
            [
                f"{self.element}, {self.feature}; dose in doses of the pilot, all tilts together",
                *text,
                f"more tilts at equal dose: z times {self.gain_of_tilts:.2f}",
            ]
        )

    __repr__ = __str__

    def plot(self) -> Figure:
        """Draw z against the dose for every range and number of tilts.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from hyperspy_multitomo.inspection.plan_plot import plot_plan

        return plot_plan(self.rows, self.dose, self.feature, self.element)


_TITLES = {"electrons": "electrons / px", "minutes": "minutes", "frames": "frames / tilt"}


def planned(
    pilot: Pilot,
    element: str,
    region: np.ndarray,
    contrast: float,
    *,
    ranges: Sequence[float],
    tilts: Sequence[int],
    dose: float = 1.0,
    electrons: float | None = None,
    current: float | None = None,
    dwell: float | None = None,
    factors: Mapping[str, float] | None = None,
    mean_of: np.ndarray | None = None,
) -> tuple[PlannedSeries, ...]:
    """Return what series would show of a feature.

    Parameters
    ----------
    pilot : Pilot
    element : str
    region : array of bool (z, x, y)
        Of the feature.
    contrast : float
        In the unit of the pilot's volumes.
    ranges : sequence of float
        Degrees.
    tilts : sequence of int
    dose : float, default 1
        Total, in doses of the pilot.
    electrons : float, optional
        Per pixel, of the pilot, all tilts together.
    current : float, optional
        nA.
    dwell : float, optional
        Microseconds per pixel of one scan.
    factors : dict of str to float, optional
        k-factors, for errors of means.
    mean_of : array of bool (z, x, y), optional
        Region of the means, by default the outline.
    """
    place = pilot.elements.index(element)
    rows = []
    for reach in ranges:
        for number in tilts:
            angles = np.linspace(-reach, reach, number)
            test = pilot.test(place, region, angles)
            z = contrast / test.sd_of(contrast, dose)
            times = (SEEN * test.sd_of(contrast) / contrast) ** 2
            errors = percent_errors(pilot, mean_of, angles, dose, factors)
            rows.append(
                PlannedSeries(
                    float(reach),
                    int(number),
                    z,
                    times,
                    *_cost(pilot, times, number, electrons, current, dwell),
                    errors,
                )
            )
    return tuple(rows)


def _cost(
    pilot: Pilot,
    dose: float,
    tilts: int,
    electrons: float | None,
    current: float | None,
    dwell: float | None,
) -> tuple[float, float, float]:
    """Return electrons per pixel, minutes and frames of a dose."""
    if electrons is None:
        return np.nan, np.nan, np.nan
    per_pixel = dose * electrons
    if current is None:
        return per_pixel, np.nan, np.nan
    seconds = per_pixel * ELECTRON / (current * 1e-9)
    pixels = pilot.outline.shape[1] * pilot.outline.shape[2]
    frames = np.nan if dwell is None else seconds / tilts / (dwell * 1e-6)
    return per_pixel, seconds * pixels / 60, frames


def percent_errors(
    pilot: Pilot,
    region: np.ndarray | None,
    tilts: np.ndarray,
    dose: float,
    factors: Mapping[str, float] | None,
) -> dict[str, float]:
    """Return errors of the mean composition of a region, weight percent, by element."""
    if factors is None:
        return {}
    region = pilot.outline if region is None else region
    relative = pilot.errors_of_means(region, tilts, dose)
    sums = (pilot.volumes * region).sum(axis=(1, 2, 3), dtype=float)
    masses = np.array([factors[name] for name in pilot.elements]) * np.maximum(sums, 0)
    shares = masses / masses.sum()
    # Elements are counted apart: the variance of m_e / sum(m).
    square = np.where(masses > 0, np.square(relative), 0)
    spread = np.sum(np.square(shares) * square)
    variance = np.square(shares) * (square * (1 - 2 * shares) + spread)
    return dict(zip(pilot.elements, (100 * np.sqrt(variance)).tolist(), strict=True))


def in_signal(
    pilot: Pilot, element: str, percent: float, region: np.ndarray, factors: Mapping[str, float]
) -> float:
    """Return the contrast of an element in the unit of the volume, from weight percent.

    It is added to the composition around the region.
    """
    around = Neighbourhood.of(region, grown(pilot.outline, MOVES[0]))
    levels = pilot.volumes[(slice(None), *around.box)][:, around.shell].mean(axis=1)
    weighted = {
        name: factors[name] * max(float(level), 0.0)
        for name, level in zip(pilot.elements, levels, strict=True)
    }
    own = weighted.pop(element)
    others: Any = sum(weighted.values())
    share = own / (own + others) + percent / 100 if own + others > 0 else np.nan
    if not 0 <= share < 1 or others <= 0:
        raise ValueError(
            f"contrast={percent:g} wt% cannot be added to "
            f"{100 * own / max(own + others, 1e-300):.3g} wt% of {element} "
            "around the feature: pass another contrast= or place"
        )
    return float((others * share / (1 - share) - own) / factors[element])

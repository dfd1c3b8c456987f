# SPDX-License-Identifier: GPL-3.0-or-later
"""One method with many settings, side by side: volumes, held-out counts, residuals and errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Sweep:
    """Some slices reconstructed with many settings of a method; prints as a table.

    Attributes
    ----------
    method : str
        Such as ``"hebt"``.
    parameters : dict of str to tuple
        What was swept, and its values.
    settings : tuple of dict
        One for each volume: all combinations of the values, the last parameter fastest.
    volumes : sequence of TomographicVolume
        Of the slices, made when they are asked for.
    channels : tuple of str
    arrays : array (setting, channel, z, x, y)
        The same volumes.
    slices : (int, int)
        First and last + 1, in voxels along the tilt axis.
    residuals : dict of str to array (setting,)
        Relative residual of the maps of each element and of the HAADF, |b - A x| / |b|.
    deviance, deviance_error : array (setting,), or None
        Poisson deviance of counts that were held out, above the least, and the standard error of
        that; of volumes of the other counts.
    not_held_out : str
        Why there is no deviance; empty where there is one.
    errors : dict of str to array (setting, channel)
        Against the truth, where there is one: ``"nrmse"`` and ``"ssim"``, see
        `inspection.nrmse` and `inspection.ssim_structure`.
    pixel_size : float or None
        Side of a voxel in nm.
    unit : str
        Of the voxels.
    """

    method: str
    parameters: Mapping[str, tuple]
    settings: tuple[Mapping[str, Any], ...]
    volumes: Sequence
    channels: tuple[str, ...]
    arrays: np.ndarray
    slices: tuple[int, int]
    residuals: Mapping[str, np.ndarray]
    deviance: np.ndarray | None
    deviance_error: np.ndarray | None
    not_held_out: str
    errors: Mapping[str, np.ndarray]
    pixel_size: float | None
    unit: str

    def __len__(self) -> int:
        return len(self.settings)

    @property
    def metrics(self) -> dict[str, np.ndarray]:
        """Numbers of each setting: residuals, deviance, and errors as the mean of the channels."""
        found = {f"residual, {name}": values for name, values in self.residuals.items()}
        if self.deviance is not None:
            found["deviance"] = self.deviance
        return found | {name: np.mean(values, axis=1) for name, values in self.errors.items()}

    def best(self, metric: str = "deviance") -> dict[str, Any]:
        """Return the setting with the least deviance, residual or error, or the largest SSIM.

        Parameters
        ----------
        metric : str, default "deviance"
            One of `metrics`.

        Raises
        ------
        ValueError
            For a metric that there is not.
        """
        return dict(self.settings[self._best_of(metric)])

    def plot(self, metrics: Sequence[str] | None = None) -> Figure:
        """Draw the metrics against what was swept: curves, or maps of two parameters.

        Parameters
        ----------
        metrics : sequence of str, optional
            Of `metrics`; by default the deviance and the errors, or the residuals where there are
            none of both.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ValueError
            For a metric that there is not.
        """
        from hyperspy_multitomo.inspection.sweep_plots import plot_metrics

        known = self.metrics
        if metrics is None:
            judging = [name for name in known if not name.startswith("residual")]
            metrics = judging or list(known)
        best = {name: self._best_of(name) for name in metrics}
        values = {name: known[name] for name in metrics}
        errors = {} if self.deviance_error is None else {"deviance": self.deviance_error}
        return plot_metrics(values, self.parameters, best=best, errors=errors)

    def plot_sections(
        self, channel: str | None = None, plane: str = "xz", position: int | None = None
    ) -> Figure:
        """Draw the same section of each volume, in one colour scale.

        Parameters
        ----------
        channel : str, optional
            By default the first.
        plane : {"xz", "xy", "yz"}, default "xz"
            xz is the plane normal to the tilt axis.
        position : int, optional
            Along the normal of the plane, in voxels of `arrays`; the middle by default.

        Returns
        -------
        matplotlib.figure.Figure
            Rows are the values of the first parameter, columns those of the others.

        Raises
        ------
        ValueError
            For a channel, plane or position that there is not.
        """
        from hyperspy_multitomo.inspection.sweep_plots import plot_settings

        name = self.channels[0] if channel is None else channel
        if name not in self.channels:
            raise ValueError(f"channel={channel!r} must be one of {', '.join(self.channels)}")
        return plot_settings(
            self.arrays[:, self.channels.index(name)],
            self.parameters,
            plane=plane,
            position=position,
            pixel_size=self.pixel_size,
            unit=self.unit,
            title=name,
        )

    def _best_of(self, metric: str) -> int:
        known = self.metrics
        if metric not in known:
            why = f" ({self.not_held_out})" if metric == "deviance" and self.not_held_out else ""
            raise ValueError(f"metric={metric!r} must be one of {', '.join(known)}{why}")
        values = known[metric]
        values = -values if metric == "ssim" else values
        if not np.isfinite(values).any():
            raise ValueError(f"the {metric} is not known for any of the settings")
        return int(np.nanargmin(values))

    def __str__(self) -> str:
        first, last = self.slices
        which = f"slice {first}" if last == first + 1 else f"slices {first} to {last - 1}"
        heads = [*self.parameters, *self.metrics]
        rows = [
            [shown(setting[name]) for name in self.parameters]
            + [f"{values[number]:.4g}" for values in self.metrics.values()]
            for number, setting in enumerate(self.settings)
        ]
        widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
        lines = [f"{self.method}, {len(self)} settings of {which}"]
        lines += [
            "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
            for row in (heads, *rows)
        ]
        if self.not_held_out:
            lines.append(f"no deviance: {self.not_held_out}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Sweep\n{self}>"


def shown(value) -> str:
    """Return a value of a parameter as short text."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {shown(one)}" for name, one in value.items())
    return str(value)

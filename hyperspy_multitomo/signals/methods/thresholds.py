# SPDX-License-Identifier: GPL-3.0-or-later
"""The threshold between background and particle: by the edge spread function, and drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.composition import quantification
from hyperspy_multitomo.composition.particle.edge_spread import ThresholdCurve, edge_spread
from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.signals.methods.quantifying import counts_by_element, warn_if_unsaved


@checked
def find_threshold(
    volume, factors: Mapping[str, float] | Sequence[float] | None = None, method: str = "CL"
) -> ThresholdCurve:
    """Find the level between background and particle by the edge spread function.

    Parameters
    ----------
    factors : dict or sequence of float, optional
        What the sum over the elements is weighted with, as in `quantify`; by default the plain
        sum of the counts.
    method : {"CL", "zeta", "cross_section", "model"}, default "CL"
        What `factors` are.

    Returns
    -------
    ThresholdCurve
        ``value`` in the unit of the weighted sum, the curve V(t), and ``ambiguous``, the reason
        why it is not clear, if so; ``value`` is NaN where there is no threshold at all.
        See `plot_threshold`. A lazy volume is read two or three times, block by block, for the
        same values.

    Raises
    ------
    ValueError
        For bad factors, or a volume without signal.

    Warns
    -----
    UserWarning
        Where the threshold is ambiguous, or there is none.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> data = np.random.default_rng(0).normal(0, 0.05, (24, 24, 24)); data[6:18, 6:18, 6:18] += 1.0
    >>> curve = mt.TomographicVolume.from_arrays({"Au": data}).find_threshold()
    >>> bool(0.2 < curve.value < 0.8)
    True
    """
    curve = threshold_curve(volume, factors, method)
    if curve.ambiguous:
        found = (
            f"the threshold {curve.value:.4g} is not to be trusted"
            if np.isfinite(curve.value)
            else "there is no threshold"
        )
        warn(
            f"{found}: {curve.ambiguous}; look at plot_threshold(), and pass threshold='otsu', "
            "a number, or mask= to quantify"
        )
    return curve


def threshold_curve(volume, factors=None, method: str = "CL") -> ThresholdCurve:
    """Return what `find_threshold` does, without a word on it."""
    elements, volumes = counts_by_element(volume)
    given = dict.fromkeys(elements, 1.0) if factors is None else factors
    warn_if_unsaved(volumes)
    return edge_spread(quantification.weighted_sum(volumes, elements, method, given))


@checked
def plot_threshold(volume, factors=None, method: str = "CL"):
    """Draw the volume V(t) above each threshold t, and the threshold that `find_threshold` chose.

    Parameters
    ----------
    factors, method
        As in `find_threshold`.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> data = np.random.default_rng(0).normal(0, 0.05, (24, 24, 24)); data[6:18, 6:18, 6:18] += 1.0
    >>> figure = mt.TomographicVolume.from_arrays({"Au": data}).plot_threshold()
    >>> len(figure.axes) > 0
    True
    """
    from hyperspy_multitomo.inspection.threshold_plot import plot_threshold

    unit = volume.quantity if factors is None else "weighted sum of the elements"
    return plot_threshold(threshold_curve(volume, factors, method), unit=unit)

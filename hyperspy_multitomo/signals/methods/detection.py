# SPDX-License-Identifier: GPL-3.0-or-later
"""The least contrast that could be seen, at every place of a volume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.evidence.scan import Scan, ball
from hyperspy_multitomo.parameters import positive_number
from hyperspy_multitomo.signals.build import build_volume
from hyperspy_multitomo.signals.metadata.history import add_step
from hyperspy_multitomo.signals.methods.evidence import check_factors
from hyperspy_multitomo.signals.methods.evidence_data import VolumeAndCounts
from hyperspy_multitomo.signals.methods.evidence_features import diameter_of

if TYPE_CHECKING:
    from hyperspy_multitomo.signals.volume import TomographicVolume


@checked(size=positive_number, level=positive_number)
def detection_map(
    series,
    volume: TomographicVolume,
    element: str,
    size: float | None = None,
    haadf=None,
    *,
    level: float = 5.0,
    outline=None,
    factors: Mapping[str, float] | None = None,
    mask=None,
    initial=None,
    background=None,
) -> TomographicVolume:
    """Return the least contrast of a ball that would be seen, at every place of a volume.

    Parameters
    ----------
    volume : TomographicVolume
        A reconstruction of this series.
    element : str
    size : float, optional
        Diameter of the ball, in the unit of the volume's axes; by default 5 voxels.
    haadf : TiltSeriesHAADF, optional
        The HAADF series, where the volume was made of one.
    level : float, default 5
        Standard deviations that count as seen.
    outline : array or signal, shape (z, y, x), optional
        Of the specimen; by default the volume's own threshold.
    factors : dict of str to float, optional
        k-factors of all elements: the contrast is returned in weight percent.
    mask, initial, background : array or signal, optional
        As they were given to the reconstruction.

    Returns
    -------
    TomographicVolume
        Contrast of a ball about each voxel against its surroundings, in the volume's unit or weight
        percent; NaN where the ball is not within the outline.

    Raises
    ------
    ValueError
        As `evidence`; for a ball below three voxels, and where the HAADF has finer pixels than the
        maps.

    Notes
    -----
    Errors as of `evidence`, for all places at once by back-projections of the weights. The region
    is not filled in the other channels, and its surroundings are not cut off at the outline: limits
    are within 10 % of those of `evidence` at most places (simulated), a voxel or two from the
    surface within 25 %.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> z, y, x = (grid + 0.5 for grid in np.ogrid[-12:12, -4:4, -12:12])
    >>> host = (z**2 + x**2 + 0 * y < 100).astype(float)
    >>> projector = mt.projector(mt.TiltGeometry(np.arange(-70, 71, 10), 24))
    >>> images = projector(host.transpose(0, 2, 1)).transpose(0, 2, 1)
    >>> counts = {"Au": np.random.default_rng(0).poisson(images)}
    >>> eds = mt.TiltSeriesEDS.from_maps(counts, tilts=np.arange(-70, 71, 10))
    >>> volume = eds.reconstruct_sirt(20, depth=None, show_progressbar=False)
    >>> least = eds.detection_map(volume, "Au", size=5)
    >>> least.quantity, bool(np.nanmin(least.data) > 0)
    ('counts / px', True)
    """
    given = {"mask": mask, "initial": initial, "background": background}
    data = VolumeAndCounts.of(series, volume, haadf, outline, given)
    (element,) = data.chosen(element)
    check_factors(factors, data.elements)
    diameter = diameter_of(data, size)
    shape = ball(diameter / 2)
    limit = Scan.of(data.plain_host(element), shape).limit(level)
    if not np.isfinite(limit).any():
        raise ValueError(
            f"a ball of {diameter:.3g} voxels is nowhere within the outline of the specimen: pass "
            "a smaller size="
        )
    quantity = volume.quantity
    if factors is not None:
        limit, quantity = _in_percent(data, element, limit, shape, factors), "weight percent"
    result = build_volume(
        np.ascontiguousarray(limit.astype(np.float32).transpose(0, 2, 1))[:, None],
        (element,),
        None,
        like=volume,
        quantity=quantity,
        title="Least contrast that is seen",
    )
    add_step(
        result,
        "detection_map",
        after=volume,
        element=element,
        diameter_in_voxels=diameter,
        level=level,
        factors=factors,
    )
    return result


def _in_percent(
    data: VolumeAndCounts,
    element: str,
    limit: np.ndarray,
    shape: np.ndarray,
    factors: Mapping[str, float],
) -> np.ndarray:
    """Return a contrast (z, x, y) in weight percent, added to what is around each place."""
    from scipy.ndimage import uniform_filter

    around = shape.shape[0] + 4
    weighted = {
        name: factors[name]
        * np.maximum(uniform_filter(data.volumes[data.channels.index(name)], around), 0)
        for name in data.elements
    }
    own = weighted.pop(element)
    others = sum(weighted.values()) if weighted else np.zeros_like(own)
    with np.errstate(invalid="ignore", divide="ignore"):
        before = np.where(own + others > 0, own / (own + others), 0)
        after = (own + factors[element] * limit) / (own + others + factors[element] * limit)
    return 100 * (after - before)

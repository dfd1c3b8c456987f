# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence for regions of a volume from the counts that it was made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_multitomo.arguments import checked, of_type, whole
from hyperspy_multitomo.evidence.host import Host, LocalRays
from hyperspy_multitomo.evidence.poisson_fit import Contrast
from hyperspy_multitomo.evidence.regions import Neighbourhood
from hyperspy_multitomo.evidence.scan import LargestByChance, Scan
from hyperspy_multitomo.evidence.table import (
    Evidence,
    RegionEvidence,
    in_percent,
    of_several,
    two_sided,
)
from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.parameters import positive_number
from hyperspy_multitomo.signals.methods.evidence_data import VolumeAndCounts
from hyperspy_multitomo.signals.methods.evidence_features import Halves, diameter_of, proposed

if TYPE_CHECKING:
    from hyperspy_multitomo.signals.volume import TomographicVolume


@checked(tried=whole(1, "of regions"), size=positive_number, found_in=of_type("TomographicVolume"))
def evidence(
    series,
    volume: TomographicVolume,
    region,
    element: str | Sequence[str] | None = None,
    haadf=None,
    *,
    tried: int = 1,
    found_in=None,
    size: float | None = None,
    outline=None,
    factors: Mapping[str, float] | None = None,
    mask=None,
    initial=None,
    background=None,
) -> Evidence:
    """Test whether the counts say that an element is richer or poorer in a region of a volume.

    A regularised volume looks sure of everything. This asks the counts as recorded instead.

    Parameters
    ----------
    volume : TomographicVolume
        A reconstruction of this series.
    region : Ellipsoid, Box, mask, list or dict of them, or "features"
        Regions that were fixed beforehand, such as from the HAADF or another data set: in the
        coordinates of the volume, or masks (z, y, x), arrays or signals. ``"features"`` finds
        regions on a random half of the counts and tests them on the other half.
    element : str or sequence of str, optional
        By default all of the maps.
    haadf : TiltSeriesHAADF, optional
        The HAADF series, where the volume was made of one.
    tried : int, default 1
        How many regions and elements were looked at in all, where they are more than those of
        this call: probabilities are corrected for them.
    found_in : TomographicVolume, optional
        The volume in which the regions were found, where it is of the same counts, as with regions
        drawn on it. Probabilities are then those of the largest of all places in the outline.
    size : float, optional
        Diameter of ``"features"``, in the unit of the volume's axes; by default 5 voxels.
    outline : array or signal, shape (z, y, x), optional
        Of the specimen; by default the volume's own threshold, as of `quantify`.
    factors : dict of str to float, optional
        k-factors of all elements: contrasts and limits are given in weight percent too.
    mask, initial, background : array or signal, optional
        As they were given to the reconstruction.

    Returns
    -------
    Evidence
        Prints as a table, with `Evidence.plot`. A row for each region and element: contrast
        against the surroundings (counts per nm), its standard deviation, z, the contrasts that
        would be 3 and 5 of their standard deviations, and the corrected probability.

    Raises
    ------
    ValueError
        For a volume of another series or a part of one; for maps that are no counts as recorded;
        for a region that is empty, reaches out of the volume or touches the rim of the specimen;
        for elements and factors that are missing.

    Warns
    -----
    UserWarning
        Where the counts are not explained by the specimen around the regions.

    Notes
    -----
    Projections of a few terms are fitted to the counts of the element, weighted as Poisson counts:
    the region; it and its surroundings, a shell of three voxels; a constant within the outline; a
    rim of two voxels around that; the volumes of all other channels, with the region filled from
    its shell; and the background. Where these do not explain the counts, the volume of the element
    itself, filled more widely, is one more. All amplitudes are free, and what that costs is in the
    standard deviation. The variance of the counts is what the volume
    makes one expect, times the squared residuals over it where these are larger [1]_. z is the
    normal equivalent of the probability of the contrast, by the saddle point of the sum of Poisson
    counts that it is [2]_, [3]_, since counts are few.

    So the element may be uniform, or follow the outline, the other channels, or, with a warning
    where that is not enough, what its own volume shows beyond five voxels from the region.
    Structure of its own nearer than that is not covered,
    nor are errors of the alignment, of gains and of absorption, nor overlapping lines that are
    smaller than the smoothed background resolves: the page on evidence has figures of each. The
    three z, with outlines of three sizes, say whether the outline matters; `Evidence.misfit` above
    1 says that the host does not explain the counts.

    A region that was found in the volume has been chosen for its noise: the most conspicuous of
    many places has a z above 3 in every other series without any feature.

    References
    ----------
    .. [1] P. McCullagh, J. A. Nelder, Generalized Linear Models, 2nd ed. (1989), sec. 6.2.3.
    .. [2] R. Lugannani, S. Rice, Adv. Appl. Probab. 12 (1980) 475, doi:10.2307/1426607.
    .. [3] O. E. Barndorff-Nielsen, Biometrika 73 (1986) 307, doi:10.1093/biomet/73.2.307.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> z, y, x = (grid + 0.5 for grid in np.ogrid[-12:12, -4:4, -12:12])
    >>> host = (z**2 + x**2 + 0 * y < 100).astype(float)
    >>> grain = (z - 2.5) ** 2 + y**2 + x**2 < 6
    >>> projector = mt.projector(mt.TiltGeometry(np.arange(-70, 71, 10), 24))
    >>> images = projector((host + 2 * grain).transpose(0, 2, 1)).transpose(0, 2, 1)
    >>> counts = {"Au": np.random.default_rng(0).poisson(images)}
    >>> eds = mt.TiltSeriesEDS.from_maps(counts, tilts=np.arange(-70, 71, 10))
    >>> volume = eds.reconstruct_sirt(20, depth=None, show_progressbar=False)
    >>> found = eds.evidence(volume, mt.Ellipsoid((11.5, 3.5, 2.5), 2.4), "Au")
    >>> bool(found.z[0] > 5)
    True
    """
    given = {"mask": mask, "initial": initial, "background": background}
    data = VolumeAndCounts.of(series, volume, haadf, outline, given)
    elements = data.chosen(element)
    check_factors(factors, data.elements)
    if isinstance(region, str):
        if region != "features":
            raise ValueError(
                f"region={region!r} must be 'features', an Ellipsoid, a Box, a mask or some of them"
            )
        if found_in is not None:
            raise ValueError("'features' are found on counts of their own: leave out found_in=")
        return _features(data, elements, diameter_of(data, size), tried, factors, outline, given)
    if size is not None:
        raise ValueError(f"size={size} is that of 'features'; regions have their own: leave it out")
    regions = data.regions(region)
    number = max(tried, len(regions) * len(elements))
    rows, misfit = [], {}
    for name in elements:
        hosts = data.hosts(name)
        misfit[name] = checked_misfit(hosts[0], name)
        for title, one in regions.items():
            chance = None
            if found_in is not None:
                chance = LargestByChance.of(Scan.of(data.plain_host(name), one))
            row = row_of(data, hosts, title, one, name, factors, chance)
            rows.append(corrected(row, number))
    return Evidence(
        tuple(rows),
        volume.quantity or "counts / length",
        number if found_in is None else "the largest of all places in the outline",
        misfit,
        data.record(),
        picture_of(data, regions),
    )


def _features(
    data: VolumeAndCounts,
    elements: Sequence[str],
    diameter: float,
    tried: int,
    factors: Mapping[str, float] | None,
    outline,
    given: Mapping[str, Any],
) -> Evidence:
    """Return the evidence for what is found on a half of the counts, tested on the other."""
    halves = Halves.of(data, outline, given)
    balls = {name: proposed(halves.first, name, diameter) for name in elements}
    number = max(tried, sum(map(len, balls.values())))
    rows, regions, misfit = [], {}, {}
    for name, found in balls.items():
        hosts = halves.second.hosts(name)
        misfit[name] = checked_misfit(hosts[0], name)
        for place, region in enumerate(found, 1):
            title = f"{name} {place}"
            regions[title] = region
            rows.append(
                corrected(row_of(halves.second, hosts, title, region, name, factors), number)
            )
    return Evidence(
        tuple(rows),
        data.volume.quantity or "counts / length",
        max(number, 1),
        misfit,
        data.record() | {"features": {"diameter": diameter, "share_of_counts": 0.5}},
        picture_of(data, regions),
    )


def row_of(
    data: VolumeAndCounts,
    hosts: Sequence[Host],
    title: str,
    region: np.ndarray,
    element: str,
    factors: Mapping[str, float] | None = None,
    chance: Callable[[float], float] | None = None,
) -> RegionEvidence:
    """Return the evidence for an element in a region (z, x, y), not corrected for others.

    `chance` returns the probability of a score among all places.
    """
    around = Neighbourhood.of(region, hosts[0].outline)
    rays = LocalRays.of(hosts[0], around)
    tests = [host.contrast(around, rays) for host in hosts]
    first, p = tests[0], two_sided(tests[0].z)
    inside = data.volumes[(slice(None), *around.box)][:, around.shell].mean(axis=1)
    levels = dict(zip(data.channels, inside.tolist(), strict=True))
    return RegionEvidence(
        title,
        element,
        first.value,
        first.sd,
        first.z,
        tests[1].z,
        tests[2].z,
        first.limits,
        levels[element],
        float(first.value * (hosts[0].sensitivity * rays.region).sum()),
        p,
        p if chance is None else chance(first.score),
        int(region.sum()),
        data.centre_of(region),
        **_percent(first, element, levels, factors, data.elements),
    )


def corrected(row: RegionEvidence, tried: int) -> RegionEvidence:
    """Return a row with its probability among several."""
    return replace(row, p_corrected=of_several(row.p_corrected, tried))


def checked_misfit(host: Host, element: str) -> float:
    """Return the misfit of a host, with a warning where it does not explain the counts."""
    misfit = host.fit.misfit
    if not host.fit.explains:
        warn(
            f"the counts of {element} are not explained by the specimen around the regions: "
            f"squared residuals are {misfit:.2f} times their variance. Alignment, outline, gains "
            "or structure that no other channel has may be the reason, and z may be too large"
        )
    return misfit


def picture_of(data: VolumeAndCounts, regions: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return what a figure of the evidence draws beside the numbers."""
    return {
        "volumes": dict(zip(data.channels, data.volumes, strict=True)),
        "regions": regions,
        "pixel_size": data.volume.pixel_size,
    }


def check_factors(factors: Mapping[str, float] | None, elements: Sequence[str]) -> None:
    """Raise an error for factors that are not those of all elements."""
    if factors is None:
        return
    missing = [name for name in elements if name not in factors]
    if missing or min(factors.values()) <= 0:
        raise ValueError(
            f"factors= needs a positive k-factor of each of {', '.join(elements)}; got {factors}"
        )


def _percent(
    test: Contrast,
    element: str,
    levels: Mapping[str, float],
    factors: Mapping[str, float] | None,
    elements: Sequence[str],
) -> dict[str, Any]:
    """Return contrast, its standard deviation and limits in weight percent."""
    if factors is None:
        return {}
    weighted = np.array([factors[name] * max(levels[name], 0.0) for name in elements])
    contrasts = (test.value, *test.limits)
    (value, *limits), sd = in_percent(
        contrasts, test.sd, elements.index(element), weighted, factors[element]
    )
    return {"percent": value, "percent_sd": sd, "percent_limit": tuple(limits)}

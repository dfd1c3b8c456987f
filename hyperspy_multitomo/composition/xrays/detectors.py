# SPDX-License-Identifier: GPL-3.0-or-later
"""X-ray detectors around the specimen: directions at every tilt, and shadowing by the holder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["XRayDetector", "detectors_from", "relative_weights", "shadowing_gains", "super_x"]


@dataclass(frozen=True)
class XRayDetector:
    """An X-ray detector, fixed in the microscope while the specimen tilts.

    Laboratory axes: x across the tilt axis, y along it, z towards the electron source, as in the
    untilted volume. A positive tilt turns the specimen's upper surface towards +x, where a detector
    of azimuth 0 is.

    Attributes
    ----------
    azimuth : float
        Degrees around z, from +x (0) towards +y (90).
    elevation : float
        Degrees above the plane of x and y, -90 to 90.
    solid_angle : float, optional
        sr. Without it a detector is a point, with the same weight as the others.
    name : str, default ""

    Raises
    ------
    ValueError
        If an angle is not finite, the elevation is outside of -90 to 90 degrees, or the solid angle
        of 0 to 2 pi.

    Examples
    --------
    >>> detector = XRayDetector(azimuth=0, elevation=18)
    >>> detector.take_off_angle(30).round(6)
    np.float64(48.0)
    >>> detector.direction(0).round(3)
    array([0.951, 0.   , 0.309])
    """

    azimuth: float
    elevation: float
    solid_angle: float | None = None
    name: str = ""

    def __post_init__(self):
        for field in ("azimuth", "elevation", "solid_angle"):
            value = getattr(self, field)
            if field == "solid_angle" and value is None:
                continue
            if not isinstance(value, Real) or isinstance(value, bool) or not np.isfinite(value):
                raise ValueError(
                    f"the {field.replace('_', ' ')} is {value!r}; expected a finite number"
                )
            object.__setattr__(self, field, float(value))
        if not -90 <= self.elevation <= 90:
            raise ValueError(
                f"the elevation is {self.elevation:g}; expected degrees above the specimen's "
                "plane, -90 to 90"
            )
        if self.solid_angle is not None and not 0 < self.solid_angle <= 2 * np.pi:
            raise ValueError(
                f"the solid angle is {self.solid_angle:g}; expected steradians, above 0 and up to "
                "2 pi"
            )

    def direction(self, tilt: ArrayLike) -> np.ndarray:
        """Return the unit vector towards the detector in the specimen's coordinates.

        Parameters
        ----------
        tilt : float or array_like (...,)
            Degrees.

        Returns
        -------
        numpy.ndarray (..., 3)
            (x, y, z) of the volume.

        Examples
        --------
        Tilted by 90 degrees, the specimen faces a detector at +x.

        >>> bool(np.allclose(XRayDetector(0, 0).direction(90), [0, 0, 1]))
        True
        """
        tilt = np.deg2rad(np.asarray(tilt, dtype=np.float64))
        azimuth, elevation = np.deg2rad(self.azimuth), np.deg2rad(self.elevation)
        x, y, z = (
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
        )
        cos, sin = np.cos(tilt), np.sin(tilt)
        return np.stack([x * cos - z * sin, np.full_like(tilt, y), x * sin + z * cos], axis=-1)

    def take_off_angle(self, tilt: ArrayLike) -> np.ndarray:
        """Return the angle between the specimen's upper surface and the direction to the detector.

        Parameters
        ----------
        tilt : float or array_like (...,)
            Degrees.

        Returns
        -------
        numpy.ndarray (...,)
            Degrees; negative if the detector is below the surface (the plane of the specimen's x
            and y). As `exspy.utils.eds.take_off_angle`.

        Examples
        --------
        >>> XRayDetector(180, 18).take_off_angle([-30, 0, 30]).round(6)
        array([ 48.,  18., -12.])
        """
        return np.rad2deg(np.arcsin(np.clip(self.direction(tilt)[..., 2], -1, 1)))


def super_x(solid_angle: float = 0.7, elevation: float = 18.0) -> tuple[XRayDetector, ...]:
    """Return four detectors around the specimen, at azimuths of 45, 135, 225 and 315 degrees.

    Parameters
    ----------
    solid_angle : float, default 0.7
        Of all four together, sr.
    elevation : float, default 18.0
        Degrees.

    Returns
    -------
    tuple of XRayDetector

    Raises
    ------
    ValueError
        As `XRayDetector`.

    References
    ----------
    P. Schlossmacher, D.O. Klenov, B. Freitag, H.S. von Harrach, Microsc. Today 18 (2010) 14,
    doi:10.1017/S1551929510000404.

    Examples
    --------
    >>> [detector.azimuth for detector in super_x()]
    [45.0, 135.0, 225.0, 315.0]
    """
    return tuple(
        XRayDetector(45.0 + 90 * i, elevation, solid_angle / 4, f"Super-X {i + 1}")
        for i in range(4)
    )


def detectors_from(spec) -> tuple[XRayDetector, ...]:
    """Return detectors from any description of them.

    Parameters
    ----------
    spec : XRayDetector, str, mapping, tuple, or sequence of these
        ``"super-x"``; a mapping of the fields of `XRayDetector`; or (azimuth, elevation[,
        solid_angle]) in degrees and sr.

    Returns
    -------
    tuple of XRayDetector

    Raises
    ------
    ValueError
        If it is none of these or empty, or only some of the detectors have a solid angle.

    Examples
    --------
    >>> len(detectors_from("super-x"))
    4
    >>> detectors_from([(0, 20), (180, 20)])[1].azimuth
    180.0
    >>> detectors_from({"azimuth": 90, "elevation": 22, "solid_angle": 0.13})[0].solid_angle
    0.13
    """
    detectors = tuple(_parsed(spec))
    if not detectors:
        raise ValueError("there are no detectors; give at least one, or 'super-x'")
    known = sum(detector.solid_angle is not None for detector in detectors)
    if 0 < known < len(detectors):
        raise ValueError(
            f"{known} of {len(detectors)} detectors have a solid angle; give it for all of them or "
            "for none"
        )
    return detectors


def _parsed(spec) -> Sequence[XRayDetector]:
    if isinstance(spec, XRayDetector):
        return [spec]
    if isinstance(spec, str):
        if spec.lower().replace("_", "-").replace(" ", "-") not in ("super-x", "superx"):
            raise ValueError(
                f"unknown detector {spec!r}; use 'super-x', or give azimuth and elevation in "
                "degrees"
            )
        return super_x()
    if isinstance(spec, Mapping):
        unknown = set(spec) - set(XRayDetector.__dataclass_fields__)
        if unknown or not {"azimuth", "elevation"} <= set(spec):
            raise ValueError(
                f"a detector is described by {sorted(spec)}; expected azimuth and elevation, and "
                "perhaps solid_angle and name"
            )
        return [XRayDetector(**spec)]
    if (isinstance(spec, Sequence) and not isinstance(spec, bytes)) or (
        isinstance(spec, np.ndarray) and spec.ndim in (1, 2)
    ):
        if len(spec) and all(isinstance(value, Real) for value in spec):
            if len(spec) not in (2, 3):
                raise ValueError(
                    f"a detector is given as {tuple(spec)}; expected (azimuth, elevation) or with "
                    "the solid angle third"
                )
            azimuth, elevation, *solid_angle = map(float, spec)
            return [XRayDetector(azimuth, elevation, solid_angle[0] if solid_angle else None)]
        return [detector for part in spec for detector in _parsed(part)]
    raise ValueError(
        f"the detectors are {spec!r}; expected an XRayDetector, 'super-x', (azimuth, elevation[, "
        "solid_angle]), or a list of them"
    )


def relative_weights(detectors: Sequence[XRayDetector]) -> np.ndarray:
    """Return the fraction of each detector in the total solid angle, equal if there is none.

    Parameters
    ----------
    detectors : sequence of XRayDetector
        From `detectors_from`.

    Returns
    -------
    numpy.ndarray (detector,)
        Of sum 1.

    Examples
    --------
    >>> relative_weights(super_x())
    array([0.25, 0.25, 0.25, 0.25])
    """
    weights = np.array(
        [1.0 if detector.solid_angle is None else detector.solid_angle for detector in detectors]
    )
    return weights / weights.sum()


def shadowing_gains(
    detectors, tilts: ArrayLike, horizon: float | tuple[float, float] = 0.0
) -> np.ndarray:
    """Return the fraction of the detectors' solid angle that the holder does not shadow, per tilt.

    The holder tilts with the specimen. On each side of the tilt axis it has a straight wall
    parallel to the axis, which hides directions below an angle above the specimen's plane. A
    detector is a flat disc that faces the specimen, of the half angle acos(1 - Omega / 2 pi); its
    visible part is a segment of the disc.

    Parameters
    ----------
    detectors : XRayDetector, sequence, or "super-x"
        See `detectors_from`. Without solid angles they are points of equal weight.
    tilts : array_like (tilt,)
        Degrees.
    horizon : float or (float, float), default 0.0
        Angle of the walls above the specimen's plane, degrees, -90 to 90: one for both sides, or
        one each for +x and -x. With 0 only directions below the specimen's plane are hidden.

    Returns
    -------
    numpy.ndarray (tilt,)
        1 without shadowing, 0 if all is hidden; the mean over the tilts is not normalised.

    Raises
    ------
    ValueError
        If tilts are not finite, or an angle is outside of -90 to 90 degrees.

    Notes
    -----
    This is a model of two straight walls. Real holders have ends, clamps and grid bars, and their
    walls depend on the position of the specimen. Gains measured against the HAADF
    (`acquisition.eds_gains`) include these; the model is for planning, for series without HAADF,
    and to distinguish shadowing from absorption. If both walls cut one disc, only the higher one
    counts.

    References
    ----------
    C.S.M. Yeoh, D. Rossouw, Z. Saghi, P. Burdet, R.K. Leary, P.A. Midgley, Microsc. Microanal. 21
    (2015) 759, doi:10.1017/S1431927615000227.

    Examples
    --------
    >>> shadowing_gains(XRayDetector(0, 18, solid_angle=0.2), [-60, -18, 0, 30]).round(3)
    array([0. , 0.5, 1. , 1. ])
    """
    detectors, tilts = detectors_from(detectors), np.asarray(tilts, dtype=np.float64)
    if tilts.ndim != 1 or not np.isfinite(tilts).all():
        raise ValueError(
            f"`tilts` has the shape {tilts.shape}; expected a list of finite angles in degrees"
        )
    walls = np.asarray(horizon, dtype=np.float64)
    if walls.shape not in ((), (2,)) or not (
        np.isfinite(walls).all() and (np.abs(walls) <= 90).all()
    ):
        raise ValueError(
            f"the horizon is {horizon!r}; expected degrees, -90 to 90, one number or one for each "
            "of +x and -x"
        )
    right, left = np.deg2rad(np.broadcast_to(walls, (2,)))
    # The visible wedge is the intersection of the half spaces above the walls, or their union if it
    # is wider than a half space.
    together = np.minimum if right + left >= 0 else np.maximum
    gains = np.zeros(tilts.size)
    for detector, weight in zip(detectors, relative_weights(detectors), strict=True):
        x, _, z = np.moveaxis(detector.direction(tilts), -1, 0)
        above = together(z * np.cos(right) - x * np.sin(right), z * np.cos(left) + x * np.sin(left))
        gains += weight * _visible(np.arcsin(np.clip(above, -1, 1)), detector.solid_angle)
    return gains


def _visible(above: np.ndarray, solid_angle: float | None) -> np.ndarray:
    """Return the visible fraction of a disc, its centre `above` (radians) over a straight edge."""
    if solid_angle is None:
        # Rounding must not decide about a detector exactly on the edge.
        return np.where(np.abs(above) < 1e-9, 0.5, (above > 0).astype(float))
    half_angle = np.arccos(1 - solid_angle / (2 * np.pi))
    # The plane through specimen and edge cuts the flat disc along a line at this distance, in
    # radii, from its centre.
    distance = np.clip(np.tan(above) / np.tan(half_angle), -1, 1)
    return 1 - (np.arccos(distance) - distance * np.sqrt(1 - distance**2)) / np.pi

# SPDX-License-Identifier: GPL-3.0-or-later
"""The alignment of a tilt series as an immutable value: edit, combine, transfer, save, load."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.acquisition.same_tilt import SAME_VIEW, match_tilts
from hyperspy_multitomo.alignment.alignment_files import (
    named_errors,
    pixel_of_shifts,
    read,
    tilts_of_shifts,
    write,
)
from hyperspy_multitomo.alignment.apply import Placing
from hyperspy_multitomo.alignment.quality import AlignmentQuality
from hyperspy_multitomo.alignment.resampling import rotation_matrix
from hyperspy_multitomo.arguments import checked, real
from hyperspy_multitomo.parameters import array
from hyperspy_multitomo.tomography.specimen import Specimen

__all__ = ["Alignment"]

# Signs of (across, along) after the images have been flipped.
ORIENTATIONS = {"same": (1, 1), "flip_x": (-1, 1), "flip_y": (1, -1), "rotate_180": (-1, -1)}


@checked(
    across=array,
    along=array,
    tilts=array,
    drift=array,
    axis_offset=real,
    rotation=real,
    pixel_size=real,
)
@dataclass(frozen=True, eq=False)
class Alignment(Placing):
    """Shifts per tilt, in-plane rotation and position of the tilt axis.

    The shifts (and the drift during the scan, where there is one) come first, in the unrotated
    frame; then the rotation about the image centre (n-1)/2. The offset is the position of the tilt
    axis in the images so aligned; it moves nothing and goes into the projection geometry. An
    alignment is immutable: methods that change it return another one.

    Parameters
    ----------
    across, along : array_like (tilt,)
        Added to the object's position x (across the tilt axis) and y (along it) to align it, px:
        ``aligned = shift(image, (across, along))``.
    axis_offset : float, default 0
        The tilt axis of the aligned images is at x = (n-1)/2 + axis_offset, px.
    rotation : float, default 0
        In-plane rotation in degrees, positive from +x towards +y.
    tilts : array_like (tilt,), optional
        Degrees; needed to transfer the alignment to a series of other tilts.
    pixel_size : float, optional
        nm; needed to transfer it to a series of other pixels.
    drift : array_like (tilt, 2), optional
        Drift (x, y) during the scan, px per scan line. Times the distance (lines) from the middle
        of the scan, it is added to the shifts.
    slow_axis : {"y", "x"}, default "y"
        Direction in which the scan goes from line to line.
    quality : AlignmentQuality, optional
        Standard errors and residuals of a measured alignment.
    specimen : Specimen, optional
        Shape and extent of the specimen, px, as the alignment found them: reconstructions take
        their depth and width from it.

    Raises
    ------
    ValueError
        If the numbers of shifts differ or a value is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((1, 5, 3)); image[0, 1, 1] = 1.0
    >>> alignment = Alignment(across=[2.0], along=[-1.0])
    >>> np.argwhere(alignment.apply(image))
    array([[0, 3, 0]])
    >>> alignment.geometry_shifts
    array([-2.])
    """

    across: np.ndarray
    along: np.ndarray
    axis_offset: float = 0.0
    rotation: float = 0.0
    tilts: np.ndarray | None = None
    pixel_size: float | None = None
    drift: np.ndarray | None = None
    slow_axis: str = "y"
    quality: AlignmentQuality | None = None
    specimen: Specimen | None = None

    def __post_init__(self) -> None:
        for name in ("across", "along"):
            _freeze(self, name, _finite_shifts(name, getattr(self, name)))
        count = len(self.across)
        if count != len(self.along):
            raise ValueError(
                f"`across` has {count} shifts and `along` {len(self.along)}; give one of each per "
                "tilt"
            )
        for name in ("axis_offset", "rotation"):
            value = float(getattr(self, name))
            if not np.isfinite(value):
                raise ValueError(f"`{name}` is {value}; it has to be finite")
            object.__setattr__(self, name, value)
        for name, shape in (("tilts", (count,)), ("drift", (count, 2))):
            if getattr(self, name) is not None:
                _freeze(self, name, _finite_array(name, getattr(self, name), shape))
        if self.drift is not None and not self.drift.any():
            object.__setattr__(self, "drift", None)
        self._check_settings()

    def _check_settings(self) -> None:
        """Raise an error for a wrong scan direction, pixel size, or number of tilts."""
        count = len(self.across)
        if self.slow_axis not in ("x", "y"):
            raise ValueError(f"`slow_axis` is {self.slow_axis!r}; expected 'x' or 'y'")
        if self.pixel_size is not None and not (
            np.isfinite(self.pixel_size) and self.pixel_size > 0
        ):
            raise ValueError(
                f"`pixel_size` is {self.pixel_size!r}; expected a positive length in nm"
            )
        if self.quality is not None and self.quality.tilt_counts != {count}:
            raise ValueError(
                f"`quality` is of {self.quality.tilt_counts} tilts but there are {count} shifts"
            )

    def __len__(self) -> int:
        """Return the number of tilts."""
        return len(self.across)

    def __eq__(self, other: object) -> bool:
        """Compare by the effect on the images: shifts, offset, rotation and drift."""
        return isinstance(other, Alignment) and self._key() == other._key()

    def __hash__(self) -> int:
        """Agree with the comparison by value."""
        return hash(self._key())

    @classmethod
    def identity(cls, tilts: int) -> Alignment:
        """Return the alignment of `tilts` images that are already aligned."""
        return cls(np.zeros(tilts), np.zeros(tilts))

    @classmethod
    def from_dict(cls, held: Mapping[str, Any]) -> Alignment:
        """Return the alignment of a dict from `as_dict`."""
        quality, specimen = held.get("quality"), held.get("specimen")
        parts = {
            "quality": None if quality is None else AlignmentQuality.from_dict(quality),
            "specimen": None if specimen is None else Specimen.from_dict(specimen),
        }
        return cls(**{**held, **parts})

    def as_dict(self) -> dict[str, Any]:
        """Return the known fields as lists and plain numbers."""
        fields: dict[str, Any] = {
            "across": self.across.tolist(),
            "along": self.along.tolist(),
            "axis_offset": self.axis_offset,
            "rotation": self.rotation,
        }
        if self.tilts is not None:
            fields["tilts"] = self.tilts.tolist()
        if self.pixel_size is not None:
            fields["pixel_size"] = float(self.pixel_size)
        if self.drift is not None:
            fields |= {"drift": self.drift.tolist(), "slow_axis": self.slow_axis}
        if self.quality is not None:
            fields["quality"] = self.quality.as_dict()
        if self.specimen is not None:
            fields["specimen"] = self.specimen.as_dict()
        return fields

    @property
    def across_nm(self) -> np.ndarray:
        """Shifts across the axis in nm, (tilt,)."""
        return self.across * self._known_pixel()

    @property
    def along_nm(self) -> np.ndarray:
        """Shifts along the axis in nm, (tilt,)."""
        return self.along * self._known_pixel()

    @property
    def axis_offset_nm(self) -> float:
        """Position of the tilt axis in nm from the middle of the images."""
        return self.axis_offset * self._known_pixel()

    @property
    def suspicious(self) -> np.ndarray:
        """Tilts (degrees, or indices where they are not known) with outstanding residuals.

        Empty where no residuals were measured.
        """
        labels = np.arange(len(self)) if self.tilts is None else self.tilts
        return labels[:0] if self.quality is None else labels[self.quality.suspicious]

    def save(self, path, overwrite: bool | None = None) -> Path:
        """Save to a file that `load` reads, completely or not at all.

        Parameters
        ----------
        path : path-like
            The suffix selects the format: ``.json`` (everything), ``.csv`` (a table to edit: tilt,
            across, along and their errors) or ``.xf`` (IMOD's transforms, without errors and
            specimen). An .xf cannot hold a drift. IMOD expects the tilt axis in the middle, so the
            offset goes into the shifts.
        overwrite : bool, optional
            True replaces an existing file, which is an error otherwise.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        ValueError
            For another suffix.
        FileExistsError
            If the file exists and `overwrite` is not True.
        """
        return write(self.as_dict() | {"slow_axis": self.slow_axis}, path, overwrite)

    @classmethod
    def load(cls, path, tilts=None, pixel_size: float | None = None) -> Alignment:
        """Read a file of shifts.

        Parameters
        ----------
        path : path-like
            The JSON, CSV or ``.xf`` file of `save`, shifts made in tomviz (JSON, a list of pairs),
            or IMOD's ``.xf``.
        tilts : array_like (tilt,) or path-like, optional
            Degrees, or a file that lists them (``.tlt``, ``.rawtlt``), for files without tilts:
            those of tomviz and IMOD. For an ``.xf``, the ``.tlt`` or ``.rawtlt`` of the same name
            is the default.
        pixel_size : float, optional
            nm, for files without it.

        Returns
        -------
        Alignment

        Raises
        ------
        ValueError
            For other files, with what was found in them.

        Notes
        -----
        Tomviz counts y from the bottom of the image, HyperSpy from the top: the sign of ``along``
        changes. Rows of MRC images are as IMOD numbers them. Tomviz: https://tomviz.org; IMOD: J.
        R. Kremer et al., J. Struct. Biol. 116 (1996) 71, https://doi.org/10.1006/jsbi.1996.0013.
        """
        path = Path(path)
        fields = read(path)
        with named_errors(path):
            try:
                alignment = cls.from_dict(fields)
            except TypeError as error:
                raise ValueError(f"not what was saved: {error}") from None
            return replace(
                alignment,
                tilts=tilts_of_shifts(path, alignment.tilts, len(alignment), tilts),
                pixel_size=pixel_of_shifts(alignment.pixel_size, pixel_size),
            )

    def subset(self, tilts: slice | ArrayLike) -> Alignment:
        """Return the alignment of some of the tilts: a slice, indices or a boolean mask."""
        chosen = tilts if isinstance(tilts, slice) else np.asarray(tilts)
        return replace(
            self,
            across=self.across[chosen],
            along=self.along[chosen],
            tilts=None if self.tilts is None else self.tilts[chosen],
            drift=None if self.drift is None else self.drift[chosen],
            quality=None if self.quality is None else self.quality.subset(chosen),
        )

    def with_shift(
        self, tilt: float, *, across: float | None = None, along: float | None = None
    ) -> Alignment:
        """Return the alignment with the shift of one tilt set by hand.

        Parameters
        ----------
        tilt : float
            Degrees, within half a degree.
        across, along : float, optional
            The new shifts, px; by default the present one.

        Returns
        -------
        Alignment
            Its quality has no errors and residual for that tilt.

        Raises
        ------
        ValueError
            Where the tilts are not known, or there is no such tilt.

        Examples
        --------
        >>> alignment = Alignment([0.0, 1.0], [2.0, 3.0], tilts=[-10, 10])
        >>> alignment.with_shift(10, along=2.5).along
        array([2. , 2.5])
        """
        place = self._places([tilt])[0]
        shifts = np.stack([self.across, self.along])
        for row, value in zip(shifts, (across, along), strict=True):
            if value is not None:
                row[place] = value
        return replace(
            self,
            across=shifts[0],
            along=shifts[1],
            quality=None if self.quality is None else self.quality.forgetting(place),
        )

    def then(self, other: Alignment) -> Alignment:
        """Return this alignment followed by another one as a single alignment.

        Parameters
        ----------
        other : Alignment
            Measured on images to which this alignment has been applied: as many tilts, the same
            pixels, without a drift.

        Returns
        -------
        Alignment
            With the axis, the quality and the specimen of `other`. Applying it resamples once.

        Raises
        ------
        ValueError
            For another number of tilts, other pixels, or a drift in the second.

        Examples
        --------
        >>> first = Alignment([1.0], [0.0], rotation=90.0)
        >>> second = Alignment([0.0], [2.0], axis_offset=3.0)
        >>> both = first.then(second)
        >>> both.across.round(6), both.along.round(6), both.rotation, both.axis_offset
        (array([3.]), array([0.]), 90.0, 3.0)
        """
        if len(self) != len(other):
            raise ValueError(
                f"the first alignment has {len(self)} tilts and the second {len(other)}; both need "
                "the same"
            )
        for name in ("tilts", "pixel_size"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine is not None and theirs is not None and not np.allclose(mine, theirs, rtol=1e-3):
                raise ValueError(
                    f"the {name} of the two alignments differ, {mine} and {theirs}; use `transfer` "
                    "on one of them"
                )
        if other.drift is not None:
            raise ValueError(
                "the second alignment has a drift, which has to come first: it belongs to the "
                "images as recorded"
            )
        # R2 (R1 (v + s1) + s2) = R2 R1 (v + s1 + R1' s2), about the centre.
        shifts = np.stack([self.across, self.along]) + rotation_matrix(
            math.radians(-self.rotation)
        ) @ np.stack([other.across, other.along])
        return replace(
            self,
            across=shifts[0],
            along=shifts[1],
            axis_offset=other.axis_offset,
            rotation=self.rotation + other.rotation,
            tilts=other.tilts if self.tilts is None else self.tilts,
            pixel_size=other.pixel_size if self.pixel_size is None else self.pixel_size,
            quality=other.quality,
            specimen=other.specimen,
        )

    def inverse(self) -> Alignment:
        """Return the alignment that moves aligned images back to where they were recorded.

        Returns
        -------
        Alignment
            Without an axis offset, which images as recorded do not have: ``a.then(a.inverse())`` is
            the identity.

        Raises
        ------
        ValueError
            For an alignment with a drift, whose inverse would have to rotate first.
        """
        if self.drift is not None:
            raise ValueError(
                "an alignment with a drift has no inverse of this kind; keep the images as "
                "recorded instead"
            )
        shifts = -rotation_matrix(math.radians(self.rotation)) @ np.stack([self.across, self.along])
        return Alignment(shifts[0], shifts[1], 0.0, -self.rotation, self.tilts, self.pixel_size)

    def transfer(
        self,
        tilts: ArrayLike | None = None,
        pixel_size: float | None = None,
        *,
        orientation: str = "same",
        interpolate: bool = False,
    ) -> Alignment:
        """Return the alignment for another modality of the same field of view.

        Parameters
        ----------
        tilts : array_like (tilt,), optional
            Degrees of the other series: a part of those of this alignment, within half a degree, or
            with `interpolate` any between.
        pixel_size : float, optional
            nm, of the other series.
        orientation : {"same", "flip_x", "flip_y", "rotate_180"}, default "same"
            Orientation of the other images relative to those on which this was measured.
        interpolate : bool, default False
            Interpolate shifts linearly at other tilts. This is right for a slow drift of the
            stage, not for the jumps that most stages make from tilt to tilt.

        Returns
        -------
        Alignment

        Raises
        ------
        ValueError
            For tilts without shifts, which are named, or where tilts or pixel size of this
            alignment are not known.

        Examples
        --------
        >>> known = {"tilts": [-20, 0, 20], "pixel_size": 0.5}
        >>> haadf = Alignment([0.0, 2.0, 4.0], [1.0, 1.0, 2.0], axis_offset=6.0, **known)
        >>> eds = haadf.transfer([-20, 20], pixel_size=1.0)
        >>> eds.across, eds.axis_offset
        (array([0., 2.]), 3.0)
        """
        if orientation not in ORIENTATIONS:
            raise ValueError(
                f"orientation={orientation!r} must be one of {', '.join(map(repr, ORIENTATIONS))}"
            )
        found = (
            self if tilts is None else self._at(np.asarray(tilts, dtype=np.float64), interpolate)
        )
        if pixel_size is not None:
            found = found._in_pixels_of(pixel_size)
        sign_x, sign_y = ORIENTATIONS[orientation]
        drift = found.drift
        if drift is not None:
            # A flip of the slow axis also reverses the distance from the middle of the scan.
            drift = drift * (sign_x, sign_y) * (sign_y if self.slow_axis == "y" else sign_x)
        return replace(
            found,
            across=sign_x * found.across,
            along=sign_y * found.along,
            axis_offset=sign_x * found.axis_offset,
            rotation=sign_x * sign_y * found.rotation,
            drift=drift,
        )

    def _known_pixel(self) -> float:
        if self.pixel_size is None:
            raise ValueError(
                "the pixel size of this alignment is not known; set it: dataclasses.replace(a, "
                "pixel_size=...)"
            )
        return float(self.pixel_size)

    def _places(self, tilts: ArrayLike) -> np.ndarray:
        """Return the indices of some tilts; an error names the missing ones."""
        tilts = np.asarray(tilts, dtype=np.float64)
        if self.tilts is None:
            raise ValueError(
                "the tilts of this alignment are not known; give it as tilts= when it is made or "
                "loaded"
            )
        places = match_tilts(tilts, self.tilts, SAME_VIEW)
        missing = tilts[places < 0]
        if missing.size:
            raise ValueError(
                f"the alignment has no shifts for the tilts {missing} degrees; it has "
                f"{self.tilts}. Is it of another series? "
                "Leave these tilts out (drop_tilts), or pass interpolate=True if the stage drifted "
                "slowly"
            )
        return places

    def _at(self, tilts: np.ndarray, interpolate: bool) -> Alignment:
        if not interpolate:
            if self.tilts is None and tilts.size == len(self):
                return replace(self, tilts=tilts)
            if self.tilts is None:
                raise ValueError(
                    f"the alignment has shifts for {len(self)} tilts but the series has "
                    f"{tilts.size}, and it does not say for "
                    "which: give its tilts="
                )
            return replace(self.subset(self._places(tilts)), tilts=tilts)
        if self.tilts is None or self.drift is not None:
            raise ValueError(
                "to interpolate, an alignment needs known tilts and no drift during the scans"
            )
        order = np.argsort(self.tilts)
        known = self.tilts[order]
        beyond = tilts[(tilts < known[0] - SAME_VIEW) | (tilts > known[-1] + SAME_VIEW)]
        if beyond.size:
            raise ValueError(
                f"the tilts {beyond} degrees lie outside {known[0]:g} to {known[-1]:g}, where "
                "shifts are known"
            )
        across, along = (
            np.interp(tilts, known, shifts[order]) for shifts in (self.across, self.along)
        )
        return replace(self, across=across, along=along, tilts=tilts, quality=None)

    def _in_pixels_of(self, pixel_size: float) -> Alignment:
        ratio = self._known_pixel() / float(pixel_size)
        return replace(
            self,
            across=self.across * ratio,
            along=self.along * ratio,
            axis_offset=self.axis_offset * ratio,
            pixel_size=float(pixel_size),
            quality=None if self.quality is None else self.quality.scaled(ratio),
            specimen=None if self.specimen is None else self.specimen.scaled(ratio),
        )

    def _key(self) -> tuple:
        drift = None if self.drift is None else (self.slow_axis, self.drift.tobytes())
        return (tuple(self.across), tuple(self.along), self.axis_offset, self.rotation, drift)


def _finite_shifts(name: str, values: ArrayLike) -> np.ndarray:
    shifts = np.array(values, dtype=np.float64)
    if shifts.ndim != 1 or not np.isfinite(shifts).all():
        raise ValueError(f"`{name}` is {shifts}; expected one finite shift in px per tilt")
    return shifts


def _finite_array(name: str, values: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    array = np.array(values, dtype=np.float64)
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(
            f"`{name}` is {array}; expected finite numbers of the shape {shape}, for "
            f"{shape[0]} shifts"
        )
    return array


def _freeze(alignment: Alignment, name: str, values: np.ndarray) -> None:
    values.flags.writeable = False
    object.__setattr__(alignment, name, values)

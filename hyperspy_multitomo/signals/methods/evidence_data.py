# SPDX-License-Identifier: GPL-3.0-or-later
"""A volume with the counts that it was made of, as plain arrays for tests of what it shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hyperspy_multitomo import __version__
from hyperspy_multitomo.composition.particle.threshold import particle_mask
from hyperspy_multitomo.evidence.host import MOVES, Host
from hyperspy_multitomo.evidence.regions import Box, Ellipsoid, grown, named_regions, voxels_of
from hyperspy_multitomo.parameters import shown
from hyperspy_multitomo.reconstruction.recorded_model import RecordedModel
from hyperspy_multitomo.reconstruction.run import Prepared, made_of
from hyperspy_multitomo.signals.gate import plain
from hyperspy_multitomo.signals.masks import mask_array
from hyperspy_multitomo.signals.metadata.length_axes import in_nm
from hyperspy_multitomo.signals.metadata.recorded_arrays import axis_named
from hyperspy_multitomo.signals.methods.reconstruct import Call
from hyperspy_multitomo.signals.methods.rerun import last_reconstruction, verified_call

# Elements that no image shows may be tested with three tilts or more.
_FEWEST_TILTS = 3


@dataclass(frozen=True, eq=False)
class VolumeAndCounts:
    """A volume and the counts that it was made of.

    Attributes
    ----------
    volume : TomographicVolume
    series, haadf : TiltSeries
        As the volume was made of them; the second may be None.
    call : Call
    prepared : Prepared
    model : RecordedModel
    volumes : array (channel, z, x, y)
        Of the volume, in the order of its channels.
    outline : array of bool (z, x, y)
        Of the specimen.
    coordinates : dict of arrays
        Of the voxels' centres along x, y and z.
    """

    volume: Any
    series: Any
    haadf: Any
    call: Call
    prepared: Prepared
    model: RecordedModel
    volumes: np.ndarray
    outline: np.ndarray
    coordinates: Mapping[str, np.ndarray]

    @classmethod
    def of(
        cls, series, volume, haadf=None, outline=None, given: Mapping[str, Any] | None = None
    ) -> VolumeAndCounts:
        """Return a volume with its counts; see `evidence` for what is refused."""
        given = given or {}
        call, prepared = verified_call(volume, haadf, series, **given)
        tilts = len(prepared.problem.data.tilts)
        if tilts < _FEWEST_TILTS:
            raise ValueError(
                f"the series has {tilts} tilts, of which evidence for a place in depth needs "
                f"{_FEWEST_TILTS} or more"
            )
        model = RecordedModel.of(
            prepared.problem.data, prepared.problem.geometry, given.get("background")
        )
        volumes = np.asarray(volume.array("element", "z", "x", "y"), np.float32)
        if volumes.shape != prepared.problem.shape:
            raise ValueError(
                f"the volume {volumes.shape} (element, z, x, y) is a part of what was "
                f"reconstructed, {prepared.problem.shape}: pass the whole volume"
            )
        return cls(
            volume,
            call.series,
            call.haadf,
            call,
            prepared,
            model,
            volumes,
            outline_of(volume, volumes, outline),
            coordinates_of(volume),
        )

    @property
    def elements(self) -> tuple[str, ...]:
        """Of the maps."""
        return tuple(self.prepared.problem.data.channels)

    @property
    def channels(self) -> tuple[str, ...]:
        """Of the volume."""
        return tuple(self.volume.channels)

    def chosen(self, element) -> list[str]:
        """Return the elements that were asked for, all of the maps by default."""
        if element is not None and not isinstance(element, str | list | tuple):
            raise TypeError(
                f"element={shown(element)} must be the name of an element, or a list of names"
            )
        names = [element] if isinstance(element, str) else element
        wanted = self.elements if names is None else tuple(names)
        unknown = [name for name in wanted if name not in self.elements]
        if unknown or not wanted:
            raise ValueError(
                f"element={shown(element)}: the maps hold {', '.join(self.elements)}; name some"
            )
        return list(wanted)

    def others(self, element: str) -> np.ndarray:
        """Return the volumes of the other channels, (channel, z, x, y), those that are not 0."""
        others = [
            one
            for name, one in zip(self.channels, self.volumes, strict=True)
            if name != element and one.any()
        ]
        return np.stack(others) if others else np.zeros((0, *self.outline.shape), np.float32)

    def plain_host(self, element: str) -> Host:
        """Return the host of an element without its own volume, for tests of all places."""
        place, own = self.elements.index(element), self.volumes[self.channels.index(element)]
        outline = grown(self.outline, MOVES[0])
        return Host.of(self.model, place, outline, self.others(element), own, own_is_term=False)

    def hosts(self, element: str) -> list[Host]:
        """Return the host of an element for each outline: shrunk, as given, larger."""
        first, others = self.plain_host(element), self.others(element)
        # Its own volume is noisy and blurred: a term where the counts cannot do without.
        needed = not first.fit.explains
        outlines = [grown(self.outline, move) for move in MOVES]
        return [
            first
            if outline is outlines[0] and not needed
            else Host.of(self.model, first.place, outline, others, first.own, needed)
            for outline in outlines
        ]

    def regions(self, regions) -> dict[str, np.ndarray]:
        """Return regions by name as masks (z, x, y); see `evidence` for what is refused."""
        masks = {}
        shrunk = grown(self.outline, MOVES[0])
        for name, one in named_regions(regions).items():
            what = f"the region {name}"
            if isinstance(one, Ellipsoid | Box):
                mask = voxels_of(one, self.coordinates, what)
            else:
                mask = _mask_of(one, self.outline.shape, what)
            outside = int((mask & ~shrunk).sum())
            if outside:
                raise ValueError(
                    f"{what} touches the rim of the specimen: {outside} of its {mask.sum()} "
                    "voxels are not within the outline shrunk by a voxel, where what belongs to "
                    "it cannot be told from the outline. Make it smaller or move it, or pass a "
                    "larger outline="
                )
            masks[name] = mask
        return masks

    def centre_of(self, mask: np.ndarray) -> tuple[float, float, float]:
        """Return the mean x, y and z of a mask (z, x, y)."""
        places = dict(zip("zxy", np.nonzero(mask), strict=True))
        x, y, z = (float(self.coordinates[axis][places[axis]].mean()) for axis in "xyz")
        return x, y, z

    def record(self) -> dict[str, Any]:
        """Return what a result says of what made it."""
        return {
            "reconstruction": dict(last_reconstruction(self.volume)),
            "made_of": made_of(self.prepared),
            "outline_voxels": int(self.outline.sum()),
            "version": __version__,
        }


def outline_of(volume, volumes: np.ndarray, outline=None) -> np.ndarray:
    """Return the outline of the specimen (z, x, y): what was given, or by its own threshold."""
    if outline is not None:
        mask = mask_array(plain(outline, ("z", "y", "x"), "the outline"), volumes.shape[1:])
        if not mask.any():
            raise ValueError("outline= holds no voxel: pass a mask of the specimen")
        return mask
    places = [volume.channels.index(name) for name in volume.elements]
    return particle_mask(np.maximum(volumes[places].sum(axis=0), 0), "auto")


def coordinates_of(volume) -> dict[str, np.ndarray]:
    """Return the coordinates of the voxels' centres along x, y and z, in nm or px."""
    coordinates = {}
    for name in "xyz":
        axis = axis_named(volume, name)
        scale, offset, _ = in_nm(axis)
        coordinates[name] = offset + scale * np.arange(axis.size)
    return coordinates


def _mask_of(mask, shape: tuple[int, ...], what: str) -> np.ndarray:
    """Return a region that is an array or a signal (z, y, x) as (z, x, y)."""
    values = np.asarray(plain(mask, ("z", "y", "x"), what))
    if values.ndim != 3 or values.swapaxes(1, 2).shape != tuple(shape):
        z, x, y = shape
        raise ValueError(
            f"{what} has the shape {values.shape}, but the volume is {(z, y, x)} (z, y, x)"
        )
    values = values.swapaxes(1, 2)
    if values.dtype != bool and not np.isin(values, (0, 1)).all():
        raise ValueError(f"{what} holds other values than 0 and 1: pass a mask, as in volume > 0.5")
    values = values.astype(bool)
    if not values.any():
        raise ValueError(f"{what} is empty: it holds no voxel")
    return values

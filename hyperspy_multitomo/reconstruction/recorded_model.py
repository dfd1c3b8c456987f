# SPDX-License-Identifier: GPL-3.0-or-later
"""Images at the pixels that were recorded, and what a volume makes one expect there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyperspy_multitomo.acquisition.counts import expected_background
from hyperspy_multitomo.alignment.transform import Alignment
from hyperspy_multitomo.reconstruction.held_out import why_no_counts
from hyperspy_multitomo.reconstruction.tilt_data import TiltData
from hyperspy_multitomo.tomography import Projector, projector


@dataclass(frozen=True, eq=False)
class RecordedModel:
    """Images as recorded, with a model of what a volume makes one expect at their pixels.

    Reconstructions move images into the frame of the geometry, which mixes the noise of pixels;
    here projections are moved to where they were recorded instead, so that counts stay Poisson.

    Attributes
    ----------
    images : array (channel, tilt, x, y)
        Counts as recorded (gross ones where they are kept), or images.
    background : array (channel, tilt, x, y), or 0
        Expected among them.
    sensitivity : array that broadcasts to (channel, tilt, x, y)
        Signal per projected signal: gains, the share of the window, and the transmission.
    project : Projector
        Of the volume's grid.
    alignment : Alignment or None
    """

    images: np.ndarray
    background: np.ndarray | float
    sensitivity: np.ndarray
    project: Projector
    alignment: Alignment | None

    @classmethod
    def of(cls, data: TiltData, geometry, background=None, backend=None) -> RecordedModel:
        """Return the model of a series; a lazy one is read into memory.

        Parameters
        ----------
        data : TiltData
        geometry : TiltGeometry
            Of the volume, with the shifts of the alignment across the axis.
        background : array, optional
            As it was given to the method.
        backend : str, optional
            Of the projector.

        Raises
        ------
        ValueError
            For maps that are no counts as recorded.
        """
        if data.channels and (why := why_no_counts(data)):
            raise ValueError(
                f"this needs counts as recorded, and these maps are none: {why}. Pass the maps as "
                "counted, as elemental_maps makes them"
            )
        images = np.asarray(data.raw, np.float32)
        gross = data.raw is data.gross
        besides: np.ndarray | float | None = data.background_of_pixels(background, images.shape)
        if besides is None:
            besides = expected_background(np.asarray(data.background)) if gross else 0.0
        sensitivity = np.ones((1, len(data.tilts)))
        if data.gains is not None:
            sensitivity = sensitivity * np.atleast_2d(data.gains)
        if gross:
            sensitivity = sensitivity * np.asarray(data.window_share)
        sensitivity = sensitivity[..., None, None].astype(np.float32)
        if data.transmission is not None:
            sensitivity = sensitivity * np.asarray(data.transmission, np.float32)
        return cls(
            images, besides, sensitivity, projector(geometry, backend=backend), data.alignment
        )

    def rays(self, volume: np.ndarray) -> np.ndarray:
        """Return projections (..., tilt, x, y) of volumes (..., z, x, y) at the recorded pixels."""
        leading = volume.shape[:-3]
        rays = self.project(np.asarray(volume, np.float32).reshape(-1, *volume.shape[-3:]))
        if self.alignment is not None:
            rays = self.alignment.apply(rays, for_geometry=True, fill="edge", backward=True)
        return rays.reshape(*leading, *rays.shape[-3:])

    def expected(self, volume: np.ndarray) -> np.ndarray:
        """Return what a volume (channel, z, x, y) makes one expect, shaped as the images."""
        return self.sensitivity * self.rays(volume) + self.background

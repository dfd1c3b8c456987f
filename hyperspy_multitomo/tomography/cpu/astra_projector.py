# SPDX-License-Identifier: GPL-3.0-or-later
"""The "astra_cpu" back-end: ASTRA's 2-D 'linear' projector, slice by slice, as a reference."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np

from hyperspy_multitomo.tomography.projectors import Projector


class AstraCpuProjector(Projector):
    """ASTRA's parallel-beam projector 'linear' on the CPU.

    W. van Aarle et al., Ultramicroscopy 157 (2015) 35, doi:10.1016/j.ultramic.2015.05.002.

    ASTRA's rows run against its vertical axis, ours with z: its vertical coordinate is -z.
    """

    backend = "astra_cpu"

    def __init__(self, geometry, threads=None):
        super().__init__(geometry, threads)
        cos, sin = self.rays.directions.T
        middle = self.rays.origins - (self.rays.detector_width - 1) / 2
        self._sinogram_shape = (len(cos), self.rays.detector_width)
        # Per tilt: direction of the ray, centre of the detector, step from pixel to pixel.
        self._vectors = np.column_stack([sin, cos, -middle * cos, middle * sin, cos, -sin])

    @contextmanager
    def _algorithm(self, kind: str, volume: np.ndarray, projections: np.ndarray):
        """Yield a call that runs ASTRA's algorithm on these arrays (z, x) and (tilt, x)."""
        import astra

        volume_geometry = astra.create_vol_geom(*self.domain_shape)
        geometry = astra.create_proj_geom("parallel_vec", self.rays.detector_width, self._vectors)
        ids = {
            "ProjectorId": astra.create_projector("linear", geometry, volume_geometry),
            "ProjectionDataId": astra.data2d.link("-sino", geometry, projections),
        }
        name = "VolumeDataId" if kind == "FP" else "ReconstructionDataId"
        ids[name] = astra.data2d.link("-vol", volume_geometry, volume)
        algorithm = astra.algorithm.create({**astra.astra_dict(kind), **ids})
        try:
            yield lambda: astra.algorithm.run(algorithm)
        finally:
            astra.algorithm.delete(algorithm)
            astra.data2d.delete([ids["ProjectionDataId"], ids[name]])
            astra.projector.delete(ids["ProjectorId"])

    def _map(self, kind: str, source: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        channels, slices = source.shape[0], source.shape[-1]
        result = np.empty((channels, *shape, slices), np.float32)
        volume, projections = (
            np.zeros(self.domain_shape, np.float32),
            np.zeros(self._sinogram_shape, np.float32),
        )
        input_, output = (volume, projections) if kind == "FP" else (projections, volume)
        with self._algorithm(kind, volume, projections) as run:
            for channel in range(channels):
                for y in range(slices):
                    input_[...] = source[channel, :, :, y]
                    run()
                    result[channel, :, :, y] = output
        # ASTRA's lengths are in voxels.
        return result * np.float32(self.geometry.pixel_size)

    def _project(self, volumes):
        return self._map("FP", volumes, self._sinogram_shape)

    def _back_project(self, projections):
        return self._map("BP", projections, self.domain_shape)

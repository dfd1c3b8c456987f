# SPDX-License-Identifier: GPL-3.0-or-later
"""The HAADF tilt series as a HyperSpy signal, axes ``(tilt | x, y)``."""

from __future__ import annotations

import numpy as np
from hyperspy.signals import LazySignal2D, Signal2D

from . import reconstruct
from .build import build_series, images_and_axes
from .frames import aligned_copy, projections
from .tilt_series import TiltSeries
from .volume import TomographicVolume


class TiltSeriesHAADF(TiltSeries, Signal2D):
    """HAADF-STEM images of one object, one per tilt: axes ``(tilt | x, y)``, array order (tilt, y, x), tilt axis along y."""

    _signal_type = "TiltSeriesHAADF"

    @classmethod
    def from_images(
        cls,
        images,
        tilts=None,
        pixel_size: float | None = None,
        *,
        tilt_axis: str = "y",
        reverse_tilts: bool = False,
        duplicates: str = "error",
    ) -> TiltSeriesHAADF:
        """Make a series from images and their tilts.

        Parameters
        ----------
        images : array-like, dask array, Signal2D or path-like
            Shape (tilt, y, x), in the order of acquisition or any other. A dask array makes a lazy series, a path is read.
        tilts : array-like of float or path-like, optional
            Tilt of each image in degrees, or the file that lists them; by default those of the signal or file.
        pixel_size : float, optional
            In nm; by default that of the signal. Without one lengths are in px.
        tilt_axis : {"y", "x"}, default "y"
            Direction of the tilt axis in `images`; with ``"x"`` the images are transposed, so that it is y here.
        reverse_tilts : bool, default False
            Change the sign of the tilts, for data of the other handedness.
        duplicates : {"error", "merge"}, default "error"
            What to do with images of the same tilt; ``"merge"`` averages images.

        Returns
        -------
        TiltSeriesHAADF
            Sorted by tilt, with the acquisition order in the metadata.

        Raises
        ------
        ValueError
            For the wrong number of tilts, equal, duplicate or NaN tilts, fewer than two, or images that are not finite.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_multitomo as mt
        >>> mt.TiltSeriesHAADF.from_images(np.ones((3, 8, 10)), tilts=[40, 0, -40], pixel_size=0.5)
        <TiltSeriesHAADF, title: HAADF, dimensions: (3|10, 8)>
        """
        data, tilts, pixel_size, metadata = images_and_axes(images, tilts, pixel_size)
        series = build_series(
            cls,
            data,
            tilts,
            pixel_size,
            tilt_axis=tilt_axis,
            reverse_tilts=reverse_tilts,
            duplicates=duplicates,
            metadata=metadata,
            title="HAADF",
        )
        return series

    def aligned(self) -> TiltSeriesHAADF:
        """Return the series with the attached alignment applied to the images (linear interpolation), to look at.

        The copy has its tilt axis in the middle and no alignment attached.
        """
        return aligned_copy(self)

    def reconstruct_sirt(
        self,
        iterations: int = 100,
        *,
        mask=None,
        initial=None,
        depth: float | None = None,
        width: float | None = None,
        tolerance: float | None = None,
        nonnegative: bool = True,
        backend: str | None = None,
        show_progressbar: bool | None = None,
    ) -> TomographicVolume:
        """Reconstruct the HAADF volume by SIRT.

        Parameters
        ----------
        iterations : int, default 100
            How many; exactly so many run unless `tolerance` is given.
        mask : array-like of bool or signal, shape (z, y, x), optional
            Voxels outside it stay zero.
        initial : TomographicVolume or array, shape (z, y, x), optional
            Start from here instead of from zero.
        depth, width : float, optional
            Extent of the volume along z and x in nm (px without calibration); as wide as the detector by default.
            Thinner for a lamella, wider where the specimen leaves the field of view.
        tolerance : float, optional
            Stop when the relative residual changes by less than this from one iteration to the next.
        nonnegative : bool, default True
            Keep the volume from going below zero.
        backend : {"numba", "astra_cpu"}, optional
            The projector; the fastest one by default.
        show_progressbar : bool, optional
            HyperSpy's preference by default.

        Returns
        -------
        TomographicVolume
            Axes ``(z | x, y)``, array order (z, y, x), HAADF signal per nm of path.

        Raises
        ------
        ValueError
            For data that are not finite, shapes that do not fit, or missing axes.

        Notes
        -----
        Non-negative SIRT [1]_: x <- max(0, x + C A^T R (b - A x)). An interrupted run (Ctrl-C, or the stop button of the
        notebook) returns the last whole iterate. Memory: the volume and three copies of the projections.

        References
        ----------
        .. [1] P. Gilbert, J. Theor. Biol. 36 (1972) 105, https://doi.org/10.1016/0022-5193(72)90180-4.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_multitomo as mt
        >>> haadf = mt.TiltSeriesHAADF.from_images(np.ones((3, 4, 8)), tilts=[-40, 0, 40])
        >>> haadf.reconstruct_sirt(iterations=5, show_progressbar=False)
        <TomographicVolume, title: HAADF, dimensions: (8|8, 4)>
        """
        return reconstruct.reconstruct_sirt(
            self,
            iterations,
            mask=mask,
            initial=initial,
            depth=depth,
            width=width,
            tolerance=tolerance,
            nonnegative=nonnegative,
            backend=backend,
            show_progressbar=show_progressbar,
        )

    def estimate_depth(self) -> float:
        """Estimate the depth that the volume of a lamella needs, inclination included, for ``depth=``.

        Returns
        -------
        float
            In nm (px without calibration). See `hyperspy_multitomo.tomography.estimate_depth`; it takes seconds.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_multitomo as mt
        >>> images = np.random.default_rng(0).random((5, 4, 16))
        >>> haadf = mt.TiltSeriesHAADF.from_images(images, tilts=[-40, -20, 0, 20, 40], pixel_size=2.0)
        >>> 8 <= haadf.estimate_depth() <= 32
        True
        """
        from ..tomography import estimate_depth

        return estimate_depth(projections(self)[0], self.geometry(), gains=self.gains)

    def _alignment_images(self) -> np.ndarray:
        return np.asarray(self.array("tilt", "x", "y"), dtype=np.float32)


class LazyTiltSeriesHAADF(TiltSeriesHAADF, LazySignal2D):
    """A `TiltSeriesHAADF` whose data are a dask array."""

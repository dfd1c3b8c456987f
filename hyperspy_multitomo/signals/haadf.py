# SPDX-License-Identifier: GPL-3.0-or-later
"""The HAADF tilt series as a HyperSpy signal, axes ``(tilt | x, y)``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hyperspy.signals import LazySignal2D, Signal2D

from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.signals.arrays import projections
from hyperspy_multitomo.signals.build import build_series
from hyperspy_multitomo.signals.gate import images_of
from hyperspy_multitomo.signals.methods import reconstruct_series
from hyperspy_multitomo.signals.methods.damping import Damping
from hyperspy_multitomo.signals.methods.preprocess import HAADFPreprocessing
from hyperspy_multitomo.signals.tilt_series import TiltSeries


class TiltSeriesHAADF(Damping, HAADFPreprocessing, TiltSeries, Signal2D):
    """HAADF-STEM images of one object, one per tilt: axes ``(tilt | x, y)``, array order (tilt, y, x), tilt axis along y."""

    _signal_type = "TiltSeriesHAADF"

    # Reconstructions with a regulariser.
    reconstruct_tv = reconstruct_series.reconstruct_tv_of_images
    reconstruct_tgv = reconstruct_series.reconstruct_tgv_of_images

    @classmethod
    @checked(tilts=None, pixel_size=None)
    def from_images(
        cls,
        images,
        tilts=None,
        pixel_size: float | Sequence[float] | None = None,
        *,
        tilt_axis: str = "y",
        reverse_tilts: bool = False,
        duplicates: str = "error",
    ) -> TiltSeriesHAADF:
        """Make a series from images and their tilts.

        Parameters
        ----------
        images : array-like, dask array, Signal2D or path-like
            Shape (tilt, y, x), in the order of acquisition or any other. A dask array makes a lazy
            series, a path is read. The axes of a signal may be in any order, if they are called x,
            y and tilt (also width, height, angle, alpha ...); those without a name go by their
            place.
        tilts : array-like of float or path-like, optional
            Tilt of each image in degrees, or the file that lists them; by default those of the
            signal (its axis may be in radians) or file.
        pixel_size : float or (float, float), optional
            In nm, of both sides or (y, x); by default that of the signal, whose offsets are kept.
            Without one lengths are in px.
        tilt_axis : {"y", "x"}, default "y"
            Direction of the tilt axis in `images`; with ``"x"`` the images are transposed, so that
            it is y here.
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
            For the wrong number of tilts, equal, duplicate or NaN tilts, images that are masked,
            not finite or no real numbers, and axes in units that they cannot have.

        Warns
        -----
        UserWarning
            Of tilts without a unit that look like radians, and of units that are none.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_multitomo as mt
        >>> mt.TiltSeriesHAADF.from_images(np.ones((3, 8, 10)), tilts=[40, 0, -40], pixel_size=0.5)
        <TiltSeriesHAADF, title: HAADF, dimensions: (3|10, 8)>
        """
        found = images_of(images, tilts, pixel_size)
        return build_series(
            cls,
            found.data,
            found.tilts,
            found.sides,
            offsets=found.offsets,
            tilt_axis=tilt_axis,
            reverse_tilts=reverse_tilts,
            duplicates=duplicates,
            metadata=found.metadata,
            title="HAADF",
        )

    def estimate_depth(self) -> float:
        """Estimate the depth that the volume of a lamella needs, inclination included, for ``depth=``.

        Returns
        -------
        float
            In nm (px without calibration). See `hyperspy_multitomo.tomography.estimate_depth`; it
            takes seconds.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_multitomo as mt
        >>> images = np.random.default_rng(0).random((5, 4, 16))
        >>> haadf = mt.TiltSeriesHAADF.from_images(images, tilts=[-40, -20, 0, 20, 40], pixel_size=2.0)
        >>> 8 <= haadf.estimate_depth() <= 32
        True
        """
        from hyperspy_multitomo.tomography import estimate_depth

        return estimate_depth(projections(self)[0], self.geometry(), gains=self.gains)

    def _alignment_images(self) -> np.ndarray:
        return np.asarray(self.array("tilt", "x", "y"), dtype=np.float32)


class LazyTiltSeriesHAADF(TiltSeriesHAADF, LazySignal2D):
    """A `TiltSeriesHAADF` whose data are a dask array."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""The reconstructions that every tilt series has, from its own data alone."""

from __future__ import annotations

from . import reconstruct
from .volume import TomographicVolume


class Reconstructions:
    """Mixin of the tilt series: `reconstruct_sirt`."""

    def reconstruct_sirt(
        self,
        iterations: int | None = None,
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
        """Reconstruct by SIRT: the HAADF, or each element from its maps alone.

        Parameters
        ----------
        iterations : int, optional
            How many; exactly so many run unless `tolerance` is given. By default 100 for HAADF images and 50 for elemental maps,
            whose noise grows with the iterations.
        mask : array-like of bool or signal, shape (z, y, x), optional
            Voxels outside it stay zero.
        initial : TomographicVolume or array, shape (z, [element,] y, x), optional
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
            Array order (z, y, x), HAADF signal per nm of path; or (z, element, y, x), counts per nm of path.

        Raises
        ------
        ValueError
            For data that are not finite, shapes that do not fit, or missing axes.

        Notes
        -----
        Non-negative SIRT [1]_: x <- max(0, x + C A^T R (b - A x)). An interrupted run (Ctrl-C, or the stop button of the
        notebook) returns the last whole iterate. Memory: twice the volume and three times the
        projections.

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
            self._ITERATIONS if iterations is None else iterations,
            mask=mask,
            initial=initial,
            depth=depth,
            width=width,
            tolerance=tolerance,
            nonnegative=nonnegative,
            backend=backend,
            show_progressbar=show_progressbar,
        )

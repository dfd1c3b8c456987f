# SPDX-License-Identifier: GPL-3.0-or-later
"""The regularised reconstructions of HAADF images: TV and TGV in noise-equivalent electrons."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike

from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.signals.methods.regularised_solvers import (
    ITERATIONS,
    OVERLAP,
    SLOW_TOLERANCE,
    TOLERANCE,
    Model,
    reconstruct_regularised,
)
from hyperspy_multitomo.signals.volume import TomographicVolume


class RegularisedImages:
    """Mixin of the HAADF series: `reconstruct_tv` and `reconstruct_tgv`."""

    @checked
    def reconstruct_tv(
        self,
        *,
        weight: float = 1.0,
        mu: float | None = None,
        dimensions: int = 3,
        iterations: int = ITERATIONS,
        tolerance: float | None = TOLERANCE,
        data_term: str | None = None,
        haadf_gain: float | None = None,
        background=None,
        mask=None,
        initial=None,
        depth: float | None = None,
        width: float | None = None,
        nonnegative: bool = True,
        support: bool = True,
        backend: str | None = None,
        chunks: int | None = None,
        overlap: int = OVERLAP,
        checkpoint: str | PathLike | None = None,
        resume: str | PathLike | None = None,
        show_progressbar: bool | None = None,
    ) -> TomographicVolume:
        """Reconstruct by total variation (TV): flat regions with sharp edges, for few or noisy images.

        Parameters
        ----------
        weight : float, default 1.0
            How much to smooth, without unit: 1 is the default for the noise of these images, 2
            twice as much.
        mu : float, optional
            Huber's weight of the data, instead of `weight`; see `TiltSeriesEDS.reconstruct_tv`.
        dimensions : {3, 2}, default 3
            2 for slices apart from each other; 3 is better.
        iterations : int, default 500
            How many, at most.
        tolerance : float, default 1e-3
            End when the objective changes by less than this part of it in twenty iterations; None
            to do all `iterations`.
        data_term : {"poisson", "least_squares"}, optional
            Statistics of the images: those of noise-equivalent electrons, which is the default
            where no pixel is negative, or an even noise.
        haadf_gain : float, optional
            Signal of one noise-equivalent electron. By default estimated from the images, and no
            smaller than for a noise of 1 %.
        background : float or array-like, optional
            Signal expected from anything but the specimen, such as the detector's offset, as in
            `reconstruct_em`. Without it an offset is reconstructed as if it were specimen.
        overlap : int, default 16
            For a lazy series in three dimensions: slices on either side that each slab is
            reconstructed with, so that no seam shows between them; see
            `TiltSeriesEDS.reconstruct_tv`.
        support : bool, default True
            Whether to work only on the box of voxels that holds all that there is, and leave 0
            around it: where a coarse reconstruction of the same data shows more than 0.3 % of a
            channel's largest value, and two of its voxels more. It saves the time of the vacuum, in
            volumes from 64^3 voxels of which it is a fifth or more; what `initial` has there is not
            used. Slabs of a lazy series find a box each.
        mask, initial, depth, width, nonnegative, backend, chunks, checkpoint, resume,
        show_progressbar
            As in `reconstruct_sirt`.

        Returns
        -------
        TomographicVolume
            Array order (z, y, x), HAADF signal per nm of path. `TomographicVolume.residuals` have
            the ``"objective"``.

        Raises
        ------
        ValueError
            For weights that are not positive, and what `reconstruct_sirt` refuses.
        MemoryError
            Where the run would need more memory than there is.

        Warns
        -----
        UserWarning
            For smoothed images without a `haadf_gain`.

        Notes
        -----
        See `TiltSeriesEDS.reconstruct_tv`.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_multitomo as mt
        >>> haadf = mt.TiltSeriesHAADF.from_images(np.full((3, 4, 8), 90.0), tilts=[-40, 0, 40])
        >>> haadf.reconstruct_tv(iterations=20, show_progressbar=False)
        <TomographicVolume, title: HAADF, dimensions: (8|8, 4)>
        """
        return reconstruct_regularised(
            self,
            None,
            "reconstruct_tv",
            Model(
                "tv",
                True,
                weight,
                _of_one(mu),
                dimensions,
                4.0,
                data_term,
                None,
                haadf_gain,
                background,
            ),
            iterations=iterations,
            tolerance=tolerance,
            mask=mask,
            initial=initial,
            depth=depth,
            width=width,
            nonnegative=nonnegative,
            support=support,
            backend=backend,
            chunks=chunks,
            overlap=overlap,
            checkpoint=checkpoint,
            resume=resume,
            show_progressbar=show_progressbar,
        )

    @checked
    def reconstruct_tgv(
        self,
        *,
        weight: float = 1.0,
        mu: float | None = None,
        dimensions: int = 3,
        alpha0: float = 4.0,
        iterations: int = ITERATIONS,
        tolerance: float | None = SLOW_TOLERANCE,
        data_term: str | None = None,
        haadf_gain: float | None = None,
        background=None,
        mask=None,
        initial=None,
        depth: float | None = None,
        width: float | None = None,
        nonnegative: bool = True,
        support: bool = True,
        backend: str | None = None,
        chunks: int | None = None,
        overlap: int = OVERLAP,
        checkpoint: str | PathLike | None = None,
        resume: str | PathLike | None = None,
        show_progressbar: bool | None = None,
    ) -> TomographicVolume:
        """Reconstruct by total generalised variation (TGV): smooth slopes with sharp edges, without the steps of TV.

        Parameters
        ----------
        weight, mu, dimensions, iterations, data_term, haadf_gain, background
            As in `reconstruct_tv`.
        alpha0 : float, default 4.0
            How far slopes are preferred to steps, in voxels: small values give more slopes, large
            ones are TV.
        overlap : int, default 16
            As in `reconstruct_tv`.
        tolerance : float, default 1e-4
            As in `reconstruct_tv`; slopes are the last to settle.
        support : bool, default True
            As in `reconstruct_tv`.
        mask, initial, depth, width, nonnegative, backend, chunks, checkpoint, resume,
        show_progressbar
            As in `reconstruct_sirt`.

        Returns
        -------
        TomographicVolume
            As that of `reconstruct_tv`. Unless it is lazy, the last step of its `history` has
            ``slopes``, the part of the gradient that slopes hold, and ``in_effect``, ``"tgv"`` or
            ``"tv"``.

        Raises
        ------
        ValueError, MemoryError
            As `reconstruct_tv`.

        Warns
        -----
        UserWarning
            As `reconstruct_tv`, and where the result is that of TV, as slopes hold less than 2 % of
            the gradient: pass a smaller `alpha0`, or use `reconstruct_tv`. Slabs of a lazy series
            warn when they are computed.

        Notes
        -----
        See `TiltSeriesEDS.reconstruct_tgv`.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_multitomo as mt
        >>> haadf = mt.TiltSeriesHAADF.from_images(np.full((3, 4, 8), 90.0), tilts=[-40, 0, 40])
        >>> haadf.reconstruct_tgv(iterations=20, show_progressbar=False)
        <TomographicVolume, title: HAADF, dimensions: (8|8, 4)>
        """
        return reconstruct_regularised(
            self,
            None,
            "reconstruct_tgv",
            Model(
                "tgv",
                True,
                weight,
                _of_one(mu),
                dimensions,
                alpha0,
                data_term,
                None,
                haadf_gain,
                background,
            ),
            iterations=iterations,
            tolerance=tolerance,
            mask=mask,
            initial=initial,
            depth=depth,
            width=width,
            nonnegative=nonnegative,
            support=support,
            backend=backend,
            chunks=chunks,
            overlap=overlap,
            checkpoint=checkpoint,
            resume=resume,
            show_progressbar=show_progressbar,
        )


def _of_one(mu):
    """Return the mu of the only channel as a sequence, or as it is where its channel is named."""
    return mu if mu is None or isinstance(mu, Mapping) else [mu]

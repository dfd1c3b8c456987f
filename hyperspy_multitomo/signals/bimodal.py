# SPDX-License-Identifier: GPL-3.0-or-later
"""The reconstruction of elemental maps together with the HAADF: HEBT."""

from __future__ import annotations

from collections.abc import Mapping

from ..composition.response import ResponseRatios
from . import methods
from .haadf import TiltSeriesHAADF
from .volume import TomographicVolume


class BimodalReconstructions:
    """Mixin of the series of elemental maps: `reconstruct_hebt`."""

    def reconstruct_hebt(
        self,
        haadf: TiltSeriesHAADF,
        alpha: float = 0.7,
        iterations: int = 100,
        *,
        ratios: ResponseRatios | Mapping[str, float] | None = None,
        rest: bool = False,
        weighting: str = "sirt",
        mask=None,
        initial=None,
        depth: float | None = None,
        width: float | None = None,
        relaxation: float = 1.0,
        stopping: str | None = None,
        noise: float | None = None,
        tolerance: float | None = None,
        nonnegative: bool = True,
        backend: str | None = None,
        show_progressbar: bool | None = None,
    ) -> TomographicVolume:
        """Reconstruct all elements together with the HAADF images: HAADF-EDS bimodal tomography.

        Parameters
        ----------
        haadf : TiltSeriesHAADF
            The HAADF series of the same field of view, with tilts of its own if need be; its pixels are those of the maps, or a
            whole number of them makes one of the maps, whose volume then has the voxels of the HAADF.
        alpha : float, default 0.7
            Weight of the HAADF, between 0 and 1; 0.7 to 0.9 is usual. Larger values need more iterations.
        iterations : int, default 100
            How many, at most; exactly so many run without a stopping rule.
        ratios : ResponseRatios or dict of str to float, optional
            HAADF signal per count of each element; by default those attached by `fit_response_ratios`, fitted now where
            there are none.
        rest : bool, default False
            Add a channel ``"rest"`` (HAADF signal per nm) for what no map explains.
        weighting : {"sirt", "squared"}, default "sirt"
            ``"sirt"``: the rows of the stacked system weigh (1 - alpha) and alpha, and SIRT's preconditioner makes the pulls of
            the residuals (1 - alpha) and alpha / k for k elements. ``"squared"``: the pulls are (1 - alpha)^2 and alpha^2 / k.
        stopping : {"discrepancy"}, optional
            Stop when the residual of the maps is down to their noise, for all elements; see `reconstruct_sirt`.
        mask, initial, depth, width, relaxation, noise, tolerance, nonnegative, backend, show_progressbar
            As in `reconstruct_sirt`.

        Returns
        -------
        TomographicVolume
            Axes ``(element, z | x, y)``, array order (z, element, y, x), each element in its own counts per nm of path, of
            one pixel of the maps; the ratios used are in `TomographicVolume.response_ratios`.

        Raises
        ------
        ValueError
            For alpha outside (0, 1), series of another field of view or pixels that do not fit, a single tilt, ratios that are
            all zero, data that are not finite.

        Notes
        -----
        SIRT on the stacked system of [1]_ (eqs 9 to 11). An element whose ratio is zero is reconstructed from its maps alone. An
        interrupted run returns the last whole iterate.

        References
        ----------
        .. [1] Z. Zhong et al., Ultramicroscopy 174 (2017) 35, https://doi.org/10.1016/j.ultramic.2016.12.008.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_multitomo as mt
        >>> maps = np.ones((3, 4, 8))
        >>> eds = mt.TiltSeriesEDS.from_maps({"Au": maps}, tilts=[-40, 0, 40])
        >>> haadf = mt.TiltSeriesHAADF.from_images(3 * maps, tilts=[-40, 0, 40])
        >>> eds.reconstruct_hebt(haadf, iterations=5, ratios={"Au": 3.0}, show_progressbar=False)["Au"].data.shape
        (8, 4, 8)
        """
        if ratios is None and self.response_ratios is None:
            self.fit_response_ratios(haadf, rest=rest)
        return methods.reconstruct_hebt(
            self,
            haadf,
            alpha,
            iterations,
            ratios=self.response_ratios if ratios is None else ratios,
            rest=rest,
            weighting=weighting,
            mask=mask,
            initial=initial,
            depth=depth,
            width=width,
            relaxation=relaxation,
            stopping=stopping,
            noise=noise,
            tolerance=tolerance,
            nonnegative=nonnegative,
            backend=backend,
            show_progressbar=show_progressbar,
        )

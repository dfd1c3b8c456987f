# SPDX-License-Identifier: GPL-3.0-or-later
"""The tilt series of elemental maps as a HyperSpy signal, axes ``(element, tilt | x, y)``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from hyperspy.signals import LazySignal2D, Signal2D

from ..composition.response import ResponseRatios
from . import reconstruct
from .base import check_finite
from .build import build_series, images_and_axes, stack_channels
from .haadf import TiltSeriesHAADF
from .history import add_step
from .keyed import NODE, recall, record
from .tilt_series import TiltSeries
from .volume import TomographicVolume

# What of a fit of the response ratios belongs to each element, and what to each tilt.
_PER_ELEMENT, _PER_TILT = ("standard_errors", "block_counts"), ("residual_per_tilt", "residual_map")


class TiltSeriesEDS(TiltSeries, Signal2D):
    """Elemental maps of one object, one set per tilt: axes ``(element, tilt | x, y)``, array order (tilt, element, y, x).

    The data are net counts of each element's line. `gross` and `background` hold the counts in the line's window and what of them
    is not the element, where the maps were made by `elemental_maps`.
    """

    _signal_type = "TiltSeriesEDS"
    _ITERATIONS = 50

    @classmethod
    def from_maps(
        cls,
        maps: Mapping,
        tilts=None,
        pixel_size: float | None = None,
        *,
        tilt_axis: str = "y",
        reverse_tilts: bool = False,
        duplicates: str = "error",
    ) -> TiltSeriesEDS:
        """Make a series from the maps of each element and their tilts.

        Parameters
        ----------
        maps : dict of str to array-like, dask array, Signal2D or path-like
            For each element its maps, shape (tilt, y, x), in counts; a path is read through RosettaSciIO.
        tilts : array-like of float or path-like, optional
            Tilt of each map in degrees, or the file that lists them; by default from the signals or files.
        pixel_size : float, optional
            In nm; by default that of the signals or files.
        tilt_axis, reverse_tilts, duplicates
            As in `TiltSeriesHAADF.from_images`; merging sums maps of equal tilts and sets their gain to their number.

        Returns
        -------
        TiltSeriesEDS

        Raises
        ------
        ValueError
            For maps of different shape or calibration, data that are not finite, or tilts that do not fit.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_multitomo as mt
        >>> maps = {"Yb": np.ones((3, 8, 10)), "Al": np.ones((3, 8, 10))}
        >>> eds = mt.TiltSeriesEDS.from_maps(maps, tilts=[-40, 0, 40], pixel_size=0.76)
        >>> eds.elements, eds
        (('Yb', 'Al'), <TiltSeriesEDS, title: EDS, dimensions: (2, 3|10, 8)>)
        """
        if not isinstance(maps, Mapping) or not maps:
            raise ValueError('maps must be a dict with the maps of each element, e.g. {"Yb": yb, "Al": al}')
        read = {name: images_and_axes(item, tilts, pixel_size) for name, item in maps.items()}
        (first, (data, tilts, pixel_size, metadata)) = next(iter(read.items()))
        for name, (other, other_tilts, other_size, _) in read.items():
            if other.shape != data.shape:
                raise ValueError(f"the maps of {name} have the shape {other.shape} but those of {first} have {data.shape}")
            if not np.array_equal(other_tilts, tilts) or other_size != pixel_size:
                raise ValueError(
                    f"the maps of {name} have other tilts or another pixel size ({other_size} nm) than those of {first}"
                )
        stacked = stack_channels([item[0] for item in read.values()], axis=1)
        return build_series(
            cls,
            stacked,
            tilts,
            pixel_size,
            channels=tuple(maps),
            tilt_axis=tilt_axis,
            reverse_tilts=reverse_tilts,
            duplicates=duplicates,
            metadata=metadata,
            title="EDS",
        )

    @property
    def lines(self) -> tuple[str, ...]:
        """The X-ray line of each element, e.g. ``"Fe_Ka"``; empty where the maps were not made from spectra."""
        return tuple(recall(self, "lines") or ())

    @property
    def gross(self) -> np.ndarray | None:
        """Counts as recorded in the window of each line, shape (tilt, element, y, x), cropped and binned as the data, or None."""
        return recall(self, "gross")

    @property
    def background(self) -> np.ndarray | None:
        """What of `gross` is expected not to be the element's own line: background and overlaps, shape as `gross`, or None."""
        return recall(self, "background")

    @property
    def window_share(self) -> np.ndarray | None:
        """Counts of its own that each net count leaves in the window, shape (tilt, element): gross = share net + background."""
        return recall(self, "window_share")

    @property
    def spectrum_fit(self) -> dict[str, np.ndarray] | None:
        """Spectrum of the whole series behind the maps: ``energy`` (keV), ``counts``, ``fit`` and ``background``; or None."""
        if not self.metadata.has_item(f"{NODE}.spectrum_fit"):
            return None
        held = self.metadata.get_item(f"{NODE}.spectrum_fit").as_dictionary()
        return {name: np.asarray(values) for name, values in held.items()}

    @property
    def response_ratios(self) -> ResponseRatios | None:
        """The attached response ratios, for the elements as they are now, or None."""
        values = recall(self, "ratios")
        if values is None:
            return None
        stored = self.metadata.get_item(f"{NODE}.ratio_fit").as_dictionary()
        kept = {name: recall(self, f"ratios_{name}") for name in (*_PER_ELEMENT, *_PER_TILT)}
        return ResponseRatios.from_dict({**stored, **kept, "elements": self.channels, "values": values})

    def fit_response_ratios(
        self,
        haadf: TiltSeriesHAADF,
        *,
        mask=None,
        block_size: int | None = None,
        min_counts: float = 50.0,
        rest: bool = False,
        prior: Mapping[str, float] | None = None,
        prior_strength: float = 1.0,
    ) -> ResponseRatios:
        """Fit the response ratios r_e of ``HAADF = sum_e r_e p_e`` and attach them.

        Parameters
        ----------
        haadf : TiltSeriesHAADF
            The HAADF series, of the same images; the tilts that both series have are used.
        mask : array-like of bool, shape (tilt, y, x), optional
            Pixels to use; by default those where the HAADF stands out from its background.
        block_size : int, optional
            Side of the blocks of pixels (px); by default so large that the weakest element has `min_counts` in a block.
        min_counts : float, default 50
            Counts of the weakest element in the mean block.
        rest : bool, default False
            Explain HAADF that no map explains by one more, non-negative channel, instead of letting it pull the ratios.
        prior : dict of str to float, optional
            Relative ratios of two elements or more, for maps that are nearly dependent.
        prior_strength : float, default 1
            Weight of the prior against the data.

        Returns
        -------
        ResponseRatios
            ``values``, ``standard_errors``, ``r2``, ``residual_per_tilt``, ``residual_map``.

        Raises
        ------
        ValueError
            For series that do not fit together, all-zero or exactly dependent maps, data that are not finite.

        Warns
        -----
        UserWarning
            Where R2 is below 0.9 (an element is missing), or the ratio of an element comes out zero.

        Notes
        -----
        Blocks and an allowance for the noise of the counts keep the ratios from sagging at low counts, see
        `hyperspy_multitomo.composition.fit_response_ratios`. One very weak element makes the blocks so large that grains
        blur into each other; then pass ``block_size=8``, say. Fit before the maps are smoothed.

        References
        ----------
        .. [1] Z. Zhong et al., Ultramicroscopy 174 (2017) 35, https://doi.org/10.1016/j.ultramic.2016.12.008.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_multitomo as mt
        >>> expected = np.zeros((2, 5, 32, 32))
        >>> expected[0, :, 4:20, 4:28], expected[1, :, 12:28, 4:28] = 5.0, 8.0
        >>> counts = np.random.default_rng(0).poisson(expected)
        >>> eds = mt.TiltSeriesEDS.from_maps({"Au": counts[0], "Ag": counts[1]}, tilts=np.arange(5))
        >>> haadf = mt.TiltSeriesHAADF.from_images(40 * expected[0] + 10 * expected[1], tilts=np.arange(5))
        >>> eds.fit_response_ratios(haadf).values.round(-1)
        array([40., 10.])
        """
        fit = reconstruct.fit_ratios(
            self,
            haadf,
            mask=mask,
            block_size=block_size,
            min_counts=min_counts,
            rest=rest,
            prior=prior,
            prior_strength=prior_strength,
        )
        record(self, "ratios", fit.values, ("element",))
        stored = fit.as_dict()
        for name in _PER_ELEMENT:
            record(self, f"ratios_{name}", stored[name], ("element",))
        for name in _PER_TILT:
            record(self, f"ratios_{name}", stored[name], ("tilt",))
        self.metadata.set_item(f"{NODE}.ratio_fit", {name: stored[name] for name in ("r2", "block_size", "rest")})
        add_step(
            self,
            "fit_response_ratios",
            ratios=dict(zip(self.channels, fit.values, strict=True)),
            r2=fit.r2,
            block_size=fit.block_size,
            rest=rest,
            prior=prior,
            prior_strength=prior_strength,
        )
        return fit

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
        tolerance: float | None = None,
        nonnegative: bool = True,
        backend: str | None = None,
        show_progressbar: bool | None = None,
    ) -> TomographicVolume:
        """Reconstruct all elements together with the HAADF images: HAADF-EDS bimodal tomography.

        Parameters
        ----------
        haadf : TiltSeriesHAADF
            The HAADF series, with tilts of its own if need be, the same pixel size and field of view.
        alpha : float, default 0.7
            Weight of the HAADF, between 0 and 1; 0.7 to 0.9 is usual. Larger values need more iterations.
        iterations : int, default 100
            How many; exactly so many run unless `tolerance` is given.
        ratios : ResponseRatios or dict of str to float, optional
            HAADF signal per count of each element; by default those attached by `fit_response_ratios`, fitted now where
            there are none.
        rest : bool, default False
            Add a channel ``"rest"`` (HAADF signal per nm) for what no map explains.
        weighting : {"sirt", "squared"}, default "sirt"
            ``"sirt"``: the rows of the stacked system weigh (1 - alpha) and alpha, and SIRT's preconditioner makes the pulls of
            the residuals (1 - alpha) and alpha / k for k elements. ``"squared"``: the pulls are (1 - alpha)^2 and alpha^2 / k.
        mask, initial, depth, width, tolerance, nonnegative, backend, show_progressbar
            As in `reconstruct_sirt`.

        Returns
        -------
        TomographicVolume
            Axes ``(element, z | x, y)``, array order (z, element, y, x), each element in its own counts per nm of path;
            the ratios used are in `TomographicVolume.response_ratios`.

        Raises
        ------
        ValueError
            For alpha outside (0, 1), series of different shape or pixel size, ratios that are all zero, data that are not finite.

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
        return reconstruct.reconstruct_hebt(
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
            tolerance=tolerance,
            nonnegative=nonnegative,
            backend=backend,
            show_progressbar=show_progressbar,
        )

    def _alignment_images(self) -> np.ndarray:
        images = np.asarray(self.array("element", "tilt", "x", "y"), dtype=np.float32).sum(axis=0)
        check_finite(images, "the sum of the elemental maps")
        return images


class LazyTiltSeriesEDS(TiltSeriesEDS, LazySignal2D):
    """A `TiltSeriesEDS` whose data are a dask array."""

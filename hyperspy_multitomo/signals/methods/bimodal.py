# SPDX-License-Identifier: GPL-3.0-or-later
"""The reconstructions of elemental maps together with a HAADF that sees the sum of the elements: HEBT, and fused."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike

from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.composition.response.fit import ResponseRatios
from hyperspy_multitomo.signals import plan
from hyperspy_multitomo.signals.haadf import TiltSeriesHAADF
from hyperspy_multitomo.signals.methods import plain_solvers as methods
from hyperspy_multitomo.signals.methods.regularised_solvers import (
    ITERATIONS,
    OVERLAP,
    SLOW_TOLERANCE,
    model_of,
    reconstruct_fused,
    reconstruct_regularised,
)
from hyperspy_multitomo.signals.volume import TomographicVolume


class BimodalReconstructions:
    """Mixin of the series of elemental maps: `reconstruct_hebt` and `reconstruct_fused`."""

    @checked
    def reconstruct_hebt(
        self,
        haadf: TiltSeriesHAADF,
        alpha: float | None = None,
        iterations: int | None = None,
        *,
        ratios: ResponseRatios | Mapping[str, float] | None = None,
        rest: bool = False,
        regulariser: str | None = None,
        data_term: str | None = None,
        haadf_term: str | None = None,
        haadf_gain: float | None = None,
        weight: float | None = None,
        coupled: bool | str | None = None,
        dimensions: int | None = None,
        alpha0: float | None = None,
        background=None,
        weighting: str | None = None,
        relaxation: float | None = None,
        stopping: str | None = None,
        noise: float | None = None,
        mask=None,
        initial=None,
        depth: float | None = None,
        width: float | None = None,
        tolerance: float | None = None,
        nonnegative: bool = True,
        backend: str | None = None,
        chunks: int | None = None,
        overlap: int | None = None,
        support: bool | None = None,
        checkpoint: str | PathLike | None = None,
        resume: str | PathLike | None = None,
        show_progressbar: bool | None = None,
        interactive: bool = False,
        display: bool = True,
        toolkit: str | None = None,
    ) -> TomographicVolume:
        """Reconstruct all elements together with the HAADF images, which are the sum of the elements times their response ratios.

        HAADF-EDS bimodal tomography in two forms: plain, by SIRT with a weight alpha of the HAADF,
        and with a regulariser, where the maps weigh by their counts and the HAADF by its noise.

        Parameters
        ----------
        haadf : TiltSeriesHAADF
            The HAADF series of the same field of view, with tilts of its own if need be; its pixels
            are those of the maps, or a whole number of them makes one of the maps, whose volume
            then has the voxels of the HAADF.
        alpha : float, default 0.7
            Plain form: weight of the HAADF, between 0 and 1; 0.7 to 0.9 is usual. Larger values
            need more iterations.
        iterations : int, optional
            How many, at most: 100 by default, exactly so many without a stopping rule; 500 with a
            regulariser.
        ratios : ResponseRatios or dict of str to float, optional
            HAADF signal per count of each element; by default those attached by
            `fit_response_ratios`, fitted now where there are none.
        rest : bool, default False
            Add a channel ``"rest"`` (HAADF signal per nm) for what no map explains.
        regulariser : {"tv", "tgv", "tnv"}, optional
            The form with a regulariser; see `reconstruct_tv`, `reconstruct_tgv` and
            `reconstruct_tnv`.
        data_term, haadf_term, haadf_gain, weight, coupled, dimensions, background, overlap, support
            With a regulariser: as in `reconstruct_tv`.
        alpha0 : float, default 4.0
            With ``regulariser="tgv"``: as in `reconstruct_tgv`.
        weighting : {"sirt", "squared"}, default "sirt"
            Plain form. ``"sirt"``: the rows of the stacked system weigh (1 - alpha) and alpha, and
            SIRT's preconditioner makes the pulls of the residuals (1 - alpha) and alpha / k for k
            elements. ``"squared"``: the pulls are (1 - alpha)^2 and alpha^2 / k.
        relaxation : float, default 1.0
            Plain form: factor on every step, between 0 and 2.
        stopping : {"discrepancy"}, optional
            Plain form: stop when the residual of the maps is down to their noise, for all elements;
            see `reconstruct_sirt`.
        noise : float, optional
            Plain form, for `stopping`; see `reconstruct_sirt`.
        tolerance : float, optional
            Plain form: as in `reconstruct_sirt`. With a regulariser as in `reconstruct_tv`, by
            default 1e-4: weak elements beside a HAADF of many counts take longer; 0 does all
            iterations.
        mask, initial, depth, width, nonnegative, backend, chunks, checkpoint, resume,
        show_progressbar
            As in `reconstruct_sirt`.
        interactive, display, toolkit
            As in `reconstruct_sirt`: a panel for both forms.

        Returns
        -------
        TomographicVolume
            Axes ``(element, z | x, y)``, array order (z, element, y, x), each element in its own
            counts per nm of path, of one pixel of the maps; the ratios used are in
            `TomographicVolume.response_ratios`. With `interactive` the widgets, or None where they
            are shown.

        Raises
        ------
        ValueError
            For alpha outside (0, 1), series of another field of view or pixels that do not fit, a
            single tilt, ratios that are all zero, data that are not finite, and keywords of the
            form that is not asked for.

        Notes
        -----
        Plain: SIRT on the stacked system of [1]_ (eqs 9 to 11). With a regulariser: the divergence
        of the counts and that of the HAADF, in noise-equivalent electrons, from their expectations,
        plus the regulariser; no paper has that. An element whose ratio is zero is reconstructed
        from its maps alone. An interrupted run returns the last whole iterate.

        References
        ----------
        .. [1] Z. Zhong et al., Ultramicroscopy 174 (2017) 35,
           https://doi.org/10.1016/j.ultramic.2016.12.008.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_multitomo as mt
        >>> maps = np.ones((3, 4, 8))
        >>> eds = mt.TiltSeriesEDS.from_maps({"Au": maps}, tilts=[-40, 0, 40])
        >>> haadf = mt.TiltSeriesHAADF.from_images(3 * maps, tilts=[-40, 0, 40])
        >>> eds.reconstruct_hebt(haadf, iterations=5, ratios={"Au": 3.0}, show_progressbar=False)["Au"].data.shape
        (8, 4, 8)
        >>> smooth = eds.reconstruct_hebt(haadf, regulariser="tv", iterations=20, ratios={"Au": 3.0}, show_progressbar=False)
        >>> smooth.channels
        ('Au',)
        """
        plain = {
            "alpha": alpha,
            "weighting": weighting,
            "relaxation": relaxation,
            "stopping": stopping,
            "noise": noise,
        }
        regularised = {
            "data_term": data_term,
            "haadf_term": haadf_term,
            "haadf_gain": haadf_gain,
            "weight": weight,
            "coupled": coupled,
            "dimensions": dimensions,
            "alpha0": alpha0,
            "background": background,
            "overlap": overlap,
            "support": support,
        }
        _check_form(regulariser, plain, regularised)
        if interactive:
            from hyperspy_multitomo.widgets.opening import open_panel
            from hyperspy_multitomo.widgets.reconstruction_panel import ReconstructionPanel

            method = regulariser or ("hebt_squared" if weighting == "squared" else "hebt")
            given = {
                name: value for name, value in (plain | regularised).items() if name != "weighting"
            }
            given |= dict(
                ratios=ratios,
                rest=rest,
                mask=mask,
                initial=initial,
                depth=depth,
                width=width,
                tolerance=tolerance,
            )
            given |= dict(
                nonnegative=nonnegative, backend=backend, method=method, iterations=iterations
            )
            return open_panel(ReconstructionPanel(self, haadf, **given), display, toolkit)
        if ratios is None and self.response_ratios is None:
            if plan.wanted():  # any will do, and the series stays as it is
                ratios = dict.fromkeys(self.channels, 1.0)
            else:
                self.fit_response_ratios(haadf, rest=rest)
        ratios = self.response_ratios if ratios is None else ratios
        shared = {
            "ratios": ratios,
            "rest": rest,
            "mask": mask,
            "initial": initial,
            "depth": depth,
            "width": width,
        }
        shared |= {
            "nonnegative": nonnegative,
            "backend": backend,
            "show_progressbar": show_progressbar,
        }
        shared |= {"chunks": chunks, "checkpoint": checkpoint, "resume": resume}
        if regulariser is None:
            given = {"weighting": "sirt", "relaxation": 1.0} | {
                name: value for name, value in plain.items() if value is not None
            }
            given = {"stopping": None, "noise": None, "tolerance": tolerance} | given
            return methods.reconstruct_hebt(
                self,
                haadf,
                given.pop("alpha", 0.7),
                100 if iterations is None else iterations,
                **given,
                **shared,
            )
        given = {name: value for name, value in regularised.items() if value is not None}
        shared["overlap"], shared["support"] = (
            given.pop("overlap", OVERLAP),
            given.pop("support", True),
        )
        return reconstruct_regularised(
            self,
            haadf,
            "reconstruct_hebt",
            model_of(regulariser, **given),
            iterations=ITERATIONS if iterations is None else iterations,
            tolerance=SLOW_TOLERANCE if tolerance is None else tolerance,
            **shared,
        )

    @checked
    def reconstruct_fused(
        self,
        haadf: TiltSeriesHAADF,
        *,
        power: float = 1.0,
        haadf_weights: Mapping[str, float] | None = None,
        regulariser: str = "tv",
        weight: float = 1.0,
        coupled: bool | str = True,
        dimensions: int = 3,
        alpha0: float = 4.0,
        iterations: int = ITERATIONS,
        tolerance: float | None = SLOW_TOLERANCE,
        data_term: str | None = "poisson",
        haadf_term: str | None = None,
        haadf_gain: float | None = None,
        background=None,
        mask=None,
        initial=None,
        depth: float | None = None,
        width: float | None = None,
        backend: str | None = None,
        chunks: int | None = None,
        overlap: int = OVERLAP,
        support: bool = True,
        checkpoint: str | PathLike | None = None,
        resume: str | PathLike | None = None,
        show_progressbar: bool | None = None,
    ) -> TomographicVolume:
        """Reconstruct few maps together with many HAADF images, which see a power of the elements: fused multi-modal tomography.

        For maps at few tilts and HAADF images at many. The HAADF is explained by the elements
        alone: all that are bright in it have to have maps.

        Parameters
        ----------
        haadf : TiltSeriesHAADF
            The HAADF series of the same field of view, less its background; see `reconstruct_hebt`.
        power : float, default 1.0
            The HAADF sees sum r_e x_e^power, from 1, where it is a sum of the maps, to 2.
        haadf_weights : dict of str to float, optional
            How bright the elements are in the HAADF relative to each other, for equal x_e^power;
            the scale is fitted. By default all is fitted, to a reconstruction of the maps alone.
        regulariser : {"tv", "tgv", "tnv"}, default "tv"
            See `reconstruct_tv`, `reconstruct_tgv` and `reconstruct_tnv`.
        weight, coupled, dimensions, iterations, data_term, haadf_term, haadf_gain, background
            As in `reconstruct_tv`.
        tolerance : float, default 1e-4
            As in `reconstruct_tv`; less, since weak elements beside a HAADF of many counts take
            longer.
        alpha0 : float, default 4.0
            With ``regulariser="tgv"``: as in `reconstruct_tgv`.
        overlap : int, default 16
            As in `reconstruct_tv`.
        support : bool, default True
            As in `reconstruct_tv`.
        mask, initial, depth, width, backend, chunks, checkpoint, resume, show_progressbar
            As in `reconstruct_sirt`.

        Returns
        -------
        TomographicVolume
            Axes ``(element, z | x, y)``, array order (z, element, y, x), each element in its own
            counts per nm of path, not negative. The last step of its `history` holds the
            ``haadf_weights``, r_e.

        Raises
        ------
        ValueError, MemoryError
            As `reconstruct_tv`, and for a power outside 1 to 2 or an element without a weight.

        Warns
        -----
        UserWarning
            Where the elements explain less than 0.9 of the HAADF's variance.

        Notes
        -----
        The model of [1]_ with counting statistics and coupled channels, see
        `hyperspy_multitomo.tomography.fused`. With ``power=1`` and known response ratios,
        `reconstruct_hebt` with a regulariser is the same.

        References
        ----------
        .. [1] J. Schwartz et al., Nat. Commun. 15 (2024) 3555,
           https://doi.org/10.1038/s41467-024-47558-0.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_multitomo as mt
        >>> tilts, few = np.arange(-60, 61, 10), [-60, 0, 60]
        >>> images = np.zeros((13, 4, 12)); images[:, :, 4:8] = 400.0
        >>> haadf = mt.TiltSeriesHAADF.from_images(images, tilts=tilts)
        >>> eds = mt.TiltSeriesEDS.from_maps({"Au": np.random.default_rng(0).poisson(images[::6] / 40)}, tilts=few)
        >>> eds.reconstruct_fused(haadf, iterations=20, show_progressbar=False)
        <TomographicVolume, title: Volume, dimensions: (1, 12|12, 4)>
        """
        model = model_of(
            regulariser,
            coupled,
            weight=weight,
            dimensions=dimensions,
            alpha0=alpha0,
            data_term=data_term,
            haadf_term=haadf_term,
            haadf_gain=haadf_gain,
            background=background,
        )
        return reconstruct_fused(
            self,
            haadf,
            model,
            power=power,
            haadf_weights=haadf_weights,
            iterations=iterations,
            tolerance=tolerance,
            mask=mask,
            initial=initial,
            depth=depth,
            width=width,
            backend=backend,
            chunks=chunks,
            overlap=overlap,
            support=support,
            checkpoint=checkpoint,
            resume=resume,
            show_progressbar=show_progressbar,
        )


def _check_form(regulariser: str | None, plain: dict, regularised: dict) -> None:
    """Raise an error for an unknown regulariser, and for keywords of the form of HEBT that is not asked for."""
    if regulariser not in (None, "tv", "tgv", "tnv"):
        raise ValueError(
            f"regulariser={regulariser!r} must be 'tv', 'tgv' or 'tnv', or None for plain HEBT"
        )
    others = dict(regularised) if regulariser is None else dict(plain)
    if regulariser is not None:
        others |= {
            name: regularised[name]
            for name in {"tv": ["alpha0"], "tnv": ["alpha0", "coupled"]}.get(regulariser, [])
        }
    given = [f"{name}=" for name, value in others.items() if value is not None]
    if given and regulariser is None:
        raise ValueError(
            f"{', '.join(given)} belongs to HEBT with a regulariser: pass regulariser='tv', 'tgv' "
            "or 'tnv' with it"
        )
    if given:
        raise ValueError(
            f"{', '.join(given)} has no meaning with regulariser={regulariser!r}, where maps and "
            "HAADF weigh by their noise: "
            "leave it out; weight= says how much to smooth, and haadf_gain= how far to trust the "
            "HAADF"
        )

# SPDX-License-Identifier: GPL-3.0-or-later
"""The regularised reconstructions of elemental maps, alone or with the HAADF as one more channel: TV, TGV and nuclear TV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike

from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.signals.haadf import TiltSeriesHAADF
from hyperspy_multitomo.signals.methods.regularised_solvers import (
    ITERATIONS,
    OVERLAP,
    SLOW_TOLERANCE,
    TOLERANCE,
    Model,
    reconstruct_regularised,
)
from hyperspy_multitomo.signals.volume import TomographicVolume


class RegularisedMaps:
    """Mixin of the series of elemental maps: `reconstruct_tv`, `reconstruct_tgv` and `reconstruct_tnv`."""

    @checked
    def reconstruct_tv(
        self,
        haadf: TiltSeriesHAADF | None = None,
        *,
        weight: float = 1.0,
        mu: Mapping[str, float] | Sequence[float] | None = None,
        coupled: bool = True,
        dimensions: int = 3,
        iterations: int = ITERATIONS,
        tolerance: float | None = TOLERANCE,
        data_term: str | None = "poisson",
        haadf_term: str | None = None,
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
        """Reconstruct by total variation (TV): flat regions with sharp edges, as far as the counts do not say otherwise.

        For compounds and particles of even composition, few counts and few tilts; where composition
        changes gradually, see `reconstruct_tgv`, and with a HAADF series that shows all elements,
        `reconstruct_tnv`.

        Parameters
        ----------
        haadf : TiltSeriesHAADF, optional
            The HAADF series of the same field of view, less its background, which becomes one more
            channel, ``"HAADF"``: its edges help to find those of the elements. Tilts and pixels may
            be its own, as in `reconstruct_hebt`.
        weight : float, default 1.0
            How much to smooth, without unit: 1 is the default for the noise of these data, 2 twice
            as much. Noise that shows as speckle asks for more, details that melt away for less; try
            factors of 2.
        mu : dict of str to float, or sequence of float, optional
            Huber's weights [1]_ of the data of each channel, instead of `weight`: of each by its
            name, or in order with the HAADF's first.
        coupled : bool, default True
            Whether the channels want their edges at the same places; with False each is
            reconstructed alone.
        dimensions : {3, 2}, default 3
            2 for slices apart from each other; 3 is better.
        iterations : int, default 500
            How many, at most.
        tolerance : float, default 1e-3
            End when the objective changes by less than this part of it in twenty iterations; None
            to do all `iterations`.
        data_term : {"poisson", "least_squares"}, default "poisson"
            Statistics of the maps. ``"poisson"`` takes counts as recorded: the `gross` counts with
            their background in the model where the maps have them. ``"least_squares"`` takes the
            net maps, negative values and all, with an even noise.
        haadf_term : {"poisson", "least_squares"}, optional
            Statistics of the HAADF images; by default ``"poisson"`` where none of them is negative.
            Its counts are noise-equivalent electrons.
        haadf_gain : float, optional
            HAADF signal of one noise-equivalent electron: the larger, the less the HAADF is
            trusted. By default estimated from the images, and no smaller than for a noise of 1 %.
        background : float or array-like, optional
            Counts per pixel of the maps expected from anything but the element, as in
            `reconstruct_em`.
        overlap : int, default 16
            For a lazy series in three dimensions: slices on either side that each slab is
            reconstructed with, so that no seam shows between them; see the notes.
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
            Axes ``(element, z | x, y)``, array order (z, element, y, x), each element in counts per
            nm of path, the channel ``"HAADF"`` in HAADF signal per nm. The last step of its
            `history` holds the weights and scales in physical terms. Unless it is lazy, that step
            says what ended the run, and `TomographicVolume.residuals` have the ``"objective"``.

        Raises
        ------
        ValueError
            For weights that are not positive, negative counts, and what `reconstruct_hebt`
            refuses.
        MemoryError
            Where the run would need more memory than there is.

        Warns
        -----
        UserWarning
            For an element without a single count, for maps that are no whole counts, whose noise is
            not known, and for smoothed HAADF images without a `haadf_gain`.

        Notes
        -----
        Minimises the Kullback-Leibler divergence of the counts from their expectation plus weight
        times TV(x/S) over x >= 0, S the range of each channel, by a primal-dual method [1]_; see
        `hyperspy_multitomo.tomography.variational`. An interrupted run returns the last whole
        iterate. Of a lazy series all slices are reconstructed together where they fit into the
        memory; slabs differ from that by less than 0.1 % (root mean square, a phantom and a dust
        particle), with 8 slices of overlap by 0.1 to 0.3 %, without by 2 to 4 %, and each ends by
        its own `tolerance`.

        References
        ----------
        .. [1] R. Huber et al., Nanoscale 11 (2019) 5617, https://doi.org/10.1039/C8NR09058K.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_multitomo as mt
        >>> counts = np.random.default_rng(0).poisson(3.0, (3, 4, 8))
        >>> eds = mt.TiltSeriesEDS.from_maps({"Au": counts}, tilts=[-40, 0, 40])
        >>> haadf = mt.TiltSeriesHAADF.from_images(np.full((3, 4, 8), 90.0), tilts=[-40, 0, 40])
        >>> volume = eds.reconstruct_tv(haadf, iterations=20, show_progressbar=False)
        >>> volume.channels, volume.elements
        (('Au', 'HAADF'), ('Au',))
        """
        model = Model(
            "tv",
            coupled,
            weight,
            mu,
            dimensions,
            4.0,
            data_term,
            haadf_term,
            haadf_gain,
            background,
        )
        return reconstruct_regularised(
            self,
            haadf,
            "reconstruct_tv",
            model,
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
        haadf: TiltSeriesHAADF | None = None,
        *,
        weight: float = 1.0,
        mu: Mapping[str, float] | Sequence[float] | None = None,
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

        For gradual changes of composition. It takes about three times the time and memory of TV.

        Parameters
        ----------
        haadf, weight, mu, dimensions, iterations, data_term, haadf_term, haadf_gain, background
            As in `reconstruct_tv`.
        coupled : bool or "nuclear", default True
            As in `reconstruct_tv`; ``"nuclear"`` for edges of one direction as in
            `reconstruct_tnv`.
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
        TGV(u) = min_w |grad u - w| + alpha0 |E w|, E the symmetrised gradient [1]_, [2]_.

        References
        ----------
        .. [1] K. Bredies, K. Kunisch, T. Pock, SIAM J. Imaging Sci. 3 (2010) 492,
           https://doi.org/10.1137/090769521.
        .. [2] R. Huber et al., Nanoscale 11 (2019) 5617, https://doi.org/10.1039/C8NR09058K.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_multitomo as mt
        >>> counts = np.random.default_rng(0).poisson(3.0, (3, 4, 8))
        >>> eds = mt.TiltSeriesEDS.from_maps({"Au": counts}, tilts=[-40, 0, 40])
        >>> eds.reconstruct_tgv(iterations=20, weight=2.0, show_progressbar=False)
        <TomographicVolume, title: Volume, dimensions: (1, 8|8, 4)>
        """
        model = Model(
            "tgv",
            coupled,
            weight,
            mu,
            dimensions,
            alpha0,
            data_term,
            haadf_term,
            haadf_gain,
            background,
        )
        return reconstruct_regularised(
            self,
            haadf,
            "reconstruct_tgv",
            model,
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
    def reconstruct_tnv(
        self,
        haadf: TiltSeriesHAADF | None = None,
        *,
        weight: float = 1.0,
        mu: Mapping[str, float] | Sequence[float] | None = None,
        dimensions: int = 3,
        iterations: int = ITERATIONS,
        tolerance: float | None = TOLERANCE,
        data_term: str | None = "poisson",
        haadf_term: str | None = None,
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
        """Reconstruct by total nuclear variation (TNV): edges of all channels at one place and along one direction.

        It couples weak elements to the HAADF more closely than TV does.

        Parameters
        ----------
        haadf, weight, mu, dimensions, iterations, tolerance, data_term, haadf_term, haadf_gain,
        background
            As in `reconstruct_tv`.
        overlap : int, default 16
            As in `reconstruct_tv`.
        support : bool, default True
            As in `reconstruct_tv`.
        mask, initial, depth, width, nonnegative, backend, chunks, checkpoint, resume,
        show_progressbar
            As in `reconstruct_sirt`.

        Returns
        -------
        TomographicVolume
            As that of `reconstruct_tv`.

        Raises
        ------
        ValueError, MemoryError
            As `reconstruct_tv`.

        Notes
        -----
        The sum over voxels of the nuclear norm of the gradients of all channels, a matrix of
        channels and directions [1]_. Of one channel it is TV.

        References
        ----------
        .. [1] Z. Zhong et al., Ultramicroscopy 191 (2018) 34,
           https://doi.org/10.1016/j.ultramic.2018.04.011.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_multitomo as mt
        >>> counts = np.random.default_rng(0).poisson(3.0, (2, 3, 4, 8))
        >>> eds = mt.TiltSeriesEDS.from_maps({"Au": counts[0], "Ag": counts[1]}, tilts=[-40, 0, 40])
        >>> eds.reconstruct_tnv(iterations=20, show_progressbar=False)
        <TomographicVolume, title: Volume, dimensions: (2, 8|8, 4)>
        """
        model = Model(
            "tv",
            "nuclear",
            weight,
            mu,
            dimensions,
            4.0,
            data_term,
            haadf_term,
            haadf_gain,
            background,
        )
        return reconstruct_regularised(
            self,
            haadf,
            "reconstruct_tnv",
            model,
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

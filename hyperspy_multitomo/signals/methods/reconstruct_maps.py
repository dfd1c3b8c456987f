# SPDX-License-Identifier: GPL-3.0-or-later
"""The reconstructions of elemental maps, alone or with the HAADF: TV, TGV, TNV, HEBT and fused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Unpack

from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.reconstruction.keywords import SmoothMapsRun, with_shared
from hyperspy_multitomo.reconstruction.recipes import RECIPES
from hyperspy_multitomo.signals.methods.reconstruct import reconstruct

if TYPE_CHECKING:
    from hyperspy_multitomo.composition.response.ratios import ResponseRatios
    from hyperspy_multitomo.signals.volume import TomographicVolume


@checked
@with_shared(RECIPES["tv"], data_term="poisson")
def reconstruct_tv(
    series,
    haadf=None,
    *,
    mu: Mapping[str, float] | Sequence[float] | None = None,
    coupled: bool = True,
    iterations: int = 500,
    nonnegative: bool = True,
    **run: Unpack[SmoothMapsRun],
) -> TomographicVolume:
    """Reconstruct by total variation (TV): flat regions with sharp edges, where counts allow.

    For compounds and particles of even composition, few counts and few tilts; where composition
    changes gradually, see `reconstruct_tgv`, and with a HAADF series that shows all elements,
    `reconstruct_tnv`.

    Parameters
    ----------
    haadf : TiltSeriesHAADF, optional
        The HAADF series of the same field of view, less its background, which becomes one more
        channel, ``"HAADF"``: its edges help to find those of the elements. Tilts may be its own,
        and its pixels too where a whole number of them makes one of the maps; the volume then has
        its voxels.
    mu : dict of str to float, or sequence of float, optional
        Huber's weights of the data of each channel [1]_, instead of `weight`: of each by its
        name, or in order with the HAADF's first.
    coupled : bool, default True
        Whether the channels want their edges at the same places; with False each is reconstructed
        alone.
    iterations : int, default 500
        How many, at most.
    nonnegative : bool, default True
        Keep the volume from going below zero.

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
        For weights that are not positive, negative counts, data that are not finite, a single tilt,
        series of another field of view, or the checkpoint of another run.
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
    return reconstruct(
        series,
        "tv",
        haadf,
        mu=mu,
        coupled=coupled,
        iterations=iterations,
        nonnegative=nonnegative,
        **run,
    )


@checked
@with_shared(RECIPES["tgv"], data_term="poisson")
def reconstruct_tgv(
    series,
    haadf=None,
    *,
    mu: Mapping[str, float] | Sequence[float] | None = None,
    coupled: bool | str = True,
    alpha0: float = 4.0,
    iterations: int = 500,
    nonnegative: bool = True,
    **run: Unpack[SmoothMapsRun],
) -> TomographicVolume:
    """Reconstruct by total generalised variation (TGV): smooth slopes with sharp edges.

    For gradual changes of composition, without the steps of TV. It takes about three times the time
    and memory of TV.

    Parameters
    ----------
    haadf : TiltSeriesHAADF, optional
        The HAADF series of the same field of view, less its background, which becomes one more
        channel, ``"HAADF"``: its edges help to find those of the elements. Tilts may be its own,
        and its pixels too where a whole number of them makes one of the maps; the volume then has
        its voxels.
    mu : dict of str to float, or sequence of float, optional
        Huber's weights of the data of each channel [1]_, instead of `weight`: of each by its
        name, or in order with the HAADF's first.
    coupled : bool or "nuclear", default True
        Whether the channels want their edges at the same places; with False each is reconstructed
        alone; ``"nuclear"`` for edges of one direction as well, as of nuclear TV.
    alpha0 : float, default 4.0
        How far slopes are preferred to steps, in voxels: small values give more slopes, large ones
        are TV.
    iterations : int, default 500
        How many, at most.
    nonnegative : bool, default True
        Keep the volume from going below zero.

    Returns
    -------
    TomographicVolume
        Axes ``(element, z | x, y)``, array order (z, element, y, x), each element in counts per nm
        of path, the channel ``"HAADF"`` in HAADF signal per nm. Unless it is lazy, the last step of
        its `history` has ``slopes``, the part of the gradient that slopes hold, and ``in_effect``,
        ``"tgv"`` or ``"tv"``.

    Raises
    ------
    ValueError
        For weights that are not positive, negative counts, data that are not finite, a single tilt,
        series of another field of view, or the checkpoint of another run.
    MemoryError
        Where the run would need more memory than there is.

    Warns
    -----
    UserWarning
        For an element without a single count, for maps that are no whole counts, whose noise is not
        known, and for smoothed HAADF images without a `haadf_gain`; and where the result is that of
        TV, as slopes hold less than 2 % of the gradient: pass a smaller `alpha0`, or use
        `reconstruct_tv`. Slabs of a lazy series warn when they are computed.

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
    return reconstruct(
        series,
        "tgv",
        haadf,
        mu=mu,
        coupled=coupled,
        alpha0=alpha0,
        iterations=iterations,
        nonnegative=nonnegative,
        **run,
    )


@checked
@with_shared(RECIPES["tnv"], data_term="poisson")
def reconstruct_tnv(
    series,
    haadf=None,
    *,
    mu: Mapping[str, float] | Sequence[float] | None = None,
    iterations: int = 500,
    nonnegative: bool = True,
    **run: Unpack[SmoothMapsRun],
) -> TomographicVolume:
    """Reconstruct by total nuclear variation (TNV): common edges of one direction.

    The edges of all channels are at one place and along one direction: weak
    elements are coupled to the HAADF more closely than by TV.

    Parameters
    ----------
    haadf : TiltSeriesHAADF, optional
        The HAADF series of the same field of view, less its background, which becomes one more
        channel, ``"HAADF"``: its edges help to find those of the elements. Tilts may be its own,
        and its pixels too where a whole number of them makes one of the maps; the volume then has
        its voxels.
    mu : dict of str to float, or sequence of float, optional
        Huber's weights of the data of each channel [1]_, instead of `weight`: of each by its
        name, or in order with the HAADF's first.
    iterations : int, default 500
        How many, at most.
    nonnegative : bool, default True
        Keep the volume from going below zero.

    Returns
    -------
    TomographicVolume
        Axes ``(element, z | x, y)``, array order (z, element, y, x), each element in counts per nm
        of path, the channel ``"HAADF"`` in HAADF signal per nm.

    Raises
    ------
    ValueError
        For weights that are not positive, negative counts, data that are not finite, a single tilt,
        series of another field of view, or the checkpoint of another run.
    MemoryError
        Where the run would need more memory than there is.

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
    return reconstruct(
        series, "tnv", haadf, mu=mu, iterations=iterations, nonnegative=nonnegative, **run
    )


@checked
@with_shared(RECIPES["hebt"])
def reconstruct_hebt(
    series,
    haadf,
    alpha: float | Literal["auto"] | None = None,
    iterations: int | Literal["auto"] | None = None,
    *,
    ratios: ResponseRatios | Mapping[str, float] | None = None,
    rest: bool = False,
    regulariser: str | None = None,
    coupled: bool | str | None = None,
    alpha0: float | None = None,
    weighting: str | None = None,
    relaxation: float | None = None,
    stopping: str | None = None,
    noise: float | None = None,
    nonnegative: bool = True,
    **run: Unpack[SmoothMapsRun],
) -> TomographicVolume:
    """Reconstruct all elements together with the HAADF images.

    These are the sum of the elements times their response ratios.
    HAADF-EDS bimodal tomography in two forms: plain, by SIRT with a weight alpha of the HAADF,
    and with a regulariser, where the maps weigh by their counts and the HAADF by its noise.

    Parameters
    ----------
    haadf : TiltSeriesHAADF
        The HAADF series of the same field of view, with tilts of its own if need be; its pixels
        are those of the maps, or a whole number of them makes one of the maps, whose volume
        then has the voxels of the HAADF.
    alpha : float or "auto", default 0.7
        Plain form: weight of the HAADF, between 0 and 1; 0.7 to 0.9 is usual. Larger values
        need more iterations. ``"auto"`` tries 0.5 to 0.9, see `iterations`.
    iterations : int or "auto", optional
        How many, at most: 100 by default, exactly so many without a stopping rule; 500 with a
        regulariser. ``"auto"``, of the plain form, takes as many as predict best the counts that
        were held out: four fifths of those of 32 slices at most, which have to be as recorded.
    ratios : ResponseRatios or dict of str to float, optional
        HAADF signal per count of each element; by default those attached by
        `fit_response_ratios`, fitted now where there are none.
    rest : bool, default False
        Add a channel ``"rest"`` (HAADF signal per nm) for what no map explains.
    regulariser : {"tv", "tgv", "tnv"}, optional
        Total variation, total generalised variation or nuclear total variation. This form alone
        takes `weight`, `refit`, `dimensions`, `data_term`, `haadf_term`, `haadf_gain`,
        `background`, `overlap` and `support`; what is said below of the plain form, it does not
        take.
    coupled : bool or "nuclear", default True
        With a regulariser: whether the channels want their edges at the same places.
    alpha0 : float, default 4.0
        With ``regulariser="tgv"``: how far slopes are preferred to steps, in voxels.
    weighting : {"sirt", "squared"}, default "sirt"
        Plain form. ``"sirt"``: the rows of the stacked system weigh (1 - alpha) and alpha, and
        SIRT's preconditioner makes the pulls of the residuals (1 - alpha) and alpha / k for k
        elements. ``"squared"``: the pulls are (1 - alpha)^2 and alpha^2 / k.
    relaxation : float, default 1.0
        Plain form: factor on every step, between 0 and 2.
    stopping : {"discrepancy"}, optional
        Plain form: stop when the residual of the maps is down to their noise, for all elements
        together; the noise is that of counts, or for net counts measured from their finest detail.
    noise : float, optional
        Plain form, for `stopping`: standard deviation of the noise in each pixel as recorded,
        instead of that estimate.
    tolerance : float, optional
        Plain form: stop when the relative residual changes by less than this from one iteration to
        the next. With a regulariser: end when the objective changes by less than this part of it in
        twenty iterations, by default 1e-4, since weak elements beside a HAADF of many counts take
        longer; 0 does all iterations.
    nonnegative : bool, default True
        Keep the volume from going below zero.

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
    >>> how = {"ratios": {"Au": 3.0}, "show_progressbar": False}
    >>> eds.reconstruct_hebt(haadf, iterations=5, **how)["Au"].data.shape
    (8, 4, 8)
    >>> eds.reconstruct_hebt(haadf, regulariser="tv", iterations=20, **how).channels
    ('Au',)
    """
    return reconstruct(
        series,
        "hebt",
        haadf,
        alpha=alpha,
        iterations=iterations,
        ratios=ratios,
        rest=rest,
        regulariser=regulariser,
        coupled=coupled,
        alpha0=alpha0,
        weighting=weighting,
        relaxation=relaxation,
        stopping=stopping,
        noise=noise,
        nonnegative=nonnegative,
        **run,
    )


@checked
@with_shared(RECIPES["fused"], data_term="poisson")
def reconstruct_fused(
    series,
    haadf,
    *,
    power: float = 1.0,
    haadf_weights: Mapping[str, float] | None = None,
    regulariser: str = "tv",
    coupled: bool | str = True,
    alpha0: float = 4.0,
    iterations: int = 500,
    **run: Unpack[SmoothMapsRun],
) -> TomographicVolume:
    """Reconstruct few maps together with many HAADF images: fused multi-modal tomography.

    The HAADF sees a power of the elements. For maps at few tilts and HAADF images at many. The
    HAADF is explained by the elements alone: all that are bright in it have to have maps.

    Parameters
    ----------
    haadf : TiltSeriesHAADF
        The HAADF series of the same field of view, less its background, with tilts of its own; its
        pixels are those of the maps, or a whole number of them makes one of the maps.
    power : float, default 1.0
        The HAADF sees sum r_e x_e^power, from 1, where it is a sum of the maps, to 2.
    haadf_weights : dict of str to float, optional
        How bright the elements are in the HAADF relative to each other, for equal x_e^power;
        the scale is fitted. By default all is fitted, to a reconstruction of the maps alone.
    regulariser : {"tv", "tgv", "tnv"}, default "tv"
        Total variation, total generalised variation or nuclear total variation.
    coupled : bool or "nuclear", default True
        Whether the channels want their edges at the same places; with False each is reconstructed
        alone; ``"nuclear"`` for edges of one direction as well, as of nuclear TV.
    alpha0 : float, default 4.0
        With ``regulariser="tgv"``: how far slopes are preferred to steps, in voxels.
    iterations : int, default 500
        How many, at most.

    Returns
    -------
    TomographicVolume
        Axes ``(element, z | x, y)``, array order (z, element, y, x), each element in its own
        counts per nm of path, not negative. The last step of its `history` holds the
        ``haadf_weights``, r_e.

    Raises
    ------
    ValueError
        For a power outside 1 to 2, an element without a weight, weights that are not positive,
        negative counts, data that are not finite, a single tilt, or series of another field of
        view.

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
    >>> counts = np.random.default_rng(0).poisson(images[::6] / 40)
    >>> eds = mt.TiltSeriesEDS.from_maps({"Au": counts}, tilts=few)
    >>> eds.reconstruct_fused(haadf, iterations=20, show_progressbar=False)
    <TomographicVolume, title: Volume, dimensions: (1, 12|12, 4)>
    """
    return reconstruct(
        series,
        "fused",
        haadf,
        power=power,
        haadf_weights=haadf_weights,
        regulariser=regulariser,
        coupled=coupled,
        alpha0=alpha0,
        iterations=iterations,
        **run,
    )

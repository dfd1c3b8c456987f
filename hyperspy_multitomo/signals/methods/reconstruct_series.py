# SPDX-License-Identifier: GPL-3.0-or-later
"""Reconstructions of a tilt series alone: FBP, SIRT, EM, CGLS, and TV and TGV of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Unpack

from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.reconstruction.keywords import (
    DirectRun,
    SmoothRun,
    StoppedRun,
    with_shared,
)
from hyperspy_multitomo.reconstruction.recipes import RECIPES
from hyperspy_multitomo.signals.methods.reconstruct import reconstruct

if TYPE_CHECKING:
    from hyperspy_multitomo.signals.volume import TomographicVolume


@checked
@with_shared(RECIPES["sirt"])
def reconstruct_sirt(
    series,
    iterations: int | Literal["auto"] | None = None,
    *,
    relaxation: float = 1.0,
    nonnegative: bool = True,
    **run: Unpack[StoppedRun],
) -> TomographicVolume:
    """Reconstruct by SIRT: the HAADF, or each element from its maps alone.

    Parameters
    ----------
    iterations : int or "auto", optional
        How many, at most; exactly so many run without a stopping rule. By default 100 for HAADF
        images and 20 for elemental maps, whose noise grows with the iterations: about 5, 10 and
        20 are best at 1, 5 and 30 counts per pixel where nothing is smoothed. ``"auto"`` stops at
        the noise, as `stopping`, after ten times as many at most.
    relaxation : float, default 1.0
        Factor on every step, between 0 and 2; small ones converge more slowly and stop more
        finely.
    nonnegative : bool, default True
        Keep the volume from going below zero.

    Returns
    -------
    TomographicVolume
        Array order (z, y, x), HAADF signal per nm of path; or (z, element, y, x), counts per nm
        of path; lazy for a lazy series. What stopped the run, and the iterations of each
        element, are in the last step of its `history`. With `interactive` the widgets, or None
        where they are shown.

    Raises
    ------
    ImportError
        With `interactive`, where the packages for panels are not installed.
    ValueError
        For data that are not finite, a single tilt, shapes that do not fit, missing axes, or
        the checkpoint of another run.
    MemoryError
        Where the run, or the thinnest slab of a lazy series, would need more memory than there
        is.
    OSError
        For a lazy series whose file lacks chunks, and a checkpoint that exists or is missing.

    Notes
    -----
    Non-negative SIRT [1]_: x <- max(0, x + lambda C A^T R (b - A x)). An interrupted run
    (Ctrl-C, or the stop button of the notebook) returns the last whole iterate. Memory: twice
    the volume and twice the projections. A lazy series gives a lazy volume, whose slabs of
    slices are reconstructed when they are asked for, with a stopping rule each by itself.

    References
    ----------
    .. [1] P. Gilbert, J. Theor. Biol. 36 (1972) 105,
       https://doi.org/10.1016/0022-5193(72)90180-4.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> haadf = mt.TiltSeriesHAADF.from_images(np.ones((3, 4, 8)), tilts=[-40, 0, 40])
    >>> haadf.reconstruct_sirt(iterations=5, show_progressbar=False)
    <TomographicVolume, title: HAADF, dimensions: (8|8, 4)>
    """
    return reconstruct(
        series, "sirt", iterations=iterations, relaxation=relaxation, nonnegative=nonnegative, **run
    )


@checked
@with_shared(RECIPES["em"])
def reconstruct_em(
    series,
    iterations: int | Literal["auto"] | None = None,
    *,
    background: Any = None,
    **run: Unpack[StoppedRun],
) -> TomographicVolume:
    """Reconstruct by EM, the maximum likelihood of Poisson counts.

    The background is in the model instead of subtracted.

    Parameters
    ----------
    iterations : int or "auto", optional
        How many, at most; exactly so many run without a stopping rule. By default 50 for HAADF
        images and 10 for elemental maps, whose noise grows with the iterations: about 3 are best at
        1 count per pixel, 5 at 5 and 10 at 30 (simulated). ``"auto"`` stops at the noise, as
        `stopping`, after ten times as many at most.
    background : float or array-like, optional
        Counts per pixel expected from anything but the specimen (or element): a number, one for
        each tilt, for each tilt and element, or (tilt, [element,] y, x). By default that which was
        recorded with the maps, else 0.
    initial : TomographicVolume or array, shape (z, [element,] y, x), optional
        Start from here instead of from a uniform volume; not negative, and what is 0 stays 0.

    Returns
    -------
    TomographicVolume
        Array order (z, element, y, x), net counts per nm of path; of HAADF images (z, y, x), signal
        per nm of path. Lazy for a lazy series. The last step of its `history` says what stopped the
        run; `TomographicVolume.residuals` have the ``"deviance"`` too.

    Raises
    ------
    ValueError
        For negative values where no gross counts are recorded, a background that does not fit, data
        that are not finite, a single tilt, or the checkpoint of another run.
    MemoryError
        Where the run, or the thinnest slab of a lazy series, would need more memory than there is.

    Notes
    -----
    x <- x/(A^T 1) A^T (y/(A x + b)) [1]_, A = gain x share x W. Maps that were made from
    spectra have their `gross` counts y, `background` b and `window_share` recorded: these are
    reconstructed, as they were counted, whatever has since been done to the net counts. The
    recorded background is estimated in each pixel and as noisy as the counts; it is smoothed
    first, see `hyperspy_multitomo.acquisition.expected_background`. An alignment resamples y
    and b alike, which keeps their sums but makes neighbours alike.

    References
    ----------
    .. [1] L. A. Shepp, Y. Vardi, IEEE Trans. Med. Imaging 1 (1982) 113,
       https://doi.org/10.1109/TMI.1982.4307558.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> counts = np.random.default_rng(0).poisson(3.0, (3, 4, 8))
    >>> eds = mt.TiltSeriesEDS.from_maps({"Au": counts}, tilts=[-40, 0, 40])
    >>> eds.reconstruct_em(iterations=5, background=1.0, show_progressbar=False)
    <TomographicVolume, title: Volume, dimensions: (1, 8|8, 4)>
    """
    return reconstruct(series, "em", iterations=iterations, background=background, **run)


@checked
@with_shared(RECIPES["cgls"])
def reconstruct_cgls(
    series, iterations: int | Literal["auto"] | None = None, **run: Unpack[StoppedRun]
) -> TomographicVolume:
    """Reconstruct by CGLS, conjugate gradients for least squares without constraints.

    It is fast, and soon fits the noise.

    Parameters
    ----------
    iterations : int or "auto", optional
        How many, at most; by default 7 for HAADF images and 2 for elemental maps. The error falls
        for some iterations and soon rises again as the noise is being fitted: 2 or 3 are best for
        maps of up to 30 counts per pixel, 4 to 7 for images with 3 to 1 % of noise (simulated).
        ``"auto"`` stops at the noise, as `stopping`, after ten times as many at most.

    Returns
    -------
    TomographicVolume
        Array order (z, y, x), HAADF signal per nm of path; or (z, element, y, x), counts per nm of
        path. Voxels may be negative. Lazy for a lazy series.

    Raises
    ------
    ValueError
        For data that are not finite, a single tilt, shapes that do not fit, or the checkpoint of
        another run.
    MemoryError
        Where the run, or the thinnest slab of a lazy series, would need more memory than there is.

    Notes
    -----
    The recurrences of LSQR [1]_, which are those of CGLS with the rounding kept at bay; step
    sizes are those of each slice. Memory: four times the volume, and the projections three
    times and once more for each iteration.

    References
    ----------
    .. [1] C. C. Paige, M. A. Saunders, ACM Trans. Math. Softw. 8 (1982) 43,
       https://doi.org/10.1145/355984.355989.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> haadf = mt.TiltSeriesHAADF.from_images(np.ones((3, 4, 8)), tilts=[-40, 0, 40])
    >>> haadf.reconstruct_cgls(iterations=3, show_progressbar=False)
    <TomographicVolume, title: HAADF, dimensions: (8|8, 4)>
    """
    return reconstruct(series, "cgls", iterations=iterations, **run)


@checked
@with_shared(RECIPES["fbp"])
def reconstruct_fbp(
    series, filter: str = "ramp", *, cutoff: float = 1.0, **run: Unpack[DirectRun]
) -> TomographicVolume:
    """Reconstruct by filtered back projection: a quick look, or many tilts over the whole range.

    Parameters
    ----------
    filter : {"ramp", "shepp-logan", "cosine", "hamming", "hann"}, default "ramp"
        The ramp, alone or times a window that takes noise and detail down; the smoothest is the
        last.
    cutoff : float, default 1.0
        Where the window ends, in units of the highest frequency of the images, above 0 up to 1.

    Returns
    -------
    TomographicVolume
        Array order (z, y, x), HAADF signal per nm of path; or (z, element, y, x), counts per nm of
        path. Voxels may be negative. Lazy for a lazy series.

    Raises
    ------
    ValueError
        For another filter or cutoff, data that are not finite, or a single tilt.

    Notes
    -----
    See [1]_, eq. 3.61. There is no forward model for gains to enter: the data are divided by
    them. Tilts weigh by the angle that they stand for; a missing wedge is not made up for,
    except that its share is given to the other tilts, which keeps the scale of what looks alike
    from all sides. A film does not: most of it lies in the wedge, and is lost.

    References
    ----------
    .. [1] A. C. Kak, M. Slaney, Principles of Computerized Tomographic Imaging (1988),
       https://doi.org/10.1137/1.9780898719277.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> haadf = mt.TiltSeriesHAADF.from_images(np.ones((3, 4, 8)), tilts=[-60, 0, 60])
    >>> haadf.reconstruct_fbp("hann", show_progressbar=False)
    <TomographicVolume, title: HAADF, dimensions: (8|8, 4)>
    """
    return reconstruct(series, "fbp", filter=filter, cutoff=cutoff, **run)


@checked
@with_shared(RECIPES["tv"])
def reconstruct_tv_of_images(
    series,
    *,
    mu: float | None = None,
    iterations: int = 500,
    nonnegative: bool = True,
    **run: Unpack[SmoothRun],
) -> TomographicVolume:
    """Reconstruct by total variation (TV): flat regions with sharp edges.

    For few or noisy images.

    Parameters
    ----------
    mu : float, optional
        Weight of the data (R. Huber et al., Nanoscale 11 (2019) 5617), instead of `weight`.
    iterations : int, default 500
        How many, at most.
    nonnegative : bool, default True
        Keep the volume from going below zero.

    Returns
    -------
    TomographicVolume
        Array order (z, y, x), HAADF signal per nm of path. `TomographicVolume.residuals` have
        the ``"objective"``.

    Raises
    ------
    ValueError
        For weights that are not positive, data that are not finite, a single tilt, or the
        checkpoint of another run.
    MemoryError
        Where the run would need more memory than there is.

    Warns
    -----
    UserWarning
        For smoothed images without a `haadf_gain`.

    Notes
    -----
    Minimises the Kullback-Leibler divergence of the noise-equivalent electrons from their
    expectation, or half the squared difference, plus weight times TV(x/S) over x >= 0, S the range
    of the volume; see `hyperspy_multitomo.tomography.variational`. Of a lazy series all slices are
    reconstructed together where they fit into the memory.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> haadf = mt.TiltSeriesHAADF.from_images(np.full((3, 4, 8), 90.0), tilts=[-40, 0, 40])
    >>> haadf.reconstruct_tv(iterations=20, show_progressbar=False)
    <TomographicVolume, title: HAADF, dimensions: (8|8, 4)>
    """
    return reconstruct(series, "tv", mu=mu, iterations=iterations, nonnegative=nonnegative, **run)


@checked
@with_shared(RECIPES["tgv"])
def reconstruct_tgv_of_images(
    series,
    *,
    mu: float | None = None,
    iterations: int = 500,
    alpha0: float = 4.0,
    nonnegative: bool = True,
    **run: Unpack[SmoothRun],
) -> TomographicVolume:
    """Reconstruct by total generalised variation (TGV): smooth slopes with sharp edges.

    Without the steps of TV, at about three times its time and memory.

    Parameters
    ----------
    mu : float, optional
        Weight of the data (R. Huber et al., Nanoscale 11 (2019) 5617), instead of `weight`.
    iterations : int, default 500
        How many, at most.
    alpha0 : float, default 4.0
        How far slopes are preferred to steps, in voxels: small values give more slopes, large ones
        are TV.
    nonnegative : bool, default True
        Keep the volume from going below zero.

    Returns
    -------
    TomographicVolume
        Array order (z, y, x), HAADF signal per nm of path. Unless it is lazy, the last step of its
        `history` has ``slopes``, the part of the gradient that slopes hold, and ``in_effect``,
        ``"tgv"`` or ``"tv"``.

    Raises
    ------
    ValueError
        For weights that are not positive, data that are not finite, a single tilt, or the
        checkpoint of another run.
    MemoryError
        Where the run would need more memory than there is.

    Warns
    -----
    UserWarning
        For smoothed images without a `haadf_gain`, and where the result is that of TV, as slopes
        hold less than 2 % of the gradient: pass a smaller `alpha0`, or use `reconstruct_tv`. Slabs
        of a lazy series warn when they are computed.

    Notes
    -----
    TGV(u) = min_w |grad u - w| + alpha0 |E w|, E the symmetrised gradient (K. Bredies, K. Kunisch,
    T. Pock, SIAM J. Imaging Sci. 3 (2010) 492, https://doi.org/10.1137/090769521).

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> haadf = mt.TiltSeriesHAADF.from_images(np.full((3, 4, 8), 90.0), tilts=[-40, 0, 40])
    >>> haadf.reconstruct_tgv(iterations=20, show_progressbar=False)
    <TomographicVolume, title: HAADF, dimensions: (8|8, 4)>
    """
    return reconstruct(
        series, "tgv", mu=mu, iterations=iterations, alpha0=alpha0, nonnegative=nonnegative, **run
    )

# SPDX-License-Identifier: GPL-3.0-or-later
"""The reconstructions that every tilt series has, from its own data alone."""

from __future__ import annotations

from os import PathLike

from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.signals.methods import plain_solvers as methods
from hyperspy_multitomo.signals.volume import TomographicVolume


class Reconstructions:
    """Mixin of the tilt series: `reconstruct_fbp`, `reconstruct_sirt`, `reconstruct_em` and `reconstruct_cgls`."""

    @checked
    def reconstruct_sirt(
        self,
        iterations: int | None = None,
        *,
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
        chunks: int | None = None,
        checkpoint: str | PathLike | None = None,
        resume: str | PathLike | None = None,
        show_progressbar: bool | None = None,
        interactive: bool = False,
        display: bool = True,
        toolkit: str | None = None,
    ) -> TomographicVolume:
        """Reconstruct by SIRT: the HAADF, or each element from its maps alone.

        Parameters
        ----------
        iterations : int, optional
            How many, at most; exactly so many run without a stopping rule. By default 100 for HAADF
            images and 20 for elemental maps, whose noise grows with the iterations: about 5, 10 and
            20 are best at 1, 5 and 30 counts per pixel where nothing is smoothed.
        mask : array-like of bool or signal, shape (z, y, x), optional
            Voxels outside it stay zero.
        initial : TomographicVolume or array, shape (z, [element,] y, x), optional
            Start from here instead of from zero.
        depth, width : float, optional
            Extent of the volume along z and x in nm (px without calibration); as wide as the
            detector by default. Thinner for a lamella, wider where the specimen leaves the field of
            view.
        relaxation : float, default 1.0
            Factor on every step, between 0 and 2; small ones converge more slowly and stop more
            finely.
        stopping : {"discrepancy"}, optional
            Stop when the residual is down to the noise of the data, where the error is within some
            percent of its lowest. The noise is that of counts, or for net counts and images
            measured from the finest detail of what was recorded. Each element stands still from
            there on. All `iterations` run where the volume cannot explain the data so well: a
            specimen that leaves the field of view, or a poor alignment.
        noise : float, optional
            For `stopping`: standard deviation of the noise in each pixel as recorded, instead of
            those estimates; series that were smoothed need it.
        tolerance : float, optional
            Stop when the relative residual changes by less than this from one iteration to the
            next.
        nonnegative : bool, default True
            Keep the volume from going below zero.
        backend : {"cuda", "astra_cuda", "numba", "astra_cpu"}, optional
            The projector; the best that works here by default. The history names the one that ran,
            or of a lazy series, which runs later, the one that was asked for.
        chunks : int, optional
            For a lazy series: slices of a slab, instead of as many as fit the memory and are done
            soonest; a resumed run keeps those that it had.
        checkpoint : str or path-like, optional
            Keep the state of the run here, every ten minutes and when it is interrupted: a file, or
            for a lazy series a folder with the slabs that are finished. What exists is not
            overwritten.
        resume : str or path-like, optional
            Go on from such a checkpoint, to the result of a run that was not interrupted, and keep
            the state there. The data and all parameters have to be the same, but for `iterations`
            and `tolerance`.
        show_progressbar : bool, optional
            HyperSpy's preference by default.
        interactive : bool, default False
            Open a panel that reconstructs one slice as parameters change, and then the whole
            volume.
        display : bool, default True
            With `interactive`: show the panel; with False its widgets are returned.
        toolkit : str, optional
            With `interactive`: HyperSpy's toolkit for the panel; its preference by default.

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
        if interactive:
            from hyperspy_multitomo.widgets.opening import open_panel
            from hyperspy_multitomo.widgets.reconstruction_panel import ReconstructionPanel

            given = dict(
                mask=mask, initial=initial, depth=depth, width=width, stopping=stopping, noise=noise
            )
            given |= dict(
                relaxation=relaxation, nonnegative=nonnegative, tolerance=tolerance, backend=backend
            )
            given["iterations"] = iterations
            return open_panel(ReconstructionPanel(self, **given), display, toolkit)
        return methods.reconstruct_sirt(
            self,
            self._ITERATIONS if iterations is None else iterations,
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
            chunks=chunks,
            checkpoint=checkpoint,
            resume=resume,
            show_progressbar=show_progressbar,
        )

    @checked
    def reconstruct_em(
        self,
        iterations: int | None = None,
        *,
        background=None,
        mask=None,
        initial=None,
        depth: float | None = None,
        width: float | None = None,
        stopping: str | None = None,
        noise: float | None = None,
        tolerance: float | None = None,
        backend: str | None = None,
        chunks: int | None = None,
        checkpoint: str | PathLike | None = None,
        resume: str | PathLike | None = None,
        show_progressbar: bool | None = None,
    ) -> TomographicVolume:
        """Reconstruct by EM: the maximum likelihood of Poisson counts, with the background in the model instead of subtracted.

        Parameters
        ----------
        iterations : int, optional
            How many, at most; exactly so many run without a stopping rule. By default 50 for HAADF
            images and 10 for elemental maps, whose noise grows with the iterations: about 3 are
            best at 1 count per pixel, 5 at 5 and 10 at 30.
        background : float or array-like, optional
            Counts per pixel expected from anything but the specimen (or element): a number, one for
            each tilt, for each tilt and element, or (tilt, [element,] y, x). By default that which
            was recorded with the maps, else 0.
        mask, depth, width, stopping, noise, tolerance, backend, chunks, checkpoint, resume,
        show_progressbar
            As in `reconstruct_sirt`.
        initial : TomographicVolume or array, shape (z, [element,] y, x), optional
            Start from here instead of from a uniform volume; not negative, and what is 0 stays 0.

        Returns
        -------
        TomographicVolume
            As that of `reconstruct_sirt`, net counts per nm of path. `TomographicVolume.residuals`
            have the ``"deviance"`` too.

        Raises
        ------
        ValueError
            For negative values where no gross counts are recorded, a background that does not fit,
            and what `reconstruct_sirt` refuses.

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
        return methods.reconstruct_em(
            self,
            (10 if self.channels else 50) if iterations is None else iterations,
            background=background,
            mask=mask,
            initial=initial,
            depth=depth,
            width=width,
            stopping=stopping,
            noise=noise,
            tolerance=tolerance,
            backend=backend,
            chunks=chunks,
            checkpoint=checkpoint,
            resume=resume,
            show_progressbar=show_progressbar,
        )

    @checked
    def reconstruct_cgls(
        self,
        iterations: int | None = None,
        *,
        mask=None,
        initial=None,
        depth: float | None = None,
        width: float | None = None,
        stopping: str | None = None,
        noise: float | None = None,
        tolerance: float | None = None,
        backend: str | None = None,
        chunks: int | None = None,
        checkpoint: str | PathLike | None = None,
        resume: str | PathLike | None = None,
        show_progressbar: bool | None = None,
    ) -> TomographicVolume:
        """Reconstruct by CGLS, conjugate gradients for least squares, without constraints: fast, and soon at the noise.

        Parameters
        ----------
        iterations : int, optional
            How many, at most; by default 7 for HAADF images and 2 for elemental maps. The error
            falls for some iterations and soon rises again as the noise is being fitted: 2 or 3 are
            best for maps of up to 30 counts per pixel, 4 to 7 for images with 3 to 1 % of noise.
        mask, initial, depth, width, stopping, noise, tolerance, backend, chunks, checkpoint,
        resume, show_progressbar
            As in `reconstruct_sirt`.

        Returns
        -------
        TomographicVolume
            As that of `reconstruct_sirt`; voxels may be negative.

        Raises
        ------
        ValueError
            As `reconstruct_sirt`.

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
        return methods.reconstruct_cgls(
            self,
            (2 if self.channels else 7) if iterations is None else iterations,
            mask=mask,
            initial=initial,
            depth=depth,
            width=width,
            stopping=stopping,
            noise=noise,
            tolerance=tolerance,
            backend=backend,
            chunks=chunks,
            checkpoint=checkpoint,
            resume=resume,
            show_progressbar=show_progressbar,
        )

    @checked
    def reconstruct_fbp(
        self,
        filter: str = "ramp",
        *,
        cutoff: float = 1.0,
        depth: float | None = None,
        width: float | None = None,
        backend: str | None = None,
        chunks: int | None = None,
        show_progressbar: bool | None = None,
    ) -> TomographicVolume:
        """Reconstruct by filtered back projection: a quick look, or many tilts over the whole range.

        Parameters
        ----------
        filter : {"ramp", "shepp-logan", "cosine", "hamming", "hann"}, default "ramp"
            The ramp, alone or times a window that takes noise and detail down; the smoothest is the
            last.
        cutoff : float, default 1.0
            Where the window ends, in units of the highest frequency of the images, above 0 up to 1.
        depth, width, backend, chunks, show_progressbar
            As in `reconstruct_sirt`.

        Returns
        -------
        TomographicVolume
            As that of `reconstruct_sirt`; voxels may be negative.

        Raises
        ------
        ValueError
            For another filter or cutoff, and what `reconstruct_sirt` refuses.

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
        return methods.reconstruct_fbp(
            self,
            filter=filter,
            cutoff=cutoff,
            depth=depth,
            width=width,
            backend=backend,
            chunks=chunks,
            show_progressbar=show_progressbar,
        )

# SPDX-License-Identifier: GPL-3.0-or-later
"""Noise realisations: a volume made again and again of counts drawn anew."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hyperspy_multitomo.arguments import checked, whole
from hyperspy_multitomo.evidence.realisations import NOT_COVERED, Realisations
from hyperspy_multitomo.evidence.redraw import Moments
from hyperspy_multitomo.machine.cluster import client_in_use, workers
from hyperspy_multitomo.machine.memory import check_memory
from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.machine.progress import progress_bar
from hyperspy_multitomo.signals.metadata.history import add_step
from hyperspy_multitomo.signals.metadata.recorded_arrays import NODE
from hyperspy_multitomo.signals.methods.redrawing import Maker, Redrawing
from hyperspy_multitomo.tomography.checkpoint import Checkpoint

# Fewest that have a scatter.
_FEWEST = 2
# Bytes up to which the volumes of all realisations are kept in memory.
_KEPT = 2**30
# Copies of a volume that are held: mean, squares and their update in double precision, and the
# one that comes.
_COPIES = 8


@checked(count=whole(_FEWEST, "of realisations"), seed=whole(0))
def realisations(
    series,
    volume,
    haadf=None,
    count: int = 30,
    *,
    seed: int = 0,
    checkpoint=None,
    mask=None,
    initial=None,
    background=None,
    show_progressbar: bool | Callable | None = None,
) -> Realisations:
    """Draw the counts anew and reconstruct them, several times: what noise does to a volume.

    The volume itself says what to expect at each recorded pixel. Counts are drawn around that, the
    volume's own recipe is run on them, and the volumes that come out are summed up: a parametric
    bootstrap [1]_. Their standard deviation is the noise of the volume, no more: **noise only**.

    Parameters
    ----------
    volume : TomographicVolume
        A reconstruction of this series, as the method returned it. Series that `reconstruct` has
        binned are binned here, too.
    haadf : TiltSeriesHAADF, optional
        The HAADF series, where the volume was made of maps and HAADF images; its noise is drawn
        anew as well.
    count : int, default 30
        Realisations, 2 or more. The standard deviation is known to 1 / sqrt(2 count - 2), 13 % with
        30.
    seed : int, default 0
        Of the random numbers; realisation k has its own, so that more can be added later.
    checkpoint : path-like, optional
        A folder in which each realisation is kept. Those that are there are not made again.
    mask, initial, background : array or signal, optional
        As they were given to the reconstruction.
    show_progressbar : bool, optional
        HyperSpy's preference by default.

    Returns
    -------
    Realisations
        ``mean``, ``sd`` and ``bias`` (the mean less `volume`), volumes that can be saved;
        `Realisations.region` gives means over a region with their errors, and
        `TomographicVolume.composition_errors` takes it as ``count_errors``. After an interrupt
        (Ctrl-C) it holds those that were done.

    Raises
    ------
    ValueError
        For a volume of another series, one that was changed after its reconstruction or is a part
        of one; for smoothed series, and for maps that are no counts as recorded; for a checkpoint
        of another volume, series or seed.
    MemoryError
        Where a few volumes, or a lazy series, do not fit in the memory.

    Warns
    -----
    UserWarning
        After an interrupt, and where the volume expects many counts below 0.

    Notes
    -----
    What was chosen by ``"auto"`` is not chosen again: the weight, alpha and iterations in the
    history of the volume are used. A rule that stops at the noise, such as ``iterations="auto"`` of
    SIRT, stops each run by itself. Response ratios are fitted again where the volume was made with
    those that `fit_response_ratios` attached, with the same prior and blocks; ratios that were
    given stay.

    Maps are Poisson counts; where net counts are reconstructed, what the subtracted background adds
    to their noise, or a fit takes from it, is measured from the maps and added. The noise of HAADF
    images is measured from their finest detail, at each level of the signal.

    The standard deviation does not hold errors of the alignment, gains, background, absorption and
    of the model, nor what the missing wedge hides. Nor does it hold the **bias**: the better a
    regulariser removes noise, the smaller the standard deviation, and the less does it cover the
    truth. The bias that is given is what a second pass of the method takes from the volume, which
    is smoother than the specimen: it tells where contrast is lost, and is less than the true one.

    Everything is in memory, one realisation at a time; with a dask cluster one on each worker. The
    volumes are kept for `Realisations.region` where they take less than 1 GB together, or in the
    folder.

    References
    ----------
    .. [1] B. Efron, R. J. Tibshirani, An Introduction to the Bootstrap (1993), section 6.5,
       https://doi.org/10.1201/9780429246593.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> z, x, y = np.mgrid[-8:8, -8:8, -2:2] + 0.5
    >>> ball = 1.0 * (z**2 + x**2 + y**2 < 36)
    >>> tilts = np.arange(-70, 71, 20)
    >>> images = mt.projector(mt.TiltGeometry(tilts, 16))(ball).transpose(0, 2, 1)
    >>> counts = {"Au": np.random.default_rng(0).poisson(images)}
    >>> eds = mt.TiltSeriesEDS.from_maps(counts, tilts=tilts)
    >>> volume = eds.reconstruct_sirt(20, depth=None, show_progressbar=False)
    >>> noise = eds.realisations(volume, count=10, show_progressbar=False)
    >>> centre = np.zeros((16, 4, 16), bool)
    >>> centre[6:10, :, 6:10] = True
    >>> found = noise.region(centre)
    >>> bool(0.01 < found.sd[0] < 0.1)
    True
    """
    given = {"mask": mask, "initial": initial, "background": background}
    redrawing = Redrawing.of(volume, series, haadf, given)
    return _realisations(redrawing, count, seed, checkpoint, show_progressbar)


@checked(count=whole(_FEWEST, "of realisations"), seed=whole(0))
def realisations_of_images(
    series,
    volume,
    count: int = 30,
    *,
    seed: int = 0,
    checkpoint=None,
    mask=None,
    initial=None,
    background=None,
    show_progressbar: bool | Callable | None = None,
) -> Realisations:
    """Draw the HAADF images anew and reconstruct them, several times: what noise does to a volume.

    See `TiltSeriesEDS.realisations` for what comes back, what it covers and what it does not.

    Parameters
    ----------
    volume : TomographicVolume
        A reconstruction of this series, as the method returned it.
    count : int, default 30
        Realisations, 2 or more.
    seed : int, default 0
        Of the random numbers.
    checkpoint : path-like, optional
        A folder in which each realisation is kept. Those that are there are not made again.
    mask, initial, background : array or signal, optional
        As they were given to the reconstruction.
    show_progressbar : bool, optional
        HyperSpy's preference by default.

    Returns
    -------
    Realisations

    Raises
    ------
    ValueError
        For a volume of another series, one that was changed after its reconstruction or is a part
        of one; for a smoothed series; for a checkpoint of another volume, series or seed.
    MemoryError
        Where a few volumes, or a lazy series, do not fit in the memory.

    Warns
    -----
    UserWarning
        After an interrupt.

    Notes
    -----
    The noise of the images is measured from their finest detail, at each level of the signal.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> images = np.random.default_rng(0).poisson(50.0, (5, 4, 8))
    >>> haadf = mt.TiltSeriesHAADF.from_images(images, tilts=[-40, -20, 0, 20, 40])
    >>> volume = haadf.reconstruct_sirt(5, show_progressbar=False)
    >>> haadf.realisations(volume, count=3, show_progressbar=False).count
    3
    """
    given = {"mask": mask, "initial": initial, "background": background}
    redrawing = Redrawing.of(volume, series, None, given)
    return _realisations(redrawing, count, seed, checkpoint, show_progressbar)


def _realisations(
    redrawing: Redrawing, count: int, seed: int, checkpoint, show_progressbar
) -> Realisations:
    """Make realisations, as far as nothing interrupts."""
    check_memory(
        _COPIES * redrawing.array.nbytes, "noise realisations of this volume", "crop or bin it"
    )
    made_of = redrawing.record() | {"seed": seed}
    kept = Kept.of(checkpoint, made_of, count * redrawing.array.nbytes)
    moments, ratios = Moments(), []
    try:
        with progress_bar(show_progressbar, "noise realisations", count) as step:
            for array, fitted in _all(redrawing, kept, count, seed):
                moments.add(array)
                ratios.append(fitted)
                if step is not None:
                    step()
    except KeyboardInterrupt:
        if moments.count < _FEWEST:
            raise
        warn(f"interrupted: these are the {moments.count} realisations that were done of {count}")
    return _result(redrawing, kept, moments, ratios, made_of)


@dataclass(frozen=True, eq=False)
class Kept:
    """The realisations that are kept, in a folder or in memory, or nowhere.

    Attributes
    ----------
    folder : Path or None
    key : dict
        What made them.
    arrays : list or None
        Those in memory.
    """

    folder: Path | None
    key: dict[str, Any]
    arrays: list[np.ndarray] | None = field(default_factory=list)

    @classmethod
    def of(cls, checkpoint, made_of: dict[str, Any], size: int) -> Kept:
        """Return where realisations of `size` bytes in all are kept."""
        key = {name: made_of[name] for name in ("made_of", "volume", "ratios", "seed")}
        key["step"] = made_of["reconstruction"]["step"]
        if checkpoint is None:
            return cls(None, key, [] if size <= _KEPT else None)
        folder = Path(os.fspath(checkpoint))
        if folder.exists() and not folder.is_dir():
            raise ValueError(
                f"checkpoint={str(folder)!r} is a file; noise realisations need a folder, which is "
                "made where there is none"
            )
        return cls(folder, key, None)

    def stored(self, number: int) -> tuple[np.ndarray, np.ndarray | None] | None:
        """Return the volume and the ratios of a realisation from the folder, or None."""
        if self.folder is None or not self._checkpoint(number).path.exists():
            return None
        stored = self._checkpoint(number).load()
        return stored["volume"], stored.get("ratios")

    def keep(self, number: int, array: np.ndarray, ratios: np.ndarray | None) -> None:
        """Keep a realisation, if they are kept."""
        if self.arrays is not None:
            self.arrays.append(array)
        if self.folder is not None:
            state = {"volume": array} | ({} if ratios is None else {"ratios": ratios})
            self._checkpoint(number).save(state)

    def each(self) -> Callable[[int], np.ndarray] | None:
        """Return what gives the volume of a realisation by its number, or None."""
        if self.arrays is not None:
            return self.arrays.__getitem__
        return None if self.folder is None else self._volume

    def _volume(self, number: int) -> np.ndarray:
        return self._checkpoint(number).load()["volume"]

    def _checkpoint(self, number: int) -> Checkpoint:
        assert self.folder is not None
        path = self.folder / f"realisation_{number:04d}.state"
        return Checkpoint(path, key=self.key | {"number": number})


def _all(
    redrawing: Redrawing, kept: Kept, count: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Yield the volume and the ratios of each realisation, in the order of their numbers."""
    makes: Callable | None = None
    together = max(1, len(workers()))
    for first in range(0, count, together):
        numbers = range(first, min(first + together, count))
        stored = {number: kept.stored(number) for number in numbers}
        missing = [number for number in numbers if stored[number] is None]
        if missing and makes is None:
            makes = _maker(redrawing.maker(), redrawing.expected(), seed)
        made = {number: makes(number) for number in missing} if makes is not None else {}
        for number in numbers:
            found = stored[number]
            if found is None:
                found = made[number]()
                kept.keep(number, *found)
            yield found


def _maker(maker: Maker, expected: tuple, seed: int) -> Callable[[int], Callable]:
    """Return what begins a realisation and returns what gives its volume and ratios.

    On a cluster it begins on a worker, else when it is asked for.
    """
    client = client_in_use()
    if client is None:
        return lambda number: partial(_one, maker, expected, seed, number)
    shared = client.scatter((maker, expected), broadcast=True, hash=False)
    return lambda number: client.submit(_one_of, shared, seed, number, pure=False).result


def _one_of(shared: tuple, seed: int, number: int):
    """Return the volume and the ratios of one realisation, on a worker."""
    return _one(*shared, seed, number)


def _one(maker: Maker, expected: tuple, seed: int, number: int):
    """Return the volume and the ratios of one realisation."""
    drawn = maker.drawn(expected, np.random.default_rng([seed, number]))
    try:
        return maker(*drawn)
    except ValueError as error:
        error.add_note(f"in noise realisation {number} of the counts")
        raise


def _result(redrawing: Redrawing, kept: Kept, moments: Moments, ratios, made_of) -> Realisations:
    """Return the realisations that were made as a result."""
    volume, unit = redrawing.volume, redrawing.volume.quantity
    parts = {
        "mean": (moments.mean, unit),
        "sd": (moments.sd, f"standard deviation of {unit}, noise only"),
        "bias": (moments.mean - redrawing.array, f"bias of {unit}"),
    }
    volumes = {
        name: _volume_of(volume, array, quantity, name, moments.count, made_of["seed"])
        for name, (array, quantity) in parts.items()
    }
    fitted = None if redrawing.refit is None else np.array(ratios)
    return Realisations(
        volume, **volumes, count=moments.count, made_of=made_of, ratios=fitted, _each=kept.each()
    )


def _volume_of(volume, array: np.ndarray, quantity: str, statistic: str, count: int, seed: int):
    """Return an array (channel, z, x, y) as a volume beside another one."""
    data = array.astype(np.float32).transpose(1, 0, 3, 2)
    data = np.ascontiguousarray(data if volume.channels else data[:, 0])
    made = volume._deepcopy_with_new_data(data)
    if volume._lazy:
        made._lazy = False
        made._assign_subclass()
    made.metadata.General.title = f"{statistic} of {count} noise realisations"
    made.metadata.set_item(f"{NODE}.quantity", quantity)
    settings = {"statistic": statistic, "count": count, "seed": seed, "covers": NOT_COVERED}
    add_step(made, "realisations", after=volume, **settings)
    return made

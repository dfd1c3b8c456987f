# SPDX-License-Identifier: GPL-3.0-or-later
"""A solver as a generator of iterates, and `run`, which takes the iterates it needs and says why it stopped."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from numbers import Integral

import numpy as np

from hyperspy_multitomo.tomography.steps import Steps
from hyperspy_multitomo.tomography.stopping import StoppingRule


class Iterate:
    """A view of a solver at work: what it holds changes with the next iteration, the arrays it gives do not."""

    def __init__(self, steps: Steps, has_channels: bool):
        self._steps = steps
        self._has_channels = has_channels

    @property
    def iteration(self) -> int:
        """Iterations done; 0 is the start."""
        return self._steps.iteration

    @property
    def channel_iterations(self) -> np.ndarray:
        """Iterations that each channel of the volume took part in, (channel,): fewer where it is held."""
        return self._steps.channel_iterations.copy()

    @property
    def volume(self) -> np.ndarray:
        """The volume, a copy: (channel, z, x, y) float32, or (z, x, y) for projections without a channel axis."""
        volume = self._steps.volume
        return volume if self._has_channels else volume[0]

    @property
    def residuals(self) -> dict[str, np.ndarray | float]:
        """|b - A x|/|b| of the volume that the last iteration started from; empty before anything was measured.

        "eds" is an array, one value per channel of the projections (for SIRT of any signal too), "haadf" a number. EM adds
        "deviance", an array: twice the Kullback-Leibler divergence of the counts from their expectation, per ray. With a
        regulariser they are those of the volume at the last tenth iteration, and there is the "objective", a number.
        """
        return dict(self._steps.residuals)

    @property
    def latest_residuals(self) -> dict[str, np.ndarray | float]:
        """The latest that are known, as `residuals`: of CGLS those of the volume as it is now."""
        return dict(self._steps.latest)

    @property
    def measured(self) -> bool:
        """Whether the last iteration found new residuals; all solvers do in each but those with a regulariser, in every tenth."""
        return self._steps.measured

    @property
    def separate(self) -> bool:
        """Whether the channels are solved apart from each other, so that some can be held while others go on."""
        return self._steps.separate

    def hold(self, channels) -> None:
        """Keep some channels, bool (channel,), as they are from now on.

        Raises
        ------
        ValueError
            Where the channels are coupled: one that stands still would leave what it lacks to the others.
        """
        if not self.separate:
            raise ValueError("the channels of this solver are coupled by the HAADF and cannot be held one by one; stop them all")
        self._steps.hold(np.asarray(channels, bool))

    def __repr__(self) -> str:
        return f"<Iterate {self.iteration}>"


@dataclass(frozen=True)
class Reconstruction:
    """What `run` returns.

    Attributes
    ----------
    volume : numpy.ndarray
        (channel, z, x, y) or (z, x, y) float32, signal per unit length.
    residuals : dict of numpy.ndarray
        Per iteration, |b - A x|/|b| of the volume that it started from: "eds" (iteration, channel), "haadf" (iteration,); of EM
        "deviance" too, (iteration, channel). With a regulariser of the volume after every tenth iteration, and "objective"
        (iteration,); empty where none of these was among the iterations.
    iterations : int
        Iterations done.
    interrupted : bool
        Whether an interrupt ended the run.
    converged : bool
        Whether a stopping rule ended the run.
    stopped_by : {"iterations", "tolerance", "discrepancy", "interrupt"}
        What ended it.
    channel_iterations : numpy.ndarray
        Iterations that each channel took part in, (channel,).
    measured_at : numpy.ndarray
        Iterations at which the residuals were found, as many as they have rows.
    """

    volume: np.ndarray
    residuals: dict[str, np.ndarray]
    iterations: int
    interrupted: bool
    converged: bool
    stopped_by: str = "iterations"
    channel_iterations: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    measured_at: np.ndarray = field(default_factory=lambda: np.zeros(0, int))


def iterates_of(steps: Steps, has_channels: bool, kind: type[Iterate] = Iterate) -> Iterator[Iterate]:
    """Yield the start, then every iterate, without end, as a view of the given kind.

    The work is done in a thread of its own, so that an interrupt, which arrives in the main thread, finds the iterate whole.
    """
    iterate = kind(steps, has_channels)
    try:
        yield iterate
        with ThreadPoolExecutor(1) as conductor:
            while True:
                try:
                    conductor.submit(steps.advance).result()
                except BaseException:
                    steps.cancel()
                    raise
                yield iterate
    finally:
        steps.close()


def run(
    iterates: Iterator[Iterate],
    iterations: int,
    *,
    tolerance: float | None = None,
    noise=None,
    progress: Callable[[Iterate], object] | None = None,
) -> Reconstruction:
    """Take iterates until enough of them are done, and return the last.

    Parameters
    ----------
    iterates : iterator of Iterate
        From `sirt`, `hebt`, `em`, `cgls` or another solver. It is left where it stopped: a second `run` of it goes on.
    iterations : int
        Iterations to do, at most.
    tolerance : float, optional
        Stop before that when no relative residual changes by this much between two iterations; with a regulariser when the
        last three measurements of the objective, over twenty iterations, are within this much of each other, relative to it. By
        default exactly `iterations` are done.
    noise : float or array_like (channel,), optional
        Discrepancy principle: stop when the relative residual |b - A x|/|b| is down to this, the norm of the noise over that of
        the data; see `counting_noise` and `image_noise`. Each channel is held where it is once it gets there, while the others
        go on; HEBT, whose channels are coupled, stops when the last of them is there.
    progress : callable, optional
        Called with the iterate after each iteration, to show a bar or a picture.

    Returns
    -------
    Reconstruction

    Raises
    ------
    ValueError
        If `iterations` is not a whole number, 0 or more, or `tolerance` or `noise` is not positive.

    Warns
    -----
    UserWarning
        If a keyboard interrupt ends the run: the last whole iterate is returned.

    Notes
    -----
    The residual of a volume is known when the next one is made: a run ends one iteration after the rule is met. CGLS, to which
    one iteration matters and whose recurrences know it at once, is stopped by `noise` at the iterate that meets it.

    Examples
    --------
    >>> from hyperspy_multitomo.tomography import TiltGeometry, projector, run, sirt
    >>> A = projector(TiltGeometry(range(-80, 81, 20), detector_width=16))
    >>> result = run(sirt(A, A(np.ones((16, 16, 1)))), 200, tolerance=1e-3)
    >>> result.stopped_by, result.iterations == len(result.residuals["eds"]) < 200
    ('tolerance', True)
    """
    if not isinstance(iterations, Integral) or iterations < 0:
        raise ValueError(f"`iterations` is {iterations!r}; expected a whole number, 0 or more")
    rule = StoppingRule(tolerance, noise)
    history: list[dict] = []
    measured_at: list[int] = []
    iterate, stopped_by, done = None, "iterations", 0
    try:
        for iterate in iterates:
            reached = None
            if iterate.iteration > 0:
                done += 1
                if iterate.measured:
                    history.append(iterate.residuals)
                    measured_at.append(iterate.iteration)
                if progress is not None:
                    progress(iterate)
                if iterate.measured:
                    reached = rule.reached(iterate, history)
            if reached or done >= iterations:
                stopped_by = reached or stopped_by
                break
    except KeyboardInterrupt:
        if iterate is None:
            raise
        stopped_by = "interrupt"
        warnings.warn(f"interrupted: this is iteration {iterate.iteration} of {iterations}", stacklevel=2)
    names = history[0] if history else ()
    residuals = {name: np.array([entry[name] for entry in history]) for name in names}
    return Reconstruction(
        volume=iterate.volume,
        residuals=residuals,
        iterations=iterate.iteration,
        interrupted=stopped_by == "interrupt",
        converged=stopped_by in ("tolerance", "discrepancy"),
        stopped_by=stopped_by,
        channel_iterations=iterate.channel_iterations,
        measured_at=np.array(measured_at, int),
    )

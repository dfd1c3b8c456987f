# SPDX-License-Identifier: GPL-3.0-or-later
"""A solver as a generator of iterates, and `run`, which takes iterates until a rule is met."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from time import monotonic

import numpy as np

from hyperspy_multitomo.machine.denormals import flush_denormals
from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.tomography.checkpoint import Checkpoint
from hyperspy_multitomo.tomography.steps import Steps
from hyperspy_multitomo.tomography.stopping import StoppingRule

# Tolerance at which the first of two solves ends, over that of the second. Its linear term need not
# be more exact: on seven simulated cases of benchmarks/refit.py it saves a tenth of all iterations,
# and changes errors by less than 0.3 %, 2 % in one; 4 saves as much again for up to 3 %.
_FIRST = 2.0


class Iterate:
    """A view of a running solver: it changes with every iteration, the arrays it returns do not."""

    def __init__(self, steps: Steps, has_channels: bool):
        self._steps = steps
        self._has_channels = has_channels

    @property
    def iteration(self) -> int:
        """Iterations done; 0 is the start."""
        return self._steps.iteration

    @property
    def channel_iterations(self) -> np.ndarray:
        """Iterations that each channel took part in, (channel,): fewer where it is held."""
        return self._steps.channel_iterations.copy()

    @property
    def volume(self) -> np.ndarray:
        """A copy of the volume, (channel, z, x, y) float32.

        It is (z, x, y) for projections without a channel axis.
        """
        volume = self._steps.volume
        return volume if self._has_channels else volume[0]

    @property
    def residuals(self) -> dict[str, np.ndarray | float]:
        """|b - A x|/|b| of the volume before the last iteration; empty before any measurement.

        "eds" is an array, one value per channel of the projections (for SIRT of any signal too),
        "haadf" a number. EM adds "deviance", an array: twice the Kullback-Leibler divergence of the
        counts from their expectation, per ray. With a regulariser they are those of the volume at
        the last tenth iteration, and there is the "objective", a number; with TGV "slopes" too, see
        `slopes`.
        """
        return dict(self._steps.residuals)

    @property
    def box(self) -> list[int] | None:
        """The box of voxels that is worked on, first and last + 1 along z, x and y.

        It is None where it is the whole volume.
        """
        box = getattr(self._steps.system, "box", None)
        return None if box is None else box.bounds

    @property
    def refitted_at(self) -> int | None:
        """Iteration at which the second of two solves began, see `refit`; None before."""
        return self._steps.refitted_at

    def check_refit(self) -> None:
        """Raise an error unless the solver has a second solve, see `refit`.

        Raises
        ------
        TypeError
        """
        if not self._steps.refits:
            raise TypeError(
                f"{type(self._steps).__name__} has no refit; expected the iterates of "
                "`variational`, or of `fused` with power 1"
            )

    def refit(self) -> None:
        """Minimise D(x) + lambda (R(x) - <q, x>) from now on, q a subgradient of R at this volume.

        It is the second step of Bregman's iteration, for a volume that solves the first problem;
        `run` does both with ``refit=True``.

        Raises
        ------
        TypeError
            For solvers without a regulariser, and `fused` with a power.
        """
        self.check_refit()
        self._steps.refit()

    @property
    def latest_residuals(self) -> dict[str, np.ndarray | float]:
        """The latest that are known, as `residuals`: of CGLS those of the volume as it is now."""
        return dict(self._steps.latest)

    @property
    def measured(self) -> bool:
        """Whether the last iteration measured residuals.

        All solvers do in every iteration, except those with a regulariser, in every tenth.
        """
        return self._steps.measured

    @property
    def separate(self) -> bool:
        """Whether channels are solved independently: some can be held while others go on."""
        return self._steps.separate

    def hold(self, channels) -> None:
        """Keep some channels, bool (channel,), as they are from now on.

        Raises
        ------
        ValueError
            Where the channels are coupled: the others would make up for what a held one lacks.
        """
        if not self.separate:
            raise ValueError(
                "the channels of this solver are coupled by the HAADF and cannot be held one by "
                "one; stop them all"
            )
        self._steps.hold(np.asarray(channels, bool))

    def snapshot(self) -> dict[str, np.ndarray]:
        """Return the state of the solver, all that a resumed run needs, as arrays by their names.

        The arrays are not to be changed.

        Volumes are (channel, .., z, x, y), projections (channel, tilt, x, y), whatever the
        machine's vectors. After `restore` a solver of the same problem continues bit for bit, on
        machines of the same kind, whatever the threads.
        """
        return self._steps.snapshot()

    def frozen(self) -> AbstractContextManager[Iterator[tuple[str, np.ndarray]]]:
        """Return a context in which the solver waits between two iterations.

        It gives the arrays of `snapshot` as pairs, one copy after the other.
        """
        return self._steps.frozen()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Put the solver where another of the same problem was when it gave this `snapshot`.

        Raises
        ------
        ValueError
            If it was one of another form, or its arrays have other shapes.
        """
        self._steps.restore(state)

    def __repr__(self) -> str:
        return f"<Iterate {self.iteration}>"


@dataclass(frozen=True)
class Reconstruction:
    """The result of `run`.

    Attributes
    ----------
    volume : numpy.ndarray
        (channel, z, x, y) or (z, x, y) float32, signal per unit length.
    residuals : dict of numpy.ndarray
        Per iteration, |b - A x|/|b| of the volume that it started from: "eds" (iteration, channel),
        "haadf" (iteration,); of EM "deviance" too, (iteration, channel). With a regulariser of the
        volume after every tenth iteration, and "objective" (iteration,), with TGV "slopes"
        (iteration,) too, see `slopes`; empty where none of these was among the iterations.
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
    resumed_at : int or None
        Iteration of the checkpoint that the run went on from; None for a run from its start.
    box : list of int or None
        Voxels that were worked on, first and last + 1 along z, x and y, with 0 around them; None
        where it is the whole volume.
    refitted_at : int or None
        Iteration at which the second of two solves began; None where there was one.
    """

    volume: np.ndarray
    residuals: dict[str, np.ndarray]
    iterations: int
    interrupted: bool
    converged: bool
    stopped_by: str = "iterations"
    channel_iterations: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    measured_at: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    resumed_at: int | None = None
    box: list[int] | None = None
    refitted_at: int | None = None


def iterates_of(
    steps: Steps, has_channels: bool, kind: type[Iterate] = Iterate
) -> Iterator[Iterate]:
    """Yield the start, then every iterate, without end, as a view of the given kind.

    The work is done in a thread of its own, so that an interrupt, which arrives in the main thread,
    finds the iterate whole.
    """
    iterate = kind(steps, has_channels)
    try:
        yield iterate
        with ThreadPoolExecutor(1, initializer=flush_denormals) as conductor:
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
    refit: bool = False,
    progress: Callable[[Iterate], object] | None = None,
    checkpoint: Checkpoint | None = None,
    resume: bool = False,
) -> Reconstruction:
    """Take iterates until enough of them are done, and return the last.

    Parameters
    ----------
    iterates : iterator of Iterate
        From `sirt`, `hebt`, `em`, `cgls` or another solver. It is left where it stopped: a second
        `run` of it continues there.
    iterations : int
        Iterations to do, at most; with `resume` those before count.
    tolerance : float, optional
        Stop before that when no relative residual changes by this much between two iterations; with
        a regulariser when the last three measurements of the objective, over twenty iterations, are
        within this much of each other, relative to it. By default exactly `iterations` are done.
    noise : float or array_like (channel,), optional
        Discrepancy principle: stop when the relative residual |b - A x|/|b| is down to this, the
        norm of the noise over that of the data; see `counting_noise` and `image_noise`. Each
        channel is held once it gets there, while the others continue; HEBT, whose channels are
        coupled, stops when the last of them gets there.
    refit : bool, default False
        For `variational`, and `fused` with power 1: solve once more, as the second step of
        Bregman's iteration, D(x) + lambda (R(x) - <q, x>), q a subgradient of R at the first
        solution. The regulariser is to be the stronger one of `Regulariser.for_refit`. Each solve
        does so many `iterations` at most; the first ends at twice the `tolerance`.
    progress : callable, optional
        Called with the iterate after each iteration, to show a bar or a picture.
    checkpoint : Checkpoint, optional
        Where to keep the state: at intervals, and when the run ends or is interrupted. The solver
        waits while it is written.
    resume : bool, default False
        Continue from the checkpoint. The volume becomes that of a run that was never interrupted,
        bit for bit on machines of the same kind, whatever the threads; so do the residuals, to
        rounding with another number of threads. The iterates have to be new ones, from the same
        data with the same parameters.

    Returns
    -------
    Reconstruction

    Raises
    ------
    TypeError
        If `refit` is True for a solver that has none.
    ValueError
        If `iterations` is not a whole number, 0 or more, or `tolerance` or `noise` is not positive;
        if the checkpoint cannot be resumed, is of another run, or beyond `iterations`, or `resume`
        is True without one.
    FileExistsError
        If the file of the checkpoint exists, and `resume` is False.
    FileNotFoundError
        If it does not exist, and `resume` is True.
    NotImplementedError
        For a checkpoint of a solver whose state cannot be kept.

    Warns
    -----
    UserWarning
        If a keyboard interrupt ends the run: the last whole iterate is returned. If the checkpoint
        cannot be written, the first time and at the end: the run continues, the result is returned,
        and the file stays as it was.

    Notes
    -----
    The residual of a volume is known when the next one is made: a run ends one iteration after the
    rule is met. CGLS, to which one iteration matters and whose recurrences know it at once, is
    stopped by `noise` at the iterate that meets it.

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
    rule, first = StoppingRule(tolerance, noise), None
    if refit:
        first = StoppingRule(None if tolerance is None else _FIRST * tolerance, noise)
    record = _Record(iterations, checkpoint, resume, first)
    iterate, stopped_by = None, "iterations"
    try:
        for iterate in iterates:
            if record.begun is None:
                record.begin(iterate)
            now = rule if iterate.refitted_at is not None else first or rule
            reached = _advanced(iterate, record, now, progress)
            if reached or record.done(iterate) >= iterations:
                if not (refit and iterations and iterate.refitted_at is None):
                    stopped_by = reached or stopped_by
                    break
                iterate.refit()
            record.save(iterate, due=True)
    except KeyboardInterrupt:
        if iterate is None or record.begun is None:
            raise
        stopped_by = "interrupt"
        record.note(iterate)
        warnings.warn(
            f"interrupted: this is iteration {iterate.iteration} of {iterations * (1 + refit)}",
            stacklevel=2,
        )
    try:
        record.save(iterate)
    except KeyboardInterrupt:
        warn(f"interrupted once more: {checkpoint.path} was not written anew")
    return Reconstruction(
        volume=iterate.volume,
        residuals=record.residuals,
        iterations=iterate.iteration,
        interrupted=stopped_by == "interrupt",
        converged=stopped_by in ("tolerance", "discrepancy"),
        stopped_by=stopped_by,
        channel_iterations=iterate.channel_iterations,
        measured_at=np.array(list(record.history), int),
        resumed_at=record.resumed_at,
        box=iterate.box,
        refitted_at=iterate.refitted_at,
    )


def _advanced(
    iterate: Iterate,
    record: _Record,
    rule: StoppingRule,
    progress: Callable[[Iterate], object] | None,
) -> str | None:
    """Record and show an iteration; return the rule that it meets, if any."""
    if iterate.iteration == 0:
        return None
    record.note(iterate)
    if progress is not None and iterate.iteration != record.resumed_at:
        progress(iterate)
    return rule.reached(iterate, record.of_solve(iterate)) if iterate.measured else None


class _Record:
    """The iterations of a run so far, kept in the checkpoint beside the state of the solver.

    `begun` is the iteration that it began at, None before that; `history` has the residuals of each
    iteration that measured them. `refit` is the rule that ends the first of two solves, None for
    one.
    """

    def __init__(
        self,
        iterations: int,
        checkpoint: Checkpoint | None,
        resume: bool,
        refit: StoppingRule | None = None,
    ):
        if checkpoint is None and resume:
            raise ValueError(
                "`resume` is True without a `checkpoint` to go on from; pass the one that the run "
                "was begun with"
            )
        if checkpoint is not None and not isinstance(checkpoint, Checkpoint):
            raise TypeError(
                f"`checkpoint` is a {type(checkpoint).__name__}; expected a Checkpoint(path)"
            )
        if checkpoint is not None and not resume and checkpoint.path.exists():
            raise FileExistsError(
                f"{checkpoint.path} exists already: pass resume=True to go on from there, or "
                "remove it, or choose another name"
            )
        self.iterations, self.checkpoint, self.resume = iterations, checkpoint, resume
        self.refit = refit
        self.begun: int | None = None
        self.resumed_at: int | None = None
        self.history: dict[int, dict] = {}
        self._saved, self._failed = monotonic(), False
        self._saved_at: int | None = None

    def begin(self, iterate: Iterate) -> None:
        """Record the first iterate, and restore it from the checkpoint if the run is resumed."""
        if self.refit is not None:
            iterate.check_refit()
        begun = max(iterate.iteration - 1, 0)
        if self.checkpoint is not None:
            with iterate.frozen() as state:
                next(state)  # raises where the state cannot be kept
        if self.resume and self.checkpoint is not None:
            stored = self.checkpoint.load()
            iterate.restore(stored)
            about = stored.header["about"]
            begun, self.resumed_at = about["begun"], iterate.iteration
            self.history = {
                at: {
                    name: np.array(value) if isinstance(value, list) else value
                    for name, value in residuals.items()
                }
                for at, residuals in about["history"]
            }
            self._saved_at = iterate.iteration
        self._saved = monotonic()
        self.begun = begun
        if self.resumed_at is not None and self.checkpoint is not None:
            self._check_resumed(iterate, self.checkpoint.path)

    def _check_resumed(self, iterate: Iterate, path: Path) -> None:
        """Raise an error where a run with these options would not have come to this iterate."""
        done, between = self.done(iterate), iterate.refitted_at
        if done > self.iterations:
            raise ValueError(
                f"{path} is at iteration {done}{'' if between is None else ' of the refit'}, "
                f"beyond the {self.iterations} that are asked for; ask for {done} or more, or "
                "begin anew in another file"
            )
        if between is None:
            return
        if self.refit is None:
            raise ValueError(f"{path} is of a run with refit=True; pass that to go on with it")
        entries = list(self.history.items())
        end = (self.begun or 0) + self.iterations
        for place, (at, _) in enumerate(entries):
            if at <= between and self.refit.steady([one for _, one in entries[: place + 1]]):
                end = min(end, at)
        if end != between:
            raise ValueError(
                f"{path} is in the second of two solves, and the first ended at iteration "
                f"{between}, which `iterations` and `tolerance` as they are now would not do: pass "
                "those that it had then, or begin anew in another file"
            )

    def done(self, iterate: Iterate) -> int:
        """Return the iterations of this run that the present solve has done."""
        return iterate.iteration - max(self.begun or 0, iterate.refitted_at or 0)

    def of_solve(self, iterate: Iterate) -> list[dict]:
        """Return the residuals of the present solve."""
        return [one for at, one in self.history.items() if at > (iterate.refitted_at or 0)]

    def note(self, iterate: Iterate) -> None:
        """Record the residuals of an iterate, if it has measured any."""
        if iterate.measured and iterate.iteration > 0:
            self.history[iterate.iteration] = iterate.residuals

    @property
    def residuals(self) -> dict[str, np.ndarray]:
        """All residuals, by their names."""
        entries = list(self.history.values())
        return {
            name: np.array([entry[name] for entry in entries])
            for name in (entries[0] if entries else ())
        }

    def save(self, iterate: Iterate, due: bool = False) -> None:
        """Save the state, if it is new; with `due` only if it is time. A failure is a warning."""
        checkpoint = self.checkpoint
        if checkpoint is None or iterate.iteration == self._saved_at:
            return
        if due and (iterate.iteration == 0 or monotonic() - self._saved < checkpoint.every):
            return
        plain = [
            (
                at,
                {name: np.asarray(value, np.float64).tolist() for name, value in residuals.items()},
            )
            for at, residuals in self.history.items()
        ]
        try:
            with iterate.frozen() as state:
                checkpoint.save(
                    state, {"iteration": iterate.iteration, "begun": self.begun, "history": plain}
                )
            self._saved_at = iterate.iteration
        except (OSError, MemoryError) as error:
            if not (due and self._failed):
                reason = (
                    error.strerror
                    if isinstance(error, OSError)
                    else f"{checkpoint.path} could not be written: {error}"
                )
                warn(
                    f"{reason}. "
                    f"{'The run goes on, and tries again' if due else 'The result is returned'}"
                )
            self._failed = True
        self._saved = monotonic()

# SPDX-License-Identifier: GPL-3.0-or-later
"""A reconstruction that can be stopped: in one piece, or in parts with one history of all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from hyperspy_multitomo.signals.metadata.history import add_step
from hyperspy_multitomo.signals.metadata.recorded_arrays import NODE, record
from hyperspy_multitomo.widgets.panel import Cancelled, TaskControl

# Entries of the step of a part that those of all parts replace.
_REPLACED = (
    "step",
    "version",
    "initial",
    "iterations",
    "max_iterations",
    "channel_iterations",
    "interrupted",
    "parts",
)


@dataclass
class Parts:
    """The parts done so far of a reconstruction by SIRT or HEBT.

    From one iteration to the next these keep nothing but the volume.

    Attributes
    ----------
    volume : TomographicVolume or None
        After the last part.
    sizes : list of int
        Iterations of each part.
    residuals : list of dict
        Those of each part, as `TomographicVolume.residuals`.
    """

    volume: object = None
    sizes: list[int] = field(default_factory=list)
    residuals: list[dict] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Iterations done."""
        return sum(self.sizes)

    @property
    def curves(self) -> dict[str, np.ndarray]:
        """The residuals of all parts, one after the other."""
        curves = {
            name: np.concatenate([part[name] for part in self.residuals])
            for name in self.residuals[0]
        }
        return curves | {"iteration": np.arange(1, self.done + 1)}

    def go_on(
        self, reconstruct: Callable, iterations: int, size: Callable[[], int]
    ) -> Iterator[Parts]:
        """
        Do what is left of some iterations, part by part.

        Parameters
        ----------
        reconstruct : callable
            ``reconstruct(iterations, initial)`` returns a volume: a public method of the series.
        iterations : int
            All of them, with those done.
        size : callable
            Returns how many iterations the next part may have.

        Yields
        ------
        Parts
            Itself, after each part.
        """
        while self.done < iterations:
            wanted = max(1, min(size(), iterations - self.done))
            self.volume = reconstruct(wanted, self.volume)
            self.sizes.append(wanted)
            self.residuals.append(self.volume.residuals)
            yield self

    def account(self, series, interrupted: bool = False):
        """Return the volume with iterations, residuals and sizes of all parts in its history."""
        volume, last = self.volume, self.volume.history[-1]
        if len(self.sizes) > 1 or interrupted:
            settings = {name: value for name, value in last.items() if name not in _REPLACED}
            # The first part began from nothing.
            settings["made_of"] = {
                name: digest for name, digest in settings["made_of"].items() if name != "initial"
            }
            counts = [self.done] * len(last["channel_iterations"])
            totals = dict(
                initial=None,
                iterations=self.done,
                max_iterations=self.done,
                channel_iterations=counts,
                interrupted=interrupted,
            )
            add_step(volume, last["step"], after=series, **settings, **totals, parts=self.sizes)
            curves = self.curves
            if "eds" in curves:
                record(volume, "residuals_eds", curves["eds"].T, ("element",))
            if "deviance" in curves and series.channels:
                record(volume, "deviance_eds", curves["deviance"].T, ("element",))
            elif "deviance" in curves:
                volume.metadata.set_item(f"{NODE}.deviance_haadf", curves["deviance"])
            if "haadf" in curves:
                volume.metadata.set_item(f"{NODE}.residuals_haadf", curves["haadf"])
            volume.metadata.set_item(f"{NODE}.residuals_iteration", curves["iteration"])
        return volume


def reporting(job: TaskControl, words: str, iterations: int) -> Callable:
    """Return a `show_progressbar` for a run in one piece; it reports, and ends a cancelled run."""

    def step(iterate) -> None:
        done = iterations if iterate is None else iterate.iteration
        try:
            job.step(done / iterations, f"{words}: iteration {done} of at most {iterations}")
        except Cancelled:
            # This, and nothing else, makes the public method return the iterate.
            raise KeyboardInterrupt from None

    return step


def said_of_stopped(last: Mapping, words: str, iterations: int, can_resume: bool) -> str:
    """Return the message on a stopped run whose volume has this last step in its history."""
    done = last["iterations"]
    if can_resume:
        return (
            f"Stopped after {done} of {iterations} iterations of {words}. "
            "Resume goes on with these."
        )
    if not last["interrupted"]:
        return (
            f"{words} had ended, after {done} iterations, before Stop: `partial` holds the result."
        )
    return (
        f"Stopped after {done} of at most {iterations} iterations of {words}. The volume is kept "
        "in `partial`, to be used as it "
        "is; it cannot be resumed, as the dual variables of the run are lost."
    )

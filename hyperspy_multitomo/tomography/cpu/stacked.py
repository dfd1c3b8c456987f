# SPDX-License-Identifier: GPL-3.0-or-later
"""SIRT and HEBT by compiled kernels: data and volume stay in lanes throughout."""

from __future__ import annotations

import numpy as np

from hyperspy_multitomo.tomography.cpu.lanes import blocks
from hyperspy_multitomo.tomography.cpu.stacked_block import StackedBlock
from hyperspy_multitomo.tomography.steps import Steps
from hyperspy_multitomo.tomography.system import System


class FusedSteps(Steps[System]):
    """The iteration of `TextbookSteps` by compiled kernels.

    Data and volume stay in lanes from the first iteration to the last.
    """

    def __init__(self, system: System):
        super().__init__(system)
        volume = system.start()
        sizes = blocks(volume.shape[-1], system.channels)
        self._blocks = [StackedBlock(system, volume, *size) for size in sizes]

    def _read(self):
        parts = [block.volume for block in self._blocks]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)

    def _arrays(self):
        return {"volume": self._read()}

    def _put(self, arrays):
        for block in self._blocks:
            block.put(arrays["volume"])
            block.renew_steps(self.system.steps)

    def hold(self, channels):
        """Stop channels: a step of 0 leaves a volume that obeys the constraints as it is."""
        super().hold(channels)
        steps = np.array(self.system.steps)
        steps[self.stopped] = 0
        for block in self._blocks:
            block.renew_steps(steps)

    def _run(self, tasks_of):
        """Run the tasks of one kind of all blocks, until cancelled."""
        tasks = [task for block in self._blocks for task in tasks_of(block)]
        self._workers.run(
            lambda call, arguments: None if self._cancelled.is_set() else call(*arguments), tasks
        )

    def advance(self):
        """Do one iteration."""
        for tasks_of in (
            StackedBlock.sum_tasks, StackedBlock.haadf_forward_tasks, StackedBlock.haadf_back_tasks,
            StackedBlock.forward_tasks
        ):  # fmt: skip
            self._run(tasks_of)
        if self._cancelled.is_set():
            return
        with self._lock:  # no cancelling from here on: the iterate is completed
            tasks = [task for block in self._blocks for task in block.update_tasks()]
            self._workers.run(lambda call, arguments: call(*arguments), tasks)
            self._count(
                self.system.relative_residuals(sum(block.squares for block in self._blocks))
            )

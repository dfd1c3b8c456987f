# SPDX-License-Identifier: GPL-3.0-or-later
"""Choice of the form of a solver: compiled for the CPU, on a device, or the textbook's."""

from __future__ import annotations

from hyperspy_multitomo.tomography.cpu.numba_projector import NumbaProjector
from hyperspy_multitomo.tomography.cpu.primal_dual_fused import FusedPrimalDual
from hyperspy_multitomo.tomography.cpu.stacked import FusedSteps
from hyperspy_multitomo.tomography.primal_dual import PrimalDual, TextbookPrimalDual
from hyperspy_multitomo.tomography.projectors import Projector
from hyperspy_multitomo.tomography.steps import Steps, TextbookSteps
from hyperspy_multitomo.tomography.system import System
from hyperspy_multitomo.tomography.variational_system import VariationalSystem


def fits_lanes(A: Projector) -> bool:
    """Whether the compiled kernels can run this projector's iterations.

    A pixel's width in voxels has to divide the number of lanes.
    """
    return isinstance(A, NumbaProjector) and A.geometry.binning in (1, 2, 4, 8, 16)


def on_device(*projectors: Projector) -> bool:
    """Whether projectors work on device arrays, all on one device."""
    devices = {getattr(A, "device_id", None) for A in projectors}
    return len(devices) == 1 and None not in devices


def steps_of(system: System) -> Steps:
    """Return the steps of SIRT or HEBT in the form that its projectors can run."""
    projectors = [system.A]
    if (haadf := system.haadf_rows) is not None:
        projectors.append(haadf.projector)
    if on_device(*projectors):
        from hyperspy_multitomo.tomography.cuda.stacked import CudaSteps

        return CudaSteps(system)
    return FusedSteps(system) if all(map(fits_lanes, projectors)) else TextbookSteps(system)


def primal_dual_of(system: VariationalSystem) -> PrimalDual:
    """Return the steps of the primal-dual method in the form that its projectors can run.

    A pair of the device that is not adjoint makes way for the one that is, with a warning.
    """
    projectors = [term.A for term in system.terms]
    if on_device(*projectors):
        from hyperspy_multitomo.tomography.cuda.primal_dual import CudaPrimalDual, adjoint

        return CudaPrimalDual(adjoint(system))
    return (
        FusedPrimalDual(system) if all(map(fits_lanes, projectors)) else TextbookPrimalDual(system)
    )

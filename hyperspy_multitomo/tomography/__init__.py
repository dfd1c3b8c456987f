# SPDX-License-Identifier: GPL-3.0-or-later
"""Tomography of plain arrays: geometry, projectors and iterative solvers, with NumPy, SciPy and numba alone."""

from hyperspy_multitomo.tomography.extent import estimate_depth, visible_width
from hyperspy_multitomo.tomography.geometry import TiltGeometry
from hyperspy_multitomo.tomography.projectors import BACKENDS, Projector, dot_test, projector
from hyperspy_multitomo.tomography.solvers import Iterate, Reconstruction, hebt, run, sirt

__all__ = [
    "BACKENDS",
    "Iterate",
    "Projector",
    "Reconstruction",
    "TiltGeometry",
    "dot_test",
    "estimate_depth",
    "hebt",
    "projector",
    "run",
    "sirt",
    "visible_width",
]

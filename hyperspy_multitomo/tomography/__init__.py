# SPDX-License-Identifier: GPL-3.0-or-later
"""Tomography of plain arrays: geometry, projectors and iterative solvers.

It needs NumPy, SciPy and numba alone.
"""

from hyperspy_multitomo.tomography.backends import BACKENDS, projector
from hyperspy_multitomo.tomography.calibration import Calibration, calibrate
from hyperspy_multitomo.tomography.cgls import cgls
from hyperspy_multitomo.tomography.checkpoint import Checkpoint, fingerprint
from hyperspy_multitomo.tomography.em import em
from hyperspy_multitomo.tomography.fbp import fbp
from hyperspy_multitomo.tomography.fused import fused
from hyperspy_multitomo.tomography.geometry import TiltGeometry
from hyperspy_multitomo.tomography.haadf_weights import regressed_weights, scaled_weights
from hyperspy_multitomo.tomography.iterates import Iterate, Reconstruction, run
from hyperspy_multitomo.tomography.noise_equivalent import noise_equivalent_gain, typical_signal
from hyperspy_multitomo.tomography.projectors import Projector, dot_test
from hyperspy_multitomo.tomography.solvers import hebt, sirt
from hyperspy_multitomo.tomography.specimen import Specimen, measure_specimen
from hyperspy_multitomo.tomography.specimen_depth import (
    estimate_depth,
    needed_volume,
    visible_width,
)
from hyperspy_multitomo.tomography.stopping import (
    counting_noise,
    image_noise,
    image_variance,
    net_variance,
)
from hyperspy_multitomo.tomography.sweep import sweep
from hyperspy_multitomo.tomography.variational import DataTerm, Regulariser, variational

__all__ = [
    "BACKENDS",
    "Calibration",
    "Checkpoint",
    "DataTerm",
    "Iterate",
    "Projector",
    "Reconstruction",
    "Regulariser",
    "Specimen",
    "TiltGeometry",
    "calibrate",
    "cgls",
    "counting_noise",
    "dot_test",
    "em",
    "estimate_depth",
    "fbp",
    "fingerprint",
    "fused",
    "hebt",
    "image_noise",
    "image_variance",
    "measure_specimen",
    "needed_volume",
    "net_variance",
    "noise_equivalent_gain",
    "projector",
    "regressed_weights",
    "run",
    "scaled_weights",
    "sirt",
    "sweep",
    "typical_signal",
    "variational",
    "visible_width",
]

# SPDX-License-Identifier: GPL-3.0-or-later
"""Benchmarks in the shape that asv runs: `time_*` and `peakmem_*` of projectors and solvers."""

import numpy as np

from hyperspy_multitomo.tomography import TiltGeometry, cgls, em, fbp, hebt, projector, run, sirt


class Projectors:
    """One projection and one back projection of 64 slices."""

    params = (128, 256)
    param_names = ("width",)

    def setup(self, width):
        """Make the arrays and compile."""
        self.A = projector(TiltGeometry(np.linspace(-75, 75, 31), width))
        self.volume = np.ones((*self.A.domain_shape, 64), np.float32)
        self.projections = self.A(self.volume)
        self.A.T(self.projections)

    def time_project(self, width):
        """Time A(x)."""
        self.A(self.volume)

    def time_back_project(self, width):
        """Time A.T(y)."""
        self.A.T(self.projections)


class Solvers:
    """Ten iterations of two elements, 64 slices."""

    def setup(self):
        """Make the arrays and compile."""
        self.A = projector(TiltGeometry(np.linspace(-75, 75, 31), 128))
        self.maps = np.random.default_rng(0).random((2, *self.A.range_shape, 64), np.float32)
        self.haadf = self.maps.sum(axis=0)
        run(self.hebt(), 1)
        for solver in (sirt, em, cgls):
            run(solver(self.A, self.maps), 1)

    def hebt(self):
        """Return the iterates of HEBT."""
        return hebt(self.A, self.maps, self.haadf, [1.0, 1.0])

    def time_sirt(self):
        """Time SIRT."""
        run(sirt(self.A, self.maps), 10)

    def time_hebt(self):
        """Time HEBT."""
        run(self.hebt(), 10)

    def time_em(self):
        """Time EM."""
        run(em(self.A, self.maps), 10)

    def time_cgls(self):
        """Time CGLS."""
        run(cgls(self.A, self.maps), 10)

    def time_fbp(self):
        """Time filtered back projection."""
        fbp(self.A, self.maps)

    def peakmem_hebt(self):
        """Peak memory of HEBT."""
        run(self.hebt(), 1)

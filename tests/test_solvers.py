# SPDX-License-Identifier: GPL-3.0-or-later
"""SIRT and HEBT: the fused form against the textbook, limits and equivalences of the coefficients, constraints, interruption."""

import threading
import time
import warnings
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from hyperspy_multitomo.tomography import TiltGeometry, hebt, projector, run, sirt
from hyperspy_multitomo.tomography.steps import FusedSteps, TextbookSteps
from hyperspy_multitomo.tomography.system import System, hebt_coefficients, sirt_coefficients

TILTS = np.linspace(-70, 70, 11)
RATIOS = [3.0, 50.0]


@pytest.fixture(scope="module")
def A():
    return projector(TiltGeometry(TILTS, 22, (20, 24), 0.5, 0.3, np.linspace(-1, 1, 11)))


@pytest.fixture(scope="module")
def B():
    """The HAADF's own geometry on the volume grid of A."""
    return projector(TiltGeometry(np.arange(-75, 76, 10), 26, (20, 24), 0.5))


@pytest.fixture(scope="module")
def truth():
    """Two elements, (element, z, x, y): overlapping boxes, counts per nm."""
    volume = np.zeros((2, 20, 24, 5), np.float32)
    volume[0, 5:14, 6:13] = 2.0
    volume[1, 8:16, 11:19] = 0.7
    volume[0] *= np.linspace(0.5, 1.5, 5)
    return volume


@pytest.fixture(scope="module")
def maps(A, truth):
    return np.random.default_rng(0).poisson(20 * A(truth)).astype(np.float32) / 20


def haadf_of(A, truth, ratios=RATIOS):
    return A(np.tensordot(np.float32(ratios), truth, 1))


def volume_of(iterates, iterations=8):
    return run(iterates, iterations).volume


def relative(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def matrix(A):
    """W as an array (tilt and x, z and x)."""
    voxels = int(np.prod(A.domain_shape))
    return A(np.eye(voxels, dtype=np.float32).reshape(*A.domain_shape, voxels)).reshape(-1, voxels).astype(np.float64)


def stacked_sirt(matrix, data, iterations, row_weights=None):
    """SIRT as it is written down: x <- max(0, x + C A^T R (b - A x)), for a dense A."""
    rows = matrix.sum(axis=1)
    R = np.divide(1, rows, out=np.zeros_like(rows), where=rows > 1e-9)
    if row_weights is not None:
        R = R * row_weights
    columns = (matrix * (R * rows)[:, None]).sum(axis=0)
    C = np.divide(1, columns, out=np.zeros_like(columns), where=columns > 1e-9)
    x = np.zeros((matrix.shape[1], data.shape[1]))
    for _ in range(iterations):
        x = np.maximum(0, x + C[:, None] * (matrix.T @ (R[:, None] * (data - matrix @ x))))
    return x


class TestAgainstDenseAlgebra:
    def test_sirt(self, A, maps):
        expected = stacked_sirt(matrix(A), maps[0].reshape(-1, 5), 8).reshape(20, 24, 5)
        assert relative(volume_of(sirt(A, maps[0])), expected) < 1e-5

    def test_sirt_with_gains_is_that_of_the_scaled_matrix(self, A, maps):
        gains = np.linspace(0.5, 2, 11)
        scaled = np.repeat(gains, 22)[:, None] * matrix(A)
        expected = stacked_sirt(scaled, maps[0].reshape(-1, 5), 8).reshape(20, 24, 5)
        assert relative(volume_of(sirt(A, maps[0], gains=gains)), expected) < 1e-5

    @pytest.mark.parametrize("weighting", ["sirt", "squared"])
    @pytest.mark.parametrize("own_tilts", [False, True])
    def test_hebt_is_sirt_on_the_stacked_system(self, A, B, truth, maps, weighting, own_tilts):
        """Zhong 2017, eqs. 9-11, in the quantities r_e x_e."""
        alpha, H = 0.6, B if own_tilts else A
        gains, haadf_gains = np.linspace(0.8, 1.2, 11), np.linspace(1.1, 0.7, H.range_shape[0])
        haadf = haadf_of(H, truth)
        W = np.repeat(gains, 22)[:, None] * matrix(A)
        Wh = np.repeat(haadf_gains, H.range_shape[1])[:, None] * matrix(H)
        none = np.zeros_like(W)
        blocks, data = [[W, none], [none, W], [Wh, Wh]], [RATIOS[0] * maps[0], RATIOS[1] * maps[1], haadf]
        data = [d.reshape(-1, 5) for d in data]
        weights = [1 - alpha, 1 - alpha, alpha]
        if weighting == "sirt":
            stack = np.block([[w * b for b in row] for w, row in zip(weights, blocks, strict=True)])
            expected = stacked_sirt(stack, np.concatenate([w * d for w, d in zip(weights, data, strict=True)]), 8)
        else:
            row_weights = np.concatenate([np.full(len(d), w**2) for w, d in zip(weights, data, strict=True)])
            expected = stacked_sirt(np.block(blocks), np.concatenate(data), 8, row_weights)
        expected = expected.reshape(2, 20, 24, 5) / np.reshape(RATIOS, (2, 1, 1, 1))
        result = volume_of(
            hebt(
                A, maps, haadf, RATIOS, alpha=alpha, haadf_projector=H, gains=gains, haadf_gains=haadf_gains, weighting=weighting
            )
        )
        assert relative(result, expected) < 1e-5


CASES = {
    "sirt": {},
    "gains per channel": {"gains": np.stack([np.linspace(0.5, 1.5, 11), np.linspace(2, 0, 11)])},
    "mask": {"mask": np.hypot(*np.indices((20, 24)) - 10.0) [:, :] < 9 if False else np.indices((20, 24)).sum(0) < 30},
    "mask per slice": {"mask": np.indices((20, 24, 5)).sum(0) < 28},
    "signed": {"nonnegative": False},
    "start": {"initial": np.random.default_rng(1).normal(size=(2, 20, 24, 5))},
}

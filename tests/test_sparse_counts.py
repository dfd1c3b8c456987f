# SPDX-License-Identifier: GPL-3.0-or-later
"""Spectra as the counts that are there: the same sums and maps as from the cube, and read no more often than needed."""

import dask
import dask.array as da
import numpy as np
import pytest

from hyperspy_multitomo.acquisition.counts import apply_rows, check_spectra
from hyperspy_multitomo.acquisition.eds.line_calibration import region_spectra
from hyperspy_multitomo.acquisition.sparse_counts import TiltSpectra, dense_blocks, sparse_spectra

RNG = np.random.default_rng(0)


def cube(shape=(11, 7, 64), mean=0.05, dtype=np.uint8):
    return np.random.default_rng(sum(shape)).poisson(mean, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("depth", [64, 61])
@pytest.mark.parametrize("lazy", [False, True])
def test_sums_and_products_of_the_cube(dtype, depth, lazy):
    spectra = cube((11, 7, depth), dtype=dtype)
    spectra[3, 2, 5] = np.iinfo(dtype).max
    found = sparse_spectra(da.from_array(spectra, chunks=(4, 3, 20)) if lazy else spectra)
    np.testing.assert_array_equal(region_spectra(found, 3), region_spectra(spectra, 3))
    rows = RNG.normal(size=(4, depth - 10))
    fitted = slice(6, depth - 4)
    np.testing.assert_allclose(
        apply_rows(rows, found, fitted), apply_rows(rows, spectra, fitted), rtol=2e-5, atol=1e-4
    )
    whole = apply_rows(np.ones((1, depth)), found)
    np.testing.assert_array_equal(whole, apply_rows(np.ones((1, depth)), spectra))
    assert found.counts.dtype == dtype


def test_blocks_of_rows_of_large_images(monkeypatch):
    monkeypatch.setattr("hyperspy_multitomo.acquisition.sparse_counts._BLOCK", 3 * 7 * 64)
    spectra = cube()
    np.testing.assert_array_equal(region_spectra(sparse_spectra(spectra)), region_spectra(spectra))
    from scipy.sparse import csr_matrix

    data = dense_blocks(
        dask.delayed(csr_matrix(spectra.reshape(77, 64))), spectra.shape, spectra.dtype
    )
    assert data.chunks[0] == (3, 3, 3, 2)
    np.testing.assert_array_equal(data.compute(), spectra)


@pytest.mark.parametrize(
    "spectra",
    [
        cube(mean=3.0),
        cube(dtype=np.float32),
        cube(dtype=np.int16),
        cube(dtype=np.uint32),
        cube((0, 7, 64)),
    ],
)
def test_spectra_that_are_not_sparse_counts(spectra):
    assert sparse_spectra(spectra) is None


def test_channels_are_those_of_the_axis():
    with pytest.raises(
        ValueError, match=r"have the shape \(11, 7, 64\), but the energy axis has 65 channels"
    ):
        check_spectra(sparse_spectra(cube()), 65)


class Counted:
    """An array that counts how often each tilt is read."""

    def __init__(self, data):
        self.data, self.shape, self.dtype, self.ndim = data, data.shape, data.dtype, data.ndim
        self.read = np.zeros(len(data), int)

    def __getitem__(self, place):
        self.read[place[0]] += 1
        return self.data[place]


def series(**kwds):
    stored = Counted(np.stack([cube(**kwds)] * 3))
    return stored, da.from_array(stored, chunks=(1, -1, -1, -1), meta=np.zeros(0, stored.dtype))


def test_sparse_spectra_are_read_once():
    stored, data = series()
    spectra = TiltSpectra(data)
    first, second = list(spectra), list(spectra)
    assert all(a is b for a, b in zip(first, second, strict=True))
    assert spectra.all_cached
    assert stored.read.tolist() == [1, 1, 1]


def test_other_spectra_are_read_each_time():
    stored, data = series(mean=3.0)
    spectra = TiltSpectra(data)
    for _ in range(2):
        for found in spectra:
            np.testing.assert_array_equal(found, stored.data[0])
    assert not spectra.all_cached
    # The first once more, to see that it is not sparse.
    assert stored.read.tolist() == [3, 2, 2]


def test_no_more_is_kept_than_memory_allows():
    stored, data = series()
    spectra = TiltSpectra(data, memory=sparse_spectra(stored.data[0]).nbytes)
    for _ in range(2):
        assert len(list(spectra)) == 3
    assert stored.read.tolist() == [1, 2, 2]

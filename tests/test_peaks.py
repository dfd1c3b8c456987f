# SPDX-License-Identifier: GPL-3.0-or-later
"""Peaks and Otsu's threshold are those of SciPy and scikit-image, whose imports the first minute does without."""

import numpy as np
import pytest

from hyperspy_multitomo.composition.value_table import ValueTable
from hyperspy_multitomo.peaks import find_peaks


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("flat", [False, True])
def test_peaks_of_scipy(seed, flat):
    from scipy import signal

    values = np.random.default_rng(seed).normal(size=60).cumsum()
    values = values.round() if flat else values
    for prominence in (0.0, 0.5, 2.0):
        expected = signal.find_peaks(values, prominence=prominence)[0]
        np.testing.assert_array_equal(find_peaks(values, prominence=prominence), expected)
    np.testing.assert_array_equal(find_peaks(values, height=0.5), signal.find_peaks(values, height=0.5)[0])


@pytest.mark.parametrize("values", [[1.0], [1.0, 1.0, 1.0], [1.0, 2.0], [0.0, 1.0, 1.0]])
def test_curves_without_a_peak(values):
    assert find_peaks(np.array(values)).size == 0
    assert find_peaks(np.array(values), prominence=0.1).size == 0


def test_threshold_of_scikit_image():
    from skimage.filters import threshold_otsu

    rng = np.random.default_rng(0)
    volume = np.concatenate([rng.normal(0, 1, 3000), rng.normal(5, 1.5, 1000), [40.0]]).astype(np.float32)
    table = ValueTable.of(volume)
    assert table.otsu() == threshold_otsu(np.repeat(table.values, table.counts), nbins=256)

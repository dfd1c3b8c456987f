# SPDX-License-Identifier: GPL-3.0-or-later
"""From EDS spectra to the series of maps: what goes along with the counts."""

import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_multitomo as mt
from hyperspy_multitomo.acquisition.eds.xray_lines import families_of, fwhm

ENERGY = 0.01 * np.arange(1, 1025)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Spectra of iron with 20 counts of Fe Ka per pixel on the left half and 60 on the right,
    loaded, and what was drawn."""
    (family,) = (family for family in families_of("Fe", 200, (0.2, 10.2)) if family.shell == "K")
    sigma = fwhm(family.energies) / np.sqrt(8 * np.log(2))
    lines = np.exp(-(((ENERGY - family.energies[:, None]) / sigma[:, None]) ** 2) / 2)
    lines *= family.weights[:, None] / lines.sum(axis=1, keepdims=True)
    amount = np.where(np.arange(12) < 6, 20.0, 60.0)
    counts = np.random.default_rng(0).poisson(
        amount[:, None] * lines.sum(axis=0) + 0.05, (3, 8, 12, ENERGY.size)
    )
    axes = [{"name": "tilt", "axis": [-20.0, 0.0, 20.0]}]
    axes += [
        {"name": name, "size": size, "scale": 2.0, "units": "nm"}
        for name, size in (("y", 8), ("x", 12))
    ]
    axes += [{"name": "Energy", "size": ENERGY.size, "offset": 0.01, "scale": 0.01, "units": "keV"}]
    signal = hs.signals.Signal1D(counts.astype(np.uint8), axes=axes)
    signal.set_signal_type("EDS_TEM")
    signal.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200)
    path = tmp_path_factory.mktemp("spectra") / "spectra.hspy"
    signal.save(path)
    return mt.load_tilt_series(path), counts


def maps_of(spectra, **kwds):
    return mt.elemental_maps(spectra, elements=["Fe"], also=[], show_progressbar=False, **kwds)


def test_counts_calibration_and_lines(loaded):
    spectra, counts = loaded
    maps = maps_of(spectra)
    assert (maps.elements, maps.lines, maps.pixel_size) == (("Fe",), ("Fe_Ka",), 2.0)
    np.testing.assert_array_equal(maps.tilts, [-20, 0, 20])
    right, left = maps.data[..., 6:].mean(), maps.data[..., :6].mean()
    assert (left, right) == pytest.approx((20.0, 60.0), rel=0.04)
    window = (ENERGY > 6.4039 - 0.134) & (ENERGY < 6.4039 + 0.134)
    assert maps.gross.sum() == pytest.approx(counts[..., window].sum(), rel=0.03)
    expected = maps.window_share[:, :, None, None] * maps.data + maps.background
    assert maps.gross.sum() == pytest.approx(expected.sum(), rel=0.02)
    assert maps.spectrum_fit["counts"].sum() == counts[..., ENERGY >= 0.2].sum()
    assert [step["step"] for step in maps.history] == ["load_tilt_series", "elemental_maps"]


@pytest.mark.slow
def test_cropped_spectra_keep_the_tilt_axis(loaded):
    """Cropping before the mapping and cropping after it are the same."""
    spectra, _ = loaded
    before = maps_of(spectra.inav[3:, 2:, :])
    after = maps_of(spectra).isig[3:, 2:]
    assert before.axis_offset == pytest.approx(after.axis_offset) == pytest.approx(5.5 - 3 - 4.0)
    assert before.axes_manager["x"].offset == after.axes_manager["x"].offset
    assert before.data.shape == after.data.shape
    # Calibrated on fewer counts, a window may begin one channel further on.
    assert before.gross.sum() == pytest.approx(after.gross.sum(), rel=0.03)
    np.testing.assert_allclose(before.data.sum(), after.data.sum(), rtol=0.03)


def test_windows_agree_with_the_fit_on_a_lonely_line(loaded):
    spectra, _ = loaded
    assert maps_of(spectra, method="windows").data.sum() == pytest.approx(
        maps_of(spectra).data.sum(), rel=0.05
    )


@pytest.mark.parametrize(
    ("kwds", "message"),
    [({"method": "model"}, "'fit', 'windows'"), ({"energy_range": (1.0, 5.0)}, "Fe_Ka")],
)
def test_bad_choices(loaded, kwds, message):
    with pytest.raises(ValueError, match=message):
        maps_of(loaded[0], **kwds)


def test_one_tilt_is_no_series(loaded):
    with pytest.raises(ValueError, match="x, y, tilt | Energy"):
        maps_of(loaded[0].inav[:, :, 0])


def few_counts(seed=3):
    """Spectra of 3 counts of Fe Ka per pixel of a square,
    on a background of 0.3 counts in the window of the line."""
    (family,) = (family for family in families_of("Fe", 200, (0.2, 10.2)) if family.shell == "K")
    sigma = fwhm(family.energies) / np.sqrt(8 * np.log(2))
    line = np.exp(-(((ENERGY - family.energies[0]) / sigma[0]) ** 2) / 2)
    inside = np.zeros((5, 41, 41, 1))
    inside[:, 12:29, 12:29] = 3.0
    counts = np.random.default_rng(seed).poisson(
        inside * line / line.sum() + 0.01, (5, 41, 41, ENERGY.size)
    )
    axes = [
        {"name": "tilt", "axis": np.arange(-60.0, 61, 30)},
        {"name": "y", "size": 41},
        {"name": "x", "size": 41},
    ]
    axes += [{"name": "Energy", "size": ENERGY.size, "offset": 0.01, "scale": 0.01, "units": "keV"}]
    spectra = hs.signals.Signal1D(counts.astype(np.uint8), axes=axes)
    spectra.set_signal_type("EDS_TEM")
    spectra.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200)
    return spectra


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fit", "windows"])
def test_em_takes_the_recorded_counts_of_noisy_maps(method):
    maps = maps_of(few_counts(), method=method)
    assert maps.data.min() < 0
    em, sirt = (
        getattr(maps, f"reconstruct_{name}")(3, show_progressbar=False).data[:, 0]
        for name in ("em", "sirt")
    )
    # What is more than the net counts of a tilt is noise that neither can cancel, because voxels do
    # not go below 0.
    net = maps.data.sum() / len(maps.tilts)
    assert net < em.sum() < sirt.sum() < 1.6 * net
    assert em.sum() < 1.3 * net
    contrast = [volume[12:29, 12:29, 12:29].mean() / volume[:, :8].mean() for volume in (em, sirt)]
    assert contrast[0] > 2 * contrast[1] > 20


def test_aligned_copies_leave_the_recorded_counts_behind(loaded):
    maps = maps_of(loaded[0])
    assert maps.aligned().gross is not None
    maps.align(mt.Alignment.identity(3))
    copy = maps.aligned()
    assert copy.gross is None is copy.background
    np.testing.assert_array_equal(copy.window_share, maps.window_share)
    assert maps.gross is not None

# SPDX-License-Identifier: GPL-3.0-or-later
"""Response ratios from pixels predicted by their neighbours:
unbiased at few counts, whatever the law of the noise."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from ellipsoids import core_shell, ellipsoid
from scipy.ndimage import gaussian_filter
from scipy.optimize import nnls

import hyperspy_multitomo as mt
from hyperspy_multitomo.composition import ResponseRatios, fit_response_ratios, specimen_mask
from hyperspy_multitomo.composition.response.blocks import (
    bootstrap_tile,
    in_tiles,
    noise_correlation,
)
from hyperspy_multitomo.composition.response.neighbours import instrument_equations, neighbour_means

TRUE = np.array([8.0, 3.0])
EELS = (
    Path(__file__).resolve().parents[2] / "shared" / "data" / "co3o4_mn3o4_eels" / "Co3O4_Mn3O4.h5"
)


def simulated(counts, seed=0, mixed=0.0, background=0.0, width=64, height=24, tilts=None):
    """Gross counts, noisy HAADF and expected net maps of a particle of `counts` per pixel."""
    expected = core_shell(width, height, tilts, mixed)
    inside = expected.sum(axis=0) > 0
    expected *= (
        counts / np.array([channel[inside].mean() for channel in expected])[:, None, None, None]
    )
    rng = np.random.default_rng(seed)
    haadf = np.tensordot(TRUE, expected, 1)
    haadf += rng.normal(size=haadf.shape) * 0.03 * np.sqrt(haadf * haadf.max())
    return rng.poisson(expected + background).astype(np.float32), haadf.astype(np.float32), expected


def poisson(maps, haadf, **options):
    """Fit two elements without a bootstrap, unless asked for."""
    return fit_response_ratios(
        maps, haadf, ["Au", "Ag"], method="poisson", **{"n_bootstrap": 0, **options}
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("counts", "background", "within"), [(0.3, 0.0, 0.015), (1.0, 1.0, 0.015), (10.0, 0.0, 0.003)]
)
def test_unbiased_where_plain_least_squares_is_far_off(counts, background, within):
    found, plain = [], []
    for seed in range(10):
        gross, haadf, _ = simulated(counts, seed, 0.0, background)
        net = gross - np.float32(background)
        found.append(poisson(net, haadf, gross=gross).values)
        mask = specimen_mask(haadf)
        plain.append(nnls(net[:, mask].T.astype(float), haadf[mask].astype(float))[0])
    scatter = np.std(found, axis=0, ddof=1) / TRUE
    bias = np.mean(found, axis=0) / TRUE - 1
    assert (np.abs(bias) < np.maximum(within, 3 * scatter / np.sqrt(10))).all()
    assert (scatter < 10 * within).all()
    assert np.abs(np.mean(plain, axis=0) / TRUE - 1).max() > 5 * within


@pytest.mark.slow
def test_scatters_less_than_blocks_where_phases_are_mixed():
    offs = {"blocks": [], "poisson": []}
    for seed in range(8):
        maps, haadf, _ = simulated(0.3, seed, mixed=0.2)
        for method, off in offs.items():
            off.append(
                fit_response_ratios(maps, haadf, ["Au", "Ag"], method=method, n_bootstrap=0).values
                / TRUE
                - 1
            )
    error = {method: np.sqrt(np.mean(np.square(off), axis=0)) for method, off in offs.items()}
    assert (error["poisson"] < error["blocks"]).all()


@pytest.mark.slow
def test_standard_errors_are_those_of_the_scatter():
    fits = [poisson(*simulated(1.0, seed)[:2], n_bootstrap=50) for seed in range(20)]
    scatter = np.std([fit.values for fit in fits], axis=0, ddof=1)
    claimed = np.mean([fit.standard_errors for fit in fits], axis=0)
    # 20 seeds tell a standard deviation to 16 %.
    assert (claimed > 0.5 * scatter).all()
    assert (claimed < 2 * scatter).all()


@pytest.mark.slow
def test_the_law_of_the_noise_does_not_matter():
    # Lines that overlap: the second net map subtracts a part of the first, so that their noise is
    # not Poisson and correlated.
    found = []
    for seed in range(6):
        gross, haadf, expected = simulated(3.0, seed, 0.2)
        rng = np.random.default_rng(100 + seed)
        overlap = rng.poisson(2.0 * expected[0] + expected[1]).astype(np.float32)
        net = np.stack([gross[0], overlap - 2.0 * gross[0]])
        found.append(poisson(net, haadf, gross=np.stack([gross[0], overlap])).values)
    off = np.array(found) / TRUE - 1
    assert (np.abs(off.mean(axis=0)) < 0.01 + 3 * off.std(axis=0, ddof=1) / np.sqrt(6)).all()
    assert np.abs(off).max() < 0.2


def test_neighbour_means_leave_the_pixel_out_and_keep_constants():
    rng = np.random.default_rng(0)
    image, mask = rng.normal(size=(20, 15)), rng.random((20, 15)) < 0.8
    changed = image.copy()
    changed[7, 5] += 1e3
    difference = neighbour_means(changed, mask, 1.5) - neighbour_means(image, mask, 1.5)
    assert abs(difference[7, 5]) < 1e-3
    np.testing.assert_allclose(neighbour_means(np.full((20, 15), 3.0), mask, 2.0), 3.0, rtol=1e-5)
    # An independent sum over all pairs of pixels.
    x, y = np.nonzero(mask)
    weights = np.exp(-((x[:, None] - x) ** 2 + (y[:, None] - y) ** 2) / (2 * 1.5**2))
    np.fill_diagonal(weights, 0)
    np.testing.assert_allclose(
        neighbour_means(image, mask, 1.5)[mask],
        weights @ image[mask] / weights.sum(axis=1),
        atol=2e-3,
    )


def test_second_stage_is_symmetric_and_positive():
    maps, haadf, _ = simulated(1.0)
    equations = instrument_equations(maps, maps, haadf, specimen_mask(haadf))
    gram, noise = equations.sums()[0], equations.noise.sum(axis=0)
    np.testing.assert_allclose(gram, gram.T, rtol=1e-6)
    assert (np.linalg.eigvalsh(gram - noise) > 0).all()
    # The noise that the first stage fits is a small part.
    assert (np.diag(noise) < 0.01 * np.diag(gram)).all()


def test_gains_shares_and_order_go_through():
    gross, haadf, _ = simulated(3.0)
    reference = poisson(gross, haadf).values
    gains, share = np.linspace(0.5, 2.0, len(haadf)), np.full((2, len(haadf)), 0.8)
    lit = poisson(
        gross * gains[:, None, None] / 0.8,
        haadf,
        gross=gross * (gains**2)[:, None, None],
        window_share=share,
        gains=gains,
    ).values
    np.testing.assert_allclose(lit, 0.8 * reference, rtol=1e-3)
    np.testing.assert_allclose(poisson(gross[::-1], haadf).values[::-1], reference, rtol=1e-5)


@pytest.mark.slow
def test_prior_and_rest():
    maps, haadf, _ = simulated(5.0, mixed=0.1, width=96, height=32)
    strap = ellipsoid(np.arange(-75.0, 76.0, 5.0), 96, 32, (10, 12, 5), (14, 10, 8))
    lit = haadf + strap * (2 * haadf.max() / strap.max())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pulled = poisson(maps, lit)
        kept = poisson(maps, lit, rest=True)
    np.testing.assert_allclose(kept.values, TRUE, rtol=0.05)
    assert np.abs(pulled.values / TRUE - 1).max() > 0.3
    equal = poisson(maps, haadf, prior={"Au": 1.0, "Ag": 1.0}, prior_strength=100.0)
    assert equal["Au"] / equal["Ag"] == pytest.approx(1, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["blocks", "poisson"])
def test_a_single_view_has_standard_errors(method):
    fits = []
    for seed in range(8):
        maps, haadf, _ = simulated(5.0, seed, width=96, height=96, tilts=[20.0])
        fits.append(fit_response_ratios(maps, haadf, ["Au", "Ag"], method=method, n_bootstrap=50))
    values, claimed = (
        np.array([getattr(fit, name) for fit in fits]) for name in ("values", "standard_errors")
    )
    scatter = values.std(axis=0, ddof=1)
    assert (np.abs(values.mean(axis=0) / TRUE - 1) < 0.03).all()
    assert (claimed.mean(axis=0) > 0.3 * scatter).all()
    assert (claimed.mean(axis=0) < 3 * scatter).all()
    assert fits[0].residual_per_tilt.shape == (1,)


def test_tiles_hold_every_pixel_once():
    images = np.arange(2 * 3 * 13 * 9).reshape(2, 3, 13, 9) + 1
    cut = in_tiles(images, (4, 6))
    assert cut.shape == (2, 3 * 4 * 2, 4, 6)
    np.testing.assert_array_equal(np.sort(cut[cut > 0]), images.ravel())
    np.testing.assert_array_equal(cut[1, 0], images[1, 0, :4, :6])
    assert bootstrap_tile(np.ones((8, 40, 40), bool), 4) is None
    across, along = bootstrap_tile(np.ones((1, 60, 40), bool), 4)
    assert across % 4 == along % 4 == 0
    assert 16 <= -(-60 // across) * -(-40 // along) <= 64


@pytest.mark.parametrize("method", ["blocks", "poisson"])
def test_smoothed_maps_are_noticed(method):
    gross, haadf, _ = simulated(3.0)
    smooth = gaussian_filter(gross, (0, 0, 0.8, 0.8))
    with pytest.warns(UserWarning, match="smoothed or resampled"):
        fit_response_ratios(smooth, haadf, ["Au", "Ag"], method=method, gross=gross, n_bootstrap=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_response_ratios(gross, haadf, ["Au", "Ag"], method=method, n_bootstrap=0)


@pytest.mark.parametrize("counts", [100.0, 1000.0])
def test_sharp_features_at_high_counts_are_not_taken_for_smoothing(counts):
    """There the specimen's own differences exceed the noise;
    but whole numbers have not been smoothed."""
    gross, haadf, _ = simulated(counts, width=24, height=12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = fit_response_ratios(gross, haadf, ["Au", "Ag"], n_bootstrap=0)
    assert noise_correlation(gross, specimen_mask(haadf)) > 0.2 or counts < 1000
    np.testing.assert_allclose(fit.values, TRUE, rtol=0.02)
    with pytest.warns(UserWarning, match="smoothed or resampled"):
        fit_response_ratios(
            gaussian_filter(gross, (0, 0, 0.8, 0.8)), haadf, ["Au", "Ag"], n_bootstrap=0
        )


@pytest.mark.parametrize("method", ["blocks", "poisson"])
def test_edges_and_grains_are_not_taken_for_noise(method):
    """Without any noise the ratios are exact, although neighbouring pixels differ;
    with a mask and with rest as well."""
    rng = np.random.default_rng(3)
    phase = rng.random((3, 40, 30)) < 0.5
    maps = (20 + 80 * np.stack([phase, ~phase])).astype(np.float32)
    haadf = np.tensordot(TRUE, maps, 1).astype(np.float32)
    mask = rng.random((3, 40, 30)) < 0.95
    for options in ({}, {"mask": mask, "block_size": 2}, {"rest": True}):
        fit = fit_response_ratios(
            maps, haadf, ["Au", "Ag"], method=method, n_bootstrap=0, **options
        )
        np.testing.assert_allclose(fit.values, TRUE, rtol=1e-3)


def test_maps_of_tiny_values_are_not_taken_for_counts():
    gross, haadf, _ = simulated(3.0)
    with pytest.raises(ValueError, match="not whole numbers"):
        poisson(1e-6 * gross, haadf)
    with pytest.warns(UserWarning, match="fewer than the 50 asked for"):
        fit = fit_response_ratios(np.float32(1e-6) * gross, haadf, ["Au", "Ag"], n_bootstrap=0)
    np.testing.assert_allclose(1e-6 * fit.values, TRUE, rtol=0.02)


def test_noise_correlation_of_white_and_of_smoothed_noise():
    rng = np.random.default_rng(0)
    white, mask = rng.poisson(4.0, (2, 3, 60, 60)), np.ones((3, 60, 60), bool)
    assert noise_correlation(white, mask) < 0.05
    # Half a pixel of linear interpolation along one axis: the differences correlate by 0 instead of
    # -1/2.
    assert noise_correlation(
        (white[..., 1:] + white[..., :-1]) / 2, mask[..., 1:]
    ) == pytest.approx(0.5, abs=0.05)
    # A line of pixels; and one smoothed map beside one that is not.
    assert noise_correlation(white[:, :1, :, :1], mask[:1, :, :1]) < 0.2
    assert (
        noise_correlation(np.stack([gaussian_filter(white[0] * 1.0, 1.0), white[1]]), mask) < 0.05
    )


def test_a_tilt_outside_the_mask_adds_nothing():
    maps, haadf, _ = simulated(3.0)
    mask = specimen_mask(haadf)
    mask[4] = False
    left_out = np.arange(len(haadf)) != 4
    kept = poisson(maps[:, left_out], haadf[left_out], mask=mask[left_out])
    np.testing.assert_allclose(poisson(maps, haadf, mask=mask).values, kept.values, rtol=1e-6)


def test_needs_counts():
    maps, haadf, _ = simulated(1.0)
    with pytest.raises(ValueError, match="maps of Au, Ag are not whole numbers.*method='blocks'"):
        poisson(0.7 * maps, haadf)
    with pytest.raises(ValueError, match="gross has shape"):
        poisson(maps, haadf, gross=maps[0])
    with pytest.raises(ValueError, match="window_share has shape"):
        poisson(maps, haadf, window_share=[1.0, 1.0])
    with pytest.raises(ValueError, match="must be one of 'blocks', 'poisson'"):
        fit_response_ratios(maps, haadf, ["Au", "Ag"], method="bayes")


def test_records_of_older_versions_are_read():
    maps, haadf, _ = simulated(3.0)
    held = poisson(maps, haadf).as_dict()
    assert ResponseRatios.from_dict(held).method == "poisson"
    del held["method"]
    assert ResponseRatios.from_dict(held).method == "blocks"


class TestSignals:
    def series(self, background=1.0, tilts=(-60.0, -30.0, 0.0, 30.0)):
        """EDS net maps with recorded gross counts, and their HAADF."""
        gross, haadf, _ = simulated(4.0, 0, 0.0, background, tilts=list(tilts))
        net = gross - np.float32(background)
        eds = mt.TiltSeriesEDS.from_maps(
            dict(zip(("Au", "Ag"), net.transpose(0, 1, 3, 2), strict=True)),
            tilts=list(tilts),
            pixel_size=1.0,
        )
        images = mt.TiltSeriesHAADF.from_images(
            haadf.transpose(0, 2, 1), tilts=list(tilts), pixel_size=1.0
        )
        return eds, images, gross

    def test_gross_counts_of_the_series_are_used(self):
        from hyperspy_multitomo.signals.metadata.recorded_arrays import record

        eds, haadf, gross = self.series()
        with pytest.raises(ValueError, match="come without gross counts"):
            eds.fit_response_ratios(haadf, method="poisson")
        record(eds, "gross", gross.transpose(1, 0, 3, 2), ("tilt", "element", "y", "x"))
        record(eds, "window_share", np.ones((4, 2)), ("tilt", "element"))
        fit = eds.fit_response_ratios(haadf, method="poisson")
        np.testing.assert_allclose(fit.values, TRUE, rtol=0.05)
        assert eds.response_ratios.method == "poisson"
        assert eds.history[-1]["method"] == "poisson"
        # The tilts that both have, one of them alone.
        one = eds.fit_response_ratios(haadf.inav[1:2], method="poisson")
        assert np.isfinite(one.residual_per_tilt).tolist() == [False, True, False, False]
        np.testing.assert_allclose(one.values, TRUE, rtol=0.15)

    def test_a_common_alignment_does_not_resample(self):
        from hyperspy_multitomo.alignment import Alignment

        eds, haadf, _ = self.series(background=0.0)
        plain = eds.fit_response_ratios(haadf).values
        shifted = Alignment(across=[0.3, -1.2, 0.5, 0.0], along=[0.5, 0.5, -0.5, 1.5])
        for series in (eds, haadf):
            series.alignment = shifted
        np.testing.assert_array_equal(eds.fit_response_ratios(haadf).values, plain)


@pytest.mark.skipif(not EELS.exists(), reason="the EELS maps are absent")
def test_a_real_single_view_of_scaled_maps():
    h5py = pytest.importorskip("h5py")
    with h5py.File(EELS) as file:
        maps = np.array([file[element][:].T for element in ("Co", "Mn", "O")])[:, None]
        haadf = file["HAADF"][:].T[None]
    # The detector's offset: half of the view is vacuum.
    haadf = haadf - np.percentile(haadf, 1)
    ratios = fit_response_ratios(maps, haadf, ["Co", "Mn", "O"], block_size=20)
    assert ratios.r2 > 0.9
    assert (ratios.standard_errors > 0).all()
    assert ratios.residual_map.shape == (1, 20, 20)
    with pytest.raises(ValueError, match="method='blocks'"):
        fit_response_ratios(maps, haadf, ["Co", "Mn", "O"], method="poisson")


def test_neighbours_that_predict_nothing_are_named():
    # Single bright pixels at random: no pixel says anything on the next.
    rng = np.random.default_rng(0)
    expected = rng.gamma(0.3, 10.0, (2, 9, 40, 40))
    haadf = np.tensordot(TRUE, expected, 1)
    with pytest.warns(UserWarning, match="Au, Ag cannot be told apart"):
        poisson(rng.poisson(expected), haadf, mask=np.ones(haadf.shape, bool))

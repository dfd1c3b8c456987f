# SPDX-License-Identifier: GPL-3.0-or-later
"""Response ratios: unbiased at low counts, honest about what they cannot know."""

import warnings

import numpy as np
import pytest
from ellipsoids import core_shell, ellipsoid

from hyperspy_multitomo.composition import ResponseRatios, fit_response_ratios
from hyperspy_multitomo.composition.response.blocks import block_side, noise_covariance, sum_blocks
from hyperspy_multitomo.composition.response.regression import one_sided_weights

TRUE = np.array([8.0, 3.0])


def simulated(counts, seed=0, mixed=0.0, width=128, height=32, tilts=None):
    """Poisson maps of `counts` per pixel of the particle, noisy HAADF, and the expected maps."""
    expected = core_shell(width, height, tilts, mixed)
    inside = expected.sum(axis=0) > 0
    expected *= (
        counts / np.array([channel[inside].mean() for channel in expected])[:, None, None, None]
    )
    rng = np.random.default_rng(seed)
    haadf = np.tensordot(TRUE, expected, 1)
    haadf += rng.normal(size=haadf.shape) * 0.03 * np.sqrt(haadf * haadf.max())
    return rng.poisson(expected).astype(np.float32), haadf.astype(np.float32), expected


@pytest.fixture(scope="module")
def small():
    """A quick case: 10 counts per pixel on 48 x 16 pixels and 9 tilts."""
    return simulated(10.0, width=48, height=16, tilts=np.arange(-60.0, 61.0, 15.0))


@pytest.mark.parametrize("counts", [0.3, 1.0, 3.0, 10.0])
def test_unbiased_at_low_counts(counts):
    maps, haadf, _ = simulated(counts)
    ratios = fit_response_ratios(maps, haadf, ["Au", "Ag"])
    np.testing.assert_allclose(ratios.values, TRUE, rtol=0.05)
    assert ratios.block_counts.min() >= 50
    assert ratios.r2 > 0.97


def test_noise_correction_is_needed_where_maps_are_alike():
    # Each part holds 30 % of the other's element: plain least squares on the same blocks is off by
    # several per cent.
    errors, plain = [], []
    for seed in range(3):
        maps, haadf, _ = simulated(3.0, seed, mixed=0.3)
        ratios = fit_response_ratios(maps, haadf, ["Au", "Ag"], n_bootstrap=0)
        errors.append(ratios.values / TRUE - 1)
        blocks = sum_blocks(maps, haadf, haadf > 0.05 * np.percentile(haadf, 99), ratios.block_size)
        plain.append(np.linalg.lstsq(blocks.counts, blocks.haadf, rcond=None)[0] / TRUE - 1)
    assert np.abs(np.mean(errors, axis=0)).max() < 0.03
    assert np.abs(np.mean(plain, axis=0)).max() > 0.05


def test_noise_covariance_of_poisson_counts_and_of_correlated_channels():
    rng = np.random.default_rng(1)
    counts = rng.poisson(np.full((2, 3, 40, 40), 4.0))
    # The second net map subtracts half of the first, as overlapping lines do.
    maps = np.stack([counts[0], counts[1] - 0.5 * counts[0]])
    covariance = noise_covariance(maps, np.ones((3, 40, 40), bool)) / 1600
    np.testing.assert_allclose(covariance.mean(axis=0), [[4.0, -2.0], [-2.0, 5.0]], rtol=0.1)


def test_noise_covariance_is_blind_to_gradients_and_ragged_blocks_lose_nothing():
    x, y = np.mgrid[:23, :17]
    ramp = np.broadcast_to(3.0 * x + 2.0 * y, (1, 2, 23, 17))
    assert np.abs(noise_covariance(ramp, np.ones((2, 23, 17), bool))).max() < 1e-18
    line = ramp[..., :1]
    assert np.abs(noise_covariance(line, np.ones((2, 23, 1), bool))).max() < 1e-18
    blocks = sum_blocks(ramp, ramp[0], np.ones((2, 23, 17), bool), 5)
    assert blocks.grid == (2, 5, 4)
    np.testing.assert_allclose(blocks.counts.sum(), ramp.sum())


def test_invariant_to_scale_order_and_gains(small):
    maps, haadf, _ = small
    reference = fit_response_ratios(maps, haadf, ["Au", "Ag"])
    turned = fit_response_ratios(maps[::-1], haadf, ["Ag", "Au"])
    np.testing.assert_allclose(turned.values[::-1], reference.values, rtol=1e-9)
    # Scaled maps are no counts any more, but their ratios scale along.
    scaled = fit_response_ratios(2 * maps, haadf, ["Au", "Ag"], block_size=reference.block_size)
    np.testing.assert_allclose(2 * scaled.values, reference.values, rtol=1e-9)
    gains = np.linspace(0.5, 1.5, len(haadf))
    lit = fit_response_ratios(
        maps * gains[:, None, None],
        haadf * gains[::-1, None, None],
        ["Au", "Ag"],
        gains=gains,
        haadf_gains=gains[::-1],
        block_size=reference.block_size,
        mask=haadf > 0.05 * haadf.max(),
    )
    np.testing.assert_allclose(lit.values, reference.values, rtol=0.01)


@pytest.mark.slow
def test_standard_errors_cover_the_scatter():
    tilts = np.arange(-60.0, 61.0, 10.0)
    fits = [
        fit_response_ratios(*simulated(2.0, seed, 0.2, 64, 16, tilts)[:2], ["Au", "Ag"])
        for seed in range(12)
    ]
    scatter = np.std([fit.values for fit in fits], axis=0, ddof=1)
    claimed = np.mean([fit.standard_errors for fit in fits], axis=0)
    assert (claimed > 0.4 * scatter).all()
    assert (claimed < 3 * scatter).all()


def test_missing_element_is_asked_for_and_located(small):
    maps, haadf, _ = small
    with pytest.warns(UserWarning, match="Which element is missing"):
        ratios = fit_response_ratios(maps[1:], haadf, ["Ag"])
    assert ratios.r2 < 0.9
    middle = ratios.residual_map[4]
    # The core, which is the missing element, is in the middle of the particle and brighter than its
    # shell explains.
    assert middle[middle.shape[0] // 2, middle.shape[1] // 2] > 0
    assert np.isnan(middle[0, 0])


def test_residuals_are_those_of_the_stated_model(small):
    maps, haadf, _ = small
    mask = np.ones(haadf.shape, bool)
    ratios = fit_response_ratios(maps, haadf, ["Au", "Ag"], block_size=4, mask=mask)
    blocks = sum_blocks(maps, haadf, mask, 4)
    residual = blocks.haadf - blocks.counts @ ratios.values
    np.testing.assert_allclose(
        ratios.residual_map.ravel(), residual, rtol=1e-4, atol=1e-3 * np.abs(residual).max()
    )
    assert ratios.r2 == pytest.approx(
        1 - (residual**2).sum() / ((blocks.haadf - blocks.haadf.mean()) ** 2).sum()
    )
    third = blocks.tilt == 2
    assert ratios.residual_per_tilt[2] == pytest.approx(
        np.linalg.norm(residual[third]) / np.linalg.norm(blocks.haadf[third])
    )


def test_rest_takes_up_what_no_map_explains():
    maps, haadf, _ = simulated(5.0, mixed=0.1, width=96, height=32)
    tilts = np.arange(-75.0, 76.0, 5.0)
    strap = ellipsoid(tilts, 96, 32, (10, 12, 5), (14, 10, 8))
    haadf = haadf + strap * (2 * haadf.max() / strap.max())
    with pytest.warns(UserWarning, match="missing"):
        pulled = fit_response_ratios(maps, haadf, ["Au", "Ag"])
    ratios = fit_response_ratios(maps, haadf, ["Au", "Ag"], rest=True)
    np.testing.assert_allclose(ratios.values, TRUE, rtol=0.05)
    assert np.abs(pulled.values / TRUE - 1).max() > 0.3
    assert ratios.rest


def test_one_sided_weights_keep_the_dark_side():
    rng = np.random.default_rng(0)
    signal = 100 + rng.normal(size=400)
    signal[:60] += 50
    weights = one_sided_weights(signal, lambda w: np.full(400, np.average(signal, weights=w)))
    assert weights[:60].sum() == 0
    assert weights[60:].mean() > 0.98


def test_element_explained_by_others_is_named():
    # h follows the first map alone; the second follows the first loosely, so that its ratio wants
    # to be below 0.
    rng = np.random.default_rng(3)
    first = ellipsoid(np.linspace(-60, 60, 9), 48, 24, (0, 0, 0), (18, 16, 9))
    second = np.sqrt(first)
    haadf = 5 * first - 0.5 * second
    maps = rng.poisson(np.array([first, second]) * 3)
    with pytest.warns(UserWarning, match="ratio of O is 0"):
        ratios = fit_response_ratios(maps, haadf, ["Mg", "O"])
    assert ratios.unexplained == ("O",)
    assert ratios["O"] == 0
    assert ratios["Mg"] > 0


def test_prior_resolves_a_collinear_pair(small):
    maps, haadf, _ = small
    pair = np.stack([maps[0], 2 * maps[0], maps[1]])
    with pytest.raises(ValueError, match="Au, Bi depend on one another"):
        fit_response_ratios(pair, haadf, ["Au", "Bi", "Ag"])
    ratios = fit_response_ratios(pair, haadf, ["Au", "Bi", "Ag"], prior={"Au": 4.0, "Bi": 1.0})
    # r_Au + 2 r_Bi = 8 with r_Au = 4 r_Bi.
    np.testing.assert_allclose(ratios.values, [16 / 3, 4 / 3, 3], rtol=0.05)


def test_maps_that_differ_by_noise_alone_are_named_and_the_prior_holds_them():
    rng = np.random.default_rng(5)
    shape = ellipsoid(np.linspace(-60, 60, 9), 48, 24, (0, 0, 0), (18, 16, 9))
    maps, haadf = rng.poisson(np.array([shape, 3 * shape])), 6 * shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loose = fit_response_ratios(maps, haadf, ["C", "O"])
    with pytest.warns(UserWarning, match="C, O cannot be told apart"):
        fit_response_ratios(maps, haadf, ["C", "O"])
    held = fit_response_ratios(maps, haadf, ["C", "O"], prior={"C": 3.0, "O": 1.0})
    assert loose.values @ [1, 3] == pytest.approx(6, rel=0.02)
    np.testing.assert_allclose(held.values, [3, 1], rtol=0.05)


def test_stronger_prior_pulls_harder(small):
    maps, haadf, _ = small

    def quotient(strength):
        ratios = fit_response_ratios(
            maps, haadf, ["Au", "Ag"], prior={"Au": 1.0, "Ag": 1.0}, prior_strength=strength
        )
        return ratios["Au"] / ratios["Ag"]

    weak, medium, strong = quotient(0.01), quotient(1.0), quotient(100.0)
    assert weak == pytest.approx(8 / 3, rel=0.03)
    assert weak > medium > strong
    assert strong == pytest.approx(1, rel=0.01)


def test_negative_pixels_count_like_others(small):
    _, haadf, expected = small
    rng = np.random.default_rng(2)
    background = 5.0
    net = rng.poisson(expected + background) - background
    assert (net < 0).any()
    ratios = fit_response_ratios(net, haadf, ["Au", "Ag"])
    np.testing.assert_allclose(ratios.values, TRUE, rtol=0.05)


def test_too_small_a_view_is_said():
    maps, haadf, _ = simulated(0.02, width=48, height=16, tilts=np.arange(-60.0, 61.0, 15.0))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        ratios = fit_response_ratios(maps, haadf, ["Au", "Ag"])
    assert any(
        "counts of the weakest element, fewer than the 50" in str(warning.message)
        for warning in said
    )
    assert all(warning.filename == __file__ for warning in said)
    assert np.isfinite(ratios.residual_map).sum() >= 36


def test_block_side_is_the_smallest():
    mask = np.ones((4, 60, 60), bool)
    assert block_side(0.5 * mask.sum(), mask, 50.0) == (10, False)
    assert block_side(50.0 * mask.sum(), mask, 50.0) == (1, False)


def test_record_survives_its_dict(small):
    maps, haadf, _ = small
    ratios = fit_response_ratios(maps, haadf, ["Au", "Ag"])
    again = ResponseRatios.from_dict(ratios.as_dict())
    assert again.elements == ratios.elements
    for name in ("values", "standard_errors", "residual_map", "residual_per_tilt", "block_counts"):
        np.testing.assert_array_equal(getattr(again, name), getattr(ratios, name))
    assert (again.r2, again.block_size, again.rest) == (ratios.r2, ratios.block_size, ratios.rest)
    with pytest.raises(KeyError, match="no response ratio of 'Cu'"):
        ratios["Cu"]


def test_absent_element_gets_no_ratio(small):
    maps, haadf, _ = small
    absent = np.random.default_rng(0).normal(-0.1, 0.5, haadf.shape)
    with pytest.warns(UserWarning, match="ratio of Ti is 0"):
        ratios = fit_response_ratios([*maps, absent], haadf, ["Au", "Ag", "Ti"])
    np.testing.assert_allclose(ratios.values, [8, 3, 0], rtol=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"maps": np.ones((2, 3, 8, 8))}, r"expected \(channel, tilt, x, y\) and \(tilt, x, y\)"),
        ({"elements": ["Au"]}, "2 maps but the elements are"),
        ({"elements": ["Au", "Au"]}, "one name of its own"),
        ({"nan": True}, "NaN or infinite"),
        ({"zero": True}, "Ag are all zero"),
        ({"flat": True}, "0.0 everywhere"),
        ({"gains": [1.0, 2.0]}, "one gain per tilt"),
        ({"gains": [0.0] * 9}, "positive and finite"),
        ({"haadf_gains": [1.0]}, "haadf_gains has shape"),
        ({"mask": np.zeros((48, 16), bool)}, "no pixel"),
        ({"mask": np.ones((3, 3), bool)}, "the mask is bool of shape"),
        ({"block_size": 0}, "block_size=0 must be"),
        ({"prior": {"Cu": 1.0, "Au": 2.0}}, "the prior names Cu"),
        ({"prior": {"Au": 1.0}}, "two elements or more"),
        ({"prior": {"Au": 1.0, "Ag": -1.0}}, r"prior\['Ag'\]=-1.0 must be a positive number"),
        ({"prior": {"Au": 1.0, "Ag": 1.0}, "prior_strength": 0.0}, "prior_strength=0.0 must be"),
    ],
)
def test_bad_input_says_what_to_do(small, change, message):
    change = dict(change)
    maps, haadf, elements = small[0].copy(), small[1].copy(), change.pop("elements", ["Au", "Ag"])
    maps = change.pop("maps", maps)
    if change.pop("nan", False):
        haadf[0, 0, 0] = np.nan
    if change.pop("zero", False):
        maps[1] = 0
    if change.pop("flat", False):
        haadf[:] = 0
    with pytest.raises(ValueError, match=message):
        fit_response_ratios(maps, haadf, elements, **change)

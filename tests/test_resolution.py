# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolution of volumes from halves of their data: against simulations, and what is refused."""

import numpy as np
import pytest
from series_pairs import QUIET, TILTS, pair, spectral

import hyperspy_multitomo as mt
from hyperspy_multitomo.evidence import shell_correlation
from hyperspy_multitomo.reconstruction.recipes import RECIPES
from hyperspy_multitomo.reconstruction.regularised_hebt import RegularisedHEBT
from hyperspy_multitomo.signals.metadata.recorded_arrays import record
from hyperspy_multitomo.signals.methods.halves import parts_by_counts, parts_by_tilts
from hyperspy_multitomo.signals.methods.resolving import check_independent

CUBE = {"depth": None, **QUIET}
#: Keywords of each method, short runs.
METHODS = {
    "fbp": {},
    "sirt": {"iterations": 15},
    "em": {"iterations": 8},
    "cgls": {"iterations": 3},
}


@pytest.fixture(scope="module")
def series():
    haadf, eds = pair(counts=20.0)
    eds.fit_response_ratios(haadf)
    return haadf, eds


def crossings(volumes, threshold):
    arrays = [volume.array("element", "z", "x", "y") for volume in volumes]
    return [
        shell_correlation(*one, (2.0, 2.0, 2.0)).resolution(threshold)
        for one in zip(*arrays, strict=True)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_halves_of_counts_agree_as_two_simulations_do(method, series):
    """At half of the dose as they are, at the whole dose by 2 F / (1 + F); within 15 %."""
    keywords = METHODS[method] | CUBE

    def made(counts, seed):
        return getattr(pair(counts=counts, seed=seed)[1], f"reconstruct_{method}")(**keywords)

    _, eds = series
    found = eds.resolution(
        getattr(eds, f"reconstruct_{method}")(**keywords), halves="counts", **QUIET
    )
    here = [found.periods["counts"][name]["all"] for name in ("Au", "Ag")]
    half = np.mean([crossings([made(10.0, s), made(10.0, s + 1)], 1 / 7) for s in (10, 12)], axis=0)
    assert here == pytest.approx(half, rel=0.15)
    whole = crossings([made(20.0, 20), made(20.0, 21)], 0.25)
    assert here == pytest.approx(whole, rel=0.15)


@pytest.mark.slow
def test_hebt_halves_are_independent(series):
    """The HAADF is halved too: that of noisy images agrees less than that of clean ones."""
    haadf, eds = series
    rng = np.random.default_rng(0)
    noisy = haadf.deepcopy()
    noisy.data = noisy.data + rng.normal(0, 0.3 * noisy.data.max(), noisy.data.shape)
    periods = []
    for images in (haadf, noisy):
        volume = eds.reconstruct_hebt(images, iterations=30, **CUBE)
        found = eds.resolution(volume, images, **QUIET)
        periods.append([found.periods[kind]["Au"]["all"] for kind in ("counts", "tilts")])
    assert np.all(np.array(periods[1]) > periods[0])


@pytest.mark.slow
def test_halves_of_images(series):
    haadf, _ = series
    noisy = haadf.deepcopy()
    noise = np.random.default_rng(0).normal(0, 0.3 * haadf.data.max(), haadf.data.shape)
    noisy.data = haadf.data + noise
    found = noisy.resolution(noisy.reconstruct_sirt(20, **CUBE), **QUIET)
    clean = haadf.resolution(haadf.reconstruct_sirt(20, **CUBE), **QUIET)
    assert list(found.periods["counts"]) == ["HAADF"]
    for kind in ("counts", "tilts"):
        assert found.periods[kind]["HAADF"]["all"] > clean.periods[kind]["HAADF"]["all"]


def test_parts_of_counts_are_independent_and_of_the_whole_scale():
    _, eds = pair(counts=5.0)
    first, second = parts_by_counts(eds, 0.3, as_counts=True)
    np.testing.assert_array_equal(first.data + second.data, eds.data)
    np.testing.assert_allclose(first.gains, 0.3)
    np.testing.assert_allclose(second.gains, 0.7)
    mean = eds.data.mean(axis=0)
    bright = mean > 2
    scatter = [(one.data - one.gains[0] * mean)[:, bright] for one in (first, second)]
    assert abs(np.corrcoef(scatter[0].ravel(), scatter[1].ravel())[0, 1]) < 0.1
    scaled, _ = parts_by_counts(eds, 0.3)
    np.testing.assert_allclose(scaled.data, first.data / 0.3, rtol=1e-6)
    assert scaled.gains is None or (scaled.gains == eds.gains).all()


def test_parts_keep_gross_counts_background_and_gains():
    _, eds = pair(counts=5.0)
    eds = spectral(eds)
    record(eds, "window_share", np.ones((len(TILTS), 2)), ("tilt", "element"))
    eds.gains = np.linspace(0.8, 1.2, len(TILTS))
    first, second = parts_by_counts(eds, as_counts=True)
    np.testing.assert_array_equal(first.gross + second.gross, eds.gross)
    np.testing.assert_allclose(first.background, 1.0, rtol=1e-5)
    np.testing.assert_allclose(first.gains, eds.gains / 2)
    np.testing.assert_allclose(first.data, first.gross - first.background, atol=1e-5)


def test_parts_of_images_are_independent():
    rng = np.random.default_rng(0)
    images = 100 + rng.normal(0, 5, (6, 40, 40))
    haadf = mt.TiltSeriesHAADF.from_images(images, tilts=range(-50, 51, 20))
    first, second = (one.data - 100 for one in parts_by_counts(haadf))
    assert first.std() == pytest.approx(5 * np.sqrt(2), rel=0.1)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.1


def test_parts_of_tilts_keep_what_is_attached():
    _, eds = pair()
    eds.gains = np.linspace(0.8, 1.2, len(TILTS))
    first, second = parts_by_tilts(eds)
    np.testing.assert_array_equal(first.tilts, TILTS[::2])
    np.testing.assert_array_equal(second.gains, eds.gains[1::2])
    assert first.channels == eds.channels


def test_it_is_printed_and_drawn(series):
    _, eds = series
    found = eds.resolution(eds.reconstruct_fbp(**CUBE), **QUIET)
    text = str(found)
    assert "elongation of a point 1.55" in text
    assert "signal against noise, not blur" in text
    assert sum(line.startswith(("counts", "tilts")) for line in text.splitlines()) == 4
    figure = found.plot()
    assert [axes.get_title() for axes in figure.axes] == [
        "halves of the counts",
        "even and odd tilts",
    ]
    assert found.of_all_data("tilts", "Au").max() <= 1
    # Crowther's limit is that of the tilts and the object.
    assert found.crowther == pytest.approx(found.diameter * np.deg2rad(10))


def test_one_element_of_a_volume(series):
    _, eds = series
    volume = eds.reconstruct_fbp(**CUBE)
    whole = eds.resolution(volume, halves="tilts", **QUIET)
    found = eds.resolution(volume["Ag"], halves="tilts", **QUIET)
    assert found.periods["tilts"]["Ag"] == whole.periods["tilts"]["Ag"]


def test_one_slice(series):
    _, eds = series
    thin = eds.isig[:, 12:13]
    found = thin.resolution(thin.reconstruct_fbp(**CUBE), **QUIET)
    assert found.periods["tilts"]["Au"]["all"] >= 4


@pytest.mark.parametrize("name", ["tv", "tgv", "tnv", "fused", "hebt"])
def test_recipes_with_a_prior_are_refused(name):
    recipe = RegularisedHEBT(regulariser="tv") if name == "hebt" else RECIPES[name]()
    with pytest.raises(ValueError, match="prior that both halves would share"):
        check_independent(recipe, {"step": recipe.step})


@pytest.mark.slow
def test_regularised_volumes_are_refused(series):
    haadf, eds = series
    volume = eds.reconstruct_tnv(haadf, iterations=1, **CUBE)
    with pytest.raises(ValueError, match="reconstruct_tnv with its regulariser holds a prior"):
        eds.resolution(volume, haadf, **QUIET)


def test_what_has_no_independent_halves_is_refused(series):
    haadf, eds = series
    volume = eds.reconstruct_sirt(2, **CUBE)
    with pytest.raises(ValueError, match="no reconstruction in its history"):
        eds.resolution(mt.TomographicVolume.from_arrays({"Au": np.ones((8, 8, 8))}))
    with pytest.raises(ValueError, match="not what the volume was made of"):
        pair(seed=5)[1].resolution(volume)
    with pytest.raises(ValueError, match="was not made of a HAADF"):
        eds.resolution(volume, haadf)
    with pytest.raises(ValueError, match="pass all of it"):
        eds.resolution(volume.isig[4:, :])
    with pytest.raises(ValueError, match="started from another"):
        eds.resolution(eds.reconstruct_sirt(2, initial=volume, **CUBE))
    with pytest.raises(ValueError, match="halves='some' must be"):
        eds.resolution(volume, halves="some")
    with pytest.raises(ValueError, match="threshold"):
        eds.resolution(volume, threshold=1.0)
    with pytest.raises(ValueError, match="lazy series"):
        eds.as_lazy().resolution(volume)
    few = eds.inav[:, :3]
    with pytest.raises(ValueError, match="four or more"):
        few.resolution(few.reconstruct_sirt(2, **CUBE), halves="tilts", **QUIET)


def test_smoothed_series_are_halved_by_tilts_alone(series):
    haadf, eds = series
    smooth = eds.smooth(1.0)
    volume = smooth.reconstruct_sirt(2, **CUBE)
    with pytest.raises(ValueError, match="halves='tilts'"):
        smooth.resolution(volume, **QUIET)
    assert list(smooth.resolution(volume, halves="tilts", **QUIET).curves) == ["tilts"]
    images = haadf.smooth(1.0)
    with pytest.raises(ValueError, match="smoothed"):
        images.resolution(images.reconstruct_sirt(2, **CUBE), **QUIET)


def test_a_mask_is_warned_of(series):
    _, eds = series
    mask = np.ones((48, 24, 48), bool)
    volume = eds.reconstruct_sirt(2, mask=mask, **CUBE)
    with pytest.warns(UserWarning, match="edges both halves share"):
        eds.resolution(volume, mask=mask, halves="tilts", **QUIET)

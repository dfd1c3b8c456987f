# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge maps against spectra of known composition, against eXSpy, and on real data."""

import warnings
import zipfile
from pathlib import Path

import hyperspy.api as hs
import numpy as np
import pytest
from scipy.optimize import nnls

import hyperspy_multitomo as mt
from hyperspy_multitomo.acquisition.eds.line_calibration import region_spectra
from hyperspy_multitomo.acquisition.eels.edge_background import background_of, shrink
from hyperspy_multitomo.acquisition.eels.edge_fit import prepare_edge_fit
from hyperspy_multitomo.acquisition.eels.edge_shapes import cross_sections, fine_structure
from hyperspy_multitomo.acquisition.eels.edge_windows import prepare_edge_windows
from hyperspy_multitomo.acquisition.eels.edges import (
    background_ranges,
    edges_between,
    resolve_edges,
)

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
CO3O4 = DATA / "co3o4_mn3o4_eels" / "Co3O4_Mn3O4.h5"
VELOX = DATA / "velox_samples" / "velox_EELS_EDS.zip"
LOSS = np.arange(440.0, 1000.0)
EDGES = ("O_K", "Mn_L3", "Co_L3")
#: Net counts of each edge in its window per count of background below O K.
AMOUNTS = {"O_K": 0.3, "Mn_L3": 0.3, "Co_L3": 0.2, "V_L3": 0.3, "Cr_L3": 0.3}
TILTS = [-30.0, 0.0, 30.0]


def shapes(names, loss=LOSS):
    """Hydrogenic edges, the L edges with white lines, per count within 50 eV of the onset:
    (edge, energy)."""
    made = []
    edges = resolve_edges(names, (loss[0], loss[-1]))
    for edge, section in zip(edges, cross_sections(edges, loss), strict=True):
        if edge.shell == "L3":
            level = section[np.searchsorted(loss, edge.onset + 20)]
            for distance, height in ((2, 3.0), (13, 1.5)):
                section = section + height * level * np.exp(
                    -(((loss - edge.onset - distance) / 2) ** 2) / 2
                )
        made.append(section / section[(loss >= edge.onset) & (loss <= edge.onset + 50)].sum())
    return np.array(made)


def phantom(counts=30.0, size=24, tilts=3, names=EDGES, steeper=0.0, seed=0):
    """Spectra (tilt, y, x, energy) of a disc,
    the last edge in its right half and the one before in its left; and true counts.

    `counts` of background lie in the window of O K, on average; within the disc its exponent is
    `steeper`.
    """
    y, x = np.mgrid[:size, :size]
    disc = np.hypot(x - size / 2 + 0.5, y - size / 2 + 0.5) < 0.4 * size
    where = {names[-1]: disc & (x >= size / 2), names[-2]: disc & (x < size / 2)}
    true = np.array([counts * AMOUNTS[name] * where.get(name, disc) for name in names])
    falling = (LOSS / 557) ** -(3.0 + steeper * disc[..., None])
    below = (
        counts
        * np.where(disc, 1.3, 0.6)[..., None]
        * falling
        / ((LOSS / 557) ** -3.0)[(LOSS >= 532) & (LOSS <= 582)].sum()
    )
    mean = below + np.einsum("kyx,ke->yxe", true, shapes(names))
    return np.random.default_rng(seed).poisson(mean, (tilts, *mean.shape)).astype(np.uint16), true


def as_signal(counts, loss=LOSS, units="eV", tilts=TILTS, kind="EELS"):
    axes = [{"name": "tilt", "axis": tilts, "units": "°"}]
    axes += [
        {"name": name, "size": size, "scale": 2.0, "units": "nm"}
        for name, size in zip("yx", counts.shape[1:3], strict=True)
    ]
    axes += [
        {
            "name": "Energy loss",
            "size": loss.size,
            "offset": loss[0],
            "scale": loss[1] - loss[0],
            "units": units,
        }
    ]
    signal = hs.signals.Signal1D(counts, axes=axes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        signal.set_signal_type(kind)
    return signal


@pytest.fixture(scope="module")
def scene():
    counts, true = phantom()
    return as_signal(counts), true


def edge_maps(spectra, edges=EDGES, **kwds):
    return mt.edge_maps(spectra, list(edges), show_progressbar=False, **kwds)


@pytest.fixture(scope="module")
def maps(scene):
    return edge_maps(scene[0])


# Where edges are


def test_onsets_are_those_of_the_tables():
    assert [edge.onset for edge in resolve_edges(EDGES, (440, 999))] == [532.0, 640.0, 779.0]
    names = [edge.name for edge in edges_between(775, 785)]
    assert "Co_L3" in names
    assert "Co_L2" not in names


def test_background_windows_keep_off_the_fine_structure_below():
    windows = background_ranges(resolve_edges(["Fe_L3", "Mn_L3"], (440, 999)), (440, 999))
    assert windows["Fe_L3"] == (670.0, 703.0)


# Backgrounds


@pytest.mark.parametrize("kind", ["PowerLaw", "Exponential"])
def test_exponents_are_unbiased_and_their_variance_is_right(kind):
    loss = np.arange(480.0, 528.0)
    background = background_of(kind, loss)
    mean = background.shape(loss, 3.0) * 40
    found, variances = background.exponents(
        loss, np.random.default_rng(0).poisson(mean, (2000, loss.size))
    )
    assert found.mean() == pytest.approx(3.0, abs=4 * found.std() / np.sqrt(2000))
    assert variances.mean() == pytest.approx(found.var(), rel=0.1)


def test_exponent_without_counts_is_unknown():
    loss = np.arange(480.0, 528.0)
    exponent, variance = background_of("PowerLaw", loss).exponents(loss, np.zeros(loss.size))
    assert (exponent, variance) == (0, np.inf)


def test_shrinking_keeps_what_is_not_noise():
    rng = np.random.default_rng(0)
    true = rng.normal(3, 0.3, 4000)
    noise = rng.choice([0.1, 0.6], 4000)
    shrunk, spread = shrink(true + noise * rng.normal(size=4000), noise**2, 3.0)
    assert spread == pytest.approx(0.09, rel=0.15)
    assert np.std((shrunk - true)[noise > 0.5]) < 0.5 * 0.6
    assert np.std((shrunk - true)[noise < 0.5]) < 0.1


# Shapes


def test_parts_of_an_edge_add_up_to_it():
    (edge,) = resolve_edges(["Mn_L3"], (440, 999))
    (section,) = cross_sections([edge], LOSS)
    parts = fine_structure(edge, LOSS, section)
    np.testing.assert_allclose(parts.sum(axis=0)[LOSS > 650], section[LOSS > 650], rtol=1e-6)
    assert not parts[:, LOSS < 635].any()


@pytest.mark.slow
def test_white_lines_are_learned(scene):
    spectra, _ = scene
    sums = np.stack([region_spectra(cube, 8) for cube in spectra.data])
    model = prepare_edge_fit(sums, LOSS, resolve_edges(EDGES, (440, 999)))
    for learned, true in zip(model.shapes, shapes(EDGES)[:, model.fitted], strict=True):
        assert np.corrcoef(learned, true)[0, 1] > 0.96
    hydrogenic = cross_sections(model.edges, model.energy)
    assert np.corrcoef(hydrogenic[1], shapes(EDGES)[1][model.fitted])[0, 1] < 0.85


# Maps


@pytest.mark.slow
@pytest.mark.parametrize(("method", "tolerance"), [("fit", 0.04), ("windows", 0.08)])
def test_counts_of_each_edge(scene, method, tolerance):
    spectra, true = scene
    maps = edge_maps(spectra, method=method)
    assert (maps.elements, maps.edges, maps.pixel_size) == (("O", "Mn", "Co"), EDGES, 2.0)
    np.testing.assert_array_equal(maps.integration_windows, [[532, 582], [640, 690], [779, 829]])
    found = maps.array("element", "tilt", "y", "x")
    for net, amount in zip(found, true, strict=True):
        assert net[:, amount > 0].mean() == pytest.approx(amount.max(), rel=tolerance)
        assert net[:, amount == 0].mean() == pytest.approx(0, abs=tolerance * amount.max())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fit", "windows"])
def test_gross_counts_are_the_counts_in_the_window(scene, method):
    spectra, _ = scene
    maps = edge_maps(spectra, method=method)
    np.testing.assert_array_equal(
        maps.gross[:, 1], spectra.data[..., (LOSS >= 640) & (LOSS <= 690)].sum(axis=-1)
    )
    assert np.all(maps.window_share == 1)
    expected = maps.background + maps.data
    np.testing.assert_allclose(maps.gross.mean(axis=(2, 3)), expected.mean(axis=(2, 3)), rtol=0.025)


@pytest.mark.slow
def test_the_fit_has_the_lower_noise(scene, maps):
    spectra, true = scene
    windows = edge_maps(spectra, method="windows")
    for i, amount in enumerate(true):
        inside = amount > 0
        assert maps.data[:, i, inside].std() < 0.85 * windows.data[:, i, inside].std()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fit", "windows"])
def test_few_counts_do_not_bias_the_maps(method):
    """0.3 counts of background in the window: a power law fitted to such a pixel has no meaning."""
    counts, true = phantom(0.3, size=128, tilts=2, seed=1)
    sums = np.stack([region_spectra(cube, 8) for cube in counts])
    prepare = prepare_edge_fit if method == "fit" else prepare_edge_windows
    model = prepare(sums, LOSS, resolve_edges(EDGES, (440, 999)))
    made = [model.maps(cube, tilt) for tilt, cube in enumerate(counts)]
    net, errors = sum(one.net.sum(axis=(1, 2)) for one in made), np.hypot(*model.totals()[1])
    assert np.all(np.abs(net - 2 * true.sum(axis=(1, 2))) < 3.5 * errors)
    for i, amount in enumerate(true):
        assert np.mean([one.net[i, amount > 0].mean() for one in made]) == pytest.approx(
            amount.max(), rel=0.3
        )


@pytest.mark.slow
def test_standard_errors_of_the_totals_are_those_of_repeated_series():
    for prepare in (prepare_edge_fit, prepare_edge_windows):
        totals, errors = [], []
        for seed in range(12):
            counts, _ = phantom(3.0, size=16, tilts=1, seed=seed)
            model = prepare(
                region_spectra(counts[0], 4)[None], LOSS, resolve_edges(EDGES, (440, 999))
            )
            total, error = model.totals()
            totals.append(total[0])
            errors.append(error[0])
        ratio = np.std(totals, axis=0, ddof=1) / np.mean(errors, axis=0)
        assert np.all((ratio > 0.4) & (ratio < 1.7)), prepare


@pytest.mark.slow
def test_exponents_that_differ_within_the_image_are_followed():
    counts, true = phantom(100.0, steeper=0.3)
    sums = np.stack([region_spectra(cube, 8) for cube in counts])
    edges = resolve_edges(EDGES, (440, 999))
    model = prepare_edge_fit(sums, LOSS, edges)
    assert model.terms == 2
    net = model.maps(counts[0]).net
    for one, amount in zip(net, true, strict=True):
        assert one[amount > 0].mean() == pytest.approx(amount.max(), rel=0.08)
        assert one[amount == 0].mean() == pytest.approx(0, abs=0.06 * amount.max())
    same = prepare_edge_fit(
        np.stack([region_spectra(cube, 8) for cube in phantom(100.0)[0]]), LOSS, edges
    )
    assert same.terms == 1


def test_exponents_of_single_pixels_would_bias_the_maps():
    """Why exponents come from sums: at 30 counts per pixel they lose much of the net counts."""
    counts, true = phantom(30.0, size=48, tilts=1)
    before, above = (LOSS >= 480) & (LOSS <= 527), (LOSS >= 532) & (LOSS <= 582)
    background = background_of("PowerLaw", LOSS[before])
    exponents, _ = background.exponents(LOSS[before], counts[0][..., before].astype(float))
    factors = background.shape(LOSS[above], exponents).sum(-1) / background.shape(
        LOSS[before], exponents
    ).sum(-1)
    pixelwise = counts[0][..., above].sum(-1) - factors * counts[0][..., before].sum(-1)
    windows = prepare_edge_windows(
        region_spectra(counts[0], 8)[None], LOSS, resolve_edges(["O_K"], (440, 999))
    )
    inside = true[0] > 0
    assert pixelwise[inside].mean() < 0.85 * true[0].max()
    assert windows.maps(counts[0]).net[0, inside].mean() == pytest.approx(true[0].max(), rel=0.1)


def test_windows_agree_with_exspy_where_there_are_many_counts():
    counts, _ = phantom(20000.0, size=10, tilts=1)
    spectra = as_signal(counts.astype(float), tilts=[0.0])
    mine = edge_maps(
        spectra, ["O_K"], method="windows", background_windows={"O_K": (480, 527)}
    ).data[0, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        left = spectra.inav[:, :, 0].remove_background(
            signal_range=(480.0, 528.0), background_type="PowerLaw", show_progressbar=False
        )
    theirs = left.isig[532.0:583.0].data.sum(axis=-1)
    inside = theirs > 0.5 * theirs.max()
    assert mine[inside].mean() == pytest.approx(theirs[inside].mean(), rel=0.02)
    assert np.corrcoef(mine.ravel(), theirs.ravel())[0, 1] > 0.98


@pytest.mark.parametrize(
    ("names", "tolerance"), [(("O_K", "Cr_L3"), 0.06), (("O_K", "V_L3"), 0.12)]
)
def test_overlapping_edges_are_told_apart_by_the_fit_alone(names, tolerance):
    counts, true = phantom(100.0, names=names)
    spectra = as_signal(counts)
    maps = edge_maps(spectra, names)
    for i, amount in enumerate(true):
        found = maps.data[:, i]
        assert found[:, amount > 0].mean() == pytest.approx(amount.max(), rel=tolerance)
        assert found[:, amount == 0].mean() == pytest.approx(0, abs=tolerance * amount.max())
    first = min(resolve_edges(names, (440, 999)), key=lambda edge: edge.onset).name
    (other,) = {*names} - {first}
    with pytest.raises(
        ValueError, match=f"integration window of {first}, .* holds the onset of {other} at"
    ):
        edge_maps(spectra, names, method="windows")
    with pytest.raises(ValueError, match=f"holds the onset of {other}"):
        edge_maps(spectra, [first], also=[other], method="windows")
    # An edge that is not mapped takes part all the same.
    alone = edge_maps(spectra, [first], also=[other])
    np.testing.assert_allclose(
        alone.data[:, 0], maps.data[:, names.index(first)], rtol=1e-3, atol=0.05
    )


@pytest.mark.slow
def test_order_of_the_edges_and_dose_change_nothing(scene, maps):
    spectra, _ = scene
    reversed_maps = edge_maps(spectra, EDGES[::-1])
    np.testing.assert_allclose(reversed_maps["Mn"].data, maps["Mn"].data, rtol=1e-3, atol=1e-2)
    twice = edge_maps(as_signal(2 * spectra.data))
    # With more counts the shapes follow the spectra a little more freely.
    np.testing.assert_allclose(twice.data, 2 * maps.data, atol=0.25 * maps.data.std())
    np.testing.assert_allclose(
        twice.data.mean(axis=(2, 3)), 2 * maps.data.mean(axis=(2, 3)), rtol=0.04
    )


@pytest.mark.slow
def test_lazy_and_kiloelectronvolts_give_the_same(scene, maps):
    spectra, _ = scene
    np.testing.assert_array_equal(edge_maps(spectra.as_lazy()).data, maps.data)
    kilo = as_signal(spectra.data, loss=LOSS * 1e-3, units="keV")
    np.testing.assert_allclose(edge_maps(kilo).data, maps.data, rtol=1e-3, atol=1e-2)


def test_spectrum_fit_follows_the_spectrum(scene, maps):
    spectra, _ = scene
    fit = maps.spectrum_fit
    chosen = (fit["energy"][0] - 1e-9 <= LOSS * 1e-3) & (fit["energy"][-1] + 1e-9 >= LOSS * 1e-3)
    np.testing.assert_array_equal(fit["counts"], spectra.data[..., chosen].sum(axis=(0, 1, 2)))
    misfit = np.sum((fit["counts"] - fit["fit"]) ** 2 / fit["fit"]) / chosen.sum()
    assert misfit < 1.3
    assert np.all(fit["background"] <= fit["fit"] + 1e-6)


# The series


def test_everything_downstream_works_as_for_eds(scene, maps, tmp_path):
    _, true = scene
    expected = np.repeat(true[:, None], 3, axis=1)
    haadf = mt.TiltSeriesHAADF.from_images(
        8 * expected[0] + 25 * expected[1] + 27 * expected[2], tilts=TILTS, pixel_size=2.0
    )
    series = maps.deepcopy()
    with warnings.catch_warnings():
        # The object is one that a few tilts of the same image do not belong to.
        warnings.simplefilter("ignore")
        ratios = series.fit_response_ratios(haadf, block_size=4)
        series.align(haadf.align(method="centre_of_mass"))
    assert ratios.r2 > 0.9
    alone = series.reconstruct_sirt(3, show_progressbar=False)
    both = series.reconstruct_hebt(haadf, iterations=3, show_progressbar=False)
    assert alone.elements == both.elements == ("O", "Mn", "Co")
    composition = both.quantify("CL", {"O_K": 1.0, "Mn_L3": 2.0, "Co_L3": 2.5})
    assert composition.data.max() <= 100.001
    assert composition.history[0]["step"] == "edge_maps"
    series.save(tmp_path / "edges.hspy")
    loaded = hs.load(tmp_path / "edges.hspy")
    assert isinstance(loaded, mt.TiltSeriesEELS)
    assert loaded.edges == EDGES
    np.testing.assert_array_equal(loaded.gross, series.gross)
    assert isinstance(loaded.as_lazy(), mt.LazyTiltSeriesEELS)


def test_slicing_keeps_edges_and_counts_true(maps):
    part = maps.inav[1:, 1:].isig[2:10, 4:]
    assert (part.elements, part.edges) == (("Mn", "Co"), EDGES[1:])
    np.testing.assert_array_equal(part.gross, maps.gross[1:, 1:, 4:, 2:10])
    np.testing.assert_array_equal(part.integration_windows, maps.integration_windows[1:])
    assert maps["Co"].edges == ("Co_L3",)


def test_from_maps_takes_elements_or_edges():
    ones = np.ones((3, 4, 5))
    named = mt.TiltSeriesEELS.from_maps({"Co_L3": ones, "O_K": 2 * ones}, tilts=TILTS)
    assert (named.elements, named.edges, repr(named)[:30]) == (
        ("Co", "O"),
        ("Co_L3", "O_K"),
        "<TiltSeriesEELS, title: EELS, ",
    )
    plain = mt.TiltSeriesEELS.from_maps({"Co": ones, "O": ones}, tilts=TILTS)
    assert (plain.elements, plain.edges, plain.gross) == (("Co", "O"), (), None)
    with pytest.raises(ValueError, match="name Co more than once"):
        mt.TiltSeriesEELS.from_maps({"Co_L3": ones, "Co_K": ones}, tilts=TILTS)
    with pytest.raises(ValueError, match="the maps Mn_L23 are named after no edge"):
        mt.TiltSeriesEELS.from_maps({"Mn_L23": ones, "O_K": ones}, tilts=TILTS)
    with pytest.raises(ValueError, match="must be a dict"):
        mt.TiltSeriesEELS.from_maps([ones], tilts=TILTS)


def test_dask_maps_make_a_lazy_series():
    import dask.array as da

    lazy = mt.TiltSeriesEELS.from_maps({"Co_L3": da.ones((3, 4, 5))}, tilts=TILTS)
    assert isinstance(lazy, mt.LazyTiltSeriesEELS)
    assert lazy.edges == ("Co_L3",)


# Bad input


@pytest.mark.parametrize(
    ("edges", "kwds", "message"),
    [
        (
            ["Fe_K"],
            {},
            r"begins at 7113 eV, outside the data, which reach from 440 "
            r"to 999 eV; edges of Fe there: Fe_L3 \(708 eV\)",
        ),
        (["Mn_L9"], {}, r"unknown edge 'Mn_L9'; edges of Mn .* Mn_L3 \(640 eV\)"),
        (["Xx_K"], {}, "unknown edge 'Xx_K'.*O_K"),
        (["Mn"], {}, "unknown edge 'Mn'"),
        ("O_K", {}, "must be a list of edges"),
        ([], {}, "must be a list of edges"),
        (["Mn_L3", "Mn_L2"], {}, "name Mn more than once"),
        (["O_K"], {"method": "model"}, "'fit', 'windows'"),
        (["O_K"], {"width": -3}, "width=-3"),
        (["O_K"], {"background": "Linear"}, "'PowerLaw', 'Exponential'"),
        (
            ["O_K"],
            {"integration_windows": {"O_K": (532, 1400)}},
            "integration window of O_K, 532 to 1400 eV.*from 440 to",
        ),
        (["O_K"], {"integration_windows": {"O_K": (533.2, 533.6)}}, "holds 0 channels of 1 eV"),
        (
            ["O_K"],
            {"integration_windows": {"Fe_L3": (533, 560)}},
            "has Fe_L3, but the edges are O_K",
        ),
        (["O_K"], {"integration_windows": (533, 560)}, "must be a dict"),
        (["O_K"], {"integration_windows": {"O_K": (560, 533)}}, "expected .lowest, highest. in eV"),
        (["O_K"], {"width": "wide"}, "width='wide' must be a positive width"),
        (["O_K"], {"integration_windows": {"O_K": 560}}, "expected .lowest, highest. in eV"),
        (
            ["O_K"],
            {"integration_windows": {"O_K": (450, 500)}},
            "window of O_K, .450, 500. eV, ends before its onset at 532 eV",
        ),
        (["O_K"], {"also": ["Mn_L3", "O_K"]}, "names O_K, which is mapped"),
        (["O_K"], {"also": "Mn_L3"}, "also='Mn_L3' must be a list"),
        (
            ["O_K"],
            {"energy_range": (300, 700)},
            "energy_range, 300 to 700 eV, lies outside the data",
        ),
        (["O_K"], {"energy_range": (525, 700)}, "too close to the first edge"),
        (["O_K"], {"background_windows": {"O_K": (480, 520)}}, "go with method='windows'"),
        (["O_K"], {"method": "windows", "energy_range": (460, 700)}, "goes with method='fit'"),
        (
            ["O_K"],
            {"method": "windows", "background_windows": {"O_K": (500, 540)}},
            "reaches over its onset at 532 eV; end it at 527",
        ),
        (
            ["O_K"],
            {"method": "windows", "background_windows": {"O_K": (400, 520)}},
            "background window of O_K.*outside the data",
        ),
        (
            ["Mn_L3", "O_K"],
            {"method": "windows", "background_windows": {"Mn": (500, 630)}},
            "holds the onset of O_K",
        ),
        (
            ["V_L3", "O_K"],
            {"method": "windows", "width": 15},
            "no room for a background window before O_K",
        ),
        (["Ba_M5"], {}, "K and L3 edges.*not of Ba_M5"),
    ],
)
def test_bad_choices_are_explained(scene, edges, kwds, message):
    with pytest.raises(ValueError, match=message):
        mt.edge_maps(scene[0], edges, show_progressbar=False, **kwds)


def test_windows_serve_edges_that_the_fit_does_not_know(scene):
    with pytest.warns(UserWarning, match="Ba_M5"):
        assert edge_maps(
            scene[0],
            ["Ba_M5"],
            method="windows",
            also=["Co_L3"],
            background_windows={"Ba": (745, 774)},
        ).edges


def test_an_edge_that_is_not_there_is_named(scene):
    for method in ("fit", "windows"):
        with pytest.warns(UserWarning, match="no edge stands out .* F_K"):
            edge_maps(
                scene[0],
                ["F_K", "Co_L3"],
                also=["O_K", "Mn_L3"] if method == "fit" else ["O_K"],
                method=method,
            )


@pytest.mark.parametrize("method", ["fit", "windows"])
def test_spectra_without_counts_show_no_edges(method):
    with pytest.warns(UserWarning, match="no edge stands out"):
        assert not edge_maps(
            as_signal(np.zeros((3, 8, 8, LOSS.size), np.uint8)), method=method
        ).data.any()


def test_windows_on_fine_structure_are_warned_of(scene):
    with pytest.warns(
        UserWarning, match="background window of Mn_L3 begins 8 eV above the onset of O_K"
    ):
        edge_maps(
            scene[0], ["O_K", "Mn_L3"], method="windows", background_windows={"Mn_L3": (540, 630)}
        )


def test_the_energy_axis_has_to_be_one(scene):
    counts = scene[0].data
    for units, message in (("", "has the units.*expected eV or keV"), ("nm", "units nm")):
        with pytest.raises(ValueError, match=message):
            edge_maps(as_signal(counts, units=units))
    with pytest.raises(ValueError, match="440000 to 999000 eV"):
        edge_maps(as_signal(counts, units="keV"))
    with pytest.raises(ValueError, match="x, y, tilt | Energy loss"):
        edge_maps(scene[0].inav[:, :, 0])


def test_each_kind_of_spectra_has_its_own_function(scene):
    counts = scene[0].data[:, :2, :2]
    with pytest.raises(TypeError, match="EDS_TEM spectra; use elemental_maps"):
        edge_maps(as_signal(counts, kind="EDS_TEM"))
    with pytest.raises(TypeError, match="needs an EELS signal .* got ndarray"):
        edge_maps(counts)
    with pytest.raises(TypeError, match="set_signal_type"):
        edge_maps(as_signal(counts, kind=""))
    with pytest.raises(TypeError, match="use edge_maps"):
        mt.elemental_maps(scene[0], ["O"])


@pytest.mark.slow
def test_negative_and_infinite_values(scene, maps):
    counts = scene[0].data.astype(np.float32)
    counts[1, 3, 4, 100] = np.nan
    with pytest.raises(ValueError, match="tilt number 1 contain NaN"):
        edge_maps(as_signal(counts))
    with (
        pytest.raises(ValueError, match="is negative around"),
        pytest.warns(UserWarning, match="negative values"),
    ):
        edge_maps(as_signal(scene[0].data - scene[0].data.mean()))
    noisy = scene[0].data + np.random.default_rng(0).normal(0, 0.2, scene[0].data.shape)
    with pytest.warns(UserWarning, match="negative values .* noise of a camera"):
        found = edge_maps(as_signal(noisy))
    np.testing.assert_allclose(
        found.data.mean(axis=(0, 2, 3)), maps.data.mean(axis=(0, 2, 3)), rtol=0.05
    )


# Real data


@pytest.mark.slow
@pytest.mark.skipif(not CO3O4.is_file(), reason="the EELS maps of Co3O4 and Mn3O4 are absent")
def test_cobalt_and_manganese_oxide():
    """Cores of Co3O4 in shells of Mn3O4, one view."""
    import h5py

    with h5py.File(CO3O4) as file:
        # The first rows are a strip of the other end of the image.
        views = {name: np.asarray(file[name])[8:] for name in ("HAADF", "Co", "Mn", "O")}
    eels = mt.TiltSeriesEELS.from_maps(
        {"Co_L3": views["Co"][None], "Mn_L3": views["Mn"][None], "O_K": views["O"][None]}, tilts=[0]
    )
    haadf = mt.TiltSeriesHAADF.from_images(
        views["HAADF"][None] - np.median(views["HAADF"][:, :40]), tilts=[0]
    )
    assert (eels.data.shape, haadf.data.shape) == ((1, 3, 392, 400), (1, 392, 400))

    def blocks(image):
        return image.reshape(49, 8, 50, 8).sum(axis=(1, 3)).ravel()

    cobalt, manganese, oxygen = (blocks(eels[name].data[0]) for name in eels.elements)
    image = blocks(haadf.data[0])
    # Oxygen is with both metals, and the metals are not in the same places.
    metals = np.stack([cobalt, manganese], axis=1)
    assert np.corrcoef(metals @ nnls(metals, oxygen)[0], oxygen)[0, 1] > 0.8
    assert np.corrcoef(cobalt, manganese)[0, 1] < 0.4
    maps = np.stack([cobalt, manganese, oxygen], axis=1) / 1e-9
    ratios, _ = nnls(maps, image)
    r2 = 1 - np.sum((image - maps @ ratios) ** 2) / np.sum((image - image.mean()) ** 2)
    assert r2 > 0.85
    assert ratios[0] > ratios[2] > 0
    assert ratios[1] > ratios[2]
    with warnings.catch_warnings():
        # Co and O share their places; the maps can hardly tell their ratios apart.
        warnings.simplefilter("ignore")
        fine, coarse = (eels.fit_response_ratios(haadf, block_size=size) for size in (8, 16))
    assert coarse.r2 > 0.88
    assert np.all(coarse.values > 3 * coarse.standard_errors)
    assert coarse.values[0] > coarse.values[1]
    assert np.all(
        np.abs(coarse.values - fine.values)
        < 2 * np.hypot(coarse.standard_errors, fine.standard_errors)
    )


@pytest.mark.slow
@pytest.mark.skipif(not VELOX.is_file(), reason="the Velox example files are absent")
def test_a_recording_without_beam_shows_no_edges(tmp_path):
    """The EELS of this file is the camera's offset of 100 and noise:
    maps of O, Fe and Co hold noise around zero, and say so."""
    with zipfile.ZipFile(VELOX) as archive:
        archive.extractall(tmp_path)
    (path,) = tmp_path.rglob("example_velox_EELS_EDS.emd")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spectra = [s for s in hs.load(path) if s.metadata.Signal.signal_type == "EELS"]
    (core,) = (s for s in spectra if 450 < s.axes_manager[-1].offset < 500)
    loss = core.axes_manager[-1].axis
    one = as_signal(core.data[None], loss=loss, tilts=[0.0])
    for method in ("fit", "windows"):
        with pytest.warns(UserWarning, match="no edge stands out .* O_K .*Fe_L3 .*Co_L3"):
            maps = mt.edge_maps(
                one, ["O_K", "Fe_L3", "Co_L3"], method=method, width=40, show_progressbar=False
            )
        assert np.all(
            np.abs(maps.data.mean(axis=(0, 2, 3))) < 0.005 * maps.gross.mean(axis=(0, 2, 3))
        )
    # Without the offset nothing is left to be counted.
    with (
        pytest.raises(ValueError, match="is negative around"),
        pytest.warns(UserWarning, match="negative values"),
    ):
        mt.edge_maps(
            as_signal(core.data[None] - 100.0, loss=loss, tilts=[0.0]),
            ["O_K"],
            show_progressbar=False,
        )

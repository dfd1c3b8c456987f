# SPDX-License-Identifier: GPL-3.0-or-later
"""The workbench from the tilt series to the volume:
what one panel makes is what the next one works on, and messages say so."""

import numpy as np
import pytest

import hyperspy_multitomo as mt

pytest.importorskip("link_traits", reason="the packages for panels are in the extra gui")

from hyperspy_multitomo.widgets.workbench_panel import WorkbenchPanel

TILTS = np.arange(-60.0, 61.0, 15.0)


@pytest.fixture(scope="module")
def simulated():
    return mt.simulation.misaligned(
        "particle",
        size=40,
        height=24,
        tilts=TILTS,
        shift=3.0,
        axis_offset=1.0,
        rotation=1.5,
        counts=30.0,
        seed=1,
    )


@pytest.fixture
def series(simulated):
    return made_of(simulated)


def made_of(simulated):
    known = dict(tilts=TILTS, pixel_size=0.5)
    maps = dict(zip(simulated.elements, simulated.maps.swapaxes(2, 3), strict=True))
    return mt.TiltSeriesHAADF.from_images(
        simulated.haadf.swapaxes(1, 2), **known
    ), mt.TiltSeriesEDS.from_maps(maps, **known)


@pytest.fixture(scope="module")
def by_methods(simulated):
    """Return the alignment and the ratios of the method calls."""
    haadf, eds = made_of(simulated)
    haadf.align(show_progressbar=False)
    eds.align(haadf.alignment)
    return haadf.alignment, eds.fit_response_ratios(haadf)


def bench_of(haadf, eds, **kwds):
    return WorkbenchPanel(haadf=haadf, eds=eds, threaded=False, **kwds)


def fitted(bench):
    """Return the ratios that the step makes, attached to the maps."""
    panel = bench.panel("Response ratios")
    panel.apply()
    assert panel.message.startswith("Attached to the maps of Al, Cu: Al ")
    return bench.eds.response_ratios


def aligned(bench, alignment=None):
    panel = bench.panel("Alignment")
    if alignment is None:
        panel.align()
    else:
        panel.alignment = alignment
    panel.apply()
    return panel


@pytest.mark.slow
def test_all_the_way_it_makes_what_the_methods_make(series, by_methods):
    haadf, eds = series
    bench = bench_of(haadf, eds)
    panel = bench.panel("Alignment")
    panel.align()
    assert panel.message == "Aligned. Apply attaches it to the HAADF series and the maps of Al, Cu."
    assert haadf.alignment is eds.alignment is None
    panel.apply()
    assert panel.message == "Attached to the HAADF series and the maps of Al, Cu."
    alignment, ratios = by_methods
    assert eds.alignment == haadf.alignment
    # The maps decide too: at these counts they move the images by less than 0.1 px.
    np.testing.assert_allclose(haadf.alignment.across, alignment.across, atol=0.1)
    found = fitted(bench)
    np.testing.assert_allclose(found.values, ratios.values, rtol=2e-3)
    assert found.r2 == pytest.approx(ratios.r2, abs=2e-3)
    assert found.r2 > 0.98
    reconstruction = bench.panel("Reconstruction")
    reconstruction.trait_set(iterations=2)
    reconstruction.apply()
    expected = eds.reconstruct_hebt(haadf, reconstruction.alpha, 2, show_progressbar=False)
    np.testing.assert_allclose(
        bench.volume.data, expected.data, rtol=1e-4, atol=1e-4 * expected.data.max()
    )


def test_maps_that_do_not_decide_are_aligned_as_well(series):
    haadf, eds = series
    bench = bench_of(haadf, eds)
    panel = bench.panel("Alignment")
    panel.method = "centre_of_mass"
    panel.align()
    assert panel.message.startswith(
        "Aligned by the images alone. Apply attaches it to the HAADF series and the maps"
    )
    panel.apply()
    direct = haadf.deepcopy()
    direct.align(method="centre_of_mass", show_progressbar=False)
    assert eds.alignment == haadf.alignment == direct.alignment


@pytest.mark.slow
def test_maps_that_replace_others_get_the_alignment(series, by_methods):
    haadf, eds = series
    bench = bench_of(haadf, eds)
    # Before the alignment is attached: the open panel takes the new maps.
    panel = bench.panel("Alignment")
    browse = bench.panel("Tilt series")
    browse.marked = [TILTS[0]]
    browse.apply()
    assert len(bench.eds.tilts) == len(TILTS) - 1
    panel.alignment = by_methods[0]
    panel.apply()
    np.testing.assert_allclose(bench.eds.alignment.across, by_methods[0].across[1:], atol=1e-12)
    assert eds.alignment is None
    # After it: maps made later have it at once.
    later = eds.deepcopy()
    bench.eds = later
    assert (
        bench.message
        == "The alignment of the HAADF series was attached to the maps of Al, Cu as well."
    )
    assert later.alignment == haadf.alignment
    np.testing.assert_allclose(fitted(bench).values, by_methods[1].values, rtol=1e-9)
    # Tilts dropped of them keep it.
    browse = bench.panel("Tilt series")
    browse.marked = [TILTS[1]]
    browse.apply()
    np.testing.assert_allclose(
        bench.eds.alignment.across, np.delete(haadf.alignment.across, 1), atol=1e-12
    )


def test_maps_keep_an_alignment_of_their_own(series, by_methods):
    haadf, eds = series
    bench = bench_of(haadf, eds)
    aligned(bench, by_methods[0])
    other = eds.deepcopy()
    other.align(by_methods[0].with_shift(TILTS[0], across=9.0))
    bench.eds = other
    assert other.alignment.across[0] == pytest.approx(9.0)


def test_maps_may_be_made_after_the_alignment(series, by_methods):
    haadf, eds = series
    bench = bench_of(haadf, None, spectra=object())  # of which maps will be made
    for step in ("Tilt series", "Response ratios", "Reconstruction"):
        with pytest.raises(ValueError, match="no maps yet: make them of the spectra"):
            bench.panel(step)
    assert aligned(bench, by_methods[0]).message == "Attached to the HAADF series."
    bench.eds = eds
    assert eds.alignment == haadf.alignment
    np.testing.assert_allclose(fitted(bench).values, by_methods[1].values, rtol=1e-9)


def test_images_alone(series, by_methods):
    haadf, _ = series
    bench = bench_of(haadf, None)
    assert bench.panel("Tilt series").series is haadf
    aligned(bench, by_methods[0])
    panel = bench.panel("Reconstruction")
    panel.method, panel.iterations = "sirt", 20
    panel.apply()
    assert panel.message.startswith("The whole volume"), panel.message
    expected = haadf.reconstruct_sirt(20, show_progressbar=False)
    np.testing.assert_allclose(bench.volume.data, expected.data, rtol=1e-5, atol=1e-3)
    assert bench.panel("Volume").channels
    for step in ("Response ratios", "Evidence"):
        with pytest.raises(ValueError, match="no maps yet"):
            bench.panel(step)
    first = bench.panel("Tilt series")
    bench.haadf = haadf.drop_tilts([TILTS[2]])
    assert "The HAADF series was replaced" in first.outdated


def test_it_opens_on_the_first_panel(series):
    haadf, _ = series
    widgets = bench_of(haadf, None).gui(display=False, toolkit="ipywidgets")["ipywidgets"]["wdict"]
    assert widgets["Tilt series"]["tilt"].label == "0.0"
    waiting = bench_of(haadf, None, spectra=object())
    assert (
        "Tilt series" not in waiting.gui(display=False, toolkit="ipywidgets")["ipywidgets"]["wdict"]
    )


def test_maps_that_the_alignment_does_not_fit_are_said(series, by_methods):
    haadf, eds = series
    haadf = haadf.drop_tilts([TILTS[2]])
    panel = aligned(bench_of(haadf, eds), by_methods[0].transfer(haadf.tilts))
    assert "-30" in panel.message
    assert "Attached" not in panel.message
    assert haadf.alignment is eds.alignment is panel.result is None
    bench = bench_of(haadf, None)
    aligned(bench, by_methods[0].transfer(haadf.tilts))
    bench.eds = eds
    assert "-30" in bench.message
    assert eds.alignment is None


def test_an_alignment_from_before_is_offered_for_the_maps(series, by_methods):
    haadf, eds = series
    haadf.align(by_methods[0])
    bench = bench_of(haadf, eds)
    assert "the maps of Al, Cu are not: open the step Alignment and press Apply" in bench.message
    assert eds.alignment is None
    panel = bench.panel("Alignment")
    assert panel.can_apply
    panel.apply()
    assert eds.alignment == haadf.alignment


@pytest.mark.slow
def test_what_was_opened_before_a_change_applies_nothing(series, by_methods):
    haadf, eds = series
    bench = bench_of(haadf, eds)
    ratios, reconstruction, browse = (
        bench.panel(step) for step in ("Response ratios", "Reconstruction", "Tilt series")
    )
    ratios.fit()
    aligned(bench, by_methods[0])
    for panel in (ratios, reconstruction):
        assert (
            panel.message
            == "The alignment was attached since this panel was opened: open it again."
        )
        assert not panel.can_apply
        panel.apply()
        assert panel.result is None
        assert "open it again" in panel.message
    assert browse.can_apply == bool(browse.marked)
    assert eds.response_ratios is None
    ratios = bench.panel("Response ratios")
    ratios.fit()
    bench.eds = eds.deepcopy()
    ratios.apply()
    assert ratios.message == "The maps were replaced since this panel was opened: open it again."
    assert eds.response_ratios is bench.eds.response_ratios is None


@pytest.mark.slow
def test_volume_shows_what_was_made_last():
    arrays = {"Au": np.ones((4, 6, 8)), "Ag": np.ones((4, 6, 8))}
    bench = bench_of(None, None)
    for step in ("Composition", "Volume"):
        with pytest.raises(ValueError, match="no volume yet"):
            bench.panel(step)
    for name, quantity in (
        ("volume", "counts / nm"),
        ("composition", "weight percent"),
        ("volume", "counts / nm"),
    ):
        made = mt.TomographicVolume.from_arrays(arrays, 1.0, quantity=quantity)
        setattr(bench, name, made)
        panel = bench.panel("Volume")
        assert panel.quantity == quantity
    bench.composition = mt.TomographicVolume.from_arrays(arrays, 1.0, quantity="weight percent")
    assert (
        panel.message == "Another composition was made since this panel was opened: open it again."
    )


def test_widgets_of_the_workbench(series, by_methods):
    haadf, eds = series
    made = mt.workbench(haadf, eds, display=False)["ipywidgets"]["wdict"]
    made["Alignment button"].click()
    widgets = made["Alignment"]
    assert widgets["apply_button"].disabled
    widgets["along"].value = 1.0
    assert not widgets["apply_button"].disabled
    widgets["apply_button"].click()
    assert widgets["message"].value == "Attached to the HAADF series and the maps of Al, Cu."
    assert eds.alignment == haadf.alignment

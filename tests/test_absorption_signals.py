# SPDX-License-Identifier: GPL-3.0-or-later
"""Self-absorption on the signals: estimated, attached, kept true,
and corrected in a closed loop on particles that absorb."""

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

import hyperspy_multitomo as mt
from hyperspy_multitomo.composition.xrays.detectors import XRayDetector
from hyperspy_multitomo.reconstruction import job
from hyperspy_multitomo.simulation import count, simulate
from hyperspy_multitomo.simulation.absorbed import absorbed_maps
from hyperspy_multitomo.simulation.absorbing_phantoms import (
    BEAM_KEV,
    SOLID_ANGLE,
    gold_shell,
    heavy_oxide,
)

DOSE = 1.5e7
TILTS = np.arange(-70.0, 71.0, 10.0)
QUIET = dict(show_progressbar=False)


def series_of(phantom, maps, haadf=None):
    """EDS and HAADF series of a phantom's maps,
    with all that is known of the experiment in the metadata."""
    names = [line.split("_")[0] for line in phantom.elements]
    eds = mt.TiltSeriesEDS.from_maps(
        {name: one.swapaxes(1, 2) for name, one in zip(names, maps, strict=True)},
        tilts=TILTS,
        pixel_size=phantom.pixel_size,
    )
    eds.metadata.set_item("Acquisition_instrument.TEM.beam_energy", BEAM_KEV)
    eds.metadata.set_item("Acquisition_instrument.TEM.Detector.EDS.solid_angle", SOLID_ANGLE)
    eds.metadata.set_item("Sample.xray_lines", sorted(phantom.elements))
    eds.dose, eds.detectors = DOSE, "super-x"
    if haadf is None:
        return eds
    return eds, mt.TiltSeriesHAADF.from_images(
        haadf.swapaxes(1, 2), tilts=TILTS, pixel_size=phantom.pixel_size
    )


def weight_percent(phantom):
    """True weight percent (element, z, y, x) and the inside of the particle (z, y, x)."""
    truth = phantom.truth.transpose(0, 1, 3, 2)
    total = truth.sum(axis=0)
    return 100 * truth / np.maximum(total, 1e-6), total > 0.5


@pytest.fixture(scope="module")
def gold():
    phantom = gold_shell(size=32)
    expected = absorbed_maps(phantom, "super-x", TILTS, oversampling=2)
    free = simulate(phantom, tilts=TILTS, oversampling=2, haadf_noise="none", seed=0)
    return phantom, count(expected, seed=1), free.haadf, (expected, free.expected_maps)


def error(volume, phantom):
    """Mean error of the first element's weight percent where it is, away from its rim:
    Otsu would leave the light core out."""
    truth, inside = weight_percent(phantom)
    found = volume.quantify("model", efficiency=1.0, mask=inside)[volume.elements[0]].data
    deep = binary_erosion(truth[0] > 0.9 * truth[0].max(), iterations=2)
    return float(np.mean(found[deep] - truth[0][deep]))


def bias_of_absorption(phantom, maps, free):
    """Errors before and after two rounds, less those of the same reconstruction of counts that were
    not absorbed."""
    eds, options = series_of(phantom, maps), dict(iterations=20, depth=None, **QUIET)
    clear = error(series_of(phantom, free).reconstruct_sirt(**options), phantom)
    before = error(eds.reconstruct_sirt(**options), phantom) - clear
    how = dict(efficiency=1.0, mask=weight_percent(phantom)[1])
    volume = eds.reconstruct_with_absorption(method="sirt", rounds=2, absorption=how, **options)
    return before, error(volume, phantom) - clear, volume


@pytest.mark.slow
def test_composition_of_a_shell_that_absorbs(gold):
    """Al of a core in 35 to 65 nm of gold, without noise:
    absolute densities from dose and solid angle."""
    phantom, _, _, expected = gold
    before, after, volume = bias_of_absorption(phantom, *expected)
    assert before < -1
    assert abs(after) < 0.15 * abs(before)
    steps = [step for step in volume.history if step["step"] == "estimate_absorption"]
    assert len(steps) == 2
    # About that of the particle: 2.9 g/cm^3 in the core, 15 in the shell.
    truth = phantom.truth.sum(axis=0)
    assert steps[-1]["density"] == pytest.approx(truth[truth > 0].mean(), rel=0.15)


@pytest.mark.slow
def test_hebt_refits_its_ratios(gold):
    phantom, maps, haadf, _ = gold
    eds, images = series_of(phantom, maps, haadf)
    eds.fit_response_ratios(images)
    absorbed = eds.response_ratios.values
    how = dict(efficiency=1.0, mask=weight_percent(phantom)[1])
    volume = eds.reconstruct_with_absorption(
        images, rounds=2, absorption=how, iterations=30, depth=None, **QUIET
    )
    assert list(volume.response_ratios.values()) == pytest.approx(eds.response_ratios.values)
    # Fewer counts had been seen of Al than were emitted, so that each stood for more HAADF.
    true = phantom.ratios
    assert abs(eds.response_ratios.values[0] / true[0] - 1) < 0.5 * abs(absorbed[0] / true[0] - 1)


@pytest.mark.slow
def test_oxygen_in_a_heavy_oxide():
    phantom = heavy_oxide(size=32)
    maps = count(absorbed_maps(phantom, "super-x", TILTS, oversampling=2), seed=2)
    free = simulate(phantom, tilts=TILTS, seed=3).maps
    before, after, _ = bias_of_absorption(phantom, maps, free)
    assert before < -2
    assert abs(after) < 0.15 * abs(before)


@pytest.mark.slow
def test_counts_stay_and_all_methods_take_the_factor(gold):
    """With the transmission that made the counts,
    each method gives what it gives of the unabsorbed counts."""
    phantom, _, haadf, (absorbed, free) = gold
    clear, images = series_of(phantom, free, haadf)
    eds = series_of(phantom, absorbed)
    recorded = eds.data.copy()
    eds.transmission = np.clip(
        np.where(free > 1e-3, absorbed / np.maximum(free, 1e-3), 1), 1e-3, 1
    ).transpose(1, 0, 3, 2)
    ratios = dict(zip(eds.elements, phantom.ratios.tolist(), strict=True))
    for name, options in (
        ("sirt", dict(iterations=15)),
        ("em", dict(iterations=15)),
        ("cgls", dict(iterations=6)),
        ("fbp", {}),
        ("hebt", dict(iterations=15, ratios=ratios)),
        ("tv", dict(iterations=30)),
    ):
        given = [images] if name == "hebt" else []
        wanted = getattr(clear, f"reconstruct_{name}")(*given, **options, **QUIET).data
        found = getattr(eds, f"reconstruct_{name}")(*given, **options, **QUIET).data
        assert np.linalg.norm(found - wanted) < 0.06 * np.linalg.norm(wanted), name
    np.testing.assert_array_equal(eds.data, recorded)
    np.testing.assert_allclose(
        eds.fit_response_ratios(images).values, clear.fit_response_ratios(images).values, rtol=0.02
    )
    # Absorption is no gain of the detector.
    np.testing.assert_allclose(
        eds.estimate_gains(images).values, clear.estimate_gains(images).values, rtol=0.01
    )


def test_transmission_follows_the_signal(gold):
    phantom, maps, *_ = gold
    eds = series_of(phantom, maps)
    shape = eds.array("tilt", "element", "y", "x").shape
    values = np.random.default_rng(0).uniform(0.5, 1, shape).astype(np.float32)
    eds.transmission = values
    np.testing.assert_allclose(
        eds.bin(2).transmission,
        values.reshape(*shape[:2], 16, 2, 16, 2).mean(axis=(3, 5)),
        rtol=1e-5,
    )
    np.testing.assert_allclose(eds.isig[4:20, 8:].transmission, values[:, :, 8:, 4:20], rtol=1e-6)
    np.testing.assert_allclose(eds.inav[:, 3:6].transmission, values[3:6], rtol=1e-6)
    part = eds.isig[8:24, 4:].bin(2)
    few = values[:, :, :14, :8]
    part.transmission = few
    np.testing.assert_allclose(part.transmission, few, rtol=1e-6)
    np.testing.assert_allclose(part.isig[2:6, 1:].transmission, few[:, :, 1:, 2:6], rtol=1e-6)
    with pytest.raises(ValueError, match="above 0 and up to 1"):
        eds.transmission = 1.1 * np.ones(shape)
    with pytest.raises(ValueError, match=r"expected \(15, 2, 32, 32\)"):
        eds.transmission = values[:2]
    eds.transmission = None
    assert eds.transmission is None


def test_maps_of_larger_pixels_than_the_volume(gold):
    """HEBT with a finer HAADF: the transmission of a pixel is about the mean of those of its
    parts."""
    phantom, maps, haadf, _ = gold
    fine, images = series_of(phantom, maps, haadf)
    inside = weight_percent(phantom)[1]
    how = dict(density=8.0, mask=inside, efficiency=1.0, **QUIET)
    coarse = series_of(phantom, maps).bin(2)
    for eds, binning in ((fine, 1), (coarse, 2)):
        ratios = dict(zip(eds.elements, (phantom.ratios / binning**2).tolist(), strict=True))
        eds.estimate_absorption(
            eds.reconstruct_hebt(images, iterations=20, ratios=ratios, depth=None, **QUIET), **how
        )
    expected = fine.transmission.reshape(15, 2, 16, 2, 16, 2).mean(axis=(3, 5))
    found = coarse.transmission
    assert np.abs(found - expected)[:, :, 4:12, 4:12].mean() < 0.01
    assert 0.7 < found[:, 0, 4:12, 4:12].mean() < 0.9


def test_gains_from_before_are_to_be_estimated_again(gold):
    phantom, maps, haadf, _ = gold
    eds, images = series_of(phantom, maps, haadf)
    eds.estimate_gains(images)
    volume = eds.reconstruct_sirt(5, depth=None, **QUIET)
    how = dict(density=8.0, mask=weight_percent(phantom)[1], efficiency=1.0, **QUIET)
    with pytest.warns(UserWarning, match="call estimate_gains again"):
        eds.estimate_absorption(volume, **how)
    eds.estimate_gains(images)
    np.testing.assert_allclose(eds.gains, 1, atol=0.02)


def test_shifted_images_have_a_shifted_transmission(gold):
    phantom, maps, *_ = gold
    straight = series_of(phantom, maps)
    volume = straight.reconstruct_sirt(20, **QUIET)
    how = dict(density=8.0, threshold="otsu", efficiency=1.0, **QUIET)
    straight.estimate_absorption(volume, **how)
    moved = series_of(phantom, np.roll(maps, (2, -3), axis=(2, 3)))
    moved.alignment = mt.Alignment(np.full(len(TILTS), -2.0), np.full(len(TILTS), 3.0), tilts=TILTS)
    moved.estimate_absorption(moved.reconstruct_sirt(20, **QUIET), **how)
    expected = np.roll(straight.transmission, (-3, 2), axis=(2, 3))
    inside = np.roll(maps, (2, -3), axis=(2, 3)).transpose(1, 0, 3, 2) > 20
    assert np.abs(moved.transmission - expected)[inside].max() < 0.03


def test_detectors_of_the_metadata_and_by_hand():
    eds = mt.TiltSeriesEDS.from_maps({"Au": np.ones((3, 4, 4))}, tilts=[-10, 0, 10])
    assert eds.detectors is None
    node = "Acquisition_instrument.TEM.Detector.EDS"
    eds.metadata.set_item(f"{node}.azimuth_angle", 45.0)
    eds.metadata.set_item(f"{node}.elevation_angle", 20.0)
    assert eds.detectors == (XRayDetector(45, 20),)
    eds.metadata.set_item(f"{node}.detector_type", "SuperX")
    assert [(one.azimuth, one.elevation) for one in eds.detectors] == [
        (45, 20),
        (135, 20),
        (225, 20),
        (315, 20),
    ]
    eds.detectors = [(0, 18, 0.2), (180, 18, 0.1)]
    assert eds.detectors[1].solid_angle == 0.1
    assert eds.inav[:, :2].detectors == eds.detectors


def test_gains_from_the_geometry():
    eds = mt.TiltSeriesEDS.from_maps({"Au": np.ones((5, 4, 4))}, tilts=[-60, -18, 0, 18, 60])
    with pytest.raises(ValueError, match="detectors are not known"):
        eds.estimate_gains(model="geometry")
    eds.detectors = [(0, 18, 0.2), (180, 18, 0.2)]
    gains = eds.estimate_gains(model="geometry").values
    np.testing.assert_allclose(gains / gains[2], [0.5, 0.75, 1, 0.75, 0.5], rtol=1e-6)
    with pytest.raises(ValueError, match="belongs to model='geometry'"):
        eds.estimate_gains(model="constant", horizon=10)
    eds.detectors = (0, 18, 0.1)
    with pytest.raises(ValueError, match="hidden at the tilts -60"):
        eds.estimate_gains(model="geometry")


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda eds: setattr(eds, "detectors", None), {}, "detectors are not known"),
        (lambda eds: setattr(eds, "dose", None), {}, "the dose is not known"),
        (lambda eds: None, {"density": -2}, "must be a positive number in g/cm"),
        (lambda eds: None, {"density": "bulk"}, "'nominal'"),
        (lambda eds: None, {"xray_lines": ["Al_Ka"]}, "no X-ray line is known for Au"),
        (lambda eds: None, {"threshold": 1e9}, "no voxel inside"),
    ],
)
def test_bad_input_is_named_and_leaves_the_series(gold, change, options, message):
    phantom, maps, *_ = gold
    eds = series_of(phantom, maps)
    volume = eds.reconstruct_sirt(3, **QUIET)
    change(eds)
    volume.metadata.set_item("Tomography.dose", eds.dose)
    with pytest.raises(ValueError, match=message):
        eds.estimate_absorption(
            volume, **({"efficiency": 1.0, "threshold": "otsu"} | options), **QUIET
        )
    assert eds.transmission is None


def test_a_volume_of_another_series_is_refused(gold):
    phantom, maps, *_ = gold
    eds = series_of(phantom, maps)
    volume = eds.reconstruct_sirt(3, **QUIET)
    with pytest.raises(ValueError, match="pass a reconstruction of this series"):
        eds.isig[:, :16].estimate_absorption(
            volume, density=8.0, efficiency=1.0, threshold="otsu", **QUIET
        )
    with pytest.raises(ValueError, match="whole number"):
        eds.reconstruct_with_absorption(method="sirt", rounds=0)
    with pytest.raises(ValueError, match="hebt needs the HAADF"):
        eds.reconstruct_with_absorption()
    with pytest.raises(ValueError, match="method='art' must be one of"):
        eds.reconstruct_with_absorption(method="art")


@pytest.mark.slow
def test_each_method_gets_the_haadf_that_it_takes(gold):
    """A HAADF series for SIRT is refused instead of being taken for the number of iterations."""
    phantom, maps, haadf, _ = gold
    eds, images = series_of(phantom, maps, haadf)
    with pytest.raises(ValueError, match="method='sirt' does not use the HAADF"):
        eds.reconstruct_with_absorption(images, "sirt", iterations=5)
    how = dict(density=8.0, mask=weight_percent(phantom)[1], efficiency=1.0)
    volume = eds.reconstruct_with_absorption(
        images, "tv", rounds=1, absorption=how, iterations=10, dimensions=2, depth=None, **QUIET
    )
    assert volume.channels == ("Al", "Au", "HAADF")
    own = eds.reconstruct_with_absorption(
        method=lambda series: series.reconstruct_sirt(5, depth=None, **QUIET),
        rounds=1,
        absorption=how | QUIET,
    )
    np.testing.assert_array_equal(own.data, eds.reconstruct_sirt(5, depth=None, **QUIET).data)


def test_ratios_are_refitted_as_they_were_fitted(gold):
    phantom, maps, haadf, _ = gold
    eds, images = series_of(phantom, maps, haadf)
    prior = {"Al": 1.0, "Au": 8.0}
    eds.fit_response_ratios(images, method="poisson", prior=prior, prior_strength=0.5)
    how = dict(density=8.0, mask=weight_percent(phantom)[1], efficiency=1.0)
    eds.reconstruct_with_absorption(
        images, rounds=1, absorption=how, iterations=5, depth=None, **QUIET
    )
    last = [step for step in eds.history if step["step"] == "fit_response_ratios"][-1]
    assert (last["method"], last["prior"], last["prior_strength"]) == ("poisson", prior, 0.5)


@pytest.mark.slow
def test_rounds_are_kept_and_resumed(gold, tmp_path, monkeypatch):
    """With a checkpoint each slab of a lazy series runs once a round,
    however often its volume is read."""
    phantom, maps, *_ = gold
    eager = series_of(phantom, maps)
    how = dict(density=8.0, efficiency=1.0, threshold="otsu", binning=1)
    given = dict(method="sirt", rounds=2, absorption=how, iterations=5, **QUIET)
    expected = eager.reconstruct_with_absorption(**given).data
    runs = []
    run = job.run
    monkeypatch.setattr(
        job, "run", lambda *args, **options: runs.append(1) or run(*args, **options)
    )
    lazy = series_of(phantom, maps).as_lazy()
    volume = lazy.reconstruct_with_absorption(chunks=16, checkpoint=tmp_path / "lazy", **given)
    np.testing.assert_allclose(
        volume.data.compute(), expected, rtol=1e-4, atol=1e-4 * expected.max()
    )
    assert len(runs) == 3 * 2
    assert sorted(path.name for path in (tmp_path / "lazy").iterdir()) == [
        "round_0",
        "round_1",
        "round_2",
    ]

    # As after an interrupt in the last round, with what it had attached.
    for path in (tmp_path / "lazy" / "round_2").iterdir():
        path.unlink()
    again = lazy.reconstruct_with_absorption(
        resume=tmp_path / "lazy", **given
    )  # in slabs as before
    np.testing.assert_array_equal(again.data.compute(), volume.data.compute())
    assert len(runs) == 4 * 2

    kept = eager.reconstruct_with_absorption(checkpoint=tmp_path / "eager", **given).data
    np.testing.assert_array_equal(
        eager.reconstruct_with_absorption(resume=tmp_path / "eager", **given).data, kept
    )
    before = eager.transmission
    with pytest.raises(FileExistsError, match="pass resume="):
        eager.reconstruct_with_absorption(checkpoint=tmp_path / "eager", **given)
    with pytest.raises(ValueError, match="method='fbp' .* keeps no state: leave out"):
        eager.reconstruct_with_absorption(method="fbp", absorption=how, checkpoint=tmp_path / "fbp")
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        eager.reconstruct_with_absorption(resume=tmp_path / "none", **given)
    with pytest.raises(ValueError, match="another run"):
        eager.reconstruct_with_absorption(
            resume=tmp_path / "eager", **(given | {"absorption": how | {"density": 9.0}})
        )
    np.testing.assert_array_equal(eager.transmission, before)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Self-absorption: closed forms, eXSpy's correction of a slab, symmetry, signs,
and the way back from simulated absorption."""

import warnings
from itertools import permutations, product

import numpy as np
import pytest

from hyperspy_multitomo.acquisition.eds.xray_lines import line_energy
from hyperspy_multitomo.composition.xrays.detectors import XRayDetector, super_x
from hyperspy_multitomo.composition.xrays.self_absorption import (
    attenuation_coefficients,
    linear_attenuation,
    ray_transmission,
    voxel_transmission,
)
from hyperspy_multitomo.simulation import simulate, zhong
from hyperspy_multitomo.simulation.absorbed import absorbed_maps
from hyperspy_multitomo.simulation.absorbing_phantoms import gold_shell, heavy_oxide
from hyperspy_multitomo.tomography import TiltGeometry, projector, run, sirt


def coordinates(n):
    points = (np.arange(n) - (n - 1) / 2) / (n / 2)
    return np.meshgrid(points, points, points, indexing="ij")


def exspy(function, *arguments, **named):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from exspy import material

        return getattr(material, function)(*arguments, **named)


def test_coefficients_are_those_of_exspy():
    found = attenuation_coefficients(["Al", "Au_Ma", "O"], [0.5249, 1.4865, 9.713])
    expected = [
        exspy("mass_absorption_coefficient", element, np.array([0.5249, 1.4865, 9.713]))
        for element in ("Al", "Au", "O")
    ]
    np.testing.assert_allclose(found, np.transpose(expected))


def test_every_element_has_coefficients_over_the_whole_range():
    from hyperspy_multitomo.composition.cross_sections.tables import SYMBOLS

    found = attenuation_coefficients(SYMBOLS[2:92], [0.12, 1.0, 400.0])
    assert np.isfinite(found).all()
    assert (found > 0).all()
    assert (found[0] > found[-1]).all()


@pytest.mark.parametrize(
    ("elements", "energies", "message"),
    [
        (["H"], [1.0], "from Li to U"),
        (["Xx"], [1.0], "from Li to U"),
        (["Al"], [1486.0], "0.12 to 400 keV"),
        (["Al"], [0.1], "0.12 to 400 keV"),
        (["Al"], [], "expected a list of finite numbers"),
        ("Al", [1.0], "expected a list of element symbols"),
    ],
)
def test_no_such_coefficients(elements, energies, message):
    with pytest.raises(ValueError, match=message):
        attenuation_coefficients(elements, energies)


def test_linear_attenuation_is_per_nm():
    densities = np.zeros((2, 2, 2, 2))
    densities[0, 0], densities[1, 1] = 2.7, 19.3
    attenuation = linear_attenuation(densities, [[400.0, 2000.0]])
    # 400 cm^2/g x 2.7 g/cm^3 = 1080 /cm = 1.08e-4 /nm.
    np.testing.assert_allclose(attenuation[0, :, 0, 0], [1.08e-4, 3.86e-3], rtol=1e-6)
    for wrong in (-densities, densities[:1], np.full((2, 2, 2, 2), np.nan)):
        with pytest.raises(ValueError, match="densities"):
            linear_attenuation(wrong, [[400.0, 2000.0]])


def exspy_correction(fractions, elements, lines, mass_thickness, take_off_angle):
    """Return eXSpy's absorption correction (line,) for a mass thickness in kg/m^2."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import hyperspy.api as hs
        from exspy._misc.eds.utils import get_abs_corr_zeta

        percents = []
        for element, line, fraction in zip(elements, lines, fractions, strict=True):
            percents.append(hs.signals.Signal2D(np.full((2, 2), 100 * fraction)))
            percents[-1].metadata.set_item("Sample.elements", [element])
            percents[-1].metadata.set_item("Sample.xray_lines", [line])
        thickness = hs.signals.Signal2D(np.full((2, 2), mass_thickness))
        return get_abs_corr_zeta(percents, thickness, take_off_angle)[:, 0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("tilt", [-8, 0, 20, 45, 60])
def test_slab_is_corrected_as_by_exspy(tilt):
    """A tilted slab's depth counts along its own normal, and the angle from its surface:
    then eXSpy's A is 1/T at every tilt."""
    elements, lines, fractions, density, voxel = (
        ("Al", "Au"),
        ("Al_Ka", "Au_Ma"),
        np.array([0.3, 0.7]),
        8.0,
        20.0,
    )
    detector = XRayDetector(0, 18)
    volumes = np.zeros((2, 16, 320, 2), np.float32)
    volumes[:, 2:14] = 1
    densities = volumes * (fractions * density)[:, None, None, None]
    energies = [line_energy(line) for line in lines]
    attenuation = linear_attenuation(densities, attenuation_coefficients(elements, energies))
    geometry = TiltGeometry([tilt], 320, (16, 320), voxel)
    rays = ray_transmission(volumes, attenuation, geometry, detector)
    # 8 g/cm^3 = 8000 kg/m^3.
    expected = exspy_correction(
        fractions, elements, lines, 8000 * 12 * voxel * 1e-9, float(detector.take_off_angle(tilt))
    )
    assert expected.min() > 1.05
    np.testing.assert_allclose(1 / rays[:, 0, 160, 0], expected, rtol=2e-3)


def test_layer_in_the_sweeps_planes_is_exact():
    attenuation = np.full((1, 6, 24, 24), 0.03, np.float32)
    direction = XRayDetector(30, 60).direction(0)
    found = voxel_transmission(attenuation, 4.0, direction)[0, :, 10:14, 10:14]
    step = 0.03 * 4.0 / direction[2]
    above = np.arange(6)[::-1]
    np.testing.assert_allclose(
        found,
        np.exp(-above * step)[:, None, None] * (1 - np.exp(-step)) / step * np.ones((6, 4, 4)),
        rtol=2e-5,
    )


@pytest.mark.parametrize(
    "direction", [(0.3, -0.5, 0.8), (-0.7, 0.1, 0.2), (0.2, 0.9, -0.3), (0, 0, -1), (1, 1, 0)]
)
def test_tracing_through_a_block_is_exact(direction):
    size, unit = np.array([7, 9, 8]), np.array(direction) / np.linalg.norm(direction)
    attenuation = np.full((1, *size), 0.02, np.float32)
    found = voxel_transmission(attenuation, 3.0, direction, method="trace")[0]
    x, y, z = unit
    faces = []
    for axis, component in enumerate((z, x, y)):
        centres = np.arange(size[axis]) + 0.5
        way = size[axis] - centres if component > 0 else centres
        faces.append(way / max(abs(component), 1e-12))
    length = np.minimum.reduce(np.meshgrid(*faces, indexing="ij"))
    half = 0.02 * 3.0 / np.abs(unit).max() / 2
    np.testing.assert_allclose(
        found, np.exp(-0.02 * 3.0 * length) * np.sinh(half) / half, rtol=1e-5
    )


def sweep_errors(size, azimuth, elevation, tilt):
    """Return the rms and the mean of sweep minus tracing in a lopsided ball,
    and the largest optical depth of a voxel."""
    z, x, y = coordinates(size)
    ball = (x - 0.1) ** 2 + y * y + (z + 0.05) ** 2 < 0.8**2
    attenuation = np.where(ball, np.where(x > 0.2, 1.2, 0.6), 0)[None].astype(np.float32)
    direction = XRayDetector(azimuth, elevation).direction(tilt)
    traced = voxel_transmission(attenuation, 2 / size, direction, method="trace", where=ball)[0]
    assert (traced[~ball] == 1).all()
    error = voxel_transmission(attenuation, 2 / size, direction)[0][ball] - traced[ball]
    return np.sqrt(np.mean(error**2)), error.mean(), 1.2 * 2 / size


@pytest.mark.parametrize(
    ("azimuth", "elevation", "tilt"), [(0, 18, 0), (45, 18, 30), (225, 18, 70), (100, -10, -20)]
)
def test_sweep_agrees_with_tracing_within_a_part_of_a_voxel(azimuth, elevation, tilt):
    coarse, fine = (
        sweep_errors(24, azimuth, elevation, tilt),
        sweep_errors(48, azimuth, elevation, tilt),
    )
    for rms, mean, depth in (coarse, fine):
        assert rms < 0.2 * depth
        assert abs(mean) < 0.03 * depth
    assert fine[0] < 0.65 * coarse[0]


def test_both_methods_obey_all_symmetries_of_the_cube():
    """Whatever permutes and mirrors the axes of the volume and the direction alike does so to the
    transmission."""
    attenuation = np.random.default_rng(1).random((1, 9, 9, 9), np.float32) * 0.1
    direction = np.array([0.35, 0.8, 0.5])  # z, x, y
    for method in ("sweep", "trace"):
        expected = voxel_transmission(attenuation, 1.0, direction[[1, 2, 0]], method=method)[0]
        for order, signs in product(permutations(range(3)), product((1, -1), repeat=3)):

            def moved(volume, order=order, signs=signs):
                return np.transpose(volume, order)[tuple(slice(None, None, sign) for sign in signs)]

            turned = direction[list(order)] * signs
            found = voxel_transmission(
                moved(attenuation[0])[None], 1.0, turned[[1, 2, 0]], method=method
            )[0]
            np.testing.assert_allclose(found, moved(expected), rtol=2e-5)


def test_threads_and_leading_lines_change_nothing():
    attenuation = np.random.default_rng(2).random((3, 12, 30, 10), np.float32) * 0.1
    for direction in ((0.2, 0.3, 0.9), (-0.9, 0.3, 0.1), (0.1, -0.9, 0.1)):
        for method in ("sweep", "trace"):
            together = voxel_transmission(attenuation, 1.0, direction, method=method, threads=3)
            apart = [
                voxel_transmission(a[None], 1.0, direction, method=method, threads=1)[0]
                for a in attenuation
            ]
            np.testing.assert_array_equal(together, apart)


def side_absorber():
    """Return emission and attenuation (1, z, x, y):
    an emitter in the middle, an absorber at +x of it and above it."""
    emission, absorber = np.zeros((2, 1, 21, 21, 21), np.float32)
    emission[0, 10, 10, 10] = 1
    return emission, absorber


def test_absorber_at_plus_x_dims_a_detector_at_azimuth_0_alone():
    emission, absorber = side_absorber()
    absorber[0, 6:15, 14:16, 6:15] = 0.1
    geometry = TiltGeometry([0], 21, pixel_size=1.0)
    seen = {
        azimuth: ray_transmission(emission, absorber, geometry, (azimuth, 0))[0, 0, 10, 10]
        for azimuth in (0, 90, 180, 270)
    }
    assert seen[0] == pytest.approx(np.exp(-0.2), rel=1e-4)
    assert [seen[azimuth] for azimuth in (90, 180, 270)] == pytest.approx([1, 1, 1])
    # The mean over detectors goes by their solid angles.
    both = ray_transmission(emission, absorber, geometry, [(0, 0, 0.3), (180, 0, 0.1)])[
        0, 0, 10, 10
    ]
    assert both == pytest.approx(0.75 * np.exp(-0.2) + 0.25, rel=1e-4)


def test_positive_tilt_turns_what_lies_above_towards_plus_x():
    emission, absorber = side_absorber()
    absorber[0, 14:16, 6:15, 6:15] = 0.1
    rays = ray_transmission(emission, absorber, TiltGeometry([90, -90], 21), (0, 0))[0]
    assert rays[0, 10, 10] == pytest.approx(np.exp(-0.2), rel=1e-4)
    assert rays[1, 10, 10] == pytest.approx(1)


def test_rays_are_the_emission_weighted_mean():
    rng = np.random.default_rng(3)
    volumes, attenuation = rng.random((2, 2, 12, 14, 6), np.float32)
    attenuation *= 0.05
    geometry = TiltGeometry([-40, 15], 16, (12, 14), 2.0, axis_offset=0.7, shifts=[0.3, -1.2])
    detectors, done = super_x(), []
    rays = ray_transmission(
        volumes, attenuation, geometry, detectors, progress=lambda *counted: done.append(counted)
    )
    assert done == [(1, 2), (2, 2)]
    assert rays.dtype == np.float32
    A = projector(geometry)
    for t, tilt in enumerate(geometry.tilts):
        mean = np.mean(
            [voxel_transmission(attenuation, 2.0, d.direction(tilt)) for d in detectors], axis=0
        )
        np.testing.assert_allclose(
            (rays * A(volumes))[:, t], A(volumes * mean)[:, t], rtol=1e-4, atol=1e-4
        )


def test_rays_without_emission_have_the_mean_of_their_tilt():
    z, x, y = coordinates(16)
    volumes = np.stack(
        [(x * x + z * z + y * y < 0.5).astype(np.float32), np.zeros((16, 16, 16), np.float32)]
    )
    attenuation = np.repeat(0.05 * volumes[:1], 2, axis=0)
    geometry = TiltGeometry([0, 30], 16)
    rays = ray_transmission(volumes, attenuation, geometry, "super-x")
    whole = projector(geometry)(volumes)[0]
    for t in range(2):
        empty = whole[t] == 0
        assert empty.any()
        mean = (rays[0, t] * whole[t]).sum() / whole[t].sum()
        np.testing.assert_allclose(rays[0, t][empty], mean, rtol=1e-5)
    assert (rays[1] == 1).all()
    np.testing.assert_allclose(
        ray_transmission(volumes, 0 * attenuation, geometry, "super-x"), 1, atol=1e-5
    )


def test_binned_rays_are_the_mean_of_the_fine_ones():
    volumes = np.ones((1, 16, 16, 8), np.float32)
    attenuation = np.full_like(volumes, 0.02)
    fine = ray_transmission(volumes, attenuation, TiltGeometry([20], 16), (0, 30))
    binned = ray_transmission(
        volumes, attenuation, TiltGeometry([20], 8, (16, 16), binning=2), (0, 30)
    )
    assert binned.shape == (1, 1, 8, 4)
    np.testing.assert_allclose(binned[0, 0, 3, 1], fine[0, 0, 6:8, 2:4].mean(), rtol=1e-3)


GOOD = np.full((1, 4, 4, 4), 0.01, np.float32)


@pytest.mark.parametrize(
    ("attenuation", "voxel", "direction", "named", "message"),
    [
        (-GOOD, 1.0, (0, 0, 1), {}, "negative, infinite or NaN"),
        (GOOD * np.nan, 1.0, (0, 0, 1), {}, "negative, infinite or NaN"),
        (GOOD[0], 1.0, (0, 0, 1), {}, "expected \\(line, z, x, y\\)"),
        (GOOD, 0.0, (0, 0, 1), {}, "voxel size"),
        (GOOD * 1e7, 1.0, (0, 0, 1), {}, "Densities are in g/cm"),
        (GOOD, 1.0, (0, 0, 0), {}, "towards the detector"),
        (GOOD, 1.0, (0, 1), {}, "towards the detector"),
        (GOOD, 1.0, (0, 0, 1), {"method": "guess"}, "unknown method"),
        (GOOD, 1.0, (0, 0, 1), {"where": np.ones((4, 4, 4), bool)}, "goes with method='trace'"),
        (
            GOOD,
            1.0,
            (0, 0, 1),
            {"method": "trace", "where": np.ones((4, 4), bool)},
            "expected bool of shape",
        ),
    ],
)
def test_transmission_says_what_is_wrong(attenuation, voxel, direction, named, message):
    with pytest.raises(ValueError, match=message):
        voxel_transmission(attenuation, voxel, direction, **named)


def test_rays_say_what_is_wrong():
    geometry = TiltGeometry([0], 4)
    for volumes, message in (
        (GOOD[:, :3], "expected \\(channel, z, x, y\\)"),
        (GOOD * np.inf, "finite emission"),
    ):
        with pytest.raises(ValueError, match=message):
            ray_transmission(volumes, GOOD, geometry, "super-x")
    with pytest.raises(ValueError, match="multiple of the binning"):
        ray_transmission(
            GOOD[..., :3], GOOD[..., :3], TiltGeometry([0], 2, (4, 4), binning=2), "super-x"
        )
    with pytest.raises(TypeError, match="expected a TiltGeometry"):
        ray_transmission(GOOD, GOOD, [0], "super-x")


def coefficients_of(phantom):
    return attenuation_coefficients(
        phantom.elements, [line_energy(line) for line in phantom.elements]
    )


@pytest.mark.parametrize("make", [gold_shell, heavy_oxide])
def test_correction_agrees_with_the_finer_simulation(make):
    phantom, tilts = make(size=32), [-60, 10, 35]
    absorbed = absorbed_maps(phantom, "super-x", tilts)
    emitted = simulate(phantom, tilts, oversampling=2, seed=0).expected_maps
    attenuation = linear_attenuation(phantom.truth, coefficients_of(phantom))
    geometry = TiltGeometry(tilts, phantom.size, pixel_size=phantom.pixel_size)
    rays = ray_transmission(phantom.counts_per_nm, attenuation, geometry, "super-x")
    bright = emitted > 0.1 * emitted.max(axis=(1, 2, 3), keepdims=True)
    for channel in range(2):
        where = bright[channel]
        exact = absorbed[channel][where] / emitted[channel][where]
        assert np.sqrt(np.mean((rays[channel][where] - exact) ** 2)) < 0.005
    assert 0.75 < (absorbed[0].sum() / emitted[0].sum()) < 0.9  # the line that is absorbed
    assert 0.98 < (absorbed[1].sum() / emitted[1].sum()) < 0.995


def test_without_absorption_the_maps_are_those_of_the_microscope():
    phantom = heavy_oxide(size=16)
    hard = absorbed_maps(phantom, "super-x", [0, 40], lines=[300.0, 300.0])
    plain = simulate(phantom, [0, 40], oversampling=2, seed=0).expected_maps
    np.testing.assert_allclose(hard, plain, rtol=2e-4, atol=1e-3)


def test_absorbing_phantoms_keep_their_size():
    """Spheres of 300 and 200 nm, of 0.95 and 0.10 weight fractions of gold whose volumes add up,
    also on flatter fields."""
    shell, core = (
        4 / 3 * np.pi * radius**3 / (gold / 19.3 + (1 - gold) / 2.70)
        for radius, gold in ((150, 0.95), (100, 0.10))
    )
    inner = 4 / 3 * np.pi * 100**3 / (0.95 / 19.3 + 0.05 / 2.70)
    for size, slices in ((40, None), (32, 28)):
        phantom = gold_shell(size, slices)
        mass = phantom.truth.sum(dtype=float) * phantom.pixel_size**3
        assert mass == pytest.approx(shell - inner + core, rel=0.005)
    assert 40 < simulate(gold_shell(32), [0], seed=0).expected_maps.max() < 150
    with pytest.raises(ValueError, match="8 and 1"):
        gold_shell(size=4)


@pytest.mark.parametrize(
    ("phantom", "named", "message"),
    [
        (zhong(16), {}, "g/cm"),
        (gold_shell(8), {"lines": ["Al_Ka"]}, "one for each of Al_Ka, Au_La"),
        (gold_shell(8), {"lines": "Al_Ka"}, "one for each of"),
        (gold_shell(8), {"oversampling": 0}, "whole number"),
    ],
)
def test_absorbed_maps_say_what_is_wrong(phantom, named, message):
    with pytest.raises(ValueError, match=message):
        absorbed_maps(phantom, "super-x", **named)


def test_two_rounds_of_correction_give_the_composition_back():
    """Noise-free, the oxygen that absorption hides (a sixth of it) comes back to within a tenth of
    the error."""
    phantom = heavy_oxide(size=24)
    tilts = np.arange(-70, 71, 10.0)
    maps = absorbed_maps(phantom, "super-x", tilts)
    geometry = TiltGeometry(tilts, phantom.size, pixel_size=phantom.pixel_size)
    A, per_unit = (
        projector(geometry),
        phantom.counts_per_unit.astype(np.float32)[:, None, None, None],
    )
    density = phantom.truth.sum(axis=0)
    inside = (density > 7.2) & (phantom.truth[0] > 1.3)
    errors, rays = [], np.ones_like(maps)
    for _ in range(3):
        gains = rays.mean(axis=(2, 3))
        masses = (
            run(sirt(A, maps / (rays / gains[..., None, None]), gains=gains), 60).volume / per_unit
        )
        whole = masses[:, inside].sum(axis=1, dtype=float)
        errors.append(100 * whole[0] / whole.sum() - 18.59)
        rays = ray_transmission(
            masses * per_unit,
            linear_attenuation(masses, coefficients_of(phantom)),
            geometry,
            "super-x",
        )
    assert -3.5 < errors[0] < -2.5
    assert abs(errors[1]) < 0.3
    assert abs(errors[2]) < 0.25

# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence for regions from counts: distributions, fits, errors, features, maps and plans."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm, poisson

import hyperspy_multitomo as mt
from hyperspy_multitomo.alignment import Alignment
from hyperspy_multitomo.evidence.host import Host, LocalRays
from hyperspy_multitomo.evidence.planner import Pilot
from hyperspy_multitomo.evidence.poisson_tail import PoissonSum
from hyperspy_multitomo.evidence.regions import Neighbourhood, distances, grown, voxels_of
from hyperspy_multitomo.evidence.scan import LargestByChance, Scan, ball
from hyperspy_multitomo.evidence.table import in_percent, of_several
from hyperspy_multitomo.reconstruction.recorded_model import RecordedModel
from hyperspy_multitomo.signals.methods.evidence import row_of
from hyperspy_multitomo.signals.methods.evidence_data import VolumeAndCounts
from hyperspy_multitomo.tomography import TiltGeometry, projector

TILTS = np.arange(-70.0, 71.0, 10.0)
SIZE, SLICES = 32, 10
QUIET = {"depth": None, "show_progressbar": False}


def _grid():
    z, x, y = np.ogrid[:SIZE, :SIZE, :SLICES]
    return z - (SIZE - 1) / 2, x - (SIZE - 1) / 2, y - (SLICES - 1) / 2


def _host():
    z, x, y = _grid()
    return (z**2 + x**2 + 0 * y < 144).astype(np.float32)


def _grain(at=(3.0, -2.0, 0.0), radius=2.6):
    z, x, y = (grid - place for grid, place in zip(_grid(), at, strict=True))
    return (z**2 + x**2 + y**2 < radius**2).astype(np.float32)


def _series(volumes, dose=1.0, seed=0, **options):
    """Return maps of volumes (z, x, y) by element, counts per px of path."""
    project = projector(TiltGeometry(TILTS, SIZE))
    rng = np.random.default_rng(seed)
    maps = {
        name: rng.poisson(dose * project(one)).transpose(0, 2, 1) for name, one in volumes.items()
    }
    return mt.TiltSeriesEDS.from_maps(maps, tilts=TILTS, **options)


GRAIN = mt.Ellipsoid((SIZE / 2 - 2.5, (SLICES - 1) / 2, 3.0), 2.6)
ELSEWHERE = mt.Ellipsoid((SIZE / 2 + 4.5, (SLICES - 1) / 2, -3.0), 2.6)


@pytest.fixture(scope="module")
def pair():
    """A host of Au with a grain of three times as much, and Ag that is uniform."""
    host = _host()
    eds = _series({"Au": 0.3 * (host + 2 * _grain()), "Ag": 0.3 * host})
    return eds, eds.reconstruct_sirt(15, **QUIET)


def test_the_sections_of_one_region_are_side_by_side(pair):
    eds, volume = pair
    xz, xy = eds.evidence(volume, GRAIN, "Au").plot().subfigs[0].axes[:2]
    assert [axes.get_ylabel() for axes in (xz, xy)] == ["z →", "← y"]
    first, second = (axes.get_subplotspec() for axes in (xz, xy))
    assert (first.rowspan, second.colspan) == (second.rowspan, range(1, 2))


class TestRegions:
    def test_coordinates_are_those_of_the_axes(self):
        coordinates = {"x": np.arange(10.0), "y": np.arange(6.0), "z": np.arange(8) - 3.5}
        mask = voxels_of(mt.Box((4, 2, -0.5), (3, 1, 1)), coordinates)
        assert mask.shape == (8, 10, 6)
        assert np.argwhere(mask).tolist() == [[3, x, 2] for x in (3, 4, 5)]
        ellipsoid = voxels_of(mt.Ellipsoid((4, 2, -0.5), (2, 1, 0.5)), coordinates)
        assert np.argwhere(ellipsoid).tolist() == [
            [3, 2, 2], [3, 3, 2], [3, 4, 1], [3, 4, 2], [3, 4, 3], [3, 5, 2], [3, 6, 2],
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("region", "message"),
        [
            (mt.Ellipsoid((4, 2, 3), 2), "goes from z = 1 to 5, but the volume from -4 to 4"),
            (mt.Box((4.5, 2.5, 0), 0.4), "holds the centre of no voxel"),
        ],
    )
    def test_regions_outside_or_empty(self, region, message):
        coordinates = {"x": np.arange(10.0), "y": np.arange(6.0), "z": np.arange(8) - 3.5}
        with pytest.raises(ValueError, match=message):
            voxels_of(region, coordinates)

    @pytest.mark.parametrize("wrong", [0, -1, (1, 2), (1, 2, np.nan), "large"])
    def test_sizes_are_positive_numbers(self, wrong):
        with pytest.raises((ValueError, TypeError), match="radii"):
            mt.Ellipsoid((0, 0, 0), wrong)
        with pytest.raises((ValueError, TypeError), match="sides"):
            mt.Box((0, 0, 0), wrong)

    def test_shell_is_around_the_rim_and_within_the_outline(self):
        outline = np.zeros((20, 20, 20), bool)
        outline[4:16, 4:16, 4:16] = True
        region = np.zeros_like(outline)
        region[8:11, 8:11, 4:7] = True
        around = Neighbourhood.of(region, outline)
        whole = np.zeros_like(outline)
        whole[around.box] = around.shell
        assert not (whole & (region | ~outline)).any()
        assert whole[9, 9, 9]
        assert whole[9, 12, 5]
        assert not whole[9, 11, 5]
        with pytest.raises(ValueError, match="only .* of the outline are left"):
            Neighbourhood.of(outline, outline)

    def test_edge_of_the_volume_is_no_surface(self):
        mask = np.zeros((12, 12, 6), bool)
        mask[3:9, 3:9] = True
        assert np.array_equal(np.argwhere(grown(mask, -1))[[0, -1]], [[4, 4, 0], [7, 7, 5]])
        assert grown(mask, 1)[2, 5, 0]
        assert not grown(mask, 1)[2, 2, 0]


class TestPoissonSum:
    @pytest.mark.parametrize(("mean", "value"), [(3.0, 12), (30.0, 60), (30.0, 12), (400.0, 520)])
    def test_one_variable_against_its_exact_tails(self, mean, value):
        z = PoissonSum(np.ones(1), np.array([mean]), 0.0).z(value - mean)
        # The tails with and without the value itself are those of a variable that is discrete.
        if value > mean:
            with_it, without = norm.isf(poisson.sf([value - 1, value], mean))
        else:
            without, with_it = -norm.isf(poisson.cdf([value - 1, value], mean))
        assert min(with_it, without) < z < max(with_it, without)

    @pytest.mark.slow
    def test_many_factors_against_draws(self):
        rng = np.random.default_rng(0)
        factors, means = rng.normal(0.3, 1, 40), rng.uniform(0.02, 0.3, 40)
        one = PoissonSum(factors, means, 0.5)
        drawn = (rng.poisson(means, (200_000, 40)) - means) @ factors
        drawn += rng.normal(0, np.sqrt(0.5), len(drawn))
        for level in (-2.5, -1.0, 1.0, 2.0, 3.0):
            value = np.quantile(drawn, norm.cdf(level))
            assert one.z(value) == pytest.approx(level, abs=0.05)


def test_contrast_is_that_of_a_plain_weighted_fit(pair):
    eds, volume = pair
    data = VolumeAndCounts.of(eds, volume)
    host = data.plain_host("Au")
    host = Host.of(host.model, host.place, host.outline, host.others, host.own, own_is_term=True)
    region = data.regions(GRAIN)["1"]
    around = Neighbourhood.of(region, host.outline)
    found = host.contrast(around, LocalRays.of(host, around))
    filled = data.others("Au").copy()
    inside = np.zeros(region.shape, bool)
    inside[around.box] = around.filled
    shell = np.zeros(region.shape, bool)
    shell[around.box] = around.shell
    for one in filled:
        one[inside] = one[shell].mean()
    whole = np.zeros(region.shape, bool)
    whole[around.box] = around.whole
    rim = grown(host.outline, 2) & ~host.outline
    own = host.own.copy()
    wide = distances(region)
    own[wide <= 5] = own[(wide > 5) & (wide <= 8) & host.outline].mean()
    terms = [region, host.outline, rim, *filled, own, whole & host.outline]
    design = projector(TiltGeometry(TILTS, SIZE))(np.stack(terms).astype(np.float32))
    design = design.reshape(len(terms), -1).T.astype(float)
    root = np.sqrt(host.fit.variance)
    fitted = np.linalg.lstsq(design / root[:, None], host.fit.counts / root, rcond=None)[0]
    # Weights near the region are without what the volume has there.
    assert found.value == pytest.approx(fitted[0], rel=5e-3)
    information = np.linalg.inv((design / root[:, None]).T @ (design / root[:, None]))
    # The variance that the value has with the volume's own expectation.
    factors = (information @ (design / host.fit.variance[:, None]).T)[0]
    assert np.sqrt(factors**2 @ host.fit.variance) == pytest.approx(found.sd, rel=0.15)


@pytest.mark.slow
def test_grain_is_found_where_it_is_and_nowhere_else(pair):
    eds, volume = pair
    found = eds.evidence(volume, {"grain": GRAIN, "elsewhere": ELSEWHERE})
    rows = {(row.region, row.element): row for row in found}
    grain = rows["grain", "Au"]
    assert grain.contrast == pytest.approx(0.6, abs=3 * grain.sd)
    assert grain.z > 6
    assert grain.significant
    assert grain.p_corrected == of_several(grain.p, 4)
    for key in [("grain", "Ag"), ("elsewhere", "Au"), ("elsewhere", "Ag")]:
        assert abs(rows[key].z) < 3
        assert not rows[key].significant
    assert np.allclose(grain.centre, (SIZE / 2 - 2.5, (SLICES - 1) / 2, 3.0), atol=0.5)
    assert grain.limit[0] < grain.limit[1] < grain.contrast
    assert grain.counts == pytest.approx(grain.contrast * grain.voxels * len(TILTS), rel=0.02)
    text = str(found)
    assert "grain" in text
    assert "p for 4 tried" in text
    assert "*" in text
    assert found.made_of["reconstruction"]["step"] == "reconstruct_sirt"
    assert found.z.shape == (4,)
    assert found.limit.shape == (4, 2)
    assert found.plot().subfigs[1].axes[0].get_xlabel() == "z"


@pytest.mark.slow
def test_masks_are_as_good_as_ellipsoids(pair):
    eds, volume = pair
    one = eds.evidence(volume, GRAIN, "Au")
    mask = VolumeAndCounts.of(eds, volume).regions(GRAIN)["1"].swapaxes(1, 2)
    other = eds.evidence(volume, [mask, mask.astype(float)], "Au")
    assert np.array_equal(other.contrast, np.repeat(one.contrast, 2))


@pytest.mark.slow
def test_gains_and_background_change_nothing_but_the_noise(pair):
    """Twice the counts at twice the gain, with a background that is known."""
    eds, volume = pair
    found = eds.evidence(volume, GRAIN, "Au")[0]
    project = projector(TiltGeometry(TILTS, SIZE))
    gains = np.linspace(1.5, 2.5, len(TILTS))
    signal = gains[:, None, None] * project(0.3 * (_host() + 2 * _grain()))
    rng = np.random.default_rng(1)
    other = mt.TiltSeriesEDS.from_maps(
        {"Au": rng.poisson(signal + 3.0).transpose(0, 2, 1)}, tilts=TILTS
    )
    other.gains = gains
    made = other.reconstruct_em(10, background=3.0, **QUIET)
    row = other.evidence(made, GRAIN, background=3.0)[0]
    assert row.contrast == pytest.approx(0.6, abs=3 * row.sd)
    assert 0.5 * found.sd < row.sd < 1.2 * found.sd


def test_shifted_series_is_tested_where_it_was_recorded():
    eds = _series({"Au": 1.0 * (_host() + 2 * _grain())})
    shifts = np.linspace(-2, 2, len(TILTS)).round(1)
    eds.data[...] = np.round(
        Alignment(-shifts, np.roll(shifts, 3).round()).apply(
            eds.array("element", "tilt", "x", "y"), for_geometry=False, fill="edge"
        )
    ).transpose(1, 0, 3, 2)
    eds.alignment = Alignment(shifts, -np.roll(shifts, 3).round(), axis_offset=0.0)
    volume = eds.reconstruct_sirt(10, **QUIET)
    row = eds.evidence(volume, GRAIN)[0]
    assert row.contrast == pytest.approx(2.0, rel=0.15)
    assert row.z > 10


def test_volume_of_a_binned_series():
    """`reconstruct` bins by itself: the series as recorded is binned likewise."""
    tall = np.repeat(_host(), 2, axis=2), np.repeat(_grain(), 2, axis=2)
    eds = _series({"Au": 0.3 * (tall[0] + 2 * tall[1])}, pixel_size=1.0)
    volume = eds.bin(2).reconstruct_sirt(10, **QUIET)
    region = mt.Ellipsoid((13.5, 9.5, 3.0), (3.0, 5.0, 3.0))
    row = eds.evidence(volume, region, "Au")[0]
    assert row.z > 5
    assert row.z == eds.bin(2).evidence(volume, region, "Au")[0].z


class TestRefused:
    def test_volume_of_another_series(self, pair):
        _eds, volume = pair
        other = _series({"Au": 0.3 * _host(), "Ag": 0.3 * _host()}, seed=5)
        with pytest.raises(ValueError, match="not what the volume was made of"):
            other.evidence(volume, GRAIN)

    def test_part_of_a_volume(self, pair):
        eds, volume = pair
        with pytest.raises(ValueError, match="part of what was reconstructed"):
            eds.evidence(volume.isig[2:], GRAIN)

    def test_maps_that_are_no_counts(self):
        eds = _series({"Au": 0.3 * _host()})
        smooth = eds.smooth(1.0)
        volume = smooth.reconstruct_sirt(3, **QUIET)
        with pytest.raises(ValueError, match="counts as recorded"):
            smooth.evidence(volume, GRAIN)
        net = _series({"Au": 0.3 * _host()})
        net.data -= 0.4
        with pytest.raises(ValueError, match="counts as recorded"):
            net.evidence(net.reconstruct_sirt(3, **QUIET), GRAIN)

    def test_two_tilts(self):
        eds = _series({"Au": 0.3 * _host()}).inav[:, :2]
        volume = eds.reconstruct_sirt(3, **QUIET)
        with pytest.raises(ValueError, match="2 tilts"):
            eds.evidence(volume, GRAIN)

    @pytest.mark.parametrize(
        ("region", "message"),
        [
            (np.zeros((SIZE, SLICES, SIZE), bool), "is empty"),
            (np.ones((SIZE, SLICES), bool), "has the shape"),
            (np.full((SIZE, SLICES, SIZE), 0.5), "other values than 0 and 1"),
            (mt.Ellipsoid((16, 5, 11), 2), "touches the rim"),
            (mt.Ellipsoid((16, 5, 16), 2), "but the volume from"),
            ([], "no region"),
            ("everything", "must be 'features'"),
        ],
    )
    def test_regions(self, pair, region, message):
        eds, volume = pair
        with pytest.raises(ValueError, match=message):
            eds.evidence(volume, region)

    def test_elements_and_factors(self, pair):
        eds, volume = pair
        with pytest.raises(ValueError, match="the maps hold Au, Ag"):
            eds.evidence(volume, GRAIN, "Pt")
        with pytest.raises(ValueError, match="positive k-factor of each of Au, Ag"):
            eds.evidence(volume, GRAIN, "Au", factors={"Au": 1.0})
        with pytest.raises(ValueError, match="size=5"):
            eds.evidence(volume, GRAIN, size=5)
        with pytest.raises(ValueError, match="tried"):
            eds.evidence(volume, GRAIN, tried=0)


def test_percent_of_the_surroundings(pair):
    """Three parts of Au to one of Ag in the grain, one to one around it: 75 - 50 wt%."""
    eds, volume = pair
    row = eds.evidence(volume, GRAIN, "Au", factors={"Au": 1.0, "Ag": 1.0})[0]
    assert row.percent == pytest.approx(25, abs=4)
    assert row.percent_limit[0] < row.percent_limit[1] < 25
    assert in_percent([-5.0], 1.0, 0, np.array([1.0, 1.0]), 1.0)[0] == [-50.0]
    assert np.isnan(in_percent([-5.0], 1.0, 0, np.array([1.0, 0.0]), 1.0)[0][0])


@pytest.mark.slow
def test_region_found_in_the_volume_has_a_larger_probability(pair):
    eds, volume = pair
    fixed = eds.evidence(volume, ELSEWHERE, "Au")[0]
    drawn = eds.evidence(volume, ELSEWHERE, "Au", found_in=volume)
    assert drawn[0].z == fixed.z
    assert drawn[0].p_corrected > 0.9
    assert "largest of all places" in str(drawn)
    assert eds.evidence(volume, GRAIN, "Au", found_in=volume)[0].significant


class TestScan:
    def test_agrees_with_the_test_of_one_region(self):
        eds = _series({"Au": 0.3 * _host()})
        data = VolumeAndCounts.of(eds, eds.reconstruct_sirt(10, **QUIET))
        host = data.plain_host("Au")
        hosts, scan = [host] * 3, Scan.of(host, ball(2.5))
        z, limit = scan.z(), scan.limit(5.0)
        rng = np.random.default_rng(0)
        inner = np.argwhere(scan.places & grown(scan.places, -2))
        for centre in inner[rng.permutation(len(inner))[:6]]:
            grid = np.ogrid[:SIZE, :SIZE, :SLICES]
            region = sum((a - b) ** 2 for a, b in zip(grid, centre, strict=True)) <= 6.25
            row = row_of(data, hosts, "1", region, "Au")
            assert z[tuple(centre)] == pytest.approx(row.z, abs=0.35)
            assert limit[tuple(centre)] == pytest.approx(row.limit[1], rel=0.12)
        assert np.isnan(limit[0, 0, 0])

    def test_largest_of_many_is_larger(self):
        eds = _series({"Au": 0.3 * _host()})
        data = VolumeAndCounts.of(eds, eds.reconstruct_sirt(10, **QUIET))
        chance = LargestByChance.of(Scan.of(data.plain_host("Au"), ball(2.5)))
        assert 2.5 < chance.mode < 4
        assert chance(2.0) > 0.99
        assert chance(6.0) < 0.01

    @pytest.mark.slow
    def test_detection_map(self, pair):
        eds, volume = pair
        least = eds.detection_map(volume, "Ag", size=5)
        assert least.data.shape == (SIZE, 1, SLICES, SIZE)
        assert least.history[-1]["step"] == "detection_map"
        percent = eds.detection_map(volume, "Ag", size=5, factors={"Au": 1, "Ag": 1})
        middle = (SIZE // 2, 0, SLICES // 2, SIZE // 2 + 6)
        beta = least.data[middle]
        expected = 100 * ((0.3 + beta) / (0.6 + beta) - 0.5)
        assert percent.data[middle] == pytest.approx(expected, rel=0.1)
        with pytest.raises(ValueError, match="nowhere within the outline"):
            eds.detection_map(volume, "Ag", size=23)
        with pytest.raises(ValueError, match="from 3 voxels"):
            eds.detection_map(volume, "Ag", size=2)


@pytest.mark.slow
def test_features_are_found_and_noise_is_not(pair):
    eds, volume = pair
    found = eds.evidence(volume, "features", "Au")
    best = max(found, key=lambda row: row.z)
    assert best.significant
    assert np.allclose(best.centre, (SIZE / 2 - 2.5, (SLICES - 1) / 2, 3.0), atol=1.5)
    noise = eds.evidence(volume, "features", "Ag")
    assert not any(row.significant for row in noise)
    assert "tried" in str(noise) or "no feature" in str(noise)
    with pytest.raises(ValueError, match="leave out found_in"):
        eds.evidence(volume, "features", found_in=volume)


@pytest.mark.slow
def test_z_without_a_feature_is_normal():
    """Of a host with a gradient: Au follows neither the outline nor Ag, but both together."""
    _, x, _ = _grid()
    silver = _host() * (0.5 + x / 30)
    outline = _host().swapaxes(1, 2) > 0
    zs = []
    for seed in range(12):
        eds = _series({"Au": 0.1 * (_host() - 0.7 * silver), "Ag": 0.1 * silver}, seed=seed)
        data = VolumeAndCounts.of(eds, eds.reconstruct_em(6, **QUIET), outline=outline)
        hosts = data.hosts("Au")
        for at in [(6.0, 6.0, 0.0), (-4.0, -5.0, 0.0), (-6.0, 5.0, -1.0), (4.0, -7.0, 1.0)]:
            region = _grain(at, 2.3).astype(bool)
            zs.append(row_of(data, hosts, "1", region, "Au").z)
    assert abs(np.mean(zs)) < 0.5
    assert 0.75 < np.std(zs) < 1.25
    assert np.abs(zs).max() < 3.5


def test_misfit_widens_errors_and_warns(pair):
    """Every other image is twice as bright, which no volume can be."""
    eds, _ = pair
    eds = eds.deepcopy()
    eds.data[::2] *= 2
    volume = eds.reconstruct_sirt(10, **QUIET)
    with pytest.warns(UserWarning, match="are not explained"):
        found = eds.evidence(volume, ELSEWHERE, "Au")
    assert found.misfit["Au"] > 1.3
    data = VolumeAndCounts.of(eds, volume)
    host = data.hosts("Au")[0]
    assert host.own_is_term
    fit = host.fit
    assert fit.spread == pytest.approx(np.sqrt(found.misfit["Au"]))


class TestPlan:
    def _pilot(self):
        truth = np.stack([0.3 * _host(), 0.1 * _host()])
        return Pilot(("Au", "Ag"), truth, np.zeros((0, *truth.shape[1:])), _host() > 0, 15, 1.0)

    def test_dose_reaches_five(self, pair):
        _, volume = pair
        how = {"size": 5, "contrast": 0.5, "ranges": [70], "tilts": [15]}
        plan = mt.plan_acquisition(volume, "Ag", **how)
        (row,) = plan.rows
        again = mt.plan_acquisition(volume, "Ag", dose=row.dose, **how)
        assert again.rows[0].z == pytest.approx(5, abs=0.01)
        assert 0 < row.z < 5 < row.dose * 20
        noisy = mt.plan_acquisition(volume, "Ag", background=2.0, **how)
        assert noisy.rows[0].dose > row.dose

    def test_more_tilts_at_equal_dose_bring_nothing(self, pair):
        _, volume = pair
        plan = mt.plan_acquisition(volume, "Au", size=5, contrast=1.0, at=(20, 4.5, -3))
        assert plan.gain_of_tilts == pytest.approx(1, abs=0.05)
        assert len(plan.rows) == 6
        assert "more tilts at equal dose" in str(plan)
        assert len(plan.plot().axes) == 2

    def test_electrons_minutes_and_frames(self, pair):
        eds, _ = pair
        eds = eds.deepcopy()
        eds.dose = 1e6
        volume = eds.reconstruct_sirt(5, **QUIET)
        how = {"size": 5, "contrast": 1.0, "ranges": [70], "tilts": [15]}
        (row,) = mt.plan_acquisition(volume, "Ag", current=1.0, dwell=10.0, **how).rows
        assert row.electrons == pytest.approx(row.dose * 15e6)
        seconds = row.electrons * 1.602176634e-19 / 1e-9
        assert row.minutes == pytest.approx(seconds * SIZE * SLICES / 60)
        assert row.frames == pytest.approx(seconds / 15 / 10e-6)

    def test_error_of_the_mean_of_a_whole_specimen_is_that_of_its_counts(self):
        """All counts belong to it but for those of the rim: nearly sqrt(N) of each element."""
        pilot = self._pilot()
        errors = pilot.errors_of_means(_host() > 0, TILTS, 1.0)
        project = projector(TiltGeometry(TILTS, SIZE))
        counts = project(pilot.volumes).sum(axis=(1, 2, 3))
        assert np.allclose(errors, 1 / np.sqrt(counts), rtol=0.02)
        assert np.allclose(pilot.errors_of_means(_host() > 0, TILTS, 4.0), errors / 2, rtol=1e-3)

    @pytest.mark.slow
    def test_expected_error_is_that_of_series(self):
        pilot = self._pilot()
        region = _grain((3.0, -2.0, 0.0), 2.6).astype(bool)
        expected = pilot.test(0, region, TILTS).chance.sd
        host = pilot.host(0, TILTS)
        around, rng, found = Neighbourhood.of(region, host.outline), np.random.default_rng(0), []
        for _ in range(60):
            images = rng.poisson(host.model.images).astype(np.float32)
            model = replace(host.model, images=images)
            drawn = Host.of(model, 0, host.outline, host.others, host.own)
            found.append(drawn.contrast(around, LocalRays.of(drawn, around)).value)
        assert isinstance(host.model, RecordedModel)
        assert np.std(found) == pytest.approx(expected, rel=0.25)

    def test_refused(self, pair):
        eds, volume = pair
        how = {"size": 5, "contrast": 1.0}
        two = eds.inav[:, :2]
        with pytest.raises(ValueError, match="2 tilts"):
            mt.plan_acquisition(two.reconstruct_sirt(2, **QUIET), "Au", **how)
        with pytest.raises(ValueError, match="the pilot holds Au, Ag"):
            mt.plan_acquisition(volume, "Pt", **how)
        with pytest.raises(ValueError, match="is nothing"):
            mt.plan_acquisition(volume, "Au", size=5, contrast=0)
        with pytest.raises(ValueError, match="not within the specimen"):
            mt.plan_acquisition(volume, "Au", size=5, contrast=1, at=(16, 5, 11))
        with pytest.raises(ValueError, match="wt% cannot be added"):
            mt.plan_acquisition(volume, "Au", size=5, contrast=80, factors={"Au": 1, "Ag": 1})
        with pytest.raises(ValueError, match="3"):
            mt.plan_acquisition(volume, "Au", tilts=[2], **how)
        with pytest.raises(ValueError, match="90"):
            mt.plan_acquisition(volume, "Au", ranges=[100], **how)
        with pytest.raises(TypeError, match="TomographicVolume"):
            mt.plan_acquisition(eds, "Au", **how)

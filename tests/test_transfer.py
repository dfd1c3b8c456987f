# SPDX-License-Identifier: GPL-3.0-or-later
"""Transfer tests: a feature that one channel alone has, put into the counts of a volume."""

import numpy as np
import pytest
from series_pairs import QUIET, RATIOS, pair, spectral

import hyperspy_multitomo as mt
from hyperspy_multitomo.evidence.transfer import ball, typical, with_more
from hyperspy_multitomo.signals.metadata.recorded_arrays import record

CUBE = QUIET | {"depth": None}
TILTS = np.linspace(-70, 70, 15)


@pytest.fixture(scope="module")
def series():
    haadf, eds = pair()
    return haadf.isig[:, 8:16], eds.isig[:, 8:16]


def centre_of(volume):
    """Return x, y and z of a voxel near the centre."""
    axes = {axis.name: axis for axis in volume.axes_manager._axes}
    return [axes[name].axis[axes[name].size // 2] for name in "xyz"]


def host(size=24, slices=10, counts=200.0):
    """Return maps and HAADF of a uniform disc of two elements, with many counts."""
    z, x = np.ogrid[:size, :size]
    inside = (z - (size - 1) / 2) ** 2 + (x - (size - 1) / 2) ** 2 < (0.4 * size) ** 2
    disc = np.repeat(inside[..., None], slices, axis=2).astype(np.float32)
    images = mt.projector(mt.TiltGeometry(TILTS, size))(disc).transpose(0, 2, 1)
    rng = np.random.default_rng(0)
    maps = {"Au": rng.poisson(counts * images), "Ag": rng.poisson(0.5 * counts * images)}
    signal = 2.0 * maps["Au"] + maps["Ag"]
    return (
        mt.TiltSeriesHAADF.from_images(signal.astype(np.float32), tilts=TILTS),
        mt.TiltSeriesEDS.from_maps(maps, tilts=TILTS),
    )


class TestParts:
    def test_ball(self):
        axes = {"x": 2.0 * np.arange(9), "y": 2.0 * np.arange(5), "z": 2.0 * np.arange(7) - 6}
        inside = ball((8, 4, 0), 6.0, axes)
        z, x, y = np.nonzero(inside)
        assert (axes["x"][x].mean(), axes["y"][y].mean(), axes["z"][z].mean()) == (8, 4, 0)
        square = (axes["x"][x] - 8) ** 2 + (axes["y"][y] - 4) ** 2 + axes["z"][z] ** 2
        assert square.max() <= 9
        assert inside.sum() == 19

    @pytest.mark.parametrize(
        ("position", "size", "message"),
        [
            ((30, 4, 0), 4, "along x"),
            ((8, 4, 8), 6, "along z"),
            ((8, 4, 0), 30, "reaches out"),
            ((9, 5, 1), 1.0, "no voxel"),
        ],
    )
    def test_ball_that_is_not_there(self, position, size, message):
        axes = {"x": 2.0 * np.arange(9), "y": 2.0 * np.arange(5), "z": 2.0 * np.arange(7) - 6}
        with pytest.raises(ValueError, match=message):
            ball(position, size, axes)

    def test_thinned_and_added_counts_are_poisson(self):
        rng = np.random.default_rng(0)
        counts = rng.poisson(6.0, 200_000).astype(np.float32)
        for more in (3.0, -4.0):
            changed = with_more(
                counts, np.full(counts.shape, more), np.full(counts.shape, 6.0), rng
            )
            assert changed.mean() == pytest.approx(6 + more, rel=0.01)
            assert changed.var() == pytest.approx(6 + more, rel=0.02)

    def test_typical_signal_is_that_where_it_is(self):
        volume = np.zeros((4, 4, 4))
        volume[1:3] = 5.0
        assert typical(volume) == pytest.approx(5.0)


class TestArrival:
    @pytest.mark.slow
    def test_all_of_it_arrives_where_nothing_is_smoothed_or_shared(self):
        _, eds = host()
        volume = eds.reconstruct_sirt(150, **CUBE)
        where = {"position": centre_of(volume), "size": 8.0}
        test = eds.transfer_test(volume, **where, contrast=0.5, count=2, **QUIET)
        assert test.inserted == test.channels == ("Au", "Ag")
        assert np.diag(test.arrived) == pytest.approx([1, 1], abs=0.2)
        assert test.arrived[0, 1] == test.arrived[1, 0] == 0
        assert (test.scatter < 0.1).all()
        less = eds.transfer_test(volume, **where, contrast=-0.5, count=1, into="Au", **QUIET)
        assert less.arrived[0, 0] == pytest.approx(1, abs=0.2)
        assert np.isnan(less.scatter).all()

    @pytest.mark.slow
    def test_a_larger_weight_suppresses_more(self):
        haadf, eds = host(counts=2.0)
        parts = []
        for weight in (0.3, 5.0):
            volume = eds.reconstruct_tnv(haadf, weight=weight, iterations=60, **CUBE)
            where = {"position": centre_of(volume), "size": 6.0}
            test = eds.transfer_test(volume, haadf, **where, into="Ag", count=1, **QUIET)
            parts.append(test.suppression("Ag"))
        assert parts[0] < 0.5 < parts[1]

    def test_the_haadf_pulls_hebt(self):
        haadf, eds = host(counts=20.0)
        volume = eds.reconstruct_hebt(
            haadf, iterations=60, alpha=0.9, ratios={"Au": 2.0, "Ag": 1.0}, **CUBE
        )
        where = {"position": centre_of(volume), "size": 8.0}
        test = eds.transfer_test(volume, haadf, **where, into=["HAADF"], count=1, **QUIET)
        assert test.channels == ("Au", "Ag", "HAADF")
        induced = test.induced("HAADF")
        assert induced["Au"] > 0.3
        assert set(induced) == {"Au", "Ag"}
        # The HAADF is the sum of the elements: what arrives in it is what they got.
        typical_of = {"Au": 2.0, "Ag": 0.5}
        total = sum(typical_of[name] * induced[name] for name in typical_of) / 2.5
        assert test.arrived[0, 2] == pytest.approx(total, rel=0.1)

    @pytest.mark.slow
    def test_gross_counts(self):
        eds = spectral(host()[1])
        record(eds, "window_share", np.ones((15, 2)), ("tilt", "element"))
        for method, iterations in (("em", 60), ("sirt", 150)):
            volume = getattr(eds, f"reconstruct_{method}")(iterations, **CUBE)
            where = {"position": centre_of(volume), "size": 8.0}
            test = eds.transfer_test(volume, **where, contrast=0.5, count=1, into="Au", **QUIET)
            assert test.arrived[0] == pytest.approx([1, 0], abs=0.2)


class TestResult:
    @pytest.fixture(scope="class")
    def made(self, series):
        haadf, eds = series
        volume = eds.reconstruct_hebt(haadf, iterations=5, ratios=RATIOS, **CUBE)
        where = {"position": centre_of(volume), "size": 14.0}
        return volume, eds.transfer_test(volume, haadf, **where, count=2, **QUIET)

    def test_table(self, made):
        _, test = made
        assert test.inserted == ("Au", "Ag", "HAADF")
        assert test.suppression("Au") == pytest.approx(1 - test.arrived[0, 0])
        lines = str(test).splitlines()
        assert lines[0].split() == ["feature", "in", "Au", "Ag", "HAADF"]
        assert [line.count("*") for line in lines[1:4]] == [1, 1, 1]
        assert test.made_of["volume"]
        with pytest.raises(ValueError, match="no feature was inserted into 'Fe'"):
            test.suppression("Fe")

    def test_figure(self, made):
        figure = made[1].plot("HAADF")
        assert figure.get_suptitle() == "a feature in HAADF alone"
        assert [a.get_title(loc="left") for a in figure.axes if a.get_title(loc="left")] == [
            "Au",
            "Ag",
            "HAADF (has it)",
        ]
        with pytest.raises(ValueError, match="'Fe'"):
            made[1].plot("Fe")


class TestRefused:
    @pytest.fixture(scope="class")
    def volume(self, series):
        return series[1].reconstruct_sirt(3, **CUBE)

    @pytest.mark.parametrize(
        ("keywords", "message"),
        [
            ({"position": (1e3, 0, 0)}, "reaches out of the volume"),
            ({"position": (0, 0)}, "three numbers"),
            ({"size": 0}, "size=0"),
            ({"size": 1e3}, "reaches out of the volume"),
            ({"contrast": 0}, "contrast=0"),
            ({"count": 0}, "count=0"),
            ({"into": "Fe"}, "into='Fe': the feature can be inserted into Au, Ag"),
            ({"into": "HAADF"}, "into='HAADF'"),
        ],
    )
    def test_arguments(self, series, volume, keywords, message):
        where = {"position": centre_of(volume), "size": 14.0}
        with pytest.raises((ValueError, TypeError), match=message):
            series[1].transfer_test(volume, **(where | keywords), **QUIET)

    def test_nothing_to_take_away(self, series, volume):
        empty = series[1].deepcopy()
        empty.inav[0].data[...] = 0
        empty.data[:, 0] = 0
        made = empty.reconstruct_sirt(3, **CUBE)
        where = {"position": centre_of(made), "size": 14.0}
        with pytest.raises(ValueError, match="nothing of Au"):
            empty.transfer_test(made, **where, **QUIET)

    def test_volume_of_another_series(self, volume):
        other = pair(seed=1)[1].isig[:, 8:16]
        with pytest.raises(ValueError, match="images of the maps"):
            other.transfer_test(volume, position=centre_of(volume), size=14.0)

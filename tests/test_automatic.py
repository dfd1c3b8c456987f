# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights, alpha and iterations that counts choose which are held out."""

import numpy as np
import pytest

import hyperspy_multitomo as mt
from hyperspy_multitomo.reconstruction import held_out
from hyperspy_multitomo.reconstruction.automatic_weight import WEIGHTS
from hyperspy_multitomo.simulation import simulate, yuan
from hyperspy_multitomo.tomography import (
    DataTerm,
    Regulariser,
    TiltGeometry,
    projector,
    run,
    variational,
)
from hyperspy_multitomo.tomography.weight_path import WeightPath

QUIET = {"show_progressbar": False, "depth": None}


@pytest.fixture(scope="module")
def simulated():
    return simulate(yuan(40, 8), dose=0.05, blur=0, seed=3)


@pytest.fixture(scope="module")
def pair(simulated):
    maps = dict(zip(simulated.elements, simulated.maps.transpose(0, 1, 3, 2), strict=True))
    known = {"tilts": simulated.tilts, "pixel_size": simulated.pixel_size}
    return (
        mt.TiltSeriesEDS.from_maps(maps, **known),
        mt.TiltSeriesHAADF.from_images(simulated.haadf.transpose(0, 2, 1), **known),
    )


@pytest.fixture(scope="module")
def chosen(pair):
    return pair[0].reconstruct_tnv(pair[1], weight="auto", **QUIET)


def error(volume, simulated):
    found = volume.array("element", "z", "x", "y")[: len(simulated.elements)]
    return np.linalg.norm(found - simulated.truth) / np.linalg.norm(simulated.truth)


def step(volume):
    return volume.history[-1]


@pytest.mark.slow
class TestWeight:
    def test_error_is_about_the_least_of_all_weights(self, pair, chosen, simulated):
        eds, haadf = pair
        least = min(
            error(eds.reconstruct_tnv(haadf, weight=weight, **QUIET), simulated)
            for weight in WEIGHTS
        )
        assert error(chosen, simulated) < 1.15 * least

    def test_it_is_that_of_its_weight_and_can_be_run_again(self, pair, chosen):
        eds, haadf = pair
        weight = step(chosen)["weight"]
        given = eds.reconstruct_tnv(haadf, weight=weight, **QUIET)
        np.testing.assert_array_equal(chosen.data, given.data)
        np.testing.assert_array_equal(mt.rerun(chosen, haadf, eds).data, chosen.data)
        assert f"weight={weight!r}" in chosen.to_script() or weight == 1

    def test_one_standard_error_rule(self, chosen):
        choice = step(chosen)["weight_choice"]
        weights, above, errors = (np.array(choice[n]) for n in ("weights", "deviances", "errors"))
        assert above.min() == 0
        assert step(chosen)["weight"] == weights[above <= errors].max()
        assert choice["slices"] == [0, 8]
        assert chosen.plot_weight_choice().axes[0].get_xlabel() == "weight"

    def test_lazy_series_choose_as_those_in_memory(self, pair, chosen):
        eds, haadf = pair
        lazy = eds.as_lazy().reconstruct_tnv(haadf.as_lazy(), weight="auto", **QUIET)
        choice = step(chosen)["weight_choice"]
        np.testing.assert_allclose(
            step(lazy)["weight_choice"]["deviances"], choice["deviances"], rtol=1e-3, atol=0.1
        )

    def test_vacuum_does_not_choose(self, pair, simulated):
        """Rays beside the specimen are predicted best by the smoothest volume: 4, were they all."""
        eds, _ = pair
        tilts, channels, slices, width = eds.data.shape
        counts = np.random.default_rng(0).poisson(0.02, (tilts, channels, slices, 3 * width))
        wide = counts.astype(np.float32)
        wide[..., width : 2 * width] += eds.data
        maps = dict(zip(eds.channels, wide.transpose(1, 0, 2, 3), strict=True))
        field = mt.TiltSeriesEDS.from_maps(maps, tilts=eds.tilts, pixel_size=eds.pixel_size)

        def errors(weight):
            depth = width * eds.pixel_size
            volume = field.reconstruct_tnv(weight=weight, depth=depth, show_progressbar=False)
            found = volume.array("element", "z", "x", "y")[:, :, width : 2 * width]
            return np.linalg.norm(found - simulated.truth) / np.linalg.norm(simulated.truth)

        assert errors("auto") < 1.1 * min(errors(weight) for weight in (1.4, 0.7))

    def test_a_resumed_run_chooses_the_same(self, pair, chosen, tmp_path):
        eds, haadf = pair
        kept = tmp_path / "run.h5"
        eds.reconstruct_tnv(haadf, weight="auto", iterations=15, checkpoint=kept, **QUIET)
        resumed = eds.reconstruct_tnv(haadf, weight="auto", resume=kept, **QUIET)
        assert step(resumed)["resumed_at"] == 15
        np.testing.assert_array_equal(resumed.data, chosen.data)

    @pytest.mark.parametrize(
        ("method", "keywords"),
        [
            ("reconstruct_tv", {}),
            ("reconstruct_tgv", {"iterations": 60}),
            ("reconstruct_hebt", {"regulariser": "tnv"}),
            ("reconstruct_fused", {}),
            ("reconstruct_fused", {"power": 1.4, "iterations": 60}),
        ],
    )
    def test_every_method_with_a_regulariser(self, pair, method, keywords):
        eds, haadf = pair
        volume = getattr(eds, method)(haadf, weight="auto", **keywords, **QUIET)
        choice = step(volume)["weight_choice"]
        assert step(volume)["weight"] in choice["weights"]
        assert len(set(choice["deviances"])) == len(choice["weights"]) > 2

    def test_images_alone(self, pair):
        volume = pair[1].reconstruct_tv(weight="auto", **QUIET)
        choice = step(volume)["weight_choice"]
        assert len(choice["weights"]) > 2
        assert min(choice["deviances"]) == 0 < max(choice["deviances"])

    def test_no_counts_are_refused(self, pair):
        eds, haadf = pair
        other = eds.deepcopy()
        other.data = other.data * 0.7
        with pytest.raises(ValueError, match="not whole numbers"):
            other.reconstruct_tnv(haadf, weight="auto", **QUIET)
        with pytest.raises(ValueError, match="data_term"):
            eds.reconstruct_tnv(haadf, weight="auto", data_term="least_squares", **QUIET)
        with pytest.raises(ValueError, match="'auto'"):
            eds.reconstruct_tnv(haadf, weight="best", **QUIET)
        with pytest.raises(ValueError, match="weight='auto'"):
            eds.reconstruct_tnv(haadf, **QUIET).plot_weight_choice()

    def test_panels_choose_nothing(self, pair):
        with pytest.raises(ValueError, match="interactive=True lets you choose"):
            pair[0].reconstruct_tnv(pair[1], weight="auto", interactive=True, display=False)

    def test_without_any_count(self, pair):
        none = pair[0].deepcopy()
        none.data = np.zeros_like(none.data)
        with (
            pytest.warns(UserWarning, match="no counts"),
            pytest.raises(ValueError, match="no count in the 8 slices"),
        ):
            none.reconstruct_tnv(weight="auto", **QUIET)


@pytest.mark.slow
class TestPath:
    def test_solutions_do_not_depend_on_the_way(self):
        A = projector(TiltGeometry(range(-80, 81, 10), detector_width=24))
        truth = np.zeros((2, 24, 24, 3))
        truth[:, 8:16, 8:16] = 2.0
        term = DataTerm(A, np.random.default_rng(0).poisson(A(truth)))

        def solver(weight):
            return variational([term], Regulariser(weight, coupling="nuclear"), [2.0, 2.0])

        path = WeightPath(solver, 500)
        for weight in (6.0, 2.0, 9.0):
            found, cold = path(weight), run(solver(weight), 500)
            np.testing.assert_allclose(found.volume, cold.volume, atol=0.02)

    def test_a_start_nearby_saves_iterations(self):
        A = projector(TiltGeometry(range(-80, 81, 10), detector_width=24))
        truth = np.zeros((1, 24, 24, 3))
        truth[:, 8:16, 8:16] = 2.0
        term = DataTerm(A, np.random.default_rng(0).poisson(A(truth)))
        path = WeightPath(lambda weight: variational([term], Regulariser(weight), [2.0]), 500,
                          tolerance=1e-4)  # fmt: skip
        first = path(4.0).iterations
        assert path(4.0).iterations < first


class TestHeldOut:
    def test_parts_are_independent_counts(self):
        counts = np.random.default_rng(1).poisson(3.0, (1, 40, 50, 20)).astype(np.float32)
        kept = held_out._by_slice(counts, lambda c, rng: held_out._thinned(c, rng, share=0.8))
        rest = counts - kept
        assert (kept >= 0).all()
        assert (rest >= 0).all()
        assert kept.mean() == pytest.approx(2.4, rel=0.01)
        assert kept.var() == pytest.approx(2.4, rel=0.03)
        assert abs(np.corrcoef(kept.ravel(), rest.ravel())[0, 1]) < 0.01

    def test_the_busiest_slices_are_looked_at(self, pair, monkeypatch):
        monkeypatch.setattr(held_out, "SLICES", 4)
        part = pair[0].deepcopy()
        part.data[..., :4, :] = 0
        choice = step(part.reconstruct_tnv(weight="auto", **QUIET))["weight_choice"]
        assert choice["slices"] == [4, 8]


class TestIterations:
    @pytest.mark.parametrize("method", ["sirt", "em", "cgls"])
    def test_the_noise_ends_a_run(self, pair, method):
        volume = getattr(pair[0], f"reconstruct_{method}")(iterations="auto", **QUIET)
        assert step(volume)["stopped_by"] == "discrepancy"
        assert step(volume)["stopping"] == "discrepancy"
        np.testing.assert_array_equal(mt.rerun(volume, eds=pair[0]).data, volume.data)

    def test_a_noise_that_is_not_reached(self, pair):
        other = pair[0].deepcopy()
        other.data = other.data[::-1].copy()  # which no volume explains
        other.data[:, ::2] *= 30
        with pytest.warns(UserWarning, match="down to the noise within 200"):
            other.reconstruct_sirt(iterations="auto", **QUIET)

    def test_of_hebt(self, pair, simulated):
        eds, haadf = pair
        volume = eds.reconstruct_hebt(haadf, iterations="auto", **QUIET)
        usual = eds.reconstruct_hebt(haadf, **QUIET)
        assert error(volume, simulated) < 0.8 * error(usual, simulated)
        again = mt.rerun(volume, haadf, eds)
        np.testing.assert_array_equal(again.data, volume.data)

    def test_alpha_of_hebt(self, pair):
        eds, haadf = pair
        plan = eds.plan_reconstruction("hebt", haadf, alpha="auto", iterations="auto")
        assert plan.iterations == 100
        volume = eds.reconstruct_hebt(haadf, alpha="auto", iterations="auto", **QUIET)
        choice = step(volume)["iteration_choice"]
        best = int(np.argmin(choice["deviances"]))
        assert step(volume)["alpha"] == choice["alphas"][best]
        assert step(volume)["iterations"] == choice["iterations"][best]

    def test_what_has_no_meaning_is_refused(self, pair):
        eds, haadf = pair
        with pytest.raises(ValueError, match="weight='auto'"):
            eds.reconstruct_tv(iterations="auto", **QUIET)
        with pytest.raises(ValueError, match="pass one of them"):
            eds.reconstruct_hebt(haadf, iterations="auto", stopping="discrepancy", **QUIET)
        with pytest.raises(ValueError, match="'auto'"):
            eds.reconstruct_sirt(iterations="many", **QUIET)


@pytest.mark.slow
class TestReconstruct:
    def test_maps_that_explain_the_haadf(self, pair, simulated, capsys):
        eds, haadf = pair
        volume = eds.reconstruct(haadf, **QUIET)
        said = capsys.readouterr().out
        last = step(volume)
        assert last["step"] == "reconstruct_hebt"
        assert last["chosen"]["haadf"] == "sum"
        assert last["refit"]
        assert said.startswith("reconstruct: TNV of the maps with the HAADF as their sum (R2 0.9")
        assert f"weight {last['weight']:.2g}; refit" in said
        assert error(volume, simulated) < error(eds.reconstruct_tnv(haadf, **QUIET), simulated)
        np.testing.assert_array_equal(mt.rerun(volume, haadf, eds).data, volume.data)

    def test_maps_that_lack_an_element(self, pair, capsys):
        eds, haadf = pair
        silver = mt.TiltSeriesEDS.from_maps(
            {"Ag": eds.array("element", "tilt", "y", "x")[1], "O": 3 * np.ones((31, 8, 40))},
            tilts=eds.tilts,
            pixel_size=eds.pixel_size,
        )
        volume = silver.reconstruct(haadf, **QUIET)
        assert step(volume)["step"] == "reconstruct_tnv"
        assert step(volume)["chosen"]["haadf"] == "channel"
        assert "as one more channel" in capsys.readouterr().out

    def test_a_haadf_of_another_place_is_left_out(self, pair):
        eds, haadf = pair
        moved = haadf.deepcopy()
        moved.data = np.roll(moved.data, 20, axis=-1)
        with pytest.warns(UserWarning, match="does not show what the maps show"):
            volume = eds.reconstruct(moved, **QUIET)
        assert volume.channels == eds.channels

    def test_what_is_asked_for_is_done(self, pair):
        eds, haadf = pair
        volume = eds.reconstruct(haadf, haadf_as="channel", weight=1.4, refit=False, **QUIET)
        given = eds.reconstruct_tnv(haadf, weight=1.4, **QUIET)
        np.testing.assert_array_equal(volume.data, given.data)

    @pytest.mark.parametrize("factor", [1, 100])
    def test_pixels_are_binned_where_finer_ones_say_no_more(self, simulated, monkeypatch, factor):
        monkeypatch.setattr("hyperspy_multitomo.reconstruction.automatic_grid.FEWEST", 20)
        few = simulate(yuan(40, 8), dose=0.002 * factor**2, blur=0, seed=2)
        eds = mt.TiltSeriesEDS.from_maps(
            dict(zip(few.elements, few.maps.transpose(0, 1, 3, 2), strict=True)), tilts=few.tilts
        )
        chosen = step(eds.reconstruct(**QUIET))["chosen"]
        assert chosen["bin"] == (2 if factor == 1 else 1)
        assert chosen["grids"]["bins"] == [2, 1]

    def test_binned_as_asked(self, pair):
        eds, haadf = pair
        volume = eds.reconstruct(haadf, bin=2, weight=1.0, **QUIET)
        ratios = {name: eds.response_ratios[name] / 4 for name in eds.channels}
        given = eds.bin(2).reconstruct_hebt(
            haadf.bin(2), regulariser="tnv", ratios=ratios, refit=True, **QUIET
        )
        np.testing.assert_allclose(volume.data, given.data, rtol=1e-4, atol=1e-5)

    def test_lengths_without_calibration_are_in_recorded_pixels(self, pair, capsys):
        haadf = pair[1]
        images = haadf.array("tilt", "y", "x")
        plain = mt.TiltSeriesHAADF.from_images(images, tilts=haadf.tilts)
        keywords = {"weight": 1.0, "show_progressbar": False}
        volume = plain.reconstruct(bin=2, depth=24.0, width=32.0, **keywords)
        assert volume.data.shape == (12, 4, 16)
        assert "depth 24 px" in capsys.readouterr().out
        given = haadf.reconstruct(bin=2, depth=24 * haadf.pixel_size, width=None, **keywords)
        assert given.data.shape == (12, 4, 20)

    def test_numbers_of_one_pixel_are_not_binned(self, pair):
        eds, haadf = pair
        with pytest.raises(ValueError, match="bin the series first"):
            eds.reconstruct(haadf, bin=2, background=0.1, **QUIET)
        volume = eds.reconstruct(haadf, haadf_gain=2.0, **QUIET)
        assert step(volume)["chosen"]["bin"] == 1

    def test_images(self, pair, capsys):
        volume = pair[1].reconstruct(**QUIET)
        assert step(volume)["step"] == "reconstruct_tv"
        assert capsys.readouterr().out.startswith("reconstruct: TV of the images; weight ")

    def test_no_counts_fall_back_to_weight_1(self, pair):
        eds, haadf = pair
        smooth = eds.smooth(0.8)
        with pytest.warns(UserWarning, match="nothing could be held out"):
            volume = smooth.reconstruct(haadf, **QUIET)
        assert step(volume)["weight"] == 1

    def test_lazy_series(self, pair, monkeypatch):
        monkeypatch.setattr("hyperspy_multitomo.signals.methods.reconstruct_automatically._ROWS", 4)
        eds, haadf = pair
        volume = eds.as_lazy().reconstruct(haadf.as_lazy(), **QUIET)
        assert volume._lazy
        assert step(volume)["weight"] == step(eds.reconstruct(haadf, **QUIET))["weight"]

    def test_bad_calls(self, pair):
        eds, haadf = pair
        with pytest.raises(ValueError, match="needs a HAADF"):
            eds.reconstruct(haadf_as="sum")
        with pytest.raises(ValueError, match="'auto', 'channel' or 'sum'"):
            eds.reconstruct(haadf, haadf_as="both")
        with pytest.raises(ValueError, match="bin"):
            eds.reconstruct(haadf, bin=0)

# SPDX-License-Identifier: GPL-3.0-or-later
"""The second Bregman solve: against an independent solver and a closed form, in every form, its
record, checkpoints and interruption, and the keyword of the methods."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from regularised_series import (
    HAADF_TILTS,
    METHODS,
    QUIET,
    RATIOS,
    eds_of,
    haadf_of,
    relative,
    two_elements,
)

import hyperspy_multitomo as mt
from hyperspy_multitomo.tomography import (
    Checkpoint,
    DataTerm,
    Regulariser,
    TiltGeometry,
    calibrate,
    fused,
    projector,
    run,
    sirt,
    support,
    variational,
    variational_system,
)
from hyperspy_multitomo.tomography.cpu.primal_dual_fused import FusedPrimalDual
from hyperspy_multitomo.tomography.differences import gradient_adjoint
from hyperspy_multitomo.tomography.primal_dual import TextbookPrimalDual

N, SLICES = 6, 2
SCALES = [3.0, 2.0]
MIX = np.array([3.0, 1.0])
A = projector(TiltGeometry([-60.0, -25.0, 0.0, 30.0, 70.0], N))
B = projector(TiltGeometry([-50.0, 10.0, 45.0, 85.0], N))


def truth():
    volume = np.zeros((2, N, N, SLICES), np.float32)
    volume[0, 1:4, 1:4] = 3.0
    volume[1, 3:5, 2:5, 0] = 2.0
    volume[1, 2:4, 4:5, 1] = 2.0
    return volume


COUNTS = np.random.default_rng(0).poisson(A(truth()) + 0.4).astype(np.float32)
IMAGES = np.random.default_rng(1).poisson(B(np.tensordot(MIX, truth(), 1)) + 0.3)
MAPS = DataTerm(A, COUNTS, background=0.4)
SUM = DataTerm(B, IMAGES.astype(np.float32), mix=MIX, background=0.3, weight=0.5)
MASK = np.indices((N, N)).sum(axis=0) > 1
VARIED = np.random.default_rng(3).random((2, N, N, SLICES)).astype(np.float32) + 0.5

# Terms, regulariser, options.
CASES = {
    "tv": ([MAPS], Regulariser(0.8), {}),
    "tgv": ([MAPS], Regulariser(0.8, "tgv", alpha0=0.6), {}),
    "nuclear tv, HAADF as a sum": ([MAPS, SUM], Regulariser(0.8, coupling="nuclear"), {}),
    "tv, mask": ([MAPS], Regulariser(0.8), {"mask": MASK}),
    "uncoupled tv, ls, 2-D": (
        [replace(MAPS, discrepancy="ls")],
        Regulariser(0.8, coupling="uncoupled", dimensions=2),
        {},
    ),
}
MORE = {
    "nuclear tgv, mask (z, x, y)": (
        [MAPS],
        Regulariser(0.8, "tgv", "nuclear"),
        {"mask": np.repeat(MASK[..., None], SLICES, axis=-1)},
    ),
    "signed": ([replace(MAPS, discrepancy="ls")], Regulariser(0.8), {"nonnegative": False}),
    "sum of varied": ([MAPS, replace(SUM, mix=VARIED)], Regulariser(0.8), {}),
}


def iterates_of(case):
    terms, regulariser, options = (CASES | MORE)[case]
    return variational(terms, regulariser, SCALES, **options)


def system_of(case):
    return next(iterates_of(case))._steps.system


class TestProblem:
    @pytest.mark.slow
    @pytest.mark.parametrize("case", list(CASES)[1:])
    def test_agrees_with_an_independent_solver(self, case, monkeypatch):
        from convex_problem import Convex

        # Slopes of so small objects are about 1 per voxel, and so is TGV's field.
        monkeypatch.setattr(variational_system, "FIELD", 0.5)
        iterates = iterates_of(case)
        result = run(iterates, 2000, refit=True)
        steps = next(iterates)._steps
        convex = Convex(steps.system, steps.linear)
        assert steps.objective() == pytest.approx(convex.value, rel=2e-4, abs=2e-3)
        assert relative(result.volume, convex.volume) < 5e-3
        assert -1e-5 < steps.gap() / convex.value < 5e-3

    def test_the_linear_term_is_a_subgradient_at_the_first_solution(self):
        """R(u) >= <q, u> for all u, and equal at the first solution."""
        steps = FusedPrimalDual(system_of("nuclear tv, HAADF as a sum"))
        for _ in range(1500):
            steps.advance()
        u, _, p, *_ = steps.state()
        steps.refit()
        steps.advance()
        linear, system = steps.linear, steps.system
        p = system.norm.project(p, np.float32(system.strength))
        np.testing.assert_allclose(linear, gradient_adjoint(p), atol=1e-5)

        def value(u):
            return system.strength * system.variation(u, None)[0]

        assert np.sum(linear * u) == pytest.approx(value(u), rel=2e-3)
        for seed in range(20):
            other = np.random.default_rng(seed).normal(size=u.shape).astype(np.float32)
            assert np.sum(linear * other) <= value(other)

    def test_a_step_gets_its_height_back(self):
        """The first solve takes lambda/(2 d n) off a step between n and n pixels; the second, of
        which only the sign of the step counts, nothing."""
        n, d, strength, height = 8, 2.0, 1.5, 6.0
        A = projector(TiltGeometry([0.0], 2 * n, (2, 2 * n)))
        data = np.repeat([0.0, height], n)[None, None, :, None]
        terms = [DataTerm(A, data, discrepancy="ls", weight=d)]
        iterates = variational(terms, Regulariser(strength, dimensions=2), [1.0])
        first = run(iterates, 1000).volume[0, :, :, 0]
        expected = np.repeat([0.0, height / 2], n) + strength / (2 * d * n) * np.repeat([1, -1], n)
        np.testing.assert_allclose(first, [expected, expected], atol=5e-3)
        next(iterates).refit()
        second = run(iterates, 1000).volume[0, :, :, 0]
        np.testing.assert_allclose(second, 2 * [np.repeat([0.0, height / 2], n)], atol=5e-3)

    @pytest.mark.slow
    @pytest.mark.parametrize("case", [*CASES, *MORE])
    def test_the_compiled_form_is_that_of_the_textbook(self, case):
        system = system_of(case)
        forms = FusedPrimalDual(system), TextbookPrimalDual(system)
        for steps in forms:
            for iteration in range(30):
                if iteration == 15:
                    steps.refit()
                steps.advance()
        ours, theirs = forms
        assert relative(ours.linear, theirs.linear) < 2e-5
        assert relative(ours.volume, theirs.volume) < 2e-5
        assert ours.objective() == pytest.approx(theirs.objective(), rel=1e-5)
        assert ours.gap() == pytest.approx(theirs.gap(), rel=1e-3)
        for name, value in theirs.residuals.items():
            np.testing.assert_allclose(ours.residuals[name], value, rtol=2e-5)
        for steps in forms:
            steps.close()

    def test_empty_data_stay_empty(self):
        terms = [DataTerm(A, np.zeros_like(COUNTS), background=0.1)]
        result = run(variational(terms, Regulariser(0.5), SCALES), 20, refit=True)
        assert not result.volume.any()


class TestRun:
    def test_it_is_the_same_as_by_hand(self):
        by_hand = iterates_of("tv")
        for iterate in by_hand:
            if iterate.iteration == 30:
                break
        iterate.refit()
        for iterate in by_hand:
            if iterate.iteration == 60:
                break
        result = run(iterates_of("tv"), 30, refit=True)
        np.testing.assert_array_equal(result.volume, iterate.volume)
        assert (result.refitted_at, result.iterations) == (30, 60)
        assert result.measured_at.tolist() == [10, 20, 30, 40, 50, 60]
        assert relative(result.volume, run(iterates_of("tv"), 60).volume) > 0.01

    def test_each_solve_ends_by_the_tolerance(self):
        result = run(iterates_of("tv"), 400, refit=True, tolerance=1e-3)
        first = run(iterates_of("tv"), 400, tolerance=2e-3)
        assert result.refitted_at == first.iterations < 400
        assert result.refitted_at + 30 <= result.iterations < result.refitted_at + 400
        assert result.stopped_by == "tolerance"
        objectives = result.residuals["objective"]
        assert (np.ptp(objectives[-3:]) < 1e-3 * objectives[-1]).all()
        np.testing.assert_array_equal(
            result.residuals["eds"][: len(first.residuals["eds"])], first.residuals["eds"]
        )
        # The data are fitted better than before.
        assert (result.residuals["eds"][-1] < first.residuals["eds"][-1]).all()

    def test_no_iterations(self):
        result = run(iterates_of("tv"), 0, refit=True)
        assert (result.iterations, result.refitted_at) == (0, None)

    def test_fused_with_power_1(self):
        terms, regulariser = [MAPS, SUM], Regulariser(0.8)
        found = run(fused(terms, regulariser, SCALES), 20, refit=True)
        wanted = run(variational(terms, regulariser, SCALES), 20, refit=True)
        np.testing.assert_array_equal(found.volume, wanted.volume)

    def test_solvers_without_it(self):
        with pytest.raises(TypeError, match="has no refit; expected the iterates of"):
            run(sirt(A, COUNTS), 3, refit=True)
        power = fused([MAPS, SUM], Regulariser(0.8), SCALES, power=1.5)
        with pytest.raises(TypeError, match="Relinearised has no refit"):
            run(power, 3, refit=True)

    def test_in_a_box(self, monkeypatch):
        monkeypatch.setattr(support, "LEAST_VOXELS", 100)
        monkeypatch.setattr(support, "_COARSEST", 8)
        A = projector(TiltGeometry(range(-80, 81, 20), 32))
        volume = np.zeros((1, 32, 32, 4), np.float32)
        volume[0, 10:20, 12:22] = 4.0
        terms = [DataTerm(A, np.random.default_rng(0).poisson(A(volume)))]
        small, whole = (
            run(variational(terms, Regulariser(4.0), [4.0], support=box), 60, refit=True)
            for box in (True, False)
        )
        assert small.box is not None
        assert whole.box is None
        assert relative(small.volume, whole.volume) < 0.02


class TestCheckpoint:
    @pytest.fixture
    def kept(self, tmp_path):
        return Checkpoint(tmp_path / "refit.state", every=1e9)

    @staticmethod
    def interrupted(case, iterations, at, kept, **options):
        def stop(iterate):
            if iterate.iteration == at:
                raise KeyboardInterrupt

        with pytest.warns(UserWarning, match=f"this is iteration {at} of {2 * iterations}"):
            return run(
                iterates_of(case), iterations, refit=True, progress=stop, checkpoint=kept, **options
            )

    @pytest.mark.parametrize("at", [7, 12, 13, 19, 24])
    @pytest.mark.parametrize("case", ["tgv", "sum of varied"])
    def test_it_goes_on_in_either_solve_bit_for_bit(self, case, at, kept):
        whole = run(iterates_of(case), 12, refit=True)
        first = self.interrupted(case, 12, at, kept)
        assert first.interrupted
        assert first.refitted_at == (12 if at > 12 else None)
        second = run(iterates_of(case), 12, refit=True, checkpoint=kept, resume=True)
        np.testing.assert_array_equal(second.volume, whole.volume)
        assert (second.refitted_at, second.iterations, second.resumed_at) == (12, 24, at)
        for name, values in whole.residuals.items():
            np.testing.assert_allclose(second.residuals[name], values, rtol=1e-6)

    def test_of_the_textbook(self, kept, monkeypatch):
        path = "hyperspy_multitomo.tomography.forms.fits_lanes"
        monkeypatch.setattr(path, lambda A: False)
        whole = run(iterates_of("tgv"), 5, refit=True)
        self.interrupted("tgv", 5, 7, kept)
        second = run(iterates_of("tgv"), 5, refit=True, checkpoint=kept, resume=True)
        np.testing.assert_array_equal(second.volume, whole.volume)

    def test_each_solve_ends_by_the_tolerance_as_without_the_break(self, kept):
        whole = run(iterates_of("tv"), 400, refit=True, tolerance=1e-3)
        self.interrupted("tv", 400, whole.refitted_at + 15, kept, tolerance=1e-3)
        options = {"refit": True, "tolerance": 1e-3, "checkpoint": kept, "resume": True}
        second = run(iterates_of("tv"), 500, **options)  # more would not have changed the first
        np.testing.assert_array_equal(second.volume, whole.volume)
        assert second.iterations == whole.iterations

    @pytest.mark.parametrize(
        "options", [{"iterations": 15}, {"iterations": 11}, {"tolerance": 1e9}]
    )
    def test_options_that_would_have_ended_the_first_solve_elsewhere(self, options, kept):
        run(iterates_of("tv"), 35, refit=True, checkpoint=kept)
        options = {"iterations": 35 + options.get("iterations", 0)} | (
            {"tolerance": options["tolerance"]} if "tolerance" in options else {}
        )
        with pytest.raises(ValueError, match="second of two solves, and the first ended at iter"):
            run(iterates_of("tv"), refit=True, checkpoint=kept, resume=True, **options)

    def test_without_refit(self, kept):
        run(iterates_of("tv"), 5, refit=True, checkpoint=kept)
        with pytest.raises(ValueError, match="is of a run with refit=True"):
            run(iterates_of("tv"), 5, checkpoint=kept, resume=True)
        with pytest.raises(ValueError, match="iteration 5 of the refit, beyond the 4"):
            run(iterates_of("tv"), 4, refit=True, checkpoint=kept, resume=True)


SERIES = two_elements()
FEW = QUIET | {"iterations": 12, "tolerance": None}


class TestMethods:
    @pytest.mark.parametrize("method", ["tv", "tgv", "tnv"])
    def test_it_is_two_solves_at_the_weight_that_means_as_much(self, method):
        eds = eds_of(SERIES)
        volume = getattr(eds, f"reconstruct_{method}")(refit=True, weight=2.0, **FEW)
        A = projector(TiltGeometry(eds.tilts, 24, pixel_size=0.5))
        found = calibrate(
            [DataTerm(A, eds.array("element", "tilt", "x", "y"))],
            2,
            **METHODS[method],
            weight=2.0,
        )
        regulariser = found.regulariser.for_refit()
        assert regulariser.weight == 2.5 * found.regulariser.weight
        expected = run(variational(found.terms, regulariser, found.scales), 12, refit=True).volume
        assert relative(volume.array("element", "z", "x", "y"), expected) < 1e-5
        step = volume.history[-1]
        assert step["refit"] is True
        assert (step["refitted_at"], step["iterations"], step["max_iterations"]) == (12, 24, 12)
        assert step["calibration"]["regulariser_weight"] == pytest.approx(regulariser.weight)
        assert volume.residuals["iteration"].tolist() == [10, 20]

    @pytest.mark.slow
    def test_weight_auto_is_that_of_a_single_solve(self):
        eds = eds_of(SERIES, 0.5)
        plain, twice = (
            eds.reconstruct_tv(weight="auto", refit=refit, **FEW).history[-1]
            for refit in (False, True)
        )
        assert twice["weight"] == plain["weight"]
        assert twice["weight_choice"] == plain["weight_choice"]
        weights = (step["calibration"]["regulariser_weight"] for step in (twice, plain))
        assert next(weights) == pytest.approx(2.5 * next(weights))

    @pytest.mark.slow
    def test_it_is_truer(self):
        """Of either side the best weight is taken, at 5 counts per pixel."""
        eds, haadf = eds_of(SERIES, 0.3), haadf_of(SERIES)
        options = QUIET | {"iterations": 200}

        def least(refit):
            volumes = (
                eds.reconstruct_tnv(haadf, weight=weight, refit=refit, **options)
                for weight in (0.7, 1.0, 1.4, 2.0)
            )
            return min(
                relative(v.array("element", "z", "x", "y")[:2], 0.3 * SERIES) for v in volumes
            )

        assert least(True) < 0.95 * least(False)

    @pytest.mark.parametrize(
        "call",
        [
            lambda eds, haadf, **how: eds.reconstruct_tv(haadf, refit=True, **how),
            lambda eds, haadf, **how: haadf.reconstruct_tgv(refit=True, **how),
            lambda eds, haadf, **how: eds.reconstruct_hebt(
                haadf, regulariser="tnv", rest=True, ratios=RATIOS, refit=True, **how
            ),
            lambda eds, haadf, **how: eds.reconstruct_fused(
                haadf, regulariser="tv", refit=True, **how
            ),
        ],
        ids=["tv with haadf", "images", "hebt with rest", "fused"],
    )
    def test_rerun_and_script(self, call):
        eds, haadf = eds_of(SERIES), haadf_of(SERIES, HAADF_TILTS)
        volume = call(eds, haadf, **FEW)
        made_of = volume.history[-1]["made_of"]
        given = {"eds": eds if "maps" in made_of else None, "haadf": haadf}
        again = mt.rerun(volume, **given)
        np.testing.assert_array_equal(again.data, volume.data)
        script = volume.to_script()
        assert "    refit=True,\n" in script
        names = {"eds": eds, "haadf": haadf}
        lines = [line for line in script.splitlines() if " = ...  # " not in line]
        exec("\n".join(lines), names)
        np.testing.assert_array_equal(names["volume"].data, volume.data)

    def test_an_interrupted_run_is_not_made_again(self):
        def stop(iterate):
            if iterate.iteration == 15:
                raise KeyboardInterrupt

        haadf = haadf_of(SERIES)
        with pytest.warns(UserWarning, match="this is iteration 15 of 24"):
            volume = haadf.reconstruct_tv(refit=True, **(FEW | {"show_progressbar": stop}))
        for again in (lambda: mt.rerun(volume, haadf), volume.to_script):
            with pytest.raises(ValueError, match=r"after 15 iterations, in the second of its two"):
                again()

    @pytest.mark.slow
    def test_lazy_slabs(self, tmp_path):
        series = np.tile(SERIES, (1, 1, 1, 4))
        options = FEW | {"refit": True, "overlap": 8}
        whole = eds_of(series).reconstruct_tv(**options)
        lazy = eds_of(series, lazy=True)
        slabs = lazy.reconstruct_tv(chunks=10, checkpoint=tmp_path / "slabs", **options)
        assert slabs.history[-1]["refit"] is True
        found = slabs.data.compute()
        assert relative(found, whole.data) < 5e-3
        again = lazy.reconstruct_tv(resume=tmp_path / "slabs", **options)
        np.testing.assert_array_equal(again.data.compute(), found)
        plain = lazy.reconstruct_tv(resume=tmp_path / "slabs", **(options | {"refit": False}))
        with pytest.raises(ValueError, match="`refit` is false and was true"):
            plain.data.compute()

    def test_a_checkpoint_from_before_is_resumed_without(self, tmp_path, monkeypatch):
        """It knows nothing of the keyword."""
        from hyperspy_multitomo.reconstruction import checkpoint_store

        def without(*arguments):
            key = run_key(*arguments)
            assert key.pop("refit") is False
            return key

        run_key = checkpoint_store.run_key
        eds, path = eds_of(SERIES), tmp_path / "old.state"
        with monkeypatch.context() as before:
            before.setattr("hyperspy_multitomo.reconstruction.run.run_key", without)
            eds.reconstruct_tv(checkpoint=path, **(FEW | {"iterations": 5}))
        volume = eds.reconstruct_tv(resume=path, **FEW)
        np.testing.assert_array_equal(volume.data, eds.reconstruct_tv(**FEW).data)

    def test_its_plan(self):
        eds = eds_of(SERIES)
        plain, twice = (
            eds.plan_reconstruction("tnv", refit=refit, **FEW) for refit in (False, True)
        )
        assert (plain.iterations, twice.iterations) == (12, 24)
        # One number more for each voxel of each of the two channels.
        lanes = twice.memory - plain.memory
        assert lanes % (4 * 2 * 24 * 24) == 0
        assert lanes > 0

    def test_starts_and_masks(self):
        eds, mask = eds_of(SERIES), np.ones((24, 5, 24), bool)
        mask[:, :, :4] = False
        start = eds.reconstruct_sirt(5, **QUIET)
        volume = eds.reconstruct_tgv(mask=mask, initial=start, refit=True, **FEW)
        assert not volume.array("element", "z", "x", "y")[:, :, :4].any()
        assert volume.data.any()

    def test_what_has_none(self):
        eds, haadf = eds_of(SERIES), haadf_of(SERIES)
        with pytest.raises(ValueError, match="refit= belongs to HEBT with a regulariser"):
            eds.reconstruct_hebt(haadf, ratios=RATIOS, refit=True, **QUIET)
        with pytest.raises(ValueError, match="refit=True is for power=1, and power is 1.4"):
            eds.reconstruct_fused(haadf, regulariser="tv", power=1.4, refit=True, **QUIET)
        with pytest.raises(TypeError, match="refit"):
            eds.reconstruct_sirt(5, refit=True, **QUIET)
        with pytest.raises(ValueError, match="refit='twice' must be True or False"):
            eds.reconstruct_tv(refit="twice", **QUIET)

    @pytest.mark.slow
    def test_the_panel(self):
        from hyperspy_multitomo.widgets.reconstruction_panel import ReconstructionPanel

        eds = eds_of(SERIES)
        panel = ReconstructionPanel(eds, method="tv", iterations=12, threaded=False, refit=True)
        assert "    refit=True,\n" in panel.python
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            panel.apply()
        expected = eds.reconstruct_tv(iterations=12, refit=True, **QUIET)
        np.testing.assert_array_equal(panel.result.data, expected.data)
        panel.refit = False
        assert "refit" not in panel.python

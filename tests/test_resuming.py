# SPDX-License-Identifier: GPL-3.0-or-later
"""Resuming: every solver goes on bit for bit, whatever stopped it, its stopping rules with it."""

import subprocess
import sys
from importlib import import_module
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from interrupts import interrupt_after
from solver_cases import (
    COARSE,
    FEW,
    SOLVERS,
    TILTS,
    A,
    B,
    assert_same,
    counts,
    maps,
    penalised,
    textbook,
)

from hyperspy_multitomo.tomography import (
    Checkpoint,
    DataTerm,
    TiltGeometry,
    cgls,
    counting_noise,
    em,
    projector,
    run,
    sirt,
)
from hyperspy_multitomo.tomography.iterates import iterates_of
from hyperspy_multitomo.tomography.steps import Steps, TextbookSteps


def resumed(make, kept, parts, **rule):
    """Run in parts, each time with iterates that are made anew."""
    for number, iterations in enumerate(parts):
        result = run(make(), iterations, checkpoint=kept, resume=number > 0, **rule)
    return result


@pytest.fixture
def kept(tmp_path):
    return Checkpoint(tmp_path / "run.state")


class TestExactly:
    @pytest.mark.slow
    @pytest.mark.parametrize("form", ["fused", "textbook"])
    @pytest.mark.parametrize("name", SOLVERS)
    def test_every_solver_goes_on(self, kept, name, form):
        """The parts end before, at and after measurements and new tangents,
        and where a slice of CGLS has just been exhausted."""
        make = SOLVERS[name] if form == "fused" else textbook(SOLVERS[name])
        assert type(next(make())._steps).__name__.startswith(
            ("Textbook", "Re") if form == "textbook" else ("Fused", "Re")
        )
        few = name.startswith(("cgls", "sirt", "hebt", "em"))
        parts = (3, 5, 8) if few else (9, 20, 27)
        result = resumed(make, kept, parts)
        assert_same(result, run(make(), parts[-1]))
        assert result.resumed_at == parts[1]

    @pytest.mark.slow
    @pytest.mark.parametrize("name", SOLVERS)
    def test_on_any_number_of_threads(self, kept, monkeypatch, name):
        """Bit for bit: the last slabs of a run, and those of other workers,
        have other numbers of them."""
        found = []
        for threads in (1, 2, 5):
            for each in (A, B, FEW, COARSE):
                monkeypatch.setattr(each, "threads", threads)
            found.append(run(SOLVERS[name](), 9))
            run(SOLVERS[name](), threads + 3, checkpoint=kept, resume=threads > 1)
        found.append(run(SOLVERS[name](), 9, checkpoint=kept, resume=True))
        for other in found[1:]:
            np.testing.assert_array_equal(other.volume, found[0].volume)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "solver", [sirt, cgls, em, lambda A, data: penalised(DataTerm(A, data))]
    )
    def test_on_any_number_of_threads_that_share_many_rows(self, solver):
        data = np.random.default_rng(4).poisson(3.0, (2, 9, 96, 64)).astype(np.float32)
        found = [
            run(solver(projector(TiltGeometry(TILTS, 96), threads=threads), data), 6).volume
            for threads in (1, 2, 5)
        ]
        for other in found[1:]:
            np.testing.assert_array_equal(other, found[0])

    def test_an_exhausted_case_is_one(self):
        exhausted = [
            iterate._steps._exhausted.copy() for iterate in islice(SOLVERS["cgls, exhausted"](), 6)
        ]
        assert not exhausted[1][..., :5].any()
        assert exhausted[5].all()

    def test_astra(self, kept):
        """Its projections and volumes lie in memory in other orders."""
        pytest.importorskip("astra", reason="astra-toolbox is not installed")
        C = projector(A.geometry, "astra_cpu")
        for number, make in enumerate(
            (lambda: sirt(C, counts()), lambda: cgls(C, counts()), lambda: penalised(maps(C)))
        ):
            kept.path = kept.path.with_name(f"{number}.state")
            assert_same(resumed(make, kept, (4, 11)), run(make(), 11))

    def test_slices_of_any_number_of_lanes(self, kept, monkeypatch):
        """The file knows nothing of the lanes:
        what was saved with 64 goes on with 16, to rounding."""
        for number, make in enumerate(
            (SOLVERS["tgv"], SOLVERS["cgls, two groups"], SOLVERS["sirt"])
        ):
            kept.path = kept.path.with_name(f"{number}.state")
            run(make(), 6, checkpoint=kept)
            expected = run(make(), 9).volume
            with monkeypatch.context() as patch:
                for name in ("cpu.primal_dual_fused", "cgls"):
                    patch.setattr(
                        import_module(f"hyperspy_multitomo.tomography.{name}"),
                        "lane_count",
                        lambda slices: 16,
                    )
                one_width = lambda slices, channels: [(0, slices, 16)]  # noqa: E731
                patch.setattr("hyperspy_multitomo.tomography.cpu.stacked.blocks", one_width)
                found = run(make(), 9, checkpoint=kept, resume=True).volume
            assert np.linalg.norm(found - expected) < 1e-5 * np.linalg.norm(expected)

    def test_held_channels(self, kept):
        """Before, at and after the iteration at which the first channel gets to the noise,
        and just before the end."""
        make, noise = SOLVERS["sirt"], counting_noise(counts(slices=70)) * [1.0, 1.1]
        expected = run(make(), 300, noise=noise)
        assert expected.stopped_by == "discrepancy"
        fewer = int(expected.channel_iterations.min())
        assert fewer < expected.iterations - 2
        for number, first in enumerate((fewer - 1, fewer, fewer + 1, expected.iterations - 1)):
            kept.path = kept.path.with_name(f"{number}.state")
            assert_same(resumed(make, kept, (first, 300), noise=noise), expected)

    @pytest.mark.parametrize("form", ["fused", "textbook"])
    @pytest.mark.parametrize("name", ["em", "cgls"])
    def test_held_channels_of_other_solvers(self, kept, name, form):
        make = SOLVERS[name] if form == "fused" else textbook(SOLVERS[name])
        iterates = make()
        next(iterates).hold([False, True])
        result = run(iterates, 3, checkpoint=kept)
        assert result.channel_iterations.tolist() == [3, 0]
        expected = make()
        next(expected).hold([False, True])
        found = run(make(), 6, checkpoint=kept, resume=True)
        np.testing.assert_array_equal(found.volume, run(expected, 6).volume)
        assert found.channel_iterations.tolist() == [6, 0]

    @pytest.mark.parametrize(
        ("name", "tolerance"), [("sirt", 2e-3), ("tv", 0.05), ("power, tv", 0.05)]
    )
    def test_tolerance(self, kept, name, tolerance):
        make = SOLVERS[name]
        expected = run(make(), 400, tolerance=tolerance)
        assert expected.stopped_by == "tolerance"
        first = expected.iterations - 3
        assert_same(resumed(make, kept, (first, 400), tolerance=tolerance), expected)
        assert_same(run(make(), 400, tolerance=tolerance, checkpoint=kept, resume=True), expected)

    def test_a_tighter_tolerance_goes_on(self, kept):
        make = SOLVERS["sirt"]
        run(make(), 400, tolerance=1e-2, checkpoint=kept)
        expected = run(make(), 400, tolerance=2e-3)
        assert_same(run(make(), 400, tolerance=2e-3, checkpoint=kept, resume=True), expected)

    def test_a_finished_run_is_there_at_once(self, kept):
        make, seen = SOLVERS["tv"], []
        expected = run(make(), 12, checkpoint=kept)
        before = kept.path.stat().st_mtime_ns
        result = run(make(), 12, checkpoint=kept, resume=True, progress=seen.append)
        assert_same(result, expected)
        assert (seen, result.resumed_at, kept.path.stat().st_mtime_ns) == ([], 12, before)

    def test_a_second_run_of_the_same_iterates(self, kept):
        """Iterations are counted from where the run began."""
        iterates = SOLVERS["sirt"]()
        run(iterates, 3)
        result = run(iterates, 4, checkpoint=kept)
        assert result.iterations == 7
        result = run(SOLVERS["sirt"](), 6, checkpoint=kept, resume=True)
        assert (result.iterations, result.resumed_at, len(result.residuals["eds"])) == (9, 7, 6)
        np.testing.assert_array_equal(result.volume, run(SOLVERS["sirt"](), 9).volume)

    def test_progress_sees_each_iterate_once(self, kept):
        seen = []
        for iterations in (3, 6):
            run(
                SOLVERS["em"](), iterations, checkpoint=kept, resume=iterations > 3,
                progress=lambda iterate: seen.append(iterate.iteration),
            )  # fmt: skip
        assert seen == [1, 2, 3, 4, 5, 6]

    def test_objective_and_gap(self, kept):
        """What is computed on request, from the rays too."""
        make = SOLVERS["tgv, sum"]
        run(make(), 15, checkpoint=kept)
        iterates, straight = make(), make()
        run(iterates, 15, checkpoint=kept, resume=True)
        run(straight, 15)
        found, expected = next(iterates), next(straight)
        assert (found.objective, found.gap, found.iteration) == (
            expected.objective,
            expected.gap,
            16,
        )


class TestSnapshot:
    @pytest.mark.parametrize("name", SOLVERS)
    def test_arrays_are_in_the_order_of_the_numerics(self, name):
        iterate = next(islice(SOLVERS[name](), 3, None))
        whole = iterate.snapshot()
        volume = iterate.volume.shape
        for entry, array in whole.items():
            assert type(array) is np.ndarray
            assert array.dtype != object
            if array.ndim >= 4:
                assert array.dtype == np.float32, entry
                assert array.shape[-3:] == volume[-3:] or array.shape[1] in (2, 9, 11), entry

    def test_a_snapshot_does_not_change(self):
        iterates = SOLVERS["tgv"]()
        iterate = next(islice(iterates, 3, None))
        whole = iterate.snapshot()
        copies = {name: array.copy() for name, array in whole.items()}
        next(iterates)
        for name, array in whole.items():
            np.testing.assert_array_equal(array, copies[name])

    def test_back_and_forth(self):
        """One that went on, with channels held, is put back."""
        for make in (SOLVERS["sirt"], textbook(SOLVERS["sirt"]), SOLVERS["em"], SOLVERS["cgls"]):
            iterates = make()
            iterate = next(islice(iterates, 2, None))
            whole = iterate.snapshot()
            expected = next(islice(iterates, 2, None)).volume
            iterate.hold([True, False])
            next(iterates)
            iterate.restore(whole)
            assert iterate.iteration == 2
            np.testing.assert_array_equal(next(islice(iterates, 2, None)).volume, expected)

    def test_solvers_without_it_say_so_before_they_begin(self, kept):
        class Plain(TextbookSteps):
            _arrays, _put = Steps._arrays, Steps._put

        steps = Plain(next(SOLVERS["sirt"]())._steps.system)
        with pytest.raises(NotImplementedError, match="the state of Plain cannot be kept"):
            run(iterates_of(steps, True), 3, checkpoint=kept)
        assert steps.iteration == 0
        assert not kept.path.exists()


class TestInterrupted:
    @pytest.mark.slow
    @pytest.mark.parametrize("delay", [0.05, 0.11, 0.173])
    def test_interrupted_within_an_iteration(self, kept, delay):
        """Whenever it comes, the run goes on from there as if nothing had been."""
        wide = projector(TiltGeometry(TILTS, 96))
        data = np.random.default_rng(4).random((9, 96, 64), np.float32)
        make = [lambda: sirt(wide, data), lambda: cgls(wide, data), lambda: em(wide, data)][
            int(100 * delay) % 3
        ]
        run(make(), 1)
        with interrupt_after(delay) as begin, pytest.warns(UserWarning, match="interrupted"):
            result = run(
                make(),
                10**6,
                checkpoint=kept,
                progress=lambda iterate: iterate.iteration == 1 and begin(),
            )
        assert result.interrupted
        done = result.iterations
        assert done == len(result.residuals["eds"]) > 0
        assert_same(run(make(), done + 3, checkpoint=kept, resume=True), run(make(), done + 3))

    @pytest.mark.slow
    @pytest.mark.parametrize("finished", [True, False])
    @pytest.mark.parametrize("at", [9, 10, 14])
    @pytest.mark.parametrize("name", ["tv", "power, tgv"])
    def test_interrupted_within_a_step_of_a_step(self, kept, name, at, finished):
        """A step under way is left out or finished;
        that of a tangent's solver may be finished when its owner's is not."""
        iterates = SOLVERS[name]()
        steps = next(iterates)._steps
        inner = getattr(steps, "_solver", steps)
        advance = inner.advance

        def interrupted():
            last = inner.iteration == at
            if last and not finished:
                steps.cancel()
            advance()
            if last:
                assert inner.iteration == at + finished
                raise KeyboardInterrupt

        inner.advance = interrupted
        with pytest.warns(
            UserWarning, match=f"iteration {at + (finished and inner is steps)} of 30"
        ):
            run(iterates, 30, checkpoint=kept)
        assert_same(
            run(SOLVERS[name](), 30, checkpoint=kept, resume=True), run(SOLVERS[name](), 30)
        )


@pytest.mark.slow
def test_tgv_goes_on_in_another_process(kept):
    """Begun in one process, finished in this one."""
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from solver_cases import SOLVERS
from hyperspy_multitomo.tomography import Checkpoint, run
run(SOLVERS["tgv"](), 34, checkpoint=Checkpoint({str(kept.path)!r}))
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
    result, expected = (
        run(SOLVERS["tgv"](), 90, checkpoint=kept, resume=True),
        run(SOLVERS["tgv"](), 90),
    )
    assert result.resumed_at == 34
    np.testing.assert_array_equal(result.measured_at, np.arange(10, 91, 10))
    np.testing.assert_allclose(
        result.residuals["objective"], expected.residuals["objective"], rtol=1e-5
    )
    assert np.linalg.norm(result.volume - expected.volume) <= 1e-5 * np.linalg.norm(expected.volume)

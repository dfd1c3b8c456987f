"""Numbers below the smallest normal float:
none where our numerics run, and all of them where the user's own do."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from solver_cases import SOLVERS, A, assert_same, counts, textbook

from hyperspy_multitomo.alignment import Alignment, projection_matching_shifts, refine, refinement
from hyperspy_multitomo.machine import denormals
from hyperspy_multitomo.machine.denormals import denormals_flushed, denormals_kept, flush_denormals
from hyperspy_multitomo.machine.parallel import Workers
from hyperspy_multitomo.simulation import misaligned
from hyperspy_multitomo.tomography import calibrate, em, run, sirt
from hyperspy_multitomo.tomography.cpu import lanes
from hyperspy_multitomo.tomography.variational import DataTerm

TINY = np.finfo(np.float32).tiny
known = pytest.mark.skipif(
    denormals._REGISTER is None, reason="the mode of this machine's processor is not known"
)


def kept():
    """Whether this thread computes with denormals: as numbers, and as inputs."""
    halves = np.full(100, TINY) * np.float32(0.5)
    return bool((halves > 0).all() and (halves * np.float32(2) == TINY).all())


def denormal(array):
    return int(((array != 0) & (np.abs(array) < np.finfo(array.dtype).tiny)).sum())


def arrays_of(held, seen):
    """Yield all float arrays that an object of ours holds."""
    if id(held) in seen:
        return
    seen[id(held)] = held
    if isinstance(held, np.ndarray):
        held = held["lanes"] if held.dtype.names else held
        if held.dtype.kind == "f":
            yield held
    elif isinstance(held, list | tuple | dict):
        for item in held.values() if isinstance(held, dict) else held:
            yield from arrays_of(item, seen)
    elif type(held).__module__.startswith("hyperspy_multitomo"):
        for item in vars(held).values():
            yield from arrays_of(item, seen)


class Zeroed:
    """NumPy, but that no array begins with what was in the memory before, which may be anything."""

    empty = staticmethod(np.zeros)

    def __getattr__(self, name):
        return getattr(np, name)


@known
def test_flushing_is_the_threads_own_and_ends():
    with ThreadPoolExecutor(1) as before:
        assert before.submit(kept).result()
        assert kept()
        with denormals_flushed():
            assert not kept()
            with denormals_flushed():
                assert not kept()
            assert not kept()
            assert before.submit(kept).result()
            assert denormals_kept(kept)()
            assert not kept()
        assert kept()
        with pytest.raises(KeyboardInterrupt), denormals_flushed():
            raise KeyboardInterrupt
        assert kept()
    assert denormals_kept(None) is None


@known
@pytest.mark.parametrize("threads", [1, 3])
def test_tasks_run_without_denormals(threads):
    found = []
    with Workers(threads) as workers:
        workers.run(lambda _: found.append(kept()), [(k,) for k in range(9)])
        assert found == 9 * [False]
        with pytest.raises(ZeroDivisionError):
            workers.run(lambda k: 1 / k, [(0,)])
    assert kept()


@known
def test_solver_leaves_the_arithmetic_of_users_alone():
    """The calls that it makes, pools started before and after, and those of BLAS,
    which a large product needs."""
    found = []
    before = ThreadPoolExecutor(2)
    assert all(before.map(lambda _: kept(), range(4)))
    result = run(em(A, counts()), 3, progress=lambda iterate: found.append(kept()))
    calibrate([DataTerm(A, counts())], 2, kind="tv")
    assert result.iterations == 3
    assert found == 3 * [True]
    assert kept()
    with before, ThreadPoolExecutor(4) as after:
        for pool in (before, after):
            assert all(pool.map(lambda _: kept(), range(8)))
    product = np.full((400, 400), 1e-20, np.float32) @ np.full((400, 400), 1e-22, np.float32)
    np.testing.assert_allclose(product, 4e-40, rtol=1e-3)


@pytest.mark.slow
@known
@pytest.mark.parametrize("form", ["fused", "textbook"])
@pytest.mark.parametrize(
    "name",
    ["em", "cgls", "sirt, masked", "hebt, own tilts", "tv, 2-D", "tgv", "nuclear", "power, tv"],
)
def test_no_denormal_is_left(name, form, monkeypatch):
    monkeypatch.setattr(lanes, "np", Zeroed())
    make = SOLVERS[name] if form == "fused" else textbook(SOLVERS[name])
    iterates = make()
    for iterate in iterates:
        if iterate.iteration == 150:
            break
    held = list(arrays_of(iterate._steps, {}))
    assert len(held) > 5
    assert sum(map(denormal, held)) == 0
    assert denormal(iterate.volume) == 0
    iterates.close()


def without_flushing(monkeypatch):
    monkeypatch.setattr(denormals, "_REGISTER", None)


@known
@pytest.mark.parametrize("name", ["em", "tv, 2-D", "hebt"])
def test_results_are_the_same_without_flushing(name, monkeypatch):
    """EM and TV do make denormals, which makes sure that the test above can fail."""
    flushed = run(SOLVERS[name](), 150)
    without_flushing(monkeypatch)
    plain = run(SOLVERS[name](), 150)
    np.testing.assert_allclose(flushed.volume, plain.volume, rtol=0, atol=1e-6 * plain.volume.max())
    if name == "em":
        assert denormal(plain.volume) > 0


@known
def test_registers_that_are_not_known_are_left_alone(monkeypatch):
    monkeypatch.setattr(denormals.platform, "machine", lambda: "riscv64")
    assert denormals._register() is None
    without_flushing(monkeypatch)
    flush_denormals()
    with denormals_flushed():
        assert kept()
    assert denormals_kept(kept) is kept
    assert_same(run(sirt(A, counts()), 2), run(sirt(A, counts()), 2))


@known
def test_a_register_that_does_not_obey_is_left_alone(monkeypatch):
    monkeypatch.setattr(denormals._Register, "swap", lambda self, wanted: 0)
    assert denormals._register() is None


@pytest.mark.parametrize("solver", [sirt, em])
def test_data_with_denormals_zeros_and_large_numbers(solver):
    data = counts()
    tiny = data.copy()
    tiny[data == 0] = 1e-40
    np.testing.assert_allclose(
        run(solver(A, tiny), 5).volume, run(solver(A, data), 5).volume, rtol=1e-6, atol=1e-30
    )
    assert not run(solver(A, np.zeros_like(data)), 5).volume.any()
    large = run(solver(A, data * np.float32(1e30)), 5).volume
    np.testing.assert_allclose(
        large * np.float32(1e-30), run(solver(A, data), 5).volume, rtol=1e-4, atol=1e-5
    )
    data[0, 0, 0, 0] = np.inf
    with pytest.raises(ValueError, match="finite"):
        solver(A, data)


SERIES = misaligned(
    "needle", size=48, tilts=np.arange(-60.0, 61.0, 10.0), shift=1.0, axis_offset=0.5, rotation=0.0
)
START = Alignment.identity(13)


@pytest.mark.slow
@known
@pytest.mark.parametrize("aligner", [refine, projection_matching_shifts])
def test_aligners_leave_the_arithmetic_of_users_alone(aligner):
    found = []
    with ThreadPoolExecutor(1) as before, ThreadPoolExecutor(2) as jobs:
        assert before.submit(kept).result()
        both = [
            jobs.submit(
                aligner, SERIES.haadf, SERIES.tilts, START, progress=lambda _: found.append(kept())
            )
            for _ in range(2)
        ]
        assert len({job.result().across.tobytes() for job in both}) == 1
        assert before.submit(kept).result()
        assert all(jobs.map(lambda _: kept(), range(4)))
    assert found
    assert all(found)
    assert kept()


@pytest.mark.slow
@known
@pytest.mark.parametrize("specimen", ["needle", "lamella"])
def test_no_denormal_is_left_by_the_search_for_an_alignment(specimen, monkeypatch):
    seen = []
    result = refinement._Problem.result
    monkeypatch.setattr(
        refinement._Problem,
        "result",
        lambda self, *given: [seen.append(self), result(self, *given)][1],
    )
    series = misaligned(specimen, size=64, tilts=SERIES.tilts, shift=1.0)
    found = refine(series.haadf, series.tilts, START)
    held = list(arrays_of(seen, {}))
    assert max(len(array) for array in held if array.ndim == 2) > 100  # of rays by rays
    assert sum(map(denormal, held)) == 0
    assert denormal(found.across) + denormal(found.along) == 0


def test_alignment_is_the_same_without_flushing(monkeypatch):
    flushed = refine(SERIES.haadf, SERIES.tilts, START)
    without_flushing(monkeypatch)
    plain = refine(SERIES.haadf, SERIES.tilts, START)
    np.testing.assert_allclose(flushed.across, plain.across, atol=1e-6)
    np.testing.assert_allclose(flushed.along, plain.along, atol=1e-6)

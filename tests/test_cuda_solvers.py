# SPDX-License-Identifier: GPL-3.0-or-later
"""SIRT, HEBT, EM and FBP on an emulated device and on a real one:
the numbers of the cores, and no more memory than reckoned."""

from importlib.util import module_from_spec, spec_from_file_location
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from emulated_cuda import emulated

from hyperspy_multitomo.tomography import TiltGeometry, em, fbp, hebt, projector, run, sirt
from hyperspy_multitomo.tomography.cuda.memory import device_bytes
from hyperspy_multitomo.tomography.em import _steps_of
from hyperspy_multitomo.tomography.forms import on_device, steps_of

TILTS = [-70, -48, -20, 5, 33, 45, 66]
GEOMETRY = TiltGeometry(TILTS, 16, (12, 16), 0.8, 0.4, [0, 0.3, -0.2, 0, 1, 0, 0])
RATIOS = [5.0, 7.0, 0.0]


def truth(channels, geometry, slices):
    rng = np.random.default_rng(0)
    volume = np.zeros((channels, *geometry.volume_shape, slices), np.float32)
    for channel in range(channels):
        volume[channel, 3:9, 3 + 2 * channel : 9 + 2 * channel] = rng.uniform(1, 3, (6, 6, slices))
    return volume


def steps_in(iterates):
    """Return the steps of a solver that has not begun."""
    return next(iterates)._steps


def make(method, backend, *, binning=1, haadf_binning=1, slices=6, **options):
    """Return the iterates of a method on noisy data, with a projector of this back-end."""
    rng = np.random.default_rng(1)
    geometry = TiltGeometry(TILTS, 16 // binning, (12, 16), 0.8, 0.4 / binning, binning=binning)
    fine = TiltGeometry(
        TILTS, 16 // haadf_binning, (12, 16), 0.8, 0.4 / haadf_binning, binning=haadf_binning
    )
    A, reference = projector(geometry, backend), projector(geometry, "numba")
    data = rng.poisson(8 * reference(truth(3, geometry, slices))).astype(np.float32)
    gains = options.pop("gains", np.ones((3, len(TILTS))))
    if options.pop("masked", False):
        options["mask"] = rng.random((12, 16, slices)) > 0.2
    if method == "hebt":
        if options.pop("other_tilts", False):
            fine = TiltGeometry([-60, -30, 0, 30, 60], 20, (12, 16), 0.8)
        haadf = np.tensordot(RATIOS, projector(fine, "numba")(8 * truth(3, geometry, slices)), 1)
        options |= dict(haadf_projector=projector(fine, backend), gains=gains)
        return hebt(A, gains[..., None, None] * data, haadf, RATIOS, **options)
    if method == "em":
        background = options.pop("background", None)
        return em(
            A,
            gains[..., None, None] * data + (background or 0),
            background=background,
            gains=gains,
            **options,
        )
    return sirt(A, gains[..., None, None] * data, gains=gains, **options)


GAINS = np.array([[1, 0.5, 1, 2, 1, 0, 1], [1] * 7, [0.5] * 7])
CASES = {
    "sirt": ("sirt", {}),
    "sirt, gains and a dead tilt": ("sirt", dict(gains=GAINS)),
    "sirt, mask": ("sirt", dict(masked=True, relaxation=1.5)),
    "sirt, negative values": ("sirt", dict(nonnegative=False, slices=33)),
    "sirt, large pixels": ("sirt", dict(binning=2)),
    "hebt": ("hebt", {}),
    "hebt, rest": ("hebt", dict(rest=True, gains=GAINS)),
    "hebt, squared": ("hebt", dict(weighting="squared", slices=1)),
    "hebt, other tilts": ("hebt", dict(other_tilts=True, masked=True)),
    "hebt, large pixels": ("hebt", dict(binning=2)),
    "hebt, large pixels of both": ("hebt", dict(binning=4, haadf_binning=2, slices=8, rest=True)),
    "em": ("em", {}),
    "em, background": ("em", dict(background=2.0, gains=GAINS)),
    "em, large pixels": ("em", dict(binning=2, masked=True, background=1.0)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_volume_and_the_residuals_are_those_of_the_cores(cuda, name):
    method, options = CASES[name]
    found, expected = (run(make(method, backend, **options), 12) for backend in ("cuda", "numba"))
    assert np.linalg.norm(found.volume - expected.volume) <= 2e-5 * np.linalg.norm(expected.volume)
    assert found.residuals.keys() == expected.residuals.keys()
    for key, values in expected.residuals.items():
        np.testing.assert_allclose(found.residuals[key], values, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("method", ["sirt", "hebt", "em"])
def test_it_runs_on_the_device_alone(machine, method):
    iterates = make(method, "cuda")
    assert type(steps_in(iterates)).__name__ == ("CudaEM" if method == "em" else "CudaSteps")
    before = dict(machine.launches)
    for _ in islice(iterates, 5):
        pass
    assert machine.launches["project"] - before["project"] == 5
    assert machine.launches["back_project"] - before["back_project"] == 5


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sirt", "hebt", "em"])
def test_fifty_iterations(cuda, method):
    found, expected = (
        run(make(method, backend, slices=3), 50).volume for backend in ("cuda", "numba")
    )
    assert np.linalg.norm(found - expected) <= 1e-4 * np.linalg.norm(expected)


def test_two_runs_give_the_same_bits(cuda):
    one, two = (run(make("hebt", "cuda", slices=9), 5) for _ in range(2))
    np.testing.assert_array_equal(one.volume, two.volume)
    np.testing.assert_array_equal(one.residuals["eds"], two.residuals["eds"])


def test_threads_of_a_block_may_run_in_any_order(machine):
    found = []
    for machine.order in (0, 1, 2):
        found.append([run(make(method, "cuda", binning=2), 3) for method in ("hebt", "em")])
    for results in found[1:]:
        for one, other in zip(results, found[0], strict=True):
            np.testing.assert_array_equal(one.volume, other.volume)
            np.testing.assert_array_equal(one.residuals["eds"], other.residuals["eds"])


@pytest.mark.parametrize("method", ["sirt", "em"])
def test_held_channels_stand_still(cuda, method):
    iterates = make(method, "cuda")
    *_, iterate = islice(iterates, 3)
    held = iterate.volume
    iterate.hold([True, False, False])
    *_, iterate = islice(iterates, 3)
    np.testing.assert_array_equal(iterate.volume[0], held[0])
    assert (iterate.volume[1:] != held[1:]).any()
    assert iterate.channel_iterations.tolist() == [2, 5, 5]


@pytest.mark.parametrize("method", ["sirt", "hebt", "em"])
def test_a_run_that_is_resumed_gives_the_same_bits(cuda, method):
    whole = make(method, "cuda")
    *_, iterate = islice(whole, 8)
    first, second = steps_in(make(method, "cuda")), steps_in(make(method, "cuda"))
    for _ in range(3):
        first.advance()
    second.restore(first.snapshot())
    for _ in range(4):
        second.advance()
    assert second.iteration == 7
    np.testing.assert_array_equal(second.volume, iterate.volume)


def test_cancelling_leaves_the_volume_whole(cuda):
    for method in ("sirt", "em"):
        steps = steps_in(make(method, "cuda"))
        steps.advance()
        before = steps.volume
        steps.cancel()
        steps.advance()
        assert steps.iteration == 1
        np.testing.assert_array_equal(steps.volume, before)


class TestMemory:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", CASES)
    def test_what_is_reckoned_is_taken(self, machine, name):
        method, options = CASES[name]
        iterates = make(method, "cuda", **options | {"slices": 96})
        system = steps_in(iterates).system
        del iterates
        start = machine.memory.used
        machine.memory.peak = start
        steps = (_steps_of if method == "em" else steps_of)(system)
        steps.advance()
        haadf = system.haadf_projector
        reckoned = device_bytes(
            method,
            system.A.geometry,
            3,
            96,
            haadf_geometry=None if haadf is None else haadf.geometry,
            rest=system.channels > 3,
            mask=options.get("masked", False),
            background=options.get("background") is not None,
        )
        assert reckoned - 2**16 - 0.03 * reckoned <= machine.memory.peak - start <= reckoned

    @pytest.mark.parametrize("method", ["sirt", "em"])
    def test_a_run_that_does_not_fit_says_so_before_it_begins(self, monkeypatch, machine, method):
        with emulated(monkeypatch, memory=400_000) as small:
            iterates = make(method, "cuda", slices=2)
            del iterates
            small.memory.peak = 0
            with pytest.raises(
                MemoryError,
                match=(
                    r"of 3 channels of 60 slices of 12 x 16 voxels needs about .* "
                    r"backend='numba'"
                ),
            ):
                make(method, "cuda", slices=60)

    def test_unknown_method(self):
        with pytest.raises(ValueError, match="'tgv'.*'sirt'"):
            device_bytes("tgv", GEOMETRY, 1, 1)


class TestForm:
    def test_mixed_projectors_are_not_on_one_device(self, machine):
        ours, theirs = projector(GEOMETRY, "cuda"), projector(GEOMETRY, "numba")
        assert on_device(ours, ours)
        assert not on_device(ours, theirs)
        assert not on_device(theirs)
        other = projector(GEOMETRY, "cuda")
        other.device_id = 1
        assert not on_device(ours, other)

    def test_a_haadf_projector_of_the_cores_is_taken_too(self, machine):
        rng = np.random.default_rng(2)
        A, B = projector(GEOMETRY, "cuda"), projector(GEOMETRY, "numba")
        maps, haadf = rng.random((2, *A.range_shape, 3)), rng.random((*A.range_shape, 3))
        mixed, whole = (
            run(hebt(P, maps, haadf, [1, 2], haadf_projector=B), 3).volume for P in (A, B)
        )
        np.testing.assert_allclose(mixed, whole, rtol=1e-4, atol=1e-6)


class TestFbp:
    @pytest.mark.parametrize("filter", ["ramp", "hann"])
    @pytest.mark.parametrize("binning", [1, 2])
    def test_the_numbers_are_those_of_the_cores(self, cuda, filter, binning):
        geometry = TiltGeometry(TILTS, 16 // binning, (12, 16), 0.8, binning=binning)
        data = np.random.default_rng(3).random((3, len(TILTS), 16 // binning, 5))
        found, expected = (
            fbp(projector(geometry, b), data, filter=filter, gains=GAINS) for b in ("cuda", "numba")
        )
        assert np.linalg.norm(found - expected) <= 3e-6 * np.linalg.norm(expected)

    def test_slices_go_in_batches_that_fit(self, monkeypatch, machine):
        data = np.random.default_rng(4).random((2, len(TILTS), 16, 70))
        expected = fbp(projector(GEOMETRY, "cuda"), data)
        with emulated(monkeypatch, memory=250_000) as small:
            np.testing.assert_allclose(
                fbp(projector(GEOMETRY, "cuda"), data), expected, rtol=1e-6, atol=1e-6
            )
            assert small.launches["back_project"] > 3
            assert small.memory.peak <= 250_000


@pytest.fixture
def benchmark(machine):
    """The script benchmarks/device.py, for a machine with a GPU."""
    path = Path(__file__).resolve().parents[1] / "benchmarks" / "device.py"
    module = module_from_spec(spec := spec_from_file_location("benchmark_device", path))
    spec.loader.exec_module(module)
    return module


class TestBenchmark:
    def test_it_runs_and_finds_agreement(self, benchmark, capsys):
        benchmark.working = lambda names: ["cuda"]
        few = ["--regularised-iterations=2", "--few-slices", "8", "5", "3"]
        benchmark.main(
            ["--size=8", "--tilts=3", "--channels=2", "--iterations=4", "--agreement-size=8", *few]
        )
        first, second = capsys.readouterr().out.split("Times, ")
        rows = [line.split("|")[1:3] for line in first.splitlines() if line.startswith("| ")][1:]
        methods = ["SIRT", "HEBT", "EM", "TV", "TGV", "TNV"]
        assert [row[0].strip() for row in rows] == [
            "W x",
            "W^T y",
            "FBP",
            *methods,
            "mismatch of the adjoint",
        ]
        assert all(float(row[1]) < 1e-5 for row in rows)
        assert "on Emulated" in second
        assert second.count("| cuda |") == 5
        assert second.count("| 8 x 8 x 8 |") == second.count("| 8 x 8 x 5 |") == 3

    def test_it_says_what_is_missing(self, benchmark, machine):
        machine.cuda.runtime.getDeviceCount = lambda: 0
        with pytest.raises(SystemExit, match="finds no device"):
            benchmark.main([])

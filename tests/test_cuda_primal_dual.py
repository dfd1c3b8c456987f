# SPDX-License-Identifier: GPL-3.0-or-later
"""TV, TGV and nuclear TV on the device: the iteration against the textbook,
singular values against NumPy, memory, going on."""

import shutil
import subprocess
import threading
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from singular_values import SPECTRA, matrices, relative

from hyperspy_multitomo.tomography import (
    Checkpoint,
    DataTerm,
    Regulariser,
    TiltGeometry,
    fused,
    projector,
    run,
    variational,
)
from hyperspy_multitomo.tomography.cuda import device
from hyperspy_multitomo.tomography.cuda.primal_dual import (
    CudaPrimalDual,
    VariationKernels,
    system_bytes,
)
from hyperspy_multitomo.tomography.cuda.projector import CudaProjector, DeviceProjector
from hyperspy_multitomo.tomography.forms import primal_dual_of
from hyperspy_multitomo.tomography.functionals import Nuclear
from hyperspy_multitomo.tomography.primal_dual import MEASURED_EVERY, TextbookPrimalDual

ITERATIONS = 20
# Small, because an emulated device takes as long for a block of 256 threads as for the few of them
# that have something to do.
TILTS = np.array([-65.0, -30.0, 0.0, 35.0, 70.0])
SHAPE = (8, 12)
SCALES = [2.0, 0.7]
GAINS = np.linspace(3, 6, len(TILTS))
DEAD = np.where(np.arange(len(TILTS)) == 3, 0, GAINS)
A = projector(
    TiltGeometry(TILTS, 11, SHAPE, 0.5, 0.3, np.linspace(-1, 1, len(TILTS))), "numba", threads=1
)
B = projector(TiltGeometry([-70, -20, 10, 50], 13, SHAPE, 0.5), "numba", threads=1)
COARSE = projector(TiltGeometry(TILTS, 6, SHAPE, 0.5, binning=2), "numba", threads=1)


def truth(slices, channels=2):
    """Overlapping boxes that grow brighter along y, (channel, z, x, y)."""
    volume = np.zeros((2, *SHAPE, slices), np.float32)
    volume[0, 2:6, 3:7] = 2
    volume[1, 3:7, 5:10] = 0.7
    return (volume * np.linspace(0.5, 1.5, slices, dtype=np.float32))[:channels]


def maps_of(A, slices=5, channels=2, gains=GAINS, **more):
    """Counts of the first channels."""
    gains = gains if len(gains) == A.range_shape[0] else np.full(A.range_shape[0], 4.0)
    means = gains[:, None, None] * A(truth(slices * A.geometry.binning, channels)) + more.get(
        "background", 0.0
    )
    return DataTerm(
        A, np.random.default_rng(0).poisson(means).astype(np.float32), gains=gains, **more
    )


def sum_of(B, mix, slices=5, **more):
    """A sum of the channels."""
    factors = np.asarray(mix, np.float32)
    factors = factors if factors.ndim == 4 else factors[:, None, None, None]
    return DataTerm(B, B((factors * truth(slices)).sum(axis=0)), mix=mix, **more)


def system_of(
    terms, kind="tv", coupling="frobenius", dimensions=3, strength=2.0, scales=SCALES, **more
):
    return next(
        variational(terms, Regulariser(strength, kind, coupling, dimensions), scales, **more)
    )._steps.system


def on_device(system):
    """The same problem with projectors of the device."""
    terms = tuple(replace(term, A=CudaProjector(term.A.geometry, 1)) for term in system.terms)
    return replace(system, terms=terms)


def assert_alike(system, iterations=ITERATIONS, tolerance=1e-5, refit_at=None):
    ours, textbook = CudaPrimalDual(on_device(system)), TextbookPrimalDual(system)
    np.testing.assert_array_equal(ours.volume, textbook.volume)
    for iteration in range(iterations):
        if iteration == refit_at:
            ours.refit()
            textbook.refit()
        ours.advance()
        textbook.advance()
    assert relative(ours.volume, textbook.volume) < tolerance
    found, expected = ours.state(), textbook.state()
    for name, mine, theirs in zip("uwpq", found, expected, strict=False):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            assert mine.shape == theirs.shape
            assert relative(mine, theirs) < 2 * tolerance, name
    for mine, theirs in zip(found[4], expected[4], strict=True):
        assert mine.shape == theirs.shape
        assert relative(mine, theirs) < 2 * tolerance
    assert ours.residuals.keys() == textbook.residuals.keys()
    for name, value in textbook.residuals.items():
        np.testing.assert_allclose(ours.residuals[name], value, rtol=2e-5)
    assert ours.objective() == pytest.approx(textbook.objective(), rel=1e-5)
    assert (ours.linear is None) == (refit_at is None)
    if refit_at is not None:
        assert relative(ours.linear, textbook.linear) < tolerance
    ours.advance()  # measuring leaves the state as it was
    textbook.advance()
    assert relative(ours.volume, textbook.volume) < tolerance
    ours.close()
    textbook.close()


inside = np.indices((*SHAPE, 5)).sum(axis=0) < 14
varied = np.random.default_rng(3).random((2, *SHAPE, 5)).astype(np.float32) + 0.5
background = np.random.default_rng(1).random((2, 5, 11, 5)).astype(np.float32)

CASES = {
    "weights, ls": lambda: system_of([maps_of(A, discrepancy="ls", weight=[0.5, 2.0])]),
    "weights": lambda: system_of([maps_of(A, weight=[0.5, 2.0])], kind="tgv"),
    "background": lambda: system_of([maps_of(A, background=background)], coupling="uncoupled"),
    "dead tilt": lambda: system_of([maps_of(A, gains=DEAD, background=0.5)], coupling="nuclear"),
    "mask": lambda: system_of([maps_of(A, background=0.1)], kind="tgv", mask=inside),
    "flat mask": lambda: system_of(
        [maps_of(A, background=0.1)], mask=inside[..., 0], initial=varied
    ),
    "signed": lambda: system_of(
        [maps_of(A, discrepancy="ls")], nonnegative=False, kind="tgv", coupling="nuclear"
    ),
    "not over-relaxed": lambda: system_of([maps_of(A)], kind="tgv", relaxation=1.0),
    "many slices": lambda: system_of([maps_of(A, slices=37)], kind="tgv"),
    "one slice": lambda: system_of([maps_of(A, slices=1)], kind="tgv"),
    "binning": lambda: system_of([maps_of(COARSE, slices=3, background=0.3)], kind="tgv"),
    "own tilts": lambda: system_of(
        [maps_of(A, channels=1), replace(maps_of(B, channels=1), first=1, discrepancy="ls")]
    ),
    "channel without data": lambda: system_of([maps_of(A, channels=1), sum_of(B, [1.0, 3.0])]),
    "sum": lambda: system_of(
        [maps_of(A), sum_of(B, [3.0, 0.0], weight=2.0, background=0.1)], kind="tgv"
    ),
    "sum first": lambda: system_of([sum_of(B, [1.0, 3.0]), maps_of(A)]),
    "sum of varied": lambda: system_of(
        [maps_of(A), sum_of(B, varied, discrepancy="ls")], coupling="nuclear"
    ),
}


@pytest.mark.usefixtures("cuda")
class TestAgainstTextbook:
    @pytest.mark.slow
    @pytest.mark.parametrize("discrepancy", ["kl", "ls"])
    @pytest.mark.parametrize("dimensions", [2, 3])
    @pytest.mark.parametrize("coupling", ["uncoupled", "frobenius", "nuclear"])
    @pytest.mark.parametrize("kind", ["tv", "tgv"])
    def test_regularisers(self, kind, coupling, dimensions, discrepancy):
        assert_alike(system_of([maps_of(A, discrepancy=discrepancy)], kind, coupling, dimensions))

    @pytest.mark.slow
    @pytest.mark.parametrize("case", CASES)
    def test_cases(self, case):
        assert_alike(CASES[case](), MEASURED_EVERY)

    @pytest.mark.slow
    @pytest.mark.parametrize("coupling", ["uncoupled", "frobenius", "nuclear"])
    @pytest.mark.parametrize("channels", [1, 5])
    def test_numbers_of_channels(self, channels, coupling):
        term = maps_of(A)
        data = np.concatenate([term.data, term.data[::-1] + 1, term.data])[:channels]
        assert_alike(
            system_of(
                [replace(term, data=data)], "tgv", coupling, scales=np.arange(channels) + 1.0
            ),
            MEASURED_EVERY,
        )

    def test_gap(self):
        system = system_of([maps_of(A)], "tgv")
        ours, textbook = CudaPrimalDual(on_device(system)), TextbookPrimalDual(system)
        for _ in range(10):
            ours.advance()
            textbook.advance()
        assert ours.gap() == pytest.approx(textbook.gap(), rel=1e-3)


class TestOrder:
    def test_threads_in_any_order_give_the_same_bits(self, machine):
        found = []
        for order in (0, 1, 2):
            machine.order = order
            ours = CudaPrimalDual(
                on_device(system_of([maps_of(A), sum_of(B, varied)], "tgv", "nuclear"))
            )
            for _ in range(MEASURED_EVERY):
                ours.advance()
            found.append((ours.volume, ours.residuals["objective"]))
        for volume, objective in found[1:]:
            np.testing.assert_array_equal(volume, found[0][0])
            assert objective == found[0][1]


@pytest.mark.usefixtures("cuda")
class TestRefit:
    @pytest.mark.parametrize("case", ["mask", "channel without data", "sum of varied"])
    def test_agrees_with_the_textbook(self, case):
        assert_alike(CASES[case](), refit_at=10)

    def test_from_a_snapshot_of_the_second_solve_bit_for_bit(self):
        whole, second = (CudaPrimalDual(on_device(CASES["sum"]())) for _ in range(2))
        for iteration in range(12):
            if iteration == 5:
                whole.refit()
            if iteration == 8:
                second.restore(whole.snapshot())
            whole.advance()
        for _ in range(4):
            second.advance()
        np.testing.assert_array_equal(second.volume, whole.volume)
        assert second.refitted_at == 5

    def test_its_memory(self, machine):
        system = on_device(CASES["weights"]())
        system.volume_steps, system.data_steps  # found by projecting on the device  # noqa: B018
        machine.memory.peak = before = machine.memory.used
        ours = CudaPrimalDual(system)
        ours.refit()
        for _ in range(MEASURED_EVERY):
            ours.advance()
        taken, reckoned = machine.memory.peak - before, system_bytes(system, refit=True)
        assert reckoned / 1.02 - 4096 <= taken <= reckoned * 1.01 + 4096


@pytest.mark.usefixtures("cuda")
class TestGoingOn:
    @pytest.mark.parametrize("kind", ["tv", "tgv"])
    def test_with_other_factors(self, kind):
        """The tangents of a power law: factors per voxel and a background come in,
        the volume starts where it is told to."""
        terms = [maps_of(A), sum_of(B, [1.0, 3.0])]
        system = system_of(terms, kind)
        other = system.with_mix(varied + 1, np.full_like(terms[1].data, 0.2)[None])
        ours, textbook = CudaPrimalDual(on_device(system)), TextbookPrimalDual(system)
        for steps, same, changed in (
            (ours, on_device(system), on_device(other)),
            (textbook, system, other),
        ):
            for _ in range(5):
                steps.advance()
            u, w = steps.state()[:2]
            steps.continue_with(changed, u * 0.9, None if w is None else w * 0.9)
            steps.advance()
            steps.continue_with(same)
            for _ in range(5):
                steps.advance()
        for mine, theirs in zip(ours.state()[:4], textbook.state()[:4], strict=True):
            assert mine is theirs is None or relative(mine, theirs) < 2e-5

    @pytest.mark.slow
    def test_fused_with_a_power(self):
        def volume(first, second):
            terms = [
                replace(maps_of(A, gains=np.ones(5)), A=first),
                replace(sum_of(B, [1.0, 3.0]), A=second),
            ]
            iterates = fused(terms, Regulariser(2.0, "tgv"), SCALES, power=1.4)
            return run(iterates, 30).volume

        ours = volume(CudaProjector(A.geometry), CudaProjector(B.geometry))
        assert relative(ours, volume(A, B)) < 1e-4

    @pytest.mark.parametrize(("kind", "joined"), list(product(["tv", "tgv"], [False, True])))
    def test_from_a_snapshot_bit_for_bit(self, kind, joined):
        system = on_device(system_of([maps_of(A)] + joined * [sum_of(B, varied)], kind))
        whole, first, second = (CudaPrimalDual(system) for _ in range(3))
        for _ in range(14):
            whole.advance()
        for _ in range(7):
            first.advance()
        second.restore(first.snapshot())
        for _ in range(7):
            second.advance()
        np.testing.assert_array_equal(second.volume, whole.volume)
        for name, value in whole.residuals.items():
            np.testing.assert_array_equal(second.residuals[name], value)

    def test_from_a_checkpoint(self, tmp_path):
        terms = [replace(maps_of(A), A=CudaProjector(A.geometry))]

        def iterates():
            return variational(terms, Regulariser(2.0, "tgv"), SCALES)

        path = tmp_path / "run.npz"
        run(iterates(), 6, checkpoint=Checkpoint(path, every=0))
        resumed = run(iterates(), 15, checkpoint=Checkpoint(path, every=0), resume=True)
        np.testing.assert_array_equal(resumed.volume, run(iterates(), 15).volume)


class TestMemory:
    @pytest.mark.parametrize(
        "case",
        [
            "background",
            "mask",
            "binning",
            "many slices",
            "one slice",
            "own tilts",
            "sum",
            "sum of varied",
            "weights",
        ],
    )
    def test_reckoning_bounds_what_is_taken(self, machine, case):
        """It is what a run takes at its peak, a few per cent more or less;
        the factors of a mixed term are counted per voxel."""
        system = on_device(CASES[case]())
        system.volume_steps, system.data_steps  # found by projecting on the device  # noqa: B018
        machine.memory.peak = before = machine.memory.used
        ours = CudaPrimalDual(system)
        for _ in range(MEASURED_EVERY):
            ours.advance()
        taken, reckoned = machine.memory.peak - before, system_bytes(system)
        assert taken <= reckoned * 1.01 + 4096
        assert reckoned <= taken * 1.02 + 4096 or case == "sum"

    def test_too_little(self, machine):
        system = on_device(system_of([maps_of(A)], "tgv"))
        machine.memory.total = machine.memory.used + system_bytes(system)
        with pytest.raises(
            MemoryError,
            match=r"TGV of 2 channels of 8 x 12 x 5 voxels .* needs about .* lazy .*numba",
        ):
            CudaPrimalDual(system)


class Unmatched(DeviceProjector):
    """A pair that must not be used for the way back."""

    def project_device(self, volume, rays):
        CudaProjector(self.geometry).project_device(volume, rays)

    def back_device(self, rays, volume, *update):
        raise AssertionError("not to be used")

    def matched(self):
        return CudaProjector(self.geometry)

    def scratch_bytes(self, slices):
        return 0


class TestChoice:
    def test_of_the_device(self, machine):
        assert type(primal_dual_of(on_device(system_of([maps_of(A)])))) is CudaPrimalDual
        assert machine.launches["back_project"] > 0

    def test_mixed_company_takes_the_textbook(self, machine):
        system = system_of([maps_of(A), sum_of(B, [1.0, 3.0])])
        terms = replace(system.terms[0], A=CudaProjector(A.geometry)), system.terms[1]
        assert type(primal_dual_of(replace(system, terms=terms))) is TextbookPrimalDual

    def test_pairs_that_are_not_adjoint_make_way(self, machine):
        def volume(first, second, power):
            terms = [
                replace(maps_of(A, gains=np.ones(5)), A=first),
                replace(sum_of(B, [1.0, 3.0]), A=second),
            ]
            return run(fused(terms, Regulariser(2.0), SCALES, power=power), 21).volume

        for power in (1.0, 1.4):
            with pytest.warns(UserWarning, match="not adjoint") as caught:
                found = volume(Unmatched(A.geometry), Unmatched(B.geometry), power)
            assert len(caught) == 1
            np.testing.assert_array_equal(
                found, volume(CudaProjector(A.geometry), CudaProjector(B.geometry), power)
            )


class TestInterruption:
    def test_cancelled_before_it_begins(self, machine):
        ours = CudaPrimalDual(on_device(system_of([maps_of(A)])))
        for _ in range(3):
            ours.advance()
        before = ours.volume
        ours.cancel()
        ours.advance()
        assert ours.iteration == 3
        np.testing.assert_array_equal(ours.volume, before)

    def test_read_while_it_runs(self, cuda):
        system = on_device(system_of([maps_of(A)]))
        ours, known = CudaPrimalDual(system), CudaPrimalDual(system)
        worker = threading.Thread(target=lambda: [ours.advance() for _ in range(8)])
        worker.start()
        seen = [ours.volume for _ in range(8)]
        worker.join()
        iterates = [known.volume]
        for _ in range(8):
            known.advance()
            iterates.append(known.volume)
        for volume in seen:
            assert any(np.array_equal(volume, iterate) for iterate in iterates)


class TestSingularValues:
    """One launch with a dual variable of 0,
    a step of 1 and slopes that are given as the field -w."""

    def clipped(self, field, radius):
        """Project the matrices (voxel, channel, component)."""
        voxels, channels, components = field.shape
        kernels = VariationKernels(channels, components, "nuclear")
        shape = (channels, components, voxels, 1, 1)
        zero, p = np.zeros((channels, voxels, 1, 1)), device.to_device(np.zeros(shape))
        w = device.to_device(-np.moveaxis(field, 0, 2).reshape(shape))
        q = device.to_device(np.zeros((channels, components * (components + 1) // 2, voxels, 1, 1)))
        steps = 1.0, 0.0, float(radius), 1.0, 1.0
        kernels.call(
            "step_duals", (1, voxels), (256,), device.to_device(zero), w, p, q, *steps, voxels, 1, 1
        )
        return device.to_host(p)[..., 0, 0]

    @pytest.mark.parametrize("components", [2, 3])
    @pytest.mark.parametrize("channels", [1, 2, 4, 7])
    def test_clipped(self, cuda, channels, components):
        for spectrum, unit in product(SPECTRA, [1.0, 1e-12, 1e6]):
            field = matrices(channels, components, np.array(SPECTRA[spectrum])) * np.float32(unit)
            expected = Nuclear.project(
                np.moveaxis(field.astype(np.float64), 0, 2)[..., None, None], unit
            )[..., 0, 0]
            largest = max(np.abs(field).max(), unit)
            np.testing.assert_allclose(
                self.clipped(field, unit), expected, atol=3e-6 * largest, rtol=0, err_msg=spectrum
            )

    @pytest.mark.parametrize("components", [2, 3])
    @pytest.mark.parametrize("channels", [1, 2, 4, 7])
    def test_norm(self, cuda, channels, components):
        """The norm of the field -w where the volume is 0."""
        kernels = VariationKernels(channels, components, "nuclear")
        for spectrum in SPECTRA:
            values = np.array(SPECTRA[spectrum])[: min(channels, components)]
            field = matrices(channels, components, values)[:1]
            w = device.to_device(-np.moveaxis(field, 0, 2)[..., None, None])
            sums = device.BlockSums(4, 1)
            kernels.call(
                "variation",
                (1, 1),
                (256,),
                device.to_device(np.zeros((channels, 1, 1, 1))),
                w,
                None,
                sums.partial,
                1,
                1,
                1,
            )
            np.testing.assert_allclose(
                sums.total()[[0, 2]], values.sum(), rtol=3e-6, atol=1e-6, err_msg=spectrum
            )


@pytest.mark.slow
@pytest.mark.parametrize("coupling", ["uncoupled", "frobenius", "nuclear"])
@pytest.mark.parametrize(("channels", "dimensions"), [(1, 2), (3, 3), (12, 3)])
def test_nvcc_compiles_every_form_without_a_warning(channels, dimensions, coupling, tmp_path):
    if (nvcc := shutil.which("nvcc")) is None:
        pytest.skip("nvcc is not installed")
    (text := tmp_path / "variation.cu").write_text(
        VariationKernels(channels, dimensions, coupling).code
    )
    out = str(tmp_path / "out.ptx")
    command = [
        nvcc,
        "-ptx",
        "--std=c++14",
        "-arch",
        "sm_90",
        "-Werror",
        "all-warnings",
        "-o",
        out,
        str(text),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert not result.stderr.strip()

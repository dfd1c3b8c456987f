# SPDX-License-Identifier: GPL-3.0-or-later
"""The box of voxels that a regularised run works on:
it holds the specimen, and the problem within it is the same."""

import numpy as np
import pytest

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
    variational,
)
from hyperspy_multitomo.tomography import support as module
from hyperspy_multitomo.tomography.box import Box
from hyperspy_multitomo.tomography.coarse import block_averages, coarse_geometry
from hyperspy_multitomo.tomography.forms import primal_dual_of
from hyperspy_multitomo.tomography.iterates import iterates_of
from hyperspy_multitomo.tomography.support import support_of, within
from hyperspy_multitomo.tomography.variational import checked_problem

TILTS = np.arange(-70, 71, 10.0)
SIZE, SLICES = 48, 16
Z, X, Y = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in (SIZE, SIZE, SLICES)), indexing="ij")


def ball(z, x, y, radius):
    return (np.square(Z - z) + np.square(X - x) + np.square(Y - y) < radius**2).astype(np.float32)


SPECIMENS = {
    "particle": np.stack([ball(2, -5, 0, 6), ball(2, -5, 0, 4)]),
    "satellites": np.stack(
        [
            ball(2, -5, 0, 6) + 0.5 * ball(-12, 11, -4, 3),
            ball(2, -5, 0, 4) + 0.4 * ball(13, 10, 4, 3),
        ]
    ),
    "rod": np.stack([np.hypot(Z, X - 12) < 6, np.hypot(Z, X - 12) < 3]).astype(np.float32),
    "lamella": np.stack([0.5 * (abs(Z) < 5) + ball(0, 6, 0, 4), 0.3 * (abs(Z) < 5)]).astype(
        np.float32
    ),
    "everywhere": np.stack([0.3 + ball(0, 0, 0, 7), ball(0, 5, 0, 6) + 0.1]).astype(np.float32),
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Volumes of any size are worth a box here."""
    monkeypatch.setattr(module, "LEAST_VOXELS", 0)


def counted(volume, counts, shifts=None, extra=0.0, gains=None, seed=1):
    """Counts of that many per pixel at the peak of the fainter element,
    and the factor of the volume."""
    A = projector(TiltGeometry(TILTS, SIZE, shifts=shifts))
    expected = A(volume)
    factor = counts / expected.max(axis=(1, 2, 3)).min()
    expected *= factor if gains is None else factor * gains[:, None, None]
    return np.random.default_rng(seed).poisson(expected + extra).astype(np.float32)


def problem(terms, channels, **options):
    found = calibrate(terms, channels, kind="tv", coupling="nuclear", **options)
    return found.terms, found.regulariser, found.scales


def box_of(terms, channels, **options):
    return support_of(
        checked_problem(
            *problem(terms, channels, **options), mask=None, initial=None, relaxation=1.8
        )
    )


def outside(box):
    places = np.ones(Z.shape, bool)
    places[box.places] = False
    return places


A = projector(TiltGeometry(TILTS, SIZE))


class TestNothingIsLost:
    @pytest.mark.slow
    @pytest.mark.parametrize("counts", [0.03, 0.3, 3.0])
    @pytest.mark.parametrize("name", SPECIMENS)
    def test_of_a_run_without(self, name, counts):
        posed = problem([DataTerm(A, counted(SPECIMENS[name], counts))], 2)
        box = support_of(checked_problem(*posed, mask=None, initial=None, relaxation=1.8))
        places = outside(box)
        for channel in run(variational(*posed), 60).volume:
            assert channel[places].max(initial=0) <= 0.05 * channel.max()
        assert not (SPECIMENS[name] * places).any()

    @pytest.mark.parametrize("name", ["lamella", "everywhere"])
    def test_what_fills_the_view_keeps_all(self, name):
        assert box_of([DataTerm(A, counted(SPECIMENS[name], 3.0))], 2).voxels >= 0.8 * Z.size

    def test_few_counts_keep_all(self):
        assert box_of([DataTerm(A, counted(SPECIMENS["particle"], 0.03))], 2).voxels == Z.size

    def test_counts_everywhere_keep_all(self):
        assert (
            box_of([DataTerm(A, counted(SPECIMENS["particle"], 3.0, extra=0.1))], 2).voxels
            == Z.size
        )

    @pytest.mark.parametrize("name", ["particle", "satellites"])
    def test_of_misaligned_images(self, name):
        shifts = np.random.default_rng(0).normal(0, 1.5, len(TILTS))
        box = box_of([DataTerm(A, counted(SPECIMENS[name], 3.0, shifts))], 2)
        assert not (SPECIMENS[name] * outside(box)).any()

    def test_a_dead_tilt_decides_nothing(self):
        gains = np.linspace(0.5, 1.5, len(TILTS))
        data = counted(SPECIMENS["satellites"], 3.0, gains=gains)
        data[:, 7], gains[7] = 0, 0
        assert not (
            SPECIMENS["satellites"] * outside(box_of([DataTerm(A, data, gains=gains)], 2))
        ).any()

    def test_an_element_that_the_haadf_does_not_see(self):
        volume = SPECIMENS["satellites"]
        images = A(np.stack([ball(2, -5, 0, 6)]))
        terms = [DataTerm(A, counted(volume, 3.0)), DataTerm(A, 1e3 * images / images.max(), 2)]
        assert not (volume * outside(box_of(terms, 3))).any()


class TestTheBoxIsTheSameProblem:
    """As with a mask that is the box: the same minimum, and all that a problem may have."""

    BOX = Box((10, 38), (8, 36), (2, 14))

    def both(self, terms, regulariser, scales, channels, **options):
        system = checked_problem(
            terms, regulariser, scales, initial=None, relaxation=1.8, mask=options.get("mask")
        )
        boxed = within(system, self.BOX)
        mask = np.zeros(Z.shape, bool)
        mask[self.BOX.places] = True
        if options.get("mask") is not None:
            mask &= options["mask"] if options["mask"].ndim == 3 else options["mask"][..., None]
        found = run(iterates_of(primal_dual_of(boxed), True), 200)
        wanted = run(variational(terms, regulariser, scales, mask=mask), 200)
        assert boxed.terms[-1].data.shape[2] < system.terms[-1].data.shape[2]
        assert found.volume.shape == wanted.volume.shape
        assert not found.volume[:, ~mask].any()
        difference = np.linalg.norm(found.volume - wanted.volume) / np.linalg.norm(wanted.volume)
        assert difference < 3e-3

    def test_a_state_of_another_box_is_refused(self):
        terms, regulariser = (
            [DataTerm(A, counted(SPECIMENS["particle"], 3.0))],
            Regulariser(0.1, "tv"),
        )
        system = checked_problem(
            terms, regulariser, [1.0, 1.0], initial=None, relaxation=1.8, mask=None
        )
        other = Box((12, 40), *(self.BOX.x, self.BOX.y))
        first, second = (
            next(iterates_of(primal_dual_of(within(system, box)), True))
            for box in (self.BOX, other)
        )
        with pytest.raises(ValueError, match="box"):
            second.restore(first.snapshot())
        again = next(iterates_of(primal_dual_of(within(system, self.BOX)), True))
        again.restore(first.snapshot())

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["tv", "tgv"])
    def test_of_shifted_tilts_gains_and_background(self, kind):
        shifts = np.random.default_rng(0).normal(0, 1.0, len(TILTS))
        P = projector(TiltGeometry(TILTS, SIZE, shifts=shifts, axis_offset=0.4, pixel_size=0.5))
        gains = np.linspace(0.5, 1.5, len(TILTS))
        data = np.random.default_rng(1).poisson(
            0.5 * gains[:, None, None] * P(SPECIMENS["particle"]) + 0.3
        )
        terms = [DataTerm(P, data, gains=gains, background=0.3)]
        self.both(terms, Regulariser(1.0, kind, "nuclear"), [0.5, 0.5], 2)

    @pytest.mark.slow
    def test_of_a_sum_with_tilts_and_pixels_of_its_own(self):
        maps = projector(
            TiltGeometry(TILTS[::2], SIZE // 2, (SIZE, SIZE), pixel_size=0.5, binning=2)
        )
        volume = SPECIMENS["particle"]
        counts = np.random.default_rng(1).poisson(maps(volume))
        fine = projector(TiltGeometry(TILTS, SIZE, pixel_size=0.5))
        images = 9 * fine(volume[:1]) + 5 * fine(volume[1:])
        terms = [DataTerm(maps, counts), DataTerm(fine, images, mix=[9.0, 5.0], weight=0.1)]
        self.both(terms, Regulariser(1.0, "tv"), [0.5, 0.5], 2)

    @pytest.mark.slow
    @pytest.mark.parametrize("mask", [ball(2, -5, 0, 7) > 0, np.hypot(Z, X)[..., 0] < 18])
    def test_of_a_mask(self, mask):
        self.both(
            [DataTerm(A, counted(SPECIMENS["particle"], 3.0))],
            Regulariser(1.0),
            [0.2, 0.2],
            2,
            mask=mask,
        )


@pytest.fixture(scope="module")
def posed():
    return problem([DataTerm(A, counted(SPECIMENS["particle"], 3.0))], 2)


def test_a_run_says_which_box_it_worked_on(posed):
    result = run(variational(*posed, support=True), 60)
    z0, z1, x0, x1, y0, y1 = result.box
    assert (z1 - z0) * (x1 - x0) * (y1 - y0) < 0.8 * Z.size
    wanted = run(variational(*posed), 60)
    assert wanted.box is None
    assert np.linalg.norm(result.volume - wanted.volume) < 0.02 * np.linalg.norm(wanted.volume)


def test_small_volumes_are_left_alone(posed, monkeypatch):
    monkeypatch.setattr(module, "LEAST_VOXELS", Z.size + 1)
    assert run(variational(*posed, support=True), 1).box is None


def test_it_starts_from_what_is_given(posed):
    start = run(variational(*posed), 60).volume
    iterates = variational(*posed, initial=start, support=True)
    first = next(iterates)
    z0, z1, x0, x1, y0, y1 = (
        bound + step for bound, step in zip(first.box, (1, -1) * 3, strict=True)
    )
    inside = (slice(None), slice(z0, z1), slice(x0, x1), slice(y0, y1))
    np.testing.assert_allclose(first.volume[inside], start[inside], rtol=1e-6, atol=1e-7)
    iterates.close()


def test_a_checkpoint_is_resumed_bit_for_bit(posed, tmp_path):
    kept = Checkpoint(tmp_path / "tnv.state", every=0, key="tnv")
    run(variational(*posed, support=True), 13, checkpoint=kept)
    resumed = run(variational(*posed, support=True), 25, checkpoint=kept, resume=True)
    assert resumed.resumed_at == 13
    assert (resumed.volume == run(variational(*posed, support=True), 25).volume).all()


@pytest.mark.slow
def test_fused_with_a_power():
    volume = SPECIMENS["particle"]
    maps, images = counted(volume, 3.0), 40 * A(volume[0] ** 1.5) + 10 * A(volume[1] ** 1.5)
    terms = [DataTerm(A, maps), DataTerm(A, images, mix=[40.0, 10.0], weight=0.1)]
    result = run(fused(terms, Regulariser(1.0), [0.5, 0.5], power=1.5, support=True), 30)
    assert result.box is not None
    assert not (volume * outside(Box.of(result.box, Z.shape))).any()


@pytest.fixture(scope="module")
def eds():
    counts = counted(SPECIMENS["particle"], 3.0).transpose(0, 1, 3, 2)
    return mt.TiltSeriesEDS.from_maps({"Au": counts[0], "Ag": counts[1]}, tilts=TILTS)


class TestSignals:
    def test_in_memory(self, eds):
        volume = eds.reconstruct_tnv(iterations=30, show_progressbar=False)
        step = volume.history[-1]
        assert step["support"] is True
        z0, z1, x0, x1, y0, y1 = step["box"]
        inside = np.zeros(volume.data.shape, bool)
        inside[z0:z1, :, y0:y1, x0:x1] = True
        assert not volume.data[~inside].any()
        whole = eds.reconstruct_tnv(iterations=30, support=False, show_progressbar=False)
        assert "box" not in whole.history[-1]
        assert whole.history[-1]["support"] is False

    def test_in_slabs(self, eds):
        given = {"iterations": 60, "tolerance": None, "depth": None, "show_progressbar": False}
        lazy = eds.as_lazy().reconstruct_tnv(chunks=12, overlap=8, **given).data.compute()
        wanted = eds.reconstruct_tnv(**given).data
        assert np.linalg.norm(lazy - wanted) < 0.03 * np.linalg.norm(wanted)
        assert not lazy[:4].any()

    def test_it_is_planned(self, eds):
        plan = eds.plan_reconstruction("tnv", iterations=30, support=False)
        assert plan.iterations == 30


class TestCoarse:
    def test_last_blocks_are_averaged_over_what_there_is(self):
        found = block_averages(
            np.arange(5.0, dtype=np.float32)[:, None] * np.ones(3, np.float32), (2, 2)
        )
        np.testing.assert_allclose(found, np.array([[0.5], [2.5], [4.0]]) * np.ones(2))

    @pytest.mark.parametrize("size", [24, 27])
    def test_a_smooth_volume_projects_alike(self, size):
        z, x = np.meshgrid(*2 * [np.arange(size) - (size - 1) / 2], indexing="ij")
        volume = np.exp(-(np.square(z - 2) + np.square(x + 3)) / 60)[..., None].repeat(3, axis=-1)
        fine = TiltGeometry(
            TILTS, size, pixel_size=0.5, axis_offset=0.7, shifts=np.linspace(-1, 1, len(TILTS))
        )
        found = projector(coarse_geometry(fine, 3))(block_averages(np.float32(volume), (3, 3, 3)))
        wanted = block_averages(projector(fine)(volume), (3, 3))
        np.testing.assert_allclose(found, wanted, atol=0.04 * wanted.max())


@pytest.mark.parametrize(
    "bounds",
    [
        [0, 8, 0, 8],
        [0, 8.5, 0, 8, 0, 4],
        [0, 50, 0, 8, 0, 4],
        [3, 4, 0, 8, 0, 4],
        [0, 8, 0, 8, 1, 3],
    ],
)
def test_bounds_that_are_no_box(bounds):
    with pytest.raises(ValueError, match="support"):
        Box.of(bounds, (48, 48, 16), 2)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Detector pixels of several voxels: the projector,
HEBT with maps of larger pixels than the HAADF's, and the signals."""

from dataclasses import replace

import numpy as np
import pytest

import hyperspy_multitomo as mt
from hyperspy_multitomo.alignment import Alignment
from hyperspy_multitomo.tomography import (
    TiltGeometry,
    dot_test,
    hebt,
    projector,
    run,
    sirt,
    visible_width,
)
from hyperspy_multitomo.tomography.cpu.stacked import FusedSteps
from hyperspy_multitomo.tomography.steps import TextbookSteps

TILTS = np.linspace(-70, 70, 15)
RATIOS = [3.0, 50.0]
QUIET = {"show_progressbar": False}


def fine_geometry(**kwds):
    return TiltGeometry(TILTS, 32, (20, 24), 0.5, 1.2, np.linspace(-4, 4, 15), **kwds)


def coarse(geometry, binning):
    """The geometry of the same detector with larger pixels."""
    shifts = [shift / binning for shift in geometry.shifts]
    offset, width = geometry.axis_offset / binning, geometry.detector_width // binning
    return replace(
        geometry, detector_width=width, axis_offset=offset, shifts=shifts, binning=binning
    )


def means(projections, binning):
    *lead, x, y = projections.shape
    return projections.reshape(*lead, x // binning, binning, y // binning, binning).mean(
        axis=(-3, -1)
    )


@pytest.fixture(scope="module")
def truth():
    volume = np.zeros((2, 20, 24, 8), np.float32)
    volume[0, 5:14, 6:13] = 2.0
    volume[1, 8:16, 11:19] = 0.7
    return volume * np.linspace(0.5, 1.5, 8, dtype=np.float32)


def relative(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


@pytest.mark.parametrize("backend", ["numba", "astra_cpu"])
@pytest.mark.parametrize("binning", [2, 3, 4])
class TestProjector:
    @pytest.fixture(autouse=True)
    def needs(self, backend):
        if backend == "astra_cpu":
            pytest.importorskip("astra", reason="astra-toolbox is not installed")

    def test_adjoint(self, backend, binning):
        assert (
            dot_test(
                projector(TiltGeometry(TILTS, 9, (20, 24), 0.5, 0.3, binning=binning), backend), 1
            )
            <= 1e-6
        )

    def test_projections_are_means_of_fine_ones(self, backend, binning):
        geometry = TiltGeometry(TILTS, 24, (20, 24), 0.5, 0.9, np.linspace(-3, 3, 15))
        volume = np.random.default_rng(0).random((2, 20, 24, 12))
        A = projector(coarse(geometry, binning), backend)
        assert A.range_shape == (15, 24 // binning)
        np.testing.assert_allclose(
            A(volume), means(projector(geometry, backend)(volume), binning), rtol=1e-4, atol=1e-4
        )

    def test_row_and_column_sums(self, backend, binning):
        A = projector(TiltGeometry([0, 40], 12, (24, 12 * binning), 0.5, binning=binning), backend)
        np.testing.assert_allclose(A.row_sums()[0], 24 * 0.5, rtol=1e-5)
        ones = A.T(np.ones((*A.range_shape, 1)))
        assert ones.shape[-1] == binning
        np.testing.assert_allclose(A.column_sums(), ones[..., 0], rtol=1e-6)


class TestGeometry:
    def test_fine_geometry_has_the_same_rays(self):
        geometry = fine_geometry()
        again = coarse(geometry, 4).fine
        assert (again.detector_width, again.binning) == (32, 1)
        np.testing.assert_allclose(again.origins, geometry.origins)
        assert geometry.fine is geometry
        assert TiltGeometry([0, 1], 8, binning=4).volume_shape == (32, 32)

    @pytest.mark.parametrize("binning", [1, 2, 4])
    def test_large_pixels_see_as_much_of_a_lamella(self, binning):
        geometry = TiltGeometry([-60, 0, 60], 32, (32, 32), 0.5, axis_offset=4, shifts=[0, 2, -4])
        # Half the detector, what the image and the axis are displaced by, and half of the depth
        # seen at 60 degrees.
        expected = 2 * ((16 + 4) * 0.5 + 10 / 2 * np.sqrt(3) / 2) / 0.5
        assert visible_width(coarse(geometry, binning), depth=10) == pytest.approx(expected)

    @pytest.mark.parametrize("binning", [0, -1, 1.5, "2"])
    def test_bad_binning(self, binning):
        with pytest.raises(ValueError, match="binning"):
            TiltGeometry([0, 1], 8, binning=binning)

    def test_slices_must_fill_the_pixels(self):
        with pytest.raises(ValueError, match="multiple of 2"):
            projector(TiltGeometry([0, 1], 8, binning=2))(np.zeros((16, 16, 5)))


class TestHEBT:
    @pytest.mark.parametrize("binning", [2, 4])
    @pytest.mark.parametrize("haadf_tilts", ["shared", "own"])
    @pytest.mark.parametrize("haadf_binning", [1, 2])
    def test_fused_against_textbook(self, truth, binning, haadf_tilts, haadf_binning):
        A = projector(coarse(fine_geometry(), binning))
        geometry = (
            fine_geometry()
            if haadf_tilts == "shared"
            else TiltGeometry(np.arange(-75, 76, 10), 30, (20, 24), 0.5)
        )
        H = projector(coarse(geometry, haadf_binning))
        haadf = H(np.tensordot(np.float32(RATIOS), truth, 1))
        options = dict(haadf_projector=H, gains=np.linspace(0.8, 1.2, 15), rest=True)
        system = next(hebt(A, A(truth), haadf, RATIOS, **options))._steps.system
        assert system.shared == (haadf_tilts == "shared" and haadf_binning == 1)
        fused, textbook = FusedSteps(system), TextbookSteps(system)
        for _ in range(5):
            fused.advance()
            textbook.advance()
            assert relative(fused.volume, textbook.volume) < 3e-6
            for name, residual in textbook.residuals.items():
                np.testing.assert_allclose(fused.residuals[name], residual, rtol=1e-5)
        fused.close()
        textbook.close()

    def test_pixels_of_three_voxels_run_the_textbook_form(self):
        A = projector(TiltGeometry(TILTS, 8, (24, 24), binning=3))
        truth = np.ones((24, 24, 6))
        assert run(sirt(A, A(truth)), 50).residuals["eds"][-1, 0] < 0.02

    def test_alpha_keeps_its_meaning(self):
        """Maps that do not vary within their pixels, seen along the grid,
        say the same whatever their pixels are."""
        rng = np.random.default_rng(0)
        volume = rng.random((2, 8, 8, 4)).repeat(2, axis=1).repeat(2, axis=2).repeat(2, axis=3)
        fine = projector(TiltGeometry([0, 90], 16))
        half = projector(TiltGeometry([0, 90], 8, (16, 16), binning=2))
        haadf = fine(rng.random((8, 8, 4)).repeat(2, axis=0).repeat(2, axis=1).repeat(2, axis=2))
        results = [
            run(hebt(A, A(volume), haadf, RATIOS, alpha=0.6, haadf_projector=fine), 5)
            for A in (fine, half)
        ]
        assert relative(results[1].volume, results[0].volume) < 1e-5
        np.testing.assert_allclose(
            results[1].residuals["eds"], results[0].residuals["eds"], rtol=1e-4
        )

    def test_counts_are_those_of_the_maps_pixels(self, truth):
        """Twice as large pixels collect four times the counts per nm."""
        fine, half = projector(fine_geometry()), projector(coarse(fine_geometry(), 2))
        maps = fine(truth)
        summed = 4 * means(maps, 2)
        haadf = fine(np.tensordot(np.float32(RATIOS), truth, 1))
        own = run(hebt(fine, maps, haadf, RATIOS), 200).volume
        binned = run(
            hebt(half, summed, haadf, np.divide(RATIOS, 4), haadf_projector=fine), 200
        ).volume
        assert binned.shape == own.shape
        np.testing.assert_allclose(
            binned.sum(axis=(1, 2, 3)), 4 * own.sum(axis=(1, 2, 3)), rtol=0.01
        )

    def test_haadf_brings_the_detail_that_large_pixels_lack(self, truth):
        fine, quarter = projector(fine_geometry()), projector(coarse(fine_geometry(), 4))
        haadf = fine(np.tensordot(np.float32(RATIOS), truth, 1))
        both = run(
            hebt(quarter, quarter(truth), haadf, RATIOS, alpha=0.8, haadf_projector=fine), 200
        ).volume
        alone = run(sirt(quarter, quarter(truth)), 200).volume
        total = np.tensordot(np.float32(RATIOS), truth, 1)
        assert relative(np.tensordot(RATIOS, both, 1), total) < 0.6 * relative(
            np.tensordot(RATIOS, alone, 1), total
        )

    def test_slices_that_do_not_fit(self, truth):
        fine, half = projector(fine_geometry()), projector(coarse(fine_geometry(), 2))
        with pytest.raises(ValueError, match="expected .tilt, x, y. with 8 slices"):
            hebt(half, half(truth), np.zeros((15, 32, 6)), RATIOS, haadf_projector=fine)


def series(truth, binning=2, lazy=False):
    """HAADF at full size and EDS counts with larger pixels, of the same field,
    with a pixel of 0.5 nm."""
    A = projector(TiltGeometry(TILTS, 24, (24, 24), 0.5))
    volume = np.pad(truth, ((0, 0), (2, 2), (0, 0), (0, 0)))
    maps = A(volume)
    haadf = np.tensordot(np.float32(RATIOS), maps, 1)
    counts = (
        np.random.default_rng(0).poisson(20 * binning**2 * means(maps, binning)).astype(np.float32)
    )
    images, counts = haadf.transpose(0, 2, 1), counts.transpose(0, 1, 3, 2)
    if lazy:
        import dask.array as da

        images, counts = da.from_array(images), da.from_array(counts)
    haadf = mt.TiltSeriesHAADF.from_images(images, tilts=TILTS, pixel_size=0.5)
    eds = mt.TiltSeriesEDS.from_maps(
        dict(zip(("A", "B"), counts, strict=True)), tilts=TILTS, pixel_size=0.5 * binning
    )
    return haadf, eds, volume


class TestSignals:
    @pytest.mark.parametrize("binning", [2, 4])
    def test_volume_on_the_grid_of_the_haadf(self, truth, binning):
        haadf, eds, volume = series(truth, binning)
        ratios = dict(zip("AB", np.divide(RATIOS, 20 * binning**2), strict=True))
        made = eds.reconstruct_hebt(haadf, iterations=60, ratios=ratios, **QUIET)
        assert made.array("element", "z", "x", "y").shape == volume.shape
        assert made.pixel_size == 0.5
        for name in ("x", "y"):
            assert made.axes_manager[name].offset == haadf.axes_manager[name].offset
        scaled = made.array("element", "z", "x", "y") / (20 * binning**2)
        for element in range(2):
            assert (
                np.corrcoef(scaled[element].ravel(), volume[element].ravel())[0, 1]
                > {2: 0.85, 4: 0.7}[binning]
            )
        np.testing.assert_allclose(
            scaled.sum(axis=(1, 2, 3)), volume.sum(axis=(1, 2, 3)), rtol={2: 0.05, 4: 0.12}[binning]
        )
        assert made.history[-1]["geometry"]["binning"] == binning

    def test_ratios_per_count_of_the_large_pixels(self, truth):
        haadf, eds, _ = series(np.tile(truth, (1, 1, 1, 4)))
        ratios = eds.fit_response_ratios(haadf)
        np.testing.assert_allclose(ratios.values, np.divide(RATIOS, 80), rtol=0.05)
        assert ratios.r2 > 0.95

    def test_offsets_of_binned_pixels(self, truth):
        """Maps binned by `bin` begin half a fine pixel later than the images; their edges agree."""
        haadf, _, _ = series(truth)
        fine = mt.TiltSeriesEDS.from_maps(
            {"A": np.asarray(haadf.data)}, tilts=TILTS, pixel_size=0.5
        ).bin(2)
        assert fine.axes_manager["x"].offset == 0.25
        volume = fine.reconstruct_hebt(haadf, iterations=2, ratios={"A": 0.25}, **QUIET)
        assert volume["A"].data.shape == (24, 8, 24)

    @pytest.mark.slow
    def test_lazy_equals_eager(self, truth):
        truth = np.tile(truth, (1, 1, 1, 10))
        haadf, eds, _ = series(truth)
        mask = np.random.default_rng(0).random((24, 80, 24)) > 0.1
        options = dict(
            iterations=5,
            ratios=dict(zip("AB", np.divide(RATIOS, 80), strict=True)),
            mask=mask,
            **QUIET,
        )
        expected = eds.reconstruct_hebt(haadf, **options)
        lazy_haadf, lazy_eds, _ = series(truth, lazy=True)
        volume = lazy_eds.reconstruct_hebt(lazy_haadf, **options)
        assert volume._lazy
        np.testing.assert_allclose(volume.data.compute(), expected.data, rtol=1e-4, atol=1e-4)

    def test_alignments_in_pixels_of_their_own(self, truth):
        haadf, eds, _ = series(truth)
        ratios = dict(zip("AB", np.divide(RATIOS, 80), strict=True))
        expected = eds.reconstruct_hebt(haadf, iterations=30, ratios=ratios, **QUIET)
        across = 2.0 * np.round(np.linspace(-2, 2, 15))
        moved = np.stack(
            [np.roll(image, int(s), axis=-1) for image, s in zip(haadf.data, across, strict=True)]
        )
        moved_maps = {
            name: np.stack(
                [
                    np.roll(m, int(s / 2), axis=-1)
                    for m, s in zip(eds[name].data, across, strict=True)
                ]
            )
            for name in "AB"
        }
        haadf = mt.TiltSeriesHAADF.from_images(moved, tilts=TILTS, pixel_size=0.5)
        eds = mt.TiltSeriesEDS.from_maps(moved_maps, tilts=TILTS, pixel_size=1.0)
        haadf.align(Alignment(-across, np.zeros(15)))
        with pytest.warns(
            UserWarning, match=r"attach the same to both: eds.align\(haadf.alignment\)"
        ):
            eds.reconstruct_hebt(haadf, iterations=1, ratios=ratios, **QUIET)
        # The line of the warning converts to the pixels of the other series.
        eds.align(haadf.alignment)
        np.testing.assert_allclose(eds.alignment.across, -across / 2)
        haadf.alignment = None
        with pytest.warns(
            UserWarning, match=r"attach the same to both: haadf.align\(eds.alignment\)"
        ):
            eds.reconstruct_hebt(haadf, iterations=1, ratios=ratios, **QUIET)
        haadf.align(eds.alignment)
        np.testing.assert_allclose(haadf.alignment.across, -across)
        volume = eds.reconstruct_hebt(haadf, iterations=30, ratios=ratios, **QUIET)
        assert relative(volume.data, expected.data) < 0.12

    def test_pixels_that_do_not_fit(self, truth):
        haadf, eds, _ = series(truth)
        odd = haadf.deepcopy()
        for name in ("x", "y"):
            odd.axes_manager[name].scale = 0.4
        with pytest.raises(ValueError, match="whole number of HAADF pixels"):
            eds.reconstruct_hebt(odd, ratios={"A": 1, "B": 1}, **QUIET)
        with pytest.raises(ValueError, match="12 px along x but the HAADF images 22, 2 to each"):
            eds.reconstruct_hebt(haadf.isig[:22, :], ratios={"A": 1, "B": 1}, **QUIET)
        other = haadf.deepcopy()
        other.axes_manager["x"].offset = 3.0
        with pytest.raises(ValueError, match="crop both series alike"):
            eds.reconstruct_hebt(other, ratios={"A": 1, "B": 1}, **QUIET)

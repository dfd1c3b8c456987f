# SPDX-License-Identifier: GPL-3.0-or-later
"""Lazy reconstructions slab by slab: how slices are cut, that slabs make the eager volume,
and what memory they hold."""

import errno
import gc
import os
import signal
import threading
import time
import tracemalloc
import warnings
from dataclasses import replace

import dask
import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest
import regularised_series as regularised
from interrupts import interrupts_heard
from series_pairs import QUIET, RATIOS, TILTS, wire

from hyperspy_multitomo.machine import memory
from hyperspy_multitomo.reconstruction import job, noise, slab_progress, slabs
from hyperspy_multitomo.reconstruction import slots as turns
from hyperspy_multitomo.reconstruction.memory_model import footprint
from hyperspy_multitomo.tomography import TiltGeometry

pytestmark = pytest.mark.filterwarnings("ignore:.*NestedDirectoryStore:FutureWarning")

GEOMETRY = TiltGeometry(TILTS, 64)
HELD = footprint((2.1, 2.1), 2, [(GEOMETRY, 2)])


@pytest.fixture(scope="module")
def series():
    return wire()


class TestCut:
    def cut(self, monkeypatch, memory, slices=512, **options):
        monkeypatch.setattr(slabs, "worker_memory", lambda: memory)
        return slabs.cut(slices, HELD, **options)

    def test_as_thick_as_fits(self, monkeypatch):
        plenty = HELD.bytes_of(512) * 10
        assert self.cut(monkeypatch, plenty).thickness == 64
        assert self.cut(monkeypatch, None).thickness == 64
        short = (HELD.bytes_of(32) + HELD.in_transit(32)) / memory.OF_SLABS
        assert self.cut(monkeypatch, short).thickness == 32
        with pytest.raises(MemoryError, match="a slab of 16 slices needs about .* bin or crop"):
            self.cut(monkeypatch, short / 10)

    def test_with_overlap_all_together_where_that_fits(self, monkeypatch):
        whole = self.cut(monkeypatch, None, slices=100, overlap=8)
        assert (len(whole), whole.thickness) == (1, 100)
        assert whole.needed == HELD.bytes_of(100) + HELD.in_transit(100)
        some = self.cut(monkeypatch, 3 * HELD.bytes_of(64) / memory.OF_SLABS, slices=400, overlap=8)
        assert len(some) > 1
        assert some.thickness % 16 == 0
        assert some.needed <= 3 * HELD.bytes_of(64)

    @pytest.mark.parametrize(
        ("processes", "slices", "count"),
        [(4, 512, 4), (4, 100, 4), (3, 16, 1), (1, 512, 1), (64, 64, 4)],
    )
    def test_workers_share_what_would_fit_in_one(self, monkeypatch, processes, slices, count):
        monkeypatch.setattr(slabs, "workers", lambda: {number: {} for number in range(processes)})
        found = slabs.cut(slices, replace(HELD, textbook=True), overlap=8)
        assert (len(found), found.share) == (count, 1)
        here = slabs.cut(slices, replace(HELD, textbook=True), overlap=8, here=True)
        assert (len(here), here.workers) == (1, 0)

    def test_slices_that_do_not_know_of_each_other_occupy_all_workers(self, monkeypatch):
        for processes, thickness in ((1, 64), (2, 64), (4, 32), (8, 16)):
            monkeypatch.setattr(
                slabs,
                "workers",
                lambda processes=processes: {number: {} for number in range(processes)},
            )
            assert slabs.cut(128, HELD).thickness == thickness

    def test_with_their_overlap_they_fill_the_groups_of_the_kernels(self, monkeypatch):
        """There is room for 208, which would take the time of 256."""
        monkeypatch.setattr(
            "hyperspy_multitomo.reconstruction.memory_model.cost_of",
            lambda slices: -(-slices // 64),
        )
        room = (HELD.bytes_of(208) + HELD.in_transit(208)) / memory.OF_SLABS
        found = self.cut(monkeypatch, room, slices=1024, overlap=16)
        assert (len(found), found.thickness) == (7, 160)

    def test_every_slice_once_with_its_neighbours(self, monkeypatch):
        for slices, chunks, overlap in ((37, 8, 3), (64, 64, 8), (5, 1, 0), (130, 48, 100)):
            found = list(self.cut(monkeypatch, None, slices=slices, chunks=chunks, overlap=overlap))
            assert [i for slab in found for i in range(slab.start, slab.stop)] == list(
                range(slices)
            )
            for slab in found:
                assert (slab.first, slab.last) == (
                    max(slab.start - overlap, 0),
                    min(slab.stop + overlap, slices),
                )

    def test_pixels_of_several_slices_stay_whole(self, monkeypatch):
        found = self.cut(monkeypatch, None, slices=96, binning=4, chunks=30, overlap=3)
        assert (found.thickness, found.overlap) == (28, 4)
        assert all(bound % 4 == 0 for slab in found for bound in vars(slab).values())

    @pytest.mark.parametrize(
        ("name", "value"),
        [("chunks", 0), ("chunks", 2.5), ("chunks", True), ("overlap", -1), ("overlap", "8")],
    )
    def test_bad_numbers(self, series, name, value):
        (haadf, _) = series[1]
        with pytest.raises(ValueError, match=f"{name}=.*whole number of slices"):
            haadf.reconstruct_tv(iterations=1, **{name: value})

    def test_chunks_are_of_lazy_series(self, series):
        with pytest.raises(ValueError, match="chunks= says how thick.*leave it out"):
            series[0][0].reconstruct_sirt(1, chunks=16)


class TestTurns:
    def test_as_many_as_fit_on_the_cores_there_are(self, monkeypatch):
        monkeypatch.setattr(turns, "_process", lambda: (8, 8, 10_000_000))
        assert turns.places(10, 9) == (8, 1)
        assert turns.places(3_000_000, 9) == (2, 4)
        assert turns.places(30_000_000, 9) == (1, 8)
        monkeypatch.setattr(turns, "_process", lambda: (4, 4, None))
        assert turns.places(10**12, 9) == (4, 1)

    def test_no_core_is_left_idle_for_want_of_slabs(self, monkeypatch):
        """Fewer slabs than cores have more threads each, and so have the last ones,
        whenever the run is repeated."""
        monkeypatch.setattr(turns, "_process", lambda: (8, 8, None))
        assert [turns.places(1, share) for share in (1, 2, 3, 20)] == [
            (1, 8),
            (2, 4),
            (3, 2),
            (8, 1),
        ]
        found = []
        for _ in range(20):
            with turns.turn("ten slabs, twice", 1, 10) as threads:
                found.append(threads)
        assert found == [1] * 8 + [4] * 2 + [1] * 8 + [4] * 2

    def test_what_was_done_before_takes_no_place(self, series, tmp_path, monkeypatch):
        """Of four slabs one is missing: it has all cores."""
        (lazy, _), kept, threads, run = series[1], tmp_path / "slabs", [], job.Job.run
        lazy.reconstruct_sirt(2, chunks=10, checkpoint=kept).compute(**QUIET)
        (kept / "slices_00010-00020.volume").unlink()
        monkeypatch.setattr(
            job.Job, "run", lambda self, *a, **k: threads.append(k["threads"]) or run(self, *a, **k)
        )
        monkeypatch.setattr(turns, "available_cores", lambda: 6)
        lazy.reconstruct_sirt(2, resume=kept).compute(**QUIET)
        assert threads == [6]

    def test_another_scheduler_another_gate(self, monkeypatch):
        found = []
        for process in ((2, 2, None), (1, 2, None)):
            monkeypatch.setattr(turns, "_process", lambda process=process: process)
            with turns.turn("one run, computed twice", 1, 9) as threads:
                found.append(threads)
        assert found == [1, 2]

    def test_one_caller_has_all_cores(self):
        with dask.config.set(scheduler="synchronous"):
            at_once, threads = turns.places(1, 9)
        assert (at_once, threads) == (1, turns.available_cores())
        with dask.config.set(scheduler="threads", num_workers=1):
            assert turns.places(1, 9) == (1, turns.available_cores())

    def test_a_single_slab_has_all_cores(self, series, monkeypatch):
        (lazy, _), threads, run = series[1], [], job.Job.volume
        monkeypatch.setattr(
            job.Job,
            "volume",
            lambda self, arrays, *a: threads.append(a[0]) or run(self, arrays, *a),
        )
        monkeypatch.setattr(turns, "available_cores", lambda: 6)
        lazy.reconstruct_tv(iterations=2).compute(**QUIET)
        lazy.reconstruct_tv(iterations=2, chunks=20, overlap=4).compute(**QUIET)
        assert threads == [6, 3, 3]

    def test_no_more_than_fit_are_at_work(self, monkeypatch):
        monkeypatch.setattr(turns, "places", lambda needed, share, one: (2, 1))
        at_work, most, lock = [0], [0], threading.Lock()

        def work(_):
            with turns.turn("a run of its own", 1, 6):
                with lock:
                    at_work[0] += 1
                    most[0] = max(most[0], at_work[0])
                time.sleep(0.02)
                with lock:
                    at_work[0] -= 1

        workers = [threading.Thread(target=work, args=(i,)) for i in range(6)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert most[0] == 2


class TestEqualToEager:
    @pytest.mark.slow
    @pytest.mark.parametrize("chunks", [None, 16, 7])
    @pytest.mark.parametrize(
        ("method", "options"),
        [
            ("sirt", {"iterations": 5}),
            ("em", {"iterations": 5}),
            ("cgls", {"iterations": 3}),
            ("fbp", {}),
            ("hebt", {"iterations": 5, "ratios": RATIOS}),
        ],
    )
    def test_slices_on_their_own(self, series, method, options, chunks):
        (haadf, eds), (lazy_haadf, lazy_eds) = series
        pairs = [[haadf], [lazy_haadf]] if method == "hebt" else [[], []]
        eager = getattr(eds, f"reconstruct_{method}")(*pairs[0], **options, **QUIET)
        lazy = getattr(lazy_eds, f"reconstruct_{method}")(*pairs[1], **options, chunks=chunks)
        assert lazy._lazy
        assert lazy.history[-1]["slabs"]["thickness"] == (40 if chunks is None else chunks)
        assert "chunks" not in lazy.history[-1]
        np.testing.assert_allclose(lazy.data.compute(), eager.data, atol=2e-6 * eager.data.max())

    @pytest.mark.slow
    @pytest.mark.parametrize("method", regularised.METHODS)
    def test_with_a_regulariser_across_slabs(self, series, method):
        """The error falls with the overlap, and all slices together are the eager run."""
        (haadf, eds), (lazy_haadf, lazy_eds) = series
        options = {"iterations": 80, "tolerance": None, **QUIET}
        eager = getattr(eds, f"reconstruct_{method}")(haadf, **options)
        errors = []
        for given in (
            {"chunks": 10, "overlap": 0},
            {"chunks": 10, "overlap": 2},
            {"chunks": 10, "overlap": 8},
            {},
        ):
            lazy = getattr(lazy_eds, f"reconstruct_{method}")(lazy_haadf, **given, **options)
            assert lazy.history[-1]["calibration"] == eager.history[-1]["calibration"]
            errors.append(regularised.relative(lazy.data.compute(), eager.data))
        assert lazy.history[-1]["slabs"] == {"count": 1, "thickness": 40, "overlap": 16}
        assert errors[0] > 4 * errors[1] > 4 * errors[2]
        assert errors[2] < 5e-3
        assert errors[3] < 1e-6

    @pytest.mark.parametrize("dimensions", [2, 3])
    def test_long_before_it_has_converged(self, dimensions):
        """Slabs of very different counts iterate as all slices together do:
        their steps are those of the whole."""
        (haadf, eds), _ = wire(slices=64)
        eds.data = eds.data * np.where(np.arange(64) < 32, 1, 20)[:, None]
        options = {"iterations": 8, "tolerance": None, "dimensions": dimensions, **QUIET}
        eager = eds.reconstruct_tv(haadf, **options)
        lazy = eds.as_lazy().reconstruct_tv(haadf.as_lazy(), chunks=32, overlap=16, **options)
        assert regularised.relative(lazy.data.compute(), eager.data) < 1e-6

    @pytest.mark.slow
    def test_backgrounds_stay_lazy(self, series):
        (_, eds), (_, lazy_eds) = series
        background = np.random.default_rng(3).random(eds.data.shape, np.float32)
        eager = eds.reconstruct_em(4, background=background, **QUIET)
        lazy = lazy_eds.reconstruct_em(
            4, background=da.from_array(background, chunks=(-1, -1, 9, -1)), chunks=16
        )
        np.testing.assert_allclose(lazy.data.compute(), eager.data, atol=2e-6 * eager.data.max())

    @pytest.mark.slow
    def test_with_maps_of_larger_pixels(self):
        (haadf, eds), (lazy_haadf, lazy_eds) = wire(slices=48)
        options = {"ratios": RATIOS, "iterations": 60, "regulariser": "tv", "tolerance": 0, **QUIET}
        eager = eds.bin(2).reconstruct_hebt(haadf, **options)
        lazy = lazy_eds.bin(2).reconstruct_hebt(lazy_haadf, chunks=16, **options)
        assert lazy.history[-1]["slabs"] == {"count": 3, "thickness": 16, "overlap": 16}
        assert regularised.relative(lazy.data.compute(), eager.data) < 5e-3

    def test_mask_and_start_are_read_slab_by_slab(self, series):
        (_, eds), (_, lazy_eds) = series
        start = eds.reconstruct_sirt(3, depth=None, **QUIET)
        mask = np.zeros((32, 40, 32), bool)
        mask[4:28, :, 4:28] = True
        eager = eds.reconstruct_em(4, initial=start, mask=mask, **QUIET)
        chunked = da.from_array(mask, chunks=(8, 9, 32))
        lazy = lazy_eds.reconstruct_em(4, initial=start.as_lazy(), mask=chunked, chunks=16)
        np.testing.assert_allclose(lazy.data.compute(), eager.data, atol=2e-6 * eager.data.max())
        assert lazy.history[-1]["mask"] == "given"

    @pytest.mark.slow
    def test_any_scheduler(self, series):
        (haadf, _), (lazy, _) = series
        eager = haadf.reconstruct_sirt(5, **QUIET).data
        for scheduler in ("synchronous", "threads", "processes"):
            with dask.config.set(scheduler=scheduler, num_workers=2):
                found = lazy.reconstruct_sirt(5, chunks=16).data.compute()
            np.testing.assert_array_equal(found, eager)

    def test_errors_name_the_series(self, series):
        (haadf, _) = series[1]
        broken = haadf.deepcopy()
        broken.data = da.where(da.arange(40)[:, None] == 30, np.nan, haadf.data)
        with pytest.raises(ValueError, match="the HAADF series has .* NaN"):
            broken.reconstruct_sirt(1, chunks=16).compute(**QUIET)


class TestBar:
    def test_it_counts_slabs(self, series, monkeypatch):
        counted = []
        monkeypatch.setattr(
            slab_progress,
            "progress_bar",
            lambda show, what, total: _Recorded(counted, what, total),
        )
        (haadf, _) = series[1]
        haadf.reconstruct_sirt(1, chunks=16).compute(show_progressbar=True)
        assert counted == [("slabs", 3), 1, 1, 1]


class _Recorded:
    def __init__(self, counted, what, total):
        self.counted = counted
        counted.append((what, total))

    def __enter__(self):
        return lambda *_: self.counted.append(1)

    def __exit__(self, *exception):
        pass


class TestStored:
    """Files that are not what they should be."""

    @pytest.fixture(params=["zspy", "hspy"])
    def saved(self, series, tmp_path, request):
        path = tmp_path / f"haadf.{request.param}"
        series[1][0].save(path, chunks=(len(TILTS), 8, 32), **QUIET)
        return path

    def test_whole_files_are_taken(self, series, saved):
        eager = series[0][0].reconstruct_sirt(3, **QUIET)
        volume = hs.load(saved, lazy=True).reconstruct_sirt(3, chunks=16)
        volume.save(saved.with_name("volume.zspy"), **QUIET)
        np.testing.assert_array_equal(hs.load(saved.with_name("volume.zspy")).data, eager.data)

    def test_a_chunk_is_missing(self, series, tmp_path):
        path = tmp_path / "haadf.zspy"
        series[1][0].save(path, chunks=(len(TILTS), 8, 32), **QUIET)
        chunks = [
            file
            for file in (path / "Experiments").rglob("data/**/*")
            if file.is_file() and not file.name.startswith(".")
        ]
        assert len(chunks) == 5
        chunks[2].unlink()
        with pytest.raises(
            OSError,
            match=r"haadf.zspy, .*data lacks 1 of its 5 chunks.*copy or write the file again",
        ):
            hs.load(path, lazy=True).reconstruct_sirt(3)

    def test_the_disk_is_full(self, series, tmp_path, monkeypatch):
        (haadf, _) = series[1]
        target = tmp_path / "volume.zspy"
        haadf.reconstruct_sirt(1, chunks=16).save(target, **QUIET)
        before = hs.load(target).data
        written = []

        import zarr

        put = zarr.storage.NestedDirectoryStore.__setitem__

        def full(self, key, value):
            written.extend([key] * ("/data/" in key and key[-1].isdigit()))
            if len(written) > 1:
                raise OSError(errno.ENOSPC, "No space left on device")
            put(self, key, value)

        kept = tmp_path / "slabs"
        volume = haadf.reconstruct_sirt(2, chunks=16, checkpoint=kept)
        with monkeypatch.context() as patch:
            patch.setattr(zarr.storage.NestedDirectoryStore, "__setitem__", full)
            with pytest.raises(OSError, match="the disk is full.*resume= goes on from there"):
                volume.save(target, overwrite=True, **QUIET)
        np.testing.assert_array_equal(hs.load(target).data, before)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["slabs", "volume.zspy"]


class TestInterrupt:
    """An interrupt stops the slabs that are worked at, keeps their state,
    and leaves no thread behind."""

    @pytest.mark.slow
    @pytest.mark.parametrize("kept", [False, True])
    def test_ctrl_c(self, series, tmp_path, kept, monkeypatch):
        (lazy, _), run, at_work, pressed = series[1], job.run, threading.Event(), []

        def told(*arguments, **how):
            at_work.set()
            return run(*arguments, **how)

        def interrupt():
            at_work.wait(60)
            time.sleep(0.3)
            pressed.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

        lazy.reconstruct_sirt(1, chunks=16).compute(**QUIET)  # which compiles the kernels
        monkeypatch.setattr(job, "run", told)
        options = {"chunks": 16, "tolerance": None, "iterations": 100_000}
        volume = lazy.reconstruct_sirt(
            **options, **({"checkpoint": tmp_path / "slabs"} if kept else {})
        )
        before, user = threading.active_count(), threading.Thread(target=interrupt)
        user.start()
        with warnings.catch_warnings(), interrupts_heard():
            warnings.simplefilter("ignore")  # that they were interrupted
            with pytest.raises(KeyboardInterrupt):
                volume.compute(**QUIET)
        assert time.monotonic() - pressed[0] < 20
        user.join()
        gc.collect()
        assert threading.active_count() <= before
        assert volume._lazy
        if kept:
            assert {path.suffix for path in (tmp_path / "slabs").iterdir()} == {".state"}

    def test_it_can_be_computed_again(self, series, monkeypatch):
        (lazy, eager) = series[1][0], series[0][0]
        volume, run, calls = lazy.reconstruct_sirt(3, chunks=16), job.run, []

        def fails_once(*arguments, **options):
            calls.append(1)
            if len(calls) == 1:
                raise OSError("the network is gone")
            return run(*arguments, **options)

        monkeypatch.setattr(job, "run", fails_once)
        with pytest.raises(OSError, match="network"):
            volume.compute(**QUIET)
        volume.compute(**QUIET)
        np.testing.assert_array_equal(volume.data, eager.reconstruct_sirt(3, **QUIET).data)


class TestCheckpoints:
    """Slabs that were finished are not done again;
    tests/test_checkpoint.py has the state of the solvers."""

    def test_finished_slabs_stay(self, series, tmp_path, monkeypatch):
        (_, lazy) = series[1]
        kept, run, ran = tmp_path / "slabs", job.run, []

        def fails_at_the_third(*arguments, **options):
            ran.append(1)
            if len(ran) == 3:
                raise OSError("the network is gone")
            return run(*arguments, **options)

        with dask.config.set(scheduler="synchronous"):
            monkeypatch.setattr(job, "run", fails_at_the_third)
            with pytest.raises(OSError, match="network"):
                lazy.reconstruct_sirt(4, chunks=10, checkpoint=kept).compute(**QUIET)
            assert len(list(kept.glob("*.volume"))) == 2
            resumed = lazy.reconstruct_sirt(4, chunks=10, resume=kept)
            resumed.compute(**QUIET)
        assert len(ran) == 5  # 3 and the 2 that were missing
        np.testing.assert_array_equal(resumed.data, series[0][1].reconstruct_sirt(4, **QUIET).data)

    def test_slabs_stay_as_they_were_cut(self, series, tmp_path, monkeypatch):
        """Though other workers, or other memory, would have them cut in another way."""
        (_, lazy) = series[1]
        kept, ran, run = tmp_path / "slabs", [], job.run
        monkeypatch.setattr(
            job, "run", lambda *arguments, **options: ran.append(1) or run(*arguments, **options)
        )
        options = {"iterations": 3, "overlap": 4}
        with monkeypatch.context() as patch:
            patch.setattr(slabs, "workers", lambda: {"a": {}, "b": {}, "c": {}})
            first = lazy.reconstruct_tv(checkpoint=kept, **options)
            assert first.history[-1]["slabs"] == {"count": 3, "thickness": 16, "overlap": 4}
            first.compute(**QUIET)
        assert lazy.reconstruct_tv(**options).history[-1]["slabs"]["count"] == 1
        again = lazy.reconstruct_tv(resume=kept, **options)
        again.compute(**QUIET)
        assert len(ran) == 3
        np.testing.assert_array_equal(again.data, first.data)
        with pytest.raises(ValueError, match="chunks=20 makes other slabs than the 16 slices"):
            lazy.reconstruct_tv(resume=kept, chunks=20, **options)
        # The last slab, which may be thinner, does not tell how thick the others are.
        for path in kept.glob("slices_00000*"), kept.glob("slices_00016*"):
            next(path).unlink()
        assert lazy.reconstruct_tv(resume=kept, **options).history[-1]["slabs"]["count"] == 1

    def test_a_slab_goes_on_from_its_state(self, series, tmp_path, monkeypatch):
        (lazy, _) = series[1]
        kept, run, resumed_at = tmp_path / "slabs", job.run, []

        def cut_short(iterates, iterations, **options):
            result = run(iterates, iterations if resumed_at else 30, **options)
            resumed_at.append(result.resumed_at)
            if len(resumed_at) == 1:
                raise OSError("the machine stops")
            return result

        monkeypatch.setattr(job, "run", cut_short)
        options = {"iterations": 50, "tolerance": None, "chunks": 40}
        with pytest.raises(OSError, match="stops"):
            lazy.reconstruct_tgv(checkpoint=kept, **options).compute(**QUIET)
        found = lazy.reconstruct_tgv(resume=kept, **options)
        found.compute(**QUIET)
        assert resumed_at == [None, 30]
        assert [path.suffix for path in kept.iterdir()] == [".volume"]
        monkeypatch.undo()
        whole = lazy.reconstruct_tgv(**options)
        whole.compute(**QUIET)
        np.testing.assert_array_equal(found.data, whole.data)

    @pytest.mark.parametrize("method", ["tgv", "hebt"])
    def test_in_memory(self, series, tmp_path, method):
        (haadf, eds) = series[0]
        options = {"tolerance": None, **QUIET} | ({"ratios": RATIOS} if method == "hebt" else {})
        call, path = getattr(eds, f"reconstruct_{method}"), tmp_path / "run.state"
        call(haadf, iterations=12, checkpoint=path, **options)
        resumed = call(haadf, iterations=30, resume=path, **options)
        whole = call(haadf, iterations=30, **options)
        np.testing.assert_array_equal(resumed.data, whole.data)
        assert resumed.history[-1]["resumed_at"] == 12
        assert "resumed_at" not in whole.history[-1]
        assert resumed.history[-1]["iterations"] == 30
        for name, values in whole.residuals.items():
            np.testing.assert_array_equal(resumed.residuals[name], values)

    def test_of_another_run(self, series, tmp_path):
        (haadf, eds) = series[0]
        path = tmp_path / "run.state"
        eds.reconstruct_tv(haadf, iterations=2, checkpoint=path, **QUIET)
        for other, said in (
            ({"weight": 2.0}, "`weight` is 2.0 and was 1.0"),
            ({"depth": 20.0}, "geometry"),
        ):
            with pytest.raises(ValueError, match=f"another run.*{said}"):
                eds.reconstruct_tv(haadf, iterations=4, resume=path, **other, **QUIET)
        changed = eds.deepcopy()
        changed.data[0, 0, 0, 0] += 1
        with pytest.raises(ValueError, match="another run.*data"):
            changed.reconstruct_tv(haadf, iterations=4, resume=path, **QUIET)
        with pytest.raises(ValueError, match="another run.*step"):
            eds.reconstruct_tgv(haadf, iterations=4, resume=path, **QUIET)

    def test_places(self, series, tmp_path):
        (haadf, _) = series[0]
        with pytest.raises(
            FileNotFoundError, match="there is no checkpoint .* pass checkpoint= to start one"
        ):
            haadf.reconstruct_sirt(2, resume=tmp_path / "none", **QUIET)
        (tmp_path / "there").write_text("something else")
        with pytest.raises(FileExistsError, match="exists already: pass resume="):
            haadf.reconstruct_sirt(2, checkpoint=tmp_path / "there", **QUIET)
        with pytest.raises(ValueError, match="not a checkpoint"):
            haadf.reconstruct_sirt(2, resume=tmp_path / "there", **QUIET)
        haadf.reconstruct_sirt(2, checkpoint=tmp_path / "file", **QUIET)
        (tmp_path / "folder").mkdir()
        with pytest.raises(
            ValueError, match=r"is a file, .* in memory .* and this run needs a folder"
        ):
            series[1][0].reconstruct_sirt(2, resume=tmp_path / "file")
        with pytest.raises(ValueError, match="is a folder, as a lazy series"):
            haadf.reconstruct_sirt(2, resume=tmp_path / "folder", **QUIET)
        with pytest.raises(ValueError, match="two places"):
            haadf.reconstruct_sirt(2, checkpoint=tmp_path / "a", resume=tmp_path / "there", **QUIET)


class TestMemory:
    METHODS = ("sirt", "em", "cgls", "fbp", "hebt", "tv", "tgv", "tnv")

    @pytest.mark.slow
    @pytest.mark.parametrize("method", METHODS)
    def test_reckoned_is_held(self, method, monkeypatch):
        """What a slab is reckoned to hold is what it holds, within a third."""
        (_, _), (haadf, eds) = wire(slices=64, size=64)
        pairs = [haadf] if method in ("hebt", "tv", "tgv", "tnv") else []
        options = {"iterations": 3, "tolerance": None} | (
            {"ratios": RATIOS} if method == "hebt" else {}
        )
        options = {} if method == "fbp" else options
        reckoned = []
        cut = slabs.cut
        monkeypatch.setattr(
            "hyperspy_multitomo.reconstruction.run.cut",
            lambda *a, **k: reckoned.append(cut(*a, **k)) or reckoned[-1],
        )
        call = getattr(eds, f"reconstruct_{method}")
        with dask.config.set(scheduler="synchronous"):
            call(*pairs, **options).data.compute()  # and the kernels are compiled
            volume = call(*pairs, **options).data
            tracemalloc.start()
            volume.compute()
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert 0.67 < peak / reckoned[-1].needed < 1.33

    @pytest.mark.slow
    def test_it_does_not_grow_with_the_slices(self, tmp_path, monkeypatch):
        monkeypatch.setattr(
            noise, "_PIXELS", 64 * 64 * len(TILTS)
        )  # of which the noise is measured
        peaks, sizes = [], []
        for slices in (64, 256, 1280):  # the first compiles the kernels
            (_, _), (haadf, _) = wire(slices=slices, size=64)
            sizes.append(haadf.data.nbytes)
            haadf.save(tmp_path / f"{slices}.zspy", chunks=(len(TILTS), 16, 64), **QUIET)
            lazy = hs.load(tmp_path / f"{slices}.zspy", lazy=True)
            gc.collect()
            with dask.config.set(scheduler="synchronous"):
                tracemalloc.start()
                lazy.reconstruct_tv(chunks=64, overlap=4, iterations=5).save(
                    tmp_path / f"{slices}v.zspy", **QUIET
                )
                peaks.append(tracemalloc.get_traced_memory()[1])
                tracemalloc.stop()
        assert peaks[2] - peaks[1] < 0.5 * (
            sizes[2] - sizes[1]
        )  # a slab's part of the graph is some 30 kB

# SPDX-License-Identifier: GPL-3.0-or-later
"""Reconstructions by the workers of dask.distributed:
the same volume as in memory, also where a worker or the scheduler dies."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from series_pairs import QUIET, RATIOS, wire

distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def series():
    return wire(slices=96)


@pytest.fixture
def client():
    options = {
        "n_workers": 2,
        "threads_per_worker": 1,
        "processes": True,
        "dashboard_address": None,
    }
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield client


def test_a_killed_worker_changes_nothing(series, client, tmp_path):
    (haadf, eds), (lazy_haadf, lazy_eds) = series
    volume = lazy_eds.reconstruct_hebt(
        lazy_haadf, ratios=RATIOS, iterations=300, chunks=16, checkpoint=tmp_path / "slabs"
    )
    before = client.run(os.getpid)
    stopped = []

    def kill_one():
        """Kill the worker that finished the first slab while it works at another."""
        while not list((tmp_path / "slabs").glob("*.volume")):
            time.sleep(0.005)
        stopped.append(next(iter(before.values())))
        os.kill(stopped[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    volume.compute(**QUIET)
    killer.join()
    client.wait_for_workers(2, timeout=30)
    assert stopped[0] not in client.run(os.getpid).values()
    eager = eds.reconstruct_hebt(haadf, ratios=RATIOS, iterations=300, **QUIET)
    np.testing.assert_array_equal(volume.data, eager.data)


def test_what_a_dashboard_shows_is_what_was_planned(series, client):
    (_, _), (haadf, eds) = series
    options = {"chunks": 24, "overlap": 4, "iterations": 20, "tolerance": None}
    client.get_task_stream()
    plan = eds.plan_reconstruction("tgv", haadf, **options)
    assert (plan.slabs, plan.thickness, plan.overlap, plan.at_once, plan.threads, plan.workers) == (
        4,
        24,
        4,
        2,
        1,
        2,
    )
    assert "numba, on 2 workers" in str(plan)
    eds.reconstruct_tgv(haadf, **options).compute(**QUIET)
    names = [distributed.utils.key_split(event["key"]) for event in client.get_task_stream()]
    assert sum(name.startswith("reconstruct_tgv") for name in names) == plan.slabs
    assert names.count("on_worker") == 2 * plan.at_once  # the trial, and before it one iteration


def test_a_plan_takes_the_threads_of_the_workers(series, client):
    (_, _), (haadf, _) = series
    client.run(_places, 1, "3")  # sets the variable
    plan = haadf.plan_reconstruction("sirt", chunks=16, iterations=20)
    assert (plan.slabs, plan.at_once, plan.threads) == (6, 2, 3)


def test_a_plan_counts_the_places_of_a_worker(series):
    (eager, _), (haadf, _) = series
    options = {
        "n_workers": 1,
        "threads_per_worker": 2,
        "processes": True,
        "dashboard_address": None,
    }
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        filters = client.run(_filters)
        plan = haadf.plan_reconstruction("sirt", chunks=16, iterations=20)
        assert (plan.slabs, plan.workers, plan.at_once, plan.threads) == (6, 1, 2, 1)
        assert client.run(_filters) == filters
        assert haadf.plan_reconstruction("sirt", chunks=96, iterations=20).threads == 2
        assert eager.plan_reconstruction("sirt", iterations=20).workers == 0


def _filters():
    """Run by a worker: what it does with warnings."""
    import warnings

    return list(map(str, warnings.filters))


def test_slabs_for_workers_that_are_to_come(series):
    (eager, _), (haadf, _) = series
    options = {
        "n_workers": 0,
        "threads_per_worker": 1,
        "processes": False,
        "dashboard_address": None,
    }
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster):
        with pytest.warns(UserWarning, match="no workers yet.*wait_for_workers"):
            volume = haadf.reconstruct_sirt(3)
        with pytest.warns(UserWarning, match="no workers yet"):
            assert haadf.plan_reconstruction("sirt", iterations=3).workers == 0
        haadf.reconstruct_sirt(3, chunks=16)
        cluster.scale(1)
        volume.compute(**QUIET)
        assert haadf.plan_reconstruction("sirt", iterations=3).workers == 1
    np.testing.assert_array_equal(volume.data, eager.reconstruct_sirt(3, **QUIET).data)


def _places(needed, threads):
    """Run by a worker that is told how many threads a slab may take."""
    from hyperspy_multitomo.reconstruction.slots import places

    os.environ["OMP_NUM_THREADS"] = threads
    return places(needed, 9)


def test_threads_of_a_slab_are_those_of_its_worker(client):
    assert client.submit(_places, 1, "1").result() == (1, 1)
    assert client.submit(_places, 1, "8").result() == (1, 8)


def test_a_dead_scheduler_leaves_what_was_finished(series, tmp_path):
    (haadf, _), (lazy, _) = series
    command = [
        sys.executable,
        "-m",
        "distributed.cli.dask_scheduler",
        "--port",
        "0",
        "--no-dashboard",
        "--scheduler-file",
    ]
    where = str(tmp_path / "scheduler.json")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler = subprocess.Popen([*command, where], **quiet)
    worker = [
        sys.executable,
        "-m",
        "distributed.cli.dask_worker",
        "--nthreads",
        "1",
        "--no-dashboard",
        "--scheduler-file",
        where,
    ]
    worker = subprocess.Popen(worker, **quiet)
    kept = tmp_path / "slabs"
    try:
        with distributed.Client(scheduler_file=where, timeout=60) as client:
            client.wait_for_workers(1, timeout=60)
            volume = lazy.reconstruct_sirt(500, chunks=16, checkpoint=kept)

            def kill():
                while not list(kept.glob("*.volume")):
                    time.sleep(0.005)
                scheduler.kill()

            killer = threading.Thread(target=kill)
            killer.start()
            with pytest.raises(
                RuntimeError,
                match="the scheduler of the cluster is gone.*resume= goes on from there",
            ):
                volume.compute(**QUIET)
            killer.join()
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()
    assert list(kept.glob("*.volume"))
    resumed = lazy.reconstruct_sirt(500, chunks=16, resume=kept)
    resumed.compute(**QUIET)
    np.testing.assert_array_equal(resumed.data, haadf.reconstruct_sirt(500, **QUIET).data)

# SPDX-License-Identifier: GPL-3.0-or-later
"""The dask.distributed cluster that computes what is lazy, where one is in use: its client, its workers, and their memory."""

from __future__ import annotations

import sys

from hyperspy_multitomo.machine.memory import available_memory


def client_in_use():
    """Return the client that computes what is lazy, or None."""
    return _from_distributed("default_client")


def worker_in_use():
    """Return the worker whose task this is, or None."""
    return _from_distributed("get_worker")


def _from_distributed(name: str):
    """Return what a function of dask.distributed gives, None where there is nothing; nobody uses what was not imported."""
    if "distributed" not in sys.modules:
        return None
    try:
        return getattr(sys.modules["distributed"], name)()
    except ValueError:
        return None


def workers() -> dict[str, dict]:
    """Return what the scheduler knows of each worker that is there, by their addresses; none without a cluster."""
    client = client_in_use()
    return {} if client is None else dict(client.scheduler_info(n_workers=-1)["workers"])


def worker_memory() -> int | None:
    """Return the bytes that slabs are planned for: those of the smallest worker, or of this machine; None if unknown."""
    limits = [worker["memory_limit"] for worker in workers().values() if worker.get("memory_limit")]
    return min(limits, default=available_memory())

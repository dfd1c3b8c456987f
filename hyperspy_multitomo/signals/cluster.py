# SPDX-License-Identifier: GPL-3.0-or-later
"""The dask.distributed cluster that computes what is lazy, where one is in use: its workers, and what slabs may take there."""

from __future__ import annotations

import sys

from .memory import available_memory


def client_in_use():
    """Return the dask.distributed client that computes what is lazy, or None."""
    if "distributed" not in sys.modules:
        return None
    from distributed import default_client

    try:
        return default_client()
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

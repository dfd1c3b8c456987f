# SPDX-License-Identifier: GPL-3.0-or-later
"""The dask.distributed cluster in use, if any: its client, its workers, and their memory."""

from __future__ import annotations

import sys

from hyperspy_multitomo.machine.memory import available_memory


def client_in_use():
    """Return the default client, which computes lazy data, or None."""
    return _from_distributed("default_client")


def worker_in_use():
    """Return the worker that runs the present task, or None outside of a cluster."""
    return _from_distributed("get_worker")


def _from_distributed(name: str):
    """Call a function of dask.distributed; return None where there is no client or worker."""
    # A cluster in use has imported dask.distributed already.
    if "distributed" not in sys.modules:
        return None
    try:
        return getattr(sys.modules["distributed"], name)()
    except ValueError:
        return None


def workers() -> dict[str, dict]:
    """Return the scheduler's information on each worker by its address; empty without a cluster."""
    client = client_in_use()
    return {} if client is None else dict(client.scheduler_info(n_workers=-1)["workers"])


def worker_memory() -> int | None:
    """Return the bytes that slabs are planned for, or None if unknown.

    They are the memory of the smallest worker or, without a cluster, what is free on this machine.
    """
    limits = [worker["memory_limit"] for worker in workers().values() if worker.get("memory_limit")]
    return min(limits, default=available_memory())

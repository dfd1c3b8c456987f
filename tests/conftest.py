# SPDX-License-Identifier: GPL-3.0-or-later
"""The device that tests of the CUDA code run on:
emulated on the CPU, and a real one where there is one."""

import pytest
from emulated_cuda import COMPILER, emulated

# Helpers that assert show both sides, as tests do.
pytest.register_assert_rewrite("projector_checks", "solver_cases")


def _place_cuda(first: bool) -> None:
    """Put the back-end "cuda" before all others, as it is, or behind them."""
    from hyperspy_multitomo.tomography import BACKENDS

    others = dict(BACKENDS)
    cuda = {"cuda": others.pop("cuda")}
    BACKENDS.clear()
    BACKENDS.update(cuda | others if first else others | cuda)


@pytest.fixture(scope="session", autouse=True)
def cores_first():
    """Let the automatic choice be the cores on machines with a GPU too,
    but in tests of the device."""
    _place_cuda(first=False)
    yield
    _place_cuda(first=True)


@pytest.fixture
def device_first():
    """Let the automatic choice be what it is outside of tests."""
    _place_cuda(first=True)
    yield
    _place_cuda(first=False)


@pytest.fixture(params=["emulated", "device"])
def cuda(request, monkeypatch, device_first):
    """CuPy, emulated and real: what is given stands for the module `cupy`."""
    from hyperspy_multitomo.tomography.cuda import device

    if request.param == "device":
        if (reason := device.problem()) is not None:
            pytest.skip(reason)
        yield device.cupy()
        return
    if COMPILER is None:
        pytest.skip("the emulated device needs g++, on Linux")
    with emulated(monkeypatch) as machine:
        yield machine


@pytest.fixture
def machine(monkeypatch, device_first):
    """The emulated CuPy alone, for what only it can tell: memory, launches, orders."""
    if COMPILER is None:
        pytest.skip("the emulated device needs g++, on Linux")
    with emulated(monkeypatch) as machine:
        yield machine

# SPDX-License-Identifier: GPL-3.0-or-later
"""CuPy and a device, emulated: "device" arrays that do not mix with the host's,
and CUDA C that runs as compiled C++ fibers.

What CuPy or a device would not forgive raises here: host arrays among device arrays, scalars of the
wrong type, arrays that are not C-ordered, a barrier that not all threads reach, writing beside an
array, more memory than there is. New memory holds NaN.
"""

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import weakref
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import scipy.fft

HEADER = Path(__file__).with_name("emulated_cuda.h")
COMPILER = shutil.which("g++") if sys.platform == "linux" else None
GUARD = 256  # bytes on both sides of an allocation
#: Functions and methods that are NumPy's, on device arrays.
FUNCTIONS = """abs maximum minimum sqrt log exp where clip sum moveaxis transpose concatenate stack
repeat dot vdot tensordot
einsum square add subtract multiply divide isfinite any all broadcast_to max min"""
METHODS = "reshape ravel transpose swapaxes view astype copy repeat sum min max mean all any"
FUNCTIONS, METHODS = frozenset(FUNCTIONS.split()), frozenset(METHODS.split())
OPTIONS = (
    "-O2",
    "-std=c++17",
    "-shared",
    "-fPIC",
    "-ffp-contract=off",
    "-fno-gnu-unique",
    "-U_FORTIFY_SOURCE",
)
OPTIONS += ("-Wno-unknown-pragmas",)
LAUNCHING = threading.Lock()  # fibers of two launches would mix
LIMITS = ((2**31 - 1, 65535, 65535), (1024, 1024, 64))


class OutOfMemoryError(MemoryError):
    """As cupy.cuda.memory.OutOfMemoryError."""


class Memory:
    """The memory of the device: bytes in all, in use,
    and the most that ever were since `peak` was set."""

    def __init__(self, total: int):
        self.total, self.used, self.peak = total, 0, 0

    def take(self, nbytes: int) -> np.ndarray:
        if self.used + nbytes > self.total:
            raise OutOfMemoryError(f"out of memory allocating {nbytes} bytes")
        raw = np.full(nbytes + 2 * GUARD, 255, np.uint8)
        self.used += nbytes
        self.peak = max(self.peak, self.used)
        weakref.finalize(raw, self._give_back, nbytes)
        return raw

    def _give_back(self, nbytes):
        self.used -= nbytes


class Array(np.lib.mixins.NDArrayOperatorsMixin):
    """A device array: NumPy's arithmetic, but never implicitly an array of the host."""

    def __init__(self, machine, values: np.ndarray, root: np.ndarray | None = None):
        """Hold `values`, a view of the allocation `root`,
        or a copy of them in an allocation of its own."""
        self._machine = machine
        if root is None:
            root = machine.memory.take(values.nbytes)
            order = "F" if values.flags.f_contiguous and not values.flags.c_contiguous else "C"
            held = (
                root[GUARD : GUARD + values.nbytes]
                .view(values.dtype)
                .reshape(values.shape, order=order)
            )
            held[...] = values
            values = held
        self._values, self._root = values, root

    def __array__(self, *args, **kwargs):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct "
            "a NumPy array"
        )

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        if out is not None:
            kwargs["out"] = tuple(self._machine.unwrap(target) for target in out)
        result = getattr(ufunc, method)(
            *(self._machine.unwrap(value) for value in inputs), **kwargs
        )
        return out[0] if out is not None else self._wrap(result)

    def _wrap(self, result):
        result = np.asarray(result)
        shares = np.may_share_memory(result, self._root)
        return Array(self._machine, result, self._root if shares else None)

    def __getattr__(self, name):
        if name in ("shape", "dtype", "ndim", "size", "nbytes", "flags", "itemsize", "strides"):
            return getattr(self._values, name)
        if name in METHODS:
            machine, method = self._machine, getattr(self._values, name)
            return lambda *args, **kwargs: self._wrap(method(*map(machine.unwrap, args), **kwargs))
        raise AttributeError(f"emulated device arrays have no {name!r}")

    @property
    def T(self):
        return self._wrap(self._values.T)

    @property
    def data(self):
        return SimpleNamespace(ptr=self._values.ctypes.data)

    def get(self):
        return self._values.copy(order="A")

    def item(self):
        return self._values.item()

    def fill(self, value):
        self._values.fill(value)

    def _index(self, index):
        parts = index if isinstance(index, tuple) else (index,)
        parts = tuple(self._machine.unwrap(part) for part in parts)
        return parts if isinstance(index, tuple) else parts[0]

    def __getitem__(self, index):
        return self._wrap(self._values[self._index(index)])

    def __setitem__(self, index, value):
        self._values[self._index(index)] = self._machine.unwrap(value)

    def __len__(self):
        return len(self._values)

    def __iter__(self):
        return (self[k] for k in range(len(self)))

    def __float__(self):
        return float(self._values)

    def __int__(self):
        return int(self._values)

    def __bool__(self):
        return bool(self._values)

    def __dlpack__(self, *args, **kwargs):
        return self._values.__dlpack__()

    def __dlpack_device__(self):
        return self._values.__dlpack_device__()

    def __deepcopy__(self, memo):
        return self.copy()

    def intact(self) -> bool:
        """Whether nothing was written beside the allocation."""
        return bool((self._root[:GUARD] == 255).all() and (self._root[-GUARD:] == 255).all())


class Kernel:
    """One `__global__` function of a compiled source."""

    def __init__(self, machine, library, name: str):
        self._machine, self.name = machine, name
        self._launch = getattr(library, f"emulated_launch_{name}")
        signature = getattr(library, f"emulated_signature_{name}")
        signature.restype = ctypes.c_char_p
        self.signature = signature().decode().split()

    def __call__(self, grid, block, args, *, shared_mem=0):
        if shared_mem:
            raise NotImplementedError(
                "the emulator has no dynamic shared memory; declare arrays of a fixed size"
            )
        sizes = []
        for what, size, limits in zip(("grid", "block"), (grid, block), LIMITS, strict=True):
            size = (*size, 1, 1)[:3]
            if not all(
                isinstance(n, int) and 1 <= n <= limit
                for n, limit in zip(size, limits, strict=True)
            ):
                raise ValueError(
                    f"{self.name}: the {what} {size} is not possible; expected numbers from 1 to "
                    f"{limits}"
                )
            sizes.append((ctypes.c_uint * 3)(*size))
        if np.prod(sizes[1]) > 1024:
            raise ValueError(f"{self.name}: a block of {tuple(sizes[1])} threads is too large")
        if len(args) != len(self.signature):
            raise TypeError(
                f"{self.name} takes {len(self.signature)} arguments and was given {len(args)}"
            )
        held = [
            self._argument(k, *pair)
            for k, pair in enumerate(zip(args, self.signature, strict=True))
        ]
        pointers = (ctypes.c_void_p * len(held))(*(one.ctypes.data for one in held))
        self._machine.launches[self.name] = self._machine.launches.get(self.name, 0) + 1
        with LAUNCHING:
            divergent = self._launch(sizes[0], sizes[1], pointers, self._machine.order)
        if divergent:
            raise RuntimeError(
                f"{self.name}: some threads of a block ended before a barrier that others wait at"
            )
        for k, arg in enumerate(args):
            if isinstance(arg, Array) and not arg.intact():
                raise RuntimeError(
                    f"{self.name} wrote beside its argument {k}, or beside an array next to it"
                )

    def _argument(self, k, arg, wanted):
        """Return the argument's value as an array of one element."""
        if wanted.startswith("*"):
            if isinstance(arg, np.uintp) and arg == 0:
                return np.zeros(1, np.uintp)
            if not isinstance(arg, Array) or arg.dtype.str[1:] != wanted[1:]:
                raise TypeError(
                    f"{self.name}: argument {k} is {getattr(arg, 'dtype', type(arg))}; expected an "
                    f"array of {wanted[1:]}"
                )
            if not arg.flags.c_contiguous:
                raise ValueError(f"{self.name}: argument {k} is not C-ordered")
            return np.array([arg.data.ptr], np.uintp)
        if not isinstance(arg, np.generic) or arg.dtype.str[1:] != wanted:
            raise TypeError(
                f"{self.name}: argument {k} is {arg!r} of {type(arg).__name__}; expected a scalar "
                f"of {wanted}"
            )
        return np.array([arg])


def compiled(code: str) -> Path:
    """Return the shared library of a CUDA source, compiled unless it has been before."""
    # Comments may name kernels too.
    bare = re.sub(r"//.*?$|/\*.*?\*/", "", code, flags=re.M | re.S)
    names = re.findall(
        r"__global__\s+(?:__launch_bounds__\([^)]*\)\s*)?void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\s*\(",
        bare,
    )
    launchers = "".join(
        f'extern "C" int emulated_launch_{name}(const unsigned *grid, const unsigned *block, void '
        "**arguments, int order) "
        f"{{ return emulated::launch({name}, grid, block, arguments, order); }}\n"
        f'extern "C" const char *emulated_signature_{name}() {{ return '
        f"emulated::signature({name}); }}\n"
        for name in names
    )
    source = f"// {OPTIONS}\n" + HEADER.read_text() + code + "\n" + launchers
    folder = Path(tempfile.gettempdir()) / f"emulated_cuda_{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    library = folder / f"{hashlib.sha256(source.encode()).hexdigest()[:24]}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            (text := Path(scratch) / "kernels.cpp").write_text(source)
            built = Path(scratch) / "kernels.so"
            # No contraction: what is computed is what is written. A fortified library does not let
            # fibers jump.
            command = [COMPILER, *OPTIONS, "-o", built, text]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode:
                raise RuntimeError(f"g++ does not compile the source:\n{result.stderr[:4000]}")
            os.replace(built, library)
    return library


class EmulatedCupy:
    """What stands for the module `cupy`.

    Parameters
    ----------
    memory : int
        Bytes of the device.
    order : {0, 1, 2}
        Threads of a block run forwards, backwards, or by turns between the barriers: results must
        not depend on it.

    Attributes
    ----------
    launches : dict
        How often each kernel was called.
    memory : Memory
    """

    float32, float64, int32, int64, bool_ = np.float32, np.float64, np.int32, np.int64, np.bool_
    newaxis, pi, inf = None, np.pi, np.inf
    ndarray = Array
    __name__ = "cupy"

    def __init__(self, memory: int = 2**30, order: int = 0):
        self.memory, self.order, self.launches = Memory(memory), order, {}
        self.fft = SimpleNamespace(
            rfft=self._device(scipy.fft.rfft), irfft=self._device(scipy.fft.irfft)
        )
        machine = self

        class Device:
            def __init__(self, device=None):
                self.id = 0 if device is None else int(device)
                self.mem_info = (machine.memory.total - machine.memory.used, machine.memory.total)
                self.compute_capability = "00"

            def __enter__(self):
                return self

            def __exit__(self, *exception):
                return None

            def use(self):
                return self

            def synchronize(self):
                return None

        self.cuda = SimpleNamespace(
            Device=Device,
            memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            runtime=SimpleNamespace(
                getDeviceCount=lambda: 1,
                memGetInfo=lambda: Device().mem_info,
                getDeviceProperties=lambda device: {"name": b"Emulated"},
            ),
            Stream=SimpleNamespace(null=SimpleNamespace(synchronize=lambda: None)),
        )

    def unwrap(self, value):
        """Return what NumPy works on; an array of the host raises, as it does in CuPy."""
        if isinstance(value, Array):
            return value._values
        if isinstance(value, np.ndarray):
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        if isinstance(value, list | tuple):
            return type(value)(self.unwrap(one) for one in value)
        return value

    def _device(self, function):
        def on_device(*args, **kwargs):
            kwargs = {name: self.unwrap(value) for name, value in kwargs.items()}
            result = function(*(self.unwrap(value) for value in args), **kwargs)
            roots = {
                id(a._root): a._root
                for arg in args
                for a in (arg if isinstance(arg, list | tuple) else [arg])
                if isinstance(a, Array)
            }
            root = next(
                (root for root in roots.values() if np.may_share_memory(result, root)), None
            )
            return Array(self, np.asarray(result), root)

        return on_device

    def __getattr__(self, name):
        if name in FUNCTIONS:
            return self._device(getattr(np, name))
        raise AttributeError(f"the emulated cupy has no {name!r}")

    def empty(self, shape, dtype=np.float64):
        """Return new memory: NaN, so that what is read before it is written shows."""
        shape = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
        nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        root = self.memory.take(nbytes)
        return Array(self, root[GUARD : GUARD + nbytes].view(dtype).reshape(shape), root)

    def full(self, shape, value, dtype=None):
        made = self.empty(shape, np.result_type(value) if dtype is None else dtype)
        made.fill(value)
        return made

    def zeros(self, shape, dtype=np.float64):
        return self.full(shape, 0, dtype)

    def ones(self, shape, dtype=np.float64):
        return self.full(shape, 1, dtype)

    def empty_like(self, array):
        return self.empty(array.shape, array.dtype)

    def zeros_like(self, array):
        return self.zeros(array.shape, array.dtype)

    def asarray(self, array, dtype=None):
        if isinstance(array, Array):
            return array if dtype in (None, array.dtype) else array.astype(dtype)
        return Array(self, np.array(array, dtype))

    array = asarray

    def ascontiguousarray(self, array, dtype=None):
        array = self.asarray(array, dtype)
        return (
            array if array.flags.c_contiguous else Array(self, np.ascontiguousarray(array._values))
        )

    def asnumpy(self, array):
        return array.get() if isinstance(array, Array) else np.asarray(array)

    def get_default_memory_pool(self):
        return SimpleNamespace(
            free_bytes=lambda: 0, used_bytes=lambda: self.memory.used, free_all_blocks=lambda: None
        )

    def RawModule(self, *, code, options=(), backend="nvrtc"):
        if COMPILER is None:
            raise RuntimeError("the emulator needs g++")
        library = ctypes.CDLL(str(compiled(code)))
        return SimpleNamespace(get_function=lambda name: Kernel(self, library, name))


@contextmanager
def emulated(monkeypatch, **options):
    """Put an emulated CuPy in the place of the real one; gives it."""
    from hyperspy_multitomo.tomography.cuda import device

    machine = EmulatedCupy(**options)
    with monkeypatch.context() as patch:
        patch.setattr(device, "cupy", lambda: machine)
        yield machine

# SPDX-License-Identifier: GPL-3.0-or-later
"""What every signal has: named channels, a history, calibrated axes, operators, safe saving."""

from __future__ import annotations

import copy
import functools
import inspect
import os
from collections.abc import Callable
from pathlib import Path

from hyperspy.signals import Signal2D

from hyperspy_multitomo.acquisition.units import unit_of
from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.parameters import text
from hyperspy_multitomo.signals.metadata.formats import check_format
from hyperspy_multitomo.signals.metadata.history import read_history
from hyperspy_multitomo.signals.metadata.missing_axes import remedy
from hyperspy_multitomo.signals.metadata.missing_chunks import check_file_of
from hyperspy_multitomo.signals.metadata.recorded_arrays import axis_named, keep_present, recall
from hyperspy_multitomo.signals.metadata.saving import save_signal
from hyperspy_multitomo.signals.methods import arithmetic, indexing, navigating
from hyperspy_multitomo.signals.registry import is_ours

_METHODS = "hyperspy_multitomo.signals.methods."
#: Channels of a volume that are not chemical elements.
OTHER_CHANNELS = ("HAADF", "rest")


def _forgetting(name: str) -> Callable:
    """Return HyperSpy's method that forgets afterwards what it made untrue."""

    @functools.wraps(getattr(Signal2D, name))
    def method(self, *args, **kwargs):
        result = getattr(super(TomographySignal, self), name)(*args, **kwargs)
        arithmetic.followed(self if result is None else result, name)
        return result

    return method


class TomographySignal(Signal2D):
    """Base of the tilt series and volumes; whatever overrides HyperSpy's methods is here."""

    def __init_subclass__(cls, **keywords):
        """Let help show the plain functions that a class binds as methods, with `self` first."""
        super().__init_subclass__(**keywords)
        for member in vars(cls).values():
            if inspect.isfunction(member) and member.__module__.startswith(_METHODS):
                signature = inspect.signature(member)
                first, *others = signature.parameters.values()
                parameters = [first.replace(name="self"), *others]
                member.__signature__ = signature.replace(parameters=parameters)

    @functools.wraps(Signal2D.plot)
    def plot(self, *args, **kwargs):
        """Open HyperSpy's viewer where something is."""
        navigating.start_where_something_is(self)
        return super().plot(*args, **kwargs)

    # Names, history and calibration.

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels along the axis ``element``; empty where there is none."""
        return tuple(recall(self, "channels") or ())

    @property
    def elements(self) -> tuple[str, ...]:
        """The channels that are chemical elements (neither ``"HAADF"`` nor ``"rest"``)."""
        return tuple(name for name in self.channels if name not in OTHER_CHANNELS)

    @property
    def history(self) -> list[dict]:
        """The steps that made this signal, oldest first, with parameters and version."""
        return read_history(self)

    @property
    def pixel_size(self) -> float | None:
        """Pixel size across the tilt axis in nm; None where ``x`` has no length unit."""
        axis = axis_named(self, "x")
        unit = None if axis is None else unit_of(axis.units)
        return (
            float(axis.scale) * unit.factor if unit is not None and unit.kind == "length" else None
        )

    def __contains__(self, channel: str) -> bool:
        return channel in self.channels

    def __getitem__(self, channel: str):
        """Return one channel by name, without the axis ``element``: ``volume["Au"]``."""
        names = self.channels
        if channel not in names:
            raise KeyError(
                f"no channel {channel!r}; there are {', '.join(names) or 'no named channels'}"
            )
        if axis_named(self, "element") is None:
            return self.deepcopy()
        at = names.index(channel)
        single = self.inav[self._along_element(slice(at, at + 1))]
        keep_present(single)
        single = single.inav[single._along_element(0)]
        single.metadata.General.title = channel
        return single

    def _deepcopy_with_new_data(self, *args, **kwargs):
        """Return a copy with other data, as HyperSpy does, safely for other threads.

        HyperSpy takes the data off the signal while it copies it, here off a stand-in: every
        slicing comes here, and the threads of the panels read the same signal meanwhile. A copy
        does not know which file it is from, so that the file is checked now.
        """
        check_file_of(self)
        stand_in = copy.copy(self)
        stand_in.models = copy.copy(self.models)
        return super(TomographySignal, stand_in)._deepcopy_with_new_data(*args, **kwargs)

    def _along_element(self, item) -> tuple:
        return tuple(
            item if axis.name == "element" else slice(None)
            for axis in self.axes_manager.navigation_axes
        )

    def array(self, *names: str):
        """Return the data (NumPy or dask) with the axes in the order of `names`, without copying.

        A signal with one named channel and no axis ``element`` gets that axis, of length one.

        Raises
        ------
        ValueError
            Where an axis is missing or there is one more, named in the message.
        OSError
            Where the file that the signal was loaded from lacks chunks of its arrays.
        """
        check_file_of(self)
        for name in names:
            text("the axis name", name)
        axes = {axis.name: axis.index_in_array for axis in self.axes_manager._axes}
        data = self.data
        if "element" in names and "element" not in axes and len(self.channels) == 1:
            axes["element"] = data.ndim
            data = data[..., None]
        missing = [name for name in names if name not in axes]
        extra = [name for name in axes if name not in names]
        if missing or extra:
            problem = (
                [f"has no axis {', '.join(missing)} ({'; '.join(map(remedy, missing))})"]
                if missing
                else []
            )
            problem += [f"has also {', '.join(map(str, extra))}"] if extra else []
            raise ValueError(
                f"{type(self).__name__} with the axes ({', '.join(names)}) is needed; this one "
                f"{' and '.join(problem)}"
            )
        return data.transpose([axes[name] for name in names])

    @checked
    def save(self, filename=None, overwrite=None, extension=None, file_format=None, **kwds):
        """Save to a file or a .zspy folder; no failure harms the previous one.

        The data are written under a temporary name in the same folder and renamed when they are
        complete.

        Parameters
        ----------
        filename : str or path-like
            The file; the suffix selects the format, ``.hspy`` where there is none.
        overwrite : bool, optional
            True replaces an existing file. Otherwise an existing file is an error, and stays as it
            is.
        extension, file_format : str, optional
            As in HyperSpy's ``save``.
        **kwds
            Passed to the writer, e.g. ``chunks``.

        Raises
        ------
        FileExistsError
            If the file exists and `overwrite` is not True.
        OSError
            If it cannot be written, such as on a full disk: the message names the file, and what
            was there before is whole.
        ValueError
            For a format that cannot be written, or cannot hold this signal; those that can are
            named.
        """
        path = self._path(filename)
        if extension:
            path = path.with_suffix("." + extension.lstrip("."))
        elif not path.suffix:
            path = path.with_suffix(".hspy")
        check_file_of(self)
        check_format(self, path, file_format)
        save_signal(self, path, overwrite, super().save, file_format, **kwds)
        self.tmp_parameters.set_item("folder", str(path.parent))
        self.tmp_parameters.set_item("filename", path.stem)
        self.tmp_parameters.set_item("extension", path.suffix.lstrip("."))

    def _path(self, filename) -> Path:
        """Return the path to save to: `filename`, or that of the last saving or loading."""
        path = None if filename is None else Path(os.fspath(filename))
        if path is not None and (path.suffix == ".zspy" or not path.is_dir()):
            return path
        last = self.tmp_parameters
        if not last.has_item("filename"):
            raise ValueError(
                "the signal has not been saved before: pass a file name, e.g. save('particle.zspy')"
            )
        name = last.filename + "." + last.get_item("extension", default="hspy").lstrip(".")
        return (path or Path(last.get_item("folder", default="."))) / name

    # Indices and sums that remove an axis.
    def _slicer(self, slices, isNavigation=None, out=None):
        indexing.check_indices({True: "inav", False: "isig", None: ""}[isNavigation], slices)
        return super()._slicer(slices, isNavigation, out)

    def _assign_subclass(self, *args, **kwargs):
        signal_type = self._signal_type
        super()._assign_subclass(*args, **kwargs)
        indexing.mark_as_cut(self, signal_type)

    # Operators, NumPy's functions and methods that change the values: what is kept beside the data
    # follows them.
    def _binary_operator_ruler(self, other, op_name):
        follow = arithmetic.rule(self, other, op_name)
        result = super()._binary_operator_ruler(other, op_name)
        if is_ours(result):
            follow(result)
        return result

    def _unary_operator_ruler(self, op_name):
        result = super()._unary_operator_ruler(op_name)
        arithmetic.follow_unary(result, op_name)
        return result

    def __array_wrap__(self, array, context=None, return_scalar=False):
        """Return the result of a NumPy function as a signal, without what it makes untrue."""
        result = super().__array_wrap__(array, context, return_scalar)
        arithmetic.follow_numpy(result, context)
        return result

    @checked
    def map(self, function, *args, **kwargs):
        """Apply a function to each image, see HyperSpy's `map`.

        Counts, gains, dose and alignment are forgotten.
        """
        result = super().map(function, *args, **kwargs)
        arithmetic.follow_map(self if result is None else result, function)
        return result

    add_gaussian_noise = _forgetting("add_gaussian_noise")
    add_poissonian_noise = _forgetting("add_poissonian_noise")
    add_ramp = _forgetting("add_ramp")
    apply_apodization = _forgetting("apply_apodization")
    get_bss_model = _forgetting("get_bss_model")
    get_decomposition_model = _forgetting("get_decomposition_model")
    remove_spikes = _forgetting("remove_spikes")

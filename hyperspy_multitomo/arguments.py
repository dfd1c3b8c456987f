# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the arguments of public functions, by argument name.

An argument of one name means the same throughout the package, so that one table (`KINDS`) has the
check of each.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from numbers import Integral, Real
from typing import TypeVar, overload

import numpy as np

from hyperspy_multitomo import parameters
from hyperspy_multitomo.parameters import (
    flag,
    mapping,
    names,
    number,
    path,
    positive_number,
    signal_of_type,
    text,
    whole_number,
)

__all__ = ["checked"]

# Type checkers see the signature of what is checked.
F = TypeVar("F", bound=Callable)


def of_type(*types: str) -> Callable:
    """Return the check of a signal of one of the package's classes."""
    return lambda name, value: signal_of_type(name, value, *types)


def instance_of(*classes: str) -> Callable:
    """Return the check of an object of one of the package's classes.

    The classes are given by name, so that none has to be imported.
    """

    def check(name: str, value):
        if not {each.__name__ for each in type(value).__mro__}.intersection(classes):
            raise TypeError(
                f"{name}={parameters.shown(value)} must be of the class {' or '.join(classes)}"
            )
        return value

    return check


def either(*checks: Callable, expected: str) -> Callable:
    """Return the check of an argument of one of several kinds; `expected` describes them."""

    def check(name: str, value):
        for one in checks:
            try:
                return one(name, value)
            except (TypeError, ValueError):
                continue
        raise ValueError(f"{name}={parameters.shown(value)} must be {expected}")

    return check


def or_auto(check: Callable, expected: str) -> Callable:
    """Return the check of an argument that may also be found from the data."""

    def checked_or_auto(name: str, value):
        if isinstance(value, str):
            if value != "auto":
                raise ValueError(f"{name}={value!r} must be {expected} or 'auto'")
            return value
        return check(name, value)

    return checked_or_auto


def whole(least: int, what: str = "") -> Callable:
    """Return the check of a whole number from `least` up."""
    return lambda name, value: whole_number(name, value, least, what)


def each_named(check: Callable, kinds: str = "name to value") -> Callable:
    """Return the check of a dict whose values pass a check; `kinds` describes its items."""

    def checked_dict(name: str, value):
        if not isinstance(value, Mapping):
            raise TypeError(
                f"{name} must be a dict of {kinds}; got {type(value).__name__} "
                f"{parameters.shown(value)}"
            )
        names(name, value)
        for key, one in value.items():
            check(f"{name}[{key!r}]", one)
        return value

    return checked_dict


def real(name: str, value):
    """Return a real number, NaN included; the function itself checks the range."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise ValueError(f"{name}={parameters.shown(value)} must be a number")
    return value


def integer(name: str, value):
    """Return a whole number; the function itself checks the range."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Integral):
        raise TypeError(f"{name}={parameters.shown(value)} must be a whole number")
    return value


def files(name: str, value):
    """Return a path, or a list of paths."""
    if isinstance(value, str | os.PathLike):
        return path(name, value)
    if not isinstance(value, Iterable) or hasattr(value, "axes_manager") or np.ndim(value) != 1:
        raise TypeError(
            f"{name}={parameters.shown(value)} must be a file, a folder, a pattern or a list of "
            "them"
        )
    for one in value:
        path(f"one of {name}", one)
    return value


def pair(what: str) -> Callable:
    """Return the check of two finite numbers in ascending order; `what` describes them."""

    def check(name: str, value):
        first, second = parameters.numbers(name, value, 2)
        if not first < second:
            raise ValueError(
                f"{name}={parameters.shown(value)} must be {what}, the second larger than the first"
            )
        return value

    return check


def sides(name: str, value):
    """Return the sides of a pixel: one length, or two, (y, x)."""
    expected = "a positive length in nm, or two, (y, x)"
    both = either(
        positive_number, lambda name, value: parameters.numbers(name, value, 2), expected=expected
    )
    if not np.all(np.asarray(both(name, value)) > 0):
        raise ValueError(f"{name}={parameters.shown(value)} must be {expected}")
    return value


def limits(name: str, value):
    """Return a lower and an upper limit for each channel."""
    if np.ndim(parameters.numbers(name, value)) != 2 or np.shape(value)[1] != 2:
        raise ValueError(
            f"{name}={parameters.shown(value)} must be two numbers for each channel, as in [(0, "
            "10), (0, 5)]"
        )
    return value


def listed(name: str, value):
    """Return a one-dimensional, non-empty list of finite numbers."""
    if (
        isinstance(value, str | bytes | Mapping)
        or hasattr(value, "axes_manager")
        or np.ndim(value) != 1
        or not len(value)
    ):
        raise TypeError(f"{name}={parameters.shown(value)} must be a list of numbers")
    return parameters.numbers(name, value)


def listed_names(name: str, value):
    """Return a list of strings; a single string is an error."""
    if isinstance(value, str):
        raise TypeError(f"{name}={value!r} must be a list of strings")
    return names(name, value)


def length_or_auto(name: str, value):
    """Return a positive number, ``"auto"``, or None for as wide as the detector."""
    if value is None or (isinstance(value, str) and value == "auto"):
        return value
    return positive_number(name, value)


_SERIES = of_type("TiltSeriesHAADF"), of_type("TiltSeriesEDS", "TiltSeriesEELS")
_by_element = each_named(real, "element to number")

#: The check of each argument, in every function that has one of that name. None passes where the
#: function has it as a default.
KINDS: dict[str, Callable] = {
    # Lengths, amounts and strengths.
    **dict.fromkeys(
        ("solid_angle", "beam_energy", "prior_strength", "min_counts"),
        positive_number,
    ),
    **dict.fromkeys(("depth", "width"), length_or_auto),
    **dict.fromkeys(
        ("alpha0", "haadf_gain", "noise", "energy_loss", "sigma", "level"),
        positive_number,
    ),
    "weight": or_auto(positive_number, "a positive number"),
    "alpha": or_auto(number, "a number"),
    "pixel_size": sides,
    **dict.fromkeys(
        (
            "tilt",
            "depth_cue",
            "power",
            "relaxation",
            "cutoff",
            "ratio",
            "mean",
            "axis_offset",
            "rotation",
            "dose",
            "tolerance",
        ),
        number,
    ),
    "fraction": parameters.fraction,
    # Numbers of things.
    "iterations": or_auto(whole(0), "a whole number"),
    "slices": whole(1, "of slices"),
    **dict.fromkeys(("rounds", "binning", "block_size", "dimensions"), whole(1)),
    "chunks": whole(1, "of slices"),
    "overlap": whole(0, "of slices"),
    "smooth": whole(0),
    "y": integer,
    "factor": whole(2),
    "size": lambda name, value: parameters.odd_number(name, value, 3),
    # Yes or no.
    **dict.fromkeys(
        (
            "rest",
            "nonnegative",
            "film",
            "interpolate",
            "drift",
            "clip",
            "lazy",
            "register_frames",
            "signed_bytes",
        ),
        flag,
    ),
    **dict.fromkeys(
        ("reverse_tilts", "return_uncertainty", "overwrite", "per_element", "support"), flag
    ),
    **dict.fromkeys(("interactive", "display"), flag),
    "show_progressbar": either(
        flag, parameters.function, expected="True, False or a function that takes each iterate"
    ),
    # One of some words; the function says which.
    **dict.fromkeys(
        (
            "halves",
            "method",
            "model",
            "data_term",
            "haadf_term",
            "regulariser",
            "weighting",
            "stopping",
            "filter",
        ),
        text,
    ),
    **dict.fromkeys(
        (
            "orientation",
            "slow_axis",
            "tilt_axis",
            "duplicates",
            "on_error",
            "stack_axes",
            "image",
            "backend",
        ),
        text,
    ),
    **dict.fromkeys(
        (
            "composition_units",
            "units",
            "through",
            "toolkit",
            "extension",
            "file_format",
            "quantity",
        ),
        text,
    ),
    "coupled": either(flag, text, expected="True, False or 'nuclear'"),
    # Names and files.
    **dict.fromkeys(
        ("channels", "channel", "elements", "edges", "lines", "also", "colours"), names
    ),
    "xray_lines": either(
        each_named(text),
        listed_names,
        expected="a list of lines such as ['Fe_Ka'], or a dict of them by element",
    ),
    **dict.fromkeys(("checkpoint", "resume", "filename"), path),
    "files": files,
    # Series, volumes and what was measured of them.
    "haadf": _SERIES[0],
    **dict.fromkeys(("eds", "maps"), _SERIES[1]),
    **dict.fromkeys(("volume", "composition", "like"), of_type("TomographicVolume")),
    "alignment": instance_of("Alignment"),
    "fit": instance_of("BackgroundLevel"),
    "quality": instance_of("AlignmentQuality"),
    "ratios": either(
        instance_of("ResponseRatios"),
        _by_element,
        expected="ResponseRatios, or a dict with one of each element",
    ),
    # Numbers, by element or in arrays.
    **dict.fromkeys(("haadf_weights", "weights"), _by_element),
    "prior": either(
        text, _by_element, expected="'auto', 'model' or a dict with a number of each element"
    ),
    "prior_width": either(
        positive_number,
        each_named(positive_number),
        expected="a positive number, or a dict with one of each element",
    ),
    "factors": either(
        _by_element, listed, expected="a dict with the factor of each element, or a list of factors"
    ),
    "factor_errors": either(
        number, _by_element, listed, expected="a number, or a dict or list of one each"
    ),
    "atomic_densities": either(
        text, _by_element, expected="a string, or a dict with the density of each element"
    ),
    "density": either(number, text, expected="a density in g/cm^3, or a string"),
    "direction": either(text, number, expected="'x', 'y', 'z' or a tilt in degrees"),
    "reference": either(
        text, mapping, expected="a string, or a dict with the intensity of each element"
    ),
    "absorption": mapping,
    **dict.fromkeys(("mask", "initial", "background"), parameters.array),
    "count_errors": either(
        instance_of("Realisations"),
        mapping,
        parameters.array,
        expected="noise realisations, an array, a volume, or a dict with an array of each element",
    ),
    "tilts": either(number, listed, expected="angles in degrees"),
    **dict.fromkeys(("position", "across", "along", "shifts"), listed),
    "limits": limits,
    "haadf_angles": pair("the inner and the outer angle of the detector in mrad"),
    "energy_range": pair("two energies"),
    "function": parameters.function,
}

#: The check of a threshold that may be the name of a method.
THRESHOLD = either(number, text, parameters.array, expected="a number or the name of a method")
DAMPING = instance_of("DampingModel")


@overload
def checked(call: F) -> F: ...


@overload
def checked(call: None = None, **kinds: Callable | None) -> Callable[[F], F]: ...


def checked(call: Callable | None = None, **kinds: Callable | None) -> Callable:
    """Decorate a public method, function or class: check the arguments before it runs.

    Parameters
    ----------
    call : callable or class
        The decorated callable; of a class its ``__init__`` is decorated.
    **kinds
        Checks of arguments that mean something else here than in `KINDS`; None for no check.

    Returns
    -------
    callable
        With the same signature. It raises a TypeError or a ValueError that names the argument, its
        value and what is expected.
    """
    if call is None:
        return partial(checked, **kinds)
    if inspect.isclass(call):
        call.__init__ = checked(call.__init__, **kinds)
        return call
    signature = inspect.signature(call)
    known = KINDS | kinds
    checks = {
        name: (check, parameter.default is None or "None" in str(parameter.annotation))
        for name, parameter in signature.parameters.items()
        if (check := known.get(name)) is not None
    }

    @functools.wraps(call)
    def wrapper(*args, **kwargs):
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            if hasattr(call, "__signature__") and "unexpected keyword" in str(error):
                # The function itself takes any keyword: what it documents are all.
                raise TypeError(f"{call.__name__}() {error}") from None
            return call(*args, **kwargs)  # which says what is wrong, with its name
        for name, (check, optional) in checks.items():
            if name in given and not (optional and given[name] is None):
                check(name, given[name])
        return call(*args, **kwargs)

    return wrapper

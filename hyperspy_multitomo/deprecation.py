# SPDX-License-Identifier: GPL-3.0-or-later
"""Deprecated names: they work for two minor versions, with a warning that says what to use."""

import warnings
from collections.abc import Callable, Mapping
from functools import wraps
from importlib import import_module
from typing import Any

from numpy.exceptions import VisibleDeprecationWarning

from hyperspy_multitomo.machine.notices import warn

__all__ = ["deprecated", "deprecated_keyword", "deprecated_names"]

#: Minor versions in which a deprecated name still works.
MINOR_VERSIONS = 2


def _removal(since: str) -> str:
    """Return the version without what is deprecated since another: "0.4" for "0.2"."""
    major, minor = (int(number) for number in since.split(".")[:2])
    return f"{major}.{minor + MINOR_VERSIONS}"


def _text(name: str, since: str, instead: str | None) -> str:
    use = f"; use {instead}" if instead else ""
    return f"{name} is deprecated since {since} and will be removed in {_removal(since)}{use}"


def _warn(name: str, since: str, instead: str | None, stacklevel: int) -> None:
    # Shown to everybody, as HyperSpy's own: Python hides a DeprecationWarning from imported code.
    text = _text(name, since, instead)
    warnings.warn(text, VisibleDeprecationWarning, stacklevel=stacklevel + 1)


def deprecated_keyword(name: str, since: str, instead: str | None = None) -> None:
    """
    Warn, at the user's line, of a keyword that is deprecated: where a function was given it.

    Parameters
    ----------
    name : str
        The keyword, as in "prior_strength=".
    since : str
        The version that deprecates it, such as "0.2".
    instead : str, optional
        What to use, as the warning names it.

    Examples
    --------
    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as said:
    ...     warnings.simplefilter("always")
    ...     deprecated_keyword("strength=", "0.2", "width=")
    >>> print(said[0].message)
    strength= is deprecated since 0.2 and will be removed in 0.4; use width=
    """
    warn(_text(name, since, instead), VisibleDeprecationWarning)


def deprecated(since: str, instead: str | None = None) -> Callable[[Callable], Callable]:
    """
    Return a decorator for a function or method that is deprecated: each call warns.

    Parameters
    ----------
    since : str
        The version that deprecates it, such as "0.2".
    instead : str, optional
        What to use, as the warning names it.

    Returns
    -------
    callable

    Examples
    --------
    >>> @deprecated("0.2", instead="hebt")
    ... def bimodal(x):
    ...     "Return x."
    ...     return x
    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as said:
    ...     warnings.simplefilter("always")
    ...     bimodal(3)
    3
    >>> print(said[0].message)
    bimodal is deprecated since 0.2 and will be removed in 0.4; use hebt
    """
    _removal(since)

    def decorate(function: Callable) -> Callable:
        @wraps(function)
        def warned(*args, **kwds):
            _warn(function.__qualname__, since, instead, stacklevel=2)
            return function(*args, **kwds)

        use = f" Use {instead}." if instead else ""
        summary, *rest = (function.__doc__ or "").split("\n", 1)
        indent = " " * min(
            (len(line) - len(line.lstrip()) for line in "".join(rest).split("\n") if line.strip()),
            default=0,
        )
        removal = f"Will be removed in {_removal(since)}.{use}"
        note = f"{indent}.. deprecated:: {since}\n{indent}   {removal}"
        warned.__doc__ = "\n".join([summary, "", note, *rest])
        return warned

    return decorate


def deprecated_names(module: str, names: Mapping[str, str], since: str) -> Callable[[str], Any]:
    """
    Return a ``__getattr__`` for a module: old names lead to new ones, with a warning.

    Parameters
    ----------
    module : str
        Its ``__name__``.
    names : mapping of str to str
        Old name: where it is now, as "package.module.name".
    since : str
        The version that moved them, such as "0.2".

    Returns
    -------
    callable

    Examples
    --------
    >>> renamed = {"Geometry": "hyperspy_multitomo.TiltGeometry"}
    >>> old = deprecated_names("hyperspy_multitomo", renamed, "0.2")
    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     old("Geometry").__name__
    'TiltGeometry'
    """
    _removal(since)

    def __getattr__(name: str):
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        place, attribute = names[name].rsplit(".", 1)
        _warn(f"{module}.{name}", since, names[name], stacklevel=2)
        return getattr(import_module(place), attribute)

    return __getattr__

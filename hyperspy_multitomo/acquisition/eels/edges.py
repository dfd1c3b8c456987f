# SPDX-License-Identifier: GPL-3.0-or-later
"""Ionisation edges: their onsets, the edges in a range of energy losses, and their windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from numbers import Real

import numpy as np

__all__ = [
    "Edge",
    "background_ranges",
    "channels_within",
    "edges_between",
    "integration_ranges",
    "resolve_edges",
]

# Range (eV) before the nominal onset where chemical shift, resolution and calibration may put it.
# 2.5 to 10 move the net counts of benchmarks/edge_maps.py by 1 % (fit) and 3 % (windows) at 300
# counts of background per pixel; 10 is too wide for O K above V L3 (-25 %).
MARGIN = 5.0
# Range (eV) of white lines and fine structure above the onset of another edge.
_FINE_STRUCTURE = 30.0
# Default width of a background window, relative to the onset and at least (eV); and the narrowest
# one (eV) that is accepted where there is less room. Twice the width moves the net counts of
# benchmarks/edge_maps.py by 3 % at 300 counts of background per pixel; half of it triples the
# standard errors of the exponents.
_BACKGROUND_WIDTH, _LEAST_WIDTH, _NARROWEST = 0.1, 40.0, 15.0


@dataclass(frozen=True)
class Edge:
    """
    An ionisation edge.

    Attributes
    ----------
    name : str
        ``"Mn_L3"``.
    onset : float
        In eV.
    major : bool
        Whether it is one of the strong edges of its element.
    """

    name: str
    onset: float
    major: bool = True

    @property
    def element(self) -> str:
        """The symbol, ``"Mn"``."""
        return self.name.partition("_")[0]

    @property
    def shell(self) -> str:
        """The subshell, ``"L3"``."""
        return self.name.partition("_")[2]


def edges_between(low: float, high: float) -> tuple[Edge, ...]:
    """
    Return the strong edges of all elements with an onset in a range of energy losses.

    Of each shell this is the first subshell only.

    Parameters
    ----------
    low, high : float
        In eV.

    Returns
    -------
    tuple of Edge
        Ascending in energy.

    Examples
    --------
    >>> [edge.name for edge in edges_between(531, 533)]
    ['O_K']
    """
    found = []
    for element in _database().values():
        first: dict[str, Edge] = {}
        for edge in sorted(element, key=lambda edge: (edge.onset, edge.shell)):
            if edge.major:
                first.setdefault(edge.shell[0], edge)
        found += [edge for edge in first.values() if low <= edge.onset <= high]
    return tuple(sorted(found, key=lambda edge: edge.onset))


def resolve_edges(
    names: Sequence[str], energy_range: tuple[float, float], *, once: bool = True
) -> tuple[Edge, ...]:
    """
    Look up edges by name.

    Parameters
    ----------
    names : sequence of str
        Such as ``["O_K", "Mn_L3"]``.
    energy_range : (float, float)
        First and last energy loss of the data in eV.
    once : bool, default True
        Refuse a second edge of an element.

    Returns
    -------
    tuple of Edge
        In the order of `names`.

    Raises
    ------
    ValueError
        For unknown edges, edges outside the range, and several edges of an element; lists those
        available.

    Examples
    --------
    >>> [edge.onset for edge in resolve_edges(["O_K", "Mn_L3"], (480, 820))]
    [532.0, 640.0]
    """
    if isinstance(names, str) or names is None or not len(names):
        raise ValueError(f'edges={names!r} must be a list of edges such as ["O_K", "Mn_L3"]')
    edges = tuple(_resolve(str(name), energy_range) for name in names)
    elements = [edge.element for edge in edges]
    twice = sorted({element for element in elements if elements.count(element) > 1})
    if once and twice:
        raise ValueError(
            f"edges={list(names)} name {', '.join(twice)} more than once; a map needs one edge of "
            "each element"
        )
    return edges


def _resolve(name: str, energy_range: tuple[float, float]) -> Edge:
    low, high = energy_range
    element, _, shell = name.partition("_")
    known = _database().get(element)
    if known is None:
        names = [edge.name for edge in edges_between(low, high)]
        listed = ", ".join(names[:30]) + (" ..." if len(names) > 30 else "") or "none"
        raise ValueError(
            f"unknown edge {name!r}; expected a symbol and a subshell such as 'O_K' or 'Mn_L3'. "
            f"Strong edges between {low:g} and {high:g} eV: {listed}"
        )
    within = (
        ", ".join(f"{edge.name} ({edge.onset:g} eV)" for edge in known if low <= edge.onset <= high)
        or "none"
    )
    for edge in known:
        if edge.shell == shell:
            if not low <= edge.onset <= high:
                raise ValueError(
                    f"the edge {name} begins at {edge.onset:g} eV, outside the data, which reach "
                    f"from {low:g} to {high:g} eV; edges of {element} there: {within}"
                )
            return edge
    raise ValueError(
        f"unknown edge {name!r}; edges of {element} between {low:g} and {high:g} eV: {within}"
    )


def channels_within(energy: np.ndarray, window: tuple[float, float], what: str) -> np.ndarray:
    """
    Return a mask of the channels in a window, both ends included.

    Parameters
    ----------
    energy : ndarray (energy,)
        In eV, ascending.
    window : (float, float)
        In eV.
    what : str
        Name of the window for error messages.

    Returns
    -------
    ndarray (energy,), bool

    Raises
    ------
    ValueError
        For a window that is not a range, not inside the data, or has fewer than two channels.

    Examples
    --------
    >>> channels_within(np.arange(500.0, 510.0), (502, 504), "the window").sum()
    np.int64(3)
    """
    values = np.asarray(window, dtype=float)
    if values.shape != (2,) or not np.isfinite(values).all() or values[0] >= values[1]:
        raise ValueError(f"{what} is {window!r}; expected (lowest, highest) in eV")
    low, high = values
    step = energy[1] - energy[0]
    if low < energy[0] - step / 2 or high > energy[-1] + step / 2:
        raise ValueError(
            f"{what}, {low:g} to {high:g} eV, lies outside the data, which reach from "
            f"{energy[0]:g} to {energy[-1]:g} eV; choose a window inside, or check the energy axis"
        )
    # Energies computed from keV may miss the ends by a rounding error.
    mask = (energy >= low - 1e-3 * step) & (energy <= high + 1e-3 * step)
    if mask.sum() < 2:
        raise ValueError(
            f"{what}, {low:g} to {high:g} eV, holds {mask.sum()} channels of {step:g} eV; two are "
            "needed"
        )
    return mask


def integration_ranges(
    edges: Sequence[Edge], width: float, windows: Mapping[str, tuple[float, float]] | None = None
) -> dict[str, tuple[float, float]]:
    """
    Return the window in which each edge is counted.

    Parameters
    ----------
    edges : sequence of Edge
    width : float
        In eV, from the onset.
    windows : mapping of str to (float, float), optional
        Windows in eV, by edge or by element, in place of the default.

    Returns
    -------
    dict of str to (float, float)
        By the name of the edge.

    Raises
    ------
    ValueError
        For a width that is not positive, windows of other edges, and windows that end before the
        onset.

    Examples
    --------
    >>> integration_ranges(resolve_edges(["O_K"], (480, 820)), 50)
    {'O_K': (532.0, 582.0)}
    """
    if not (isinstance(width, Real) and np.isfinite(width) and width > 0):
        raise ValueError(f"width={width!r} must be a positive width in eV")
    ranges = {edge.name: (edge.onset, edge.onset + width) for edge in edges}
    ranges |= _by_edge(edges, windows, "integration_windows")
    for edge in edges:
        if max(ranges[edge.name]) <= edge.onset:
            raise ValueError(
                f"the integration window of {edge.name}, {ranges[edge.name]} eV, ends before its "
                f"onset at {edge.onset:g} eV"
            )
    return ranges


def background_ranges(
    edges: Sequence[Edge],
    energy_range: tuple[float, float],
    windows: Mapping[str, tuple[float, float]] | None = None,
    *,
    also: Sequence[Edge] = (),
) -> dict[str, tuple[float, float]]:
    """
    Return the background window before each edge, clear of the fine structure of other edges.

    Parameters
    ----------
    edges : sequence of Edge
    energy_range : (float, float)
        First and last energy loss of the data in eV.
    windows : mapping of str to (float, float), optional
        Windows in eV, by edge or by element, in place of the default.
    also : sequence of Edge
        Other edges to keep clear of.

    Returns
    -------
    dict of str to (float, float)

    Raises
    ------
    ValueError
        Where there is no room before an edge, and for windows that reach over the onset or of an
        edge that is not in `edges`.

    Examples
    --------
    >>> background_ranges(resolve_edges(["O_K", "Mn_L3"], (480, 820)), (480, 820))
    {'O_K': (480.0, 527.0), 'Mn_L3': (571.0, 635.0)}
    """
    ranges = _by_edge(edges, windows, "background_windows")
    for edge in edges:
        if edge.name in ranges:
            if max(ranges[edge.name]) > edge.onset:
                raise ValueError(
                    f"the background window of {edge.name}, {ranges[edge.name]} eV, reaches over "
                    f"its onset at {edge.onset:g} eV; end it at {edge.onset - MARGIN:g} eV or "
                    "before"
                )
            continue
        high = edge.onset - MARGIN
        low = high - max(_LEAST_WIDTH, _BACKGROUND_WIDTH * edge.onset)
        below = [
            other.onset + _FINE_STRUCTURE for other in (*edges, *also) if other.onset < edge.onset
        ]
        low = max(low, float(energy_range[0]), *below)
        if high - low < _NARROWEST:
            raise ValueError(
                f"there is no room for a background window before {edge.name} ({edge.onset:g} eV): "
                f"it would reach from {low:g} to {high:g} eV, the data begin at "
                f"{energy_range[0]:g} eV; pass background_windows={{'{edge.name}': (low, high)}}, "
                "or method='fit' where another edge is in the way"
            )
        ranges[edge.name] = (low, high)
    return {edge.name: ranges[edge.name] for edge in edges}


def _by_edge(
    edges: Sequence[Edge], windows: Mapping | None, name: str
) -> dict[str, tuple[float, float]]:
    """Return windows, which may be named by their elements, by the names of their edges."""
    if windows is None:
        return {}
    if not isinstance(windows, Mapping):
        raise ValueError(
            f"{name}={windows!r} must be a dict of windows in eV such as {{'{edges[0].name}': "
            "(500, 550)}"
        )
    names = {edge.name: edge.name for edge in edges} | {edge.element: edge.name for edge in edges}
    unknown = [str(key) for key in windows if key not in names]
    if unknown:
        raise ValueError(
            f"{name} has {', '.join(unknown)}, but the edges are "
            f"{', '.join(edge.name for edge in edges)}"
        )
    for key, window in windows.items():
        if np.shape(window) != (2,):
            raise ValueError(f"{name}[{key!r}] is {window!r}; expected (lowest, highest) in eV")
    return {names[key]: tuple(window) for key, window in windows.items()}


@cache
def _database() -> dict[str, tuple[Edge, ...]]:
    """Return the edges of each element, ascending in energy."""
    import warnings

    with warnings.catch_warnings():
        # eXSpy issues deprecation warnings at import.
        warnings.simplefilter("ignore")
        from exspy.material import elements
    known = {}
    for symbol, properties in elements.as_dictionary().items():
        table = (
            properties.get("Atomic_properties", {}).get("Binding_energies")
            if isinstance(properties, dict)
            else None
        )
        if table:
            edges = (
                Edge(
                    f"{symbol}_{shell}",
                    float(entry["onset_energy (eV)"]),
                    entry.get("relevance") == "Major",
                )
                for shell, entry in table.items()
            )
            known[symbol] = tuple(sorted(edges, key=lambda edge: edge.onset))
    return known

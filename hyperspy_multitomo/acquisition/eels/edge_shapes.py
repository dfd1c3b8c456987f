# SPDX-License-Identifier: GPL-3.0-or-later
"""The shapes of ionisation edges: hydrogenic cross sections, and their fine structure."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from hyperspy_multitomo.acquisition.eels.edges import MARGIN, Edge

__all__ = ["cross_sections", "fine_structure"]

# Fine structure is modelled up to _REACH above the onset, or at least _WHITE_LINES where the next
# edge is near, in steps of _STEP (all eV). Half or twice the step and 15 eV more or less reach move
# the net counts of benchmarks/edge_maps.py by 2 % at 300 counts of background per pixel, and by up
# to 7 % at 3 counts.
_REACH, _WHITE_LINES, _STEP = 45.0, 30.0, 4.0


def cross_sections(
    edges: Sequence[Edge],
    energy: np.ndarray,
    *,
    beam_energy: float = 200.0,
    convergence_angle: float = 20.0,
    collection_angle: float = 30.0,
) -> np.ndarray:
    """
    Return eXSpy's hydrogenic cross sections of whole shells: L3 includes L2 and L1.

    Parameters
    ----------
    edges : sequence of Edge
        K and L3 edges.
    energy : ndarray (energy,)
        In eV, evenly spaced.
    beam_energy : float, default 200
        In keV.
    convergence_angle, collection_angle : float, default 20 and 30
        Semi-angles in mrad. They change the shapes by a few percent.

    Returns
    -------
    ndarray (edge, energy)
        In barn / eV, zero below the onset.

    Raises
    ------
    ValueError
        For edges of other shells.

    References
    ----------
    R. F. Egerton, Electron Energy-Loss Spectroscopy in the Electron Microscope, 3rd ed., Springer
    (2011), SIGMAK and SIGMAL, doi:10.1007/978-1-4419-9583-4.

    Examples
    --------
    >>> energy = np.arange(480.0, 700.0)
    >>> section = cross_sections([Edge("O_K", 532.0)], energy)[0]
    >>> float(energy[section > 0][0])
    532.0
    """
    other = [edge.name for edge in edges if edge.shell not in ("K", "L3")]
    if other:
        raise ValueError(
            "the fit knows the shapes of K and L3 edges (hydrogenic cross sections), not of "
            f"{', '.join(other)}; take another edge of the element, or method='windows'"
        )
    with warnings.catch_warnings():
        # eXSpy issues deprecation warnings at import.
        warnings.simplefilter("ignore")
        from exspy.components import EELSCLEdge
    shapes = []
    for edge in edges:
        component = EELSCLEdge(edge.name, GOS="hydrogenic")
        component.set_microscope_parameters(
            beam_energy, convergence_angle, collection_angle, float(energy[1] - energy[0])
        )
        shapes.append(np.maximum(component.function(np.asarray(energy, dtype=float)), 0.0))
    return np.array(shapes)


def fine_structure(
    edge: Edge, energy: np.ndarray, cross_section: np.ndarray, above: float = np.inf
) -> np.ndarray:
    """
    Split a cross section into parts that can be fitted to white lines and fine structure.

    Parameters
    ----------
    edge : Edge
    energy : ndarray (energy,)
        In eV.
    cross_section : ndarray (energy,)
        Cross section of the edge.
    above : float, optional
        Onset of the next edge in eV. The fine structure ends before it, but not less than 30 eV
        above its own onset.

    Returns
    -------
    ndarray (part, energy)
        Triangles of 4 eV in energy times the cross section, and last the rest of it. In equal
        amounts they add up to the cross section. The first begins 5 eV below the onset, because of
        chemical shifts.

    Examples
    --------
    >>> energy = np.arange(480.0, 700.0)
    >>> edge = Edge("O_K", 532.0)
    >>> section = np.where(energy >= 532, (532 / energy) ** 3, 0)
    >>> parts = fine_structure(edge, energy, section)
    >>> bool(np.allclose(parts.sum(0)[energy > 536], section[energy > 536]))
    True
    """
    step = max(_STEP, 2 * float(energy[1] - energy[0]))
    end = edge.onset + min(_REACH, max(above - MARGIN - edge.onset, _WHITE_LINES))
    nodes = np.arange(edge.onset - MARGIN, end + step / 2, step)
    # Below the onset the cross section is continued, because chemical shifts and white lines may
    # begin there.
    first = np.searchsorted(energy, edge.onset + step)
    continued = np.where(energy < energy[first], cross_section[first], cross_section)
    triangles = [np.interp(energy, nodes, unit, left=0.0) for unit in np.eye(len(nodes))[1:]]
    return np.array(triangles) * continued

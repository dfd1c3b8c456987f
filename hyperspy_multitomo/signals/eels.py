# SPDX-License-Identifier: GPL-3.0-or-later
"""The tilt series of EELS edge maps as a HyperSpy signal, axes ``(element, tilt | x, y)``."""

from __future__ import annotations

import re
from collections.abc import Mapping

from hyperspy.signals import LazySignal2D

from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.signals.elemental_series import ElementalTiltSeries
from hyperspy_multitomo.signals.metadata.recorded_arrays import record
from hyperspy_multitomo.signals.methods import map_counts

_EDGE = re.compile(r"([A-Z][a-z]?)_([K-O][1-7]?)")


class TiltSeriesEELS(ElementalTiltSeries):
    """Edge maps of one object, a set per tilt, axes ``(element, tilt | x, y)``.

    Array order (tilt, element, y, x).

    The data are net counts of each element's edge in its window. `gross` and `background` hold the
    counts in the window and what of them is not the edge, where the maps were made by `edge_maps`.
    """

    _signal_type = "TiltSeriesEELS"
    _TITLE = "EELS"
    _COUNTED = "edges"

    @classmethod
    @checked(maps=None, tilts=None, pixel_size=None)
    def from_maps(
        cls, maps: Mapping, tilts=None, pixel_size: float | None = None, **options
    ) -> TiltSeriesEELS:
        """Make a series from the maps of each element or edge and their tilts.

        Parameters
        ----------
        maps : dict of str to array-like, dask array, Signal2D or path-like
            For each element (``"Mn"``) or edge (``"Mn_L3"``) its maps, shape (tilt, y, x), in
            counts; a path is read.
        tilts : array-like of float or path-like, optional
            Tilt of each map in degrees, or the file that lists them; by default from the signals or
            files.
        pixel_size : float, optional
            In nm; by default that of the signals or files.
        **options
            ``tilt_axis``, ``reverse_tilts`` and ``duplicates`` as in `TiltSeriesHAADF.from_images`.

        Returns
        -------
        TiltSeriesEELS
            Its channels are the elements; `edges` are those given.

        Raises
        ------
        ValueError
            For several edges of an element, maps of different shape or calibration, data that are
            not finite, or tilts that do not fit.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_multitomo as mt
        >>> maps = {"Mn_L3": np.ones((3, 8, 10)), "O_K": np.ones((3, 8, 10))}
        >>> eels = mt.TiltSeriesEELS.from_maps(maps, tilts=[-40, 0, 40], pixel_size=0.76)
        >>> eels.elements, eels.edges
        (('Mn', 'O'), ('Mn_L3', 'O_K'))
        """
        if not isinstance(maps, Mapping):
            return super().from_maps(maps, tilts, pixel_size, **options)
        names = [(str(name), _EDGE.fullmatch(str(name))) for name in maps]
        unknown = [name for name, edge in names if not edge and not name.isalnum()]
        if unknown:
            raise ValueError(
                f"the maps {', '.join(unknown)} are named after no edge; expected elements or "
                "edges such as 'Mn_L3'"
            )
        elements = [edge[1] if edge else name for name, edge in names]
        twice = sorted({name for name in elements if elements.count(name) > 1})
        if twice:
            raise ValueError(
                f"the maps {', '.join(map(str, maps))} name {', '.join(twice)} more than once; "
                "give one edge of each"
            )
        series = super().from_maps(
            dict(zip(elements, maps.values(), strict=True)), tilts, pixel_size, **options
        )
        if any(edge for _, edge in names):
            record(series, "edges", [name if edge else "" for name, edge in names], ("element",))
        return series

    edges = property(map_counts.get_edges)
    integration_windows = property(map_counts.get_integration_windows)


class LazyTiltSeriesEELS(TiltSeriesEELS, LazySignal2D):
    """A `TiltSeriesEELS` whose data are a dask array."""

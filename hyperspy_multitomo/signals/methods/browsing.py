# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking through a tilt series in a panel."""

from __future__ import annotations

from hyperspy_multitomo.arguments import checked


class Browsing:
    """Mixin of the tilt series: `browse`."""

    @checked
    def browse(self, spectra=None, display: bool = True, toolkit: str | None = None):
        """Open a panel to look through the series: images, signal per tilt, bad tilts, and windows on the spectra.

        Parameters
        ----------
        spectra : EDSTEMSpectrum, optional
            The spectrum images of the series, axes ``(x, y, tilt | Energy)``, lazy or not. With
            them the panel shows their sum, and the map of any window on it at the current tilt.
            They are read tilt by tilt.
        display : bool, default True
            Show the panel; otherwise return its widgets.
        toolkit : str, optional
            Of HyperSpy's user interfaces; all that are installed by default.

        Returns
        -------
        TiltSeriesPanel or dict
            The panel, whose ``marked`` are the tilts (degrees) marked as bad and whose ``result``,
            after "Drop marked tilts", is what `drop_tilts` returns for them. With ``display=False``
            its widgets, ``{"ipywidgets": {"widget": ..., "wdict": {...}}}``.

        Raises
        ------
        ImportError
            Where the packages for panels are not installed: ``pip install
            "hyperspy_multitomo[gui]"``.
        ValueError
            For spectra with other axes than these, or a series whose axes were summed or sliced
            away.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_multitomo as mt
        >>> haadf = mt.TiltSeriesHAADF.from_images(np.ones((4, 8, 8)), tilts=[-40, -10, 0, 40])
        >>> widgets = haadf.browse(display=False)["ipywidgets"]["wdict"]
        >>> widgets["tilt"].value = 1
        >>> widgets["tilt"].label
        '-10.0'
        """
        from hyperspy_multitomo.widgets.opening import open_panel
        from hyperspy_multitomo.widgets.tilt_series_panel import TiltSeriesPanel

        return open_panel(TiltSeriesPanel(self, spectra), display, toolkit)

# SPDX-License-Identifier: GPL-3.0-or-later
"""All panels in one widget."""

from __future__ import annotations

from hyperspy_multitomo.arguments import checked


@checked
def workbench(haadf, eds, spectra=None, display: bool = True, toolkit: str | None = None):
    """Open all panels in one widget, a tab for each step from the tilt series to the volume.

    Parameters
    ----------
    haadf : TiltSeriesHAADF
        The HAADF series.
    eds : TiltSeriesEDS or TiltSeriesEELS, or None
        The elemental maps. Where they are made later, or replaced, set the workbench's ``eds``.
    spectra : EDSTEMSpectrum, optional
        The spectra that the maps were made of, for the first tab.
    display : bool, default True
        Show the widget; otherwise return it.
    toolkit : str, optional
        Of HyperSpy's user interfaces; all that are installed by default.

    Returns
    -------
    WorkbenchPanel or dict
        The workbench, whose ``eds``, ``haadf``, ``volume`` and ``composition`` are what the panels
        have made so far. With ``display=False`` its widgets, ``{"ipywidgets": {"widget": ...,
        "wdict": {...}}}``.

    Notes
    -----
    The step Alignment attaches its alignment to the HAADF series and the maps. Maps that replace
    them, those without the dropped tilts or others, get that of the HAADF series where they have
    none. A panel that was opened on what has been replaced since says so, and applies nothing more
    until it is opened again.

    Raises
    ------
    ImportError
        Where the packages for panels are not installed: ``pip install "hyperspy_multitomo[gui]"``.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> haadf = mt.TiltSeriesHAADF.from_images(np.ones((3, 8, 8)), tilts=[-40, 0, 40])
    >>> eds = mt.TiltSeriesEDS.from_maps({"Au": np.ones((3, 8, 8))}, tilts=[-40, 0, 40])
    >>> widgets = mt.workbench(haadf, eds, display=False)["ipywidgets"]["wdict"]
    >>> "Reconstruction button" in widgets
    True
    """
    from hyperspy_multitomo.widgets.opening import open_panel
    from hyperspy_multitomo.widgets.workbench_panel import WorkbenchPanel

    return open_panel(WorkbenchPanel(haadf=haadf, eds=eds, spectra=spectra), display, toolkit)

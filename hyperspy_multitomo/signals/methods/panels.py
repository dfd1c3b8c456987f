# SPDX-License-Identifier: GPL-3.0-or-later
"""The panels that signals open, by name: nothing of `widgets` is imported before one is opened."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from hyperspy_multitomo.arguments import checked, of_type

_ROOM = "hyperspy_multitomo.widgets"
#: The class of each panel, in ``widgets/<name>_panel.py``; the toolkey is
#: ``hyperspy_multitomo.<name>``.
PANELS = {
    "tilt_series": "TiltSeriesPanel",
    "alignment": "AlignmentPanel",
    "response_ratios": "ResponseRatiosPanel",
    "reconstruction": "ReconstructionPanel",
    "evidence": "EvidencePanel",
    "composition": "CompositionPanel",
    "volume": "VolumePanel",
    "workbench": "WorkbenchPanel",
    "watch": "WatchPanel",
}


def open_panel(
    name: str,
    *signals,
    display: bool = True,
    toolkit: str | None = None,
    constructor: str = "",
    **settings,
):
    """Open a panel of `PANELS` on signals and return it, or its widgets with ``display=False``.

    `constructor` names the class method that makes it, where the class itself does not.

    Raises
    ------
    ImportError
        Where the packages for panels are not installed; the message says how to install them.
    """
    make = getattr(import_module(f"{_ROOM}.{name}_panel"), PANELS[name])
    panel = (getattr(make, constructor) if constructor else make)(*signals, **settings)
    return import_module(f"{_ROOM}.opening").open_panel(panel, display, toolkit)


@checked
def browse(series, spectra=None, display: bool = True, toolkit: str | None = None):
    """Open a panel to look through the series: images, signal, bad tilts, spectra.

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
    return open_panel("tilt_series", series, spectra, display=display, toolkit=toolkit)


@checked
def explore(volume, display: bool = True, toolkit: str | None = None):
    """Open a panel with linked sections, a line profile, and isosurfaces in 3-D.

    The elements are added up, each in a colour of its own that can be changed, switched off or
    made brighter. The sections xz, yz and xy go through one point, which three sliders move;
    the profile runs through it too. The surfaces are made when a button asks for them, and can
    be saved as an HTML file that needs nothing else.

    Parameters
    ----------
    display : bool, default True
        Show the panel; with False its widgets are returned, ``{"ipywidgets": {"widget": ...,
        "wdict": {...}}}``.
    toolkit : str, optional
        Toolkit of HyperSpy's registry, by default the one that is enabled.

    Returns
    -------
    dict or None
        The widgets, where `display` is False.

    Raises
    ------
    ImportError
        Where the packages for panels are not installed; the message says how to install them.
    ValueError
        Where the volume has other axes than (element,) z, x and y.

    Notes
    -----
    The panel only shows: it changes nothing in the volume. In all pictures y goes down and z
    up, as in the figures, and the surfaces have the same handedness: seen from above with x to
    the right, large y are in front, on an axis of -y. For the surfaces, axes of more than 128
    voxels are averaged until they have at most that many, and zeros are put around the volume
    so that surfaces are closed.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> volume = mt.TomographicVolume.from_arrays({"Au": np.ones((4, 5, 6))}, pixel_size=0.5)
    >>> widgets = volume.explore(display=False)["ipywidgets"]["wdict"]
    >>> widgets["x"].description, widgets["x"].max
    ('x (nm)', 1.25)
    """
    return open_panel("volume", volume, display=display, toolkit=toolkit)


@checked(volume=of_type("TomographicVolume"))
def explore_evidence(
    series,
    volume,
    haadf=None,
    *,
    outline=None,
    factors: Mapping[str, float] | None = None,
    mask=None,
    initial=None,
    background=None,
    display: bool = True,
    toolkit: str | None = None,
):
    """Open a panel that asks the counts about a ball in a volume.

    Sections of an element go through the middle of the ball, which sliders move. Buttons call
    `evidence` for the ball, `evidence` for features of its size, and `transfer_test`.

    Parameters
    ----------
    volume : TomographicVolume
        A reconstruction of this series, as the method returned it.
    haadf : TiltSeriesHAADF, optional
        The HAADF series, where the volume was made of one; otherwise it is not used.
    outline : array or signal, shape (z, y, x), optional
        Of the specimen; by default the volume's own threshold.
    factors : dict of str to float, optional
        k-factors of all elements: contrasts and limits are given in weight percent too.
    mask, initial, background : array or signal, optional
        As they were given to the reconstruction.
    display : bool, default True
        Show the panel; otherwise return its widgets.
    toolkit : str, optional
        Of HyperSpy's user interfaces; all that are installed by default.

    Returns
    -------
    EvidencePanel or dict
        The panel, whose ``result`` is the last `Evidence` and whose ``transfer`` is the last
        `TransferTest`. With ``display=False`` its widgets, ``{"ipywidgets": {"widget": ...,
        "wdict": {...}}}``.

    Raises
    ------
    ImportError
        Where the packages for panels are not installed: ``pip install
        "hyperspy_multitomo[gui]"``.
    ValueError
        For a volume that was not reconstructed from maps of these elements, factors that are
        missing, and without the HAADF series that the volume was made of. What `evidence` refuses
        besides is said in the panel.

    Notes
    -----
    "I found this place in this volume" passes ``found_in=volume``, and is on at first: a place that
    was chosen for its looks was chosen for its noise as well. Switch it off only for a place that
    was known before.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> maps = {"Au": np.full((3, 8, 8), 2)}
    >>> eds = mt.TiltSeriesEDS.from_maps(maps, tilts=[-40, 0, 40], pixel_size=0.5)
    >>> volume = eds.reconstruct_sirt(3, depth=None, show_progressbar=False)
    >>> widgets = eds.explore_evidence(volume, display=False)["ipywidgets"]["wdict"]
    >>> widgets["x"].description, widgets["x"].max, widgets["diameter"].value
    ('x (nm)', 3.5, 2.5)
    """
    return open_panel(
        "evidence",
        series,
        volume,
        haadf,
        outline=outline,
        factors=factors,
        mask=mask,
        initial=initial,
        background=background,
        display=display,
        toolkit=toolkit,
    )


@checked
def workbench(haadf, eds=None, spectra=None, display: bool = True, toolkit: str | None = None):
    """Open all panels in one widget, a tab for each step from the tilt series to the volume.

    Parameters
    ----------
    haadf : TiltSeriesHAADF
        The HAADF series.
    eds : TiltSeriesEDS or TiltSeriesEELS, optional
        The elemental maps. Where they are made later, or replaced, set the workbench's ``eds``.
        Without maps and spectra the HAADF images are looked at, aligned and reconstructed alone.
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
    return open_panel(
        "workbench", haadf=haadf, eds=eds, spectra=spectra, display=display, toolkit=toolkit
    )

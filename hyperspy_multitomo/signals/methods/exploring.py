# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes looked at by hand: the panel with linked sections, a line profile and surfaces in 3-D."""

from __future__ import annotations

from hyperspy_multitomo.arguments import checked


class Exploring:
    """Mixin of the volumes: the panel to look at them in Jupyter."""

    @checked
    def explore(self, display: bool = True, toolkit: str | None = None):
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
        from hyperspy_multitomo.widgets.opening import open_panel
        from hyperspy_multitomo.widgets.volume_panel import VolumePanel

        return open_panel(VolumePanel(self), display, toolkit)

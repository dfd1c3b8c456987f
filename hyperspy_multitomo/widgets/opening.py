# SPDX-License-Identifier: GPL-3.0-or-later
"""Opening of panels through HyperSpy's registry of user interfaces."""

from __future__ import annotations


def open_panel(panel, display: bool = True, toolkit: str | None = None):
    """Show a panel and return it, or with ``display=False`` return its widgets.

    The widgets are ``{"ipywidgets": {"widget": ..., "wdict": {...}}}``, those of ``wdict`` by their
    names.

    Raises
    ------
    ImportError
        If the packages for panels are not installed; the message has the command to install them.
    """
    try:
        import hyperspy_gui_ipywidgets  # noqa: F401
        import ipywidgets  # noqa: F401
    except ImportError as error:
        raise ImportError(
            'panels need more packages: pip install "hyperspy_multitomo[gui]"'
        ) from error
    widgets = panel.gui(display=display, toolkit=toolkit)
    return panel if display else widgets

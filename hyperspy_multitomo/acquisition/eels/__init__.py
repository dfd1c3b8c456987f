# SPDX-License-Identifier: GPL-3.0-or-later
"""EELS spectra to edge maps: edges, their shapes, backgrounds and windows."""

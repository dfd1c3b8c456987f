# SPDX-License-Identifier: GPL-3.0-or-later
"""EDS spectra to elemental maps: lines, detector, background, and the fit of each pixel."""

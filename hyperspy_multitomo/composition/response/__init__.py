# SPDX-License-Identifier: GPL-3.0-or-later
"""Response ratios: the fit of the HAADF by the maps, its equations, and its quality."""

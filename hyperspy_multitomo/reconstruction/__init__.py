# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine: a series as plain arrays, through a solver, to a volume, in memory or slab by slab.

Nothing here knows of HyperSpy.
"""

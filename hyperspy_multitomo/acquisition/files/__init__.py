# SPDX-License-Identifier: GPL-3.0-or-later
"""Microscope files to records: readers of the formats, and the tilts that belong together."""

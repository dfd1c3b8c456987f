# SPDX-License-Identifier: GPL-3.0-or-later
"""Microscope files to records: one reader per format, and which files, streams and tilts belong together."""

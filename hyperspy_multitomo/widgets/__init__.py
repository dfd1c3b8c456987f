# SPDX-License-Identifier: GPL-3.0-or-later
"""Panels in Jupyter: state objects that call the public methods, and their views."""

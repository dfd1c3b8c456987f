# SPDX-License-Identifier: GPL-3.0-or-later
"""Panels in Jupyter: small state objects that call the public methods, and views of them. Nothing here computes."""

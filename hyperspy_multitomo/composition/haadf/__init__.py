# SPDX-License-Identifier: GPL-3.0-or-later
"""Composition of two elements from the HAADF alone, and the damping of the HAADF."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks of the particle: thresholds of projections and volumes."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks and corrections before a reconstruction: gains, offsets, defects, bad tilts, drift."""

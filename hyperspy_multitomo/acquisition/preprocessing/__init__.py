# SPDX-License-Identifier: GPL-3.0-or-later
"""Images and maps before a reconstruction: gains, offsets, defects, bad tilts and drifts of the dose."""

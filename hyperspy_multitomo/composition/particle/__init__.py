# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the particle is: thresholds of projections and volumes."""

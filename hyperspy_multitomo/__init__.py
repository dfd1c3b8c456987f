# SPDX-License-Identifier: GPL-3.0-or-later
"""Multi-modal electron tomography for HyperSpy."""

__version__ = "0.1.0"

# SPDX-License-Identifier: GPL-3.0-or-later
"""Projectors and solvers on an NVIDIA GPU, through CuPy, imported when one is asked for."""

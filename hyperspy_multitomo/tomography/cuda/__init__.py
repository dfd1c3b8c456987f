# SPDX-License-Identifier: GPL-3.0-or-later
"""Projectors and solvers on an NVIDIA GPU, through CuPy; nothing here is imported before a projector of it is asked for."""

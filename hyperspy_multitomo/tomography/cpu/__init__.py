# SPDX-License-Identifier: GPL-3.0-or-later
"""Projectors and iterations on the processor: compiled kernels on lanes of slices, and ASTRA's."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine: memory, threads, cluster, progress, warnings and files; one policy for each.

It imports nothing else of this package.
"""

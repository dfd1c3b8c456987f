# SPDX-License-Identifier: GPL-3.0-or-later
"""Damaged files, wrong calls, kills, interrupts and full disks: what comes of them;
docs/reliability.md says what is promised."""

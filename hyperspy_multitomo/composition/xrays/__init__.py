# SPDX-License-Identifier: GPL-3.0-or-later
"""X-rays on their way out: self-absorption, detectors and their efficiency."""

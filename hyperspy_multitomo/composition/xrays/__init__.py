# SPDX-License-Identifier: GPL-3.0-or-later
"""X-rays from the specimen to the detector: self-absorption, detectors and their efficiency."""

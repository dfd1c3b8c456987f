# SPDX-License-Identifier: GPL-3.0-or-later
"""What the data say of a volume, and what they do not: resolution, and settings side by side."""

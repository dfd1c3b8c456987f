# SPDX-License-Identifier: GPL-3.0-or-later
"""The methods of the signals, by step of the work: plain functions that the classes bind."""

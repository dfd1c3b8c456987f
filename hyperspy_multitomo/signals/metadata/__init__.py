# SPDX-License-Identifier: GPL-3.0-or-later
"""What is recorded beside the data of a signal and stays true, and how it is saved."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""What the HAADF alone says of the composition, and its damping in thick places."""

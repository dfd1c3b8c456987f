# SPDX-License-Identifier: GPL-3.0-or-later
"""The strength of a regulariser with a refit: what it is at the weight that means as much."""

from __future__ import annotations

# Strength at which the refitted volume has the least error over that at which the plain one has:
# placeholder
STRENGTH = {"tv": 2.4, "tgv": 2.4}


def refit_strength(kind: str = "tv") -> float:
    """Return the factor on the strength of a regulariser that is to be refitted.

    Parameters
    ----------
    kind : {"tv", "tgv"}, default "tv"
        Of the regulariser.

    Returns
    -------
    float
        For `Regulariser.weight`.
    """
    return STRENGTH[kind]

# SPDX-License-Identifier: GPL-3.0-or-later
"""Response ratios, or another number of each element, in the order of the channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hyperspy_multitomo.composition.response.ratios import ResponseRatios


def values_by_element(
    values: ResponseRatios | Mapping[str, float], channels: Sequence[str], keyword: str = "ratios"
) -> np.ndarray:
    """Return the value of each channel.

    Parameters
    ----------
    values : ResponseRatios or mapping of str to float
    channels : sequence of str
    keyword : str, default "ratios"
        Under which they were passed, for the messages.

    Raises
    ------
    TypeError
        For anything else than a mapping.
    ValueError
        Where one is missing, negative or not finite.
    """
    fitted = keyword == "ratios"
    if isinstance(values, ResponseRatios):
        values = dict(zip(values.elements, values.values, strict=True))
    if not isinstance(values, Mapping):
        source = "the result of fit_response_ratios or " if fitted else ""
        raise TypeError(
            f"{keyword} must be {source}a dict of element to number; got {type(values).__name__}"
        )
    if missing := [name for name in channels if name not in values]:
        what = "response ratio" if fitted else f"number in {keyword}"
        raise ValueError(
            f"no {what} for {', '.join(missing)}; pass one for each of {', '.join(channels)}"
        )
    ordered = np.array([values[name] for name in channels], dtype=float)
    if not (np.isfinite(ordered).all() and ordered.min() >= 0):
        numbers = dict(zip(channels, ordered.tolist(), strict=True))
        raise ValueError(f"{keyword} holds {numbers}; expected numbers from 0 up")
    return ordered

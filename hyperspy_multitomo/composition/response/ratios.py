# SPDX-License-Identifier: GPL-3.0-or-later
"""The result of a fit of response ratios: values, errors, residuals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

__all__ = ["ResponseRatios"]


@dataclass(frozen=True, eq=False)
class ResponseRatios:
    """Response ratios r_e of the HAADF h = sum_e r_e p_e, and the quality of the fit.

    Attributes
    ----------
    elements : tuple of str
        Names of the channels.
    values : numpy.ndarray (channel,)
        r_e, HAADF signal per count; 0 if the other elements explain the HAADF without this one,
        i.e. if it is less than twice its standard error.
    standard_errors : numpy.ndarray (channel,)
        Of `values`, from a bootstrap over tilts, or with fewer than eight tilts over parts of the
        views; they do not include errors common to all.
    r2 : float
        Centred coefficient of determination over the blocks (with ``rest``: over the blocks that
        were fitted). The noise of the counts lowers it, more so for small blocks.
    residual_per_tilt : numpy.ndarray (tilt,)
        |h - sum_e r_e p_e| / |h| over the blocks of each tilt; NaN for a tilt without blocks.
    residual_map : numpy.ndarray (tilt, block x, block y)
        h - sum_e r_e p_e per block, in HAADF signal; NaN outside the mask. Positive: the HAADF is
        brighter than the maps explain.
    block_size : int
        Side of a block, px.
    block_counts : numpy.ndarray (channel,)
        Mean counts in a block.
    rest : bool
        True if a non-negative HAADF-only channel contains the signal that no map explains.
    method : {"blocks", "poisson"}
        Method of the fit.
    """

    elements: tuple[str, ...]
    values: np.ndarray
    standard_errors: np.ndarray
    r2: float
    residual_per_tilt: np.ndarray
    residual_map: np.ndarray
    block_size: int
    block_counts: np.ndarray
    rest: bool = False
    method: str = "blocks"

    def __repr__(self) -> str:
        ratios = ", ".join(
            f"{element} {value:.4g} ± {error:.2g}"
            for element, value, error in zip(
                self.elements, self.values, self.standard_errors, strict=True
            )
        )
        fit = f"method {self.method!r}, R2 = {self.r2:.3f} on blocks of {self.block_size} px"
        return f"<ResponseRatios {ratios}; {fit}>"

    @property
    def unexplained(self) -> tuple[str, ...]:
        """Elements of ratio 0, which are reconstructed from their own maps alone."""
        return tuple(
            element for element, value in zip(self.elements, self.values, strict=True) if value == 0
        )

    def __getitem__(self, element: str) -> float:
        """Return the ratio of one element."""
        if element not in self.elements:
            raise KeyError(
                f"no response ratio of {element!r}; there are {', '.join(self.elements)}"
            )
        return float(self.values[self.elements.index(element)])

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as lists, arrays and plain numbers, which metadata can hold."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return values | {"elements": list(self.elements)}

    @classmethod
    def from_dict(cls, held: Mapping[str, Any]) -> ResponseRatios:
        """Return the ratios of a dict from `as_dict`."""
        arrays = ("values", "standard_errors", "residual_per_tilt", "residual_map", "block_counts")
        restored = {field.name: held[field.name] for field in fields(cls) if field.name in held}
        restored |= {name: np.asarray(held[name]) for name in arrays}
        restored |= {
            "elements": tuple(str(element) for element in held["elements"]),
            "r2": float(held["r2"]),
            "block_size": int(held["block_size"]),
            "rest": bool(held["rest"]),
            # Records of versions with only one method do not name it.
            "method": str(held.get("method", "blocks")),
        }
        return cls(**restored)

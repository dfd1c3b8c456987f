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
        r_e, HAADF signal per count; 0 without net counts, and without a prior if the other elements
        explain the HAADF without this one, i.e. if it is less than twice its standard error.
    standard_errors : numpy.ndarray (channel,)
        Of `values`, from the scatter between tilts, or with fewer than eight tilts between parts of
        the views; they include the prior's widths, but not errors common to all.
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
    calculated : numpy.ndarray of bool (channel,)
        True where the prior knows a ratio better than the data do, so that it is calculated rather
        than measured; see `sources`.
    prior_values : numpy.ndarray (channel,)
        The prior's ratios, with the common factor that was fitted; NaN without a prior.
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
    calculated: np.ndarray = None  # type: ignore[assignment]
    prior_values: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        # Records of versions without these fields hold measured ratios alone.
        for name, default in (("calculated", False), ("prior_values", np.nan)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, np.full(len(self.elements), default))

    def __repr__(self) -> str:
        return f"<ResponseRatios {self.in_words()}; {self._fit}>"

    def __str__(self) -> str:
        """Return a table: element, ratio, standard error, where it is from, and the prior's."""
        rows = [("element", "ratio", "standard error", "", "prior")]
        for element, value, error, source, prior in zip(
            self.elements,
            self.values,
            self.standard_errors,
            self.sources.values(),
            self.prior_values,
            strict=True,
        ):
            expected = "none" if np.isnan(prior) else f"{prior:.4g}"
            rows.append((element, f"{value:.4g}", f"{error:.2g}", source, expected))
        sizes = [max(len(row[column]) for row in rows) for column in range(5)]
        lines = ["  ".join(map(str.ljust, row, sizes)).rstrip() for row in rows]
        return "\n".join(["response ratios, HAADF signal per count", *lines, self._fit])

    @property
    def _fit(self) -> str:
        return f"method {self.method!r}, R2 = {self.r2:.3f} on blocks of {self.block_size} px"

    def in_words(self) -> str:
        """Return ratios and standard errors on one line; those that are calculated say so."""
        return ", ".join(
            f"{element} {value:.4g} ± {error:.2g}{' (calculated)' if calculated else ''}"
            for element, value, error, calculated in zip(
                self.elements, self.values, self.standard_errors, self.calculated, strict=True
            )
        )

    @property
    def sources(self) -> dict[str, str]:
        """Return, by element, ``"measured"``, ``"calculated"`` or, of a ratio of 0, ``"none"``."""
        return {
            element: "none" if value == 0 else "calculated" if calculated else "measured"
            for element, value, calculated in zip(
                self.elements, self.values, self.calculated, strict=True
            )
        }

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
        """Return the fields as lists, arrays and plain numbers, which metadata can hold.

        Those of a prior are left out where there was none.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if np.isnan(self.prior_values).all():
            del values["calculated"], values["prior_values"]
        return values | {"elements": list(self.elements)}

    @classmethod
    def from_dict(cls, held: Mapping[str, Any]) -> ResponseRatios:
        """Return the ratios of a dict from `as_dict`."""
        arrays = ("values", "standard_errors", "residual_per_tilt", "residual_map", "block_counts")
        restored = {field.name: held[field.name] for field in fields(cls) if field.name in held}
        restored |= {name: np.asarray(held[name]) for name in arrays}
        for name, kind in (("calculated", bool), ("prior_values", float)):
            if restored.get(name) is not None:
                restored[name] = np.asarray(restored[name], dtype=kind)
        restored |= {
            "elements": tuple(str(element) for element in held["elements"]),
            "r2": float(held["r2"]),
            "block_size": int(held["block_size"]),
            "rest": bool(held["rest"]),
            # Records of versions with only one method do not name it.
            "method": str(held.get("method", "blocks")),
        }
        return cls(**restored)

# SPDX-License-Identifier: GPL-3.0-or-later
"""The distribution of a weighted sum of Poisson counts, far out in its tails."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Bisections, and how many standard deviations out values are looked for.
_BISECTIONS = 60
_NEAR_ZERO = 1e-3


@dataclass(frozen=True, eq=False)
class PoissonSum:
    """A sum of counts times factors, less its mean, and a normal variable beside it.

    Tails are those of the saddle point (R. Lugannani, S. Rice, Adv. Appl. Probab. 12 (1980) 475,
    doi:10.2307/1426607; O. E. Barndorff-Nielsen, Biometrika 73 (1986) 307,
    doi:10.1093/biomet/73.2.307).

    Attributes
    ----------
    factors, means : array (count,)
    rest : float
        Variance of the normal variable.

    Examples
    --------
    Sixteen counts where four are expected; as many and more have z = 4.4, more have 4.7.

    >>> import numpy as np
    >>> one = PoissonSum(np.ones(1), np.array([4.0]), 0.0)
    >>> round(one.z(16.0 - 4.0), 1)
    4.6
    """

    factors: np.ndarray
    means: np.ndarray
    rest: float

    @property
    def sd(self) -> float:
        """Standard deviation."""
        return float(np.sqrt(np.square(self.factors) @ self.means + self.rest))

    def z(self, value: float) -> float:
        """Return the normal variable whose tail has the probability of the value's.

        Values that counts cannot have, below what none at all would make, have that of none.
        """
        return self._z_at(self._saddle(value))

    def _slopes(self, at: float) -> tuple[float, float, float]:
        """Return the cumulant generating function and its first two derivatives."""
        exponent = self.factors * at
        grown = np.expm1(exponent)
        value = self.means @ (grown - exponent) + self.rest * at**2 / 2
        weighted = self.means * self.factors
        first = weighted @ grown + self.rest * at
        second = (weighted * self.factors) @ (grown + 1) + self.rest
        return float(value), float(first), float(second)

    def _z_at(self, at: float) -> float:
        """Return z of the value whose saddle point this is."""
        if abs(at) * self.sd < _NEAR_ZERO:
            return at * self.sd
        value, first, second = self._slopes(at)
        root = np.sign(at) * np.sqrt(max(2 * (at * first - value), 1e-300))
        return float(root + np.log(at * np.sqrt(second) / root) / root)

    def _saddle(self, value: float) -> float:
        """Return where the first derivative, which rises, is a value."""
        sign = np.sign(value) if value else 1.0

        def short(at: float) -> bool:
            return bool(self._slopes(at)[1] * sign < value * sign)

        near, far = 0.0, sign / self.sd
        # 50 standard deviations are beyond any number of counts.
        most = 50.0 / max(float(np.abs(self.factors).max(initial=0)), 1e-300)
        while short(far) and abs(far) < most:
            near, far = far, 2 * far
        for _ in range(_BISECTIONS):
            middle = (near + far) / 2
            near, far = (middle, far) if short(middle) else (near, middle)
            if abs(far - near) < 1e-9 * abs(far):
                break
        return float((near + far) / 2)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Rank the tilts of a series by how badly they fit the rest, each with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hyperspy_multitomo.acquisition.preprocessing.image_checks import tilts_of_projections
from hyperspy_multitomo.parameters import positive_number
from hyperspy_multitomo.tomography.scaling import in_range

__all__ = ["TiltRanking", "image_measures", "rank_tilts"]

# Each measure with its least standard deviation, so that small deviations from a regular series are
# not suspicious, and the words for too much and too little of it (None: no fault). Signal and
# sharpness are logarithms, shifts are in px. Tested on good and bad series in
# tests/test_preprocessing.py.
_MEASURES = {
    "signal": (0.01, "brighter than its neighbours", "darker than its neighbours"),
    "sharpness": (0.03, "sharper or noisier than its neighbours", "less sharp than its neighbours"),
    "likeness": (0.005, None, "unlike its neighbours"),
    "shift": (0.5, "moved from the course of the shifts", None),
}


@dataclass(frozen=True, eq=False, repr=False)
class TiltRanking:
    """
    How well each tilt fits the rest of its series.

    Attributes
    ----------
    tilts : numpy.ndarray (tilt,)
        Degrees.
    scores : dict of str to numpy.ndarray (tilt,)
        For each measure the signed distance from the smooth course of the series, in robust
        standard deviations.
    threshold : float
        Tilts with a higher score are suspicious.
    """

    tilts: np.ndarray
    scores: dict[str, np.ndarray]
    threshold: float

    @property
    def score(self) -> np.ndarray:
        """The largest score of each tilt that counts as a fault, (tilt,)."""
        return np.max([self._faults(name) for name in self.scores], axis=0)

    @property
    def order(self) -> np.ndarray:
        """Indices of the tilts, the worst first."""
        return np.argsort(-self.score, kind="stable")

    @property
    def suspicious(self) -> np.ndarray:
        """The tilts (degrees) whose score exceeds the threshold, the worst first."""
        return np.array([self.tilts[t] for t in self.order if self.score[t] > self.threshold])

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why each tilt is suspicious; empty for the others."""
        return tuple("; ".join(self._reasons(t)) for t in range(len(self.tilts)))

    def _faults(self, name: str) -> np.ndarray:
        _, above, below = _MEASURES[name]
        values = self.scores[name]
        return np.maximum(values if above else 0.0, -values if below else 0.0)

    def _reasons(self, t: int):
        for name, values in self.scores.items():
            if self._faults(name)[t] > self.threshold:
                yield _MEASURES[name][1 if values[t] > 0 else 2]

    def __repr__(self) -> str:
        reasons, names = self.reasons, list(self.scores)
        lines = ["  tilt  " + "".join(f"{name:>11}" for name in names) + "  reason"]
        for t in self.order:
            # No -0.0 in the table.
            values = "".join(
                f"{round(float(self.scores[name][t]), 1) + 0.0:>11.1f}" for name in names
            )
            lines.append(f"{self.tilts[t]:6.1f}° {values}  {reasons[t] or '-'}")
        return "\n".join(lines)


def image_measures(images, tilts: ArrayLike, blur: float = 1.0) -> dict[str, np.ndarray]:
    """
    Measure the signal, the sharpness and the likeness to its neighbours of every image.

    Parameters
    ----------
    images : sequence of array_like (tilt, x, y)
        HAADF images or sums of the maps; dask arrays are read tilt by tilt.
    tilts : array_like (tilt,)
        Degrees, ascending.
    blur : float, default 1.0
        Standard deviation in px of the Gaussian that smooths the images before sharpness and
        likeness are measured.

    Returns
    -------
    dict of str to numpy.ndarray (tilt,)
        ``"signal"``: the mean; ``"sharpness"``: mean square of the gradient over the square of the
        mean; ``"likeness"``: the higher of the correlations with the two neighbours, each at its
        best shift.

    Raises
    ------
    ValueError
        For fewer than three tilts, images that are not finite, or one without signal.

    Examples
    --------
    >>> import numpy as np
    >>> images = np.random.default_rng(0).random((4, 32, 32)); images[1:] = images[0]
    >>> image_measures(images, [-10, 0, 10, 20])["likeness"].round(3)
    array([1., 1., 1., 1.])
    """
    from scipy.ndimage import gaussian_filter

    tilts = tilts_of_projections(tilts, len(images))
    if len(tilts) < 3:
        raise ValueError(
            f"there are {len(tilts)} tilts; at least three are needed to tell which one does not "
            "fit"
        )
    signal, sharpness = np.empty((2, len(tilts)))
    spectra: dict[int, np.ndarray] = {}
    likeness = np.full((len(tilts), len(tilts)), -1.0)
    for t, image in enumerate(images):
        image = np.asarray(image, dtype=np.float32)
        signal[t] = image.mean(dtype=np.float64)
        if not np.isfinite(signal[t]) or signal[t] <= 0:
            raise ValueError(
                f"the image at tilt {tilts[t]:g} has the mean {signal[t]:g}; leave this tilt out: "
                "it has no signal"
            )
        smooth = gaussian_filter(image, blur)
        sharpness[t] = _mean_square_gradient(smooth) / signal[t] ** 2
        spectra[t] = _normalised_spectrum(smooth)
        # The first and the last tilt have one neighbour; they are compared with the next one, too.
        for other in (t - 1, t - 2):
            if other in spectra and (other == t - 1 or t == 2 or t == len(tilts) - 1):
                correlation = np.fft.irfft2(spectra[t] * spectra[other].conj(), smooth.shape).max()
                likeness[t, other] = likeness[other, t] = float(correlation)
        spectra.pop(t - 2, None)
    return {"signal": signal, "sharpness": sharpness, "likeness": likeness.max(axis=1)}


def rank_tilts(
    measures: Mapping[str, ArrayLike],
    tilts: ArrayLike,
    *,
    expected: ArrayLike | None = None,
    across: ArrayLike | None = None,
    along: ArrayLike | None = None,
    threshold: float = 5.0,
) -> TiltRanking:
    """
    Rank tilts by their distance from the smooth course of their series.

    Parameters
    ----------
    measures : mapping of str to array_like (tilt,)
        From `image_measures`.
    tilts : array_like (tilt,)
        Degrees, ascending.
    expected : array_like (tilt,), optional
        Expected signal, up to a factor: the expected means times the gains. By default 1.
    across, along : array_like (tilt,), optional
        Shifts of the alignment, px.
    threshold : float, default 5.0
        Score above which a tilt is suspicious.

    Returns
    -------
    TiltRanking

    Raises
    ------
    ValueError
        For arrays of wrong length, no measures at all, or a threshold that is not positive.

    Notes
    -----
    The course is a polynomial of the tilt, of degree 3 at most, fitted with Tukey's biweight, which
    gives outliers no weight; for shifts across the tilt axis it is a constant, cos t and sin t, the
    course of a point. Scores are in robust standard deviations: 1.4826 median absolute deviations
    times sqrt(n / (n - p)) for p coefficients fitted to n tilts, and at least 1 % of the signal,
    3 % of the sharpness, 0.005 of the correlation and 0.5 px. Of series whose signal merely has
    normal noise up to one in twenty has a tilt beyond 5.

    Examples
    --------
    >>> import numpy as np
    >>> tilts = np.arange(-40, 41, 10)
    >>> measures = {"signal": [1, 1.01, 1, 0.6, 1, 0.99, 1, 1.01, 1]}
    >>> ranking = rank_tilts(measures, tilts)
    >>> ranking.suspicious, ranking.reasons[3]
    (array([-10.]), 'darker than its neighbours')
    """
    tilts = tilts_of_projections(tilts, np.size(tilts))
    courses: dict[str, np.ndarray] = {}
    shifts = {n: v for n, v in (("across", across), ("along", along)) if v is not None}
    for name, values in {**measures, **shifts}.items():
        if np.shape(values) != tilts.shape:
            raise ValueError(
                f"`{name}` has the shape {np.shape(values)} for {len(tilts)} tilts; pass one value "
                "per tilt"
            )
        courses[name] = np.asarray(values, dtype=np.float64)
    if not courses:
        raise ValueError(
            "nothing was measured of the tilts; pass `measures` from image_measures, or shifts"
        )
    threshold = positive_number("threshold", threshold)
    powers = np.polynomial.legendre.legvander(
        tilts / max(np.abs(tilts).max(), 1e-9), min(3, max(0, (len(tilts) - 1) // 4))
    )
    circle = np.stack(
        [np.ones(len(tilts)), np.cos(np.deg2rad(tilts)), np.sin(np.deg2rad(tilts))], axis=1
    )
    scores = {}
    if "signal" in courses:
        relative = courses["signal"] / (1.0 if expected is None else np.asarray(expected))
        scores["signal"] = _score(np.log(relative), powers, "signal")
    if "sharpness" in courses:
        # Uniform images have no gradient at all.
        scores["sharpness"] = _score(
            np.log(np.maximum(courses["sharpness"], np.finfo(float).tiny)), powers, "sharpness"
        )
    if "likeness" in courses:
        scores["likeness"] = _score(courses["likeness"], powers, "likeness")
    moved = [
        np.abs(_score(courses[name], basis, "shift"))
        for name, basis in (("across", circle if len(tilts) > 6 else powers), ("along", powers))
        if name in courses
    ]
    if moved:
        scores["shift"] = np.max(moved, axis=0)
    return TiltRanking(tilts, scores, float(threshold))


def _score(values: np.ndarray, basis: np.ndarray, name: str) -> np.ndarray:
    """Return the distances from the robust fit of the basis, in robust standard deviations."""
    fitted = np.zeros(basis.shape[1])
    fitted[0] = np.median(values)
    for _ in range(30):
        misfit = values - basis @ fitted
        scale = _scatter(misfit, basis, name)
        weights = np.square(np.clip(1 - np.square(misfit / (4.685 * scale)), 0, None))
        if np.count_nonzero(weights) <= basis.shape[1]:
            break
        root = np.sqrt(weights)
        fitted = np.linalg.lstsq(basis * root[:, None], values * root, rcond=None)[0]
    misfit = values - basis @ fitted
    return misfit / _scatter(misfit, basis, name)


def _scatter(misfit: np.ndarray, basis: np.ndarray, name: str) -> float:
    """Return the robust standard deviation, corrected for the fit, at least that of the measure."""
    correction = np.sqrt(len(misfit) / (len(misfit) - basis.shape[1]))
    return max(1.4826 * correction * float(np.median(np.abs(misfit))), _MEASURES[name][0])


def _mean_square_gradient(image: np.ndarray) -> float:
    """Return the mean square of the gradient (per px), along axes of more than one pixel."""
    slopes = (np.gradient(image, axis=axis) for axis, size in enumerate(image.shape) if size > 1)
    return sum(float(np.square(slope, dtype=np.float64).mean()) for slope in slopes)


def _normalised_spectrum(image: np.ndarray) -> np.ndarray:
    image = in_range(image - image.mean())
    norm = np.linalg.norm(image)
    return np.fft.rfft2(image / norm if norm > 0 else image)

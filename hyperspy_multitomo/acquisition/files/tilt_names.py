# SPDX-License-Identifier: GPL-3.0-or-later
"""Tilts in file names.

The sign may be any dash, a letter or a word, and the decimals follow a point, a comma or a p.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hyperspy_multitomo.machine.notices import warn

__all__ = ["REMEDIES", "plain_signs", "tilts_from_names"]

REMEDIES = (
    'pass tilts="filename", a regular expression with one group, an array (one angle per '
    "projection), or a .rawtlt, .tlt or .mdoc file"
)
# Minus signs that are not dashes of Unicode (category Pd), and the soft hyphen.
_MINUS = "−⁻₋˗➖\u00ad"
_PLUS = "＋﹢⁺➕"
_MINUS_WORDS = ("negative", "neg", "minus")
# A sign belongs to the number unless it follows a digit, as in a date or a range; a letter only
# where it stands alone or follows a word for an angle.
_ALONE = r"(?:(?<![^\W_])|(?<=tilt)|(?<=angle)|(?<=alpha))"
_NUMBER = (
    rf"(?:(?P<word>{'|'.join(_MINUS_WORDS)})[ _-]?"
    rf"|{_ALONE}(?P<letter>[nmp])"
    r"|(?<!\d)(?P<sign>[-+]))?"
    rf"(?P<size>\d+(?:[.,p]\d+)?)(?P<behind>(?:n|m|{'|'.join(_MINUS_WORDS)})(?![^\W\d_]))?"
)
_LAST_NUMBER = re.compile(rf"{_NUMBER}(?!.*\d)", re.IGNORECASE)
_NUMBER_OF_DEGREES = re.compile(rf"{_NUMBER}[ _]?(?:deg|°)", re.IGNORECASE)
_WHOLE = re.compile(_NUMBER, re.IGNORECASE)


def plain_signs(text: str) -> str:
    """
    Replace every dash and minus sign of Unicode by ``-``, and every plus sign by ``+``.

    Examples
    --------
    >>> plain_signs("tilt_–40"), plain_signs("−12,5"), plain_signs("＋5")
    ('tilt_-40', '-12,5', '+5')
    """
    if text.isascii():
        return text
    return "".join(
        "-"
        if sign in _MINUS or unicodedata.category(sign) == "Pd"
        else "+"
        if sign in _PLUS
        else sign
        for sign in text
    )


def tilts_from_names(
    paths: Sequence[str | Path], pattern: str | re.Pattern | None = None
) -> np.ndarray:
    r"""
    Read the tilt of each file from its name.

    Parameters
    ----------
    paths : sequence of path-like (tilt,)
        Names are read without folder and extension.
    pattern : str or compiled pattern, optional
        Regular expression whose first group (or whole match) is the angle in degrees. By default
        the number before "deg" or "°", else the last number of the name, with its decimals and the
        sign right before it, unless the sign follows a digit (``2024-11-05`` is a date). Any dash
        is a minus. The decimal separator is a point, a comma or a p (``-12,5``, ``12p5``). The
        letters n and m and the words neg and minus at the number are a minus, and p before it is a
        plus (``n40``, ``p40``).

    Returns
    -------
    ndarray (tilt,)
        Degrees.

    Raises
    ------
    ValueError
        For an invalid pattern, and names without a number; lists these.

    Warns
    -----
    UserWarning
        Where letters are taken as the sign.

    Examples
    --------
    >>> tilts_from_names(["-40.bcf", "tilt_+12.5deg.bcf", "scan003_-20.0.bcf", "a_–7p5.bcf"])
    array([-40. ,  12.5, -20. ,  -7.5])
    >>> tilts_from_names(["A10_b1.mrc", "A-5_b1.mrc"], r"A(-?\d+)")
    array([10., -5.])
    """
    try:
        patterns = [_NUMBER_OF_DEGREES, _LAST_NUMBER] if pattern is None else [re.compile(pattern)]
    except re.error as error:
        raise ValueError(
            f"tilts={pattern!r} is neither a file nor a valid regular expression ({error}); "
            f"{REMEDIES}"
        ) from None
    tilts, without, lettered = [], [], []
    for path in paths:
        number = _number_in(Path(path).stem, patterns, is_custom=pattern is not None)
        if number is None:
            without.append(Path(path).name)
            continue
        tilts.append(number[0])
        if number[1]:
            lettered.append(f"{Path(path).name} ({number[0]:g})")
    if without:
        rule = "number" if pattern is None else f"number by {patterns[0].pattern!r}"
        raise ValueError(f"no {rule} found in the file names {', '.join(without)}; {REMEDIES}")
    if lettered:
        named = ", ".join(lettered[:4]) + (
            f" and {len(lettered) - 4} more" if len(lettered) > 4 else ""
        )
        warn(
            f"letters in the file names are taken for the sign of the tilt: {named}; if they are "
            f"not: {REMEDIES}"
        )
    return np.array(tilts)


def _number_in(
    name: str, patterns: Sequence[re.Pattern], is_custom: bool
) -> tuple[float, bool] | None:
    """Return the number of the first pattern that matches, and whether letters are its sign."""
    if not is_custom:
        name = plain_signs(name)
        match = next(
            (found for found in (pattern.search(name) for pattern in patterns) if found), None
        )
        return None if match is None else _signed_number(match)
    # A user's pattern may contain the dash of the name; its match is read like any other number.
    match = patterns[0].search(name) or patterns[0].search(plain_signs(name))
    text = plain_signs((match[1] if patterns[0].groups else match[0]) or "") if match else ""
    try:
        return float(text), False
    except ValueError:
        match = _WHOLE.fullmatch(text.strip())
        return None if match is None else _signed_number(match)


def _signed_number(match: re.Match) -> tuple[float, bool]:
    """Return the number of a match of `_NUMBER`, and whether letters are its sign."""
    size = float(re.sub("[,p]", ".", match["size"], flags=re.IGNORECASE))
    if match["sign"]:
        # A true sign has precedence over letters behind the number.
        return float(f"{match['sign']}1") * size, False
    word = match["word"] or match["letter"] or match["behind"]
    negative = word is not None and word.lower() != "p"
    return (0.0 - size if negative else size), word is not None

# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings of a run of ``multitomo``: checked, written to a YAML file and read from one."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from hyperspy_multitomo import __version__
from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.machine.writing import save_atomically
from hyperspy_multitomo.reconstruction.recipes import RECIPES

#: Version of the settings files: another one has keys of another meaning.
FORMAT = 1
# Keywords of the methods that are no settings: series, arrays, files of one run, and the screen.
_NOT_SET = {"self", "haadf", "mask", "initial", "background", "checkpoint", "resume"}
_NOT_SET |= {"bin", "show_progressbar", "interactive", "display", "toolkit"}
_GAINS = ("auto", "constant", "lamella", "none")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a run is to do, but for its files; every field is a key of a settings file.

    Attributes
    ----------
    elements : list of str, optional
        Elements to map; those of the maps where a folder holds maps.
    also : list of str or "auto"
        Elements in the spectra that need no volume.
    tilts : str, optional
        As of `load_tilt_series`.
    tilt_axis : {"y", "x"}
    reverse_tilts : bool
    gains : {"auto", "constant", "lamella", "none"}
        Model of the HAADF gains; "none" attaches no gains to HAADF and maps.
    bin : int or "auto"
        Old pixels along each side of a new one, before the reconstruction.
    method : str
        ``"tnv"`` for `reconstruct_tnv`; "auto" for `reconstruct`.
    haadf : bool
        Whether the HAADF takes part in the reconstruction of the maps.
    keywords : dict
        Of the method.
    k_factors : dict, optional
        Cliff-Lorimer factors; calculated ones by default.
    realisations : int
        How many noise realisations to make of the volume, 2 or more; 0 makes none.
    """

    elements: list[str] | None = None
    also: list[str] | str = "auto"
    tilts: str | None = None
    tilt_axis: str = "y"
    reverse_tilts: bool = False
    gains: str = "auto"
    bin: int | str = "auto"
    method: str = "auto"
    haadf: bool = True
    keywords: dict[str, Any] = dataclasses.field(default_factory=dict)
    k_factors: dict[str, float] | None = None
    realisations: int = 0

    def __post_init__(self):
        for name in ("elements", "also"):
            value = getattr(self, name)
            usual = value is None if name == "elements" else value == "auto"
            if not usual and not _is_list_of_text(value):
                raise ValueError(f"{name}: {value!r} must be a list of elements, as [Au, Ag]")
        if self.elements == []:
            raise ValueError("elements: the list is empty; name at least one element")
        if self.tilts is not None and not isinstance(self.tilts, str):
            raise ValueError(f"tilts: {self.tilts!r} must be text, such as filename")
        _one_of("tilt_axis", self.tilt_axis, ("y", "x"))
        _one_of("gains", self.gains, _GAINS)
        _one_of("method", self.method, ("auto", *sorted(RECIPES)))
        for name in ("reverse_tilts", "haadf"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}: {getattr(self, name)!r} must be true or false")
        if self.bin != "auto" and (type(self.bin) is not int or self.bin < 1):
            raise ValueError(f"bin: {self.bin!r} must be a whole number from 1 up, or auto")
        _check_realisations(self.realisations)
        self._check_keywords()
        if self.k_factors is not None:
            self._check_factors()

    def _check_keywords(self) -> None:
        if not isinstance(self.keywords, Mapping):
            raise ValueError(
                f"keywords: {self.keywords!r} must be keywords of the method and their values"
            )
        known = keywords_of_method(self.method)
        which = "the automatic choice" if self.method == "auto" else f"the method {self.method}"
        for name in self.keywords:
            if name not in known:
                raise ValueError(
                    f"keywords: {which} has no {name!r}; it has {', '.join(sorted(known))}"
                )

    def _check_factors(self) -> None:
        factors = self.k_factors
        if not isinstance(factors, Mapping) or not all(
            isinstance(value, int | float) and not isinstance(value, bool) and value > 0
            for value in factors.values()
        ):
            raise ValueError(f"k_factors: {factors!r} must be a positive number for each element")
        if self.elements is not None and set(factors) != set(self.elements):
            raise ValueError(
                f"k_factors names {', '.join(factors)}; name each of {', '.join(self.elements)} "
                "and no other"
            )

    def replaced(self, **changes) -> Settings:
        """Return the settings with some others; what belongs to another method is left out."""
        if changes.get("method", self.method) != self.method:
            changes = {"keywords": {}, "haadf": True, **changes}
        elif "keywords" in changes:
            changes["keywords"] = {**self.keywords, **changes["keywords"]}
        return dataclasses.replace(self, **changes)

    def text(self) -> str:
        """Return the text of a settings file."""
        values = {"version": FORMAT, "made_by": f"hyperspy_multitomo {__version__}"}
        return yaml.safe_dump(
            values | _plain(dataclasses.asdict(self)),
            sort_keys=False,
            allow_unicode=True,
            default_flow_style=None,
        )

    def save(self, path: Path) -> None:
        """Write a settings file, replacing an existing one atomically."""
        save_atomically(
            lambda temporary: temporary.write_text(self.text(), encoding="utf-8"),
            path,
            overwrite=True,
        )

    @classmethod
    def load(cls, path: str | Path) -> Settings:
        """Return the settings of a file.

        Raises
        ------
        ValueError
            For a file that is no YAML, of another version, with unknown keys or wrong values.
        OSError
            Where it cannot be read.

        Warns
        -----
        UserWarning
            Where another version of the package wrote it: results may differ.
        """
        try:
            read = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is no YAML file: {error}") from None
        if not isinstance(read, dict):
            raise ValueError(
                f"{path} holds no settings; expected lines such as 'version: {FORMAT}'"
            )
        version, made_by = read.pop("version", None), read.pop("made_by", None)
        if version != FORMAT or isinstance(version, bool):
            found = "no version" if version is None else f"version: {version}"
            raise ValueError(
                f"{path} has {found}; this version of multitomo reads settings of "
                f"version: {FORMAT}. Write the settings anew by a run without --settings"
            )
        known = [field.name for field in dataclasses.fields(cls)]
        for name in read:
            if name not in known:
                near = get_close_matches(str(name), known, 1)
                raise ValueError(
                    f"{path} has the unknown key {name!r}"
                    + (f"; is {near[0]!r} meant?" if near else "")
                    + f" Known are version, made_by, {', '.join(known)}"
                )
        here = f"hyperspy_multitomo {__version__}"
        if made_by not in (None, here):
            warn(f"{path} was written by {made_by}, this is {here}: results may differ")
        for name in ("keywords", "k_factors"):
            if isinstance(read.get(name), Mapping):
                read[name] = {key: as_number(value) for key, value in read[name].items()}
        try:
            return cls(**read)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


def keywords_of_method(method: str) -> set[str]:
    """Return the settings among the keywords of a method, of maps or of images.

    Examples
    --------
    >>> "weight" in keywords_of_method("tnv"), "haadf" in keywords_of_method("tnv")
    (True, False)
    """
    from hyperspy_multitomo.signals import TiltSeriesEDS, TiltSeriesHAADF

    found: set[str] = set()
    for cls in (TiltSeriesEDS, TiltSeriesHAADF):
        name = "reconstruct" if method == "auto" else f"reconstruct_{method}"
        function = getattr(cls, name, None)
        found |= set() if function is None else {*inspect.signature(function).parameters}
    return found - _NOT_SET


def as_number(value):
    """Return a number for text that is one, such as 1e-3, which YAML takes for text.

    Examples
    --------
    >>> as_number("1e-3"), as_number("tnv"), as_number(None)
    (0.001, 'tnv', None)
    """
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def _one_of(name: str, value, known) -> None:
    if value not in known:
        raise ValueError(f"{name}: {value!r} must be one of {', '.join(known)}")


def _check_realisations(number) -> None:
    if type(number) is not int or number < 0 or number == 1:
        raise ValueError(
            f"realisations: {number!r} must be a whole number from 2 up, or 0 for none"
        )


def _is_list_of_text(value) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _plain(value):
    """Return a value as YAML writes it: plain numbers, lists and dicts, floats to the last bit."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return value

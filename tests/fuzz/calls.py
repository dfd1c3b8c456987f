# SPDX-License-Identifier: GPL-3.0-or-later
"""Every public method and function called with wrong values, one argument at a time,
and what comes of each call.

``python tests/fuzz/calls.py [seed] [n]`` prints the calls whose error is unclear; ``run(seed, n)``
returns all that were made.
"""

from __future__ import annotations

import inspect
import os
import random
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import numpy as np

import hyperspy_multitomo as mt

PACKAGE = Path(mt.__file__).parent
#: Errors that a user can be told by; any other type is unclear.
CLEAR = (ValueError, TypeError, LookupError, MemoryError, OSError)
TILTS = np.array([-60.0, -30.0, 0.0, 30.0, 60.0])
# Panels and pictures of the browser, whose arguments need a display.
DISPLAY = ("interactive", "display", "toolkit", "show_progressbar", "progress")
PANELS = ("browse", "explore", "explore_evidence", "to_napari")
# Arguments of any type: what holds data is checked where it is used, and a name may be any text.
NAMES_OF_FILES = ("checkpoint", "resume", "filename", "files")
FREE = ("name", "title", "unit", "quantity", "metadata", "label")


@dataclass
class Call:
    """One call: what is called, the argument that is wrong and its value."""

    where: str
    function: Callable = field(repr=False)
    arguments: dict = field(repr=False)
    name: str
    value: object

    def __str__(self) -> str:
        return f"{self.where}({self.name}={short(self.value)})"


@dataclass
class Outcome:
    """What came of a call: "clear", "unclear",
    "silent" (nonsense was taken) or "taken" (a value that may be given)."""

    kind: str
    said: str = ""
    at: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.said} [{self.at}]"


def short(value) -> str:
    """Return a value as words."""
    text = (
        type(value).__name__
        if hasattr(value, "axes_manager") or type(value) is object
        else repr(value)
    )
    return text if len(text) < 40 else text[:37] + "..."


def images() -> np.ndarray:
    """Return projections (tilt, y, x) of a block, with some noise."""
    truth = np.zeros((len(TILTS), 12, 16))
    for image, tilt in zip(truth, TILTS, strict=True):
        half = 2 + 3 * np.cos(np.deg2rad(tilt))
        image[2:10, int(8 - half) : int(8 + half)] = 60 / half
    return np.random.default_rng(0).poisson(truth).astype(np.float32)


def signals() -> dict:
    """Return one signal of each class, small ones that fit each other."""
    from hyperspy.signals import Signal1D

    how = {"tilts": TILTS, "pixel_size": 2.0}
    haadf = mt.TiltSeriesHAADF.from_images(10 * images(), **how)
    eds = mt.TiltSeriesEDS.from_maps({"Au": images(), "Ag": images() // 2}, **how)
    eds.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200.0)
    eds.metadata.set_item("Sample.xray_lines", ["Au_La", "Ag_La"])
    eels = mt.TiltSeriesEELS.from_maps({"Mn_L3": images(), "O_K": images() // 2}, **how)
    eels.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200.0)
    block = np.zeros((16, 12, 16), np.float32)
    block[4:12, 2:10, 4:12] = 5.0
    volume = mt.TomographicVolume.from_arrays(
        {"Au": block, "Ag": 2 * block}, pixel_size=2.0, quantity="counts / nm"
    )
    volume.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200.0)
    volume.metadata.set_item("Sample.xray_lines", ["Au_La", "Ag_La"])
    image = mt.TomographicVolume.from_arrays(
        {"HAADF": block + block**2 / 9}, pixel_size=2.0, quantity="counts / nm"
    )
    axes = [{"name": "tilt", "axis": TILTS, "units": "°", "navigate": True}]
    axes += [
        {"name": name, "size": 4, "scale": 2.0, "units": "nm", "navigate": True} for name in "yx"
    ]
    eds_axis = {
        "name": "Energy",
        "size": 400,
        "scale": 0.02,
        "offset": 0.0,
        "units": "keV",
        "navigate": False,
    }
    eels_axis = {
        "name": "Energy loss",
        "size": 400,
        "scale": 1.0,
        "offset": 400.0,
        "units": "eV",
        "navigate": False,
    }
    counts = np.random.default_rng(0).poisson(5.0, (len(TILTS), 4, 4, 400)).astype(float)
    spectra = Signal1D(counts, axes=[*axes, eds_axis])
    loss = Signal1D(counts, axes=[*axes, eels_axis])
    loss.set_signal_type("EELS")
    return {
        "haadf": haadf,
        "eds": eds,
        "eels": eels,
        "volume": volume,
        "image": image,
        "spectra": spectra,
        "loss": loss,
    }


def wrong_values(made: dict) -> list:
    """Return what no or few arguments may be."""
    plain = [None, "abc", "", -1, 0, 2.5, float("nan"), float("inf"), 1e12, object(), b"abc", 1j]
    held = [
        [],
        {},
        [None],
        ["abc"],
        {"abc": "abc"},
        {1: 2},
        np.array("abc"),
        np.full(3, np.nan),
        np.zeros((2, 2, 2, 2, 2)),
    ]
    return [*plain, *held, *(made[name] for name in ("haadf", "eds", "volume", "spectra"))]


#: What a method is called of where it is not the first signal of its class.
OWNERS = {"plot_composition": "composition", "quantify_haadf": "image"}


def stack(path: Path) -> None:
    """Save images as a program without tilts would."""
    from hyperspy.signals import Signal2D

    Signal2D(images()).save(path)


def bases(made: dict, folder: Path) -> dict[str, dict]:
    """Return the arguments that calls need besides the wrong one, by the name of what is called."""
    haadf, eds, volume = made["haadf"], made["eds"], made["volume"]
    maps = {"Au": images(), "Ag": images()}
    few = {"iterations": 2, "show_progressbar": False}
    regularised = few | {"weight": 1.0, "mu": None}
    factors = {"Au": 1.0, "Ag": 2.0}
    geometry = mt.TiltGeometry(TILTS, 16)
    own = eds.reconstruct_sirt(depth=None, **few)
    absorption = {"density": 10.0, "detectors": "super-x"}
    base = {
        "align": {"method": "centre_of_mass", "show_progressbar": False},
        "array": {"names": "tilt"},
        "bin": {"factor": 2},
        "drop_tilts": {"tilts": [0.0]},
        "from_images": {"images": images(), "tilts": TILTS},
        "from_maps": {"maps": maps, "tilts": TILTS},
        "from_arrays": {"volumes": {"Au": np.ones((4, 4, 4))}},
        "map": {"function": np.sqrt, "show_progressbar": False, "inplace": False},
        "plan_reconstruction": {"method": "sirt"} | few,
        "reconstruct_fbp": {"show_progressbar": False},
        "reconstruct_hebt": {"haadf": haadf, "ratios": factors} | few,
        "reconstruct_fused": {"haadf": haadf, "haadf_weights": factors} | few,
        "reconstruct_with_absorption": {"method": "sirt", "rounds": 1, "absorption": absorption}
        | few,
        "movie": {"filename": folder / "turn.gif", "overwrite": True, "step": 90.0}
        | {"show_progressbar": False},
        "profile": {"start": (1.0, 1.0, 0.0), "end": (5.0, 1.0, 0.0)},
        "realisations": {"count": 2, "show_progressbar": False},
        "register_to": {"haadf": haadf},
        "resolution": {"show_progressbar": False},
        "save": {"filename": folder / "saved.hspy", "overwrite": True},
        "smooth": {"sigma": 1.0},
        "sweep": {"method": "sirt", "relaxation": [0.5, 1.0]} | few,
        "evidence": {"volume": own, "region": mt.Ellipsoid((16.0, 12.0, 0.0), 3.0)},
        "detection_map": {"volume": own, "element": "Au", "size": 6.0},
        "plan_acquisition": {"pilot": own, "element": "Au", "size": 6.0, "contrast": 1.0},
        "fit_response_ratios": {"haadf": haadf},
        "plot_response": {"haadf": haadf},
        "plot_damping": {"model": mt.composition.DampingModel(1e5)},
        "correct_damping": {"model": mt.composition.DampingModel(1e5)},
        "model_ratios": {"haadf_angles": (50.0, 200.0)},
        "estimate_absorption": {"volume": volume, "show_progressbar": False} | absorption,
        "composition_errors": {"composition": volume.quantify("CL", factors=factors)},
        "quantify": {"factors": factors},
        "quantify_density": {"method": "model", "dose": 1e4, "solid_angle": 0.7},
        "find_threshold": {"factors": factors},
        "plot_threshold": {"factors": factors},
        "quantify_haadf": {"elements": ["Au", "Ag"], "reference": {"Au": 10.0, "Ag": 4.0}},
        "plot_composition": {},
        "transfer_test": {"position": (14.0, 6.0, 0.0), "size": 6.0, "count": 1}
        | {"show_progressbar": False},
        "export": {"filename": folder / "volume.mrc", "overwrite": True},
        "edge_maps": {"spectra": made["loss"], "edges": ["O_K"], "show_progressbar": False},
        "elemental_maps": {
            "spectra": made["spectra"],
            "elements": ["Al", "Si"],
            "show_progressbar": False,
        },
        "load_tilt_series": {"files": folder / "series.hspy", "tilts": TILTS},
        "projector": {"geometry": geometry},
        "watch": {"folder": folder, "elements": ["Au"]},
        "workbench": {"haadf": haadf, "eds": eds, "display": False},
        "TiltGeometry": {"tilts": TILTS, "detector_width": 16},
        "Alignment": {"across": np.zeros(5), "along": np.zeros(5)},
    }
    for name in ("sirt", "cgls", "em"):
        base[f"reconstruct_{name}"] = dict(few)
    for name in ("tv", "tgv", "tnv"):
        base[f"reconstruct_{name}"] = dict(regularised)
    return base


def calls(folder: Path) -> Iterator[Call]:
    """Yield every method and function of the package's face,
    with every argument wrong in every way."""
    made = signals()
    stack(folder / "series.hspy")
    base, wrong = bases(made, folder), wrong_values(made)
    for kind in ("haadf", "eds", "eels", "volume"):
        for name in public_methods(type(made[kind])):
            owner = OWNERS.get(name, kind)
            owner = (
                made["volume"].quantify("CL", factors={"Au": 1.0, "Ag": 2.0})
                if owner == "composition"
                else made[owner]
            )
            yield from calls_of(
                f"{kind}.{name}", getattr(owner, name), dict(base.get(name, {})), wrong
            )
        for name in settable(type(made[kind])):
            yield from calls_of(
                f"{kind}.{name} = ", setter(made[kind], name), {"value": None}, wrong, name
            )
    for name in (
        "edge_maps",
        "elemental_maps",
        "load_tilt_series",
        "plan_acquisition",
        "watch",
        "projector",
        "TiltGeometry",
        "Alignment",
    ):
        yield from calls_of(name, getattr(mt, name), base[name], wrong)


def calls_of(
    where: str, function: Callable, base: dict, wrong: list, named: str | None = None
) -> Iterator[Call]:
    """Yield the calls of one function."""
    signature = inspect.signature(function)
    unknown = any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values())
    base = {name: value for name, value in base.items() if name in signature.parameters or unknown}
    if where in ("eels.reconstruct_hebt", "eels.reconstruct_fused"):
        base |= {
            name: {"Mn": 1.0, "O": 2.0} for name in ("ratios", "haadf_weights") if name in base
        }
    if where in ("eels.evidence", "eels.detection_map"):
        few = {"iterations": 2, "depth": None, "show_progressbar": False}
        base |= {"volume": function.__self__.reconstruct_sirt(**few)}
        base |= {"element": "Mn"} if "element" in base else {}
    if where == "eels.model_ratios":
        base |= {"xray_lines": ["Mn_Ka", "O_Ka"]}
    if where.endswith(".sweep") and "haadf" in signature.parameters:
        base["haadf"] = None
    if where.endswith((".realisations", ".transfer_test", ".resolution")):
        base["volume"] = function.__self__.reconstruct_sirt(2, show_progressbar=False)
    for name, parameter in signature.parameters.items():
        if name in (*DISPLAY, "args") or parameter.kind is parameter.VAR_KEYWORD:
            continue
        for value in wrong:
            yield Call(where, function, base | {name: value}, named or name, value)


def public_methods(cls: type) -> list[str]:
    """Return the methods of a class that are the package's own."""
    names = [name for name in dir(cls) if not name.startswith("_") and name not in PANELS]
    return [name for name in names if callable(getattr(cls, name)) and _ours(getattr(cls, name))]


def settable(cls: type) -> list[str]:
    """Return the properties of a class that can be set and are the package's own."""
    properties = {
        name: getattr(cls, name)
        for name in dir(cls)
        if isinstance(getattr(cls, name, None), property)
    }
    return [name for name, each in properties.items() if each.fset is not None and _ours(each.fset)]


def setter(signal, name: str) -> Callable:
    """Return a function that sets a property of a copy."""

    def assign(value):
        setattr(signal.deepcopy(), name, value)

    return assign


def _ours(function) -> bool:
    return inspect.unwrap(function).__module__.startswith(mt.__name__)


def outcome(call: Call) -> Outcome:
    """Make a call and say what came of it."""
    arguments = dict(call.arguments)
    positional = [
        arguments.pop(name)
        for name, each in inspect.signature(call.function).parameters.items()
        if each.kind is each.VAR_POSITIONAL and name in arguments
    ]
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            call.function(*positional, **arguments)
    except Exception as error:
        return judged(call, error)
    return Outcome("taken" if may_be(call) else "silent")


def judged(call: Call, error: Exception) -> Outcome:
    """Say whether an error was raised by the package, and names the argument or its value."""
    frames = traceback.extract_tb(error.__traceback__)
    last, said = frames[-1], f"{type(error).__name__}: {error}"
    where = f"{Path(last.filename).name}:{last.lineno}"
    ours = Path(last.filename).is_relative_to(PACKAGE) and "raise " in (last.line or "")
    words = {
        call.name,
        call.name.rstrip("s"),
        call.name.replace("_", " "),
        *KNOWN_AS.get(call.name, ()),
    }
    if isinstance(call.value, str | int | float | complex | bytes) and call.value != "":
        words.add(str(call.value))
    named = any(word.lower() in str(error).lower() for word in words)
    named = named or isinstance(error, MemoryError)  # says how much is needed and how to need less
    kind = "clear" if isinstance(error, CLEAR) and ours and named else "unclear"
    return Outcome(kind, said, where)


#: Words by which messages call an argument that has another name.
KNOWN_AS = {
    "across": ("shift",),
    "along": ("shift",),
    "alignment": ("aligned",),
    "at": ("centre",),
    "also": ("element", "edge", "line"),
    "backend": ("back-end",),
    "checkpoint": ("resume",),
    "detectors": ("azimuth", "elevation"),
    "eds": ("maps",),
    "efficiency": ("efficienc",),
    "elements": ("HAADF",),
    "energy_loss": ("EELS",),
    "energy_range": ("energ",),
    "file_format": ("save",),
    "filename": ("file", "suffix"),
    "extension": ("save",),
    "initial": ("start volume",),
    "like": ("volume",),
    "lines": ("element",),
    "method": ("kind of factor", "composition"),
    "mu": ("weights",),
    "names": ("axes", "axis"),
    "outline": ("mask",),
    "pilot": ("volume",),
    "reference": ("intensit", "histogram", "grey value"),
    "region": ("mask",),
    "threshold": ("mask",),
    "volumes": ("channels",),
    "width": ("window",),
    "xray_lines": ("line",),
}

_NUMBERS = (int, float, np.integer, np.floating)


def may_be(call: Call) -> bool:
    """Say whether a value may be given for an argument, as far as its type and range tell."""
    name, value = call.name, call.value
    parameter = inspect.signature(call.function).parameters.get(name)
    default = inspect._empty if parameter is None else parameter.default
    annotation = "" if parameter is None else str(parameter.annotation)
    if value is None:
        return (
            default is None
            or "None" in annotation
            or "= " in call.where
            or (default is inspect._empty and not annotation)
        )
    if (by_name := _may_be_of_that_name(name, value)) is not None:
        return by_name
    if isinstance(default, bool):
        annotation = "bool"
    return _may_be_of_that_type(annotation, value)


def _may_be_of_that_name(name: str, value) -> bool | None:
    """Say whether an argument of that name may have the value; None where its type tells."""
    if name in NAMES_OF_FILES:
        return isinstance(value, str | Path) and value != ""
    if name in ("background", "tilts", "factor_errors", "count_errors") and isinstance(
        value, _NUMBERS
    ):
        return bool(np.isfinite(value))
    return isinstance(value, str) if name in FREE else None


#: What an argument with exactly this annotation may be.
_OF_ONE_TYPE = {
    "int": lambda value: isinstance(value, int) and value >= 0,
    "float": lambda value: isinstance(value, _NUMBERS) and bool(np.isfinite(value)),
    "str": lambda value: isinstance(value, str) and value != "abc",
}


def _may_be_of_that_type(annotation: str, value) -> bool:
    """Say whether an argument with that annotation may have the value."""
    if annotation.startswith("bool"):
        return isinstance(value, bool) or value in (0, 1) if isinstance(value, _NUMBERS) else False
    if (may := _OF_ONE_TYPE.get(annotation.replace(" | None", "").strip("'"))) is not None:
        return may(value)
    if isinstance(value, _NUMBERS):
        return bool(np.isfinite(value)) and ("float" in annotation or not annotation)
    if isinstance(value, str | bytes | complex) or type(value) is object:
        return False
    return (
        hasattr(value, "axes_manager") or not len(np.shape(value)) or np.size(value) == 0
    ) and not isinstance(value, np.ndarray)


def run(seed: int, n: int | None = None) -> list[tuple[str, Outcome]]:
    """Make `n` of all calls, drawn at random (all of them where it is None),
    and return each with its outcome."""
    with tempfile.TemporaryDirectory() as folder:
        every = list(calls(Path(folder)))
        if n is not None:
            every = random.Random(seed).sample(every, min(n, len(every)))
        here = os.getcwd()
        os.chdir(folder)  # where a file name that is taken leads to
        try:
            return [(str(call), outcome(call)) for call in every]
        finally:
            os.chdir(here)


if __name__ == "__main__":
    for module in mt._PACKAGES:
        import_module(f"{mt.__name__}.{module}")
    seed, count = (
        int(sys.argv[1]) if len(sys.argv) > 1 else 0,
        int(sys.argv[2]) if len(sys.argv) > 2 else None,
    )
    found = run(seed, count)
    for call, came in found:
        if came.kind in ("unclear", "silent"):
            print(call, "->", came)
    kinds = [came.kind for _, came in found]
    print({kind: kinds.count(kind) for kind in sorted(set(kinds))}, len(kinds), "calls")

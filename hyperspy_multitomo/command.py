# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``multitomo``: from folders of microscope files to volumes, composition and a page.

Each folder goes through the lines that the README shows, by public methods alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import glob
import inspect
import os
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from hyperspy_multitomo.command_settings import Settings, as_number

PAGE, SETTINGS = "report.html", "settings.yaml"
#: What a run writes to the folder of its results; not all of it for all files.
RESULTS = ("haadf.zspy", "eds.zspy", "volume.zspy", "composition.zspy", SETTINGS, PAGE)
#: Besides, where noise realisations are asked for: the standard deviation of the volume.
NOISE = "noise.zspy"
# Endings of files that hold one tilt.
_ONE_TILT = (".bcf", ".emd", ".dm3", ".dm4")
# The exit status of a program that an interrupt ended: 128 + SIGINT.
_INTERRUPTED = 130


@dataclasses.dataclass
class Run:
    """One run: its tilt series, settings, results, warnings and times.

    Attributes
    ----------
    title : str
    haadf, eds : TiltSeriesHAADF, TiltSeriesEDS or None
        As the volume was made of them.
    lamella : bool
        Whether the specimen leaves the field of view, by its gains.
    results : dict
        ``"ratios"``, ``"volume"``, ``"composition"`` and ``"noise"``, as far as there are any.
    settings : str
        The text of the settings file.
    notes : list of str
        Warnings, each once.
    seconds : dict
        Of each step.
    """

    title: str
    haadf: Any = None
    eds: Any = None
    lamella: bool = False
    results: dict[str, Any] = dataclasses.field(default_factory=dict)
    settings: str = ""
    notes: list[str] = dataclasses.field(default_factory=list)
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)

    def timed(self, what: str, function: Callable, *args, **kwds):
        """Run one step, print its name and time, and keep its warnings for the page."""
        print(f"{what} ... ", end="", flush=True)
        start = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            try:
                value = function(*args, **kwds)
            except BaseException:
                print("stopped")
                raise
        self.seconds[what] = time.perf_counter() - start
        print(f"{self.seconds[what]:.1f} s")
        for message in dict.fromkeys(str(w.message) for w in caught if w.category is UserWarning):
            self.note(message)
        return value

    def note(self, message: str) -> None:
        """Print a note and keep it for the page."""
        print(f"  note: {message}")
        self.notes.append(message)


def main(argv: list[str] | None = None) -> int:
    """Run ``multitomo``.

    Returns
    -------
    int
        Exit status: 0, 1 where a folder failed, 2 for a wrong call, 130 after an interrupt.
    """
    options = _parser().parse_args(argv)
    try:
        settings = _settings_of(options)
        targets = _targets(options.folders, Path(options.out))
    except (ValueError, OSError) as error:
        print(f"multitomo: {error}", file=sys.stderr)
        return 2
    finished, failed = [], {}
    for place, (folder, out) in enumerate(targets.items(), 1):
        print(f"{folder}" + (f" ({place} of {len(targets)})" if len(targets) > 1 else ""))
        try:
            run = _run_folder(folder, out, settings, options.overwrite)
        except KeyboardInterrupt:
            return _stopped(finished, folder)
        except Exception as error:
            failed[folder] = _reason(error)
            print(f"  {failed[folder]}", file=sys.stderr)
            continue
        print(f"Done in {sum(run.seconds.values()):.0f} s. Open {out / PAGE}")
        if run.results["interrupted"]:
            return _stopped(finished, folder)
        finished.append(folder)
    if failed:
        print(f"\nmultitomo: {len(failed)} of {len(targets)} failed:", file=sys.stderr)
        for folder, reason in failed.items():
            print(f"  {folder}: {reason}", file=sys.stderr)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="multitomo",
        description="From HAADF and EDS tilt series to 3-D elemental volumes, composition and a "
        "page, for each folder. Options that are given replace those of --settings.",
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument(
        "folders",
        nargs="+",
        metavar="FOLDER",
        help="microscope files of a tilt series: a folder, a stack, or a pattern in quotes",
    )
    files = parser.add_argument_group("files")
    files.add_argument(
        "--elements", nargs="+", metavar="EL", help="elements to map, e.g. --elements Au Ag"
    )
    files.add_argument(
        "--also",
        nargs="+",
        metavar="EL",
        help="elements in the spectra that need no volume (grid, holder); found by default",
    )
    files.add_argument(
        "--tilts",
        metavar="WHERE",
        help="'metadata', 'filename', a regular expression or a .rawtlt file",
    )
    files.add_argument(
        "--tilt-axis",
        choices=("y", "x"),
        help="direction of the tilt axis in the images (default y)",
    )
    files.add_argument("--reverse-tilts", action="store_true", help="change the sign of the tilts")
    files.add_argument(
        "--out",
        metavar="FOLDER",
        default="multitomo_results",
        help="where to write (default multitomo_results); several folders have one each in it",
    )
    files.add_argument(
        "--overwrite", action="store_true", default=False, help="replace earlier results"
    )
    files.add_argument(
        "--settings", metavar="FILE", default=None, help=f"settings of a run, its {SETTINGS}"
    )
    how = parser.add_argument_group("reconstruction")
    how.add_argument(
        "--bin", metavar="N", help="pixels along each side of a new one, or auto (default)"
    )
    how.add_argument(
        "--method", metavar="NAME", help="tnv, hebt, sirt ... (default: the package's choice)"
    )
    how.add_argument(
        "--set",
        nargs="+",
        metavar="KEY=VALUE",
        help="keywords of the method, e.g. --method hebt --set alpha=0.7 iterations=60",
    )
    how.add_argument(
        "--k-factors", nargs="+", metavar="EL=K", help="Cliff-Lorimer factors, e.g. Au=1.9 Ag=1.3"
    )
    how.add_argument(
        "--realisations",
        metavar="N",
        type=int,
        help="draw the counts anew N times and reconstruct them: the noise of the volume (default "
        "0; 30 take 30 times as long)",
    )
    return parser


def _settings_of(options: argparse.Namespace) -> Settings:
    """Return the settings of the file with what is given besides."""
    given = vars(options).copy()
    for name in ("folders", "out", "overwrite"):
        given.pop(name)
    path = given.pop("settings")
    settings = Settings() if path is None else _with_notes(Settings.load, path)
    if "bin" in given and given["bin"].lstrip("+-").isdigit():
        given["bin"] = int(given["bin"])
    if "set" in given:
        given["keywords"] = _pairs("--set", given.pop("set"))
    if "k_factors" in given:
        given["k_factors"] = _pairs("--k-factors", given["k_factors"])
    return settings.replaced(**given)


def _with_notes(function: Callable, *args):
    """Call a function and print its warnings in one line each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        value = function(*args)
    for one in caught:
        print(f"note: {one.message}", file=sys.stderr)
    return value


def _pairs(option: str, arguments: list[str]) -> dict[str, Any]:
    """Return ``KEY=VALUE`` arguments as a dict, the values read as YAML."""
    pairs = {}
    for item in arguments:
        name, equals, value = item.partition("=")
        if not (name and equals and value):
            raise ValueError(f"{option} {item}: expected KEY=VALUE, e.g. Au=1.9")
        try:
            pairs[name] = as_number(yaml.safe_load(value))
        except yaml.YAMLError:
            raise ValueError(f"{option} {item}: the value cannot be read") from None
    return pairs


def _targets(folders: list[str], out: Path) -> dict[str, Path]:
    """Return where the results of each folder go: of one to `out`, of several into `out`.

    There they are named by what tells the folders apart: ``a/tilts`` and ``b/tilts`` go to
    ``out/a/tilts`` and ``out/b/tilts``.
    """
    places = {folder: _place(folder) for folder in folders}
    _check_places(list(places.values()), len(folders))
    if out.resolve() in (place.resolve() for place in places.values()):
        raise ValueError(
            f"--out {out} is a folder of the files: the next run would take the results for files; "
            "choose another"
        )
    if len(places) == 1:
        return dict.fromkeys(folders, out)
    common = os.path.commonpath([place.parent for place in places.values()])
    targets = {folder: out / place.relative_to(common) for folder, place in places.items()}
    return {
        folder: target.with_suffix("") if places[folder].is_file() else target
        for folder, target in targets.items()
    }


def _place(folder: str) -> Path:
    """Return the folder or file that is named, of a pattern the folder that it looks in."""
    path = Path(os.path.abspath(Path(folder).expanduser()))
    while glob.has_magic(str(path)) and not path.exists():
        path = path.parent
    return path


def _check_places(places: list[Path], number: int) -> None:
    """Raise an error for a folder named twice, and for the tilts of one series named singly."""
    single = [place for place in places if place.suffix.lower() in _ONE_TILT and place.is_file()]
    if len(single) > 1 and len({place.parent for place in single}) == 1:
        raise ValueError(
            f"{single[0].name} and {len(single) - 1} more of the same folder are named, and each "
            "FOLDER is a series of its own: name the folder, or put the pattern in quotes"
        )
    if len({place.with_suffix("") if place.is_file() else place for place in places}) < number:
        raise ValueError("a folder is named twice, or two files differ in their ending alone")


def _reason(error: Exception) -> str:
    """Return an error in one line; one that no check foresaw is shown with its place."""
    if not isinstance(error, ValueError | OSError | MemoryError | TypeError):
        traceback.print_exception(error)
        return f"{type(error).__name__}: {error}"
    return str(error)


def _stopped(finished: list[str], folder: str) -> int:
    print(
        f"\nmultitomo: interrupted in {folder}; finished before: {', '.join(finished) or 'none'}",
        file=sys.stderr,
    )
    return _INTERRUPTED


def _run_folder(folder: str, out: Path, settings: Settings, overwrite: bool) -> Run:
    """Do the whole job for one folder."""
    existing = [name for name in (*RESULTS, NOISE) if (out / name).exists()]
    if existing and not overwrite:
        raise FileExistsError(
            f"{out} holds {', '.join(existing)} already; choose another --out, or pass --overwrite"
        )
    run = Run(title=Path(folder).resolve().name if Path(folder).exists() else folder)
    _load(run, folder, settings)
    settings = _align(run, settings)
    settings = _reconstruct(run, settings)
    run.settings = settings.text()
    run.timed("saving", _save, run, settings, out)
    _quantify(run, settings)
    if settings.realisations:
        _draw_again(run, settings.realisations)
    _finish(run, out)
    return run


def _load(run: Run, folder: str, settings: Settings) -> None:
    """Load the files, and map the elements where they are spectra."""
    from hyperspy_multitomo import elemental_maps, load_tilt_series

    how = {
        "tilts": settings.tilts,
        "tilt_axis": settings.tilt_axis,
        "reverse_tilts": settings.reverse_tilts,
    }
    loaded = run.timed("loading the files", load_tilt_series, folder, **how)
    for signal in loaded if isinstance(loaded, tuple) else (loaded,):
        if signal._signal_type == "TiltSeriesHAADF":
            run.haadf = signal
        elif signal._signal_type in ("TiltSeriesEDS", "TiltSeriesEELS"):
            _check_elements(signal, settings.elements)
            run.eds = signal
        elif settings.elements is None:
            raise ValueError("these are spectra: name the elements to map, e.g. --elements Au Ag")
        else:
            run.eds = run.timed(
                "mapping the elements",
                elemental_maps,
                signal,
                elements=settings.elements,
                also=settings.also,
                show_progressbar=False,
            )
    if run.eds is None and settings.elements is not None:
        run.note("these files hold HAADF images alone: no elements are mapped")


def _check_elements(maps, elements: list[str] | None) -> None:
    """Raise an error where other elements are asked for than a series of maps has."""
    if elements is not None and set(elements) != set(maps.channels):
        raise ValueError(
            f"these are maps of {', '.join(maps.channels)}, and all of them are reconstructed: "
            "name no others, or leave out --elements"
        )


def _align(run: Run, settings: Settings) -> Settings:
    """Align, and attach gains, which need a HAADF series; return the settings with their model."""
    run.timed("aligning", _attach_alignment, run.haadf, run.eds)
    if run.haadf is None:
        return settings.replaced(gains="none")
    if settings.gains == "none":
        return settings
    model = run.timed("estimating the gains", _attach_gains, run.haadf, run.eds, settings.gains)
    run.lamella = model == "lamella"
    return settings.replaced(gains=model)


def _attach_alignment(haadf, eds) -> None:
    """Measure the alignment on the HAADF, without it on the maps."""
    alignment = (eds if haadf is None else haadf).align(show_progressbar=False)
    if haadf is not None and eds is not None:
        eds.align(alignment)


def _attach_gains(haadf, eds, model: str) -> str:
    """Estimate the gains of the HAADF by a model, and those of the maps by the HAADF."""
    model = haadf.estimate_gains(model).model
    if eds is not None:
        eds.estimate_gains(haadf)
    return model


def _reconstruct(run: Run, settings: Settings) -> Settings:
    """Bin, fit the response ratios, reconstruct; return the settings as they were resolved."""
    from hyperspy_multitomo.signals.methods.rerun import keywords_of, last_reconstruction

    automatic = settings.method == "auto"
    factor = 1 if settings.bin == "auto" else settings.bin
    if run.haadf is not None and run.eds is not None:
        _fit_ratios(run)
    if not automatic:
        _bin(run, factor)
    show = sys.stderr.isatty()
    volume = run.timed("reconstructing", reconstruct, run.haadf, run.eds, settings, show)
    if automatic:
        factor = last_reconstruction(volume).get("chosen", {}).get("bin", 1)
        _bin(run, factor)
    run.results["volume"] = volume
    step = last_reconstruction(volume)
    run.results["interrupted"] = bool(step.get("interrupted"))
    if not automatic:
        print("  " + _called(volume))
    series = run.haadf if run.eds is None else run.eds
    return dataclasses.replace(
        settings,
        bin=factor,
        method=step["step"].removeprefix("reconstruct_"),
        haadf="haadf" in step["made_of"],
        keywords=keywords_of(step, getattr(series, step["step"])),
        elements=settings.elements if run.eds is None else list(run.eds.channels),
    )


def _bin(run: Run, factor: int) -> None:
    """Bin the series of a run."""
    if factor > 1:
        run.haadf = None if run.haadf is None else run.haadf.bin(factor)
        run.eds = None if run.eds is None else run.eds.bin(factor)


def reconstruct(haadf, eds, settings: Settings, show: bool):
    """Reconstruct the maps, with the HAADF where the method takes it, or the HAADF alone."""
    series = haadf if eds is None else eds
    method = settings.method
    if method == "auto":
        beside = [haadf] if eds is not None and haadf is not None and settings.haadf else []
        how = {"bin": settings.bin, **settings.keywords, "show_progressbar": show}
        return series.reconstruct(*beside, **how)
    function = getattr(series, f"reconstruct_{method}", None)
    if function is None:
        raise ValueError(f"the method {method} needs elemental maps, and these are HAADF images")
    takes = inspect.signature(function).parameters.get("haadf")
    beside = []
    if takes is not None and eds is not None and haadf is not None and settings.haadf:
        beside = [haadf]
    elif takes is not None and takes.default is takes.empty:
        raise ValueError(f"the method {method} needs a HAADF series beside the maps")
    return function(*beside, **settings.keywords, show_progressbar=show)


def _fit_ratios(run: Run) -> None:
    """Fit the response ratios; where that fails, the methods that need none go on."""
    try:
        run.results["ratios"] = run.timed(
            "fitting the response ratios", run.eds.fit_response_ratios, run.haadf
        )
    except ValueError as error:
        run.note(f"no response ratios: {error}")


def _called(volume) -> str:
    """Return the call that made a volume, in one line."""
    lines = volume.to_script().splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("volume = "))
    return " ".join(line.strip() for line in lines[start:]).replace("( ", "(").replace(", )", ")")


def _quantify(run: Run, settings: Settings) -> None:
    """Calculate the composition, where there are elements, lines and a beam energy."""
    if run.eds is None:
        return
    how = ("CL", settings.k_factors) if settings.k_factors else ("model",)
    try:
        run.results["composition"] = run.timed("quantifying", run.results["volume"].quantify, *how)
    except ValueError as error:
        run.note(f"no composition: {error}")


def _draw_again(run: Run, count: int) -> None:
    """Make noise realisations of the volume, where there are counts."""
    from hyperspy_multitomo.signals.methods.rerun import last_reconstruction

    volume, series = run.results["volume"], run.haadf if run.eds is None else run.eds
    both = run.eds is not None and "haadf" in last_reconstruction(volume)["made_of"]
    how = {"count": count, "show_progressbar": sys.stderr.isatty()}
    try:
        run.results["noise"] = run.timed(
            "drawing the counts anew",
            series.realisations,
            volume,
            *([run.haadf] if both else []),
            **how,
        )
    except ValueError as error:
        run.note(f"no noise realisations: {error}")


def _save(run: Run, settings: Settings, out: Path) -> None:
    """Save the series, the volume and the settings; remove what an earlier run left besides."""
    out.mkdir(parents=True, exist_ok=True)
    signals = {"haadf": run.haadf, "eds": run.eds, "volume": run.results["volume"]}
    saved = {f"{name}.zspy": signal for name, signal in signals.items() if signal is not None}
    for name, signal in saved.items():
        signal.save(out / name, overwrite=True)
    settings.save(out / SETTINGS)
    for path in (out / name for name in (*RESULTS, NOISE) if name not in (*saved, SETTINGS)):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _finish(run: Run, out: Path) -> None:
    """Save the composition and the noise, and write the page."""
    from hyperspy_multitomo.command_page import write_page

    if "composition" in run.results:
        composition = run.results["composition"]
        run.timed("saving the composition", composition.save, out / "composition.zspy")
    if "noise" in run.results:
        run.timed("saving the noise", run.results["noise"].sd.save, out / NOISE)
    run.timed("writing the page", write_page, run, out / PAGE)


if __name__ == "__main__":
    raise SystemExit(main())

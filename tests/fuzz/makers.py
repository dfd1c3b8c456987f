# SPDX-License-Identifier: GPL-3.0-or-later
"""Makers of small valid files of every format, with what loads them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
from dm_file import microscope_tags, write_dm
from velox_file import write_velox

import hyperspy_multitomo as mt
from hyperspy_multitomo.alignment.quality import AlignmentQuality
from hyperspy_multitomo.alignment.transform import Alignment
from hyperspy_multitomo.tomography import Checkpoint

TILTS = np.array([-20.0, 0.0, 20.5])
SHAPE = (3, 10, 12)  # tilt, y, x
BRUKER = Path(__file__).resolve().parents[3] / "shared" / "data" / "idp_l2083"


def series(path: Path, lazy: bool):
    """Load what is found as a tilt series."""
    return mt.load_tilt_series(path, lazy=lazy)


def view(path: Path, lazy: bool):
    """Load one file as a single view."""
    return mt.load_tilt_series(path, [0.0], lazy=lazy)


def hyperspy(path: Path, lazy: bool):
    """Load a volume of ours through HyperSpy, and use it:
    before that no code of ours may have seen the file."""
    import hyperspy.api as hs

    found = hs.load(path, lazy=lazy)
    if isinstance(found, mt.TomographicVolume):
        found.array("element", "z", "x", "y")
    return found


def shifts(path: Path, lazy: bool):
    return Alignment.load(path)


def angles(path: Path, lazy: bool):
    """Load tilts as those of a stack."""
    return mt.load_tilt_series(path.parent / "stack.tif", path, lazy=lazy).tilts


def state(path: Path, lazy: bool):
    return dict(Checkpoint(path, key="run").load())


@dataclass
class Format:
    """How a valid file is made, or several in a folder, and what is told of the format.

    Attributes
    ----------
    make : callable
        ``make(folder)`` writes the files and returns what is to be loaded.
    load : callable
        ``load(path, lazy)``.
    text : tuple of str
        Suffixes of the files that are text, in which any number may be a true one.
    long : bool
        Whether it takes so long that only the long run has it.
    victims : str
        Pattern of the names of the files that are damaged.
    gaps : bool
        Whether bytes that nothing refers to are legal anywhere, so that surplus ones tell nothing.
    packed : bool
        Whether values are packed without a checksum, so that one byte may stand for many.
    available : callable
        Whether there is what it is made of.
    """

    make: Callable[[Path], Path]
    load: Callable[[Path, bool], object] = series
    text: tuple[str, ...] = ()
    long: bool = False
    victims: str = "*"
    gaps: bool = False
    packed: bool = False
    available: Callable[[], bool] = field(default=lambda: True)


def values(dtype=np.float32, shape=SHAPE, seed=0) -> np.ndarray:
    """Return images of noise that have no two equal rows."""
    return np.random.default_rng(seed).integers(1, 100, shape).astype(dtype)


def mrc(dtype, extended: bytes = b"", beside: str = "rawtlt"):
    """Return a maker of an MRC stack with its tilts beside it, in its .mdoc, or given."""

    def make(folder: Path) -> Path:
        import mrcfile

        path = folder / "stack.mrc"
        with mrcfile.new(path) as file:
            file.set_data(values(dtype))
            file.voxel_size = 5.0
            if extended:
                file.set_extended_header(np.frombuffer(extended, dtype="V1"))
        if beside == "mdoc":
            mdoc(folder, "stack.mrc.mdoc")
        else:
            (folder / f"stack.{beside}").write_text("".join(f"{tilt:.2f}\n" for tilt in TILTS))
        return path

    return make


def mdoc(folder: Path, name: str = "tilts.mdoc") -> Path:
    lines = [
        "PixelSpacing = 5.0",
        "Voltage = 200",
        "",
        "[T = Tilt axis angle = 3.0, binning = 1]",
        "",
    ]
    for number, tilt in enumerate(TILTS):
        lines += [
            f"[ZValue = {number}]",
            f"TiltAngle = {tilt}",
            f"DateTime = 05-Nov-24  10:00:{20 * number:02d}",
            "",
        ]
    (folder / name).write_text("\n".join(lines))
    return folder / name


def tiff_stack(folder: Path) -> Path:
    import tifffile

    tifffile.imwrite(folder / "stack.tif", values(np.uint16), photometric="minisblack")
    (folder / "stack.tlt").write_text("".join(f"{tilt:.2f}\n" for tilt in TILTS))
    return folder / "stack.tif"


def tiff_images(folder: Path) -> Path:
    import tifffile

    for tilt, image in zip(TILTS, values(np.uint16), strict=True):
        tifffile.imwrite(
            folder / f"image_{tilt:g}.tif",
            image,
            resolution=(1e7, 1e7),
            resolutionunit="CENTIMETER",
        )
    return folder


def haadf() -> mt.TiltSeriesHAADF:
    return mt.TiltSeriesHAADF.from_images(values(), tilts=TILTS, pixel_size=2.0)


def eds() -> mt.TiltSeriesEDS:
    maps = mt.TiltSeriesEDS.from_maps(
        {"Au": values(), "Ag": values(seed=1)}, tilts=TILTS, pixel_size=2.0
    )
    maps.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200.0)
    return maps


def volume() -> mt.TomographicVolume:
    return mt.TomographicVolume.from_arrays(
        {"Au": values(), "Ag": values(seed=1)}, pixel_size=2.0, quantity="counts / nm"
    )


def saved(signal: Callable, suffix: str):
    """Return a maker of a file of one of our signals, in several chunks."""

    def make(folder: Path) -> Path:
        path = folder / f"saved.{suffix}"
        made = signal()
        made.save(path, chunks=tuple(-(-size // 2) for size in made.data.shape))
        return path

    return make


def foreign(suffix: str):
    """Return a maker of HyperSpy's own images, one per tilt."""

    def make(folder: Path) -> Path:
        from hyperspy.signals import Signal2D

        for tilt, image in zip(TILTS, values(), strict=True):
            signal = Signal2D(image)
            for axis, name in zip(signal.axes_manager.signal_axes, "xy", strict=True):
                axis.name, axis.scale, axis.units = name, 2.0, "nm"
            signal.metadata.General.title = "HAADF"
            signal.save(folder / f"image_{tilt:g}.{suffix}")
        return folder

    return make


def spectra(folder: Path) -> Path:
    from hyperspy.signals import Signal1D

    counts = values(np.uint16, (*SHAPE, 32))
    axes = [{"name": "tilt", "axis": TILTS, "units": "°", "navigate": True}]
    axes += [
        {"name": name, "size": size, "scale": 2.0, "units": "nm"}
        for name, size in zip("yx", SHAPE[1:], strict=True)
    ]
    axes += [{"name": "Energy", "size": 32, "scale": 0.02, "units": "keV", "navigate": False}]
    signal = Signal1D(counts, axes=axes)
    signal.set_signal_type("EDS_TEM")
    signal.save(folder / "spectra.hspy")
    return folder / "spectra.hspy"


def ncem(folder: Path) -> Path:
    with h5py.File(folder / "stack.emd", "w") as file:
        file.attrs["version_major"], file.attrs["version_minor"] = 0, 2
        group = file.create_group("data/series")
        group.attrs["emd_group_type"] = 1
        group["data"] = values()
        for number, (name, along) in enumerate(
            zip(("tilt", "y", "x"), (TILTS, *map(np.arange, SHAPE[1:])), strict=True), 1
        ):
            axis = group.create_dataset(f"dim{number}", data=np.asarray(along, float))
            axis.attrs["name"], axis.attrs["units"] = name, "[deg]" if number == 1 else "[n_m]"
    return folder / "stack.emd"


def velox(folder: Path) -> Path:
    for number, tilt in enumerate(TILTS):
        events = np.random.default_rng(number).poisson(0.5, (2, 4, 5, 16))
        write_velox(
            folder / f"view_{tilt:g}.emd",
            {"HAADF": values(np.uint16, (2, 4, 5), number)},
            [events],
            tilt=tilt,
        )
    return folder


def digital_micrograph(suffix: str):
    def make(folder: Path) -> Path:
        for number, tilt in enumerate(TILTS):
            image = {
                "data": values(np.float32, SHAPE[1:], number),
                "name": "HAADF",
                "tags": microscope_tags(tilt),
            }
            write_dm(folder / f"view_{tilt:g}.{suffix}", [image])
        return folder

    return make


def bruker(folder: Path) -> Path:
    shutil.copy(BRUKER / "-10.bcf", folder)
    (folder / "-10.bcf").chmod(0o644)
    return folder / "-10.bcf"


def alignment(suffix: str):
    def make(folder: Path) -> Path:
        errors = np.array([0.1, 0.2, 0.3])
        quality = AlignmentQuality(errors, errors, 0.1, 0.2, errors, ("measured",))
        found = Alignment(
            np.array([1.5, -2.25, 0.125]),
            np.array([0.5, 0.25, -3.0]),
            axis_offset=1.5,
            rotation=2.0,
            tilts=TILTS,
            pixel_size=2.0,
            quality=None if suffix == "xf" else quality,
        )
        if suffix == "xf":
            (folder / "shifts.tlt").write_text("".join(f"{tilt:.2f}\n" for tilt in TILTS))
        return found.save(folder / f"shifts.{suffix}")

    return make


def tomviz(folder: Path) -> Path:
    (folder / "shifts.json").write_text("[[1, 2], [3, -4], [0, 5]]")
    return folder / "shifts.json"


def tilts(suffix: str):
    def make(folder: Path) -> Path:
        path = folder / f"tilts.{suffix}"
        head = "n,tilt\n" if suffix == "csv" else ""
        lines = (
            f"{number},{tilt:.2f}\n" if head else f"{tilt:.2f}\n"
            for number, tilt in enumerate(TILTS)
        )
        path.write_text(head + "".join(lines))
        return path

    return make


def beside_a_stack(maker: Callable):
    """Return a maker of tilts that are of another name than the stack beside them."""

    def make(folder: Path) -> Path:
        tiff_stack(folder)
        (folder / "stack.tlt").unlink()
        return maker(folder)

    return make


def checkpoint(folder: Path) -> Path:
    Checkpoint(folder / "run.state", key="run").save(
        {"volume": values(), "dual": values(np.float64)}, {"iteration": 3}
    )
    return folder / "run.state"


BESIDE = (".rawtlt", ".tlt", ".mdoc")
FORMATS = {
    **{
        f"mrc {np.dtype(dtype).name}": Format(mrc(dtype), text=BESIDE)
        for dtype in ("i1", "i2", "f4", "u2", "f2")
    },
    "mrc extended header": Format(mrc("i2", b"ab" * 256), text=BESIDE),
    "mrc with mdoc": Format(mrc("i2", beside="mdoc"), text=BESIDE),
    "tiff stack": Format(tiff_stack, text=BESIDE, gaps=True),
    "tiff images": Format(tiff_images, gaps=True),
    "hspy haadf": Format(saved(haadf, "hspy")),
    "hspy eds": Format(saved(eds, "hspy")),
    "hspy spectra": Format(spectra),
    "hspy foreign images": Format(foreign("hspy")),
    "hspy volume": Format(saved(volume, "hspy"), hyperspy),
    "zspy haadf": Format(saved(haadf, "zspy"), packed=True),
    "zspy eds": Format(saved(eds, "zspy"), packed=True),
    "zspy volume": Format(saved(volume, "zspy"), hyperspy, packed=True),
    "ncem emd": Format(ncem),
    "velox emd": Format(velox),
    "dm3": Format(digital_micrograph("dm3")),
    "dm4": Format(digital_micrograph("dm4")),
    "bcf": Format(bruker, view, long=True, packed=True, available=BRUKER.is_dir),
    **{
        f"alignment {suffix}": Format(alignment(suffix), shifts, (f".{suffix}", ".tlt"))
        for suffix in ("csv", "json", "xf")
    },
    "alignment of tomviz": Format(tomviz, shifts, (".json",)),
    **{
        f"tilts {suffix}": Format(
            beside_a_stack(tilts(suffix)), angles, (f".{suffix}",), victims="tilts.*"
        )
        for suffix in ("rawtlt", "tlt", "csv")
    },
    "tilts mdoc": Format(beside_a_stack(mdoc), angles, (".mdoc",), victims="tilts.*"),
    "checkpoint": Format(checkpoint, state),
}

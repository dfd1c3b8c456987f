# SPDX-License-Identifier: GPL-3.0-or-later
"""How version 0.1.0, at commit cf2db59, wrote the files of tests/test_saved_before.py, once.

The tests read `files.tar.xz` and `recorded.json` and do not run this script. Its files are those of
the version that runs it, so run it again (``python tests/saved_before/make.py``) only to add the
files of a later version beside these.

`files.tar.xz` holds the series and volumes, the checkpoints of interrupted runs, and `arrays.npz`:
masks and starts of these runs, and the arrays of all signals, among them the volumes of the same
runs without the interrupt. `recorded.json` holds the calls and all other properties of the signals.
"""

import json
import tarfile
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path

import hyperspy.api as hs
import llvmlite.binding
import numpy as np

import hyperspy_multitomo as mt

HERE = Path(__file__).parent
TILTS = np.array([-62.0, -31.0, 0.0, 30.0, 61.0])
PIXEL = 4.0  # nm
QUIET = {"show_progressbar": False}
RATIOS = {"Al": 3.0, "Cu": 11.0}
# Multiples of 1/8, so that no processor rounds them.
GAINS = np.array([[0.75, 1.0], [1.0, 1.125], [1.25, 1.0], [1.0, 0.875], [1.0, 1.0]])
ACROSS = np.array([0.25, -0.5, 0.0, 0.75, -0.25])
ABSORPTION = {
    "density": 12.0,
    "detectors": "super-x",
    "threshold": "otsu",
    "efficiency": 1.0,
    "xray_lines": ["Al_Ka", "Cu_Ka"],
}


def expected_maps(slices=6, width=12, counts=24.0):
    """Mean counts (element, tilt, x, y) of an off-centre core of Cu in a shell of Al."""
    u = np.linspace(-1, 1, width)[:, None]
    v = np.linspace(-1, 1, slices)[None, :]
    maps = []
    for tilt in np.deg2rad(TILTS):
        centre = 0.15 * np.cos(tilt) - 0.1 * np.sin(tilt)
        whole = np.sqrt(np.clip(0.6 - u**2 - 0.2 * v**2, 0, None))
        core = np.sqrt(np.clip(0.15 - (u - centre) ** 2 - 0.1 * (v - 0.2) ** 2, 0, None))
        maps.append([whole - 0.6 * core, 1.5 * core])
    return counts * np.array(maps).transpose(1, 0, 2, 3)


def haadf_images(maps, noise=3.0, seed=1):
    """Whole numbers (tilt, y, x), none of them negative."""
    images = np.tensordot(list(RATIOS.values()), maps, 1)
    images = images + np.random.default_rng(seed).normal(0, noise, images.shape)
    return np.maximum(images.round(), 0).transpose(0, 2, 1).astype(np.float32)


def as_maps(counts):
    return dict(zip(RATIOS, counts.transpose(0, 1, 3, 2), strict=True))


def spectra_of(counts, kind, energy, units):
    """A spectrum image (tilt, y, x, energy) as HyperSpy has it."""
    axes = [{"name": "tilt", "axis": TILTS, "units": "°"}]
    axes += [
        {"name": name, "size": counts.shape[i], "scale": PIXEL, "units": "nm"}
        for name, i in (("y", 1), ("x", 2))
    ]
    axes += [
        {
            "name": "Energy",
            "size": energy.size,
            "offset": energy[0],
            "scale": energy[1] - energy[0],
            "units": units,
        }
    ]
    spectra = hs.signals.Signal1D(counts, axes=axes)
    spectra.set_signal_type(kind)
    spectra.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200.0)
    return spectra


def recorded_series():
    """Series with all that can be recorded beside the data: as made, and cropped and binned."""
    maps = expected_maps()
    energy = 0.02 * np.arange(1, 601)
    drawn = mt.simulation.spectra(maps, list(RATIOS), energy, continuum=2.0, seed=0).transpose(
        0, 2, 1, 3
    )
    eds = mt.elemental_maps(
        spectra_of(drawn, "EDS_TEM", energy, "keV"), elements=list(RATIOS), also=[], **QUIET
    )
    order = [2, 3, 4, 1, 0]
    images = haadf_images(maps)[order].swapaxes(1, 2)
    haadf = mt.TiltSeriesHAADF.from_images(
        images, tilts=TILTS[order], pixel_size=PIXEL, tilt_axis="x"
    ).remove_hot_pixels()
    drift = np.linspace(-0.05, 0.05, 10).reshape(5, 2)
    errors = np.array([0.25, 0.125, 0.125, 0.125, 0.25])
    quality = mt.alignment.AlignmentQuality(
        errors, errors / 2, 0.125, 0.0625, 4 * errors, ("by hand",)
    )
    alignment = mt.Alignment(
        ACROSS, [0.5, -0.25, 0.0, 0.0, 1.0], 0.5, 1.5, TILTS, PIXEL, drift, "x", quality
    )
    haadf.align(alignment)
    haadf.estimate_gains()
    eds.align(haadf.alignment)
    eds.dose, eds.detectors = 2.5e6, "super-x"
    how = {name: value for name, value in ABSORPTION.items() if name != "detectors"}
    eds.estimate_absorption(eds.reconstruct_sirt(8, **QUIET), **how, **QUIET)
    eds.gains = GAINS[:, 0]
    eds.estimate_gains(haadf)
    eds.fit_response_ratios(haadf, method="poisson", prior=RATIOS, prior_strength=0.5, block_size=2)
    eels = eels_series()
    eels.align(mt.Alignment.identity(len(TILTS)))
    eels.gains = GAINS[:, 0]
    return {
        "haadf.hspy": haadf,
        "eds.hspy": eds,
        "eels.hspy": eels,
        "haadf_cut.zspy": haadf.smooth(0.5).isig[2:10, 1:5].bin(2).inav[1:],
        "eds_cut.zspy": eds.isig[2:10, 1:5].bin(2).inav[::-1, 1:],
        "eels_cut.hspy": eels.inav[1:, :].isig[1:, :4],
    }


def eels_series():
    """Edge maps of two edges on a power law."""
    loss = np.arange(440.0, 840.0, 2.0)
    edges = [np.where(loss > onset, (loss / onset) ** -3.5, 0) for onset in (532.0, 640.0)]
    mean = 40 * (loss / 440) ** -3.0 + np.einsum("ktxy,ke->tyxe", expected_maps(counts=6.0), edges)
    counts = np.random.default_rng(2).poisson(mean).astype(np.uint16)
    return mt.edge_maps(spectra_of(counts, "EELS", loss, "eV"), ["O_K", "Mn_L3"], **QUIET)


def counted_series():
    """Series for the checkpoints: whole counts, shifted across the tilt axis alone.

    No image is resampled.
    """
    maps = expected_maps()
    counts = np.random.default_rng(3).poisson(maps * GAINS.T[:, :, None, None])
    eds = mt.TiltSeriesEDS.from_maps(as_maps(counts), tilts=TILTS, pixel_size=PIXEL)
    eds.gains = GAINS
    eds.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200.0)
    haadf = mt.TiltSeriesHAADF.from_images(haadf_images(maps), tilts=TILTS, pixel_size=PIXEL)
    fine = mt.TiltSeriesHAADF.from_images(
        haadf_images(expected_maps(4, 12), seed=4), tilts=TILTS, pixel_size=PIXEL / 2
    )
    few = np.random.default_rng(5).poisson(expected_maps(2, 6))
    coarse = mt.TiltSeriesEELS.from_maps(
        {"Al_K": few[0].swapaxes(1, 2), "Cu_L3": few[1].swapaxes(1, 2)},
        tilts=TILTS,
        pixel_size=PIXEL,
    )
    coarse.axes_manager["x"].offset = coarse.axes_manager["y"].offset = (
        PIXEL / 4
    )  # both begin at the same edge
    coarse = mt.TiltSeriesEELS.from_maps(
        {edge: coarse.inav[i] for i, edge in enumerate(("Al_K", "Cu_L3"))}, tilts=TILTS
    )  # which takes the place of the first pixel
    for series, pixel in ((eds, 1), (haadf, 1), (coarse, 1), (fine, 2)):
        series.alignment = mt.Alignment(
            pixel * ACROSS, np.zeros(5), 0.75 * pixel, 0.0, TILTS, PIXEL / pixel
        )
    return {
        "counts.hspy": eds,
        "images.hspy": haadf,
        "coarse.hspy": coarse,
        "fine.hspy": fine,
        "counts.zspy": eds,
    }


def start_arrays():
    """What the calls name: a mask, a start, and a background (tilt, element).

    Mask and start (z, y, x) are of the volume of 12 x 6 x 12 voxels.
    """
    z, _, x = np.mgrid[:12, :6, :12]
    mask = np.hypot(z - 5.5, x - 5.5) < 5
    initial = np.repeat((0.25 * mask)[:, None], 2, axis=1).astype(np.float32)
    return {"mask": mask, "initial": initial, "background": np.full((5, 2), 0.25, np.float32)}


def case(step, /, *series, at=None, lazy=False, in_round=0, **keywords):
    """Return a call, interrupted after iteration `at` of a round.

    `series` are names of files, of which the first is reconstructed.
    """
    return {
        "step": f"reconstruct_{step}",
        "series": list(series),
        "at": at,
        "lazy": lazy,
        "round": in_round,
        "keywords": keywords,
    }


PLACE = {"depth": 40.0, "width": 56.0}
# What TV keeps is five times the volume, and TGV seventeen times.
THIN = {"depth": 28.0, "width": 40.0}
SMALL = {"depth": 16.0, "width": 20.0}
BOTH = ("counts.hspy", "images.hspy")
FINE = ("coarse.hspy", "fine.hspy")
MASKED = {"mask": "mask", "initial": "initial"}
FEW = {"iterations": 16, "tolerance": None}
SLABS = {"chunks": 2, "lazy": True}
ROUNDS = {"method": "sirt", "rounds": 2, "absorption": ABSORPTION, "iterations": 6}
CASES = {
    "sirt": case("sirt", "counts.hspy", at=4, iterations=9, relaxation=1.25, **MASKED),
    "sirt_noise": case(
        "sirt", "counts.hspy", at=6, iterations=20, stopping="discrepancy", noise=2.5, **PLACE
    ),
    "sirt_images": case("sirt", "images.hspy", at=4, iterations=9, **PLACE),
    "em": case("em", "counts.hspy", at=4, iterations=9, background="background", **PLACE),
    "em_gross": case("em", "eds_cut.zspy", at=4, iterations=9),
    "cgls": case("cgls", "counts.hspy", at=2, iterations=4, **THIN),
    "cgls_images": case("cgls", "fine.hspy", at=3, iterations=6),
    "fbp": case("fbp", "counts.hspy", filter="hann", cutoff=0.75),
    "hebt": case("hebt", *BOTH, at=5, alpha=0.75, iterations=12, ratios=RATIOS, **PLACE),
    "hebt_recorded": case("hebt", "eds.hspy", "haadf.hspy", at=3, iterations=6, **THIN),
    "hebt_fine": case(
        "hebt", *FINE, at=5, iterations=12, ratios=RATIOS, rest=True, weighting="squared", **SMALL
    ),
    "hebt_tv": case(
        "hebt",
        *BOTH,
        at=7,
        regulariser="tv",
        ratios=RATIOS,
        haadf_gain=8.0,
        **(FEW | {"tolerance": 0}),
        **THIN,
    ),
    "hebt_tgv": case(
        "hebt",
        *FINE,
        at=7,
        iterations=12,
        regulariser="tgv",
        ratios=RATIOS,
        rest=True,
        haadf_gain=8.0,
        tolerance=0,
        **SMALL,
    ),
    "hebt_tnv": case(
        "hebt",
        *BOTH,
        at=7,
        regulariser="tnv",
        ratios=RATIOS,
        weight=0.5,
        **(FEW | {"tolerance": 0}),
        **THIN,
    ),
    "tv": case("tv", *BOTH, at=7, haadf_gain=8.0, background="background", mask="mask", **FEW),
    "tv_flat": case(
        "tv",
        "counts.hspy",
        at=7,
        dimensions=2,
        data_term="least_squares",
        coupled=False,
        **FEW,
        **THIN,
    ),
    "tv_images": case("tv", "images.hspy", at=7, weight=2.0, **FEW, **PLACE),
    "tgv": case("tgv", "counts.hspy", at=7, alpha0=1.0, **FEW, **THIN),
    "tgv_fine": case(
        "tgv", *FINE, at=7, haadf_gain=8.0, dimensions=2, coupled="nuclear", **FEW, **SMALL
    ),
    "tgv_images": case("tgv", "images.hspy", at=7, alpha0=1.0, haadf_gain=8.0, **FEW, **THIN),
    "tnv": case("tnv", *BOTH, at=7, mu={"HAADF": 4.0, "Al": 6.0, "Cu": 5.0}, **FEW, **THIN),
    "fused": case(
        "fused", *BOTH, at=7, power=1.0, haadf_weights=RATIOS, haadf_gain=8.0, **FEW, **THIN
    ),
    "fused_power": case(
        "fused",
        *FINE,
        at=7,
        power=1.5,
        regulariser="tgv",
        haadf_gain=8.0,
        alpha0=1.0,
        **FEW,
        **SMALL,
    ),
    "slabs_sirt": case("sirt", "counts.zspy", at=3, iterations=8, **SLABS),
    "slabs_em": case("em", "counts.zspy", at=3, iterations=8, background="background", **SLABS),
    "slabs_hebt": case(
        "hebt", "counts.zspy", "images.hspy", at=3, iterations=8, ratios=RATIOS, **SLABS
    ),
    "slabs_tv": case("tv", "counts.zspy", at=7, overlap=1, **FEW, **SLABS),
    "absorption": case("with_absorption", "counts.hspy", at=3, **ROUNDS),
    "absorption_later": case("with_absorption", "counts.hspy", at=3, in_round=1, **ROUNDS),
}


def load(folder, entry):
    """Return the series of a call as they are loaded, and its keywords with their arrays."""
    arrays = start_arrays()
    series = [hs.load(folder / name, lazy=entry["lazy"]) for name in entry["series"]]
    named = {
        name: arrays.get(value, value) if isinstance(value, str) else value
        for name, value in entry["keywords"].items()
    }
    return series, named


def called(folder, entry, **more):
    series, keywords = load(folder, entry)
    volume = getattr(series[0], entry["step"])(*series[1:], **keywords, **more)
    if entry["lazy"]:
        volume.compute(**QUIET)
    return volume


def interrupt(folder, entry, path):
    """Leave the checkpoint of a run that is interrupted half-way."""
    if entry["lazy"]:
        interrupt_slabs(folder, entry, path)
        return
    left = [1 + entry["round"]]

    def pressed(iterate=None, *_):
        left[0] -= getattr(iterate, "iteration", None) == entry["at"]
        if not left[0]:
            raise KeyboardInterrupt

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it was interrupted
        volume = called(folder, entry, checkpoint=path, show_progressbar=pressed)
    assert volume.history[-1]["interrupted"]


def interrupt_slabs(folder, entry, path):
    """The first slab is finished, the second half-way, the others not begun."""
    import dask

    from hyperspy_multitomo.signals import job

    run, runs = job.run, []

    def stops(iterates, iterations, **options):
        runs.append(1)
        result = run(iterates, iterations if len(runs) == 1 else entry["at"], **options)
        if len(runs) == 2:
            raise OSError
        return result

    job.run = stops
    try:
        with dask.config.set(scheduler="synchronous"), suppress(OSError):
            called(folder, entry, checkpoint=path)
    finally:
        job.run = run
    assert sorted(one.suffix for one in path.iterdir()) == [".state", ".volume"]


def properties(signal, arrays, name):
    """Return the properties of a signal for JSON; its arrays are put into `arrays` by name."""

    def kept(what, values):
        if values is not None:
            arrays[f"{name}/{what}"] = np.asarray(values)

    told = {
        "class": type(signal).__name__,
        "channels": signal.channels,
        "history": signal.history,
        "pixel_size": signal.pixel_size,
    }
    told |= {
        "title": signal.metadata.General.title,
        "axes": [axis_of(axis) for axis in signal.axes_manager._axes],
    }
    kept("data", signal.data)
    if isinstance(signal, mt.TomographicVolume):
        told |= {
            "quantity": signal.quantity,
            "response_ratios": signal.response_ratios,
            "dose": signal.dose,
        }
        for what, values in signal.residuals.items():
            kept(f"residuals/{what}", values)
        return told
    told |= {
        "axis_offset": signal.axis_offset,
        "tilt_axis": signal.tilt_axis,
        "smoothed": signal.is_smoothed,
    }
    told["alignment"] = None if signal.alignment is None else signal.alignment.as_dict()
    names = [
        "tilts",
        "gains",
        "acquisition_order",
        "gross",
        "background",
        "window_share",
        "transmission",
        "integration_windows",
    ]
    for what in names:
        kept(what, getattr(signal, what, None))
    for what, values in (getattr(signal, "spectrum_fit", None) or {}).items():
        kept(f"spectrum_fit/{what}", values)
    for what in ("lines", "edges", "dose"):
        if hasattr(signal, what):
            told[what] = getattr(signal, what)
    if getattr(signal, "detectors", None) is not None:
        told["detectors"] = [
            [one.azimuth, one.elevation, one.solid_angle, one.name] for one in signal.detectors
        ]
    if getattr(signal, "response_ratios", None) is not None:
        told["ratios"] = signal.response_ratios.as_dict()
    return told


def axis_of(axis):
    name, units = axis.name, str(axis.units)
    return [name, units, axis.size, *([] if name == "tilt" else [axis.offset, axis.scale])]


def plain(value):
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)


def anonymous(member):
    """Leave out of an archive who wrote it and when."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


def make(folder: Path) -> None:
    """Write all files into a folder, and the archive and the record of them beside this file."""
    arrays, signals, told = (
        {f"given/{name}": values for name, values in start_arrays().items()},
        {},
        {},
    )
    for name, series in (recorded_series() | counted_series()).items():
        series.save(folder / name)
        signals[name] = properties(series, arrays, name)
    hs.load(folder / "haadf.hspy").alignment.save(folder / "alignment.json")
    for name, entry in CASES.items():
        volume = called(folder, entry, **({} if entry["lazy"] else QUIET))
        suffix = "zspy" if name in ("tgv", "slabs_sirt") else "hspy"
        volume.save(folder / f"{name}.{suffix}")
        signals[f"{name}.{suffix}"] = properties(volume, arrays, f"{name}.{suffix}")
        if entry["at"] is not None:
            interrupt(folder, entry, folder / f"{name}.state")
            told[name] = entry | {"volume": f"{name}.{suffix}"}
    tv = hs.load(folder / "tv.hspy")
    for name, composition in {
        "composition.hspy": tv.quantify("CL", {"Al": 1.2, "Cu": 1.6}, "atomic", threshold=0.1),
        "composition_haadf.zspy": tv["HAADF"].quantify_haadf(["Al", "Cu"], ratio=2.5),
    }.items():
        composition.save(folder / name)
        signals[name] = properties(composition, arrays, name)
    eds, haadf = hs.load(folder / "eds.hspy"), hs.load(folder / "haadf.hspy")
    arrays["again/gains"] = eds.estimate_gains(haadf).values
    arrays["again/ratios"] = eds.fit_response_ratios(haadf, block_size=2).values
    np.savez_compressed(folder / "arrays.npz", **arrays)
    about = {"version": mt.__version__, "processor": llvmlite.binding.get_host_cpu_name()}
    record = about | {"signals": signals, "runs": told}
    (HERE / "recorded.json").write_text(
        json.dumps(record, default=plain, separators=(",", ":"), ensure_ascii=False) + "\n"
    )
    with tarfile.open(HERE / "files.tar.xz", "w:xz", preset=9) as archive:
        for path in sorted(
            folder.rglob("*"), key=lambda one: (one.suffix, one)
        ):  # alike ones next to each other
            if path.is_file():
                archive.add(path, path.relative_to(folder), filter=anonymous)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        make(Path(temporary))

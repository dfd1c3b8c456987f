# SPDX-License-Identifier: GPL-3.0-or-later
"""Small series of two elements and of a HAADF for the regularised reconstructions,
and the same reconstructions from arrays."""

import numpy as np

import hyperspy_multitomo as mt
from hyperspy_multitomo.signals.metadata.recorded_arrays import record
from hyperspy_multitomo.tomography import TiltGeometry, calibrate, projector, run, variational

TILTS = np.arange(-60, 61, 15.0)
HAADF_TILTS = np.arange(-65, 66, 10.0)
QUIET = {"show_progressbar": False}
FEW = QUIET | {"iterations": 20}
SHARES = np.linspace(0.7, 0.9, 2 * len(TILTS)).reshape(len(TILTS), 2)
RATIOS = {"Au": 40.0, "Ag": 15.0}
# What each method asks of the regulariser.
METHODS = {
    "tv": dict(kind="tv", coupling="frobenius"),
    "tgv": dict(kind="tgv", coupling="frobenius"),
    "tnv": dict(kind="tv", coupling="nuclear"),
}


def two_elements():
    """Au and Ag (element, z, x, y), in counts per nm."""
    volume = np.zeros((2, 24, 24, 5), np.float32)
    volume[0, 6:16, 6:17] = 2.0
    volume[1, 10:19, 10:20, 1:] = 1.0
    return volume


def geometry(tilts=TILTS, **kwds):
    return TiltGeometry(tilts, kwds.pop("detector_width", 24), pixel_size=0.5, **kwds)


def haadf_of(truth, tilts=TILTS, noise=2.0, lazy=False):
    images = np.tensordot(list(RATIOS.values()), projector(geometry(tilts))(truth), 1)
    images = images + np.random.default_rng(5).normal(0, noise, images.shape) + 20
    return mt.TiltSeriesHAADF.from_images(
        dask_if(lazy, images.transpose(0, 2, 1)), tilts=tilts, pixel_size=0.5
    )


def eds_of(truth, dose=1.0, lazy=False, cls=mt.TiltSeriesEDS, **kwds):
    """Counts as recorded."""
    counts = (
        np.random.default_rng(0).poisson(dose * projector(geometry())(truth)).transpose(0, 1, 3, 2)
    )
    maps = {name: dask_if(lazy, part) for name, part in zip(RATIOS, counts, strict=True)}
    return cls.from_maps(maps, tilts=TILTS, pixel_size=0.5, **kwds)


def spectral(truth, lazy=False):
    """Net counts, some of them negative, with the gross counts and the background beside them."""
    expected = SHARES.T[:, :, None, None] * projector(geometry())(truth)
    gross = np.random.default_rng(0).poisson(expected + 3.0)
    net = (gross - 3.0) / SHARES.T[:, :, None, None]
    maps = {name: dask_if(lazy, net[i].transpose(0, 2, 1)) for i, name in enumerate(RATIOS)}
    eds = mt.TiltSeriesEDS.from_maps(maps, tilts=TILTS, pixel_size=0.5)
    for name, values in (("gross", gross), ("background", np.full_like(net, 3.0))):
        record(
            eds,
            name,
            values.transpose(1, 0, 3, 2).astype(np.float32),
            ("tilt", "element", "y", "x"),
        )
    record(eds, "window_share", SHARES, ("tilt", "element"))
    return eds


def at_few_tilts(truth):
    """Four times the counts, at every other tilt."""
    counts = (
        np.random.default_rng(3)
        .poisson(4 * projector(geometry(TILTS[::2]))(truth))
        .transpose(0, 1, 3, 2)
    )
    return mt.TiltSeriesEDS.from_maps(
        dict(zip(RATIOS, counts, strict=True)), tilts=TILTS[::2], pixel_size=0.5
    )


def dask_if(lazy, array):
    if not lazy:
        return array
    import dask.array as da

    return da.from_array(array)


def arrays(volume):
    return volume.array(*(("element",) if volume.channels else ()), "z", "x", "y")


def relative(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def solved(terms, channels, iterations=20, **kwds):
    """The reconstruction from arrays that the signals should give."""
    found = calibrate(terms, channels, **kwds)
    return run(variational(found.terms, found.regulariser, found.scales), iterations).volume

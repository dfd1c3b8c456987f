# SPDX-License-Identifier: GPL-3.0-or-later
"""A HAADF and an EDS series of one simulated particle or wire, as signals."""

import dask.array as da
import numpy as np
from ellipsoids import core_shell

import hyperspy_multitomo as mt
from hyperspy_multitomo.signals.metadata.recorded_arrays import record
from hyperspy_multitomo.tomography import TiltGeometry

TILTS = np.arange(-60.0, 61.0, 10.0)
SHADOW = np.exp(0.4 * TILTS / 60)
SHADOW = SHADOW / SHADOW.mean()
QUIET = {"show_progressbar": False}
#: Response ratios of the wire.
RATIOS = {"Au": 9.0, "Ag": 4.0}


def pair(counts=3.0, gains=SHADOW, lazy=False, seed=0, **kwds):
    """HAADF and EDS (Au, Ag) of a core-shell particle, EDS counts drawn with gains."""
    maps = core_shell(48, 24, TILTS)
    expected = counts / maps.max() * maps
    haadf = np.tensordot([9.0, 4.0], expected, 1)
    drawn = (
        np.random.default_rng(seed).poisson(expected * gains[:, None, None]).transpose(0, 1, 3, 2)
    )
    images = haadf.transpose(0, 2, 1)
    wrap = (lambda a: da.from_array(a, chunks=(4, -1, -1))) if lazy else np.asarray
    known = {"tilts": TILTS, "pixel_size": 2.0, **kwds}
    return (
        mt.TiltSeriesHAADF.from_images(wrap(images), **known),
        mt.TiltSeriesEDS.from_maps({"Au": wrap(drawn[0]), "Ag": wrap(drawn[1])}, **known),
    )


def spectral(eds):
    """The series with gross counts and background, as mapping spectra leaves them."""
    data = np.asarray(eds.data)
    record(eds, "gross", data + 2, ("tilt", "element", "y", "x"))
    record(eds, "background", np.full_like(data, 2), ("tilt", "element", "y", "x"))
    return eds


def wire(slices=40, size=32):
    """A wire that changes along the tilt axis, in counts, as eager and as lazy series."""
    rng = np.random.default_rng(0)
    y = np.arange(slices)
    truth = np.zeros((2, size, size, slices), np.float32)
    truth[0, 8:20, 8:20] = 0.3 + 0.1 * np.sin(y / 5)
    truth[1, 14:26, 12:26] = 0.2 * (y % 16 < 8)
    expected = mt.tomography.projector(TiltGeometry(TILTS, size))(truth)
    counts = rng.poisson(4 * expected).astype(np.float32).swapaxes(2, 3)
    images = np.tensordot([36.0, 16.0], expected, 1) + rng.normal(0, 1, expected.shape[1:])
    made = []
    for lazy in (False, True):
        wrap = (lambda a: da.from_array(a, chunks=(-1, 7, -1))) if lazy else np.asarray
        known = {"tilts": TILTS, "pixel_size": 2.0}
        haadf = mt.TiltSeriesHAADF.from_images(
            wrap(images.astype(np.float32).swapaxes(1, 2)), **known
        )
        made.append(
            (
                haadf,
                mt.TiltSeriesEDS.from_maps(
                    dict(zip(RATIOS, map(wrap, counts), strict=True)), **known
                ),
            )
        )
    return made

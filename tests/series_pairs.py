# SPDX-License-Identifier: GPL-3.0-or-later
"""A HAADF and an EDS series of one simulated particle, as signals."""

import dask.array as da
import numpy as np
from ellipsoids import core_shell

import hyperspy_multitomo as mt
from hyperspy_multitomo.signals.metadata.recorded_arrays import record

TILTS = np.arange(-60.0, 61.0, 10.0)
SHADOW = np.exp(0.4 * TILTS / 60)
SHADOW = SHADOW / SHADOW.mean()


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

# SPDX-License-Identifier: GPL-3.0-or-later
"""The unit of the data changes nothing: images in amperes give what those in counts of the
converter give, times the unit."""

import warnings
from functools import cache

import numpy as np
import pytest
from regularised_series import (
    HAADF_TILTS,
    QUIET,
    RATIOS,
    TILTS,
    arrays,
    at_few_tilts,
    eds_of,
    haadf_of,
    relative,
    two_elements,
)
from solver_cases import A, counts, haadf, textbook

import hyperspy_multitomo as mt
from hyperspy_multitomo.acquisition import find_saturation, hot_pixels
from hyperspy_multitomo.tomography import (
    Checkpoint,
    DataTerm,
    Regulariser,
    cgls,
    em,
    run,
    sirt,
    variational,
)
from hyperspy_multitomo.tomography.scaling import divided, power_of_two, roomy

SCALES = (1e-18, 1e-12, 1e-6, 1e6, 1e12, 1e18)
FEW = QUIET | {"iterations": 10, "tolerance": None}
LEAST_SQUARES = {"data_term": "least_squares"}


@cache
def recorded(tilts=tuple(TILTS)):
    """HAADF images (tilt, y, x) in double precision."""
    return np.asarray(
        haadf_of(two_elements(), tilts=np.array(tilts)).array("tilt", "y", "x"), float
    )


def images(scale, tilts=TILTS):
    return mt.TiltSeriesHAADF.from_images(
        scale * recorded(tuple(tilts)), tilts=tilts, pixel_size=0.5
    )


@cache
def eds():
    return eds_of(two_elements())


@cache
def few():
    return at_few_tilts(two_elements())


def ratios(scale):
    return {name: scale * value for name, value in RATIOS.items()}


def maps(scale, times=1.0):
    """Counts times a number, in some unit."""
    values = scale * times * np.asarray(eds().array("element", "tilt", "y", "x"), float)
    return mt.TiltSeriesEDS.from_maps(
        dict(zip(RATIOS, values, strict=True)), tilts=TILTS, pixel_size=0.5
    )


IMAGES = {
    "sirt": lambda s: images(s).reconstruct_sirt(6, stopping="discrepancy", **QUIET),
    "em": lambda s: images(s).reconstruct_em(6, background=15 * s, **QUIET),
    "cgls": lambda s: images(s).reconstruct_cgls(5, stopping="discrepancy", **QUIET),
    "fbp": lambda s: images(s).reconstruct_fbp(**QUIET),
    "tv": lambda s: images(s).reconstruct_tv(**FEW),
    "tv, least squares": lambda s: images(s).reconstruct_tv(
        background=15 * s, **LEAST_SQUARES, **FEW
    ),
    "tv, mu": lambda s: images(s).reconstruct_tv(mu=3.0, **FEW),
    "tgv": lambda s: images(s).reconstruct_tgv(**FEW),
    "hebt": lambda s: eds().reconstruct_hebt(
        images(s, HAADF_TILTS), iterations=6, ratios=ratios(s), rest=True, **QUIET
    ),
    "hebt, tgv": lambda s: eds().reconstruct_hebt(
        images(s), regulariser="tgv", ratios=ratios(s), haadf_term="least_squares", rest=True, **FEW
    ),
    "tnv": lambda s: eds().reconstruct_tnv(
        images(s, HAADF_TILTS), haadf_term="least_squares", **LEAST_SQUARES, **FEW
    ),
    "fused": lambda s: few().reconstruct_fused(images(s, HAADF_TILTS), power=1.3, **FEW),
}
MAPS = {
    "sirt": lambda s: maps(s).reconstruct_sirt(6, **QUIET),
    "tv, least squares": lambda s: maps(s).reconstruct_tv(**LEAST_SQUARES, **FEW),
    "tv, least squares, no counts": lambda s: maps(s, np.linspace(1, 1.4, 24)).reconstruct_tv(
        **LEAST_SQUARES, **FEW
    ),
}


def in_unit(volume, scale, scaled):
    """Return each channel in double precision; those of `scaled` in their unit."""
    channels = volume.channels or ("HAADF",)
    values = arrays(volume).astype(float).reshape(len(channels), -1)
    return [values[i] / (scale if name in scaled else 1) for i, name in enumerate(channels)]


def assert_alike(make, scale, scaled, one):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        volume = make(scale)
    for found, expected in zip(
        in_unit(volume, scale, scaled), in_unit(one, 1.0, scaled), strict=True
    ):
        assert relative(found, expected) < 1e-3
    assert volume.history[-1].get("stopped_by") == one.history[-1].get("stopped_by")
    for name, values in one.residuals.items():
        factor = scale if name == "deviance" else 1.0
        np.testing.assert_allclose(
            np.asarray(volume.residuals[name]) / factor, values, rtol=1e-3, err_msg=name
        )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", IMAGES)
def test_unit_of_the_images(name):
    one = IMAGES[name](1.0)
    for scale in SCALES:
        assert_alike(IMAGES[name], scale, ("HAADF", "rest"), one)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MAPS)
def test_unit_of_the_maps(name):
    one = MAPS[name](1.0)
    for scale in SCALES:
        assert_alike(MAPS[name], scale, tuple(RATIOS), one)


def least_squares(scale):
    """A problem whose terms and regulariser are all in the square of the unit."""
    terms = [DataTerm(A, scale * counts(), discrepancy="ls")]
    return variational(terms, Regulariser(scale**2, "tgv"), [2.0 * scale, 0.7 * scale])


NUMERICS = {
    "sirt": lambda s: sirt(A, s * counts()),
    "em": lambda s: em(A, s * counts()),
    "cgls": lambda s: cgls(A, s * haadf()),
    "tgv": least_squares,
    "sum": lambda s: variational(
        [DataTerm(A, counts()), DataTerm(A, s * haadf(), mix=[3 * s, 50 * s], weight=0.1 / s)],
        Regulariser(1.0),
        [2.0, 0.7],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("form", [lambda make: make, textbook], ids=["fused", "textbook"])
@pytest.mark.parametrize("name", NUMERICS)
def test_solvers_on_arrays(name, form):
    one = run(form(lambda: NUMERICS[name](1.0))(), 10)
    for scale in SCALES:
        found = run(form(lambda scale=scale: NUMERICS[name](scale))(), 10)
        unit = 1.0 if name == "sum" else scale
        assert relative(found.volume.astype(float) / unit, one.volume) < 1e-3
        if "objective" in one.residuals:
            energy = scale**2 if name == "tgv" else 1.0
            np.testing.assert_allclose(
                found.residuals["objective"] / energy, one.residuals["objective"], rtol=1e-3
            )


@pytest.mark.parametrize("name", ["sirt", "em", "cgls", "tgv"])
def test_powers_of_two_round_nothing(name):
    scale = 2.0**50
    np.testing.assert_array_equal(
        run(NUMERICS[name](scale), 10).volume / scale, run(NUMERICS[name](1.0), 10).volume
    )


@pytest.mark.parametrize("name", NUMERICS)
def test_resuming_in_another_unit(name, tmp_path):
    make, kept = (lambda: NUMERICS[name](1e-12)), Checkpoint(tmp_path / "run.state")
    run(make(), 7, checkpoint=kept)
    resumed = run(make(), 15, checkpoint=kept, resume=True)
    np.testing.assert_array_equal(resumed.volume, run(make(), 15).volume)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_lazy_series_in_another_unit(scale):
    series = images(scale)
    eager = series.reconstruct_tv(dimensions=2, **FEW)
    lazy = series.as_lazy().reconstruct_tv(dimensions=2, chunks=2, **FEW)
    lazy.compute(show_progressbar=False)
    assert relative(lazy.data / scale, eager.data / scale) < 1e-5


def test_poisson_maps_that_are_no_counts_warn():
    with pytest.warns(UserWarning, match="no counts as recorded"):
        maps(1e-6).reconstruct_tv(**FEW)


def test_units():
    np.testing.assert_array_equal(power_of_two([3e-12, 0, 5]), [2.0**-38, 1, 4])
    np.testing.assert_array_equal(roomy([300, 2.0**-30, 2.0**40]), [1, 2.0**-30, 2.0**40])
    rows = np.ones((2, 3), np.float32)
    assert divided(rows, np.ones(2)) is rows
    np.testing.assert_array_equal(divided(rows, np.array([2.0, 4.0]))[:, 0], [0.5, 0.25])


# What goes before a reconstruction, and after it


@cache
def needle():
    series = mt.simulation.misaligned("needle", size=32, tilts=range(-40, 41, 20), shift=2.0)
    return np.asarray(series.haadf.swapaxes(1, 2), float), series.tilts


def aligned(scale, method):
    data, tilts = needle()
    found = mt.TiltSeriesHAADF.from_images(scale * data, tilts=tilts).align(
        method=method, show_progressbar=False
    )
    return found.across, found.along


def registered(scale):
    found = mt.alignment.scan_drift.scan_offsets(*_scan(scale), [30.0])
    return found.across, found.along, found.quality.across_error


def _scan(scale):
    x, y = np.mgrid[:32, :32]
    image = 9 * np.exp(-((x - 17) ** 2 + (y - 14) ** 2) / 40) + 6 * np.exp(
        -((x - 11) ** 2 + (y - 20) ** 2) / 10
    )
    return [np.random.default_rng(0).poisson(np.roll(image, (-1, 2), axis=(0, 1)))], [
        scale * (100 * image + 7)
    ]


def fitted(scale, method):
    found = eds().fit_response_ratios(
        images(scale).remove_background(_no_background(scale)), method=method
    )
    return (
        found.values / scale,
        found.standard_errors / scale,
        np.nan_to_num(found.residual_map) / scale,
    )


@cache
def _level():
    return images(1.0).fit_background(mask=recorded() < 30)


def _no_background(scale):
    found = images(scale).fit_background(mask=recorded() < 30)
    assert found.offset / scale == pytest.approx(_level().offset, rel=1e-3)
    return found


def saturated(scale, level):
    values = (
        np.random.default_rng(0)
        .normal(0.9 * level, 0.05 * level, (2, 50, 50))
        .round()
        .clip(0, level)
    )
    found = find_saturation(scale * values, [0, 10])
    assert found.level is not None
    return found.level / scale, found.fraction


def hot(scale):
    image = np.zeros((32, 32), np.float32)
    image[9, 7] = 500
    return (hot_pixels(np.float32(scale) * image)[0],)


def ranked(scale):
    found = images(scale).rank_tilts()
    return [values.round(1) for values in found.scores.values()]


def grey_values(scale):
    grey = np.pad(np.full((10, 10, 10), 24.0), 3)
    grey[8:, 3:-3, 3:-3] = np.where(grey[8:, 3:-3, 3:-3] > 0, 10.0, 0)
    volume = mt.TomographicVolume.from_arrays(
        {"HAADF": scale * (grey + np.random.default_rng(0).normal(0, 0.5, grey.shape))}
    )
    found, errors = volume.quantify_haadf(
        ("Au", "Ag"), {"Au": 24 * scale, "Ag": 10 * scale}, return_uncertainty=True
    )
    return found.data, errors.data


AROUND = {
    "cross-correlation": lambda s: aligned(s, "cross_correlation"),
    "phase correlation": lambda s: aligned(s, "phase_correlation"),
    "centres of mass": lambda s: aligned(s, "centre_of_mass"),
    "registration": registered,
    "ratios from blocks": lambda s: fitted(s, "blocks"),
    "ratios from pixels": lambda s: fitted(s, "poisson"),
    "saturation of a converter": lambda s: saturated(s, 65535.0),
    "saturation elsewhere": lambda s: saturated(s, 40000.0),
    "hot pixels": hot,
    "bad tilts": ranked,
    "gains": lambda s: (
        images(s).estimate_gains().values,
        images(s).estimate_gains(smooth=2).values,
    ),
    "depth": lambda s: (images(s).estimate_depth(),),
    "grey values": grey_values,
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", AROUND)
def test_unit_around_the_reconstruction(name):
    one = AROUND[name](1.0)
    for scale in (1e-18, 1e-12, 1e12, 1e18):
        for found, expected in zip(AROUND[name](scale), one, strict=True):
            np.testing.assert_allclose(
                found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max()
            )

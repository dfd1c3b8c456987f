# SPDX-License-Identifier: GPL-3.0-or-later
"""Detectors are where eXSpy's angles put them, turn the right way,
and are shaded as discs behind straight walls are."""

import warnings

import numpy as np
import pytest

from hyperspy_multitomo.composition.xrays.detectors import (
    XRayDetector,
    detectors_from,
    relative_weights,
    shadowing_gains,
    super_x,
)


def test_take_off_angle_is_that_of_exspy():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from exspy.utils.eds import take_off_angle
    for azimuth in (-135, -30, 0, 45, 90, 180, 300):
        for elevation in (-20, 0, 18, 70, 90):
            tilts = np.arange(-80, 81, 20)
            ours = XRayDetector(azimuth, elevation).take_off_angle(tilts)
            theirs = [
                take_off_angle(float(tilt), float(azimuth), float(elevation)) for tilt in tilts
            ]
            np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_positive_tilt_turns_the_surface_to_a_detector_on_plus_x():
    tilts = np.arange(-60, 61, 10)
    np.testing.assert_allclose(XRayDetector(0, 18).take_off_angle(tilts), 18 + tilts)
    np.testing.assert_allclose(XRayDetector(180, 18).take_off_angle(tilts), 18 - tilts)


def test_detectors_stay_in_the_laboratory():
    """On the detector coordinate x cos t + z sin t of the projections, and along y,
    a direction does not move."""
    detector, tilts = XRayDetector(33, 21), np.deg2rad([-70, -10, 0, 25, 90])
    x, y, z = np.moveaxis(detector.direction(np.rad2deg(tilts)), -1, 0)
    cos = np.cos(np.deg2rad(21))
    np.testing.assert_allclose(x * np.cos(tilts) + z * np.sin(tilts), cos * np.cos(np.deg2rad(33)))
    np.testing.assert_allclose(y, cos * np.sin(np.deg2rad(33)))
    np.testing.assert_allclose(z * np.cos(tilts) - x * np.sin(tilts), np.sin(np.deg2rad(21)))


def test_super_x_is_symmetric():
    detectors = super_x(0.8, 22)
    assert sum(detector.solid_angle for detector in detectors) == pytest.approx(0.8)
    np.testing.assert_allclose(
        sum(detector.direction(0) for detector in detectors),
        [0, 0, 4 * np.sin(np.deg2rad(22))],
        atol=1e-12,
    )


def test_what_detectors_are_given_as():
    assert detectors_from("Super-X") == super_x()
    assert detectors_from(XRayDetector(1, 2)) == (XRayDetector(1, 2),)
    assert detectors_from((10, 20, 0.1)) == (XRayDetector(10, 20, 0.1),)
    assert detectors_from([{"azimuth": 0, "elevation": 20, "name": "A"}, (90, 20)])[0].name == "A"
    assert detectors_from(np.array([[0.0, 20], [90, 20], [180, 20]]))[2].azimuth == 180
    np.testing.assert_allclose(
        relative_weights(detectors_from([(0, 20, 0.1), (0, 20, 0.3)])), [0.25, 0.75]
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ((0, 95), "elevation is 95"),
        ((0, 20, 0), "solid angle is 0"),
        ((0, 20, 7), "solid angle is 7"),
        ((float("nan"), 20), "azimuth is nan"),
        ((0, "20"), "expected an XRayDetector"),
        ((0,), "is given as"),
        ([], "no detectors"),
        ("chemistem", "unknown detector"),
        ({"azimuth": 0}, "expected azimuth and elevation"),
        ({"azimuth": 0, "elevation": 1, "tilt": 3}, "expected azimuth and elevation"),
        ([(0, 20), (90, 20, 0.1)], "1 of 2 detectors have a solid angle"),
        (5, "expected an XRayDetector"),
    ],
)
def test_what_is_no_detector(spec, message):
    with pytest.raises(ValueError, match=message):
        detectors_from(spec)


def test_shadowing_has_its_limits():
    # A half angle of 14.5 degrees at 18 degrees: free from -3.5 degrees up, half at -18, hidden
    # from -32.5 down.
    detector = XRayDetector(0, 18, solid_angle=0.2)
    half_angle = np.rad2deg(np.arccos(1 - 0.2 / (2 * np.pi)))
    tilts = np.array([60, -18 + half_angle + 0.01, -18, -18 - half_angle - 0.01, -70])
    np.testing.assert_allclose(shadowing_gains(detector, tilts), [1, 1, 0.5, 0, 0], atol=1e-12)
    falling = shadowing_gains(detector, np.linspace(-3, -33, 40))
    assert (np.diff(falling) <= 0).all()
    assert ((falling > 0) & (falling < 1)).sum() > 30
    higher = [shadowing_gains(detector, [0], horizon)[0] for horizon in (0, 5, 10, 18, 25, 40)]
    assert (np.diff(higher) <= 0).all()
    assert higher[3] == pytest.approx(0.5)
    assert (higher[0], higher[-1]) == (1, 0)


@pytest.mark.parametrize(
    ("azimuth", "tilt", "horizon"),
    [(45, 0, 20.0), (45, -12, 5.0), (150, 8, (10.0, 25.0)), (0, -20, 3.0)],
)
def test_shadowing_is_the_hidden_area_of_a_disc(azimuth, tilt, horizon):
    detector = XRayDetector(azimuth, 18, solid_angle=0.3)
    centre = detector.direction(tilt)
    radius = np.tan(np.arccos(1 - 0.3 / (2 * np.pi)))
    first = np.cross(centre, [0.2, 1.0, 0.1])
    first /= np.linalg.norm(first)
    points = (np.arange(800) + 0.5) / 400 - 1
    u, v = np.meshgrid(points, points)
    inside = np.hypot(u, v) < 1
    disc = centre + radius * (
        u[inside][:, None] * first + v[inside][:, None] * np.cross(centre, first)
    )
    right, left = np.broadcast_to(np.tan(np.deg2rad(horizon)), 2)
    seen = (disc[:, 2] > right * disc[:, 0]) & (disc[:, 2] > -left * disc[:, 0])
    assert 0.05 < seen.mean() < 0.99
    assert shadowing_gains(detector, [tilt], horizon)[0] == pytest.approx(seen.mean(), abs=2e-3)


def test_sides_of_the_holder():
    tilts = np.arange(-60, 61, 5)
    both = shadowing_gains("super-x", tilts, 12)
    np.testing.assert_allclose(both, both[::-1], atol=1e-12)
    right = shadowing_gains("super-x", tilts, (40, 0))
    np.testing.assert_allclose(right, shadowing_gains("super-x", tilts, (0, 40))[::-1], atol=1e-12)
    assert right[12] == pytest.approx(0.5, abs=0.1)  # the two detectors on +x are behind their wall
    # Points are seen or not, and halves count where one is on the very edge.
    np.testing.assert_array_equal(
        shadowing_gains([(0, 20), (180, 20)], [-20, 0, 30]), [0.75, 1, 0.5]
    )


@pytest.mark.parametrize(
    ("tilts", "horizon", "message"),
    [([0], 91, "horizon"), ([0], (1, 2, 3), "horizon"), ([np.nan], 0, "tilts")],
)
def test_shadowing_says_what_is_wrong(tilts, horizon, message):
    with pytest.raises(ValueError, match=message):
        shadowing_gains("super-x", tilts, horizon)

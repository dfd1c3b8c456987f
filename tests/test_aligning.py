# SPDX-License-Identifier: GPL-3.0-or-later
"""Alignments on signals: attached, kept true, passed on to other pixels and tilts, applied once."""

import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_multitomo as mt
from hyperspy_multitomo.alignment import Alignment, AlignmentQuality
from hyperspy_multitomo.inspection import alignment_errors
from hyperspy_multitomo.simulation import misaligned

TILTS = np.arange(-60.0, 61.0, 8.0)


def haadf_of(images, tilts=TILTS, pixel_size=0.5):
    return mt.TiltSeriesHAADF.from_images(images.swapaxes(1, 2), tilts=tilts, pixel_size=pixel_size)


def eds_of(maps, tilts=TILTS, pixel_size=0.5):
    return mt.TiltSeriesEDS.from_maps(
        dict(zip(("Al", "Cu"), maps.swapaxes(2, 3), strict=True)),
        tilts=tilts,
        pixel_size=pixel_size,
    )


@pytest.fixture(scope="module")
def series():
    return misaligned(
        "needle",
        size=64,
        tilts=TILTS,
        shift=4.0,
        axis_offset=1.5,
        rotation=1.5,
        counts=30.0,
        seed=2,
    )


@pytest.fixture(scope="module")
def aligned(series):
    haadf = haadf_of(series.haadf)
    haadf.align(show_progressbar=False)
    return haadf


def test_align_measures_attaches_and_tells(series, aligned):
    errors = alignment_errors(aligned.alignment, series.alignment)
    assert max(errors.across_rms, errors.along_rms) < 0.1
    assert abs(errors.rotation) < 0.3
    quality = aligned.alignment.quality
    assert quality.across_error.shape == TILTS.shape
    assert quality.report[0].startswith("rough shifts: centre of mass across the axis")
    step = aligned.history[-1]
    assert (step["step"], step["method"]) == ("align", "auto")
    assert step["quality"]["report"] == list(quality.report)
    assert aligned.alignment.pixel_size == 0.5
    np.testing.assert_allclose(aligned.alignment.across_nm, 0.5 * aligned.alignment.across)
    assert aligned.alignment.axis_offset_nm == pytest.approx(0.5 * aligned.alignment.axis_offset)


def test_everything_is_saved_with_the_signal(aligned, tmp_path):
    for suffix in (".hspy", ".zspy"):
        aligned.save(tmp_path / f"series{suffix}")
        for lazy in (False, True):
            loaded = hs.load(tmp_path / f"series{suffix}", lazy=lazy)
            assert loaded.alignment == aligned.alignment
            assert loaded.alignment.as_dict() == aligned.alignment.as_dict()


def test_maps_of_larger_pixels_at_some_tilts_are_aligned_by_the_haadf(series, aligned):
    """Binned twofold, every second tilt: reconstructs like maps of the same grid at these tilts."""
    same = eds_of(series.maps[:, ::2], TILTS[::2])
    size = 32
    binned = series.maps[:, ::2].reshape(2, -1, size, 2, size, 2).sum(axis=(3, 5))
    larger = eds_of(binned, TILTS[::2], pixel_size=1.0)
    same.align(aligned.alignment)
    larger.align(aligned.alignment)
    np.testing.assert_allclose(2 * larger.alignment.across, same.alignment.across)
    np.testing.assert_allclose(
        2 * larger.alignment.quality.across_error, same.alignment.quality.across_error
    )
    assert larger.axis_offset == pytest.approx(same.axis_offset / 2)
    truth = misaligned(
        "needle", size=64, tilts=TILTS[::2], shift=0, axis_offset=0, rotation=0, counts=30.0, seed=2
    ).expected_maps.reshape(2, -1, size, 2, size, 2)
    ideal = eds_of(truth.sum(axis=(3, 5)), TILTS[::2], pixel_size=1.0).reconstruct_sirt(
        15, depth=None, show_progressbar=False
    )
    coarse = larger.reconstruct_sirt(15, depth=None, show_progressbar=False)
    fine = same.bin(2).reconstruct_sirt(15, depth=None, show_progressbar=False)
    likeness = [
        np.corrcoef(volume.data.ravel(), ideal.data.ravel())[0, 1] for volume in (coarse, fine)
    ]
    assert likeness[0] == pytest.approx(likeness[1], abs=0.002)
    # Unaligned maps are worse: the alignment did that.
    unaligned = eds_of(binned, TILTS[::2], pixel_size=1.0).reconstruct_sirt(
        15, depth=None, show_progressbar=False
    )
    assert np.corrcoef(unaligned.data.ravel(), ideal.data.ravel())[0, 1] < likeness[0] - 0.02


def test_reconstruction_uses_the_alignment_like_aligned_images(series):
    """Aligned, then reconstructed, equals the reconstruction of aligned images up to one
    interpolation."""
    haadf = haadf_of(series.expected_haadf)
    haadf.align(series.alignment)
    through_geometry = haadf.reconstruct_sirt(20, depth=None, show_progressbar=False).data
    resampled = haadf.aligned().reconstruct_sirt(20, depth=None, show_progressbar=False).data
    assert np.corrcoef(through_geometry.ravel(), resampled.ravel())[0, 1] > 0.99
    assert haadf.aligned().data.sum() == pytest.approx(haadf.data.sum(), rel=0.02)


def test_counts_are_conserved_by_shift_rotation_and_drift():
    images = np.zeros((1, 41, 41), np.float32)
    images[0, 14:27, 12:25] = np.random.default_rng(0).poisson(5, (13, 13))
    for alignment, tolerance in (
        (Alignment([1.3], [-2.6]), 1e-5),
        (Alignment([1.3], [-2.6], rotation=2.0), 5e-3),
    ):
        moved = alignment.apply(images)
        assert moved.min() >= 0
        assert moved.sum() == pytest.approx(images.sum(), rel=tolerance)


def test_drift_moves_lines_by_their_distance_from_the_middle():
    image = np.zeros((1, 21, 21), np.float32)
    image[0, 10, 15] = image[0, 10, 5] = 1.0
    moved = Alignment([1.0], [0.0], drift=[[0.2, 0.0]]).apply(image)
    # Five lines from the middle at 0.2 px per line: one more, and one less.
    assert moved[0, 12, 15] == pytest.approx(1)
    assert moved[0, 10, 5] == pytest.approx(1)


@pytest.mark.parametrize("binning", [1, 2])
def test_rotation_and_drift_stay_true_when_images_are_cropped_and_binned(binning):
    y, x = np.mgrid[:48, :40].astype(np.float32)
    images = np.stack([np.exp(-((x - 22 - t) ** 2 + (y - 21 + 2 * t) ** 2) / 40) for t in range(3)])
    haadf = mt.TiltSeriesHAADF.from_images(images, tilts=[-10, 0, 10], pixel_size=1.0)
    haadf.alignment = Alignment(
        [1.0, -2.0, 0.5],
        [2.0, 0.0, -1.0],
        1.0,
        8.0,
        drift=[[0.05, -0.02], [0.0, 0.03], [0.02, 0.0]],
    )
    part = haadf.isig[4:36, 8:44].bin(binning) if binning > 1 else haadf.isig[4:36, 8:44]
    whole = haadf.alignment.apply(images.swapaxes(1, 2))[:, 4:36, 8:44].swapaxes(1, 2)
    got = part.alignment.apply(part.data.swapaxes(1, 2)).swapaxes(1, 2)
    expected = whole.reshape(3, 36 // binning, binning, 32 // binning, binning).mean(axis=(2, 4))
    # The same points, up to the smoothing by the interpolation on either grid.
    assert np.abs(got - expected)[:, 4:-4, 4:-4].max() < 0.06


def test_maps_join_in(series):
    haadf, eds = haadf_of(series.haadf), eds_of(series.maps[:, ::2], TILTS[::2])
    found = haadf.align(maps=eds, show_progressbar=False)
    assert alignment_errors(found, series.alignment).across_rms < 0.1
    np.testing.assert_allclose(eds.alignment.across, found.across[::2])
    assert haadf.history[-1]["maps"] == ["Al", "Cu"]
    with pytest.raises(ValueError, match="crop both to one field of view"):
        haadf.isig[:40].align(maps=eds, show_progressbar=False)
    with pytest.raises(ValueError, match="either an alignment or maps"):
        haadf.align(found, maps=eds)


@pytest.mark.slow
def test_maps_are_registered_to_the_images(series, aligned):
    offsets = np.random.default_rng(4).uniform(-2, 2, (len(TILTS), 2))
    displaced = Alignment(*offsets.T).apply(series.expected_maps, fill="edge")
    maps = np.random.default_rng(5).poisson(displaced).astype(np.float32)
    eds = eds_of(maps)
    found = eds.register_to(aligned, drift=False)
    np.testing.assert_allclose(found.across, aligned.alignment.across - offsets[:, 0], atol=0.3)
    np.testing.assert_allclose(found.along, aligned.alignment.along - offsets[:, 1], atol=0.3)
    assert found.rotation == aligned.alignment.rotation
    assert eds.history[-1]["step"] == "register_to"
    assert found.quality.residual.shape == TILTS.shape
    with pytest.raises(ValueError, match="no images at -60 degrees"):
        eds.register_to(aligned.inav[1:])


def test_alignment_of_another_series_is_refused(aligned):
    other = haadf_of(aligned.data.swapaxes(1, 2), TILTS + 3.0)
    with pytest.raises(ValueError, match="no shifts for the tilts"):
        other.align(aligned.alignment)
    with pytest.raises(ValueError, match="shifts for 3 tilts but the series has 16"):
        aligned.deepcopy().align(Alignment.identity(3))
    between = aligned.inav[1:-1].deepcopy()
    shifted = haadf_of(between.data.swapaxes(1, 2), between.tilts + 2.0)
    shifted.align(aligned.alignment, interpolate=True)
    np.testing.assert_allclose(
        shifted.alignment.across, np.interp(shifted.tilts, TILTS, aligned.alignment.across)
    )
    with pytest.raises(ValueError, match="lie outside"):
        haadf_of(between.data.swapaxes(1, 2), between.tilts + 30).align(
            aligned.alignment, interpolate=True
        )


@pytest.mark.parametrize(
    ("orientation", "flip"),
    [
        ("flip_x", (slice(None, None, -1), slice(None))),
        ("flip_y", (slice(None), slice(None, None, -1))),
    ],
)
def test_flipped_images_take_a_flipped_alignment(series, orientation, flip):
    truth = series.alignment.transfer()
    straight = truth.apply(series.expected_haadf)
    flipped = np.ascontiguousarray(series.expected_haadf[:, flip[0], flip[1]])
    np.testing.assert_allclose(
        truth.transfer(orientation=orientation).apply(flipped),
        straight[:, flip[0], flip[1]],
        atol=1e-3 * straight.max(),
    )
    both = truth.transfer(orientation="rotate_180").apply(
        np.ascontiguousarray(series.expected_haadf[:, ::-1, ::-1])
    )
    np.testing.assert_allclose(both, straight[:, ::-1, ::-1], atol=1e-3 * straight.max())


def test_composition_and_inverse():
    rng = np.random.default_rng(0)
    first = Alignment(*rng.normal(0, 2, (2, 3)), rotation=3.0, tilts=[-1, 0, 1])
    second = Alignment(*rng.normal(0, 1, (2, 3)), 2.0, rotation=-1.5)
    grid = np.arange(61) - 30.0
    images = np.stack(
        [np.exp(-((grid[:, None] - 4) ** 2 + (grid + t) ** 2) / 50) for t in range(3)]
    ).astype(np.float32)
    np.testing.assert_allclose(
        first.then(second).apply(images), second.apply(first.apply(images)), atol=0.02
    )
    back = first.then(first.inverse())
    np.testing.assert_allclose([back.across, back.along], 0, atol=1e-12)
    assert (back.rotation, back.axis_offset) == (0, 0)
    with pytest.raises(ValueError, match="drift, which has to come first"):
        first.then(Alignment([0] * 3, [0] * 3, drift=np.ones((3, 2))))
    with pytest.raises(ValueError, match="no inverse"):
        Alignment([0], [0], drift=[[1, 0]]).inverse()
    with pytest.raises(ValueError, match="both need the same"):
        first.then(Alignment.identity(2))


def test_editing_one_tilt(aligned):
    haadf = aligned.deepcopy()
    changed = haadf.alignment.with_shift(-4, along=9.0)
    haadf.alignment = changed
    place = list(TILTS).index(-4)
    assert haadf.alignment.along[place] == pytest.approx(9.0)
    assert np.isnan(haadf.alignment.quality.residual[place])
    assert np.isfinite(np.delete(haadf.alignment.quality.residual, place)).all()
    with pytest.raises(ValueError, match="no shifts for the tilts"):
        changed.with_shift(77, along=1.0)


def test_suspicious_tilts_are_named():
    residual = np.ones(9)
    residual[3] = 5.0
    quality = AlignmentQuality(np.ones(9), np.ones(9), 0.1, 0.1, residual)
    assert Alignment(
        *np.zeros((2, 9)), tilts=np.arange(9) * 10.0, quality=quality
    ).suspicious.tolist() == [30.0]
    assert Alignment.identity(9).suspicious.size == 0


def test_bad_tilts_are_named_and_nothing_is_attached(series):
    images = series.haadf.copy()
    images[2] = 0.0
    haadf = haadf_of(images)
    with pytest.raises(ValueError, match=r"at -44 degrees has no features.*drop_tilts\(\[-44\]\)"):
        haadf.align(show_progressbar=False)
    assert haadf.alignment is None
    with pytest.raises(ValueError, match="no alignment is attached"):
        haadf.plot_alignment()
    found = haadf.drop_tilts([-44]).align(show_progressbar=False)
    assert len(found) == len(TILTS) - 1


def test_lazy_series_are_aligned_alike(series, aligned):
    lazy = aligned.deepcopy().as_lazy()
    lazy.alignment = None
    found = lazy.align(method="common_line", show_progressbar=False)
    eager = haadf_of(series.haadf).align(method="common_line", show_progressbar=False)
    np.testing.assert_allclose(found.along, eager.along, atol=1e-4)


def test_figures_of_the_series(aligned):
    assert len(aligned.plot_alignment().axes) >= 3
    assert len(aligned.plot_alignment_sinograms(y=20).axes) >= 2

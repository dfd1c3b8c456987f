# SPDX-License-Identifier: GPL-3.0-or-later
"""The signals' own figures show the right voxels under the right names,
and exported volumes are the same elsewhere."""

import io
import re
import xml.etree.ElementTree as ET

import dask.array as da
import numpy as np
import pytest

import hyperspy_multitomo as mt
from hyperspy_multitomo.inspection.maximum_projection import brightest
from hyperspy_multitomo.inspection.orthoslices import centre_of_mass, colour_ramp
from hyperspy_multitomo.inspection.picture import PALETTE, channel_colours, colour_mix
from hyperspy_multitomo.signals.metadata.recorded_arrays import axis_named
from hyperspy_multitomo.tomography import TiltGeometry, projector

SHAPE = (7, 5, 9)  # z, y, x
RNG = np.random.default_rng(4)
ARRAYS = {
    "Au": RNG.uniform(0, 1, SHAPE).astype(np.float32),
    "Ag": RNG.uniform(0, 2, SHAPE).astype(np.float32),
}
TILTS = np.arange(-60, 61, 15.0)


def volume_of(arrays=ARRAYS, pixel_size=0.5, quantity="counts / nm", lazy=False):
    if lazy:
        arrays = {name: da.from_array(array, chunks=(2, 2, 3)) for name, array in arrays.items()}
    return mt.TomographicVolume.from_arrays(arrays, pixel_size, quantity=quantity)


def pictures(figure):
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]


def drawn(figure):
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=50)
    assert picture.getbuffer().nbytes > 2000
    return figure


def bar_label(figure):
    (text,) = {text.get_text() for axes in figure.axes for text in axes.texts}
    return text


@pytest.mark.slow
@pytest.mark.parametrize("lazy", [False, True])
def test_orthoslices_cut_where_the_axes_say(lazy):
    volume = volume_of(lazy=lazy)
    x, y, z = (axis_named(volume, name) for name in "xyz")
    figure = drawn(volume.plot_orthoslices((x.axis[6] + 0.2, y.axis[1] - 0.2, z.axis[5])))
    assert titles(figure) == ["together", "Au", "Ag"]
    for at, name in ((3, "Au"), (6, "Ag")):
        xy, xz, zy = pictures(figure)[at : at + 3]
        np.testing.assert_array_equal(xy, ARRAYS[name][5])
        np.testing.assert_array_equal(xz, ARRAYS[name][:, 1])
        np.testing.assert_array_equal(zy, ARRAYS[name][:, :, 6].T)
    limits = [axes.images[0].get_clim() for axes in figure.axes if axes.images][3::3]
    mixed = colour_mix([array[5] for array in ARRAYS.values()], limits=limits)
    np.testing.assert_allclose(pictures(figure)[0], mixed, atol=1e-6)
    assert figure.get_suptitle() == "Sections through x = 1, y = 0.5, z = 1 nm"
    assert bar_label(figure) == "1 nm"


def test_neighbouring_sections_share_their_axes_and_lines_cross_at_the_voxel():
    figure = volume_of().plot_orthoslices((1.0, 0.5, 1.0))
    xy, xz, zy = figure.axes[:3]
    assert [axes.get_xlabel() + axes.get_ylabel() for axes in (xy, xz, zy)] == [
        "x →← y",
        "x →z →",
        "z →← y",
    ]
    lines = [(axes.lines[0].get_xdata()[0], axes.lines[1].get_ydata()[0]) for axes in (xy, xz, zy)]
    assert lines == [(6, 1), (6, 5), (5, 1)]
    assert xy.get_xlim() == xz.get_xlim()
    assert xy.get_ylim() == zy.get_ylim() == (4.5, -0.5)
    assert xz.get_ylim() == (-0.5, 6.5)


@pytest.mark.slow
def test_sections_go_through_the_centre_of_mass_by_default():
    arrays = {name: np.zeros(SHAPE, np.float32) for name in ("Au", "Ag")}
    arrays["Au"][4:7, 1:4, 1:4] = 1000.0
    arrays["Ag"][2:5, 1:4, 5:8] = 0.1
    volume = volume_of(arrays)
    stack = np.stack(list(arrays.values())).swapaxes(2, 3)
    # Both count alike, however different their numbers are.
    assert centre_of_mass(stack) == centre_of_mass(da.from_array(stack, chunks=2)) == (4, 4, 2)
    assert centre_of_mass(-stack) == (3, 4, 2)
    x, y, z = (axis_named(volume, name).axis[i] for name, i in zip("xyz", (4, 2, 4), strict=True))
    assert (
        volume.plot_orthoslices().get_suptitle()
        == f"Sections through x = {x:g}, y = {y:g}, z = {z:g} nm"
    )


def test_only_what_is_drawn_of_a_lazy_volume_is_computed():
    computed = []

    def seen(block, block_info=None):
        if block_info:
            computed.append(tuple(block_info[0]["chunk-location"]))
        return block

    arrays = {
        "Au": da.from_array(ARRAYS["Au"], chunks=(1, 1, 1)).map_blocks(seen, dtype=np.float32)
    }
    volume = mt.TomographicVolume.from_arrays(arrays, 0.5)
    volume.plot_orthoslices((1.0, 0.5, 1.0))
    assert set(computed) == {i for i in np.ndindex(SHAPE) if i[0] == 5 or i[1] == 1 or i[2] == 6}
    images = da.from_array(np.ones((3, 4, 6), np.float32), chunks=(1, 1, 6)).map_blocks(
        seen, dtype=np.float32
    )
    series = mt.TiltSeriesHAADF.from_images(images, tilts=[-10, 0, 10], pixel_size=0.5)
    computed.clear()
    series.plot_sinogram(y=3)
    assert set(computed) == {(t, 3, 0) for t in range(3)}
    computed.clear()
    series.plot_projections(tilt=8)
    assert set(computed) == {(2, y, 0) for y in range(4)}


@pytest.mark.slow
@pytest.mark.parametrize("lazy", [False, True])
def test_a_volume_without_channels_and_a_single_slice(lazy):
    data = ARRAYS["Au"][:, :1]
    haadf = mt.TomographicVolume.from_arrays(
        da.from_array(data) if lazy else data, None, quantity="HAADF signal / px"
    )
    figure = drawn(haadf.plot_orthoslices())
    (xz,) = pictures(figure)[:1]
    np.testing.assert_array_equal(xz, data[:, 0])
    assert titles(figure) == ["HAADF"]
    assert figure.axes[-1].get_ylabel() == "HAADF signal / px"
    assert bar_label(figure).endswith("px")
    np.testing.assert_allclose(brightest(data.swapaxes(1, 2))[:, 0], data.max(axis=(0, 1)))
    drawn(haadf.plot_volume())
    one = drawn(volume_of()["Ag"].plot_orthoslices())
    assert titles(one) == ["Ag"]


def test_channels_are_chosen_by_name_and_the_haadf_is_grey():
    volume = volume_of(ARRAYS | {"HAADF": ARRAYS["Au"] * 100})
    figure = volume.plot_orthoslices(channels=["HAADF", "Au"])
    assert titles(figure) == ["together", "HAADF", "Au"]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [label.split(",")[0] for label in labels] == ["HAADF", "Au"]
    assert labels[0].endswith("HAADF signal / nm")
    assert labels[1].endswith("counts / nm")
    assert channel_colours(["HAADF", "Au", "Ag"])[1:] == list(PALETTE[:2])
    np.testing.assert_allclose(
        colour_ramp("#D55E00")(1.0)[:3], (0xD5 / 255, 0x5E / 255, 0), atol=1e-6
    )
    for wrong in ("Pt", [], ["Au", "Au"]):
        with pytest.raises(ValueError, match="one or more of Au, Ag, HAADF"):
            volume.plot_volume(channels=wrong)


def test_positions_outside_and_voxels_that_are_no_cubes_are_refused():
    volume = volume_of()
    with pytest.raises(ValueError, match=r"3 along z; expected -1.5 to 1.5 nm"):
        volume.plot_orthoslices((0, 0, 3))
    with pytest.raises(ValueError, match="three numbers"):
        volume.plot_orthoslices((0, 0))
    axis_named(volume, "z").scale = 1.0
    with pytest.raises(ValueError, match="cubes"):
        volume.plot_volume()


def test_maximum_along_the_axes_and_darkening_with_distance():
    volume = RNG.uniform(0, 1, (6, 8, 4)).astype(np.float32)
    volume[2, 3, 1] = np.nan
    for direction, axis in (("z", 0), ("x", 1), ("y", 2)):
        np.testing.assert_array_equal(brightest(volume, direction), np.nanmax(volume, axis=axis))
    single = np.zeros((5, 3, 9), np.float32)
    single[4, 0, 2] = 1.0
    # On the side of the source, on that of -x, and a quarter of the way from the far end of y.
    for direction, kept in (
        ("z", 1.0),
        ("x", 1.0),
        ("y", 1 - 0.6 * 0.75),
        (0.0, 1.0),
        (180.0, 0.4),
        (90.0, 1.0),
        (-90.0, 0.4),
    ):
        assert brightest(single, direction, depth_cue=0.6).max() == pytest.approx(kept, abs=1e-6)
    np.testing.assert_allclose(
        brightest(single, 90.0, depth_cue=0.6), brightest(single, "x", depth_cue=0.6), atol=1e-6
    )
    for wrong in ("w", np.nan, [1, 2]):
        with pytest.raises(ValueError, match="tilt in degrees"):
            brightest(single, wrong)
    with pytest.raises(ValueError, match="depth cue"):
        brightest(single, depth_cue=1.5)


@pytest.mark.parametrize("tilt", [-90, -63, 0, 28, 45, 90])
def test_a_view_at_a_tilt_is_that_of_the_projector(tilt):
    volume = np.zeros((32, 32, 3), np.float32)
    volume[22:25, 5:8, 1] = 1.0
    ray_sums = projector(TiltGeometry([float(tilt)], 32))(volume)[0][:, 1]
    view = brightest(volume, float(tilt))[:, 1]
    places = np.arange(view.size) - (view.size - 1) / 2
    detector = np.arange(32) - 15.5
    assert places @ view / view.sum() == pytest.approx(
        detector @ ray_sums / ray_sums.sum(), abs=0.1
    )
    assert view.max() == pytest.approx(1.0, abs=0.1)


def test_the_volume_is_one_picture_in_all_colours():
    volume = volume_of()
    figure = drawn(volume.plot_volume(depth_cue=0, limits=[(0, 1), (0, 2)]))
    expected = colour_mix([array.max(axis=0) for array in ARRAYS.values()], limits=[(0, 1), (0, 2)])
    np.testing.assert_allclose(pictures(figure)[0], expected, atol=1e-6)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "Au, 0 to 1 counts / nm",
        "Ag, 0 to 2 counts / nm",
    ]
    assert bar_label(figure) == "1 nm"
    lazy = volume_of(lazy=True).plot_volume(depth_cue=0, limits=[(0, 1), (0, 2)], direction="y")
    upright = colour_mix([array.max(axis=1) for array in ARRAYS.values()], limits=[(0, 1), (0, 2)])
    np.testing.assert_allclose(pictures(lazy)[0], upright, atol=1e-6)
    assert lazy.axes[0].images[0].origin == "lower"


@pytest.mark.slow
def test_compositions_are_drawn_from_0_to_100_percent():
    counts = volume_of()
    mask = np.zeros(SHAPE, bool)
    mask[1:6, 1:4, 2:8] = True
    composition = counts.quantify("CL", {"Au": 1.0, "Ag": 1.0}, mask=mask)
    figure = drawn(composition.plot_composition())
    assert figure.axes[-1].get_xlabel() == "wt%"
    assert (
        composition.plot_composition("Au").axes[-1].get_legend().get_texts()[0].get_text() == "Au"
    )
    assert pictures(composition.plot_orthoslices())[3].max() <= 100
    images = [axes.images[0] for axes in composition.plot_orthoslices().axes if axes.images]
    assert images[3].get_clim() == (0, 100)
    with pytest.raises(ValueError, match="counts / nm, not percent"):
        counts.plot_composition()
    errors = counts.composition_errors(composition, factor_errors=0.1)
    with pytest.raises(ValueError, match="standard error, not percent"):
        errors.plot_composition()


@pytest.fixture(scope="module")
def pair():
    """Maps with gains, and the HAADF of more tilts with gains of its own."""
    truth = np.zeros((2, 32, 32, 12), np.float32)
    truth[0, 8:20, 9:22, 2:10], truth[1, 14:24, 14:26, 3:11] = 2.0, 1.0
    A = projector(TiltGeometry(TILTS, 32))
    expected = A(truth)
    gains, haadf_gains = 1 + TILTS / 200, 1 - TILTS / 300
    counts = np.random.default_rng(3).poisson(expected * gains[:, None, None]).astype(np.float32)
    haadf = (40 * expected[0] + 15 * expected[1]) * haadf_gains[:, None, None]
    maps = {"Au": counts[0, 1:].swapaxes(1, 2), "Ag": counts[1, 1:].swapaxes(1, 2)}
    eds = mt.TiltSeriesEDS.from_maps(maps, tilts=TILTS[1:], pixel_size=0.5)
    images = mt.TiltSeriesHAADF.from_images(haadf.swapaxes(1, 2), tilts=TILTS, pixel_size=0.5)
    eds.gains, images.gains = gains[1:], haadf_gains
    return eds, images


def test_response_is_that_of_the_fit(pair):
    eds, haadf = pair
    with pytest.raises(ValueError, match="fit_response_ratios"):
        eds.deepcopy().plot_response(haadf)
    eds = eds.deepcopy()
    fit = eds.fit_response_ratios(haadf)
    figure = drawn(eds.plot_response(haadf))
    assert figure.axes[0].get_title() == f"R² = {fit.r2:.3f}"
    tilts, misfit = figure.axes[1].lines[0].get_data()
    np.testing.assert_array_equal(tilts, TILTS[1:])
    np.testing.assert_allclose(misfit, 100 * fit.residual_per_tilt, rtol=1e-4)
    with pytest.raises(ValueError, match="none in common"):
        eds.plot_response(haadf.inav[:1])


def test_projections_and_sinograms_of_the_series(pair):
    eds, haadf = pair
    figure = drawn(eds.plot_projections(tilt=-29, channels="Ag"))
    assert figure.get_suptitle() == "Projections at -30°"
    np.testing.assert_array_equal(pictures(figure)[0], eds["Ag"].data[list(eds.tilts).index(-30)])
    assert figure.axes[1].get_ylabel() == "counts"
    figure = drawn(haadf.plot_sinogram(y=3))
    assert figure.get_suptitle() == "Sinograms of slice y = 3"
    shown = np.asarray(figure.axes[0].collections[0].get_array())
    np.testing.assert_array_equal(shown, haadf.data[:, 3])
    assert figure.axes[1].get_ylabel() == "HAADF signal"
    assert [axes.get_title() for axes in eds.plot_sinogram(channel=["Ag", "Au"]).axes[:2]] == [
        "Ag",
        "Au",
    ]
    for wrong in (12, -1):
        with pytest.raises(ValueError, match="a slice from 0 to 11"):
            haadf.plot_sinogram(y=wrong)
    with pytest.raises(ValueError, match="no channel Pt; there are Au, Ag"):
        eds.plot_projections(channels="Pt")
    with pytest.raises(ValueError, match="no named channels"):
        haadf.plot_sinogram(channel="Au")


def curves(axes):
    return {line.get_label(): line.get_data() for line in axes.lines}


@pytest.mark.slow
def test_convergence_shows_what_was_recorded(pair):
    eds, haadf = pair
    quiet = {"show_progressbar": False}
    volume = eds.reconstruct_em(iterations=6, **quiet)
    figure = drawn(volume.plot_convergence())
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "relative residual",
        "Poisson deviance per pixel",
    ]
    for axes, name in zip(figure.axes, ("eds", "deviance"), strict=True):
        for i, element in enumerate(("Au", "Ag")):
            iterations, values = curves(axes)[element]
            np.testing.assert_array_equal(iterations, volume.residuals["iteration"])
            np.testing.assert_array_equal(values, volume.residuals[name][:, i])
    images = haadf.reconstruct_em(iterations=4, **quiet)
    np.testing.assert_array_equal(
        curves(images.plot_convergence().axes[1])["HAADF"][1],
        images.residuals["deviance"].astype(float),
    )
    one = volume["Ag"].plot_convergence()
    assert list(curves(one.axes[0])) == ["Ag"]
    regularised = drawn(haadf.reconstruct_tv(iterations=30, **quiet).plot_convergence())
    assert regularised.axes[1].get_ylabel().startswith("objective")
    with pytest.raises(ValueError, match="no residuals are recorded"):
        volume_of().plot_convergence()


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("suffix", [".tif", ".TIFF"])
def test_tiff_is_a_calibrated_hyperstack(tmp_path, suffix, lazy):
    import tifffile
    from rsciio.tiff import file_reader

    volume = volume_of(pixel_size=0.76, lazy=lazy)
    path = volume.export(tmp_path / f"particle{suffix}")
    assert list(tmp_path.iterdir()) == [path]
    with tifffile.TiffFile(path) as file:
        told = file.imagej_metadata
        assert file.series[0].axes == "ZCYX"
        assert (told["unit"], told["channels"], told["slices"]) == ("nm", 2, 7)
        assert told["spacing"] == pytest.approx(0.76)
        origin = [told[name] for name in ("zorigin", "yorigin", "xorigin")]
        np.testing.assert_allclose(origin, [3, 0, 4])
        assert told["Labels"][3] == "Ag (counts / nm) z = -1.52 nm"
        np.testing.assert_array_equal(np.array(told["LUTs"])[1, :, 255], [0x56, 0xB4, 0xE9])
    (read,) = file_reader(path)
    scales = {axis["name"]: axis["scale"] for axis in read["axes"]}
    assert [scales[name] for name in ("depth", "height", "width")] == pytest.approx(
        [0.76] * 3, rel=1e-6
    )
    assert read["data"].dtype == np.float32
    for i, array in enumerate(ARRAYS.values()):
        np.testing.assert_array_equal(read["data"][:, i], array)


def parsed(path):
    """Return (the element ImageData, {name: array (z, y, x)}, {name: unit}) of a VTK image,
    following the format alone."""
    head, rest = path.read_bytes().split(b'<AppendedData encoding="raw">\n_', 1)
    root = ET.fromstring(head + b"</VTKFile>")
    assert root.attrib == {
        "type": "ImageData",
        "version": "1.0",
        "byte_order": "LittleEndian",
        "header_type": "UInt64",
    }
    image = root.find("ImageData")
    ends = [int(n) for n in image.attrib["WholeExtent"].split()]
    assert image.find("Piece").attrib["Extent"] == image.attrib["WholeExtent"]
    shape = tuple(last - first + 1 for first, last in zip(ends[::2], ends[1::2], strict=True))[::-1]
    arrays, units = {}, {}
    for item in image.find("Piece/PointData"):
        assert item.attrib["type"] == "Float32"
        start = int(item.attrib["offset"])
        size = int.from_bytes(rest[start : start + 8], "little")
        assert size == 4 * np.prod(shape)
        arrays[item.attrib["Name"]] = np.frombuffer(
            rest[start + 8 : start + 8 + size], "<f4"
        ).reshape(shape)
        units[item.attrib["Name"]] = item.find("InformationKey").text
    assert re.fullmatch(rb"\s*</AppendedData>\s*</VTKFile>\s*", rest[start + 8 + size :])
    return image.attrib, arrays, units


@pytest.mark.parametrize("lazy", [False, True])
def test_vti_holds_names_units_spacing_and_origin(tmp_path, lazy):
    arrays = {"Au": ARRAYS["Au"], 'a "& <b>': ARRAYS["Ag"]}
    volume = volume_of(arrays, lazy=lazy)
    axis_named(volume, "z").scale, axis_named(volume, "y").offset = 2.0, -7.25
    image, read, units = parsed(volume.export(tmp_path / "particle.vti"))
    assert [float(s) for s in image["Spacing"].split()] == [0.5, 0.5, 2.0]
    assert [float(s) for s in image["Origin"].split()] == [-2.0, -7.25, -1.5]
    assert list(read) == list(arrays)
    assert set(units.values()) == {"counts / nm"}
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)


def test_lengths_are_in_nm_whatever_the_axes_have(tmp_path):
    volume = volume_of()
    for name in "zyx":
        axis_named(volume, name).units = "µm"
    image, _, _ = parsed(volume.export(tmp_path / "a.vti"))
    assert [float(s) for s in image["Spacing"].split()] == [500.0] * 3
    pixels = volume_of(pixel_size=None).export(tmp_path / "b.vti")
    assert b"lengths in px" in pixels.read_bytes()[:120]
    axis_named(volume, "z").units = "px"
    with pytest.raises(ValueError, match="the units px, µm, µm; calibrate all or none"):
        volume.export(tmp_path / "c.vti")


@pytest.mark.parametrize("suffix", [".tif", ".vti"])
def test_channels_are_exported_in_the_order_asked_for(tmp_path, suffix):
    import tifffile

    volume = volume_of(ARRAYS | {"HAADF": ARRAYS["Au"] + 3})
    path = volume.export(tmp_path / f"chosen{suffix}", channels=["HAADF", "Ag"])
    if suffix == ".vti":
        _, read, units = parsed(path)
        assert units == {"HAADF": "HAADF signal / nm", "Ag": "counts / nm"}
        read = list(read.values())
    else:
        read = tifffile.imread(path).swapaxes(0, 1)
    np.testing.assert_array_equal(read[0], ARRAYS["Au"] + 3)
    np.testing.assert_array_equal(read[1], ARRAYS["Ag"])
    single = mt.TomographicVolume.from_arrays(
        ARRAYS["Au"], 0.5, quantity="HAADF signal / nm"
    ).export(tmp_path / f"one{suffix}")
    read = parsed(single)[1]["HAADF"] if suffix == ".vti" else tifffile.imread(single)
    np.testing.assert_array_equal(read, ARRAYS["Au"])


def test_what_cannot_be_exported_is_refused_and_nothing_is_lost(tmp_path):

    volume, target = volume_of(), tmp_path / "particle.vti"
    target.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        volume.export(target)
    for name in ("particle.xyz", "particle"):
        with pytest.raises(ValueError, match=r"expected one of \.tif, \.tiff, \.vti"):
            volume.export(tmp_path / name)
    with pytest.raises(ValueError, match="one or more of Au, Ag"):
        volume.export(target, channels="Pt", overwrite=True)
    with pytest.raises(ValueError, match="has no axis z"):
        volume.inav[:, 0].export(target, overwrite=True)
    too_large = mt.TomographicVolume.from_arrays({"Au": da.zeros((1024,) * 3, np.float32)}, 0.5)
    with pytest.raises(ValueError, match="can hold 4 GB"):
        too_large.export(tmp_path / "particle.tif")
    broken = volume_of({"Au": np.ones(SHAPE, np.float32)}, lazy=True)
    broken.data = broken.data.map_blocks(
        lambda block: 1 / 0, dtype=np.float32, meta=np.zeros((0,) * 4, np.float32)
    )
    with pytest.raises(ZeroDivisionError):
        broken.export(target, overwrite=True)
    assert target.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [target]
    assert set(parsed(volume.export(target, overwrite=True))[1]) == {"Au", "Ag"}


def test_mrc_of_each_channel_reads_back(tmp_path):
    import mrcfile
    from rsciio.mrc import file_reader

    values = np.random.default_rng(0).random((2, 4, 5, 6)).astype(np.float32)
    volume = mt.TomographicVolume.from_arrays({"Au": values[0], "Ag": values[1]}, pixel_size=0.76)
    paths = volume.export(tmp_path / "particle.mrc")
    assert [path.name for path in paths] == ["particle_Au.mrc", "particle_Ag.mrc"]
    for path, expected in zip(paths, values, strict=True):
        assert mrcfile.validate(path)
        (read,) = file_reader(str(path))
        np.testing.assert_array_equal(read["data"], expected)
        assert [axis["scale"] for axis in read["axes"]] == pytest.approx([0.76] * 3, rel=1e-5)
    with pytest.raises(FileExistsError, match="particle_Au.mrc"):
        volume.export(tmp_path / "particle.mrc")
    one = volume.export(tmp_path / "gold.mrc", channels="Au")
    with mrcfile.open(one) as file:
        assert file.header.origin.x == pytest.approx(10 * volume.axes_manager["x"].offset)
        assert "Au" in str(file.header.label[-1]) + str(file.get_labels())


NAMES = ["a/b", "a:b", "../up", "Co", "CO", "tab\t\x01", "α", "<img src=x>", "x" * 300]


def test_channel_names_make_safe_file_names(tmp_path):
    """No folders, no control characters, nothing that a system forbids, and a file for each."""
    values = np.ones((3, 4, 5), np.float32)
    volume = volume_of({name: (1 + number) * values for number, name in enumerate(NAMES)})
    paths = volume.export(tmp_path / "p.mrc")
    assert len({path.name.casefold() for path in paths}) == len(NAMES)
    assert sorted(paths) == sorted(tmp_path.iterdir())
    assert [path.name for path in paths[:7]] == [
        "p_a_b.mrc", "p_a_b_2.mrc", "p__up.mrc", "p_Co.mrc", "p_CO_2.mrc", "p_tab__.mrc", "p_α.mrc",
    ]  # fmt: skip
    assert not any(
        re.search(r'[\x00-\x1f<>:"/\\|?*]', path.name) or len(path.name.encode()) > 255
        for path in paths
    )
    import mrcfile

    for number, path in enumerate(paths):
        with mrcfile.open(path) as file:
            np.testing.assert_array_equal(np.unique(file.data), 1 + number)


def test_vti_of_any_name_is_xml(tmp_path):
    volume = volume_of({name: np.ones((3, 4, 5), np.float32) for name in NAMES})
    head, _, _ = volume.export(tmp_path / "p.vti").read_bytes().partition(b"<AppendedData")
    found = [array.get("Name") for array in ET.fromstring(head + b"</VTKFile>").iter("DataArray")]
    assert found == [name.replace("\t\x01", "__") for name in NAMES]

# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job as a command: on a simulated particle, and on the real example where it is there."""

import re
from pathlib import Path

import hyperspy.api as hs
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import hyperspy_multitomo as mt
from hyperspy_multitomo.demo import main

IDP = Path(__file__).resolve().parents[2] / "shared" / "data" / "idp_l2083"
ELEMENTS = ["C", "O", "Mg", "Al", "Si", "S", "Fe", "Ga", "Pt"]
RESULTS = {
    "haadf.zspy",
    "eds.zspy",
    "volume_hebt.zspy",
    "volume_eds_sirt.zspy",
    "composition.zspy",
    "report.html",
}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    out = tmp_path_factory.mktemp("simulated")
    assert main(["--out", str(out)]) == 0
    return out


@pytest.mark.slow
class TestSimulated:
    @pytest.mark.slow
    def test_writes_results_and_a_page(self, simulated):
        assert {path.name for path in simulated.iterdir()} == RESULTS
        page = (simulated / "report.html").read_text()
        for words in (
            "Crowther resolution",
            "elongation",
            "largest gap",
            "response ratio",
            "Against the truth",
            "wt%",
        ):
            assert words in page
        assert page.count("data:image/png;base64,") >= 8
        # Nothing is loaded from elsewhere; the letters alone occur by chance in the pictures.
        assert "://" not in page.split("<body>")[1]

    def test_composition_is_that_of_the_particle(self, simulated):
        composition = hs.load(simulated / "composition.zspy")
        assert type(composition) is mt.TomographicVolume
        gold, silver = composition["Au"].data, composition["Ag"].data
        inside = gold + silver > 0
        np.testing.assert_allclose((gold + silver)[inside], 100, rtol=1e-4)
        z, y, x = (n // 2 for n in gold.shape)
        core = np.s_[z - 6 : z + 6, y - 6 : y + 6, x - 6 : x + 6]
        assert gold[core].mean() == pytest.approx(80, abs=8)
        assert [step["step"] for step in composition.history][-2:] == [
            "reconstruct_hebt",
            "quantify",
        ]

    def test_earlier_results_are_kept_unless_asked(self, simulated, capsys):
        before = (simulated / "report.html").stat().st_mtime_ns
        assert main(["--out", str(simulated)]) == 2
        assert "--overwrite" in capsys.readouterr().err
        assert (simulated / "report.html").stat().st_mtime_ns == before

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--data", "nowhere"], "elements"),
            (["--data", "nowhere", "--elements", "Au"], "nowhere"),
            (["--alpha", "1.5"], "alpha"),
            (["--data", "nowhere", "--elements", "Au", "--k-factors", "Au"], "EL=K"),
            (
                ["--data", "nowhere", "--elements", "Au", "Ag", "--k-factors", "Au=2"],
                "each of Au, Ag",
            ),
        ],
    )
    def test_what_goes_wrong_is_said_in_one_line(self, tmp_path, capsys, arguments, message):
        assert main([*arguments, "--out", str(tmp_path / "out")]) == 1
        assert re.search(message, capsys.readouterr().err.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def particle(tmp_path_factory):
    out = tmp_path_factory.mktemp("idp")
    assert main(["--data", str(IDP), "--elements", *ELEMENTS, "--out", str(out)]) == 0
    return {path.stem: hs.load(path) for path in out.glob("*.zspy")}


@pytest.mark.slow
@pytest.mark.skipif(
    not IDP.is_dir(), reason=f"the example data {IDP.name} are not beside the repository"
)
class TestRealParticle:
    """Interplanetary dust: a lamella, 16 tilts within 40 degrees, under one count per pixel."""

    def test_no_summed_map_is_negative(self, particle):
        assert particle["eds"].elements == tuple(ELEMENTS)
        assert particle["eds"].data.sum(axis=(2, 3)).min() >= 0

    def test_the_elements_explain_the_haadf(self, particle):
        ratios = particle["eds"].response_ratios
        assert ratios.block_size == 8
        assert ratios.r2 >= 0.88

    def test_hebt_is_quieter_than_eds_alone(self, particle):
        """Noise from voxel to voxel at mid-depth where the element is,
        relative to the mean there."""
        ratios = particle["volume_hebt"].response_ratios
        for element in ("O", "Mg", "Si", "S", "Fe", "Pt"):
            assert ratios[element] > 0
            sections = [particle[name][element].data for name in ("volume_hebt", "volume_eds_sirt")]
            sections = [volume[volume.shape[0] // 2].astype(float) for volume in sections]
            smooth = [gaussian_filter(section, 4) for section in sections]
            region = sum(smooth) > 0.5 * np.percentile(sum(smooth), 99)
            hebt, alone = (
                (s - m)[region].std() / s[region].mean()
                for s, m in zip(sections, smooth, strict=True)
            )
            assert hebt < 0.85 * alone, element

    def test_no_bright_rim(self, particle):
        for element in ("Pt", "Si"):
            volume = particle["volume_hebt"][element].data
            section = volume[volume.shape[0] // 2]
            profile = section.mean(axis=0)
            rim = np.concatenate([profile[:8], profile[-8:]])
            assert rim.max() < 1.5 * np.percentile(profile, 95), element

    def test_grains_are_where_the_maps_show_them(self, particle):
        haadf, eds = particle["haadf"], particle["eds"]
        for element in ("O", "Mg", "Si", "Fe"):
            image = eds.aligned()[element].inav[0.0].data
            volume = particle["volume_hebt"][element].data
            middle = volume.sum(axis=0)
            edge = (middle.shape[1] - image.shape[1]) // 2
            middle = middle[:, edge : edge + image.shape[1]]
            blocks = [
                a[:256, :256].reshape(32, 8, 32, 8).sum(axis=(1, 3)).ravel()
                for a in (image, middle)
            ]
            assert np.corrcoef(*blocks)[0, 1] > 0.85, element
        assert haadf.tilts.size == 16

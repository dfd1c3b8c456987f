# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo: the main job on a simulated particle, with its errors."""

import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_multitomo as mt
from hyperspy_multitomo.demo import main

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

    def test_what_goes_wrong_is_said_in_one_line(self, tmp_path, capsys):
        assert main(["--alpha", "1.5", "--out", str(tmp_path / "out")]) == 1
        assert "alpha" in capsys.readouterr().err.strip().splitlines()[-1]

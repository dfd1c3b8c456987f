# SPDX-License-Identifier: GPL-3.0-or-later
"""The composition of a real interplanetary dust particle:
chondritic Mg/Si in its silicate, Fe/S of a sulphide."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import hyperspy_multitomo as mt
from hyperspy_multitomo.composition import cross_sections
from hyperspy_multitomo.composition.cross_sections.tables import atomic_weights

IDP = Path(__file__).resolve().parents[2] / "shared" / "data" / "idp_l2083"
ELEMENTS = ["C", "O", "Na", "Mg", "Al", "Si", "S", "Ca", "Ti", "Cr", "Fe", "Ni", "Cu", "Ga", "Pt"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not IDP.is_dir(), reason="the real lamella (idp_l2083) is not beside the checkout"
    ),
]


@pytest.fixture(scope="module")
def dust():
    haadf, spectra = mt.load_tilt_series(f"{IDP}/*.bcf", tilts="filename")
    eds = mt.elemental_maps(spectra, elements=ELEMENTS, show_progressbar=False)
    haadf.align()
    eds.align(haadf.alignment)
    return eds.bin(4)


def atoms(eds, images):
    """Atoms of each element up to a common factor: counts over what an atom gives."""
    lines = dict(zip(eds.elements, eds.lines, strict=True))
    keV = eds.metadata.Acquisition_instrument.TEM.beam_energy
    assert keV == 200
    return {
        name: gaussian_filter(np.maximum(image, 0), 1)
        / cross_sections.xray_factor(lines[name], keV)
        / atomic_weights([name])[0]
        for name, image in images.items()
    }


@pytest.mark.filterwarnings("ignore:strong peaks of elements")
def test_silicate_and_sulphide_of_a_dust_particle(dust):
    volume = dust.reconstruct_em(30, depth=1200, show_progressbar=False)
    found = atoms(dust, {name: volume[name].data for name in ("O", "Mg", "Si", "S", "Fe")})
    both = found["Mg"] + found["Si"]
    silicate = both > np.percentile(both, 98)
    assert 0.7 < found["Mg"][silicate].sum() / found["Si"][silicate].sum() < 1.5
    sulphide = found["S"] > np.percentile(found["S"], 99.9)
    assert 0.7 < found["Fe"][sulphide].sum() / found["S"][sulphide].sum() < 1.5
    # Oxygen is too low, because neither the detector's efficiency at 0.5 keV nor its absorption is
    # in this.
    assert 0.8 < found["O"][silicate].sum() / both[silicate].sum() < 2.5


def test_the_detectors_of_the_file_are_four(dust):
    assert [(one.azimuth, one.elevation) for one in dust.detectors] == [
        (45, 18),
        (135, 18),
        (225, 18),
        (315, 18),
    ]


def test_its_dose_is_not_made_up(dust):
    assert dust.dose is None  # neither current nor live time are in the files
    volume = dust.reconstruct_sirt(2, depth=1200, show_progressbar=False)
    with pytest.raises(ValueError, match="the dose is not known"):
        volume.quantify_density(solid_angle=0.7, efficiency=1.0)

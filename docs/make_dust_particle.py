# SPDX-License-Identifier: GPL-3.0-or-later
"""Draw the picture of the first page: the dust particle by the plain lines.

    python docs/make_dust_particle.py [docs/images/dust_particle.png]

It takes about a minute; the files are downloaded, or taken from `MULTITOMO_DATA`.
"""

from __future__ import annotations

import sys

import hyperspy_multitomo as mt


def main(path: str = "docs/images/dust_particle.png") -> None:
    """Go from the files to the volume, and draw it."""
    haadf, spectra = mt.datasets.dust_particle()
    elements = ["C", "O", "Mg", "Al", "Si", "S", "Fe", "Ga", "Pt"]
    eds = mt.elemental_maps(spectra, elements=elements)
    eds.align(haadf.align())
    haadf.estimate_gains()
    eds.estimate_gains(haadf)
    volume = eds.reconstruct(haadf)
    figure = volume.plot_orthoslices(channels=["O", "Mg", "Si", "Fe"])
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main(*sys.argv[1:])

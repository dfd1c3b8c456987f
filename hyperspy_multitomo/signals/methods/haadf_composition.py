# SPDX-License-Identifier: GPL-3.0-or-later
"""Composition of a volume of two elements from its HAADF alone, as a signal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.composition.haadf.two_elements import atoms_by_volume, haadf_composition
from hyperspy_multitomo.machine.memory import check_memory
from hyperspy_multitomo.parameters import number
from hyperspy_multitomo.signals.gate import plain
from hyperspy_multitomo.signals.masks import mask_array
from hyperspy_multitomo.signals.metadata.history import add_step
from hyperspy_multitomo.signals.metadata.recorded_arrays import axis_named

# Bytes that it takes for each voxel at its peak, the volume included.
_BYTES_BY_VOXEL = 56


@checked(threshold=number)
def quantify_haadf(
    volume,
    elements: Sequence[str],
    reference="histogram",
    composition_units: str = "atomic",
    *,
    threshold: float | None = None,
    mask=None,
    ratio: float | None = None,
    mean: float | None = None,
    haadf_angles: tuple[float, float] | None = None,
    beam_energy: float | None = None,
    atomic_densities: Mapping[str, float] | str | None = None,
    clip: bool = True,
    return_uncertainty: bool = False,
):
    """Turn the grey values of a HAADF volume of two elements into percent of each.

    Parameters
    ----------
    elements : sequence of two str
        Symbols, A and B, e.g. ``("Au", "Ag")``.
    reference : "histogram" or dict, default "histogram"
        Grey values of the pure elements: the two peaks of the histogram inside the particle, or
        for each element a number or a mask (array or signal, shape (z, y, x)) of voxels well
        inside a pure region. With a ratio, one of them is enough.
    composition_units : {"atomic", "weight"}, default "atomic"
        Atomic or weight percent.
    threshold : float, optional
        Grey value above which a voxel belongs to the particle; by default the lower of two
        thresholds by Otsu.
    mask : array-like of bool or signal, shape (z, y, x), optional
        The particle, instead of a threshold.
    ratio : float, optional
        I_A / I_B of the pure elements, where it is known.
    mean : float, optional
        With a ratio: percent of A in the whole particle, e.g. from an EDS spectrum, which then
        sets the scale.
    haadf_angles : tuple of float, optional
        Inner and outer angle of the detector (mrad): the ratio is then that of the calculated
        cross sections per atom, times the atoms per volume.
    beam_energy : float, optional
        keV, for the cross sections; by default that in the metadata.
    atomic_densities : dict of str to float or "table", optional
        Atoms per nm^3 of the pure elements, ``"table"`` from eXSpy's densities; by default the
        same for both.
    clip : bool, default True
        Bring what lies beyond the pure elements to 0 and 100 percent; for means over regions do
        not, they are biased by it.
    return_uncertainty : bool, default False
        Return the standard errors as well.

    Returns
    -------
    composition : TomographicVolume
        Percent of both elements, 0 outside the particle; grey values, contrast and noise are in
        its history.
    uncertainty : TomographicVolume
        Standard error of either, percent, from the noise of the grey values and the references;
        if asked for.

    Raises
    ------
    ValueError
        If the volume has no HAADF, the elements cannot be told apart by their grey values (a
        contrast below 10 % or below the noise), or the histogram has not two separate peaks.
    MemoryError
        If a lazy volume does not fit the memory.

    Warns
    -----
    UserWarning
        If the contrast is below three times the noise, the references do not fit many voxels,
        or the heavier element is the darker one.

    Notes
    -----
    See `hyperspy_multitomo.composition.haadf.two_elements.haadf_composition`. Grey values have
    to be linear in the mass: correct the damping of thick places before the reconstruction,
    with `TiltSeriesHAADF.correct_damping`.

    A lazy volume is loaded, all of it: what encloses a hole of the particle, and how strong the
    noise is, no slab knows alone. It takes 56 bytes for each voxel.

    References
    ----------
    .. [1] A. Skorikov et al., ACS Nano 13 (2019) 13421,
       https://doi.org/10.1021/acsnano.9b06848.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> grey = np.zeros((8, 8, 8)); grey[1:7, 1:7, 1:7] = 10.0; grey[3:5, 3:5, 3:5] = 17.0
    >>> volume = mt.TomographicVolume.from_arrays(grey)
    >>> composition = volume.quantify_haadf(("Au", "Ag"), {"Au": 24.0, "Ag": 10.0}, threshold=5.0)
    >>> float(composition["Au"].data[4, 4, 4]), composition.quantity
    (50.0, 'atomic percent')
    """
    grey = _haadf_of(volume)
    if mask is not None and threshold is not None:
        raise ValueError(
            "the particle is given by a mask and by a threshold; leave out one of the two"
        )
    if isinstance(reference, Mapping):
        reference = {
            name: _region(value, grey.shape, f"region of {name}")
            for name, value in reference.items()
        }
    settings = {}
    if haadf_angles is not None:
        if ratio is not None:
            raise ValueError(
                "the ratio is given by ratio= and by haadf_angles=; leave out one of the two"
            )
        ratio, settings = _calculated_ratio(
            volume, elements, haadf_angles, beam_energy, atomic_densities
        )
    found = haadf_composition(
        grey,
        elements,
        reference,
        ratio=ratio,
        mean=mean,
        mask=threshold if mask is None else mask_array(mask, grey.shape),
        atomic_densities=atomic_densities,
        composition_units=composition_units,
        clip=clip,
    )
    single = volume["HAADF"] if axis_named(volume, "element") else volume
    arrays = dict(zip(found.elements, found.percent.transpose(0, 1, 3, 2), strict=True))
    composition = volume.from_arrays(arrays, like=single, quantity=f"{composition_units} percent")
    composition.metadata.General.title = "Composition"
    add_step(
        composition,
        "quantify_haadf",
        after=volume,
        elements=found.elements,
        reference=reference if isinstance(reference, str) else "given",
        composition_units=composition_units,
        mask="given" if mask is not None else threshold,
        ratio=ratio,
        mean=mean,
        **settings,
        atomic_densities=atomic_densities,
        clip=clip,
        intensities=found.intensities,
        intensity_errors=found.intensity_errors,
        contrast=found.contrast,
        noise=found.noise,
        clipped=found.clipped,
        voxels=int(np.count_nonzero(found.mask)),
    )
    composition = composition.as_lazy() if volume._lazy else composition
    if not return_uncertainty:
        return composition
    errors = volume.from_arrays(
        found.uncertainty.transpose(0, 2, 1),
        like=single,
        quantity=f"{composition_units} percent, standard error",
    )
    errors.metadata.General.title = "Standard error of the composition"
    add_step(errors, "quantify_haadf", after=composition, returned="uncertainty")
    return composition, errors.as_lazy() if volume._lazy else errors


def _haadf_of(volume) -> np.ndarray:
    """Return the HAADF of a volume as (z, x, y): its only channel, or the one of that name."""
    if "HAADF" in volume.channels:
        volume = volume["HAADF"]
    elif volume.channels:
        raise ValueError(
            f"this volume holds {', '.join(volume.channels)} and no HAADF; reconstruct the HAADF "
            "series"
        )
    if volume._lazy:
        needed = _BYTES_BY_VOXEL * volume.data.size
        check_memory(
            needed,
            "quantify_haadf, which loads the whole volume,",
            "crop it (isig, inav) or bin it (rebin)",
        )
    return np.asarray(volume.array("z", "x", "y"))


def _region(value, shape: tuple[int, int, int], what: str):
    """Return a number as it is, and a mask (z, y, x), array or signal, as bool (z, x, y)."""
    if np.ndim(value) == 0:
        return value
    value = np.asarray(plain(value, ("z", "y", "x"), f"the {what}"))
    expected = (shape[0], shape[2], shape[1])
    if value.shape != expected:
        raise ValueError(
            f"the {what} has the shape {value.shape} but the volume is {expected} (z, y, x)"
        )
    return value.astype(bool).transpose(0, 2, 1)


def _calculated_ratio(volume, elements, angles, beam_energy, densities) -> tuple[float, dict]:
    """Return I_A / I_B from cross sections and atoms per volume, and its settings."""
    from hyperspy_multitomo.composition.cross_sections import haadf

    found = volume.metadata.get_item("Acquisition_instrument.TEM.beam_energy", default=None)
    energy = found if beam_energy is None else beam_energy
    if energy is None:
        raise ValueError("the beam energy is not in the metadata: pass beam_energy= in keV")
    signal = [haadf(element, float(energy), *angles) for element in elements]
    atoms = atoms_by_volume(elements, densities)
    return signal[0] * atoms[0] / (signal[1] * atoms[1]), {
        "haadf_angles": list(angles),
        "beam_energy": float(energy),
    }

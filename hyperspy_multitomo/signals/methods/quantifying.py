# SPDX-License-Identifier: GPL-3.0-or-later
"""From volumes of counts to composition: `quantify`, its errors, means of regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hyperspy_multitomo import parameters
from hyperspy_multitomo.arguments import THRESHOLD, checked
from hyperspy_multitomo.composition import quantification
from hyperspy_multitomo.composition.cross_sections import haadf_factor
from hyperspy_multitomo.evidence.realisations import Realisations
from hyperspy_multitomo.machine.lazy import is_lazy
from hyperspy_multitomo.machine.memory import check_memory
from hyperspy_multitomo.machine.notices import warn
from hyperspy_multitomo.reconstruction.slabs import runs_again
from hyperspy_multitomo.signals.build import build_volume
from hyperspy_multitomo.signals.masks import mask_array
from hyperspy_multitomo.signals.metadata.acquisition_settings import factors_of
from hyperspy_multitomo.signals.metadata.history import add_step, read_history
from hyperspy_multitomo.signals.metadata.recorded_arrays import recall
from hyperspy_multitomo.signals.methods.panels import open_panel


@checked(threshold=THRESHOLD)
def quantify(
    volume,
    method: str = "CL",
    factors: Mapping[str, float] | Sequence[float] | None = None,
    composition_units: str = "weight",
    *,
    mask=None,
    threshold: str | float | None = None,
    beam_energy: float | None = None,
    xray_lines: Sequence[str] | Mapping[str, str] | None = None,
    model: str = "cascade",
    efficiency=None,
    through: str = "counts",
    haadf_angles: tuple[float, float] | None = None,
    interactive: bool = False,
    display: bool = True,
    toolkit: str | None = None,
):
    """Turn volumes of counts into the composition of each voxel, in percent of the listed elements.

    Parameters
    ----------
    method : {"CL", "zeta", "cross_section", "model"}, default "CL"
        Cliff-Lorimer (weight fraction proportional to k_e X_e), zeta-factors (proportional to
        zeta_e X_e), partial ionisation cross sections (atomic fraction proportional to X_e /
        sigma_e), or calculated X-ray factors (weight fraction proportional to X_e / f_e, [4]_),
        which need no standards.
    factors : dict or sequence of float
        The k-factors, zeta-factors (kg/m^2), cross sections (barn) or f (barn mol/g), by
        element (``{"Au": 1.7}``) or by line (``{"Au_La": 1.7}``), or a sequence in eXSpy's
        order (alphabetical). ``"model"`` calculates them where none are given.
    composition_units : {"weight", "atomic"}, default "weight"
        Weight or atomic percent.
    mask : array-like of bool or signal, shape (z, y, x), optional
        The particle.
    threshold : {"auto", "esf", "otsu"} or float, optional
        How to find the particle in the weighted sum of the elements (mass or atoms) where no
        mask is given: by the edge spread function, by Otsu, or above a number; by default
        ``"auto"``, the first where it is unambiguous, else Otsu with a warning. Of a lazy
        volume ``"otsu"`` reads all of it once, the others two or three times, block by block;
        with a number or a mask nothing is read here.
    beam_energy : float, optional
        For ``"model"``: keV; by default that of the metadata.
    xray_lines : sequence of str or dict, optional
        For ``"model"``: the line of each element, ``"Fe_Ka"``, or its family where the maps
        hold all its lines, ``"Fe_K"``; by default the lines that the maps were made of.
    model : {"cascade", "direct"}, default "cascade"
        For ``"model"``: whether vacancies of deeper shells that move outwards count; see
        `cross_sections.emission`.
    efficiency : float, dict or callable, optional
        For ``"model"``: of the detector, for all lines, by element or line, or as a function of
        the energy in keV (`composition.xrays.efficiency`). 1 by default, with a warning for lines
        below 1 keV.
    through : {"counts", "ratios"}, default "counts"
        For ``"model"`` and volumes by HEBT: ``"ratios"`` goes through the HAADF, weight
        fraction proportional to r_e X_e / z_e (eq. 18 of [4]_), with the response ratios of the
        reconstruction. It is biased where z_e/(r_e f_e) differs between the elements.
    haadf_angles : (float, float), optional
        For ``through="ratios"``: inner and outer angle of the HAADF detector, mrad; see
        `cross_sections.haadf_factor`.
    interactive : bool, default False
        Open a panel for these settings instead, which shows threshold and composition; its
        ``result`` is the volume.
    display : bool, default True
        With ``interactive``: show the panel, or return its widgets.
    toolkit : str, optional
        With ``interactive``: the GUI toolkit, by default as HyperSpy's preferences say.

    Returns
    -------
    TomographicVolume
        Percent for each element, axes as here; 0 outside the particle. The last step of its
        `history` holds the factors. Lazy where this one is: its blocks are computed when they
        are asked for, each on its own. With ``interactive`` the panel, or with
        ``display=False`` its widgets; the panel loads a lazy volume.

    Raises
    ------
    ValueError
        For an unknown method, missing, surplus, zero or negative factors, an ambiguous
        threshold, an empty mask or an all-zero volume; for a beam energy or lines that are not
        known, and a line that the beam does not excite.

    Warns
    -----
    UserWarning
        Where a threshold is looked for in a lazy reconstruction that has not been saved: it
        runs again every time it is read. Where voxels of the particle are negative, with their
        number and share, or those of a lazy reconstruction can be (by FBP, CGLS, or with
        ``nonnegative=False``): they count as 0 in these fractions; for regions see
        `mean_composition`.

    Notes
    -----
    All volumes are in counts, whatever made them, so that the method does not depend on the
    reconstruction.

    Of a lazy volume the threshold is the same as in memory. With a number or a lazy mask it is
    not checked that a voxel is left, and ``voxels`` in the history is None.

    References
    ----------
    .. [1] G. Cliff, G. W. Lorimer, J. Microsc. 103 (1975) 203,
       https://doi.org/10.1111/j.1365-2818.1975.tb03895.x.
    .. [2] M. Watanabe, D. B. Williams, J. Microsc. 221 (2006) 89,
       https://doi.org/10.1111/j.1365-2818.2006.01549.x.
    .. [3] K. E. MacArthur et al., Microsc. Microanal. 22 (2016) 71,
       https://doi.org/10.1017/S1431927615015494.
    .. [4] Y. Yuan et al., Ultramicroscopy 220 (2021) 113166, eqs 12 and 18.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> counts = {"Ag": np.ones((4, 4, 4)), "Au": np.ones((4, 4, 4))}
    >>> volume = mt.TomographicVolume.from_arrays(counts)
    >>> inside = np.ones((4, 4, 4), bool)
    >>> composition = volume.quantify("CL", factors={"Ag": 1.0, "Au": 3.0}, mask=inside)
    >>> float(composition["Au"].data.mean())
    75.0
    >>> lines = ["Ag_La", "Au_Ma"]
    >>> composition = volume.quantify("model", beam_energy=100, xray_lines=lines, mask=inside)
    >>> round(float(composition["Au"].data.mean()), 1)
    47.9
    """
    if interactive:
        options = {
            "beam_energy": beam_energy,
            "xray_lines": xray_lines,
            "model": model,
            "efficiency": efficiency,
        }
        options |= {"through": through, "haadf_angles": haadf_angles}
        return open_panel(
            "composition",
            volume,
            method,
            factors,
            composition_units,
            mask=mask,
            threshold=threshold,
            display=display,
            toolkit=toolkit,
            **options,
        )
    elements, volumes = counts_by_element(volume)
    if mask is not None and threshold is not None:
        raise ValueError(
            "mask= says which voxels are the particle, threshold= how to find it; pass one of them"
        )
    factors, settings = factors_for(
        volume,
        method,
        factors,
        elements,
        through,
        haadf_angles,
        {
            "beam_energy": beam_energy,
            "xray_lines": xray_lines,
            "model": model,
            "efficiency": efficiency,
        },
    )
    if mask is None and (threshold is None or isinstance(threshold, str)):
        warn_if_unsaved(volumes)
    where = threshold if mask is None else _mask_of(mask, volumes)
    if is_lazy(volumes) and _may_be_negative(read_history(volume)):
        warn(
            "this lazy reconstruction can have negative voxels, which count as 0 in the "
            "fractions of each voxel; for means "
            "over a region use mean_composition, where they count as they are"
        )
    fractions, _, voxels = quantification.quantify_and_count(
        volumes, elements, method, factors, composition_units, where
    )
    result = channels_like(
        volume, fractions, elements, f"{composition_units} percent", "Composition"
    )
    add_step(
        result,
        "quantify",
        after=volume,
        method=method,
        factors=factors,
        composition_units=composition_units,
        mask="given" if mask is not None else "auto" if threshold is None else threshold,
        voxels=voxels,
        **settings,
    )
    return result


@checked
def composition_errors(volume, composition, *, factor_errors=None, count_errors=None):
    """Return the standard errors of a composition that `quantify` made of this volume.

    To first order.

    Parameters
    ----------
    composition : TomographicVolume
        What `quantify` returned.
    factor_errors : dict of str to float, or float, optional
        Relative standard errors of the factors, 0.1 for 10 %, by element, or one for all of
        them, independent of each other. What the factors have wrong is wrong in all voxels
        alike.
    count_errors : Realisations, TomographicVolume, dict of str to float or array, float, optional
        Standard errors of the counts in the voxels, in the unit of this volume: e.g. noise
        `realisations` of this volume, or the scatter of repeated reconstructions. Elements count
        as independent; for means over a region see `Realisations.region`, where they do not.

    Returns
    -------
    TomographicVolume
        Percent of each element, 0 outside the particle; lazy where this one is. With
        ``through="ratios"`` the standard errors of the response ratios are in it, where they
        are known.

    Raises
    ------
    ValueError
        For a composition that was not made of this volume's elements by `quantify`, errors that
        are negative or of other elements, and where there are no errors to propagate.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> counts = {"Ag": np.ones((4, 4, 4)), "Au": np.ones((4, 4, 4))}
    >>> volume = mt.TomographicVolume.from_arrays(counts)
    >>> inside = np.ones((4, 4, 4), bool)
    >>> composition = volume.quantify("CL", factors={"Ag": 1.0, "Au": 1.0}, mask=inside)
    >>> float(volume.composition_errors(composition, factor_errors={"Au": 0.1})["Au"].data.mean())
    2.5
    """
    elements, volumes, made, fractions = _quantified(volume, composition)
    if isinstance(count_errors, Realisations):
        count_errors = count_errors.errors_of(volume)
    if made.get("through") == "ratios" and (spread := recall(volume, "ratios_errors")) is not None:
        factor_errors = _with_ratios(
            elements,
            factor_errors,
            volume.response_ratios,
            dict(zip(volume.channels, spread, strict=True)),
        )
    errors = quantification.composition_errors(
        volumes,
        elements,
        made["method"],
        made["factors"],
        made["composition_units"],
        mask=fractions.sum(axis=0) > 0,
        factor_errors=factor_errors,
        count_errors=_count_errors(count_errors, elements, volumes.shape),
    ).astype(np.float32)
    quantity = f"{made['composition_units']} percent, standard error"
    result = channels_like(volume, errors, elements, quantity, "Standard errors of the composition")
    add_step(result, "composition_errors", after=composition, factor_errors=factor_errors)
    return result


def counts_in_memory(volume) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the elements and their volumes (element, z, x, y), in memory."""
    elements, volumes = counts_by_element(volume)
    if is_lazy(volumes):
        check_memory(3 * volumes.nbytes, "the volume in memory", "crop or bin it")
    return elements, np.asarray(volumes)


def counts_by_element(volume):
    """Return the elements and their volumes (element, z, x, y), NumPy or dask as they are."""
    elements = volume.elements
    if not elements:
        raise ValueError(
            "this volume has no elements to quantify; reconstruct a series of elemental maps"
        )
    if volume.quantity and not volume.quantity.startswith("counts"):
        raise ValueError(
            f"this volume holds {volume.quantity}, not counts; quantify the volume of counts "
            "that it was made from"
        )
    volumes = volume.array("element", "z", "x", "y")
    return elements, volumes if elements == volume.channels else volumes[
        [volume.channels.index(name) for name in elements]
    ]


@checked(region=parameters.array)
def mean_composition(volume, composition, region=None) -> dict[str, float]:
    """Return the mean composition of a region of this volume, from the sums of its counts.

    Negative voxels of FBP, CGLS or ``nonnegative=False`` count as they are here, so that an
    element that is absent has a mean of 0 but for the noise; the mean of the percentages that
    `quantify` gives, where they count as 0, is above 0. Large grains of high density weigh by
    their counts.

    Parameters
    ----------
    composition : TomographicVolume
        What `quantify` of this volume returned: its method, factors and unit are used.
    region : array-like of bool, shape (z, y, x), or signal, optional
        By default the particle that was quantified.

    Returns
    -------
    dict of str to float
        Percent of each element.

    Raises
    ------
    ValueError
        For a composition that is not of this volume, a region that does not fit or is empty,
        and one without counts.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_multitomo as mt
    >>> counts = {"Ag": np.ones((4, 4, 4)), "Au": np.ones((4, 4, 4))}
    >>> volume = mt.TomographicVolume.from_arrays(counts)
    >>> inside = np.ones((4, 4, 4), bool)
    >>> composition = volume.quantify("CL", factors={"Ag": 1.0, "Au": 3.0}, mask=inside)
    >>> volume.mean_composition(composition)
    {'Ag': 25.0, 'Au': 75.0}
    """
    elements, volumes, made, fractions = _quantified(volume, composition)
    inside = fractions.sum(axis=0) > 0 if region is None else _mask_of(region, volumes)
    options = made["method"], made["factors"], made["composition_units"]
    percent = quantification.mean_composition(volumes, elements, *options, mask=inside)
    return dict(zip(elements, percent.tolist(), strict=True))


def _quantified(volume, composition):
    """Return the elements, their counts, the step that quantified them, and the fractions.

    Both arrays are (element, z, x, y).
    """
    elements, volumes = counts_by_element(volume)
    made = next(
        (step for step in reversed(read_history(composition)) if step["step"] == "quantify"),
        None,
    )
    if made is None or tuple(composition.elements) != tuple(elements):
        raise ValueError(
            f"the composition holds {', '.join(composition.elements) or 'no elements'}, this "
            f"volume {', '.join(elements)}: "
            "pass what quantify() of this volume returned"
        )
    fractions = composition.array("element", "z", "x", "y")
    fractions = fractions if is_lazy(volumes) else np.asarray(fractions)
    if fractions.shape != volumes.shape:
        raise ValueError(
            f"the composition has the shape {fractions.shape} and the volume {volumes.shape}: "
            "pass its own"
        )
    return elements, volumes, made, fractions


def factors_for(
    volume, method, factors, elements, through, haadf_angles, options
) -> tuple[dict[str, float], dict]:
    """Return the factor of each element, given or calculated, and how it was calculated."""
    if through not in ("counts", "ratios"):
        raise ValueError(f"through={through!r} must be 'counts' or 'ratios'")
    if method != "model" or factors is not None:
        if through == "ratios":
            raise ValueError(
                "through='ratios' calculates its factors: use method='model' and leave out factors="
            )
        if factors is None:
            raise ValueError(
                f"method={method!r} needs factors=, one for each of {', '.join(elements)}; "
                "'model' calculates them"
            )
        unused = [name for name in ("xray_lines", "efficiency") if options.get(name) is not None]
        if unused:
            raise ValueError(
                f"{' and '.join(unused)} serve to calculate factors, which are given: use "
                "method='model' without factors=, "
                f"or leave out {' and '.join(unused)}"
            )
        if not isinstance(factors, Mapping) and len(factors) == len(elements):
            factors = dict(zip(sorted(elements), factors, strict=True))
        return factors, {}
    calculated, settings = factors_of(volume, elements, **options)
    if through == "counts":
        return calculated, settings
    ratios = volume.response_ratios
    if ratios is None or not all(ratios.get(element, 0) > 0 for element in elements):
        raise ValueError(
            "through='ratios' needs a volume by HEBT whose elements all have a response ratio "
            "above 0; quantify it through "
            "the counts instead"
        )
    energy = settings["beam_energy"]
    factors = {
        element: haadf_factor(element, energy, haadf_angles) / ratios[element]
        for element in elements
    }
    return factors, {"beam_energy": energy, "through": through, "haadf_angles": haadf_angles}


def _may_be_negative(history: list[dict]) -> bool:
    """Say whether the reconstruction that a history tells of can give negative voxels."""
    made = next(
        (step for step in reversed(history) if step["step"].startswith("reconstruct")), {"step": ""}
    )
    return made["step"] in ("reconstruct_fbp", "reconstruct_cgls") or not made.get(
        "nonnegative", True
    )


def _mask_of(mask, volumes):
    """Return a mask (z, y, x) as bool (z, x, y); lazy where it and the volumes are."""
    return mask_array(mask, volumes.shape[1:], lazy=is_lazy(volumes))


def channels_like(volume, arrays, elements, quantity: str, title: str):
    """Return arrays (element, z, x, y), NumPy or dask, as a volume with the axes of another one."""
    data = arrays.transpose(1, 0, 3, 2)
    data = data if is_lazy(data) else np.ascontiguousarray(data)
    return build_volume(data, tuple(elements), None, like=volume, quantity=quantity, title=title)


def warn_if_unsaved(volumes) -> None:
    """Warn where a lazy reconstruction, which runs whenever it is read, is read repeatedly."""
    if is_lazy(volumes) and runs_again(volumes):
        warn(
            "this lazy reconstruction has not been saved, and runs again each time it is read: up "
            "to three times to find the "
            'particle, and once more for the result. Save it first, volume.save("volume.zspy"), '
            "and go on with "
            'hs.load("volume.zspy", lazy=True), or reconstruct with checkpoint=, which keeps the '
            "slabs; to find no particle pass "
            "a number as threshold=, or mask="
        )


def _with_ratios(elements, factor_errors, ratios, spread) -> dict[str, float]:
    """Return relative errors of the factors with those of the response ratios added in squares."""
    if not isinstance(factor_errors, Mapping):
        factor_errors = dict.fromkeys(elements, factor_errors or 0.0)
    return {
        name: float(np.hypot(factor_errors.get(name, 0.0), spread[name] / ratios[name]))
        for name in elements
    }


def _count_errors(count_errors, elements, shape):
    """Return the standard errors of the counts as what broadcasts to (element, z, x, y).

    They come as a volume, by element, or as a number.
    """
    if count_errors is None:
        return None
    if hasattr(count_errors, "channels"):
        missing = [name for name in elements if name not in count_errors.channels]
        if missing:
            raise ValueError(f"count_errors has no channel {', '.join(missing)}")
        return count_errors.array("element", "z", "x", "y")[
            [count_errors.channels.index(name) for name in elements]
        ]
    if isinstance(count_errors, Mapping):
        if set(count_errors) != set(elements):
            raise ValueError(
                f"count_errors are those of {', '.join(map(str, count_errors))}; expected one for "
                f"each of {', '.join(elements)}"
            )
        by_element = [_as_zxy(count_errors[name]) for name in elements]
        if any(map(is_lazy, by_element)):
            import dask.array as da

            return da.stack(
                [da.broadcast_to(da.asarray(values), shape[1:]) for values in by_element]
            )
        return np.stack([np.broadcast_to(values, shape[1:]) for values in by_element])
    if np.ndim(count_errors) == 0:
        return parameters.number("count_errors", count_errors)
    raise TypeError(
        "count_errors must be a TomographicVolume, a dict by element or a number; got "
        f"{type(count_errors).__name__}"
    )


def _as_zxy(values):
    values = (
        getattr(values, "data", values)
        if is_lazy(getattr(values, "data", values))
        else np.asarray(values)
    )
    return values.swapaxes(-1, -2) if values.ndim == 3 else values

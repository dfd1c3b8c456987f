# SPDX-License-Identifier: GPL-3.0-or-later
"""Reconstructed volumes and compositions as HyperSpy signals, axes ``(element, z | x, y)``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from hyperspy.signals import LazySignal2D, Signal2D

from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.signals.base import TomographySignal
from hyperspy_multitomo.signals.gate import plain
from hyperspy_multitomo.signals.metadata.recorded_arrays import NODE, recall
from hyperspy_multitomo.signals.methods import rerun
from hyperspy_multitomo.signals.methods.densities import Densities
from hyperspy_multitomo.signals.methods.exploring import Exploring
from hyperspy_multitomo.signals.methods.export import Export
from hyperspy_multitomo.signals.methods.haadf_composition import HAADFQuantification
from hyperspy_multitomo.signals.methods.lazy_computing import LazyComputing
from hyperspy_multitomo.signals.methods.quantify import Quantification
from hyperspy_multitomo.signals.methods.thresholds import Thresholds
from hyperspy_multitomo.signals.methods.volume_figures import VolumePlots

_QUANTITY = f"{NODE}.quantity"


class TomographicVolume(
    VolumePlots,
    Exploring,
    Export,
    HAADFQuantification,
    Densities,
    Quantification,
    Thresholds,
    TomographySignal,
    Signal2D,
):
    """A volume, or one per element: axes ``(z | x, y)`` or ``(element, z | x, y)``, array order (z, [element,] y, x).

    Voxels hold signal per unit length of path (`quantity` says which), or percent after `quantify`.
    ``volume["Au"]`` picks one element, ``"Au" in volume`` asks for one.
    """

    _signal_type = "TomographicVolume"

    # How it was made.
    to_script = rerun.to_script

    @property
    def quantity(self) -> str:
        """What the voxels hold, e.g. ``"counts / nm"`` or ``"weight percent"``: that of the elements, if there are any."""
        quantity = self.metadata.get_item(_QUANTITY, default="")
        return (
            quantity
            if self.elements or not self.channels
            else quantity.replace("counts", "HAADF signal")
        )

    @property
    def residuals(self) -> dict[str, np.ndarray]:
        """Relative residuals ``|b - A x| / |b|``, at the start of each iteration or, with a regulariser, of every tenth volume.

        ``"eds"`` has the shape (iteration, element), NaN for channels without maps, ``"haadf"``
        (iteration,). EM adds ``"deviance"``, the Poisson deviance per pixel of the projections,
        (iteration, element) or, of images, (iteration,); a regularised method the ``"objective"``
        that it makes small, (iteration,). ``"iteration"`` numbers the iterations.
        """
        maps = {"eds": recall(self, "residuals_eds"), "deviance": recall(self, "deviance_eds")}
        found = {name: values.T for name, values in maps.items() if values is not None}
        images = {
            "haadf": "residuals_haadf",
            "deviance": "deviance_haadf",
            "objective": "objective",
            "iteration": "residuals_iteration",
        }
        items = {
            name: self.metadata.get_item(f"{NODE}.{path}", default=None)
            for name, path in images.items()
        }
        return found | {
            name: np.asarray(values) for name, values in items.items() if values is not None
        }

    @property
    def response_ratios(self) -> dict[str, float] | None:
        """The response ratios r_e (HAADF signal per count) that made a HEBT volume, or None."""
        values = recall(self, "ratios")
        return (
            None
            if values is None
            else {name: float(r) for name, r in zip(self.channels, values, strict=True)}
        )

    @classmethod
    @checked
    def from_arrays(
        cls, volumes, pixel_size: float | None = None, *, like=None, quantity: str = ""
    ) -> TomographicVolume:
        """Make a volume from one array per channel.

        Parameters
        ----------
        volumes : dict of str to array or signal, shape (z, y, x), or one of them
            One volume for each channel, or a single volume without the axis ``element``. Axes of
            signals go by their names.
        pixel_size : float, optional
            In nm; the three axes are centred on the tilt axis along x and z. By default the axes
            are those of signals.
        like : TomographicVolume, optional
            Take axes and acquisition metadata from this one instead.
        quantity : str, default ""
            What the voxels hold, e.g. ``"counts / nm"``.

        Returns
        -------
        TomographicVolume

        Raises
        ------
        ValueError
            For volumes that are masked, of different shape or calibration, or no real numbers.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_multitomo as mt
        >>> volume = mt.TomographicVolume.from_arrays({"Au": np.ones((4, 5, 6))}, pixel_size=0.5)
        >>> volume["Au"].data.shape, "Ag" in volume
        ((4, 5, 6), False)
        """
        from hyperspy_multitomo.signals.build import build_volume, stack_channels
        from hyperspy_multitomo.signals.gate import volumes_of

        named = isinstance(volumes, Mapping)
        names = tuple(volumes) if named else ("the object",)
        arrays, axes = volumes_of(list(volumes.values()) if named else [volumes], names)
        axes = axes if pixel_size is None and like is None else None
        how = dict(like=like, quantity=quantity, axes=axes)
        if not named:
            return build_volume(arrays[0], None, pixel_size, **how)
        return build_volume(stack_channels(arrays, axis=1), names, pixel_size, **how)


class LazyTomographicVolume(LazyComputing, TomographicVolume, LazySignal2D):
    """A `TomographicVolume` whose data are a dask array."""


def mask_array(mask, shape: tuple[int, int, int], *, lazy: bool = False):
    """Return a mask given as (z, y, x), array or signal, as booleans (z, x, y) of that `shape`; with `lazy` dask if it is."""
    mask = plain(mask, ("z", "y", "x"), "the mask")
    mask = mask if lazy and hasattr(mask, "dask") else np.asarray(mask)
    expected = (shape[0], shape[2], shape[1])
    if mask.shape != expected:
        raise ValueError(
            f"the mask has the shape {mask.shape} but the volume is {expected} (z, y, x)"
        )
    if isinstance(mask, np.ndarray) and not mask.any():
        raise ValueError("the mask is empty: at least one voxel must be inside it")
    mask = mask.astype(bool).transpose(0, 2, 1)
    return np.ascontiguousarray(mask) if isinstance(mask, np.ndarray) else mask

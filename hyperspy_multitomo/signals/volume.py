# SPDX-License-Identifier: GPL-3.0-or-later
"""Reconstructed volumes and compositions as HyperSpy signals, axes ``(element, z | x, y)``."""

from __future__ import annotations

from hyperspy.signals import LazySignal2D

from hyperspy_multitomo.arguments import checked
from hyperspy_multitomo.reconstruction.slab_progress import counting_slabs
from hyperspy_multitomo.signals.base import TomographySignal
from hyperspy_multitomo.signals.methods import (
    construction,
    densities,
    exporting,
    haadf_composition,
    movies,
    napari_viewer,
    panels,
    profiles,
    quantifying,
    rerun,
    resolving,
    thresholds,
    volume_figures,
    volume_records,
)


class TomographicVolume(TomographySignal):
    """A volume, or one per element: axes ``(z | x, y)`` or ``(element, z | x, y)``.

    Array order (z, [element,] y, x).

    Voxels hold signal per unit length of path (`quantity` says which), or percent after `quantify`.
    ``volume["Au"]`` picks one element, ``"Au" in volume`` asks for one.
    """

    _signal_type = "TomographicVolume"

    from_arrays = classmethod(construction.from_arrays)

    # What is recorded with the volume.
    quantity = property(volume_records.get_quantity)
    residuals = property(volume_records.get_residuals)
    response_ratios = property(volume_records.get_ratios_used)
    dose = property(densities.get_dose_of_volume)

    to_script = rerun.to_script

    # Looking at the volume.
    explore = panels.explore
    plot_orthoslices = volume_figures.plot_orthoslices
    plot_volume = volume_figures.plot_volume
    plot_convergence = volume_figures.plot_convergence
    plot_weight_choice = volume_figures.plot_weight_choice
    plot_composition = volume_figures.plot_composition

    # What it resolves.
    edge_width = resolving.edge_width

    # Lines and moving pictures.
    profile = profiles.profile
    movie = movies.movie

    # The particle.
    find_threshold = thresholds.find_threshold
    plot_threshold = thresholds.plot_threshold

    # Composition and density.
    quantify = quantifying.quantify
    composition_errors = quantifying.composition_errors
    mean_composition = quantifying.mean_composition
    quantify_density = densities.quantify_density
    quantify_haadf = haadf_composition.quantify_haadf

    # Files of other programs.
    export = exporting.export
    to_napari = napari_viewer.to_napari


class LazyTomographicVolume(TomographicVolume, LazySignal2D):
    """A `TomographicVolume` whose data are a dask array."""

    @checked
    def compute(self, close_file=False, show_progressbar=None, **kwargs):
        """Compute the data and keep them in memory, with a bar that counts slabs.

        See HyperSpy's `LazySignal.compute` for the parameters.

        Where slabs are to be reconstructed the bar counts these; on a cluster its dashboard does.
        An interrupt stops the running slabs after their iteration.

        Raises
        ------
        RuntimeError
            Where the scheduler of a cluster is gone, or a slab ended several workers.
        """
        with counting_slabs(self.data, show_progressbar, **kwargs) as show:
            super().compute(close_file=close_file, show_progressbar=show, **kwargs)

    @checked
    def save(self, filename=None, overwrite=None, extension=None, file_format=None, **kwds):
        """Compute the data slab by slab and write each as it comes.

        See `TomographicVolume.save` for the parameters.

        Raises
        ------
        FileExistsError
            If the file exists and `overwrite` is not True.
        OSError
            If it cannot be written, such as on a full disk; what was there before is still there.
        RuntimeError
            As for `compute`.
        """
        with counting_slabs(self.data, kwds.pop("show_progressbar", None)) as show:
            bar = {} if show is None else {"show_progressbar": show}
            super().save(filename, overwrite, extension, file_format, **bar, **kwds)

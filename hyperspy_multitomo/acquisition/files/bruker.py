# SPDX-License-Identifier: GPL-3.0-or-later
"""The spectra of a Bruker .bcf file, checked when it is opened and decoded to sparse counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hyperspy_multitomo.acquisition.files.bruker_records import check_pixels, decode_pixels
from hyperspy_multitomo.acquisition.sparse_counts import dense_blocks
from hyperspy_multitomo.machine.lazy import is_lazy

__all__ = ["read_counts", "with_checked_spectra"]


def with_checked_spectra(path: Path, contents: list[dict], lazy: bool) -> list[dict]:
    """
    Replace the spectra that RosettaSciIO read lazily by those decoded here.

    Parameters
    ----------
    path : Path
    contents : list of dict
        Images, and the spectra as a dask array (y, x, energy). It is never computed: RosettaSciIO's
        compiled reader checks no lengths, so that a damaged file crashes the process.
    lazy : bool
        Leave the spectra in the file as a dask array.

    Returns
    -------
    list of dict

    Raises
    ------
    ValueError
        Where the map is damaged.
    """
    import dask

    for content in contents:
        cube = content["data"]
        if not is_lazy(cube):
            continue
        # All is checked now, so that a damaged file is reported when it is opened. RosettaSciIO's
        # type is an estimate, and signed where its reader was not compiled.
        largest = check_pixels(_stream(path), cube.shape)
        dtype = np.promote_types(f"u{cube.dtype.itemsize}", np.min_scalar_type(largest))
        data = dense_blocks(
            dask.delayed(read_counts, pure=True)(path, cube.shape, dtype), cube.shape, dtype
        )
        content["data"] = data if lazy else data.compute()
    return contents


def read_counts(path: Path, shape: tuple[int, int, int], dtype: np.dtype):
    """
    Return the counts of the first map of a file.

    Parameters
    ----------
    path : Path
    shape : (int, int, int)
        Rows, columns and channels.
    dtype : dtype
        Of the counts; large enough for the largest.

    Returns
    -------
    csr_matrix (y * x, energy)

    Raises
    ------
    ValueError
        Where the map is damaged.
    """
    from scipy.sparse import csr_matrix

    counts, channels, starts = decode_pixels(_stream(path), shape)
    return csr_matrix(
        (counts.astype(dtype), channels, starts), shape=(shape[0] * shape[1], shape[2])
    )


def _stream(path: Path) -> np.ndarray:
    """Return the bytes of the first map of a file."""
    from rsciio.bruker._api import SFS_reader

    container = SFS_reader(str(path))
    maps = [name for name in container.vfs["EDSDatabase"] if name.startswith("SpectrumData")]
    pieces, _, _ = container.get_file(f"EDSDatabase/{min(maps)}").get_iter_and_properties()
    return np.frombuffer(b"".join(pieces), np.uint8)

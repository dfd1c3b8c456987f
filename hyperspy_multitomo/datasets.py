# SPDX-License-Identifier: GPL-3.0-or-later
"""Measured tilt series to learn from: looked for in a local folder, else downloaded and verified.

The files are those of their authors, at one commit of their repositories on GitHub. Each is
verified by its SHA-256 wherever it comes from. The environment variable ``MULTITOMO_DATA`` names a
folder that is looked in first, with ``quantum_dots/`` and ``idp_l2083/`` in it; what it lacks is
downloaded once, to the cache folder of the user (`pooch.os_cache`).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np

if TYPE_CHECKING:
    from hyperspy_multitomo.signals import TiltSeriesEDS, TiltSeriesHAADF

__all__ = ["dust_particle", "quantum_dots"]

_VARIABLE = "MULTITOMO_DATA"
_HOST = "https://raw.githubusercontent.com"
# Repository, commit and folder of the files of each data set.
_SOURCES = {
    "quantum_dots": "bispl-kaist/Deep-Learning-STEM-EDX-Tomography/"
    "1d08359ef0e6044c0968ed1d98bb4faab3e6e78b/"
    "Deep_Learning_STEM-EDX_Tomography/data_preparation/data/3D tomography/QD2",
    "idp_l2083": "ercius/openNCEM/749ec1a8456f6c84f21021908ad5019b041fb42b/"
    "ncempy/data/L2083-K-4-1/ConvertBrukerToEMD/Input",
}
# SHA-256 of each file, in the order of the tilts.
_FILES = {
    "quantum_dots": {
        "input_0143.mat": "5f72be3882a475b09995bd6e21e353ff3f843501bb4d4a6311bf42e41d4b3a52",
        "input_0144.mat": "c146be31730eb73eef475ba5c3b9edeb3b8562c4f79be25745a59209df31f5e5",
        "input_0145.mat": "c7b783eaedc3c7cde735fa8f751915412fb3e44f727f8b9473b211ff2c3e0c09",
        "input_0146.mat": "157965045c7dc2fd75fddba561e189647d33b7b9144cf50d38d442c926c27f00",
        "input_0147.mat": "c45c90f67a72979520c983b9fab5a641b06143a92bfc836c92c1ff22dcab66c9",
        "input_0148.mat": "222f29bed9ee0ee1993126686bd684cfe2acf6302c83bb652fde9fce91fa6322",
        "input_0149.mat": "5f37864b6d93a10b867b3f73599dc69c9f553dbc452daa3d0144185e512a29e9",
        "input_0150.mat": "d0939b707673a83c4a0f96a4b4e30d5f6cacf3449592affca580df04564bd1da",
        "input_0151.mat": "8544ae148085d40b664d2b496a5252805f387f8a74b7717e5fa04d33487dc68d",
        "input_0152.mat": "2cf68a384f33c2818de849f452251ea10219ca3e3f8e44bc7a0ddcaa64b5afbb",
        "input_0153.mat": "64f5baeb04040ae6e39ac6b97b30662b2daaeefcae69a4060828ad89a441f0aa",
        "input_0154.mat": "bcca682c5aca43cd182f985e6dfc5db05f31d525b124c20dd12cb2a5e7b5b36e",
        "input_0155.mat": "b744700cdc4bcd11ece743f3d3a525c9709e1d2da727f782815d7c9b7d5a6ada",
    },
    "idp_l2083": {
        "-40.bcf": "d0d7e3684d00e9664bed231f701ddebdc5f24e0c56df1025500e7ec3feb40050",
        "-35.bcf": "52ca74bcd01f82cd5efe19771cd47d3a4f9c720bd9e93cf2ced0eb3b94e1f684",
        "-30.bcf": "a44f0e99056213ebd0e1ab4c92a62988e200ace912af7873001fc06203c96809",
        "-25.bcf": "632b4c09f0f9a21e92d0910b77117138290fe72fb03422cfbde3c79ea2bcea01",
        "-20.bcf": "bfbd8e8dcdd679c10b248663f44fa6c1000b1e4799921d5407db8e23fa069a61",
        "-15.bcf": "93c44b5f515161db731e64712267958bd5dc0c3f6efb7076ff7760db8b2be14d",
        "-10.bcf": "94f637d06a4170dc5bbec9f8d6d0ba6dc1433a0edd3e42111e3e5ea6b26bfe68",
        "-5.bcf": "cde96e3c596cd1e714967ad01032b90010b5a6009e5de58c9eb81fabdd281117",
        "0.bcf": "b13e3d11639b1d312b4e1719cc762cacd63d96c237ea9d0c80be45a1d1a9d06e",
        "5.bcf": "7fe51f31db5401c79f513d15bd3ee6c228248da05d74d65d1292577ef6f58dd9",
        "10.bcf": "a8c6d2cdd8a3cad8557564727a072dc7677694b45a1196a428c5f8eb12bf4f66",
        "15.bcf": "c535f9eb24abaec5608439ede24ec1b653acfeb35e87575b8d3eac402769af7a",
        "20.bcf": "b780ae57abb3a836f911aa8a98473ffa47d1ab3d8fb507fb2909573009c5bc77",
        "25.bcf": "763999ae43de3a6231dab28cf61c2a9c7d75c0f5722cb92cf6c50311a860b3f4",
        "30.bcf": "cc9a684105bf93e30358ccd8237fc29a7bef359d079e3d040539608575a10e85",
        "35.bcf": "0a67c8aa94bf8545c50824d9b8d86397cf48d9ac48a376990820a524b66dc124",
    },
}
# The maps of the quantum dots in one compressed file of 0.1 MB, which a local folder may hold
# instead of the thirteen: `counts`, (element, tilt, y, x) as whole numbers.
_COMPACT = "core_shell_13_tilts.npz"
# SHA-256 of these counts as uint8, by which that file is verified.
_COUNTS = "8b1385968ff60d8435204e46b68ed299129f988dc55ff043b2975c07b385fd5e"


def quantum_dots() -> TiltSeriesEDS:
    """Load the EDS tilt series of InP/ZnSe/ZnS quantum dots of Han et al. [1]_.

    Se is in the inner shell around the core, S in the outer one, Zn in both. Maps of three elements
    at 0.02 to 0.035 counts per pixel, not aligned, without HAADF and without spectra: 13 files of
    0.8 MB.

    Returns
    -------
    TiltSeriesEDS
        Elements Se, S, Zn; 13 tilts from -60 to 60 degrees in steps of 10; 256 x 256 px. Counts as
        the files hold them, 0 or 1. No pixel size is known (a dot is about 10 nm), so that lengths
        are in px. The tilt axis is the vertical axis of the images.

    Raises
    ------
    ValueError
        For a file of the local folder that is not the original.
    OSError
        Where a file is neither in the local folder nor can be downloaded.

    Notes
    -----
    There is no known truth. The files do not record the tilts: the range is that of the paper, and
    the order, and with it the handedness of the volume, is that of the file numbers. No pixel holds
    more than one count, although at these rates some 670 (S) to 1590 (Zn) pixels should: 3 to 5 %
    of the counts are lost, up to a fifth in the middle of a dot. The counts of a tilt grow fourfold
    towards 60 degrees. The page on data sets says what the series can show.

    The data are from bispl-kaist/Deep-Learning-STEM-EDX-Tomography at commit 1d08359, folder QD2,
    licence Apache-2.0.

    References
    ----------
    .. [1] Y. Han et al., Deep learning STEM-EDX tomography of nanocrystals, Nat. Mach. Intell. 3
       (2021) 267, https://doi.org/10.1038/s42256-020-00289-5.

    Examples
    --------
    >>> import hyperspy_multitomo as mt
    >>> eds = mt.datasets.quantum_dots()  # doctest: +SKIP
    >>> eds  # doctest: +SKIP
    <TiltSeriesEDS, title: Quantum dots, dimensions: (3, 13|256, 256)>
    """
    from hyperspy_multitomo.signals import TiltSeriesEDS

    compact = _local("quantum_dots", _COMPACT)
    counts = _counts_of_files() if compact is None else _compact_counts(compact)
    maps = dict(zip(("Se", "S", "Zn"), counts, strict=True))
    eds = TiltSeriesEDS.from_maps(maps, tilts=np.arange(-60.0, 61.0, 10.0))
    eds.metadata.General.title = "Quantum dots"
    eds.metadata.General.doi = "10.1038/s42256-020-00289-5"
    return eds


def dust_particle(*, lazy: bool | None = None) -> tuple[TiltSeriesHAADF, object]:
    """Load the HAADF and EDS tilt series of the interplanetary dust particle L2083-K-4-1.

    A particle from the stratosphere in a lamella of about 200 nm that a focused ion beam cut; taken
    at 200 kV with four detectors (Super-X) by Z. Gainsforth at the National Center for Electron
    Microscopy, Berkeley. 16 Bruker files, 54 MB together.

    Parameters
    ----------
    lazy : bool, optional
        As of `load_tilt_series`: by default the images are read and the spectra stay on disk.

    Returns
    -------
    haadf : TiltSeriesHAADF
        16 tilts from -40 to 35 degrees in steps of 5, which only the file names say; 256 x 256 px
        of 13.08 nm.
    spectra : EDSTEMSpectrum or LazyEDSTEMSpectrum
        ``(x, y, tilt | Energy)``, 2048 channels of 10 eV. The metadata list the elements and lines
        that the microscope's operator chose: Al, C, Ca, Cr, Cu, Fe, Ga, Mg, N, Na, O, Pt, S, Si,
        Ti.

    Raises
    ------
    ValueError
        For a file of the local folder that is not the original.
    OSError
        Where a file is neither in the local folder nor can be downloaded.

    Notes
    -----
    There is no known truth. Each element has 0.1 to 0.9 counts per pixel. The view cuts the
    specimen; Ti, Cu and Pt of the holder, the grid and the strap grow with the tilt; the sign of
    the tilts is not known. The page on data sets says what the series can show.

    The data are from ercius/openNCEM at commit 749ec1a, licence GPL-3.0. The repository has five
    tilts more, -50, -45, 40, 45 and 50 degrees.

    Examples
    --------
    >>> import hyperspy_multitomo as mt
    >>> haadf, spectra = mt.datasets.dust_particle()  # doctest: +SKIP
    >>> haadf  # doctest: +SKIP
    <TiltSeriesHAADF, title: HAADF, dimensions: (16|256, 256)>
    """
    from hyperspy_multitomo.signals import load_tilt_series

    return load_tilt_series(_paths("idp_l2083"), tilts="filename", lazy=lazy)


def _counts_of_files() -> np.ndarray:
    """Return the counts (element, tilt, y, x) of the thirteen files."""
    from scipy.io import loadmat

    return np.stack([loadmat(path)["input"] for path in _paths("quantum_dots")]).transpose(
        3, 0, 1, 2
    )


def _compact_counts(path: Path) -> np.ndarray:
    """Return the counts (element, tilt, y, x) of the compact file, verified."""
    with np.load(path) as file:
        counts = np.ascontiguousarray(file["counts"], dtype=np.uint8)
    _check(path, hashlib.sha256(counts.tobytes()).hexdigest(), _COUNTS)
    return counts


def _paths(name: str) -> list[Path]:
    """Return the files of a data set, from the local folder or downloaded, all verified."""
    return [_path(name, file, known) for file, known in _FILES[name].items()]


def _path(name: str, file: str, known: str) -> Path:
    """Return one file, verified by its SHA-256."""
    path = _local(name, file)
    if path is None:
        return _downloaded(name, file, known)
    _check(path, hashlib.sha256(path.read_bytes()).hexdigest(), known)
    return path


def _local(name: str, file: str) -> Path | None:
    """Return a file of the folder that the environment names, None where it is not there."""
    folder = os.environ.get(_VARIABLE)
    if not folder:
        return None
    if not Path(folder).is_dir():
        raise FileNotFoundError(
            f"{_VARIABLE}={folder} is no folder; name the one that holds {' and '.join(_FILES)}, "
            "or unset it to download the files"
        )
    path = Path(folder) / name / file
    return path if path.is_file() else None


def _check(path: Path, found: str, known: str) -> None:
    if found != known:
        raise ValueError(
            f"{path} is not the original: its SHA-256 is {found}, expected {known}. Copy the file "
            "again, or move it away to have it downloaded"
        )


def _downloaded(name: str, file: str, known: str) -> Path:
    """Return a file of the cache, downloaded where it is not there yet."""
    import pooch

    url = "/".join([_HOST, quote(f"{_SOURCES[name]}/{file}")])
    try:
        return Path(pooch.retrieve(url, f"sha256:{known}", file, _cache() / name))
    except (OSError, ValueError) as error:
        # requests' errors are OSErrors; pooch raises a ValueError for another hash.
        raise OSError(
            f"{file} could not be downloaded from {url}: {error}. Where there is no internet, "
            f"copy the files to a folder {name} and name the folder above it in {_VARIABLE}"
        ) from error


def _cache() -> Path:
    """Return the folder that downloaded files are kept in."""
    import pooch

    return Path(pooch.os_cache("hyperspy_multitomo"))

# SPDX-License-Identifier: GPL-3.0-or-later
"""The data sets come from a local folder or a server, and nothing but the originals is accepted."""

import functools
import hashlib
import http.server
import shutil
import struct
import threading
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

import hyperspy_multitomo as mt
from hyperspy_multitomo import datasets

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
COMPACT = DATA / "quantum_dots" / "core_shell_13_tilts.npz"
needs_dots = pytest.mark.skipif(not COMPACT.is_file(), reason=f"{COMPACT.name} is not there")
needs_particle = pytest.mark.skipif(
    not (DATA / "idp_l2083").is_dir(), reason="the files of idp_l2083 are not there"
)


class Server(http.server.SimpleHTTPRequestHandler):
    """A file server that keeps quiet and lists what it was asked for."""

    asked: list

    def do_GET(self):
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def asked():
    """The addresses that the file server was asked for."""
    return []


@pytest.fixture
def server(asked, tmp_path, monkeypatch):
    """A folder behind a file server on loopback, in place of GitHub, with an empty cache."""
    folder, handler = tmp_path / "server", type("Handler", (Server,), {"asked": asked})
    folder.mkdir()
    running = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(handler, directory=folder)
    )
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    monkeypatch.setattr(datasets, "_HOST", f"http://127.0.0.1:{running.server_port}")
    monkeypatch.setattr(datasets, "_cache", lambda: tmp_path / "cache")
    monkeypatch.delenv("MULTITOMO_DATA", raising=False)
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    yield folder
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture
def two_files(server, monkeypatch):
    """A data set of two small files, on the server."""
    contents = {"-5.txt": b"minus five", "a b.txt": b"blank"}
    known = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setitem(datasets._FILES, "small", known)
    monkeypatch.setitem(datasets._SOURCES, "small", "someone/something/0123abc/a folder")
    place = server / "someone" / "something" / "0123abc" / "a folder"
    place.mkdir(parents=True)
    for name, content in contents.items():
        (place / name).write_bytes(content)
    return place


def contents(name: str) -> list[bytes]:
    return [path.read_bytes() for path in datasets._paths(name)]


def test_files_are_downloaded_once(two_files, asked, tmp_path):
    assert contents("small") == contents("small") == [b"minus five", b"blank"]
    assert asked == [
        quote(f"/someone/something/0123abc/a folder/{name}") for name in ("-5.txt", "a b.txt")
    ]
    assert sorted(path.name for path in (tmp_path / "cache" / "small").iterdir()) == [
        "-5.txt",
        "a b.txt",
    ]


def test_a_damaged_file_in_the_cache_is_downloaded_again(two_files, asked, tmp_path):
    contents("small")
    (tmp_path / "cache" / "small" / "-5.txt").write_bytes(b"minus")
    assert contents("small") == [b"minus five", b"blank"]
    assert len(asked) == 3


def test_a_wrong_download_is_refused_and_not_kept(two_files, tmp_path):
    (two_files / "a b.txt").write_bytes(b"blanc")
    with pytest.raises(OSError, match=r"a b\.txt could not be downloaded.*hash.*MULTITOMO_DATA"):
        datasets._paths("small")
    assert [path.name for path in (tmp_path / "cache" / "small").iterdir()] == ["-5.txt"]


def test_a_file_that_is_not_on_the_server(two_files):
    (two_files / "-5.txt").unlink()
    with pytest.raises(OSError, match=r"-5\.txt could not be downloaded from http.*404"):
        datasets._paths("small")


def test_without_internet(two_files, monkeypatch):
    monkeypatch.setattr(datasets, "_HOST", "http://127.0.0.1:9")  # the discard port
    with pytest.raises(OSError, match="copy the files to a folder small .* MULTITOMO_DATA"):
        datasets._paths("small")


def test_the_local_folder_comes_first(two_files, asked, tmp_path, monkeypatch):
    monkeypatch.setenv("MULTITOMO_DATA", str(tmp_path / "local"))
    (tmp_path / "local" / "small").mkdir(parents=True)
    shutil.copy(two_files / "-5.txt", tmp_path / "local" / "small")
    first, second = datasets._paths("small")
    assert first.parent == tmp_path / "local" / "small"
    assert second.parent == tmp_path / "cache" / "small"  # only what the folder lacks
    assert len(asked) == 1


def test_another_file_in_the_local_folder_is_refused_and_left(two_files, tmp_path, monkeypatch):
    monkeypatch.setenv("MULTITOMO_DATA", str(tmp_path / "local"))
    (tmp_path / "local" / "small").mkdir(parents=True)
    other = tmp_path / "local" / "small" / "-5.txt"
    other.write_bytes(b"my own")
    with pytest.raises(ValueError, match=r"-5\.txt is not the original.*SHA-256"):
        datasets._paths("small")
    assert other.read_bytes() == b"my own"


def test_a_local_folder_that_is_none(two_files, tmp_path, monkeypatch):
    monkeypatch.setenv("MULTITOMO_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="MULTITOMO_DATA=.*nowhere is no folder"):
        datasets._paths("small")


def write_mat(path: Path, counts: np.ndarray) -> None:
    """Write counts (element, y, x) as the authors' MATLAB 5 files, byte for byte."""
    # MATLAB keeps the first axis, y, fastest.
    data = np.ascontiguousarray(counts.transpose(0, 2, 1), "<f4").tobytes()
    text = b"MATLAB 5.0 MAT-file, Platform: PCWIN64, Created on: Fri Aug 16 12:17:24 2019"
    header = text.ljust(116) + bytes(8) + b"\x00\x01IM"
    flags = struct.pack("<4I", 6, 8, 7, 0)
    shape = struct.pack("<6I", 5, 12, counts.shape[1], counts.shape[2], counts.shape[0], 0)
    name = struct.pack("<2I", 1, 5) + b"input\0\0\0"
    array = flags + shape + name + struct.pack("<2I", 7, len(data)) + data
    path.write_bytes(header + struct.pack("<2I", 14, len(array)) + array)


@needs_dots
def test_quantum_dots_are_the_same_from_either_file(server, asked, tmp_path, monkeypatch):
    """The hashes are those of files that hold exactly the counts of the compact one."""
    place = server / datasets._SOURCES["quantum_dots"]
    place.mkdir(parents=True)
    counts = np.load(COMPACT)["counts"]
    for tilt, name in enumerate(datasets._FILES["quantum_dots"]):
        write_mat(place / name, counts[:, tilt])
    downloaded = mt.datasets.quantum_dots()
    assert len(asked) == 13
    monkeypatch.setenv("MULTITOMO_DATA", str(DATA))
    compact = mt.datasets.quantum_dots()
    assert len(asked) == 13
    for eds in (downloaded, compact):
        assert type(eds) is mt.TiltSeriesEDS
        assert eds.elements == ("Se", "S", "Zn")
        assert eds.pixel_size is None
        np.testing.assert_array_equal(eds.tilts, np.arange(-60, 61, 10))
        np.testing.assert_array_equal(eds.array("element", "tilt", "y", "x"), counts)
    np.testing.assert_equal(downloaded.metadata.as_dictionary(), compact.metadata.as_dictionary())


@needs_dots
def test_other_counts_in_the_compact_file_are_refused(server, tmp_path, monkeypatch):
    changed = np.load(COMPACT)["counts"].copy()
    changed[0, 0, 0, 0] += 1
    (tmp_path / "quantum_dots").mkdir()
    np.savez_compressed(tmp_path / "quantum_dots" / COMPACT.name, counts=changed)
    monkeypatch.setenv("MULTITOMO_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="core_shell_13_tilts.npz is not the original"):
        mt.datasets.quantum_dots()


@needs_particle
def test_files_of_the_particle_are_those_of_the_repository(server, asked):
    place = server / datasets._SOURCES["idp_l2083"]
    place.parent.mkdir(parents=True)
    place.symlink_to(DATA / "idp_l2083")
    paths = datasets._paths("idp_l2083")
    assert [path.name for path in paths] == [f"{tilt}.bcf" for tilt in range(-40, 36, 5)]
    assert len(asked) == 16


@needs_particle
@pytest.mark.slow
def test_the_particle_is_ready_to_use(monkeypatch):
    monkeypatch.setenv("MULTITOMO_DATA", str(DATA))
    haadf, spectra = mt.datasets.dust_particle()
    np.testing.assert_array_equal(haadf.tilts, np.arange(-40, 36, 5))
    np.testing.assert_array_equal(spectra.axes_manager["tilt"].axis, haadf.tilts)
    assert haadf.pixel_size == pytest.approx(13.08, abs=0.01)
    assert spectra._lazy
    assert spectra.data.shape == (16, 256, 256, 2048)
    assert {"O", "Mg", "Si", "Fe"} <= set(spectra.metadata.Sample.elements)
    assert spectra.metadata.Acquisition_instrument.TEM.beam_energy == 200

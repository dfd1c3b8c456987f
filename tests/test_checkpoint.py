# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints: files that are whole whatever happens, written when they should be,
and files that are not taken."""

import errno
import json
import os
import subprocess
import sys
import zipfile
from hashlib import blake2b

import numpy as np
import pytest
from solver_cases import SHAPE, SOLVERS, A, assert_same, counts, textbook

from hyperspy_multitomo.tomography import Checkpoint, fingerprint, run, sirt
from hyperspy_multitomo.tomography import checkpoint as module


@pytest.fixture
def kept(tmp_path):
    return Checkpoint(tmp_path / "run.state")


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np
from hyperspy_multitomo.tomography.checkpoint import Checkpoint

kept = Checkpoint(sys.argv[1])
state = {f"a{n}": np.zeros(200_000, np.float32) for n in range(8)}
random.seed(1)
torn = 0
for round in range(20):
    child = os.fork()
    if child == 0:
        for number in range(1, 10**6):
            [array.fill(number) for array in state.values()]
            kept.save(state, {"number": number})
    while not kept.path.exists():
        time.sleep(0.001)
    time.sleep(random.uniform(0, 0.1))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    stored = kept.load()
    assert len(stored) == 8
    for array in stored.values():
        assert (array == stored.header["about"]["number"]).all()
    left = [path for path in kept.path.parent.iterdir() if path != kept.path]
    assert len(left) <= 1, left
    torn += len(left)
kept.save({})
assert list(kept.path.parent.iterdir()) == [kept.path]
print(torn)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork and SIGKILL")
def test_killed_at_any_time_the_file_is_whole(kept):
    """Killed while it saves, twenty times:
    what is there can be loaded, and leftovers do not pile up."""
    found = subprocess.run(
        [sys.executable, "-c", KILLED, str(kept.path)], capture_output=True, text=True, timeout=300
    )
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) > 0, "none was killed while it wrote: the test says nothing"


class TestSaving:
    def test_at_intervals(self, tmp_path, monkeypatch):
        """No more often than asked for, counted from the end of a save."""
        clock, saves = [0.0], []
        monkeypatch.setattr("hyperspy_multitomo.tomography.iterates.monotonic", lambda: clock[0])
        kept = Checkpoint(tmp_path / "run.state", every=10)

        def save(state, about):
            saves.append((about["iteration"], clock[0]))
            clock[0] += 100

        monkeypatch.setattr(kept, "save", save)

        def tick(iterate):
            clock[0] += 4

        run(SOLVERS["sirt"](), 8, checkpoint=kept, progress=tick)
        assert [iteration for iteration, _ in saves] == [3, 6, 8]

    def test_after_every_iteration(self, tmp_path):
        kept, seen = Checkpoint(tmp_path / "run.state", every=0), []

        def look(iterate):
            seen.append(kept.load().header["about"]["iteration"] if kept.path.exists() else None)

        run(SOLVERS["sirt"](), 4, checkpoint=kept, progress=look)
        assert seen == [None, 1, 2, 3]
        assert kept.load().header["about"]["iteration"] == 4

    def test_without_a_checkpoint_nothing_is_resumed(self):
        result = run(SOLVERS["sirt"](), 2)
        assert result.resumed_at is None

    def test_a_failing_save_does_not_lose_the_run(self, tmp_path, monkeypatch):
        """As on a full disk: the run is told once, and at its end, and the file stays."""
        kept = Checkpoint(tmp_path / "run.state", every=0)
        full, write = [False], np.lib.format.write_array

        def fail(file, array, **more):
            if full[0] and array.size > 100:
                file.write(b"some of it")
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            write(file, array, **more)

        monkeypatch.setattr(module.np.lib.format, "write_array", fail)

        def fill(iterate):
            full[0] = iterate.iteration >= 4

        with pytest.warns(UserWarning, match="could not be written") as told:
            result = run(SOLVERS["sirt"](), 8, checkpoint=kept, progress=fill)
        messages = [str(warning.message) for warning in told]
        assert len(messages) == 2
        assert all(
            "the disk is full" in text and "the one before it is whole" in text for text in messages
        )
        assert "goes on" in messages[0]
        assert "is returned" in messages[1]
        assert kept.load().header["about"]["iteration"] == 3
        assert list(tmp_path.iterdir()) == [kept.path]
        np.testing.assert_array_equal(result.volume, run(SOLVERS["sirt"](), 8).volume)
        full[0] = False
        assert_same(run(SOLVERS["sirt"](), 8, checkpoint=kept, resume=True), result)

    def test_a_full_disk(self, tmp_path):
        """A device that is always full, through the system's own error."""
        if not os.path.exists("/dev/full"):
            pytest.skip("this system has no /dev/full")
        kept = Checkpoint(tmp_path / "run.state")
        kept.save({"a": np.zeros(4)}, {"iteration": 1})
        with pytest.MonkeyPatch.context() as patch:
            opened = open
            patch.setattr(
                module,
                "open",
                lambda path, mode: opened("/dev/full" if mode == "wb" else path, mode),
                raising=False,
            )
            with pytest.raises(
                OSError, match="the disk is full.*the one before it is whole"
            ) as caught:
                kept.save({"a": np.zeros(10**6)})
        assert caught.value.errno == errno.ENOSPC
        assert kept.load().header["about"]["iteration"] == 1
        with pytest.raises(OSError, match="could not be written .*there is none before it"):
            Checkpoint(kept.path / "below" / "a.state").save({})

    def test_interrupted_while_it_saves_at_the_end(self, kept, monkeypatch):
        def stop(iterate):
            if iterate.iteration == 3:
                raise KeyboardInterrupt

        def again(*arguments):
            raise KeyboardInterrupt

        monkeypatch.setattr(module.zipfile.ZipFile, "writestr", again)
        with (
            pytest.warns(UserWarning, match="interrupted once more: .* was not written anew"),
            pytest.warns(UserWarning, match="this is iteration 3 of 8"),
        ):
            result = run(SOLVERS["sirt"](), 8, checkpoint=kept, progress=stop)
        assert (result.iterations, result.stopped_by) == (3, "interrupt")
        assert list(kept.path.parent.iterdir()) == []


class TestFile:
    def test_numpy_reads_it(self, kept):
        run(SOLVERS["sirt"](), 3, checkpoint=kept)
        with np.load(kept.path) as archive:
            assert archive["volume"].shape == (2, *SHAPE, 70)
            about = json.loads(archive["about.json"])
        assert about["about"]["iteration"] == 3
        assert len(about["about"]["history"]) == 3

    def test_whatever_is_given_comes_back(self, kept):
        given = {
            "a": np.arange(6, dtype=np.int16).reshape(2, 3),
            "strided": np.arange(24.0).reshape(4, 6)[::2, ::3],
            "fortran": np.asfortranarray(np.random.default_rng(0).random((3, 4, 5), np.float32)),
            "none": np.zeros((0, 3)),
            "number": np.array(True),
        }
        kept.save(iter(given.items()))
        stored = kept.load()
        assert list(stored) == list(given)
        for name, array in given.items():
            assert stored[name].dtype == array.dtype
            np.testing.assert_array_equal(stored[name], array)
        assert "b" not in stored
        with pytest.raises(KeyError):
            stored["b"]

    def test_objects_are_not_kept(self, kept):
        with pytest.raises(ValueError, match="allow_pickle"):
            kept.save({"a": np.array([object()])})
        assert list(kept.path.parent.iterdir()) == []

    @pytest.mark.parametrize(
        "name", ["sirt", "cgls", "tv", "tv, 2-D", "tgv", "tgv, 2-D", "power, tv", "power, tgv"]
    )
    def test_size_is_that_of_the_docstring(self, kept, name):
        iterates = SOLVERS[name]()
        result = run(iterates, 4, checkpoint=kept)
        system = next(SOLVERS[name]())._steps.system
        data = (
            sum(t.data.nbytes for t in system.terms)
            if hasattr(system, "terms")
            else system.projections.nbytes
        )
        volumes, sets = {
            "sirt": (1, 0),
            "cgls": (3, 5),
            "tv": (5, 1),
            "tv, 2-D": (4, 1),
            "tgv": (17, 1),
            "tgv, 2-D": (11, 1),
            "power, tv": (5, 1),
            "power, tgv": (21, 1),
        }[name]
        expected = volumes * result.volume.nbytes + sets * data
        assert expected <= kept.path.stat().st_size < expected + 12_000

    def test_missing(self, kept):
        with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
            kept.load()
        with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
            run(SOLVERS["sirt"](), 3, checkpoint=kept, resume=True)

    @pytest.mark.parametrize("content", [b"", b"PK", b"some notes", bytes(1000)])
    def test_no_checkpoint(self, kept, content):
        kept.path.write_bytes(content)
        with pytest.raises(ValueError, match="is not a checkpoint of hyperspy_multitomo"):
            kept.load()

    def test_another_archive(self, kept):
        with open(kept.path, "wb") as file:
            np.savez(file, a=np.zeros(3))
        with pytest.raises(ValueError, match="is not a checkpoint of hyperspy_multitomo"):
            kept.load()

    def test_truncated(self, kept):
        run(SOLVERS["sirt"](), 3, checkpoint=kept)
        whole = kept.path.read_bytes()
        for length in (100, len(whole) // 2, len(whole) - 1):
            kept.path.write_bytes(whole[:length])
            with pytest.raises(ValueError, match="damaged or cut off"):
                run(SOLVERS["sirt"](), 6, checkpoint=kept, resume=True)

    def test_a_flipped_bit(self, kept):
        run(SOLVERS["sirt"](), 3, checkpoint=kept)
        content = bytearray(kept.path.read_bytes())
        content[len(content) // 2] ^= 4
        kept.path.write_bytes(content)
        with pytest.raises(ValueError, match="damaged or cut off"):
            run(SOLVERS["sirt"](), 6, checkpoint=kept, resume=True)

    @staticmethod
    def change(path, **entries):
        """Write the file anew with other entries at its head."""
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        members["about.json"] = json.dumps(json.loads(members["about.json"]) | entries)
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)

    def test_another_format(self, kept):
        run(SOLVERS["sirt"](), 3, checkpoint=kept)
        self.change(kept.path, format=2, version="0.0.9")  # whose states are of the whole volume
        with pytest.raises(ValueError, match="format 2, of version 0.0.9 .* reads the format 3"):
            kept.load()

    def test_another_version_warns(self, kept):
        run(SOLVERS["sirt"](), 3, checkpoint=kept)
        self.change(kept.path, version="9.9")
        with pytest.warns(UserWarning, match="written by version 9.9"):
            result = run(SOLVERS["sirt"](), 6, checkpoint=kept, resume=True)
        assert_same(result, run(SOLVERS["sirt"](), 6))


class TestAnotherRun:
    def test_key(self, tmp_path):
        data = counts()
        key = {
            "alpha": 0.5,
            "ratios": [3.0, 50.0],
            "options": {"mask": None, "weight": np.float32(2)},
            "data": data,
        }
        Checkpoint(tmp_path / "a", key=key).save({})
        Checkpoint(
            tmp_path / "a",
            key={**key, "data": fingerprint(data), "options": {"weight": 2.0, "mask": None}},
        ).load()
        other = {
            "alpha": 0.7,
            "ratios": (3.0, 50.0),
            "options": {"mask": None},
            "data": data + 1,
            "more": 1,
        }
        with pytest.raises(ValueError, match="the checkpoint of another run") as caught:
            Checkpoint(tmp_path / "a", key=other).load()
        text = str(caught.value)
        assert "`alpha` is 0.7 and was 0.5" in text
        assert "`options.weight` is missing and was 2.0" in text
        assert "`more` is 1 and was missing" in text
        assert "`data`" in text
        assert "`ratios`" not in text
        assert "`options.mask`" not in text

    def test_long_entries_are_told_apart(self, tmp_path):
        Checkpoint(tmp_path / "a", key={"tilts": list(range(100))}).save({})
        with pytest.raises(ValueError, match=r"`tilts` is \[0, 1.*\.\.\. \(\w{8}\) and was \[0, 1"):
            Checkpoint(tmp_path / "a", key={"tilts": [*range(99), 0]}).load()

    def test_of_a_key_that_is_a_text(self, tmp_path):
        Checkpoint(tmp_path / "a", key="SIRT of Tuesday").save({})
        with pytest.raises(ValueError, match='`key` is "SIRT of Friday" and was "SIRT of Tuesday"'):
            Checkpoint(tmp_path / "a", key="SIRT of Friday").load()
        with pytest.raises(ValueError, match="`key` is missing"):
            Checkpoint(tmp_path / "a").load()

    @pytest.mark.parametrize(
        ("other", "entry"),
        [
            (lambda: sirt(A, counts()), "`volume`"),
            (textbook(SOLVERS["sirt"]), '`form` is "TextbookSteps" and was "FusedSteps"'),
            (SOLVERS["cgls, two groups"], "`form`"),
            (SOLVERS["tv"], '`kind` is "tv" and was missing'),
        ],
    )
    def test_another_solver(self, kept, other, entry):
        run(SOLVERS["sirt"](), 3, checkpoint=kept)
        with pytest.raises(ValueError, match=entry):
            run(other(), 6, checkpoint=kept, resume=True)

    def test_another_regulariser(self, kept):
        run(SOLVERS["tv, 2-D"](), 3, checkpoint=kept)
        with pytest.raises(ValueError, match='another solver: `kind` is "tgv" and was "tv"'):
            run(SOLVERS["tgv, 2-D"](), 6, checkpoint=kept, resume=True)

    def test_beyond_what_is_asked_for(self, kept):
        run(SOLVERS["sirt"](), 5, checkpoint=kept)
        with pytest.raises(ValueError, match="at iteration 5, beyond the 4 that are asked for"):
            run(SOLVERS["sirt"](), 4, checkpoint=kept, resume=True)

    def test_not_of_a_run(self, kept):
        kept.save({"volume": np.zeros(3)})
        with pytest.raises(ValueError, match="another solver"):
            run(SOLVERS["sirt"](), 4, checkpoint=kept, resume=True)


class TestBadInput:
    def test_an_existing_file_is_not_lost(self, kept):
        run(SOLVERS["sirt"](), 3, checkpoint=kept)
        before = kept.path.read_bytes()
        with pytest.raises(FileExistsError, match="resume=True to go on from there"):
            run(SOLVERS["sirt"](), 3, checkpoint=kept)
        assert kept.path.read_bytes() == before

    def test_resume_without_a_checkpoint(self):
        with pytest.raises(ValueError, match="without a `checkpoint`"):
            run(SOLVERS["sirt"](), 3, resume=True)

    def test_a_path_is_no_checkpoint(self, tmp_path):
        with pytest.raises(TypeError, match=r"expected a Checkpoint\(path\)"):
            run(SOLVERS["sirt"](), 3, checkpoint=str(tmp_path / "a"))

    @pytest.mark.parametrize("every", [-1, "often", np.nan, None])
    def test_interval(self, tmp_path, every):
        with pytest.raises(ValueError, match="`every` is .*; expected seconds"):
            Checkpoint(tmp_path / "a", every=every)

    def test_key_that_cannot_be_kept(self, tmp_path):
        with pytest.raises(TypeError, match="`key` cannot be kept: .* is a object"):
            Checkpoint(tmp_path / "a", key={"solver": object()})


class TestFingerprint:
    def test_values_names_types_and_shapes_count(self):
        array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
        changed = array.copy()
        changed[1, 2, 3] = np.nextafter(changed[1, 2, 3], np.float32(0))
        prints = {
            fingerprint(*given)
            for given in (
                (array,), (changed,), (array.reshape(3, 2, 4),), (array.astype(float),),
                (array.view(np.int32),), (array, array),
                ({"a": array},), ({"b": array},), ({"a": array, "b": None},),
                (None,), (), (array.T,), ([],),
            )
        }  # fmt: skip
        assert len(prints) == 13
        assert all(len(text) == 32 for text in prints)

    def test_strides_do_not(self):
        def in_pieces(array):
            digest = blake2b(digest_size=16)
            module._update(digest, array, piece_elements=7)
            return digest.hexdigest()

        array = np.random.default_rng(0).random((5, 6, 7))
        for same in (
            np.asfortranarray(array),
            np.repeat(array, 2, axis=1)[:, ::2],
            array[::-1].copy()[::-1],
        ):
            assert fingerprint(same) == in_pieces(same) == fingerprint(array)
        assert fingerprint({"a": array, "b": array[0]}) == fingerprint({"b": array[0], "a": array})

    def test_objects(self):
        with pytest.raises(TypeError, match="expected numbers"):
            fingerprint(np.array([object()]))

# SPDX-License-Identifier: GPL-3.0-or-later
"""A short run of the fuzz, and that its classifier and its workers tell what they are to tell."""

import os
import sys

import numpy as np
import pytest

from . import cases, classify, faults, runner
from .classify import CLEAR, CRASH, FOREIGN, HANG, NEVER, OK, SILENT, TOLD, UNCLEAR, UNDETECTABLE
from .makers import FORMATS
from .mutations import Damage

#: One whose cases were not looked at while anything was mended.
SEED = 11


@pytest.mark.slow
def test_damaged_files():
    results = runner.run(runner.requests(40, 0, SEED, long=False), workers=1)
    assert len(results) == 40
    assert [one for one in results if one.kind in NEVER] == []
    assert {one.kind for one in results} >= {OK, UNDETECTABLE, CLEAR}


@pytest.mark.slow
def test_wrong_calls():
    pytest.importorskip("fuzz.calls")
    results = runner.run(runner.requests(0, 60, SEED, long=False), workers=1)
    assert len(results) == 60
    assert [one for one in results if one.kind in NEVER] == []


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(os, "fork"),
    reason="strikes at copies of a process, which this system does not make",
)
def test_faults():
    results = faults.run(2, SEED)
    assert len(results) == 6
    assert [one for one in results if one.kind != OK] == []


#: A worker that crashes at its second request, and says nothing of its third.
WORKER = """
import json, os, sys, time
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    seed = json.loads(line)["files"]
    print(json.dumps({"begun": f"x, {seed}"}), flush=True)
    if seed == 2:
        os.abort()
    if seed == 3:
        time.sleep(60)
    print(json.dumps({"case": "x", "format": "x", "kind": "equal", "said": ""}), flush=True)
"""


def test_crashes_and_hangs_are_counted(monkeypatch):
    monkeypatch.setattr(runner, "LIMIT", 1.0)
    worker = runner.Worker((sys.executable, "-c", WORKER))
    kinds = [
        one.kind
        for seed in (1, 2, 3, 4)
        for one in runner._results(worker, {"files": seed, "long": False})
    ]
    worker.close()
    assert kinds == [OK, CRASH, HANG, OK]


def test_a_case_can_be_run_again():
    (first, *one), (second, *other) = cases.run(3, False), cases.run(3, False)
    assert str(first) == str(second)
    assert one == other


REFERENCE = {"structure": ("x", [("x", 4)]), "data": np.arange(1.0, 65.0), "metadata": {"a": 1}}


class TestClassifier:
    """Strict: what could have been told and was not is wrong in silence."""

    def of(
        self, file="a.mrc", in_place=True, size=2, form="mrc int16", told=(), longer=False, **parts
    ):
        damage = Damage(file, "", in_place, size, longer)
        return classify.of_result(REFERENCE, REFERENCE | parts, damage, FORMATS[form], list(told))[
            0
        ]

    def test_what_cannot_be_told(self):
        one = REFERENCE["data"].copy()
        one[3] = 0
        assert self.of() == OK
        assert self.of(data=one) == UNDETECTABLE
        assert self.of(metadata={"a": 2}) == UNDETECTABLE
        assert self.of("s.zspy/Experiments/data/0", form="zspy haadf", data=one + 1) == UNDETECTABLE
        assert self.of("a.tif", False, form="tiff stack", longer=True, data=one) == UNDETECTABLE
        assert self.of("a.rawtlt", False, values=np.array([1.0, 2.0])) == UNDETECTABLE

    def test_what_hyperspy_makes_of_a_file(self):
        found = {"structure": ("Signal2D", [("x", 4)])}
        assert self.of("s.zspy/.zattrs", form="zspy volume", **found) == FOREIGN
        assert self.of("s.zspy/.zattrs", form="zspy haadf", **found) == SILENT

    def test_what_could_have_been_told(self):
        one = REFERENCE["data"].copy()
        one[3] = 0
        assert self.of(in_place=False, data=one) == SILENT
        assert self.of(in_place=False, data=one, told=["surplus bytes"]) == TOLD
        assert self.of(data=np.zeros(64)) == SILENT, "few bytes made many values"
        assert self.of(structure=("x", [("x", 3)])) == SILENT
        assert self.of("s.zspy/Experiments/data/0", False, data=one) == SILENT
        assert (
            self.of("s.zspy/Experiments/data/0", form="zspy haadf", data=np.zeros(64)) == SILENT
        ), "a chunk was passed over"
        assert self.of("s.zspy/.zattrs", False, metadata={"a": 2}) == UNDETECTABLE
        assert self.of("a.rawtlt", values=np.array([1.0, 1.0])) == SILENT

    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            (ValueError("a.mrc is cut off after 100 bytes"), CLEAR),
            (ValueError("the file is cut off after 100 bytes"), UNCLEAR),
            (ValueError("a.mrc"), UNCLEAR),
            (KeyError("a.mrc has no such and such key"), UNCLEAR),
            (OSError(22, "Invalid argument"), UNCLEAR),
        ],
    )
    def test_errors(self, error, kind):
        assert classify.of_error(error, {"a.mrc"}, by_hyperspy=False)[0] == kind
        assert classify.of_error(error, {"a.mrc"}, by_hyperspy=True)[0] == FOREIGN

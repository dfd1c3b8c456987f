# SPDX-License-Identifier: GPL-3.0-or-later
"""HyperSpy makes what hyperspy_extension.yaml names: by set_signal_type, from files, and lazily."""

from importlib import import_module
from pathlib import Path

import hyperspy.api as hs
import numpy as np
import pytest
import yaml
from hyperspy.extensions import ALL_EXTENSIONS

import hyperspy_multitomo as mt

REGISTERED = yaml.safe_load((Path(mt.__file__).parent / "hyperspy_extension.yaml").read_text())
SIGNALS, GUI = REGISTERED["signals"], REGISTERED["GUI"]
WIDGETS = {key: entry for widgets in GUI["widgets"].values() for key, entry in widgets.items()}


def test_hyperspy_found_the_file():
    """The file that is installed is the one that is read here."""
    for name, entry in SIGNALS.items():
        assert ALL_EXTENSIONS["signals"][name] == entry
    assert set(GUI["toolkeys"]) <= set(ALL_EXTENSIONS["GUI"]["toolkeys"])
    for key, entry in WIDGETS.items():
        assert ALL_EXTENSIONS["GUI"]["widgets"]["ipywidgets"][key] == entry


def test_no_signal_is_left_out():
    made = {
        name for name in mt.signals.__all__ if hasattr(getattr(mt.signals, name), "_signal_type")
    }
    assert made == set(SIGNALS)


@pytest.mark.parametrize("name", SIGNALS)
class TestSignals:
    def test_module(self, name):
        cls = getattr(import_module(SIGNALS[name]["module"]), name)
        assert cls is getattr(mt, name)
        assert (cls._signal_type, cls._lazy) == (
            SIGNALS[name]["signal_type"],
            SIGNALS[name]["lazy"],
        )
        assert cls._signal_dimension == SIGNALS[name]["signal_dimension"]

    def test_set_signal_type(self, name):
        for asked in (SIGNALS[name]["signal_type"], *SIGNALS[name]["signal_type_aliases"]):
            plain = hs.signals.Signal2D(np.ones((3, 4, 5)))
            plain = plain.as_lazy() if SIGNALS[name]["lazy"] else plain
            plain.set_signal_type(asked)
            assert type(plain) is getattr(mt, name), asked

    @pytest.mark.filterwarnings("ignore::FutureWarning")
    @pytest.mark.parametrize("suffix", ["hspy", "zspy"])
    def test_load(self, name, suffix, tmp_path):
        plain = hs.signals.Signal2D(np.ones((3, 4, 5)))
        plain.metadata.Signal.signal_type = SIGNALS[name]["signal_type"]
        plain.save(tmp_path / f"plain.{suffix}")
        assert type(hs.load(tmp_path / f"plain.{suffix}", lazy=SIGNALS[name]["lazy"])) is getattr(
            mt, name
        )

    def test_twins(self, name):
        signal = getattr(mt, name)(np.ones((3, 4, 5)))
        if SIGNALS[name]["lazy"]:
            signal.compute(show_progressbar=False)
        else:
            signal = signal.as_lazy()
        assert type(signal) is getattr(
            mt, name.removeprefix("Lazy") if SIGNALS[name]["lazy"] else f"Lazy{name}"
        )


@pytest.mark.parametrize("key", GUI["toolkeys"])
def test_panels(key):
    pytest.importorskip(
        "hyperspy_gui_ipywidgets", reason="the packages for panels are in the extra gui"
    )
    assert callable(getattr(import_module(WIDGETS[key]["module"]), WIDGETS[key]["function"]))

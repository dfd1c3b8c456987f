# SPDX-License-Identifier: GPL-3.0-or-later
"""Deprecated names work, and say once per call, to the caller,
what to use instead and until when."""

import inspect
import sys
import warnings
from types import ModuleType

import pytest
from numpy.exceptions import VisibleDeprecationWarning

import hyperspy_multitomo as mt
from hyperspy_multitomo.deprecation import deprecated, deprecated_names


class Sample:
    @deprecated("0.2", instead="Sample.mass")
    def weight(self, unit="g"):
        """Return the weight.

        Parameters
        ----------
        unit : str
        """
        return 3.0, unit

    @deprecated("1.9.3")
    def bare(self):
        return None


def test_a_method_works_and_warns_its_caller():
    with pytest.warns(VisibleDeprecationWarning) as said:
        assert Sample().weight(unit="mg") == (3.0, "mg")
    (one,) = said
    assert str(one.message) == (
        "Sample.weight is deprecated since 0.2 and will be removed in 0.4; use Sample.mass"
    )
    assert one.filename == __file__
    with pytest.warns(VisibleDeprecationWarning, match=r"since 1\.9\.3 .*removed in 1\.11$"):
        Sample().bare()


def test_its_signature_and_documentation_stay_and_tell():
    assert str(inspect.signature(Sample.weight)) == "(self, unit='g')"
    text = inspect.getdoc(Sample.weight)
    assert text.startswith(
        "Return the weight.\n\n.. deprecated:: 0.2\n   Will be removed in 0.4. Use Sample.mass."
    )
    assert "Parameters\n----------\nunit : str" in text
    assert inspect.getdoc(Sample.bare).lstrip().startswith(".. deprecated:: 1.9.3")


def test_the_warning_is_shown_in_modules_too():
    """Python's default filters hide a DeprecationWarning outside of __main__;
    users would learn of it when the name is gone."""
    with warnings.catch_warnings(record=True) as said:
        warnings.resetwarnings()
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning):
            warnings.simplefilter("ignore", category)
        Sample().bare()
    assert [one.category for one in said] == [VisibleDeprecationWarning]


def test_names_that_moved(monkeypatch):
    module = ModuleType("old_place")
    module.__getattr__ = deprecated_names(
        "old_place", {"Geometry": "hyperspy_multitomo.tomography.TiltGeometry"}, "0.3"
    )
    monkeypatch.setitem(sys.modules, "old_place", module)
    with pytest.warns(
        VisibleDeprecationWarning, match=r"^old_place\.Geometry .* 0\.5; use "
    ) as said:
        from old_place import Geometry
    assert Geometry is mt.TiltGeometry
    assert said[0].filename.endswith("test_deprecation.py")
    with pytest.raises(AttributeError, match="module 'old_place' has no attribute 'Other'"):
        _ = module.Other


@pytest.mark.parametrize("since", ["2", "next"])
def test_a_version_that_is_none_is_refused_where_it_is_written(since):
    with pytest.raises(ValueError, match="not enough values|invalid literal"):
        deprecated(since)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Reconstructions with a HAADF that sees the sum of the elements, on the signals:
the two forms of HEBT, and fused."""

import numpy as np
import pytest
from regularised_series import (
    FEW,
    HAADF_TILTS,
    METHODS,
    QUIET,
    RATIOS,
    arrays,
    at_few_tilts,
    eds_of,
    geometry,
    haadf_of,
    relative,
    two_elements,
)

import hyperspy_multitomo as mt
from hyperspy_multitomo.tomography import hebt, projector, run


@pytest.fixture(scope="module")
def truth():
    return two_elements()


@pytest.fixture(scope="module")
def few(truth):
    return at_few_tilts(truth)


class TestFormsOfHEBT:
    def test_plain_as_ever(self, truth):
        eds, haadf = eds_of(truth), haadf_of(truth)
        A = projector(geometry())
        maps, images = eds.array("element", "tilt", "x", "y"), haadf.array("tilt", "x", "y")
        volume = eds.reconstruct_hebt(haadf, ratios=RATIOS, **QUIET)
        assert (
            relative(
                arrays(volume), run(hebt(A, maps, images, [40.0, 15.0], alpha=0.7), 100).volume
            )
            < 1e-5
        )
        assert volume.history[-1]["alpha"] == 0.7
        volume = eds.reconstruct_hebt(
            haadf, 0.5, 10, ratios=RATIOS, weighting="squared", relaxation=0.8, **QUIET
        )
        other = hebt(A, maps, images, [40.0, 15.0], alpha=0.5, weighting="squared", relaxation=0.8)
        assert relative(arrays(volume), run(other, 10).volume) < 1e-5

    @pytest.mark.parametrize(
        ("keywords", "message"),
        [
            ({"data_term": "poisson"}, r"data_term= .*pass regulariser='tv', 'tgv' or 'tnv'"),
            ({"weight": 2.0, "haadf_gain": 3.0}, r"haadf_gain=, weight= .*pass regulariser="),
            ({"regulariser": "tv", "alpha": 0.7}, r"alpha= has no meaning with regulariser='tv'"),
            (
                {"regulariser": "tv", "stopping": "discrepancy", "noise": 1.0},
                "stopping=, noise= has no meaning",
            ),
            ({"regulariser": "tv", "weighting": "sirt"}, "weighting= has no meaning"),
            ({"regulariser": "tv", "alpha0": 4.0}, "alpha0= has no meaning"),
            ({"regulariser": "tnv", "coupled": True}, "coupled= has no meaning"),
            ({"regulariser": "l1"}, "must be 'tv', 'tgv' or 'tnv'"),
        ],
    )
    def test_keywords_of_the_other_form(self, truth, keywords, message):
        with pytest.raises(ValueError, match=message):
            eds_of(truth).reconstruct_hebt(haadf_of(truth), ratios=RATIOS, **keywords, **QUIET)

    @pytest.mark.parametrize(
        ("ratios", "message"),
        [
            (
                {"Au": 40.0, "Ag": -1.0},
                r"ratios holds \{'Au': 40.0, 'Ag': -1.0\}; expected numbers from 0 up",
            ),
            ({"Au": np.nan, "Ag": 1.0}, "expected numbers from 0 up"),
            ({"Au": 0.0, "Ag": 0.0}, r"all response ratios are 0.*use reconstruct_tv\(haadf\)"),
        ],
    )
    @pytest.mark.parametrize("rest", [False, True])
    def test_ratios_that_are_none(self, truth, ratios, message, rest):
        with pytest.raises(ValueError, match=message):
            eds_of(truth).reconstruct_hebt(
                haadf_of(truth), regulariser="tv", ratios=ratios, rest=rest, **QUIET
            )

    def test_no_counts_at_all(self, truth):
        """The elements of a HAADF that nothing tells apart."""
        empty, haadf = eds_of(0 * truth), haadf_of(truth)
        with pytest.raises(
            ValueError, match="no counts of Au, Ag anywhere, so that nothing tells the elements"
        ):
            empty.reconstruct_hebt(haadf, regulariser="tnv", ratios=RATIOS, **FEW)
        with pytest.raises(ValueError, match="nothing tells"):
            empty.reconstruct_fused(haadf, **FEW)


class TestFused:
    """Maps at a few tilts, images at many."""

    def images(self, truth, power=1.0):
        signal = np.tensordot(
            list(RATIOS.values()), projector(geometry(HAADF_TILTS))(np.power(truth, power)), 1
        )
        return mt.TiltSeriesHAADF.from_images(
            signal.transpose(0, 2, 1), tilts=HAADF_TILTS, pixel_size=0.5
        )

    def test_weights_are_found_and_given(self, truth, few):
        haadf = self.images(truth)
        volume = few.reconstruct_fused(haadf, dimensions=2, **(FEW | {"iterations": 100}))
        assert volume.channels == ("Au", "Ag")
        step = volume.history[-1]
        assert (step["step"], step["power"], step["regulariser"]) == (
            "reconstruct_fused",
            1.0,
            "tv",
        )
        for name, weight in step["haadf_weights"].items():
            assert weight == pytest.approx(RATIOS[name] / 4, rel=0.25)
        assert volume.response_ratios == step["haadf_weights"]
        given = few.reconstruct_fused(
            haadf, haadf_weights={"Ag": 1.5, "Au": 4.0}, dimensions=2, **FEW
        )
        weights = given.history[-1]["haadf_weights"]
        assert weights["Au"] / weights["Ag"] == pytest.approx(4 / 1.5)
        assert weights["Au"] == pytest.approx(10.0, rel=0.15)

    @pytest.mark.slow
    @pytest.mark.parametrize("regulariser", METHODS)
    def test_the_images_help(self, truth, few, regulariser):
        """Absolute scale kept: the error is that of counts per nm."""
        options = {"iterations": 150, "dimensions": 2} | QUIET
        alone = getattr(few, f"reconstruct_{regulariser}")(**options)
        both = few.reconstruct_fused(self.images(truth), regulariser=regulariser, **options)
        expected = (4 * truth).transpose(1, 0, 3, 2)
        assert relative(both.data, expected) < 0.9 * relative(alone.data, expected)

    def test_power(self, truth, few):
        options = {"iterations": 150, "dimensions": 2} | QUIET
        haadf = self.images(truth, 1.6)
        volume = few.reconstruct_fused(haadf, power=1.6, **options)
        expected = (4 * truth).transpose(1, 0, 3, 2)
        assert relative(volume.data, expected) < relative(
            few.reconstruct_tv(**options).data, expected
        )
        assert volume.response_ratios is None
        for name, weight in volume.history[-1]["haadf_weights"].items():
            assert weight == pytest.approx(RATIOS[name] / 4**1.6, rel=0.4)

    @pytest.mark.slow
    def test_lazy_equals_eager(self, truth, few):
        truth = np.tile(truth, (1, 1, 1, 14))
        haadf, eds = self.images(truth), eds_of(truth, 4.0)
        options = {"iterations": 60, "dimensions": 2, "tolerance": None} | QUIET
        eager, lazy = (
            eds.reconstruct_fused(haadf, **options),
            eds.as_lazy().reconstruct_fused(haadf, **options),
        )
        assert lazy._lazy
        assert lazy.history[-1]["haadf_weights"] == eager.history[-1]["haadf_weights"]
        assert relative(lazy.data.compute(), eager.data) < 1e-3

    def test_refused(self, truth, few):
        haadf = self.images(truth)
        for keywords, message in (
            ({"power": 0.9}, "`power` is 0.9"),
            ({"haadf_weights": {"Au": 1.0}}, "for Ag"),
            (
                {"haadf_weights": {"Au": -1.0, "Ag": 1.0}},
                r"haadf_weights holds \{.*-1.0.*\}; expected numbers from 0",
            ),
            ({"haadf_weights": {"Au": 0.0, "Ag": 0.0}}, "all haadf_weights are 0"),
            ({"regulariser": "tnv", "coupled": False}, "coupled=False contradicts"),
            ({"regulariser": "l1"}, "must be 'tv', 'tgv' or 'tnv'"),
        ):
            with pytest.raises(ValueError, match=message):
                few.reconstruct_fused(haadf, **keywords, **FEW)
        with pytest.raises(
            TypeError, match="haadf_weights must be a dict of element to number; got list"
        ):
            few.reconstruct_fused(haadf, haadf_weights=[4.0, 1.5], **FEW)

# SPDX-License-Identifier: GPL-3.0-or-later
"""The regularised reconstructions and awkward input:
the noise that is taken for the data's, and errors that say what to do."""

import numpy as np
import pytest
from regularised_series import (
    FEW,
    QUIET,
    RATIOS,
    TILTS,
    eds_of,
    geometry,
    haadf_of,
    relative,
    spectral,
    two_elements,
)

import hyperspy_multitomo as mt
from hyperspy_multitomo.machine import memory
from hyperspy_multitomo.tomography import projector


@pytest.fixture(scope="module")
def truth():
    return two_elements()


class TestNoise:
    def test_images_with_negative_values_have_an_even_noise(self, truth):
        haadf = haadf_of(truth)
        haadf.data -= 25
        eds = eds_of(truth)
        assert (
            eds.reconstruct_tv(haadf, **FEW).history[-1]["data_terms"]["haadf"]["discrepancy"]
            == "ls"
        )
        assert haadf.reconstruct_tv(**FEW).history[-1]["data_terms"]["maps"]["discrepancy"] == "ls"
        with pytest.raises(
            ValueError, match=r"negative values, down to -.*pass haadf_term='least_squares'"
        ):
            eds.reconstruct_tv(haadf, haadf_term="poisson", **FEW)
        with pytest.raises(ValueError, match=r"pass data_term='least_squares'"):
            haadf.reconstruct_tv(data_term="poisson", **FEW)

    @pytest.mark.slow
    def test_noisier_images_weigh_less(self, truth):
        eds = eds_of(truth)
        weights = [
            eds.reconstruct_tv(haadf_of(truth, noise=noise), **FEW).history[-1]["data_terms"][
                "haadf"
            ]["weight"]
            for noise in (5.0, 20.0)
        ]
        assert weights[0] > 5 * weights[1]

    @pytest.mark.slow
    def test_a_channel_without_counts(self, truth):
        empty = truth * np.array([1, 0], np.float32)[:, None, None, None]
        for call in (
            lambda eds: eds.reconstruct_tv(**FEW),
            lambda eds: eds.reconstruct_tnv(haadf_of(truth), **FEW),
            lambda eds: eds.reconstruct_tgv(data_term="least_squares", **FEW),
            lambda eds: eds.reconstruct_hebt(
                haadf_of(truth), ratios={"Au": 40.0, "Ag": 0.0}, regulariser="tv", **FEW
            ),
            lambda eds: eds.reconstruct_tv(mu={"Au": 0.1, "Ag": 0.1}, **FEW),
        ):
            with pytest.warns(UserWarning, match="no counts of Ag anywhere"):
                volume = call(eds_of(empty))
            assert np.isfinite(volume.data).all()
            assert np.abs(volume["Ag"].data).max() <= 1e-3 * volume["Au"].data.max()

    def test_whole_counts_are_not_remarked_upon(self, truth, recwarn):
        eds_of(truth).reconstruct_tv(**FEW)
        spectral(truth).reconstruct_tv(**FEW)
        spectral(truth).smooth(1.0).reconstruct_tv(**FEW)
        assert not [w for w in recwarn if "no counts as recorded" in str(w.message)]

    def test_other_values_are(self, truth):
        eds = eds_of(truth)
        scaled = mt.TiltSeriesEDS.from_maps({"Au": 0.3 * eds["Au"].data}, tilts=TILTS)
        with pytest.warns(UserWarning, match="no counts as recorded") as found:
            scaled.reconstruct_tv(**FEW)
        assert len([w for w in found if "no counts" in str(w.message)]) == 1
        with pytest.warns(UserWarning, match="no counts as recorded"):
            eds.smooth(1.0).reconstruct_tv(data_term="least_squares", **FEW)

    @pytest.mark.slow
    def test_vacuum_has_no_say(self, truth):
        """The weights of least squares are those of the noise in the object,
        however much is empty around it."""
        counts = (
            np.random.default_rng(0).poisson(5 * projector(geometry())(truth)).transpose(0, 1, 3, 2)
        )
        net = counts - 0.25  # no whole counts: the noise is measured
        for maps in (counts, net):
            weights = []
            for pad in (0, 40):
                wide = np.pad(
                    maps, [(0, 0), (0, 0), (0, 0), (pad, pad)], constant_values=maps.min()
                )
                eds = mt.TiltSeriesEDS.from_maps(
                    dict(zip(RATIOS, wide, strict=True)), tilts=TILTS, pixel_size=0.5
                )
                weights.append(
                    eds.reconstruct_tv(
                        data_term="least_squares", **(FEW | {"iterations": 1})
                    ).history[-1]["data_terms"]
                )
            np.testing.assert_allclose(*(found["maps"]["weight"] for found in weights), rtol=0.05)

    def test_an_offset_that_is_passed_changes_little(self, truth):
        """The floor of the noise is 1 % of the signal, not of the detector's offset."""
        haadf = haadf_of(truth, noise=0.2)
        expected = haadf.reconstruct_tv(background=20.0, **(FEW | {"iterations": 100}))
        for term in ("poisson", "least_squares"):
            offset = haadf.deepcopy()
            offset.data = offset.data + np.float32(2e4)
            found = offset.reconstruct_tv(
                background=2e4 + 20.0, data_term=term, **(FEW | {"iterations": 100})
            )
            assert relative(found.data, expected.data) < 0.05

    def test_smoothed_images_hide_their_noise(self, truth):
        haadf = haadf_of(truth).smooth(1.0)
        with pytest.warns(UserWarning, match="HAADF images were smoothed.*or haadf_gain="):
            eds_of(truth).reconstruct_tv(haadf, **FEW)

    def test_none_is_the_default(self, truth):
        eds = eds_of(truth)
        np.testing.assert_array_equal(
            eds.reconstruct_tv(data_term=None, **FEW).data, eds.reconstruct_tv(**FEW).data
        )


class TestBadInput:
    @pytest.mark.parametrize(
        ("keywords", "message"),
        [
            ({"weight": 0}, "weight=0 must be a positive number"),
            ({"weight": -1.0}, "weight=-1.0 must be a positive number"),
            ({"weight": np.nan}, "weight=nan must be a positive number"),
            ({"weight": None}, "weight=None must be a positive number"),
            ({"weight": "2"}, "weight='2' must be a positive number"),
            ({"mu": {"Au": 0.01, "Ag": -0.01}}, "positive numbers"),
            ({"mu": {"Au": 0.01, "Ag": "small"}}, "positive numbers"),
            ({"mu": [0.01]}, "one number for each of Au, Ag, in this order"),
            ({"mu": {"Au": 0.01}}, "mu holds Au; expected one number for each of Au, Ag"),
            ({"mu": [0.01, 0.02], "weight": 2.0}, "pass one of them"),
            ({"dimensions": 1}, "dimensions=1 must be 3, or 2"),
            ({"coupled": "frobenius"}, "True, False or 'nuclear'"),
            ({"coupled": ["Au"]}, "True, False or 'nuclear'"),
            ({"data_term": "huber"}, "'poisson' or 'least_squares'"),
            ({"haadf_term": "kl"}, "'poisson' or 'least_squares'"),
            ({"haadf_gain": 0.0}, "haadf_gain=0.0 must be a positive number"),
            ({"iterations": -1}, "0 or more"),
            ({"iterations": None}, "0 or more"),
            ({"tolerance": -1.0}, "expected a positive number"),
            ({"background": -1.0}, "from 0 up"),
            ({"background": np.ones(4)}, "one for each tilt"),
        ],
    )
    def test_keywords(self, truth, keywords, message):
        with pytest.raises(ValueError, match=message):
            eds_of(truth).reconstruct_tv(**keywords, **QUIET)

    def test_alpha0(self, truth):
        with pytest.raises(ValueError, match="alpha0=0 must be a positive number"):
            eds_of(truth).reconstruct_tgv(alpha0=0, **QUIET)

    def test_negative_counts(self, truth):
        bare = mt.TiltSeriesEDS.from_maps({"Au": spectral(truth)["Au"].data}, tilts=TILTS)
        with pytest.raises(
            ValueError,
            match=r"no gross counts beside them.*elemental_maps.*data_term='least_squares'",
        ):
            bare.reconstruct_tv(**FEW)
        with pytest.raises(
            ValueError,
            match=r"no gross counts beside them.*elemental_maps.*data_term='least_squares'",
        ):
            bare.as_lazy().reconstruct_tv(dimensions=2, **FEW)

    def test_mu_of_images(self, truth):
        haadf = haadf_of(truth)
        named, bare = (haadf.reconstruct_tv(mu=mu, **FEW).data for mu in ({"HAADF": 0.2}, 0.2))
        np.testing.assert_array_equal(named, bare)
        with pytest.raises(ValueError, match="positive numbers"):
            haadf.reconstruct_tv(mu="large", **FEW)

    def test_what_does_not_fit_is_told_before_anything_is_computed(self, truth, monkeypatch):
        monkeypatch.setattr("hyperspy_multitomo.reconstruction.variational.calibrate", None)
        eds, haadf = eds_of(truth), haadf_of(truth)
        start = eds.reconstruct_sirt(1, **QUIET)
        for keywords, message in (
            ({"mask": np.ones((24, 24, 5), bool)}, "the mask has the shape"),
            ({"initial": np.ones((24, 5, 24))}, "the start volume has the shape"),
            (
                {"initial": start},
                "no channel HAADF; it holds Au, Ag: start from a volume with all of Au, Ag, HAADF, "
                "or leave out",
            ),
            ({"backend": "cpu"}, "no projector back-end 'cpu'"),
        ):
            with pytest.raises(ValueError, match=message):
                eds.reconstruct_tv(haadf, **keywords, **FEW)
        with pytest.raises(
            ValueError,
            match=r"channels Au, Ag; pick the one to start from, as in volume\['HAADF'\]",
        ):
            haadf.reconstruct_tv(initial=start, **FEW)

    def test_a_single_tilt(self, truth):
        with pytest.raises(ValueError, match="at least two tilts"):
            haadf_of(truth).inav[3:4].reconstruct_tv(**FEW)
        with pytest.raises(ValueError, match="HAADF series has a single tilt"):
            eds_of(truth).reconstruct_tv(haadf_of(truth).inav[3:4], **FEW)

    def test_data_that_are_not_finite(self, truth):
        eds, haadf = eds_of(truth), haadf_of(truth)
        eds.data[2, 0, 1, 1] = np.nan
        with pytest.raises(ValueError, match="the EDS series has 1 NaN"):
            eds.reconstruct_tv(**FEW)
        haadf.data[:, 1, 1] = np.inf
        with pytest.raises(ValueError, match="the HAADF series has"):
            eds_of(truth).reconstruct_tv(haadf, **FEW)
        haadf = haadf_of(truth, np.arange(-70, 71, 5.0))
        haadf.data[5, 1, 1] = np.nan  # where the noise is not looked at
        with pytest.raises(ValueError, match="the HAADF series has 1 NaN"):
            eds_of(truth).reconstruct_tv(haadf, **FEW)

    def test_nothing_in_the_images(self, truth):
        haadf = haadf_of(truth)
        haadf.data[:] = 0
        with pytest.raises(ValueError, match="expected signal above 0"):
            haadf.reconstruct_tv(**FEW)

    def test_another_field_of_view(self, truth):
        with pytest.raises(ValueError, match="px along y"):
            eds_of(truth).reconstruct_tv(haadf_of(truth).isig[:, :3], **FEW)
        for other in (eds_of(truth), haadf_of(truth).data, 2.0):
            with pytest.raises(
                TypeError, match=f"must be a TiltSeriesHAADF; got {type(other).__name__}"
            ):
                eds_of(truth).reconstruct_tv(other, **FEW)

    def test_memory_that_would_not_suffice(self, truth, monkeypatch):
        monkeypatch.setattr(memory, "available_memory", lambda: 1_000_000)
        eds, haadf = eds_of(truth), haadf_of(truth)
        eds.reconstruct_tv(**FEW)
        with pytest.raises(
            MemoryError,
            match=r"3 channels needs about .* GB and 0.001 GB.*crop or bin.*reconstruct_tv or",
        ):
            eds.reconstruct_tgv(haadf, **FEW)

    @pytest.mark.slow
    def test_memory_that_other_ways_take(self, truth, monkeypatch):
        """A power of the HAADF and a projector without compiled kernels hold copies of the
        volume."""
        needed = []
        monkeypatch.setattr(
            "hyperspy_multitomo.reconstruction.variational.check_memory",
            lambda size, *_: needed.append(size),
        )
        eds, haadf = eds_of(truth), haadf_of(truth)
        eds.reconstruct_fused(haadf, **FEW)
        eds.reconstruct_fused(haadf, power=1.5, **FEW)
        eds.reconstruct_fused(haadf, backend="astra_cpu", **(FEW | {"iterations": 1}))
        plain, power, textbook = needed
        assert power > 1.8 * plain
        assert textbook > 1.8 * plain


def test_available_memory_is_that_of_the_machine():
    available = memory.available_memory()
    assert available is None or 1e7 < available < 1e14

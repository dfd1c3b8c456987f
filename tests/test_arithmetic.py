# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept beside the data follows operators, NumPy, `map`, stacking and assignment,
or is forgotten with a message."""

import operator
import warnings

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_multitomo as mt
from hyperspy_multitomo.alignment import Alignment
from hyperspy_multitomo.signals.metadata.attached_values import forget_beside
from hyperspy_multitomo.signals.metadata.recorded_arrays import record
from hyperspy_multitomo.signals.metadata.recorded_counts import check_counts_beside, why_no_counts
from hyperspy_multitomo.tomography import TiltGeometry, projector

TILTS, SHARES = np.arange(-60.0, 61.0, 15.0), np.array([0.8, 0.7])
SIZE, SLICES = 24, 4
QUIET = {"show_progressbar": False}
KEPT = (
    "gross",
    "background",
    "window_share",
    "gains",
    "transmission",
    "response_ratios",
    "spectrum_fit",
    "dose",
)


def truth():
    z, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    inside = (np.hypot(x, z) < 9)[:, :, None] * np.ones(SLICES)
    core = (np.hypot(x, z) < 5)[:, :, None] * np.ones(SLICES)
    return np.stack([1.0 * core, inside - 0.5 * core]).astype(np.float32)


def series(seed=0, dose=1.0, lazy=False, gains=None):
    """Maps as `elemental_maps` makes them:
    net counts, with gross counts, background and what is known of the acquisition."""
    gains = np.ones(TILTS.size) if gains is None else gains
    expected = dose * gains[:, None, None] * projector(TiltGeometry(TILTS, SIZE))(truth())
    gross = (
        np.random.default_rng(seed)
        .poisson(SHARES[:, None, None, None] * expected + 2.0)
        .transpose(1, 0, 3, 2)
    )
    net = (gross - 2.0) / SHARES[:, None, None]
    wrap = (lambda a: da.from_array(a, chunks=(3, -1, -1))) if lazy else np.asarray
    eds = mt.TiltSeriesEDS.from_maps({"Au": wrap(net[:, 0]), "Ag": wrap(net[:, 1])}, tilts=TILTS)
    record(eds, "gross", gross.astype(np.float32), ("tilt", "element", "y", "x"))
    record(eds, "background", np.full(net.shape, 2.0, np.float32), ("tilt", "element", "y", "x"))
    record(eds, "window_share", np.ones((TILTS.size, 1)) * SHARES, ("tilt", "element"))
    eds.gains, eds.dose = gains, 1e6 * dose
    return eds


def laden(**given):
    """Maps with all that can be kept beside them."""
    eds = series(dose=5.0, **given)
    haadf = mt.TiltSeriesHAADF.from_images(np.asarray(eds.data).sum(axis=1), tilts=TILTS)
    eds.alignment = haadf.alignment = Alignment(
        np.full(TILTS.size, 0.5), np.zeros(TILTS.size), 0.0, 0.0
    )
    if not eds._lazy:
        eds.fit_response_ratios(haadf, block_size=4)
    eds.transmission = np.full(eds.data.shape, 0.9, np.float32)
    eds.metadata.set_item(
        "Tomography.spectrum_fit", {"energy": np.arange(3.0), "counts": np.ones(3)}
    )
    eds.metadata.set_item("Acquisition_instrument.TEM.Detector.EDS.live_time", 60.0)
    record(eds, "live_time", np.full(TILTS.size, 60.0), ("tilt",))
    return eds


def totals(eds, method):
    """The sum of the volume of each element."""
    return getattr(eds, f"reconstruct_{method}")(**QUIET).data.sum(axis=(0, 2, 3))


def held(eds):
    return [name for name in KEPT if getattr(eds, name) is not None]


class TestFactors:
    @pytest.mark.slow
    @pytest.mark.parametrize("lazy", [False, True])
    @pytest.mark.parametrize(
        ("operate", "c"),
        [
            (operator.mul, 0.5),
            (operator.mul, 4),
            (operator.truediv, np.float32(2)),
            (operator.imul, 3.0),
        ],
    )
    def test_what_is_per_count_is_divided(self, operate, c, lazy):
        if lazy and operate is operator.imul:
            pytest.skip("HyperSpy cannot multiply dask arrays in place")
        eds = laden(lazy=lazy)
        before, c = eds.deepcopy(), float(c)
        factor = 1 / c if operate is operator.truediv else c
        scaled = operate(eds, c)
        np.testing.assert_allclose(scaled.data, factor * before.data, rtol=1e-6)
        for name in ("gross", "background", "gains", "transmission"):
            np.testing.assert_array_equal(getattr(scaled, name), getattr(before, name))
        np.testing.assert_allclose(scaled.window_share, before.window_share / factor)
        if not lazy:
            np.testing.assert_allclose(
                scaled.response_ratios.values, before.response_ratios.values / factor
            )
            np.testing.assert_allclose(
                scaled.response_ratios.standard_errors,
                before.response_ratios.standard_errors / factor,
            )
        assert scaled.dose == before.dose
        assert why_no_counts(scaled) is None
        check_counts_beside(scaled)

    @pytest.mark.slow
    def test_every_method_reconstructs_the_scaled_maps(self):
        eds, scaled = series(dose=20.0), series(dose=20.0) * 0.25
        for method in ("sirt", "em", "cgls", "fbp"):
            volumes = [getattr(one, f"reconstruct_{method}")(**QUIET).data for one in (eds, scaled)]
            np.testing.assert_allclose(
                volumes[1], 0.25 * volumes[0], atol=1e-4 * np.abs(volumes[0]).max(), err_msg=method
            )
        ratios = (
            eds.reconstruct_tv(iterations=20, **QUIET).data.sum()
            / scaled.reconstruct_tv(iterations=20, **QUIET).data.sum()
        )
        assert ratios == pytest.approx(4, rel=0.02)

    def test_counts_alone_are_none_any_more(self):
        maps = mt.TiltSeriesEDS.from_maps(
            {"Au": np.random.default_rng(0).poisson(3.0, (9, 4, 24))}, tilts=TILTS
        )
        assert why_no_counts(2 * maps.data.max() and maps * 2) == "they were multiplied by 2"
        assert why_no_counts(maps * 1) is None
        with pytest.raises(
            ValueError, match=r"no counts as recorded \(they were multiplied by 2\)"
        ):
            (maps * 2).reconstruct_sirt(2, stopping="discrepancy", **QUIET)
        haadf = mt.TiltSeriesHAADF.from_images(maps["Au"].data, tilts=TILTS)
        with pytest.raises(ValueError, match="method='poisson' needs counts"):
            (maps * 2).fit_response_ratios(haadf, method="poisson")

    def test_volumes(self):
        volume = series().reconstruct_sirt(3, **QUIET)
        double = volume * 2
        assert double.quantity == volume.quantity
        assert double.channels == ("Au", "Ag")


class TestSums:
    def test_sirt_and_em_give_the_sum(self):
        """What 4221 counts of 8423 would make of EM: gross counts of one of the two."""
        first, second = series(1, dose=20.0), series(2, dose=20.0)
        both = first + second
        np.testing.assert_array_equal(both.gross, first.gross + second.gross)
        np.testing.assert_array_equal(both.background, first.background + second.background)
        np.testing.assert_allclose(both.window_share, first.window_share)
        for method in ("sirt", "em"):
            one, two, sum_of = (totals(s, method) for s in (first, second, both))
            np.testing.assert_allclose(sum_of, one + two, rtol=0.01, err_msg=method)
        assert both.dose == first.dose + second.dose
        assert why_no_counts(both) is None

    @pytest.mark.parametrize(("a", "b"), [(1, 1), (3, 3), (2, 0.5)])
    def test_linear_combinations(self, a, b):
        first, second = series(1, dose=40.0), series(2, dose=20.0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            both = first * a + second * b
        for method in ("sirt", "em") if a == b else ("sirt",):
            expected = a * totals(first, method) + b * totals(second, method)
            np.testing.assert_allclose(totals(both, method), expected, rtol=0.01)
        if a == b:
            return
        # Counts of which one half counts four times as much do not add up to counts.
        assert "scaled differently" in why_no_counts(both)
        with pytest.raises(ValueError, match="negative"):
            both.reconstruct_em(**QUIET)

    def test_gains_are_the_mean_by_dose(self):
        first, second = (
            series(1, 30.0, gains=np.linspace(0.5, 1.5, 9)),
            series(2, 10.0, gains=np.linspace(1.5, 0.5, 9)),
        )
        expected = (3 * first.gains + second.gains) / 4
        np.testing.assert_allclose((first + second).gains, expected)
        for one in (first, second):
            one.dose = None
        both = first + second
        np.testing.assert_allclose(both.gains, expected, rtol=0.02)
        assert both.dose is None
        volume = both.reconstruct_sirt(30, **QUIET).data.sum(axis=(0, 2, 3))
        assert volume == pytest.approx(40 * truth().sum(axis=(1, 2, 3)), rel=0.05)

    def test_what_does_not_add_up_is_forgotten(self):
        first, second = laden(seed=1), laden(seed=2)
        with pytest.warns(
            UserWarning,
            match="a sum: .* does not hold for the result and is forgotten: .*response ratios",
        ) as caught:
            both = first + second
        assert len(caught) == 1
        assert held(both) == ["gross", "background", "window_share", "gains", "dose"]
        assert both.alignment is not None
        assert both.dose == 2e7 * 0.5
        assert not both.metadata.has_item("Acquisition_instrument.TEM.Detector.EDS.live_time")
        assert held(first) == list(KEPT)

    @pytest.mark.slow
    @pytest.mark.parametrize("what", ["tilts", "elements", "alignment", "pixels"])
    def test_unlike_series(self, what):
        first, other = laden(seed=1), laden(seed=2)
        if what == "tilts":
            other = mt.TiltSeriesEDS.from_maps(
                {name: other[name].data for name in other.channels}, tilts=TILTS + 1
            )
        elif what == "elements":
            other = mt.TiltSeriesEDS.from_maps(
                {"Fe": other["Au"].data, "O": other["Ag"].data}, tilts=TILTS
            )
            other.alignment = first.alignment
        elif what == "alignment":
            other.alignment = Alignment(np.full(TILTS.size, 1.5), np.zeros(TILTS.size), 0.0, 0.0)
        else:
            other.axes_manager["x"].scale = 2.0
        with pytest.warns(
            UserWarning, match=f"whose .*{ {'pixels': 'positions'}.get(what, what) }"
        ) as caught:
            both = first + other
        assert len([w for w in caught if "forgotten" in str(w.message)]) == 1
        assert held(both) == []
        assert (both.channels == ()) == (what == "elements")
        assert (both.alignment is None) == (what == "alignment")

    def test_in_place_and_lazy(self):
        first, second = series(1), series(2)
        expected = first + second
        lazy = series(1, lazy=True) + series(2, lazy=True)
        first += second
        for both in (first, lazy):
            np.testing.assert_array_equal(both.gross, expected.gross)
            np.testing.assert_allclose(both.data, expected.data)
            assert both.dose == expected.dose

    def test_after_cropping_and_binning(self):
        first, second = series(1), series(2)
        both = first.isig[2:22, :].bin(2) + second.isig[2:22, :].bin(2)
        expected = (first + second).isig[2:22, :].bin(2)
        np.testing.assert_array_equal(both.gross, expected.gross)
        assert both.dose == pytest.approx(expected.dose)

    def test_volumes(self):
        first, second = (s.reconstruct_em(3, **QUIET) for s in (series(1), series(2)))
        both = first + second
        assert both.quantity == first.quantity
        assert both.metadata.Tomography.dose == first.metadata.Tomography.dose * 2


CHANGES = {
    "difference": lambda e: e - series(2),
    "+ 1": lambda e: e + 1,
    "- 1": lambda e: e - 1.0,
    "abs": abs,
    "neg": lambda e: -e,
    "power": lambda e: e**2,
    "modulo": lambda e: e % 2,
    "floor": lambda e: e // 2,
    "times -1": lambda e: e * -1,
    "times 0": lambda e: e * 0,
    "times an array": lambda e: e * np.linspace(1, 2, 24),
    "times a signal": lambda e: e * e,
    "over a signal": lambda e: e / (e + 1),
    "np.add": lambda e: np.add(e, 1),
    "np.abs": np.abs,
    "np.sqrt": lambda e: np.sqrt(np.abs(e)),
    "np.multiply": lambda e: np.multiply(e, 2.0),
    "map": lambda e: e.map(lambda image: image * 2, inplace=False, show_progressbar=False),
    "noise": lambda e: e.add_gaussian_noise(1.0) or e,
    "apodization": lambda e: e.apply_apodization(),
    "in place": lambda e: operator.iadd(e, 1),
}


class TestEverythingElse:
    @pytest.mark.slow
    @pytest.mark.parametrize("how", CHANGES)
    def test_is_forgotten_with_one_message(self, how):
        eds = laden()
        with pytest.warns(
            UserWarning, match="does not hold for the result and is forgotten"
        ) as caught:
            changed = CHANGES[how](eds)
        most = 2 if how == "over a signal" else 1  # the sum below the line has its own
        assert len([w for w in caught if "forgotten" in str(w.message)]) == most
        assert held(changed) == []
        assert changed.channels == ("Au", "Ag")
        assert why_no_counts(changed).startswith("they were changed by")
        assert (changed.alignment is None) == (how == "map")
        assert changed.history[-1]["step"] == "change"

    def test_nothing_to_forget_is_silent(self, recwarn):
        haadf = mt.TiltSeriesHAADF.from_images(np.ones((9, 4, 24)), tilts=TILTS)
        assert (haadf - 1).data.max() == 0
        assert (haadf + haadf).data.max() == 2
        assert not list(recwarn)

    def test_masks_are_made_silently(self, recwarn):
        eds = laden()
        for mask in (eds > 3, eds <= 3, (eds > 3) & (eds < 5), np.isfinite(eds)):
            assert mask.data.dtype == bool
            assert held(mask) == []
        assert not [w for w in recwarn if "forgotten" in str(w.message)]

    def test_images_lose_their_gains(self):
        haadf = mt.TiltSeriesHAADF.from_images(np.ones((9, 4, 24)), tilts=TILTS)
        haadf.gains = np.linspace(1, 2, 9)
        assert (haadf * 2).gains is not None
        with pytest.warns(UserWarning, match="kept with HAADF does not hold .*: gains"):
            assert (haadf + 1).gains is None
        assert haadf.gains is not None

    def test_decompositions_are_no_counts(self):
        eds = series(dose=20.0)
        eds.decomposition(output_dimension=2, print_info=False)
        with pytest.warns(UserWarning, match="get_decomposition_model"):
            model = eds.get_decomposition_model(2)
        assert "get_decomposition_model" in why_no_counts(model)
        assert model.gross is None

    def test_volumes_lose_unit_and_dose(self):
        volume = series().reconstruct_em(3, **QUIET)
        with pytest.warns(UserWarning, match="dose, unit"):
            squared = volume**2
        assert squared.quantity == ""
        assert squared.metadata.get_item("Tomography.dose", default=None) is None
        with pytest.warns(UserWarning, match="dose"):
            assert (volume - 1).quantity == volume.quantity

    def test_masked_volumes_keep_all(self, recwarn):
        volume = series().reconstruct_em(3, **QUIET)
        for mask in (volume > 0.5, np.broadcast_to(np.arange(24) > 8, volume.data.shape)):
            inside = volume * mask
            assert inside.quantity == volume.quantity
            assert inside.metadata.Tomography.dose == volume.metadata.Tomography.dose
            assert inside.history[-1]["step"] == "mask"
        assert not [w for w in recwarn if "forgotten" in str(w.message)]

    @pytest.mark.parametrize("keep", ["crop", "bin", "compute", "copy", "lazy", "smooth"])
    def test_other_changes_keep_what_they_kept(self, keep, recwarn):
        eds = laden()
        kept = {
            "crop": lambda: eds.isig[2:20, 1:],
            "bin": lambda: eds.bin(2),
            "compute": lambda: (lazy := eds.as_lazy()).compute(show_progressbar=False) or lazy,
            "copy": eds.deepcopy,
            "lazy": eds.as_lazy,
            "smooth": lambda: eds.smooth(1.0),
        }[keep]()
        assert held(kept) == list(KEPT)
        check_counts_beside(kept)
        assert not [w for w in recwarn if "forgotten" in str(w.message)]

    def test_response_ratios_follow_binning(self):
        """HAADF signal per count: of pixels binned by two there are four times the counts,
        and the HAADF is a mean."""
        eds = laden()
        eds.transmission = None
        binned = eds.bin(2)
        np.testing.assert_allclose(binned.response_ratios.values, eds.response_ratios.values / 4)
        haadf = mt.TiltSeriesHAADF.from_images(eds.data.sum(axis=1), tilts=TILTS).bin(2)
        haadf.alignment = binned.alignment
        again = binned.deepcopy().fit_response_ratios(haadf, block_size=2)
        np.testing.assert_allclose(again.values, binned.response_ratios.values, rtol=0.02)

    def test_forgetting_leaves_what_is_true(self):
        eds = laden()
        record(eds, "files", [f"{tilt}.emd" for tilt in TILTS], ("tilt",))
        words = forget_beside(eds)
        assert set(words) == {
            "gross counts",
            "background",
            "gains",
            "transmission",
            "response ratios",
            "spectrum fit",
            "dose",
        }
        assert eds.metadata.has_item("Tomography.arrays.files")
        assert forget_beside(eds) == []


class TestStacks:
    def test_a_new_axis(self):
        first, second = laden(seed=1), laden(seed=2)
        stack = hs.stack([first, second], show_progressbar=False)
        picked = stack.inav[:, :, 1]
        with pytest.warns(UserWarning, match="does not hold for all, and is forgotten"):
            assert picked.gross is None
        np.testing.assert_array_equal(picked.data, second.data)
        assert held(picked) == ["gains"]  # which are the same in both
        assert picked.channels == ("Au", "Ag")

    @pytest.mark.slow
    def test_along_elements(self):
        first = mt.TiltSeriesEDS.from_maps({"Au": np.ones((9, 4, 24))}, tilts=TILTS)
        second = mt.TiltSeriesEDS.from_maps({"Fe": np.ones((9, 4, 24))}, tilts=TILTS)
        stack = hs.stack([first, second], axis="element", show_progressbar=False)
        with pytest.warns(UserWarning, match="forgotten: .*channels"):
            assert stack.channels == ()


WRITES = {
    "half": lambda e: e.data.__imul__(0.5),
    "assigned": lambda e: setattr(e, "data", 2 * e.data),
    "one element": lambda e: e.data[:, 1].__imul__(0.5),
    "tilts": lambda e: setattr(e, "data", e.data * np.linspace(0.3, 1.7, 9)[:, None, None, None]),
    "more": lambda e: e.data.__iadd__(50.0),
}


class TestAssignment:
    """Writing to the data runs none of our code: the totals of the counts tell."""

    @pytest.mark.slow
    @pytest.mark.parametrize("how", WRITES)
    def test_is_refused_where_it_matters(self, how):
        eds = series(dose=20.0)
        haadf = mt.TiltSeriesHAADF.from_images(eds.data.sum(axis=1), tilts=TILTS)
        WRITES[how](eds)
        for call in (
            lambda: eds.reconstruct_em(2, **QUIET),
            lambda: eds.reconstruct_tv(iterations=2, **QUIET),
            lambda: eds.reconstruct_sirt(2, stopping="discrepancy", **QUIET),
            lambda: eds.fit_response_ratios(haadf, method="poisson"),
            lambda: eds.estimate_gains(model="constant"),
        ):
            with pytest.raises(
                ValueError,
                match=(
                    r"the gross counts recorded with the maps do not belong to "
                    r"them.*gross = None"
                ),
            ):
                call()
        eds.gross = None
        assert why_no_counts(eds) is not None
        assert held(eds) == ["gains", "dose"]
        with pytest.warns(UserWarning, match="no counts as recorded"):
            eds.reconstruct_tv(iterations=2, data_term="least_squares", **QUIET)

    def test_lazy_data(self):
        eds = series(dose=20.0, lazy=True)
        check_counts_beside(eds)
        eds.data = eds.data * 2
        with pytest.raises(ValueError, match="do not belong to them"):
            eds.reconstruct_em(2, **QUIET)

    @pytest.mark.slow
    def test_own_steps_and_noise_pass(self):
        for seed in range(5):
            for dose in (0.02, 1.0, 50.0):
                eds = series(seed, dose=dose)
                check_counts_beside(eds)
                check_counts_beside(eds.inav[1:, 2:5].isig[5:9, 1:3])
                check_counts_beside(eds["Ag"])
        check_counts_beside(eds.threshold_background(0.3))
        check_counts_beside(eds.smooth(2.0))

    def test_gross_counts_cannot_be_set(self):
        with pytest.raises(ValueError, match="set them to None"):
            series().gross = np.ones((9, 2, 4, 24))

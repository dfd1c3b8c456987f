# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad tilts found and dropped, and the signal against the order of acquisition,
through the signals."""

import warnings

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest
from ellipsoids import core_shell
from series_pairs import TILTS, pair, spectral

import hyperspy_multitomo as mt
from hyperspy_multitomo.alignment import Alignment


class TestTilts:
    @pytest.mark.parametrize("lazy", [False, True])
    def test_what_is_known_per_tilt_goes_with_the_tilts_that_stay(self, lazy):
        haadf, eds = pair(lazy=lazy)
        eds = spectral(eds)
        eds.gains = np.arange(26.0).reshape(13, 2) + 1
        eds.alignment = Alignment(
            across=np.arange(13.0), along=-np.arange(13.0), axis_offset=0.5, rotation=0.0
        )
        keep = np.delete(np.arange(13), [2, 7])
        left = eds.drop_tilts([TILTS[2], TILTS[7]])
        assert left._lazy == lazy
        np.testing.assert_array_equal(left.tilts, TILTS[keep])
        for mine, whole in (
            (left.data, eds.data),
            (left.gains, eds.gains),
            (left.gross, eds.gross),
            (left.acquisition_order, eds.acquisition_order),
            (left.alignment.across, eds.alignment.across),
        ):
            np.testing.assert_array_equal(np.asarray(mine), np.asarray(whole)[keep])
        np.testing.assert_array_equal(left["Ag"].inav[1:3].tilts, TILTS[keep][1:3])
        assert left.history[-1]["tilts"] == [TILTS[2], TILTS[7]]
        assert len(eds.tilts) == 13
        assert len(left.geometry().tilts) == 11
        if not lazy:
            haadf.alignment = eds.alignment
            np.testing.assert_allclose(left.estimate_gains(haadf).values.mean(), 1)

    def test_round_trip(self, tmp_path):
        left = spectral(pair()[1]).drop_tilts(0)
        left.save(tmp_path / "left.hspy")
        again = hs.load(tmp_path / "left.hspy")
        np.testing.assert_array_equal(again.tilts, left.tilts)
        np.testing.assert_array_equal(again.gross, left.gross)

    def test_bad_names_of_tilts(self):
        haadf, _ = pair()
        with pytest.raises(ValueError, match="no tilts"):
            haadf.drop_tilts([0, 3])
        with pytest.raises(ValueError, match="two or more"):
            haadf.drop_tilts(TILTS[1:])

    @pytest.mark.parametrize("lazy", [False, True])
    def test_the_bad_tilt_is_found_in_images_and_in_maps_of_few_counts(self, lazy):
        haadf, eds = pair(counts=5.0, lazy=lazy)
        bad = np.ones(13, np.float32)
        bad[4] = 0.5
        haadf.data = haadf.data * bad[:, None, None]
        eds.data = eds.data * bad[:, None, None, None]
        for series in (haadf, eds):
            ranking = series.rank_tilts()
            assert ranking.suspicious[0] == TILTS[4]
            assert "darker" in ranking.reasons[4]

    def test_known_gains_explain_a_dark_tilt_but_estimated_ones_do_not_hide_it(self):
        haadf, _ = pair()
        gains = np.ones(13)
        gains[4] = 0.5
        haadf.data = haadf.data * gains[:, None, None].astype(np.float32)
        haadf.estimate_gains()
        assert TILTS[4] in haadf.rank_tilts().suspicious
        haadf.gains = gains
        assert TILTS[4] not in haadf.rank_tilts().suspicious

    def test_a_film_on_edge_can_be_ranked_by_a_constant_mean(self):
        tilts = np.arange(-90.0, 91.0, 15.0)
        even = mt.TiltSeriesHAADF.from_images(np.ones((13, 16, 16)), tilts=tilts)
        with pytest.raises(ValueError, match="use model='constant'"):
            even.rank_tilts()
        assert even.rank_tilts(model="constant").suspicious.size == 0


class TestDoseDrift:
    ORDER = np.random.default_rng(4).permutation(13)

    @pytest.mark.slow
    @pytest.mark.parametrize("lazy", [False, True])
    def test_loss_of_one_element(self, lazy):
        maps = core_shell(48, 24, TILTS).transpose(0, 1, 3, 2)
        left = 1 - 0.3 * self.ORDER / 12
        drawn = np.random.default_rng(5).poisson([4 * maps[0] * left[:, None, None], 4 * maps[1]])
        when = np.argsort(self.ORDER)
        wrap = da.from_array if lazy else np.asarray
        eds = mt.TiltSeriesEDS.from_maps(
            {"Na": wrap(drawn[0][when]), "Au": wrap(drawn[1][when])}, tilts=TILTS[when]
        )
        haadf = mt.TiltSeriesHAADF.from_images(wrap(maps.sum(axis=0)[when]), tilts=TILTS[when])
        for partner in (None, haadf):
            with pytest.warns(UserWarning, match="Na -3"):
                drift = eds.check_dose_drift(partner)
            assert drift.change[0] == pytest.approx(-0.3 / 0.85, abs=4 * drift.change_error[0])
            assert drift.significant.tolist() == [True, False]
            assert not drift.confounded
        eds.estimate_gains(haadf)
        with pytest.warns(UserWarning, match="Na -3"):
            eds.check_dose_drift(haadf)

    def test_ascending_series_says_that_it_may_be_shadowing(self):
        haadf, eds = pair(counts=20.0)
        with pytest.warns(UserWarning, match="may be shadowing"):
            drift = eds.check_dose_drift(haadf)
        assert drift.confounded
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            haadf.check_dose_drift()

    def test_known_live_times_are_no_drift(self):
        _, eds = pair(counts=20.0, gains=np.linspace(1.5, 0.5, 13))
        with pytest.warns(UserWarning, match="changes from the first image"):
            eds.check_dose_drift()
        eds.gains = np.linspace(1.5, 0.5, 13)
        assert not eds.check_dose_drift().significant.any()

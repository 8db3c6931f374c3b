"""Power over time states its resolution, and is handed over in place."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

import carbontracker as ct
from carbontracker.energy.config import Config, SimulatedDevice
from carbontracker.energy.power_series import PowerSeries
from carbontracker.energy.session import acquire, release

SECOND_NS = 1_000_000_000


def test_a_series_is_a_pair_and_states_where_it_was_thinned() -> None:
    old_ns = np.arange(0, 10) * SECOND_NS
    new_ns = 9 * SECOND_NS + np.arange(1, 5001) * 1_000_000
    t_ns = np.concatenate([old_ns, new_ns])
    series = PowerSeries(t_ns, np.full(len(t_ns), 250.0), 9 * SECOND_NS)
    times, watts = series
    assert times is series.t_ns
    assert watts is series.watts
    assert series.spacing_s == pytest.approx(1e-3)
    assert series.thinned_spacing_s == pytest.approx(1.0)
    again = pickle.loads(pickle.dumps(series))
    assert again.thinned_to_ns == 9 * SECOND_NS
    assert np.array_equal(again.t_ns, t_ns)
    whole = PowerSeries(new_ns, np.full(len(new_ns), 250.0))
    assert whole.thinned_to_ns == 0
    assert whole.spacing_s == pytest.approx(1e-3)
    assert math.isnan(whole.thinned_spacing_s)
    assert math.isnan(PowerSeries(new_ns[:0], np.zeros(0)).spacing_s)


def test_the_arrays_are_those_of_the_core() -> None:
    config = Config(root="/none", simulated=(SimulatedDevice("gpu", "g", "sine:200,50,0.5"),))
    session = acquire(config)
    try:
        start = session.mark()
        end = start
        while session.energy(start, end).seconds < 0.2 or not session.await_final(end):
            end = session.mark()
        core = session.core
        assert core is not None
        raw_ns, raw_watts, thinned_to_ns = core.power(0, start.t_ns, end.t_ns)
        series = session.power(0, start.t_ns, end.t_ns)
        assert thinned_to_ns == series.thinned_to_ns == 0
        assert len(raw_ns) == len(raw_watts) == len(series.t_ns) > 2
        assert np.array_equal(np.asarray(memoryview(raw_ns)), series.t_ns)
        assert np.array_equal(np.asarray(memoryview(raw_watts)), series.watts)
        assert not series.t_ns.flags.owndata
        assert not series.watts.flags.owndata
        series.watts[0] = 7.0  # the caller's own
        first, second = np.frombuffer(raw_ns, np.int64), np.frombuffer(raw_ns, np.int64)
        first[0] = 42
        assert second[0] == 42  # one memory
        nothing = core.power(0, 0, 1)
        assert [len(np.frombuffer(one, np.int64)) for one in nothing[:2]] == [0, 0]
    finally:
        release(session)


@pytest.mark.parametrize("wrong", [0, 9.9, 1e9, math.nan, "long"])
def test_how_long_every_sample_is_kept_has_limits(wrong: float) -> None:
    with pytest.raises(ValueError, match="keep_full_s must be"):
        ct.measure(keep_full_s=wrong)

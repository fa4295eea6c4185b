"""Looks at a swarm are paced by what they cost (pure)."""

import pytest

from swarm.observability.dashboard._pace import EVERY, LONGEST, SHARE, Pace


def test_a_page_looks_at_most_four_times_a_second():
    pace = Pace()
    pace.looked(10.0, 10.0)
    assert pace.wait(10.0, 10.0) == EVERY == 0.25
    assert pace.wait(10.2, 10.0) == pytest.approx(0.05)


def test_a_slow_look_is_followed_by_a_long_pause():
    pace = Pace()
    pace.looked(10.0, 10.02)
    assert pace.wait(10.02, 10.0) == pytest.approx(0.02 / SHARE)


def test_all_pages_together_spend_no_more_than_the_share():
    pace = Pace()
    now, spent, last = 0.0, 0.0, [0.0] * 5
    while now < 100:
        page = min(range(5), key=lambda each: pace.wait(now, last[each]))
        now += max(0.0, pace.wait(now, last[page]))
        last[page] = now
        pace.looked(now, now + 0.01)
        now += 0.01
        spent += 0.01
    assert spent / now <= SHARE + 0.001


def test_a_page_looks_again_after_some_seconds_whatever_a_look_costs():
    pace = Pace()
    pace.looked(0.0, 60.0)
    assert pace.wait(60.0, 0.0) == LONGEST


def test_a_clock_that_goes_back_asks_for_no_pause():
    pace = Pace()
    pace.looked(10.0, 9.0)
    assert pace.wait(10.3, 10.0) <= 0

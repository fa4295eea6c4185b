"""How long a process in a queue can do without news: pure."""

import pytest

from swarm.coordination._turn_pace import TurnPace


def test_a_process_far_behind_does_without_news_for_most_of_the_time_until_its_turn():
    pace = TurnPace(8, now=0.0)
    pace.moved(6, now=1.0)
    assert pace.rest(now=1.0) == pytest.approx((6 - 1) * 0.5 * 0.5)


def test_a_queue_that_stands_still_is_taken_for_as_slow_as_it_is():
    pace = TurnPace(4, now=0.0)
    pace.moved(3, now=0.1)
    assert pace.rest(now=10.1) == pytest.approx((3 - 1 - 1) * 10.0 * 0.5)


@pytest.mark.parametrize("place", [0, 1])
def test_the_first_two_of_a_quick_queue_hear_of_each_turn_at_once(place):
    pace = TurnPace(place + 1, now=0.0)
    pace.moved(place, now=0.05)
    assert pace.rest(now=0.05) == 0


def test_the_next_of_a_slow_queue_hears_of_its_turn_late_by_a_small_part_of_one():
    pace = TurnPace(1, now=0.0)
    pace.moved(0, now=2.0)
    assert pace.rest(now=2.0) == pytest.approx(0.02)
    assert pace.rest(now=600.0) == pytest.approx(0.02)


def test_a_queue_whose_pace_is_not_known_is_read_at_once_by_the_next():
    assert TurnPace(0, now=0.0).rest(now=600.0) == 0


def test_a_new_request_of_the_same_process_keeps_the_pace_of_the_queue():
    pace = TurnPace(2, now=0.0)
    pace.moved(0, now=4.0)
    pace.moved(9, now=5.0)
    assert pace.rest(now=5.0) == pytest.approx((9 - 1) * 2.0 * 0.5)

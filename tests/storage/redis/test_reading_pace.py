"""How often a process reads the log: pure, without a server."""

import math

from swarm.storage.redis._reading_pace import IDLE, LISTENING, LONGEST, ReadingPace


def rests(
    pace: ReadingPace,
    readings: int,
    *,
    own_every: int = 0,
    lag: float = 0.0,
    longest: float | None = None,
) -> list[float]:
    """Return the rests after readings that each bring a commit of another process."""
    start = pace._news
    found = []
    for n in range(1, readings + 1):
        sent = (n // own_every) if own_every else 0
        rest = pace.rest(
            is_empty=False, news=start + n, sent=sent, lag=lag, longest=longest
        )
        found.append(rest)
    return found


def test_a_process_that_only_listens_rests_two_milliseconds_at_most():
    assert max(rests(ReadingPace(), 1_000)) == 0.002


def test_a_process_that_hears_of_commits_late_reads_less_and_less_often():
    found = rests(ReadingPace(), 1_000, lag=0.02)
    assert not any(found[:LISTENING])
    assert found == sorted(found)
    assert found[-1] == LONGEST


def test_a_process_that_is_late_no_more_rests_less_again():
    pace = ReadingPace()
    rests(pace, 1_000, lag=0.02)
    assert rests(pace, 1_000)[-1] == 0.002


def test_a_process_that_answers_every_second_commit_never_rests():
    assert not any(rests(ReadingPace(), 1_000, own_every=2))


def test_a_quiet_log_is_read_at_once_again():
    pace = ReadingPace()
    rests(pace, 1_000)
    assert pace.rest(is_empty=True, news=1_000, sent=0, lag=0) == 0
    assert not any(rests(pace, LISTENING))


def test_a_process_that_is_alone_rests_until_another_one_commits():
    pace = ReadingPace()
    found = [pace.rest(is_empty=False, news=0, sent=n, lag=0) for n in range(1, 20)]
    assert found[0] == 0
    assert found == sorted(found)
    assert found[-1] == LONGEST
    assert pace.rest(is_empty=False, news=1, sent=20, lag=0) == 0


def test_a_process_in_which_nothing_waits_soon_rests_long():
    found = rests(ReadingPace(), 10, longest=math.inf)
    assert found[:3] == [0.001, 0.002, 0.004]
    assert found[-1] == IDLE


def test_a_commit_of_its_own_ends_the_long_rest_of_a_process():
    pace = ReadingPace()
    rests(pace, 10, longest=math.inf)
    rest = pace.rest(is_empty=False, news=11, sent=1, lag=1.0, longest=math.inf)
    assert rest == 0.001


def test_a_process_that_says_how_long_it_can_do_without_news_rests_for_that_long():
    for longest in (0.0, 0.003, 0.02):
        assert set(rests(ReadingPace(), 5, longest=longest)) == {longest}
    assert set(rests(ReadingPace(), 5, longest=60.0)) == {IDLE}
